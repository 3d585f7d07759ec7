"""PyTorch's side of `translation.py`: pix2pix, CycleGAN, and super-resolution of published forms.

    python benchmarks/translation_torch.py edges2fashion --data data.npz --seconds 300 --out out.npz

The networks and losses are those that the papers state, at the widths of docs/results.md. The file
of --data holds uint8 arrays NHWC: condition, samples, test_condition. One thread is used, and the
training ends after so many seconds of processor time. The file of --out gets the answers to
test_condition by name, uint8, and the number of examples that were seen.

- edges2fashion: pix2pix (Isola et al., 2017, https://arxiv.org/abs/1611.07004): U-Net of 5 levels
  with batch normalization, transposed convolutions, PatchGAN of 2 layers, cross-entropy + 100 L1.
  `l1` is the same U-Net without a discriminator.
- glyphs: CycleGAN (Zhu et al., 2017, https://arxiv.org/abs/1703.10593): 3 residual blocks, instance
  normalization, least squares, cycle 10, identity 5, pool of 50.
- photos: a residual network at the small size and sub-pixel convolution (Ledig et al., 2017,
  https://arxiv.org/abs/1609.04802) over a bicubic resize: L1 for the first half of the time, then
  L1 + 0.01 relativistic loss (Wang et al., 2018, https://arxiv.org/abs/1809.00219).
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

Batch = tuple[torch.Tensor, torch.Tensor]


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(tensor: torch.Tensor) -> np.ndarray:
    pixels = ((tensor.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy()


# ------------------------------------------------------------------------ networks


class UNet(nn.Module):
    """The U-Net of pix2pix: strided convolutions down, transposed ones up, skips between."""

    def __init__(self, inputs: int, outputs: int, widths: tuple[int, ...]):
        super().__init__()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        before = inputs
        for level, width in enumerate(widths):
            layers: list[nn.Module] = [] if level == 0 else [nn.LeakyReLU(0.2)]
            layers.append(nn.Conv2d(before, width, 4, 2, 1))
            if 0 < level < len(widths) - 1:
                layers.append(nn.BatchNorm2d(width))
            self.down.append(nn.Sequential(*layers))
            before = width
        for level in reversed(range(len(widths))):
            width = widths[level - 1] if level else outputs
            joined = widths[level] * (1 if level == len(widths) - 1 else 2)
            layers = [nn.ReLU(), nn.ConvTranspose2d(joined, width, 4, 2, 1)]
            layers.append(nn.BatchNorm2d(width) if level else nn.Tanh())
            self.up.append(nn.Sequential(*layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = skips.pop()
        for block in self.up:
            x = block(x)
            if skips:
                x = torch.cat([x, skips.pop()], 1)
        return x


def patch_gan(channels: int, width: int, norm: type[nn.Module]) -> nn.Sequential:
    """A PatchGAN with two strided layers."""
    widths = [width, 2 * width, 4 * width]
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for before, after, stride in zip(widths, widths[1:], (2, 1), strict=False):
        layers += [nn.Conv2d(before, after, 4, stride, 1), norm(after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))


class Residual(nn.Module):
    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def translator(channels: int, width: int, blocks: int) -> nn.Sequential:
    """The generator of CycleGAN with two strided layers."""

    def norm(size: int) -> list[nn.Module]:
        return [nn.InstanceNorm2d(size), nn.ReLU()]

    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), *norm(width)]
    for size in (width, 2 * width):
        layers += [nn.Conv2d(size, 2 * size, 3, 2, 1), *norm(2 * size)]
    size = 4 * width
    for _ in range(blocks):
        block = [nn.ReflectionPad2d(1), nn.Conv2d(size, size, 3), *norm(size)]
        block += [nn.ReflectionPad2d(1), nn.Conv2d(size, size, 3), nn.InstanceNorm2d(size)]
        layers.append(Residual(*block))
    for size in (4 * width, 2 * width):
        layers += [nn.ConvTranspose2d(size, size // 2, 3, 2, 1, 1), *norm(size // 2)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh())


class SuperResolution(nn.Module):
    """Residual blocks at the small size, one sub-pixel convolution, and a bicubic skip."""

    def __init__(self, channels: int, width: int, blocks: int, scale: int):
        super().__init__()
        self.scale = scale
        convolution = [nn.Conv2d(channels, width, 3, 1, 1)]
        for _ in range(blocks):
            pair = [nn.Conv2d(width, width, 3, 1, 1) for _ in range(2)]
            convolution.append(Residual(pair[0], nn.ReLU(), pair[1]))  # type: ignore[arg-type]
        last = nn.Conv2d(width, channels * scale**2, 3, 1, 1)
        self.body = nn.Sequential(*convolution, last, nn.PixelShuffle(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = F.interpolate(x, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return self.body(x) + skip


def judge(channels: int, width: int) -> nn.Sequential:
    """Four strided convolutions with spectral normalization, for super-resolution."""
    layers: list[nn.Module] = []
    before = channels
    for size in (width, 2 * width, 3 * width, 4 * width):
        strided = nn.utils.parametrizations.spectral_norm(nn.Conv2d(before, size, 4, 2, 1))
        layers += [strided, nn.LeakyReLU(0.2)]
        before = size
    return nn.Sequential(*layers, nn.Conv2d(before, 1, 3, 1, 1))


# ------------------------------------------------------------------------ training


def adam(*networks: nn.Module, rate: float = 2e-4, beta: float = 0.5) -> torch.optim.Adam:
    weights = itertools.chain(*(network.parameters() for network in networks))
    return torch.optim.Adam(weights, rate, (beta, 0.999))


def indices(count: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields the rows of batches, one permutation after the other."""
    while True:
        order = rng.permutation(count)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]


class Clock:
    """Processor time of the training, and the falling learning rate of its second half."""

    def __init__(self, seconds: float, *optimizers: torch.optim.Optimizer):
        self.seconds, self.start, self.optimizers = seconds, time.process_time(), optimizers
        self.rates = [each.param_groups[0]["lr"] for each in optimizers]

    @property
    def share(self) -> float:
        return (time.process_time() - self.start) / self.seconds

    def runs(self) -> bool:
        share = self.share
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * min(1.0, max(0.0, 2 - 2 * share))
        return share < 1


def pix2pix(a: torch.Tensor, b: torch.Tensor, seconds: float, adversarial: bool, seed: int):
    """Trains pix2pix; returns the generator and the number of pairs seen."""
    torch.manual_seed(seed)
    g = UNet(a.shape[1], b.shape[1], (32, 64, 128, 256, 256))
    d = patch_gan(a.shape[1] + b.shape[1], 32, nn.BatchNorm2d)
    optimizers = adam(g), adam(d)
    clock, seen = Clock(seconds, *optimizers), 0
    bce = F.binary_cross_entropy_with_logits
    for rows in indices(len(a), 16, np.random.default_rng(seed)):
        if not clock.runs():
            break
        x, y = a[rows], b[rows]
        fake = g(x)
        loss = 100 * F.l1_loss(fake, y)
        if adversarial:
            shown, real = d(torch.cat([x, fake.detach()], 1)), d(torch.cat([x, y], 1))
            d_loss = bce(shown, torch.zeros_like(shown)) + bce(real, torch.ones_like(real))
            optimizers[1].zero_grad()
            (d_loss / 2).backward()
            optimizers[1].step()
            shown = d(torch.cat([x, fake], 1))
            loss = loss + bce(shown, torch.ones_like(shown))
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
        seen += len(rows)
    return g.eval(), seen


class Pool:
    """The last 50 generated pictures, of which half of a batch is taken (Shrivastava et al.)."""

    def __init__(self, rng: np.random.Generator):
        self.pictures: list[torch.Tensor] = []
        self.rng = rng

    def __call__(self, fakes: torch.Tensor) -> torch.Tensor:
        shown = []
        for fake in fakes.detach():
            if len(self.pictures) < 50:
                self.pictures.append(fake)
                shown.append(fake)
            elif self.rng.random() < 0.5:
                place = int(self.rng.integers(50))
                shown.append(self.pictures[place])
                self.pictures[place] = fake
            else:
                shown.append(fake)
        return torch.stack(shown)


def cyclegan(a: torch.Tensor, b: torch.Tensor, seconds: float, seed: int):
    """Trains CycleGAN; returns both generators and the number of pictures of A seen."""
    torch.manual_seed(seed)
    channels = a.shape[1]
    forward, backward = (translator(channels, 16, 3) for _ in range(2))
    d_a, d_b = (patch_gan(channels, 16, nn.InstanceNorm2d) for _ in range(2))
    optimizers = adam(forward, backward), adam(d_a, d_b)
    clock, seen, rng = Clock(seconds, *optimizers), 0, np.random.default_rng(seed)
    pools = Pool(rng), Pool(rng)
    orders = zip(indices(len(a), 4, rng), indices(len(b), 4, rng), strict=True)
    for rows, others in orders:
        if not clock.runs():
            break
        x, y = a[rows], b[others]
        fake_b, fake_a = forward(x), backward(y)
        judged_b, judged_a = d_b(fake_b), d_a(fake_a)
        loss = ((judged_b - 1) ** 2).mean() + ((judged_a - 1) ** 2).mean()
        loss = loss + 10 * (F.l1_loss(backward(fake_b), x) + F.l1_loss(forward(fake_a), y))
        loss = loss + 5 * (F.l1_loss(forward(y), y) + F.l1_loss(backward(x), x))
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
        total = torch.zeros(())
        for d, real, fake, pool in ((d_a, x, fake_a, pools[0]), (d_b, y, fake_b, pools[1])):
            total = total + ((d(real) - 1) ** 2).mean() / 2 + (d(pool(fake)) ** 2).mean() / 2
        optimizers[1].zero_grad()
        total.backward()
        optimizers[1].step()
        seen += len(rows)
    return forward.eval(), backward.eval(), seen


def patches(low: torch.Tensor, high: torch.Tensor, size: int, rng: np.random.Generator) -> Batch:
    """Cuts corresponding crops, mirrored and turned at random."""
    scale = high.shape[-1] // low.shape[-1]
    found = []
    for x, y in zip(low, high, strict=True):
        top, left = rng.integers(0, low.shape[-1] - size + 1, 2)
        x = x[:, top : top + size, left : left + size]
        y = y[:, scale * top : scale * (top + size), scale * left : scale * (left + size)]
        turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
        pair = [torch.rot90(z.flip(-1) if mirrored else z, turns, (1, 2)) for z in (x, y)]
        found.append(pair)
    return torch.stack([x for x, _ in found]), torch.stack([y for _, y in found])


def super_resolution(
    low: torch.Tensor, high: torch.Tensor, seconds: float, seed: int, finish: Callable[..., None]
):
    """Trains both stages, each for half of the time; `finish` gets the network after each."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    g, d = SuperResolution(3, 40, 6, high.shape[-1] // low.shape[-1]), judge(3, 32)
    for stage in ("l1", "gan"):
        rate = 4e-4 if stage == "l1" else 1e-4
        optimizers = adam(g, rate=rate, beta=0.9), adam(d, rate=rate, beta=0.9)
        clock, seen = Clock(seconds / 2, *optimizers), 0
        for rows in indices(len(low), 16, rng):
            if not clock.runs():
                break
            x, y = patches(low[rows], high[rows], 16, rng)
            fake = g(x)
            loss = F.l1_loss(fake, y)
            if stage == "gan":
                gap = d(y) - d(fake.detach())
                optimizers[1].zero_grad()
                F.softplus(-gap).mean().backward()
                optimizers[1].step()
                loss = loss + 0.01 * F.softplus(d(y).detach() - d(fake)).mean()
            optimizers[0].zero_grad()
            loss.backward()
            optimizers[0].step()
            seen += len(rows)
        finish(stage, g, seen)


# ------------------------------------------------------------------------ the program


def answers(network: nn.Module, pictures: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        parts = [network(to_tensor(part)) for part in np.array_split(pictures, len(pictures) // 64)]
    return np.concatenate([to_pictures(part) for part in parts])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["edges2fashion", "glyphs", "photos"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--seconds", type=float, required=True, help="processor time of a training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, np.ndarray] = {}
    with np.load(options.data) as data:
        arrays = {name: data[name] for name in data.files}
    a, b = to_tensor(arrays["condition"]), to_tensor(arrays["samples"])

    def finish(name: str, network: nn.Module, seen: int, test: str = "test_condition") -> None:
        found[name], found[f"{name}_seen"] = answers(network, arrays[test]), np.array(seen)

    if options.task == "edges2fashion":
        finish("gan", *pix2pix(a, b, options.seconds, True, options.seed))
        finish("l1", *pix2pix(a, b, options.seconds, False, options.seed))
    elif options.task == "glyphs":
        forward, backward, seen = cyclegan(a, b, options.seconds, options.seed)
        finish("forward", forward, seen)
        finish("backward", backward, seen, "test_samples")
    else:
        super_resolution(a, b, options.seconds, options.seed, finish)
    np.savez_compressed(options.out, **found)  # pyright: ignore[reportArgumentType]
    print(", ".join(f"{name} {found[name]}" for name in found if name.endswith("_seen")))


if __name__ == "__main__":
    main()
