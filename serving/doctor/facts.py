"""Facts that the rules judge, and the findings that they return."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from serving import system_files
from serving.doctor import cuda, machine, probes, requirements
from serving.doctor.cuda import Cuda
from serving.doctor.machine import Machine
from serving.doctor.packages import Package, Packages
from serving.doctor.probes import SKIPPED, Probe

VARIABLES = ("KERAS_BACKEND", "TF_USE_LEGACY_KERAS", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


class Finding(NamedTuple):
    """Something that breaks or slows down a part.

    Args:
        level: "error": the part cannot work, or cannot use the GPU that it was installed for;
            "warning": it works, differently from what was probably meant; "note": good to know.
        concerns: "training", "serving" or "both".
        name: short name, such as "two-cudarts".
        found: one line that says what was found.
        advice: one line that says what to do.
    """

    level: str
    concerns: str
    name: str
    found: str
    advice: str


@dataclass(frozen=True)
class Facts:
    """All that is known of an environment.

    Args:
        packages: the installed packages.
        machine: the machine.
        cuda: CUDA's libraries.
        variables: the environment's variables of `VARIABLES` that are set.
        keras_json: content of Keras's configuration file; empty without one.
        keras_file: path of this file.
        probes: results of the probes by part.
        trains: True if the library, and so training, is there.
        not_checked: what was not looked at, and why.
    """

    packages: Packages
    machine: Machine
    cuda: Cuda
    variables: Mapping[str, str]
    keras_json: Mapping[str, Any]
    keras_file: Path
    probes: Mapping[str, Probe]
    trains: bool
    not_checked: list[str] = field(default_factory=list)

    @property
    def library(self) -> Package | None:
        """The metadata of keras-gan; None in a checkout that was not installed."""
        return self.packages.get("keras-gan")

    @property
    def breaks_gpu(self) -> str:
        """Level of a finding that breaks work on a GPU only."""
        return "error" if self.machine.has_gpu else "warning"

    @property
    def hides_gpus(self) -> bool:
        """True if CUDA_VISIBLE_DEVICES hides all GPUs of the machine.

        CUDA ignores the first device that it does not know, and all after it: Slurm's `NoDevFiles`.
        """
        visible = self.variables.get("CUDA_VISIBLE_DEVICES")
        if visible is None or not self.machine.has_gpu:
            return False
        first = visible.split(",")[0].strip()
        if first.isdecimal():
            is_counted = self.machine.driver != machine.UNKNOWN
            return is_counted and int(first) >= self.machine.device_files
        return not first.startswith(("GPU-", "MIG-"))

    def probe(self, part: str) -> Probe:
        """Returns the result of a probe."""
        return self.probes.get(part, SKIPPED)

    @property
    def gpus_of_tensorflow(self) -> list[str]:
        """The GPUs that TensorFlow lists."""
        devices = self.probe("training").value("tensorflow", "devices", [])
        return [device for device in devices if ":GPU:" in device]


def gather(
    folders: Sequence[Path] | None, root: Path, imports: bool = True, timeout: float = 120.0
) -> Facts:
    """Gathers the facts.

    Args:
        folders: folders of packages in place of those of this Python; None for its own.
        root: folder in which the system's files are.
        imports: imports the packages, in processes of their own.
        timeout: seconds that these may take.
    """
    packages = Packages([Path(x) for x in sys.path if x] if folders is None else folders)
    trains = packages.get("keras-gan") is not None or packages.find("keras_gan") is not None
    parts = ["training"] * trains + ["serving", "codecs"]
    results = probes.run(parts, folders, timeout) if imports else {}
    skipped = []
    if not imports:
        skipped.append("imports of the packages, devices and codecs (--no-imports)")
    if requirements.reader() is None:
        skipped.append("versions against the requirements (pip install packaging)")
    elif trains and packages.get("keras-gan") is None:
        skipped.append("requirements and extras (keras-gan is not installed: a bare checkout)")
    return Facts(
        packages=packages,
        machine=machine.read(root),
        cuda=cuda.read(packages, os.environ, root),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
        keras_json=_keras_json(_keras_file()),
        keras_file=_keras_file(),
        probes=results,
        trains=trains,
        not_checked=skipped,
    )


def _keras_file() -> Path:
    folder = os.environ.get("KERAS_HOME", os.path.join("~", ".keras"))
    return Path(os.path.expanduser(folder), "keras.json")


def _keras_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def version_of_library(facts: Facts) -> str:
    """Returns the version of keras-gan; empty where there is none, as in a serving image."""
    if facts.library is not None:
        return facts.library.version
    path = facts.packages.find("keras_gan/_version.py")
    found = re.search(r'= "([^"]+)"', system_files.read(path) if path else "")
    return found[1] if found else ""


def versions(facts: Facts) -> dict[str, str]:
    """Returns the versions of the packages that matter, Python's first."""
    names = ("tensorflow", "keras", "onnxruntime", "numpy", "protobuf", "pillow", "onnx")
    names += ("tf2onnx", "av", "ray")
    library = version_of_library(facts)
    cuda_packages = sorted(x.name for x in facts.packages if x.name.startswith("nvidia-"))
    return {
        **({"keras-gan": library} if library else {}),
        "python": platform.python_version(),
        **facts.packages.versions((*names, *cuda_packages)),
    }
