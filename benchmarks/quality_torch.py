"""PyTorch's DCGAN example, run by `quality.py` in a Python that has torch.

Networks, initial weights and training step are those of pytorch/examples/dcgan, with the single
channel of `--dataset mnist` for gray images: 64 x 64, cross-entropy, Adam at 2e-4 with beta_1 0.5,
batches of 64. Images of other sizes are resized to 64 x 64, and samples back.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from clocks import CLOCKS
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

LATENT_DIM, WIDTH = 100, 64


def generator(channels: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    before = LATENT_DIM
    for i, width in enumerate((8 * WIDTH, 4 * WIDTH, 2 * WIDTH, WIDTH)):
        stride, padding = (2, 1) if i else (1, 0)
        parts.append(nn.ConvTranspose2d(before, width, 4, stride, padding, bias=False))
        parts += [nn.BatchNorm2d(width), nn.ReLU(True)]
        before = width
    last = nn.ConvTranspose2d(before, channels, 4, 2, 1, bias=False)
    return nn.Sequential(*parts, last, nn.Tanh())


def discriminator(channels: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    before = channels
    for i, width in enumerate((WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH)):
        parts.append(nn.Conv2d(before, width, 4, 2, 1, bias=False))
        parts += [nn.BatchNorm2d(width)] if i else []
        parts.append(nn.LeakyReLU(0.2, inplace=True))
        before = width
    return nn.Sequential(*parts, nn.Conv2d(before, 1, 4, 1, 0, bias=False), nn.Flatten(0))


def initialize(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def resized(images, size: int):
    """Resizes images as torchvision's Resize does: bilinear, antialiased."""
    return functional.interpolate(images, (size, size), mode="bilinear", antialias=True)


def draw(g: nn.Module, count: int, side: int) -> np.ndarray:
    g.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, count, 500):
            made = g(torch.randn(min(500, count - start), LATENT_DIM, 1, 1))
            pixels = ((resized(made, side) + 1) * 127.5).round().clamp(0, 255)
            parts.append(pixels.to(torch.uint8).permute(0, 2, 3, 1).numpy())
    g.train()
    return np.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("game")
    parser.add_argument("--images", type=pathlib.Path, required=True, help=".npy, uint8")
    parser.add_argument("--minutes", required=True)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    images = torch.from_numpy(np.load(options.images)).permute(0, 3, 1, 2)
    channels, side = images.shape[1], images.shape[2]
    g, d = (network(channels).apply(initialize) for network in (generator, discriminator))
    g_optimizer, d_optimizer = (
        torch.optim.Adam(p.parameters(), lr=2e-4, betas=(0.5, 0.999)) for p in (g, d)
    )
    left = sorted(float(m) for m in options.minutes.split(","))
    loss, size, seen = functional.binary_cross_entropy_with_logits, 64, 0
    ones, zeros = torch.ones(size), torch.zeros(size)
    order = torch.randperm(len(images))
    clock = CLOCKS[options.clock]
    began = clock()
    while left:
        if len(order) < size:
            order = torch.randperm(len(images))
        chosen, order = order[:size], order[size:]
        real = resized(images[chosen].float() / 127.5 - 1, 64)
        d_optimizer.zero_grad()
        loss(d(real), ones).backward()
        fake = g(torch.randn(size, LATENT_DIM, 1, 1))
        loss(d(fake.detach()), zeros).backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        loss(d(fake), ones).backward()
        g_optimizer.step()
        seen += size
        if clock() - began >= 60 * left[0]:
            before = clock()
            np.save(options.out / f"samples-{left.pop(0):g}.npy", draw(g, options.count, side))
            began += clock() - before
    print(f"{seen} images")


if __name__ == "__main__":
    main()
