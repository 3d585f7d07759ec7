"""PatchGAN: a discriminator that judges each patch of a picture, alone or beside its condition.

Reference:
    - [Isola et al., 2016](https://arxiv.org/abs/1611.07004), section 3.2.2
    - [Miyato et al., 2018](https://arxiv.org/abs/1802.05957), for spectral normalization
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from keras_gan.architectures import _parts, _pictures
from keras_gan.layers import MatchSize2D
from keras_gan.spec import Spec

_NORMS = (*_pictures.NORMS, "spectral")
_WIDEST = 8  # channels are at most so many times those of the first layer


def discriminator(
    spec: Spec,
    conditional: bool = False,
    conditions: Sequence[str] = (),
    width: int = 32,
    layers: int | None = None,
    norm: str = "none",
    features: bool = False,
) -> keras.Model:
    """Builds a discriminator from pictures [and conditions] to logits, one for each patch.

    Args:
        spec: pictures `samples`, and those that `conditions` names.
        conditional: must be False: labels are not supported.
        conditions: names of the fields that are judged together with the samples. A smaller
            picture is enlarged to the size of the samples.
        width: channels of the first layer; each strided layer doubles them, up to 8 times.
        layers: number of strided layers. A logit sees a patch of 16 pixels with 1, of 34 with 2
            and of 70 with 3. By default 2, and 3 for pictures from 128 pixels on.
        norm: normalization, "none", "spectral", "instance" or "batch". The first and the last
            layer have neither instance nor batch normalization. Gradient penalties reject "batch".
        features: if True, the outputs are `logits` and `features`, the list of the features of
            all layers before them, for the term `feature_matching`.

    Returns:
        The discriminator; its logits are of shape `(batch, height / 2**layers, ..., 1)`, rounded
        up.

    Raises:
        UsageError: the condition is not a picture, or an option is out of range.
    """
    _pictures.check_task(spec, "patch", conditional, conditions, minimum=0)
    _parts.check_integer("width", width)
    _parts.check_one_of("norm", norm, _NORMS)
    strided = _pictures.choose_by_size(layers, "layers", spec, small=2, large=3)
    channels = [width * min(2**i, _WIDEST) for i in range(strided + 1)]
    samples, *others = _pictures.inputs(spec, ["samples", *conditions])
    beside = [MatchSize2D(name=f"{x.name}_resized")([x, samples]) for x in others]
    x = _pictures.concatenated([samples, *beside], "pictures")
    found = _blocks(x, channels, norm)
    logits = _pictures.convolve(
        found[-1], 1, 4, "logits", spectral=norm == "spectral", dtype="float32"
    )
    outputs = {"logits": logits, "features": found} if features else logits
    inputs = _pictures.one_or_list([samples, *others])
    return keras.Model(inputs, outputs, name="discriminator")


def _blocks(x, channels: Sequence[int], norm: str) -> list:
    """Returns the features after each layer; all layers but the last halve the resolution."""
    found = []
    for i, filters in enumerate(channels, start=1):
        strides = 1 if i == len(channels) else 2
        x = _pictures.convolve(x, filters, 4, f"conv_{i}", strides, spectral=norm == "spectral")
        if i > 1 and norm != "spectral":
            x = _pictures.normalize(x, norm, f"norm_{i}")
        x = layers.LeakyReLU(0.2, name=f"activation_{i}")(x)
        found.append(x)
    return found
