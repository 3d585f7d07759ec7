"""Residual network for super-resolution, whose blocks all work at the low resolution.

It adds details to a bicubic enlargement of the picture. Its last convolution starts at zero, so
that an untrained network is the bicubic enlargement. At scale 1 it restores pictures (denoising,
deblurring).

Reference:
    - [Ledig et al., 2017](https://arxiv.org/abs/1609.04802)
    - [Lim et al., 2017](https://arxiv.org/abs/1707.02921), for blocks without normalization
    - [Shi et al., 2016](https://arxiv.org/abs/1609.05158), for the last layer
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from keras_gan.architectures import _parts, _pictures
from keras_gan.spec import Spec


def generator(
    spec: Spec,
    conditional: bool = False,
    conditions: Sequence[str] = (),
    scale: int | None = None,
    width: int = 40,
    blocks: int = 8,
) -> keras.Model:
    """Builds a generator from small pictures to pictures of `scale` times the height and width.

    Its samples may leave [-1, 1] slightly, as bicubic enlargement does; clip them.

    Args:
        spec: pictures `samples`, and the small ones that `conditions` names.
        conditional: must be False: labels are not supported.
        conditions: name of the field that the generator enlarges.
        scale: factor of height and width, at least 1; by default that of the data's sizes, if
            they are fixed.
        width: channels of the blocks.
        blocks: number of residual blocks, at least 1.

    Raises:
        UsageError: the condition is not a picture, the scale is unknown or does not fit the
            sizes, or an option is out of range.
    """
    _pictures.check_enlargement(spec, "srresnet", conditional, conditions)
    scale = _pictures.choose_scale(spec, conditions[0], scale)
    _parts.check_integer("width", width)
    _parts.check_integer("blocks", blocks)

    def body(x):
        for i in range(1, blocks + 1):
            y = _pictures.convolve(x, width, 3, f"block_{i}_conv_1", activation="relu")
            y = _pictures.convolve(y, width, 3, f"block_{i}_conv_2")
            x = layers.Add(name=f"block_{i}")([x, y])
        return x

    return _pictures.enlarger(spec, conditions[0], scale, width, body)
