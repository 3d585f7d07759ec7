"""Common parts of networks of video: checks of the data, the recurrent network, logits."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_gan.arguments import check_integer
from keras_gan.endless import RECURRENT
from keras_gan.errors import UsageError
from keras_gan.layers import RepeatForFrames, UnfoldFrames
from keras_gan.spec import Field, Spec


def pictures_of(spec: Spec, family: str, patch: int = 1) -> Spec:
    """Returns the frames of videos as data of pictures, in squares of `patch` pixels.

    Raises:
        UsageError: samples of another kind, without a fixed size, or a size that `patch` does not
            divide.
    """
    if "frame_rate" not in spec.modality.meta or None in spec.shape:
        raise UsageError(
            f"The architecture {family!r} is for video of one size only (frames, height, width, "
            f"channels). Received: kind={spec.kind!r}, shape={spec.shape}"
        )
    check_integer("patch", patch)
    _, height, width, channels = spec.shape
    if height % patch or width % patch:
        raise UsageError(
            "`patch` must divide the height and width of the videos. "
            f"Received: patch={patch}, {height} x {width}"
        )
    field = Field("image", (height // patch, width // patch, channels))
    return Spec(fields={**spec.fields, "samples": field})


def check_sprites(pictures: Spec, sprites: int, size: int | None, patch: int) -> int | None:
    """Returns the height and width of a sprite in pixels, `None` without sprites.

    Raises:
        UsageError: a number out of range, or options that do not go together.
    """
    check_integer("sprites", sprites, 0)
    if not sprites:
        if size is not None:
            raise UsageError(f"`sprite_size` needs `sprites`. Received: sprite_size={size}")
        return None
    if patch != 1:
        raise UsageError(
            f"`patch` is for frames without sprites. Received: patch={patch}, sprites={sprites}"
        )
    most = min(pictures.shape[:2])
    size = most // 2 if size is None else size
    check_integer("sprite_size", size)
    if size > most:
        raise UsageError(
            "`sprite_size` must be at most the height and width of a frame. "
            f"Received: sprite_size={size}, {pictures.shape[0]} x {pictures.shape[1]}"
        )
    return int(size)


def check_picked(spec: Spec, picked: int) -> None:
    """Raises a `UsageError` unless the number of picked frames divides that of the video."""
    if spec.shape[0] % picked:
        raise UsageError(
            "`picked` must divide the number of frames of a video. "
            f"Received: picked={picked}, {spec.shape[0]} frames"
        )


def recurrent(units: int, unroll: bool = True) -> Any:
    """Returns the recurrent network, which returns the states of all frames, and the last one."""
    recurrent_layer: Any = layers.GRU  # Keras has no annotations
    return recurrent_layer(
        units,
        return_sequences=True,
        return_state=True,
        unroll=unroll,  # XLA and ONNX compile it without a loop
        use_cudnn=False,  # no exported model can run cuDNN's
        dtype="float32",
        name=RECURRENT,
    )


def frame_logits(features, frames, labels, spec: Spec):
    """Returns a logit for each picked frame, `(batch, picked, 1)`."""
    logits = layers.Dense(1, dtype="float32", name="frame_logits")(features)
    if labels is not None:
        embedding = _embedding(spec, features.shape[-1], "frame_label_embedding")(labels)
        embedding = RepeatForFrames(name="frame_labels", dtype="float32")([embedding, frames])
        logits = _with_agreement(features, embedding, logits, "frame")
    return UnfoldFrames(name="logits_of_frames", dtype="float32")([logits, frames])


def clip_logits(features, labels, spec: Spec):
    """Returns a logit for each clip, `(batch, 1)`."""
    logits = layers.Dense(1, dtype="float32", name="clip_logits")(features)
    if labels is None:
        return logits
    embedding = _embedding(spec, features.shape[-1], "clip_label_embedding")(labels)
    return _with_agreement(features, embedding, logits, "clip")


def _embedding(spec: Spec, size: int, name: str) -> Any:
    return layers.Embedding(spec.num_classes, size, dtype="float32", name=name)


def _with_agreement(features, embedding, logits, name: str):
    agreement = layers.Dot(axes=1, dtype="float32", name=f"{name}_projection")(
        [features, embedding]
    )
    return layers.Add(dtype="float32", name=f"{name}_logits_of_label")([logits, agreement])
