"""The generator of the recipe `moving-fashion` in PyTorch, run by `video.py`.

Weights are random; the layers, their sizes and the chunks of 8 frames are those of `stream.onnx`.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

CONTENT, MOTION, UNITS, CHUNK, SIZE, SPRITE = 64, 4, 64, 8, 32, 16
WIDTHS, PER_SPRITE, REFINED = (128, 64, 32), 4, 8


class Frames(nn.Module):  # pyright: ignore
    """Next frames of a video from its content, the noise of each frame and the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(MOTION, UNITS, batch_first=True)
        self.project = nn.Linear(CONTENT, 16 * WIDTHS[0])
        stages: list[Any] = [nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()]
        for before, after in itertools.pairwise(WIDTHS):
            stages += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]
            stages += [nn.BatchNorm2d(after), nn.ReLU()]
        self.stages = nn.Sequential(*stages, nn.Conv2d(WIDTHS[-1], PER_SPRITE, 3, padding=1))
        self.places, self.factors = nn.Linear(UNITS, 2), nn.Linear(UNITS, 2 * REFINED)
        self.refine = nn.Conv2d(PER_SPRITE, REFINED, 3, padding=1)
        self.pixels = nn.Conv2d(REFINED, 1, 3, padding=1)

    def forward(self, content: Any, noise: Any, state: Any) -> tuple[Any, Any]:
        motion, state = self.recurrent(noise, state)
        motion = motion[0]
        sprite = self.stages(self.project(content).reshape(1, WIDTHS[0], 4, 4))
        places = SIZE // 4 + SIZE / 2 * torch.tanh(self.places(motion))
        there, here = torch.arange(SIZE)[None, :, None], torch.arange(SPRITE)[None, None]
        down, right = (
            torch.relu(1 - (there - here - places[:, i, None, None]).abs()) for i in (0, 1)
        )
        x = down[:, None] @ sprite @ right[:, None].transpose(2, 3)
        scale, shift = self.factors(motion)[:, :, None, None].chunk(2, 1)
        x = torch.relu(self.refine(x) * (1 + scale) + shift)
        return torch.tanh(self.pixels(x)), state


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network, best = Frames().eval(), 0.0
    with torch.inference_mode():
        for _ in range(3):
            state, content = torch.zeros(1, 1, UNITS), torch.randn(1, CONTENT)
            start = time.perf_counter()
            for _ in range(50):
                _, state = network(content, torch.randn(1, CHUNK, MOTION), state)
            best = max(best, 50 * CHUNK / (time.perf_counter() - start))
    print(f"PyTorch {torch.__version__:20} {best:8.0f} frames/s")


if __name__ == "__main__":
    main()
