"""Loading of a version: opens its bundle, warms it up, verifies its golden samples, measures it."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from serving import animations, film_files, kinds
from serving.acting import Policy
from serving.bundle import Bundle, Run
from serving.classification import Classifier
from serving.discovery import VersionFolder
from serving.endless import VideoFacts, VideoStream
from serving.engine import QUICK, Engine
from serving.errors import UsageError
from serving.feeds import choose_feeds
from serving.golden import read_golden
from serving.inputs import Port, resolve
from serving.limits import Settings
from serving.processor import cpus
from serving.texts import TextSampler
from serving.vocoding import Vocoder

_ANY_SIZE = 64  # of a warm-up where any size goes: divisible by the usual strides
COMMON = ("npy", "npz", "json", "grid")  # formats of responses that every kind has


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
        self.sizes = OutputSizes(bundle)
        self.kind = kinds.get(bundle.kind)
        self.files = {x: self.kind.all_formats()[x] for x in self.kind.written}  # by format
        self.line_formats = tuple(x for x, form in self.files.items() if form.lines)
        self.formats = (*self.files, *(x for x in COMMON if x not in self.files))
        self.default_format = next(iter(self.files), self.kind.shown_as)
        self.animations = animations.available() if self.kind.is_animated else []
        self.headers = (
            f"x-model: {bundle.name}\r\nx-model-version: {version}\r\n"
            f"x-model-sha256: {bundle.sha256}\r\n"
        ).encode("ascii")
        self.tag = f"{bundle.sha256} {bundle.name} {version} ".encode("ascii")  # start of ETags
        self.examples: list[bytes] = []  # pictures to try a translator with, as PNG files
        self.counts: Any = None  # its metrics
        self.has_warned = False  # the log has a line on samples that are not finite

    @property
    def translation(self) -> dict[str, Any] | None:
        """Facts of the manifest about pictures of any size; `None` for other networks."""
        return self.bundle.manifest.get("translation")

    @property
    def classifier(self) -> Classifier | None:
        """Facts about a classifier; `None` for other networks."""
        return self.bundle.classifier

    @property
    def vocoder(self) -> Vocoder | None:
        """Facts about a vocoder; `None` for other networks."""
        return self.bundle.vocoder

    @property
    def video(self) -> VideoFacts | None:
        """Facts about a generator of videos of any number of frames; `None` for other networks."""
        return self.bundle.video

    @functools.cached_property
    def video_stream(self) -> VideoStream:
        """Graph of the next frames, with one thread; the first access opens it, beside the loop."""
        return VideoStream(self.bundle, threads=1)

    @property
    def policy(self) -> Policy | None:
        """Facts about a policy; `None` for other networks."""
        return self.bundle.policy

    @property
    def text_sampler(self) -> TextSampler | None:
        """Facts about a sampler of texts; `None` for other networks."""
        return self.bundle.text_sampler

    @property
    def busy(self) -> bool:
        """True while requests for this version are running."""
        return bool(self.users or self.engine.pending)

    @property
    def shows_pictures(self) -> bool:
        """True if the default format is a picture."""
        form = self.files.get(self.default_format)
        return self.default_format == "grid" if form is None else form.media_type[:6] == "image/"

    def describe(self, settings: Settings) -> dict[str, Any]:
        """Returns the entry of this version in `/v1/models`."""
        manifest, bundle = self.bundle.manifest, self.bundle
        return {
            "name": bundle.name,
            "version": self.version,
            "role": bundle.role,
            "inputs": manifest["inputs"],
            "outputs": manifest["outputs"],
            "kind": bundle.kind,
            "shape": bundle.shape,
            "value_range": bundle.value_range,
            "latent_dim": bundle.latent_dim,
            "classes": {"count": bundle.num_classes, "names": bundle.class_names},
            "sha256": bundle.sha256,
            "license": manifest.get("license"),
            "notice": manifest.get("notice"),
            "intended_use": manifest.get("intended_use"),
            "pictures": self.shows_pictures,
            "formats": self.formats,
            "default_format": self.default_format,
            "line_formats": self.line_formats,
            "translation": self.translation,
            "classifier": None if self.classifier is None else self.classifier.describe(),
            "vocoder": None if self.vocoder is None else self.vocoder.describe(),
            "video": self._describe_video(settings),
            "policy": None if self.policy is None else self.policy.describe(),
            "texts": None if self.text_sampler is None else self.text_sampler.describe(),
            "examples": len(self.examples),
            "animations": {"formats": self.animations, "max_frames": self._max_frames(settings)},
        }

    def _describe_video(self, settings: Settings) -> dict[str, Any] | None:
        if self.video is None:
            return None
        formats = {"formats": film_files.available(), "streamed": film_files.available(True)}
        most = min(self.video.describe()["max_frames"], settings.max_stream)
        return self.video.describe() | formats | {"max_frames": most}

    def _max_frames(self, settings: Settings) -> int | None:
        """Returns the most frames of an animation; `None` where samples may have any size."""
        if not self.animations or is_dynamic(self.bundle):
            return None
        pixels = math.prod(self.kind.sheet_size(1, self.sizes.shape({})))
        return min(settings.max_count, settings.max_values // max(pixels, self.sizes.values({})))


class OutputSizes:
    """Number of values in the outputs of a network, before it runs.

    Args:
        bundle: the opened bundle.
    """

    def __init__(self, bundle: Bundle):
        self._outputs = bundle.outputs
        self._is_dynamic = any(port.is_dynamic for port in bundle.outputs)
        self._static = 0 if self._is_dynamic else self._count({})
        self._factors: dict[str, float] = {}

    def learn(self, given: Mapping[str, int], outputs: Sequence[np.ndarray]) -> None:
        """Learns the sizes that inputs do not name, such as samples of sound per frame.

        They are assumed to be proportional to the largest named size of the inputs.
        """
        for port, output in zip(self._outputs, outputs, strict=True):
            for name, size in zip(port.shape, output.shape[1:], strict=True):
                if isinstance(name, str) and name not in given:
                    self._factors[name] = size / max(given.values(), default=1)

    def values(self, given: Mapping[str, int]) -> int:
        """Returns the number of values of one sample in all outputs.

        Args:
            given: the named sizes of the given inputs.
        """
        return self._count(given) if self._is_dynamic else self._static

    def shape(self, given: Mapping[str, int]) -> tuple[int, ...]:
        """Returns the shape of one sample of the first output."""
        return self._resolve(self._outputs[0], given)

    def _count(self, given: Mapping[str, int]) -> int:
        return sum(math.prod(self._resolve(port, given)) for port in self._outputs)

    def _resolve(self, port: Port, given: Mapping[str, int]) -> tuple[int, ...]:
        largest = max(given.values(), default=1)
        shape = []
        for size in port.shape:
            if isinstance(size, str) and size not in given:
                shape.append(math.ceil(largest * self._factors.get(size, 1.0)))
            else:
                shape.append(given[size] if isinstance(size, str) else size)
        return tuple(shape)


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
    # The time of a network of any size depends on the request, and remains unknown.
    if bundle.device == "cpu" and not is_dynamic(bundle):
        seconds = measure(bundle.runners()[0], bundle)
        threads = min(settings.workers, cpus())
        if threads > 1 and seconds > QUICK:
            wide = bundle.wide_runner(threads)
            if measure(wide, bundle) > seconds:
                wide = None
    return Engine(
        bundle.runners(),
        choose_feeds(bundle.inputs),
        loop,
        max_batch=settings.max_batch,
        queue=settings.queue,
        observe=observe,
        sample_seconds=seconds,
        wide=wide,
    )


def measure(run: Run, bundle: Bundle) -> float:
    """Returns the shortest time for one sample, of three runs after a warm-up."""
    feeds = zeros(bundle, 1)
    run(feeds)
    found = []
    for _ in range(3):
        start = time.perf_counter()
        run(feeds)
        found.append(time.perf_counter() - start)
    return min(found)


def warm_up(bundle: Bundle, max_batch: int, sizes: OutputSizes | None = None) -> None:
    """Runs every session with one sample and with a full batch, and verifies golden samples.

    Args:
        bundle: the opened bundle.
        max_batch: samples in a full batch.
        sizes: learns the sizes of the outputs.

    Raises:
        UsageError: the model does not reproduce the golden samples of its bundle.
    """
    golden = read_golden(bundle)
    named = _SizeOfAny() if golden is None else golden.sizes
    for run in bundle.runners():
        for count in (1, max_batch):
            feeds = zeros(bundle, count, named)
            outputs = run(feeds)
        if sizes is not None:
            sizes.learn(bundle.inputs.named_sizes(feeds), outputs)
    if golden is not None:
        golden.compare(bundle, max_batch)


class _SizeOfAny(dict[str, int]):
    """A size for every name, for a run before anything is known of the network."""

    def __missing__(self, name: str) -> int:
        return _ANY_SIZE

    def __contains__(self, name: object) -> bool:
        return True


def is_dynamic(bundle: Bundle) -> bool:
    """Returns True if an input or an output may have any size."""
    return any(port.is_dynamic for port in (*bundle.inputs.ports, *bundle.outputs))


def zeros(
    bundle: Bundle, count: int, sizes: Mapping[str, int] | None = None
) -> dict[str, np.ndarray]:
    """Returns arrays of zeros for all inputs, and constants in the place of constants."""
    sizes = _SizeOfAny() if sizes is None else sizes
    given = {
        port.name: np.zeros((count, *resolve(port, sizes)), port.dtype)
        for port in bundle.inputs.ports
        if port.fill != "constant"
    }
    return bundle.inputs.fill(np.zeros(count, np.int64), given=given)
