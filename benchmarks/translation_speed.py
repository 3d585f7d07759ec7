"""Time per picture of exported translators on one core, beside PyTorch's networks.

    python benchmarks/translation_speed.py --torch-python /path/to/venv/bin/python --core 1

`unet`, `translator` and `srresnet` at the widths of `edges2fashion`, `glyphs-bold` and `photos-x4`,
untrained, one color picture at a time. Ours is the exported ONNX model in `serving.Bundle`.
PyTorch's networks are those of `translation_torch.py`, with as many blocks: as in the papers, they
upsample by transposed convolutions, where ours upsample and convolve. `unet-paper` is ours without
the convolutions at full resolution that the paper's U-Net does not have.

Each variant runs in a process of its own with one thread. They take turns; the figure is the median
over the rounds of each round's median.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from children import Child, respond

HERE = pathlib.Path(__file__).resolve().parent
TORCH = ("eager", "eager-last", "compile", "compile-last")
# Side of the picture, and options of our generator.
NETS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "unet": (256, "unet", {}),
    "unet-paper": (256, "unet", {"detail": 0}),
    "translator": (256, "translator", {"width": 16, "blocks": 3}),
    "srresnet": (64, "srresnet", {"scale": 4, "blocks": 8}),
}


def answer_times(build: Callable[[], Callable[[], Any]]) -> None:
    """Runs in a child process: for each line, a number of seconds, translates for that long."""

    def start() -> Callable[[str], dict[str, Any]]:
        run = build()
        for _ in range(3):
            run()

        def compute(line: str) -> dict[str, Any]:
            times, end = [], time.perf_counter() + float(line)
            while not times or time.perf_counter() < end:
                began = time.perf_counter()
                run()
                times.append(time.perf_counter() - began)
            return {"ms": 1000 * statistics.median(times)}

        return compute

    respond(start)


def picture(side: int) -> np.ndarray:
    """Returns a picture of noise, `(1, side, side, 3)` in [-1, 1]."""
    return np.random.default_rng(0).uniform(-1, 1, (1, side, side, 3)).astype("float32")


def ours(bundle: str, side: int) -> Callable[[], Any]:
    """Returns a function that translates a picture by a bundle."""
    import serving

    opened, given = serving.Bundle(bundle, threads=1, device="cpu"), {"condition": picture(side)}
    return lambda: opened.run(given)


def export_nets(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Exports our networks; returns their bundles."""
    import export
    import keras_gan
    from keras_gan.spec import Field

    bundles = {}
    for name, (_, family, options) in NETS.items():
        shapes = {"samples": (None, None, 3), "condition": (None, None, 3)}
        spec = keras_gan.Spec(fields={key: Field("image", x) for key, x in shapes.items()})
        network = keras_gan.architectures.build_network(
            "generator", family, spec, conditions=["condition"], **options
        )
        bundles[name] = folder / name
        export.export_bundle(network, bundles[name], name=name)
    return bundles


def measure(name: str, bundle: pathlib.Path, options: argparse.Namespace) -> dict[str, float]:
    """Returns the milliseconds per picture of each variant of a network."""
    side, paths = NETS[name][0], os.pathsep.join([str(HERE.parent), str(HERE)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    programs = {"ours": [sys.executable, __file__, "--child", str(bundle), "--side", str(side)]}
    if options.torch_python and name != "unet-paper":
        script = str(HERE / "translation_speed_torch.py")
        for variant in TORCH:
            programs[variant] = [options.torch_python, script, name, variant, str(side)]
    children = [Child(key, program, environment, False) for key, program in programs.items()]
    for _ in range(options.rounds):
        for child in children:
            if child.error is None:
                child.ask(str(options.seconds))
    for child in children:
        child.end()
        if child.error is not None:
            print(f"{name} {child.variant}: {child.error}", file=sys.stderr)
    return {
        child.variant: statistics.median(each["ms"] for each in child.rounds)
        for child in children
        if child.rounds
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch-python", help="a Python that has torch")
    parser.add_argument("--core", type=int, default=0, help="the core that everything runs on")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each variant in a round")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        answer_times(lambda: ours(options.child, options.side))
        return
    os.sched_setaffinity(0, {options.core})  # which the children inherit
    with tempfile.TemporaryDirectory() as folder:
        bundles = export_nets(pathlib.Path(folder))
        found = {name: measure(name, bundle, options) for name, bundle in bundles.items()}
    found["unet-paper"] |= {key: ms for key, ms in found["unet"].items() if key != "ours"}
    for name, times in found.items():
        best = min((ms for key, ms in times.items() if key != "ours"), default=float("nan"))
        columns = "  ".join(f"{key} {ms:.1f}" for key, ms in times.items())
        print(f"{name:<11} ms: {columns}  PyTorch's best / ours {best / times['ours']:.2f}")


if __name__ == "__main__":
    main()
