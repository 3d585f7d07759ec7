"""Residual translator from pictures to pictures of the same size (CycleGAN, CUT).

Two strided convolutions, residual blocks, and two nearest-neighbor upsamplings with convolutions.
By default each picture is normalized by its own statistics (instance normalization), so that one
picture cannot be computed in tiles.

Reference:
    - [Zhu et al., 2017](https://arxiv.org/abs/1703.10593), appendix 7.2
    - [Park et al., 2020](https://arxiv.org/abs/2007.15651), for the features
    - [Zhu et al., 2017](https://arxiv.org/abs/1711.11586), for the noise
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _parts, _pictures
from keras_gan.layers import Conv2D, ReflectionPadding2D, UpConv2D
from keras_gan.spec import Spec

HEAD_WIDTH = 256  # of the features for contrastive terms
_HALVINGS = 2


def generator(
    spec: Spec,
    conditional: bool = False,
    conditions: Sequence[str] = (),
    width: int = 16,
    blocks: int | None = None,
    norm: str = "instance",
    features: bool = False,
    noise: int = 0,
) -> keras.Model:
    """Builds a generator from pictures `(batch, height, width, channels)` to pictures in [-1, 1].

    Height and width of a picture must be divisible by 4, and at least 8.

    Args:
        spec: pictures `samples`, and those that `conditions` names, of the same height and width.
        conditional: must be False: labels are not supported.
        conditions: names of the fields that the generator translates, concatenated.
        width: channels at full resolution; each of the two halvings doubles them.
        blocks: number of residual blocks at the lowest resolution, at least 1. By default 3, and
            6 for pictures from 128 pixels on.
        norm: normalization, "instance", "batch" or "none".
        features: if True, the outputs are `samples` and `features`, a list of features
            `(batch, height / 4, width / 4, 256)` from five depths of the encoder, each through a
            trained network of two layers, for the term `contrastive_patches`.
        noise: number of latents, normal numbers drawn from the seed, that are appended to every
            pixel of the condition as further channels; 0 for none, and one answer to each picture.
            With noise the first layer is not normalized.

    Raises:
        UsageError: the condition is not a picture, or an option is out of range.
    """
    _pictures.check_task(spec, "translator", conditional, conditions)
    _parts.check_integer("width", width)
    _parts.check_one_of("norm", norm, _pictures.NORMS)
    _pictures.check_divisible(spec, "translator", ["samples", *conditions], 2**_HALVINGS)
    blocks = _pictures.choose_by_size(blocks, "blocks", spec, small=3, large=6)
    pictures = _pictures.inputs(spec, conditions)
    latents = _pictures.noise_inputs(noise)
    whole = _pictures.with_noise(_pictures.joined(pictures, 2**_HALVINGS), latents)
    # Instance normalization of the first layer would remove what is equal for all pixels.
    stages = _encode(whole, width, blocks, norm, "none" if latents else norm)
    samples = _decode(stages[-1], width, norm, spec.shape[-1])
    outputs: Any = samples
    if features:
        outputs = {"samples": samples, "features": _heads(stages, blocks)}
    return keras.Model(_pictures.one_or_list([*pictures, *latents]), outputs, name="generator")


def _encode(x, width: int, blocks: int, norm: str, head_norm: str) -> list:
    """Returns the features at full, half and quarter resolution, and after each block."""
    x = _reflected(x, width, 7, "head", head_norm)
    stages = [layers.ReLU(name="head_activation")(x)]
    for i in range(1, _HALVINGS + 1):
        bias = norm == "none"
        x = _pictures.convolve(stages[-1], width * 2**i, 3, f"down_{i}", 2, use_bias=bias)
        x = _pictures.normalize(x, norm, f"down_{i}_norm")
        stages.append(layers.ReLU(name=f"down_{i}_activation")(x))
    for i in range(1, blocks + 1):
        channels = stages[-1].shape[-1]
        x = _reflected(stages[-1], channels, 3, f"block_{i}_conv_1", norm)
        x = layers.ReLU(name=f"block_{i}_activation")(x)
        x = _reflected(x, channels, 3, f"block_{i}_conv_2", norm)
        stages.append(layers.Add(name=f"block_{i}")([stages[-1], x]))
    return stages


def _decode(x, width: int, norm: str, channels: int):
    for i in range(_HALVINGS, 0, -1):
        x = UpConv2D(width * 2 ** (i - 1), use_bias=norm == "none", name=f"up_{i}")(x)
        x = _pictures.normalize(x, norm, f"up_{i}_norm")
        x = layers.ReLU(name=f"up_{i}_activation")(x)
    x = ReflectionPadding2D(3, name="to_image_padding")(x)
    x = Conv2D(channels, 7, name="to_image", dtype="float32")(x)
    # Samples are float32 under every policy, so that they have full precision.
    return layers.Activation("tanh", dtype="float32", name="samples")(x)


def _reflected(x, filters: int, size: int, name: str, norm: str):
    """Applies a convolution of reflected edges, and the normalization."""
    x = ReflectionPadding2D(size // 2, name=f"{name}_padding")(x)
    x = Conv2D(filters, size, use_bias=norm == "none", name=name)(x)
    return _pictures.normalize(x, norm, f"{name}_norm")


def _heads(stages: Sequence, blocks: int) -> list:
    """Returns features of five depths at every fourth pixel, through two layers each."""
    depths = [0, 1, 2, 2 + (blocks + 1) // 2, 2 + blocks]
    found = []
    for i, depth in enumerate(dict.fromkeys(depths), start=1):
        strides = 2 ** max(_HALVINGS - depth, 0)
        # A kernel of one pixel with strides reads every fourth pixel of the full resolution.
        x = Conv2D(HEAD_WIDTH, 1, strides, activation="relu", name=f"head_{i}_1")(stages[depth])
        found.append(Conv2D(HEAD_WIDTH, 1, dtype="float32", name=f"head_{i}_2")(x))
    return found
