"""The networks of `gpu.py` in PyTorch, written from docs/architectures.md and the papers.

They have the layers and the numbers of parameters of this library's networks. Tensors are NCHW.
Every generator takes latents and labels, every discriminator images and labels, which only R3GAN
uses.
"""

from __future__ import annotations

from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from gpu_cells import KERAS_IO
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]
from torch.nn.utils import parametrizations  # pyright: ignore[reportMissingImports]
from train_step_torch import Reshape
from train_step_torch import build as build_dcgan

EPSILON = 1e-3  # Keras's of batch normalization


class Unconditional(nn.Sequential):
    """Layers in sequence, which ignore the labels."""

    def forward(self, x, labels=None):
        return super().forward(x)


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=0.1)


# ------------------------------------------------------------------------ fashion-mnist


def fashion_mnist() -> tuple[nn.Module, nn.Module, int]:
    """DCGAN of 28 x 28 x 1 with a further convolution at 7 x 7 and a further halving to 4 x 4."""
    generator = Unconditional(
        nn.Linear(64, 7 * 7 * 128, bias=False),
        Reshape((128, 7, 7)),
        *(_norm(128), nn.ReLU()),
        nn.Conv2d(128, 128, 3, padding=1, bias=False),
        *(_norm(128), nn.ReLU()),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
        *(_norm(64), nn.ReLU()),
        nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False),
        *(_norm(32), nn.ReLU()),
        nn.Conv2d(32, 1, 3, padding=1),
        nn.Tanh(),
    )
    discriminator = Unconditional(
        nn.Conv2d(1, 64, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(128, 256, 3, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(4 * 4 * 256, 1),
    )
    return generator, discriminator, 64


# ------------------------------------------------------------------------ SNGAN


class UpBlock(nn.Module):
    """Norm, ReLU, upsampling, 3x3, norm, ReLU, 3x3; added to a 1x1 convolution of the inputs."""

    def __init__(self, channels: int):
        super().__init__()
        self.norms = nn.ModuleList([_norm(channels), _norm(channels)])
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.short = nn.Conv2d(channels, channels, 1)

    def forward(self, inputs):
        x = functional.interpolate(functional.relu(self.norms[0](inputs)), scale_factor=2)
        x = functional.relu(self.norms[1](self.first(x)))
        short = functional.interpolate(self.short(inputs), scale_factor=2)
        return self.second(x) + short


class DownBlock(nn.Module):
    """A block of the discriminator, with spectral normalization.

    Args:
        inputs: number of input channels.
        channels: number of output channels.
        first: True for the first block, whose inputs are images.
        pooled: True if it halves the resolution.
    """

    def __init__(self, inputs: int, channels: int, first: bool, pooled: bool):
        super().__init__()
        self.is_first, self.pooled = first, pooled
        spectral = parametrizations.spectral_norm
        self.first = spectral(nn.Conv2d(inputs, channels if first else inputs, 3, padding=1))
        self.second = spectral(nn.Conv2d(channels if first else inputs, channels, 3, padding=1))
        has_short = pooled or inputs != channels
        self.short = spectral(nn.Conv2d(inputs, channels, 1)) if has_short else nn.Identity()

    def forward(self, inputs):
        x = self.first(inputs if self.is_first else functional.relu(inputs))
        x = self.second(functional.relu(x))
        if not self.pooled:
            return x + self.short(inputs)
        return functional.avg_pool2d(x, 2) + self.short(functional.avg_pool2d(inputs, 2))


class SumPositions(nn.Module):
    def forward(self, x):
        return x.float().sum((2, 3))


def sngan() -> tuple[nn.Module, nn.Module, int]:
    """Residual networks of SNGAN for 32 x 32 x 3: table 4 of the paper, for CIFAR-10."""
    generator = Unconditional(
        nn.Linear(128, 4 * 4 * 256),
        Reshape((256, 4, 4)),
        *(UpBlock(256) for _ in range(3)),
        *(_norm(256), nn.ReLU()),
        nn.Conv2d(256, 3, 3, padding=1),
        nn.Tanh(),
    )
    discriminator = Unconditional(
        DownBlock(3, 128, first=True, pooled=True),
        DownBlock(128, 128, first=False, pooled=True),
        DownBlock(128, 128, first=False, pooled=False),
        DownBlock(128, 128, first=False, pooled=False),
        nn.ReLU(),
        SumPositions(),
        parametrizations.spectral_norm(nn.Linear(128, 1)),
    )
    return generator, discriminator, 128


# ------------------------------------------------------------------------ R3GAN

WIDTH, HIDDEN, GROUPS, STAGES, CLASSES = 768, 1536, 96, 4, 10


class Bottleneck(nn.Module):
    """1x1, leaky ReLU, grouped 3x3, leaky ReLU, 1x1; added to the inputs."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(WIDTH, HIDDEN, 1)
        self.grouped = nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1, groups=GROUPS)
        self.last = nn.Conv2d(HIDDEN, WIDTH, 1, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, inputs):
        x = functional.leaky_relu(self.first(inputs), 0.2)
        return inputs + self.last(functional.leaky_relu(self.grouped(x), 0.2))


class Resample(nn.Module):
    """Halves or doubles the resolution by the filter [1, 3, 3, 1] with zero padding."""

    def __init__(self, up: bool):
        super().__init__()
        self.function = functional.conv_transpose2d if up else functional.conv2d
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / (4 if up else 8)
        kernel = torch.outer(row, row).expand(WIDTH, 1, 4, 4).contiguous()
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x):
        kernel: Any = self.kernel
        return self.function(x, kernel.to(x.dtype), stride=2, padding=1, groups=WIDTH)


def _stages(up: bool) -> list[nn.Module]:
    """Returns two blocks at each resolution, with resampling in between."""
    layers: list[nn.Module] = []
    for stage in range(STAGES):
        layers += [Resample(up)] if stage else []
        layers += [Bottleneck(), Bottleneck()]
    return layers


class R3Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, 64)
        self.project = nn.Linear(128, WIDTH, bias=False)
        self.basis = nn.Parameter(torch.randn(WIDTH, 4, 4))
        self.stages = nn.Sequential(*_stages(up=True))
        self.samples = nn.Conv2d(WIDTH, 3, 1, bias=False)

    def forward(self, latents, labels):
        x = self.project(torch.cat([latents, self.embedding(labels)], 1))
        return self.samples(self.stages(x[:, :, None, None] * self.basis))


class R3Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.from_image = nn.Conv2d(3, WIDTH, 1, bias=False)
        self.stages = nn.Sequential(*_stages(up=False))
        self.head = nn.Conv2d(WIDTH, WIDTH, 4, groups=WIDTH, bias=False)
        self.features = nn.Linear(WIDTH, WIDTH, bias=False)
        self.embedding = nn.Embedding(CLASSES, WIDTH)

    def forward(self, images, labels):
        x = self.head(self.stages(self.from_image(images)))
        return (self.features(x.flatten(1)) * self.embedding(labels)).sum(1, keepdim=True)


def r3gan() -> tuple[nn.Module, nn.Module, int]:
    """Class-conditional networks of R3GAN for 32 x 32 x 3."""
    return R3Generator(), R3Discriminator(), 64


# ------------------------------------------------------------------------


def keras_io() -> tuple[nn.Module, nn.Module, int]:
    """The networks of the keras.io example."""
    generator, discriminator, _, latent_dim = build_dcgan("dcgan")
    return Unconditional(*generator), Unconditional(*discriminator), latent_dim  # pyright: ignore


BUILD = {
    KERAS_IO: keras_io,
    "fashion-mnist": fashion_mnist,
    "cifar10-sngan": sngan,
    "cifar10-r3gan": r3gan,
}
