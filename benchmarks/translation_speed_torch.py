"""PyTorch's variants of `translation_speed.py`, run by it in a Python that has torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from translation_speed import answer_times, picture
from translation_torch import SuperResolution, UNet, translator

NETS: dict[str, Callable[[], Any]] = {
    "unet": lambda: UNet(3, 3, (32, 64, 128, 256, 256)),
    "translator": lambda: translator(3, 16, 3),
    "srresnet": lambda: SuperResolution(3, 40, 8, 4),
}


def make(net: str, variant: str, side: int) -> Callable[[], Any]:
    """Returns a function that translates a picture in evaluation mode."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = NETS[net]().eval()
    given = torch.from_numpy(picture(side)).permute(0, 3, 1, 2).contiguous()
    if variant.endswith("last"):
        network.to(memory_format=torch.channels_last)
        given = given.to(memory_format=torch.channels_last)
    function = torch.compile(network) if "compile" in variant else network

    def run() -> Any:
        with torch.inference_mode():
            return function(given).permute(0, 2, 3, 1).contiguous().numpy()

    return run


if __name__ == "__main__":
    answer_times(lambda: make(sys.argv[1], sys.argv[2], int(sys.argv[3])))
