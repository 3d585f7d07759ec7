"""Keras layers for GANs, in one module for each family.

Every layer is registered under `keras_gan`, so that saved models find it by its class name.
"""

from __future__ import annotations

from keras_gan.layers.attention import SelfAttention2D
from keras_gan.layers.basis import Basis2D
from keras_gan.layers.classes import LogSumExp
from keras_gan.layers.codes import LatentCodes, find_codes, with_codes_input
from keras_gan.layers.control import (
    ClipToBounds,
    GreedyChoice,
    LogStd,
    ObservationNormalization,
    ToBounds,
    update_statistics,
)
from keras_gan.layers.convolution import Conv2D, Conv2DTranspose, NarrowConv2D, UpConv2D
from keras_gan.layers.cosine import CosineDense
from keras_gan.layers.equalized import EqualizedConv2D, EqualizedDense
from keras_gan.layers.minibatch import MinibatchStandardDeviation
from keras_gan.layers.noise import PhaseShuffle, layer_noise, layer_seed
from keras_gan.layers.normalization import (
    BatchNormalization,
    ConditionalBatchNormalization,
    GroupNormalization,
    PixelNormalization,
)
from keras_gan.layers.resampling import BlurPool2D, BlurUpsample2D, UpSampling2D
from keras_gan.layers.resizing import (
    AppendVector2D,
    BicubicUpsample2D,
    DepthToSpace2D,
    DivisibleSize2D,
    MatchSize2D,
    ReflectionPadding2D,
)
from keras_gan.layers.sound import (
    ChannelScale,
    Columns,
    DepthwiseConv1D,
    FramesToSamples,
    LogMel,
    Loudness,
    Magnitudes,
    OverlapAdd,
    VocoderInput,
)
from keras_gan.layers.spectral import SpectralNormalization
from keras_gan.layers.sprites import PlaceSprites, SpritePlaces
from keras_gan.layers.text import TextSampler, TextStep, find_sampler, step_model, with_controls
from keras_gan.layers.video import (
    CarriedState,
    FoldFrames,
    Modulation2D,
    PickFrames,
    RepeatForFrames,
    RepeatFrames,
    StartState,
    TemporalConv,
    UnfoldFrames,
    VideoLatents,
)

__all__ = [
    "AppendVector2D",
    "Basis2D",
    "BatchNormalization",
    "BicubicUpsample2D",
    "BlurPool2D",
    "BlurUpsample2D",
    "CarriedState",
    "ChannelScale",
    "ClipToBounds",
    "Columns",
    "ConditionalBatchNormalization",
    "Conv2D",
    "Conv2DTranspose",
    "CosineDense",
    "DepthToSpace2D",
    "DepthwiseConv1D",
    "DivisibleSize2D",
    "EqualizedConv2D",
    "EqualizedDense",
    "FoldFrames",
    "FramesToSamples",
    "GreedyChoice",
    "GroupNormalization",
    "LatentCodes",
    "LogMel",
    "LogStd",
    "LogSumExp",
    "Loudness",
    "Magnitudes",
    "MatchSize2D",
    "MinibatchStandardDeviation",
    "Modulation2D",
    "NarrowConv2D",
    "ObservationNormalization",
    "OverlapAdd",
    "PhaseShuffle",
    "PickFrames",
    "PixelNormalization",
    "PlaceSprites",
    "ReflectionPadding2D",
    "RepeatForFrames",
    "RepeatFrames",
    "SelfAttention2D",
    "SpectralNormalization",
    "SpritePlaces",
    "StartState",
    "TemporalConv",
    "TextSampler",
    "TextStep",
    "ToBounds",
    "UnfoldFrames",
    "UpConv2D",
    "UpSampling2D",
    "VideoLatents",
    "VocoderInput",
    "find_codes",
    "find_sampler",
    "layer_noise",
    "layer_seed",
    "step_model",
    "update_statistics",
    "with_codes_input",
    "with_controls",
]
