"""PyTorch variants of `train_step.py`, run by it in a Python that has torch.

The training step of PyTorch's DCGAN tutorial: generated samples are made once per step; the
discriminator is trained on them detached, the generator through them. Real and generated samples
pass through the discriminator together, since no layer of it mixes samples.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import pathlib
import sys
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from train_step import serve


class Reshape(nn.Module):
    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.view(-1, *self.shape)


def build(net: str) -> tuple[nn.Module, nn.Module, tuple[int, ...], int]:
    """Generator, discriminator with logits, shape of an image, length of a latent vector."""
    if net == "dcgan":
        up, down, latent_dim, base, channels, last = (
            [128, 128, 256, 512],
            [64, 128, 128],
            128,
            8,
            3,
            5,
        )
    elif net == "color":
        up, down = [512, 256, 128, 64, 32], [64, 128, 256, 512]
        latent_dim, base, channels, last = 64, 4, 3, 3
    else:
        up, down, latent_dim, base, channels, last = [128, 64, 32], [64, 128], 64, 7, 1, 3
    small = net != "dcgan"
    generator: list[nn.Module] = [
        nn.Linear(latent_dim, base * base * up[0], bias=not small),
        Reshape((up[0], base, base)),
    ]
    if small:
        generator += [nn.BatchNorm2d(up[0], eps=1e-3), nn.ReLU()]
    for a, b in itertools.pairwise(up):
        generator.append(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=not small))
        generator += [nn.BatchNorm2d(b, eps=1e-3), nn.ReLU()] if small else [nn.LeakyReLU(0.2)]
    generator += [nn.Conv2d(up[-1], channels, last, padding=last // 2)]
    generator += [nn.Tanh() if small else nn.Sigmoid()]
    discriminator: list[nn.Module] = []
    for a, b in itertools.pairwise([channels, *down]):
        discriminator += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
    size = base * 2 ** (len(up) - 1)
    features = (size >> len(down)) ** 2 * down[-1]
    discriminator += [nn.Flatten(), *([] if small else [nn.Dropout(0.2)]), nn.Linear(features, 1)]
    shape = (channels, size, size)
    return nn.Sequential(*generator), nn.Sequential(*discriminator), shape, latent_dim


class TorchVariant:
    """A variant's players, stepped from outside."""

    def __init__(self, variant: str, net: str, batch: int):
        torch.manual_seed(0)
        _, how, layout, kind = variant.split("-")
        self.batch = batch
        self.g, self.d, shape, self.latent_dim = build(net)
        images = torch.rand(4 * batch, *shape) * 2 - 1
        if layout == "last":
            self.g.to(memory_format=torch.channels_last)
            self.d.to(memory_format=torch.channels_last)
            images = images.contiguous(memory_format=torch.channels_last)
        self.images = images.split(batch)
        rate: dict[str, Any] = {"lr": 1e-4, "betas": (0.9, 0.999)}
        if net != "dcgan":
            rate = {"lr": 2e-4, "betas": (0.0, 0.99)}
        self.g_optimizer = torch.optim.Adam(self.g.parameters(), fused=True, **rate)
        self.d_optimizer = torch.optim.Adam(self.d.parameters(), fused=True, **rate)
        self.generate, self.discriminate = self.g, self.d
        if how == "compile":
            self.generate = torch.compile(self.g)
            # R1 and R2 need second derivatives, which compiled backward passes lack.
            self.discriminate = torch.compile(self.d) if net == "dcgan" else self.d
        self.half = kind == "bf16"
        self.play = self.original if net == "dcgan" else self.penalized
        self.count = 0

    def precision(self):
        if self.half:
            return torch.autocast("cpu", dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def original(self, real) -> tuple[Any, Any]:
        with self.precision():
            fake = self.generate(torch.randn(self.batch, self.latent_dim)).float()
            logits = self.discriminate(torch.cat([real, fake.detach()])).float()
        on_real, on_fake = logits.split(self.batch)
        d_loss = functional.softplus(-on_real).mean() + functional.softplus(on_fake).mean()
        self.learn(self.d_optimizer, d_loss)
        self.d.requires_grad_(False)  # its weights need no gradient in the generator's step
        with self.precision():
            logits = self.discriminate(fake).float()
        g_loss = functional.softplus(-logits).mean()
        self.learn(self.g_optimizer, g_loss)
        self.d.requires_grad_(True)
        return d_loss, g_loss

    def penalized(self, real) -> tuple[Any, Any]:
        with self.precision():
            fake = self.generate(torch.randn(self.batch, self.latent_dim)).float()
            both = torch.cat([real, fake.detach()]).requires_grad_()
            logits = self.discriminate(both).float()
        (slope,) = torch.autograd.grad(logits.sum(), both, create_graph=True)
        penalty = slope.square().sum((1, 2, 3)) / 2
        on_real, on_fake = logits.split(self.batch)
        d_loss = functional.softplus(on_fake - on_real).mean()
        self.learn(self.d_optimizer, d_loss + 2 * penalty.mean())
        self.d.requires_grad_(False)
        with torch.no_grad(), self.precision():
            on_real = self.discriminate(real).float()
        with self.precision():
            on_fake = self.discriminate(fake).float()
        g_loss = functional.softplus(on_real - on_fake).mean()
        self.learn(self.g_optimizer, g_loss)
        self.d.requires_grad_(True)
        return d_loss, g_loss

    def learn(self, optimizer, loss) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            losses = self.play(self.images[self.count % len(self.images)])
            self.count += 1
        [float(loss) for loss in losses]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--child", required=True)
    parser.add_argument("--net", required=True)
    parser.add_argument("--batch", type=int, required=True)
    options = parser.parse_args()
    serve(lambda: TorchVariant(options.child, options.net, options.batch))
