"""Time that HTTP adds to a translation: the model alone, and POST /v1/translate, for each format.

Exports a small U-Net to a temporary folder, serves it in a process of its own, and translates one
picture by each way in turn, so that all of them see the same load of the machine. The fastest round
and the processor time depend least on that load:

    python -m benchmarks.translate_http --size 256 --rounds 100
"""

from __future__ import annotations

import argparse
import http.client
import io
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import serving

FORMATS = ("png", "jpeg", "webp")
ALONE = "model alone"
Calls = dict[str, Callable[[], object]]


def unet(widths: tuple[int, ...] = (16, 32, 64), name: str = "unet"):
    """Returns a small U-Net of plain Keras, from pictures of any even size to pictures."""
    import keras

    layers = keras.layers
    inputs = keras.Input((None, None, 3), name="condition")
    x, skips = inputs, []
    for width in widths[:-1]:
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        skips.append(x)
        x = layers.Conv2D(width, 3, 2, padding="same", activation="relu")(x)
    x = layers.Conv2D(widths[-1], 3, padding="same", activation="relu")(x)
    for width, skip in zip(widths[-2::-1], reversed(skips), strict=True):
        x = layers.Concatenate()([layers.UpSampling2D()(x), skip])
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(3, 3, padding="same", activation="tanh", name="samples")(x)
    return keras.Model(inputs, x, name=name)


def photo(size: int) -> np.ndarray:
    """Returns a picture with slopes, edges and noise, uint8 `(size, size, 3)`."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    soft = [
        128 + 60 * np.sin(x / 20) + 40 * np.cos(y / 13),
        128 + 50 * np.sin((x + y) / 31),
        60 + x / 4,
    ]
    noisy = np.stack(soft, -1) + rng.normal(0, 4, (size, size, 3))
    noisy[size // 4 : size // 2, size // 4 : size // 2] = (250, 240, 230)
    return noisy.clip(0, 255).astype(np.uint8)


class Server:
    """`keras-gan serve` of a bundle in a process of its own, for a `with` block."""

    def __init__(self, bundle: Path, workers: int):
        command = [sys.executable, "-m", "serving.cli", "serve", str(bundle), "--port", "0"]
        command += ["--no-access-log", "--workers", str(workers)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        found = re.search(r":(\d+)$", line.strip())
        if found is None:
            raise RuntimeError(f"the server did not start: {line}")
        self.connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self._process.terminate()
        self._process.wait(30)

    def cpu_seconds(self) -> float:
        """Returns the processor time of the server so far."""
        self.connection.request("GET", "/metrics")
        text = self.connection.getresponse().read().decode()
        found = re.search(r"^process_cpu_seconds_total ([\d.e+-]+)$", text, re.MULTILINE)
        if found is None:
            raise RuntimeError("the server does not report its processor time")
        return float(found[1])

    def post(self, path: str, body: bytes) -> bytes:
        """Returns the answer to one request."""
        headers = {"Content-Type": "application/octet-stream"}
        self.connection.request("POST", path, body, headers)
        response = self.connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(content.decode())
        return content


def measure(calls: Calls, rounds: int) -> dict[str, list[float]]:
    """Returns the milliseconds of each call in each round; all calls take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - start))
    return times


def parse(what: str, bundle: str, size: int, rounds: int) -> argparse.Namespace:
    """Returns the options of the command line, of which some have these defaults."""
    parser = argparse.ArgumentParser(description=f"Time that HTTP adds to a {what}.")
    parser.add_argument("bundle", nargs="?", type=Path, help=bundle)
    parser.add_argument("--size", type=int, default=size, help="height and width of the picture")
    parser.add_argument("--upload", choices=("png", "jpeg"), default="png", help="what is sent")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--workers", type=int, default=1, help="sessions of the server")
    return parser.parse_args()


def main() -> None:
    """Prints a table of medians."""
    options = parse("translation", "a translator (default: a small U-Net)", 256, 100)
    with tempfile.TemporaryDirectory() as folder:
        path = options.bundle
        if path is None:
            import export

            path = Path(folder) / "unet"
            export.export_bundle(unet(), path)
        pixels = photo(options.size)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, options.upload, quality=90)
        bundle = serving.Bundle(path, threads=1, device="cpu")
        given = {"condition": pixels[np.newaxis].astype(np.float32) / np.float32(127.5) - 1}
        with Server(path, options.workers) as server:
            calls: Calls = {ALONE: lambda: bundle.run(given)}
            for name in FORMATS:
                address = f"/v1/translate?format={name}"
                calls[name] = lambda address=address: server.post(address, buffer.getvalue())
            found = measure(calls, options.rounds)
            used = {name: processor_time(server, calls, name, options.rounds) for name in calls}
    report(options, found, used)


def processor_time(server: Server, calls: Calls, name: str, rounds: int) -> float:
    """Returns the milliseconds of processor time of a call: of the server, or of the model."""
    clock = time.process_time if name == ALONE else server.cpu_seconds
    start = clock()
    for _ in range(rounds):
        calls[name]()
    return 1000 * (clock() - start) / rounds


def report(
    options: argparse.Namespace, times: dict[str, list[float]], used: dict[str, float]
) -> None:
    """Prints the figures as a table."""
    print(f"{options.size} x {options.size} pixels, {options.rounds} rounds, ms")
    figures = {
        "median": {name: statistics.median(found) for name, found in times.items()},
        "fastest": {name: min(found) for name, found in times.items()},
        "processor": used,
    }
    print(f"{'':<12}" + "".join(f"{name:>10}{'adds':>8}" for name in figures))
    for name in times:
        values = ((found[name], found[name] - found[ALONE]) for found in figures.values())
        print(f"{name:<12}" + "".join(f"{value:10.2f}{added:8.2f}" for value, added in values))


if __name__ == "__main__":
    main()
