"""Bundles, opened for sampling with onnxruntime."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.checks import check_label_count
from serving.errors import UsageError, short_repr
from serving.manifest import DATA, KINDS, MODEL, PRECISIONS, is_plain_file, read_manifest
from serving.seeds import check_seeds, labels_from_seeds, latents_from_seeds

_DEVICES = {
    "TensorrtExecutionProvider": "tensorrt",
    "CUDAExecutionProvider": "cuda",
    "CPUExecutionProvider": "cpu",
}


class Bundle:
    """A generator that maps seeds to samples, in onnxruntime.

    Args:
        path: folder of a bundle, of a run that holds one in `bundle/`, or of several versions, of
            which the latest is opened.
        threads: threads for one operation; by default onnxruntime chooses.
        device: `"auto"` (a GPU if onnxruntime can use one, else the CPU), `"cpu"`, `"cuda"` or
            `"tensorrt"`.
        precision: `"float32"`; or `"float16"` (for GPUs) or `"int8"` (for CPUs) if the bundle was
            exported with it.
        sessions: number of onnxruntime sessions for `runners`; on a GPU always 1.

    Raises:
        UsageError: the folder is not a bundle, its manifest or model is damaged, or it has no
            model of this precision.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        device: str = "auto",
        precision: str = "float32",
        sessions: int = 1,
    ):
        self.path = _find(Path(path))
        self.manifest = read_manifest(self.path)
        self.name: str = self.manifest["name"]
        self.kind: str = self.manifest["kind"]
        self.shape: tuple[int, ...] = tuple(self.manifest["shape"])
        self.latent_dim: int = self.manifest["latent_dim"]
        self.num_classes: int = self.manifest["classes"]["count"]
        self.class_names: tuple[str, ...] = tuple(self.manifest["classes"]["names"])
        limits = self.manifest["value_range"]
        self.value_range: tuple[float, float] | None = None if limits is None else tuple(limits)
        self.precision = precision
        self.file = _choose(self.path, self.manifest, precision)
        self.sha256: str = self.manifest["files"][self.file]["sha256"]
        _check_inputs(self.path, self.manifest)
        model, data = self._read_model()
        self._session = _open_session(model, data, self.path / self.file, threads, device)
        self._check_model()
        self._sessions = [self._session]
        # One for each thread of the caller, from the same verified bytes.
        while len(self._sessions) < sessions and self.device == "cpu":
            session = _open_session(model, data, self.path / self.file, threads, device)
            self._sessions.append(session)

    def _read_model(self) -> tuple[bytes, bytes]:
        has_data = self.file == MODEL and DATA in self.manifest["files"]
        data = _read_file(self.path, self.manifest, DATA) if has_data else b"\0"
        return _read_file(self.path, self.manifest, self.file), data

    def _check_model(self) -> None:
        """Checks that the manifest describes the model beside it."""
        inputs = {x.name: (x.type, x.shape[1:]) for x in self._session.get_inputs()}
        outputs = {x.name: (x.type, x.shape[1:]) for x in self._session.get_outputs()}
        expected: dict[str, Any] = {"latents": ("tensor(float)", [self.latent_dim])}
        expected |= {"labels": ("tensor(int64)", [])} if self.num_classes else {}
        kind, shape = outputs.get("samples", ("", None))
        for field, fits in (
            ("kind", KINDS[self.kind] in (None, len(self.shape))),
            ("classes", inputs.keys() == expected.keys()),
            ("latent_dim", inputs.get("latents", ("", None))[1] == [self.latent_dim]),
            ("inputs", inputs == expected),
            ("shape", shape == list(self.shape)),
            ("outputs", kind == "tensor(float)"),
        ):
            if not fits:
                raise UsageError(
                    "A manifest must describe the model beside it. "
                    f"Received: {str(self.path)!r} with {field}={self.manifest.get(field)!r:.80}"
                )

    @property
    def device(self) -> str:
        """Device that runs the model: `"cuda"`, `"tensorrt"` or `"cpu"`."""
        return _DEVICES.get(self._session.get_providers()[0], "cpu")

    def runners(self) -> list[Callable[[dict[str, np.ndarray]], np.ndarray]]:
        """Returns a callable from feeds to samples for each session, to run in threads."""
        return [functools.partial(self._run, session=session) for session in self._sessions]

    def wide_runner(self, threads: int) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
        """Returns one more such callable, with a session of several threads on the CPU.

        Raises:
            UsageError: the files have changed since the bundle was opened.
        """
        model, data = self._read_model()
        session = _open_session(model, data, self.path / self.file, threads, "cpu", shared=True)
        return functools.partial(self._run, session=session)

    def generate(
        self,
        seeds: Any,
        labels: Any = None,
        truncation: float = 1.0,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Generates the sample that each seed names.

        Args:
            seeds: integers, each `0 <= seed < 2**63`.
            labels: class ids or names, one for all or one for each seed; by default the seed
                modulo the number of classes.
            truncation: factor on the latents, 0 or more; below 1, samples are more typical and
                less varied.
            batch_size: samples per run of the model.

        Returns:
            float32 array of shape `(len(seeds), *shape)`.

        Raises:
            UsageError: a seed, label, truncation or batch size that is not allowed.
        """
        return self.sample(seeds, labels, truncation, batch_size)["samples"]

    def sample(
        self,
        seeds: Any,
        labels: Any = None,
        truncation: float = 1.0,
        batch_size: int = 64,
    ) -> dict[str, np.ndarray]:
        """Generates samples, and returns them with their inputs.

        Takes the arguments of `generate`.

        Returns:
            `samples`, `seeds`, `latents` and, for a conditional generator, `labels`.

        Raises:
            UsageError: as for `generate`.
        """
        if not (isinstance(batch_size, int | np.integer) and batch_size >= 1):
            raise UsageError(
                f"`batch_size` must be at least 1. Received: batch_size={batch_size!r}"
            )
        if not (math.isfinite(truncation) and truncation >= 0):
            raise UsageError(f"`truncation` must be 0 or more. Received: truncation={truncation!r}")
        seeds = check_seeds(seeds)
        latents = latents_from_seeds(seeds, self.latent_dim) * np.float32(truncation)
        feeds = {"latents": latents}
        if (ids := self.label_ids(seeds, labels)) is not None:
            feeds["labels"] = ids
        samples = np.empty((len(seeds), *self.shape), np.float32)
        for start in range(0, len(seeds), batch_size):
            rows = slice(start, start + batch_size)
            batch = {name: value[rows] for name, value in feeds.items()}
            samples[rows] = self._run(batch)
        return {"samples": samples, "seeds": seeds, **feeds}

    def _run(self, feeds: dict[str, np.ndarray], session: Any = None) -> np.ndarray:
        try:
            samples = (session or self._session).run(["samples"], feeds)[0]
        except Exception as error:  # onnxruntime has a class for each failure
            line = " ".join(str(error).split())[:200]
            raise UsageError(
                f"{self.file} must run in onnxruntime. Received: {str(self.path)!r} ({line})"
            ) from error
        if samples.shape != (len(feeds["latents"]), *self.shape):
            raise UsageError(
                f"{self.file} must return samples of the shape in the manifest. "
                f"Received: {str(self.path)!r} with samples of {samples.shape}"
            )
        return samples

    def label_ids(self, seeds: np.ndarray, labels: Any = None) -> np.ndarray | None:
        """Returns the class id of each sample, `None` for a generator without labels.

        Args:
            seeds: array `(batch,)`; sets the number of samples and the default labels.
            labels: class ids or names, one for all or one for each; `None` for the default.

        Raises:
            UsageError: labels for a generator without labels, an unknown class, or the wrong
                number of labels.
        """
        if not self.num_classes:
            if labels is not None:
                raise UsageError(
                    f"Bundle {self.name!r} takes no labels. Received: labels={short_repr(labels)}"
                )
            return None
        if labels is None:
            return labels_from_seeds(seeds, self.num_classes)
        is_list = isinstance(labels, Sequence | np.ndarray) and not isinstance(labels, str)
        given = labels if is_list else [labels]
        check_label_count(len(given), len(seeds))
        ids = np.array([self._class_id(x) for x in given], np.int64)
        return np.broadcast_to(ids, len(seeds)).copy()

    def _class_id(self, label: Any) -> int:
        if isinstance(label, str) and label in self.class_names:
            return self.class_names.index(label)
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            number = int(label)
            if number == (float(label) if not isinstance(label, str) else number) and (
                0 <= number < self.num_classes
            ):
                return number
        names = f" or one of {', '.join(self.class_names)}" if self.class_names else ""
        raise UsageError(
            f"A label must be 0 to {self.num_classes - 1}{names}. "
            f"Received: label={str(label)!r:.80}"
        )


def _find(path: Path) -> Path:
    for folder in (path, path / "bundle", path / "latest"):
        if os.path.isfile(folder / "manifest.json"):  # pathlib's raises PermissionError
            # Resolves `latest` once: it must not change between two reads.
            return Path(os.path.realpath(folder)) if folder.name == "latest" else folder
    if os.path.isfile(path):
        rule = "A bundle is the folder that holds manifest.json, not a file in it."
    elif os.path.isdir(path):
        rule = "A bundle is a folder with a manifest.json, or has one in its folder bundle/."
    else:
        rule = "A bundle must exist."
    raise UsageError(f"{rule} Received: {str(path)!r}")


def _choose(folder: Path, manifest: dict[str, Any], precision: str) -> str:
    """Returns the model file of a precision."""
    files = {name: file for name, file in PRECISIONS.items() if file in manifest["files"]}
    if precision in files:
        return files[precision]
    hint = f": keras-gan export --precision {precision}" if precision in PRECISIONS else ""
    raise UsageError(
        f"`precision` must be one that the bundle was exported with{hint}. Received: "
        f"precision={precision!r:.80}, {str(folder)!r} with {', '.join(files)}"
    )


def _check_inputs(folder: Path, manifest: dict[str, Any]) -> None:
    """Checks that seeds and labels determine all inputs of the generator."""
    extra = [port for port in manifest["inputs"] if port["name"] not in ("latents", "labels")]
    if extra:
        names = ", ".join(f"{port['name']!r:.80} {port['shape']!r:.80}" for port in extra[:3])
        raise UsageError(
            "Only a generator of latents and labels can be sampled by seeds; run others with "
            "model.onnx in onnxruntime, or with the SavedModel. "
            f"Received: {str(folder)!r} with the input {names}"
        )


def _read_file(folder: Path, manifest: dict[str, Any], name: str) -> bytes:
    path = folder / name
    expected = manifest["files"][name]
    try:
        plain = is_plain_file(path)
        # Size first: a damaged file may be larger than the memory.
        fits = plain and path.stat().st_size == expected["bytes"]
        content = path.read_bytes() if fits else b""
    except OSError as error:
        raise UsageError(
            f"A bundle must hold {name}. Received: {str(path)!r} ({error.strerror})"
        ) from error
    if not plain:
        raise UsageError(f"A bundle must hold plain files, not links. Received: {str(path)!r}")
    if not fits or hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise UsageError(
            f"{name} must have the SHA-256 that manifest.json names; the bundle is damaged or "
            f"was changed. Received: {str(path)!r}"
        )
    return content


def _open_session(
    model: bytes, data: bytes, path: Path, threads: int | None, device: str, shared: bool = False
) -> Any:
    import onnxruntime

    if device not in ("auto", *_DEVICES.values()):
        raise UsageError(
            f"`device` must be auto, {', '.join(_DEVICES.values())}. Received: device={device!r}"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # External weights come from these verified bytes only: given a table of files, onnxruntime
    # opens none of the files that a model names.
    options.add_external_initializers_from_files_in_memory([DATA], [data], [len(data)])
    # CPUs with AVX2 but without VNNI would saturate the sums of two int8 products at 16 bits.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if threads:
        options.intra_op_num_threads = threads
    if shared:  # threads that spin after a run would take CPU time from other sessions
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads == 1:  # spinning for other threads would only waste CPU time
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(device, onnxruntime.get_available_providers())
    try:
        with _quiet(onnxruntime) if len(providers) > 1 else contextlib.nullcontext():
            session = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # onnxruntime has a class for each failure
        line = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{path.name} must load in onnxruntime. Received: {str(path.parent)!r} ({line})"
        ) from error
    if device not in ("auto", _DEVICES[session.get_providers()[0]]):
        library = "TensorRT" if device == "tensorrt" else "CUDA"
        raise UsageError(
            f"device={device!r} needs a GPU, its driver, and onnxruntime-gpu with its {library} "
            "libraries. Received: libraries that do not load on this machine"
        )
    return session


def _providers(device: str, available: Sequence[str]) -> list[str]:
    """Returns the providers to try; TensorRT on request only, as it takes minutes to start."""
    wanted = {"tensorrt": list(_DEVICES)[:2], "cuda": list(_DEVICES)[1:2], "cpu": []}
    wanted["auto"] = wanted["cuda"]
    if not _has_cuda_driver():
        return ["CPUExecutionProvider"]
    return [x for x in wanted[device] if x in available] + ["CPUExecutionProvider"]


def _has_cuda_driver() -> bool:
    """Looks for the CUDA driver, without which onnxruntime would print an error."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _quiet(onnxruntime: Any):
    """Loads CUDA's libraries, and suppresses what onnxruntime prints if that fails."""
    onnxruntime.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if hasattr(onnxruntime, "preload_dlls"):
                onnxruntime.preload_dlls()
            yield
    finally:
        onnxruntime.set_default_logger_severity(2)
