"""PyTorch child of `gpu.py`, run by it in a Python that has torch.

The step is that of this library's games: generated samples are made once for both networks, the
discriminator is trained on real and generated samples in one pass, the generator against the
updated discriminator. R1 and R2 share the discriminator's pass in the steps that have them.
Convolutions are channels last, cuDNN chooses its algorithms by timing them, Adam is fused.

Compiled backward passes cannot be differentiated. So with torch.compile, the discriminator's pass
in steps with R1 and R2 is not compiled, and all others are.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]
from torch.utils._python_dispatch import TorchDispatchMode  # pyright: ignore
from torch.utils.flop_counter import flop_registry  # pyright: ignore[reportMissingImports]

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from children import respond, windows
from gpu_cells import SHAPES, Cell, Game
from gpu_torch_networks import BUILD

# ------------------------------------------------------------------------ losses


def discriminator_loss(name: str, real, fake):
    if name == "relativistic":
        return functional.softplus(fake - real).mean()
    if name == "hinge":
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(name: str, real, fake):
    if name == "relativistic":
        return functional.softplus(real - fake).mean()
    return -fake.mean() if name == "hinge" else functional.softplus(-fake).mean()


# ------------------------------------------------------------------------ the step


class TorchGame:
    """A game whose steps are run from outside, on one batch of random images.

    Args:
        cell: network, precision, batch size, and whether modules are compiled.
        game: losses, penalties, discriminator steps and average, as the recipe has them.
        device: "cuda", "cpu", or "meta", on which nothing is computed.
    """

    def __init__(self, cell: Cell, game: Game, device: str):
        torch.manual_seed(0)
        self.game, self.device = game, device
        self.half = cell.precision == "bfloat16"
        self.count = cell.batch // game.discriminator_steps
        self.g, self.d, self.latent_dim = BUILD[cell.network]()
        height, width, channels = SHAPES[cell.network]
        images = torch.rand(cell.batch, channels, height, width) * 2 - 1
        for network in (self.g, self.d):
            network.to(device=device, memory_format=torch.channels_last)
        images = images.to(device=device, memory_format=torch.channels_last)
        labels = torch.randint(max(1, game.classes), (cell.batch,)).to(device)
        self.parts = list(zip(images.split(self.count), labels.split(self.count), strict=True))
        self.averaged = [t.detach().clone() for t in self._states()]
        adam: dict[str, Any] = {"lr": game.learning_rate, "betas": game.betas}
        adam["fused"] = device != "meta"
        self.optimizers = [torch.optim.Adam(n.parameters(), **adam) for n in (self.g, self.d)]
        self.generate, self.discriminate = self.g, self.d
        if cell.compiled:
            # Batches have two sizes, with and without the real images: each has its own code.
            self.generate = torch.compile(self.g, dynamic=False)
            self.discriminate = torch.compile(self.d, dynamic=False)
        self.number = 0

    def _states(self) -> list[Any]:
        """Returns the generator's parameters and batch statistics."""
        buffers = [b for b in self.g.buffers() if b.is_floating_point()]
        return [*self.g.parameters(), *buffers]

    def precision(self) -> Any:
        if not self.half:
            return contextlib.nullcontext()
        return torch.autocast("cpu" if self.device == "cpu" else "cuda", dtype=torch.bfloat16)

    def samples(self, labels) -> Any:
        latents = torch.randn(len(labels), self.latent_dim, device=self.device)
        with self.precision():
            return self.generate(latents, labels).float()

    def logits(self, network, images, labels) -> Any:
        with self.precision():
            return network(images, labels).float()

    def train_discriminator(self, real, fake, labels) -> Any:
        due = bool(self.game.penalty) and self.number % self.game.interval == 0
        both = torch.cat([real, fake.detach()]).requires_grad_(due)
        network = self.d if due else self.discriminate
        logits = self.logits(network, both, torch.cat([labels, labels]))
        on_real, on_fake = logits.split(len(labels))
        loss = discriminator_loss(self.game.loss, on_real, on_fake)
        objective = loss
        if due:
            (slope,) = torch.autograd.grad(logits.sum(), both, create_graph=True)
            penalties = slope.float().square().sum((1, 2, 3)) / 2
            # The mean of R1 on the real half plus the mean of R2 on the generated one.
            weight = self.game.penalty * self.game.interval
            objective = loss + weight * 2 * penalties.mean()
        self.minimize(1, objective)
        return loss

    def step(self) -> tuple[Any, Any]:
        for real, labels in self.parts[:-1]:
            with torch.no_grad():
                fake = self.samples(labels)
            self.train_discriminator(real, fake, labels)
        real, labels = self.parts[-1]
        fake = self.samples(labels)
        d_loss = self.train_discriminator(real, fake, labels)
        self.d.requires_grad_(False)  # its weights need no gradient in the generator's step
        on_real = None
        if self.game.loss == "relativistic":
            with torch.no_grad():
                on_real = self.logits(self.discriminate, real, labels)
        on_fake = self.logits(self.discriminate, fake, labels)
        g_loss = generator_loss(self.game.loss, on_real, on_fake)
        self.minimize(0, g_loss)
        self.d.requires_grad_(True)
        self.average()
        self.number += 1
        return d_loss, g_loss

    def minimize(self, which: int, objective) -> None:
        self.optimizers[which].zero_grad()
        objective.backward()
        self.optimizers[which].step()

    @torch.no_grad()
    def average(self) -> None:
        half_life = self.game.half_life
        if half_life is None:
            return
        seen = self.count * len(self.parts)
        kept = 0.5 ** (seen / half_life) if half_life else 0.0
        torch._foreach_lerp_(self.averaged, self._states(), 1 - kept)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            losses = self.step()
        [float(loss.detach()) for loss in losses]
        if self.device == "cuda":
            torch.cuda.synchronize()


class FlopCounter(TorchDispatchMode):
    """Sums the floating-point operations of products that run within it.

    Matrix products are counted by PyTorch's formulas. Those of the gradients of convolutions ignore
    groups, so convolutions are counted here: a weight has one product for each pixel, of the
    output, or of the input of a transposed convolution.
    """

    def __init__(self):
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if func.overloadpacket is torch.ops.aten.convolution:
            self.total += self._of_convolution(args[0] if args[6] else outputs, args[1])
        elif func.overloadpacket is torch.ops.aten.convolution_backward:
            gradients = sum(args[10][:2])  # by the inputs, by the weights
            self.total += gradients * self._of_convolution(args[1] if args[7] else args[0], args[2])
        elif formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=outputs)
        return outputs

    def _of_convolution(self, pixels, weight) -> float:
        return 2.0 * len(pixels) * math.prod(pixels.shape[2:]) * weight.numel()


def parameters_of(game: TorchGame) -> list[int]:
    """Returns the number of parameters of the generator and of the discriminator."""
    return [sum(p.numel() for p in network.parameters()) for network in (game.g, game.d)]


def count_flops(cell: Cell, game: Game) -> float:
    """Returns the operations of a step for each real image, as PyTorch counts them."""
    batch = 2 * game.discriminator_steps
    small = Cell("torch", cell.network, "float32", batch=batch)
    counted = TorchGame(small, game, "meta")
    steps = []
    for _ in range(min(2, game.interval)):
        with FlopCounter() as counter:
            counted.step()
        steps.append(counter.total)
    # Of an interval's steps, the first has penalties; the others are like the second.
    return (steps[0] + (game.interval - 1) * steps[-1]) / game.interval / batch


def counts(network: str, game: Game) -> dict[str, Any]:
    """Returns what a row says of PyTorch's networks."""
    cell = Cell("torch", network, "float32", batch=2 * game.discriminator_steps)
    parameters = parameters_of(TorchGame(cell, game, "meta"))
    return {"parameters": parameters, "counted_flops": count_flops(cell, game)}


def build(cell: Cell, game: Game, device: str) -> Callable[[str], dict[str, Any]]:
    """Builds a game, runs its first steps, and returns the function that times more of them.

    Raises:
        RuntimeError: PyTorch finds no GPU, or has no compiler.
    """
    if device == "gpu" and not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} finds no GPU")
    tf32 = cell.precision != "float32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    made = TorchGame(cell, game, "cuda" if device == "gpu" else "cpu")
    made.run(1 if game.interval == 1 else 2)  # compiles steps with and without penalties
    began = time.perf_counter()
    made.run(1)
    known = {"step": time.perf_counter() - began}
    software = {"torch": torch.__version__, "torch-cuda": str(torch.version.cuda)}
    answer = {"parameters": parameters_of(made), "software": software}
    if not cell.compiled:
        answer["counted_flops"] = count_flops(cell, game)
    return lambda line: {**windows(made.run, game.interval, line, known), **answer}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", help="games by network: print parameters and operations")
    for name in ("--child", "--game", "--device"):
        parser.add_argument(name)
    options = parser.parse_args()
    if options.count:
        games = {network: Game(**of) for network, of in json.loads(options.count).items()}
        print(json.dumps({network: counts(network, game) for network, game in games.items()}))
        sys.exit()
    game = Game(**json.loads(options.game))
    respond(lambda: build(Cell.from_json(options.child), game, options.device))
