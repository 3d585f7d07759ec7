"""onnxruntime sessions of a bundle: its verified files, their options and their devices."""

from __future__ import annotations

import contextlib
import hashlib
import io
from pathlib import Path
from typing import Any

from serving import cuda
from serving.errors import UsageError, one_line
from serving.manifest import DATA, MODEL, PRECISIONS, is_plain_file

DEVICES = {
    "TensorrtExecutionProvider": "tensorrt",
    "CUDAExecutionProvider": "cuda",
    "CPUExecutionProvider": "cpu",
}
# onnxruntime's names of types; those of the others are numpy's.
_TYPES = {"float32": "float", "float64": "double"}


class ModelFiles:
    """The model of a bundle, its bytes verified by the SHA-256 in the manifest.

    Args:
        folder: folder of the bundle.
        manifest: its checked manifest.
        precision: a name of `serving.manifest.PRECISIONS`.

    Raises:
        UsageError: the bundle has no model of this precision.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], precision: str):
        self.name = _choose(folder, manifest, precision)
        self.path = folder / self.name
        self.sha256: str = manifest["files"][self.name]["sha256"]
        self._manifest = manifest

    def read(self) -> tuple[bytes, bytes]:
        """Reads and verifies the model and its external weights.

        Raises:
            UsageError: a file is missing, is a link, or was changed.
        """
        folder, manifest = self.path.parent, self._manifest
        has_data = self.name == MODEL and DATA in manifest["files"]
        data = read_file(folder, manifest, DATA) if has_data else b"\0"
        return read_file(folder, manifest, self.name), data

    def read_other(self, name: str) -> bytes:
        """Reads and verifies another file of the bundle.

        Raises:
            UsageError: the manifest does not list it, or as for `read`.
        """
        if name not in self._manifest["files"]:
            raise UsageError(
                f"A bundle of this kind must hold {name}. Received: {str(self.path.parent)!r}"
            )
        return read_file(self.path.parent, self._manifest, name)


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


def read_file(folder: Path, manifest: dict[str, Any], name: str) -> bytes:
    """Returns the bytes of a file of a bundle, verified by the SHA-256 in the manifest.

    Raises:
        UsageError: the file is missing, is a link, or was changed.
    """
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


def open_session(
    model: bytes, data: bytes, path: Path, threads: int | None, device: str, shared: bool = False
) -> Any:
    """Opens a session of onnxruntime.

    Args:
        model: the verified bytes of the model.
        data: those of its external weights.
        path: file of the model, for errors.
        threads: threads for one operation; by default onnxruntime chooses.
        device: as for `Bundle`.
        shared: other sessions use the same CPUs.

    Raises:
        UsageError: the model does not load, or the device cannot be used.
    """
    import onnxruntime

    if device not in ("auto", *DEVICES.values()):
        raise UsageError(
            f"`device` must be auto, {', '.join(DEVICES.values())}. Received: device={device!r}"
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
    providers, reason = _providers(device, onnxruntime)
    try:
        with _quiet(onnxruntime) if len(providers) > 1 else contextlib.nullcontext():
            session = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # onnxruntime has a class for each failure
        line = one_line(error)
        raise UsageError(
            f"{path.name} must load in onnxruntime. Received: {str(path.parent)!r} ({line})"
        ) from error
    if device not in ("auto", DEVICES[session.get_providers()[0]]):
        library = "TensorRT" if device == "tensorrt" else "CUDA"
        raise UsageError(
            f"device={device!r} needs a GPU, its driver, and onnxruntime-gpu with its {library} "
            f"libraries. Received: {reason}"
        )
    return session


def _providers(device: str, onnxruntime: Any) -> tuple[list[str], str]:
    """Returns the providers to try, and why those of the GPU may be missing from the session.

    TensorRT is tried on request only, as it takes minutes to start.
    """
    wanted = {"tensorrt": list(DEVICES)[:2], "cuda": list(DEVICES)[1:2], "cpu": []}
    wanted["auto"] = wanted["cuda"]
    if not wanted[device] or not cuda.has_driver():
        return ["CPUExecutionProvider"], "no CUDA driver on this machine"
    if reason := cuda.obstacle(getattr(onnxruntime, "cuda_version", None)):
        return ["CPUExecutionProvider"], reason
    available = onnxruntime.get_available_providers()
    found = [name for name in wanted[device] if name in available]
    return [*found, "CPUExecutionProvider"], "libraries that do not load on this machine"


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


def check_ports(bundle: Any, session: Any) -> None:
    """Checks that the manifest describes the model beside it: names, types and sizes.

    Args:
        bundle: the bundle that is opened.
        session: a session of its model.

    Raises:
        UsageError: another input or output than the manifest declares.
    """
    for field, ports, found in (
        ("inputs", bundle.inputs.ports, session.get_inputs()),
        ("outputs", bundle.outputs, session.get_outputs()),
    ):
        declared = {port.name: port for port in ports}
        fits = {x.name for x in found} == declared.keys()
        for x in found if fits else ():
            port = declared[x.name]
            # onnxruntime names a free dimension, or leaves it without a name.
            sizes = tuple(n if isinstance(n, int) else None for n in x.shape)
            fits &= x.type == f"tensor({_TYPES.get(port.dtype, port.dtype)})"
            fits &= sizes[1:] == port.sizes
        if not fits:
            raise UsageError(
                "A manifest must describe the model beside it. "
                f"Received: {str(bundle.path)!r} with {field}={bundle.manifest[field]!r:.80}"
            )
