"""Video generators of other lengths: longer clips, and chunks with a state that is carried on.

A generator of `keras_gan.architectures.video` is rebuilt with the same layers, so that all of its
forms share their weights.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.layers import CarriedState, StartState, VideoLatents

CHUNK = 8  # frames of a chunk by default
# Names of the layers of a generator of video.
RECURRENT, FIRST_STATE = "motion", "first_state"


def find_split(model: keras.Model) -> VideoLatents | None:
    """Returns the layer that splits latents into content, start and motion; `None` without one."""
    if len(getattr(model, "outputs", None) or ()) != 1:
        return None
    found = [x for x in getattr(model, "layers", ()) if isinstance(x, VideoLatents)]
    return found[0] if len(found) == 1 and _recurrent(model) is not None else None


def require_split(model: keras.Model) -> VideoLatents:
    """Returns the same layer.

    Raises:
        UsageError: a model without it.
    """
    found = find_split(model)
    if found is None:
        raise UsageError(
            "Only a generator with latents of content and motion apart, such as the architecture "
            f"video, can have other numbers of frames. Received: model {model.name!r}"
        )
    return found


def state_size(model: keras.Model) -> int:
    """Returns the length of the state that chunks carry on."""
    require_split(model)
    return _recurrent(model).units + 1


def with_frames(model: keras.Model, frames: int) -> keras.Model:
    """Returns a generator of clips of another length, which shares the weights.

    Args:
        model: a generator of the architecture `video`.
        frames: frames of a clip, at least 1. They are one graph: use `in_chunks` for many.

    Raises:
        UsageError: a generator without content and motion apart, or a number out of range.
    """
    split = require_split(model)
    check_integer("frames", frames)
    given = {x.name: x for x in model.inputs}
    latents = keras.Input((split.length(frames),), name="latents")
    inputs: list[Any] = [latents if name == "latents" else _like(x) for name, x in given.items()]
    content, start, noise = split(latents)
    parts = [content, start, noise, *(x for x in inputs if x.name != "latents")]
    old = [*split.output, *(x for name, x in given.items() if name != "latents")]
    (samples,) = _replay(keras.Model(old, model.outputs), parts)
    return keras.Model(inputs, samples, name=model.name)


def in_chunks(model: keras.Model, frames: int = CHUNK) -> keras.Model:
    """Returns the network that makes the next frames of a video from the state of the last ones.

    Its inputs are `content` `(batch, content_dim + start_dim)`, which are the first latents of the
    video, `noise` `(batch, frames, motion_dim)`, `state` `(batch, units + 1)`, zeros for the first
    chunk, and `labels` where the generator takes them. Its outputs are `samples`
    `(batch, frames, height, width, channels)` and `next_state`. It shares the weights.

    Args:
        model: a generator of the architecture `video`.
        frames: frames of a chunk, at least 1.

    Raises:
        UsageError: as of `with_frames`.
    """
    split = require_split(model)
    check_integer("frames", frames)
    recurrent = _recurrent(model)
    sequence = recurrent.output[0]
    first_state = keras.Model([split.output[1]], [model.get_layer(FIRST_STATE).output])
    others = [x for x in model.inputs if x.name != "latents"]
    drawing = keras.Model([split.output[0], sequence, *others], model.outputs)

    content = keras.Input((split.content_dim + split.start_dim,), name="content")
    noise = keras.Input((frames, split.motion_dim), name="noise")
    state = keras.Input((recurrent.units + 1,), name="state")
    labels = [_like(x) for x in others]
    kept, start = _Halves(split.content_dim, name="content_and_start")(content)
    (begun,) = _replay(first_state, [start])
    begun = StartState(name="state_before", dtype="float32")([begun, state])
    motion, after = recurrent(noise, initial_state=begun)
    (samples,) = _replay(drawing, [kept, motion, *labels])
    next_state = CarriedState(name="next_state", dtype="float32")(after)
    return keras.Model(
        [content, noise, state, *labels], {"samples": samples, "next_state": next_state}
    )


@keras.saving.register_keras_serializable("keras_gan")
class _Halves(layers.Layer):
    """Splits vectors after so many numbers."""

    def __init__(self, first: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.first = first

    def call(self, inputs):
        return inputs[:, : self.first], inputs[:, self.first :]

    def compute_output_shape(self, input_shape):
        batch, size = input_shape
        return (batch, self.first), (batch, size - self.first)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "first": self.first}


def _recurrent(model: keras.Model) -> Any:
    """Returns the recurrent layer of a generator of video, `None` for another network."""
    found = {x.name: x for x in model.layers}
    layer = found.get(RECURRENT)
    return layer if isinstance(layer, layers.GRU) and FIRST_STATE in found else None


def _like(tensor: Any) -> Any:
    return keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)


def _replay(part: keras.Model, inputs: list) -> list:
    """Applies the layers of a part of a network to inputs that may have other sizes."""
    own = [keras.Input(x.shape[1:], dtype=x.dtype) for x in inputs]
    copy = keras.models.clone_model(part, input_tensors=own, clone_function=lambda layer: layer)
    return copy(inputs)
