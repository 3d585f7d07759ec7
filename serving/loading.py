"""Loading of a version: opens its bundle, warms it up, verifies its golden samples, measures it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from serving.bundle import Bundle
from serving.discovery import VersionFolder
from serving.engine import QUICK, Engine
from serving.errors import UsageError
from serving.limits import Settings, cpus

_GOLDEN = "golden.npz"
_MAX_GOLDEN = 64 * 2**20  # bytes
_NUM_GOLDEN = 4
_TOLERANCE = 1e-2  # share of the value range: rounding of another machine, not another model
_Run = Callable[[dict[str, np.ndarray]], np.ndarray]


class Served:
    """A version of a model: its bundle, the engine that runs it, and its description.

    Args:
        bundle: opened, with a session for each worker.
        version: number of the version.
        is_numbered: True if the folder is named by the number, so that its content never changes.
    """

    def __init__(self, bundle: Bundle, version: int, is_numbered: bool):
        self.bundle = bundle
        self.version = version
        self.is_numbered = is_numbered
        self.engine: Engine = None  # type: ignore[assignment]
        self.users = 0  # running requests that submit several jobs
        self.sample_size = math.prod(bundle.shape)
        self.formats = _formats(bundle)
        self.default_format = self.formats[0]
        self.headers = (
            f"x-model: {bundle.name}\r\nx-model-version: {version}\r\n"
            f"x-model-sha256: {bundle.sha256}\r\n"
        ).encode("ascii")
        self.counts: Any = None  # its metrics

    @property
    def busy(self) -> bool:
        """True while requests for this version are running."""
        return bool(self.users or self.engine.pending)

    def describe(self) -> dict[str, Any]:
        """Returns the entry of this version in `/v1/models`."""
        manifest, bundle = self.bundle.manifest, self.bundle
        return {
            "name": bundle.name,
            "version": self.version,
            "kind": bundle.kind,
            "shape": bundle.shape,
            "value_range": bundle.value_range,
            "latent_dim": bundle.latent_dim,
            "classes": {"count": bundle.num_classes, "names": bundle.class_names},
            "sha256": bundle.sha256,
            "license": manifest.get("license"),
            "notice": manifest.get("notice"),
            "intended_use": manifest.get("intended_use"),
            "pictures": "grid" in self.formats,
            "formats": self.formats,
        }


def _formats(bundle: Bundle) -> tuple[str, ...]:
    if bundle.kind == "image" and bundle.shape[-1] in (1, 3, 4):
        return ("png", "npy", "json", "grid")
    return ("grid", "npy", "json") if bundle.kind == "points" else ("npy", "json")


def open_bundle(found: VersionFolder, settings: Settings) -> Bundle:
    """Opens the bundle of a version, with a session for each worker.

    Raises:
        UsageError: the bundle is damaged, or its model has another name than before.
    """
    bundle = Bundle(
        found.folder,
        threads=1,
        device=settings.device,
        precision=settings.precision,
        sessions=settings.workers,
    )
    if bundle.name != found.name:
        raise UsageError(
            "The name of a model must not change. "
            f"Received: {str(found.folder)!r} with name={bundle.name!r} instead of {found.name!r}"
        )
    return bundle


def start_engine(
    bundle: Bundle,
    settings: Settings,
    loop: asyncio.AbstractEventLoop,
    observe: Callable[[int, float], None] | None,
) -> Engine:
    """Starts the engine of a bundle.

    Measures the model first. If it is slow, a session on all CPUs is added for single samples,
    provided that it is faster.
    """
    seconds, wide = math.inf, None
    if bundle.device == "cpu":
        seconds = measure(bundle.runners()[0], bundle)
        threads = min(settings.workers, cpus())
        if threads > 1 and seconds > QUICK:
            wide = bundle.wide_runner(threads)
            if measure(wide, bundle) > seconds:
                wide = None
    return Engine(
        bundle.runners(),
        bundle.latent_dim,
        bundle.num_classes,
        loop,
        max_batch=settings.max_batch,
        queue=settings.queue,
        observe=observe,
        sample_seconds=seconds,
        wide=wide,
    )


def measure(run: _Run, bundle: Bundle) -> float:
    """Returns the shortest time for one sample, of three runs after a warm-up."""
    feeds = _zeros(bundle, 1)
    run(feeds)
    found = []
    for _ in range(3):
        start = time.perf_counter()
        run(feeds)
        found.append(time.perf_counter() - start)
    return min(found)


def warm_up(bundle: Bundle, max_batch: int) -> None:
    """Runs every session with one sample and with a full batch, and verifies golden samples.

    Raises:
        UsageError: the model does not reproduce the golden samples of its bundle.
    """
    for run in bundle.runners():
        for count in (1, max_batch):
            run(_zeros(bundle, count))
    golden = _read_golden(bundle)
    if golden is None:
        return
    seeds, labels, expected = golden
    samples = bundle.sample(seeds, labels, batch_size=max_batch)["samples"]
    low, high = bundle.value_range or (float(expected.min()), float(expected.max()))
    worst = float(np.abs(samples - expected).max())
    if not worst <= _TOLERANCE * max(high - low, 1e-6):
        raise UsageError(
            "A model must reproduce the golden samples of its bundle. "
            f"Received: {str(bundle.path)!r} with a difference of {worst:.3g}"
        )


def _zeros(bundle: Bundle, count: int) -> dict[str, np.ndarray]:
    feeds: dict[str, np.ndarray] = {"latents": np.zeros((count, bundle.latent_dim), np.float32)}
    if bundle.num_classes:
        feeds["labels"] = np.zeros(count, np.int64)
    return feeds


def _read_golden(bundle: Bundle) -> tuple[np.ndarray, np.ndarray | None, np.ndarray] | None:
    """Returns the first golden seeds, labels and samples; `None` if the bundle has none.

    Raises:
        UsageError: the file is damaged.
    """
    facts = bundle.manifest["files"].get(_GOLDEN)
    path = bundle.path / _GOLDEN
    if facts is None or not path.is_file() or path.stat().st_size > _MAX_GOLDEN:
        return None
    content = path.read_bytes()
    if not isinstance(facts, dict) or hashlib.sha256(content).hexdigest() != facts.get("sha256"):
        raise UsageError(
            f"{_GOLDEN} must have the SHA-256 that manifest.json names; the bundle is damaged or "
            f"was changed. Received: {str(path)!r}"
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as golden:
            seeds, samples = golden["seeds"][:_NUM_GOLDEN], golden["samples"][:_NUM_GOLDEN]
            labels = golden["labels"][:_NUM_GOLDEN] if bundle.num_classes else None
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise UsageError(
            f"{_GOLDEN} must hold seeds and samples. Received: {str(path)!r} ({error!r:.80})"
        ) from error
    if samples.shape != (len(seeds), *bundle.shape) or not len(seeds):
        raise UsageError(
            f"{_GOLDEN} must hold samples of the shape in the manifest. "
            f"Received: {str(path)!r} with {samples.shape}"
        )
    return seeds, labels, samples
