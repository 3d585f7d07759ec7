"""Dense residual network for super-resolution (ESRGAN), at the low resolution, for GPUs.

It adds details to a bicubic enlargement of the picture, as `srresnet` does, with more layers.

Reference:
    - [Wang et al., 2018](https://arxiv.org/abs/1809.00219), section 3.1
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from keras_gan.architectures import _parts, _pictures
from keras_gan.spec import Spec

RESIDUAL_SCALE = 0.2
_DENSE = 3  # dense blocks in a residual block
_CONVOLUTIONS = 5  # in a dense block


def generator(
    spec: Spec,
    conditional: bool = False,
    conditions: Sequence[str] = (),
    scale: int | None = None,
    width: int = 32,
    blocks: int = 4,
    growth: int = 16,
) -> keras.Model:
    """Builds a generator from small pictures to pictures of `scale` times the height and width.

    Its samples may leave [-1, 1] slightly, as bicubic enlargement does; clip them.

    Args:
        spec: pictures `samples`, and the small ones that `conditions` names.
        conditional: must be False: labels are not supported.
        conditions: name of the field that the generator enlarges.
        scale: factor of height and width, at least 1; by default that of the data's sizes, if
            they are fixed.
        width: channels between the blocks.
        blocks: number of residual blocks, each of three dense blocks, at least 1.
        growth: channels that each convolution of a dense block adds.

    Raises:
        UsageError: the condition is not a picture, the scale is unknown or does not fit the
            sizes, or an option is out of range.
    """
    _pictures.check_enlargement(spec, "rrdb", conditional, conditions)
    scale = _pictures.choose_scale(spec, conditions[0], scale)
    for name, value in (("width", width), ("blocks", blocks), ("growth", growth)):
        _parts.check_integer(name, value)

    def body(x):
        for i in range(1, blocks + 1):
            y = x
            for j in range(1, _DENSE + 1):
                y = _dense_block(y, growth, f"block_{i}_dense_{j}")
            x = _add_scaled(x, y, f"block_{i}")
        return x

    return _pictures.enlarger(spec, conditions[0], scale, width, body)


def _dense_block(x, growth: int, name: str):
    """Applies convolutions of all features before them, and adds the last to the first."""
    found = [x]
    for i in range(1, _CONVOLUTIONS):
        joined = _pictures.concatenated(found, f"{name}_joined_{i}")
        y = _pictures.convolve(joined, growth, 3, f"{name}_conv_{i}")
        found.append(layers.LeakyReLU(0.2, name=f"{name}_activation_{i}")(y))
    joined = _pictures.concatenated(found, f"{name}_joined")
    y = _pictures.convolve(joined, x.shape[-1], 3, f"{name}_conv_{_CONVOLUTIONS}")
    return _add_scaled(x, y, name)


def _add_scaled(x, y, name: str):
    y = layers.Rescaling(RESIDUAL_SCALE, name=f"{name}_scaled")(y)
    return layers.Add(name=name)([x, y])
