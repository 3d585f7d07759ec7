"""Reports of `keras-gan doctor`: text, three lines, and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from serving import processor
from serving.doctor import requirements
from serving.doctor.facts import Facts, Finding, version_of_library, versions
from serving.doctor.tested import TESTED

SCHEMA = 1
GIB = 2**30
_MOST_NAMES = 3  # of packages or findings in one line
_PROVIDERS = {
    "CUDAExecutionProvider": "the GPU (CUDA)",
    "TensorrtExecutionProvider": "the GPU (TensorRT)",
    "CPUExecutionProvider": "the CPU",
}


def outcome(facts: Facts, findings: Sequence[Finding], part: str) -> str:
    """Returns "works", "fails", "not tried" or "not installed" for training or serving."""
    if part == "training" and not facts.trains:
        return "not installed"
    if any(x.level == "error" and x.concerns in (part, "both") for x in findings):
        return "fails"
    return "works" if facts.probe(part).status == "ok" else "not tried"


def extras(facts: Facts) -> dict[str, dict[str, Any]]:
    """Returns what each extra of keras-gan lacks, and the command that installs it."""
    library = facts.library
    if library is None:
        return {}
    found = {}
    for extra in library.extras:
        lacks = requirements.unmet(facts.packages, library.requires, extra)
        found[extra] = {
            "lacks": [_lack(x) for x in lacks],
            "command": f"pip install 'keras-gan[{extra}]'" if lacks else "",
        }
    return found


def _lack(one: requirements.Unmet) -> str:
    return f"{one.requirement} ({one.installed} is installed)" if one.installed else one.requirement


def automatic_precision(facts: Facts) -> str:
    """Returns what `precision: auto` becomes on this machine."""
    return processor.automatic_precision(facts.machine.flags, _trains_on_gpu(facts))


def _trains_on_gpu(facts: Facts) -> bool:
    if facts.probe("training").status == "ok":
        return bool(facts.gpus_of_tensorflow)
    return facts.machine.has_gpu


def as_json(facts: Facts, findings: Sequence[Finding]) -> dict[str, Any]:
    """Returns facts and findings as one object (docs/doctor.md)."""
    return {
        "schema": SCHEMA,
        "training": outcome(facts, findings, "training"),
        "serving": outcome(facts, findings, "serving"),
        "findings": [x._asdict() for x in findings],
        "versions": versions(facts),
        "machine": facts.machine.as_dict(),
        "precision_auto": automatic_precision(facts),
        "int8_pays_off": processor.multiplies_bytes(facts.machine.flags),
        "cuda": facts.cuda.as_dict(),
        "extras": extras(facts),
        "variables": dict(facts.variables),
        "imports": {part: probe._asdict() for part, probe in facts.probes.items()},
        "not_checked": facts.not_checked,
    }


# ----------------------------------------------------------------------- three lines


def brief(facts: Facts, findings: Sequence[Finding]) -> list[str]:
    """Returns the three lines for a bug report: versions, machine, findings."""
    machine = facts.machine
    present = [x for x, has in processor.features(machine.flags).items() if has]
    devices = [machine.system, f"{machine.processor}, {machine.cpus} CPUs ({_listed(present)})"]
    devices.append(f"memory {_gib(machine.memory)}")
    devices.append(f"GPU {_gpu(facts)}")
    if facts.trains:
        devices.append(f"TensorFlow {_tensorflow_devices(facts)}")
    devices.append(f"onnxruntime {_provider(facts)}")
    parts = [f"{x.level} {x.name} ({x.concerns})" for x in findings]
    outcomes = f"training {outcome(facts, findings, 'training')}, serving "
    outcomes += outcome(facts, findings, "serving")
    return [
        "Versions: " + ", ".join(f"{k} {v}" for k, v in versions(facts).items()),
        "Machine: " + "; ".join(devices),
        f"Findings: {', '.join(parts) or 'none'}; {outcomes}",
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no known features"


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / GIB:.1f} GiB"


def _gpu(facts: Facts) -> str:
    machine = facts.machine
    if not machine.driver and not machine.lists_gpus:
        return "not listed by this system"
    if not machine.driver:
        return "none (NVIDIA's driver was not found)"
    count = machine.device_files
    names = _listed(machine.gpus) if machine.gpus else f"{count} device" + "s" * (count != 1)
    return f"{names}, driver {machine.driver}"


def _tensorflow_devices(facts: Facts) -> str:
    if facts.probe("training").value("tensorflow", "version") is None:
        return _not_seen(facts, "training")
    gpus = facts.gpus_of_tensorflow
    return f"on {len(gpus)} GPU" + "s" * (len(gpus) > 1) if gpus else "on the CPU"


def _not_seen(facts: Facts, part: str) -> str:
    return "not tried" if facts.probe(part).status == "skipped" else "did not start"


def _provider(facts: Facts) -> str:
    provider = facts.probe("serving").value("a session of onnxruntime", "provider", "")
    if not provider:
        return _not_seen(facts, "serving")
    return f"on {_PROVIDERS.get(provider, provider)}"


# ------------------------------------------------------------------------------ text


def text(facts: Facts, findings: Sequence[Finding]) -> str:
    """Returns the report for people."""
    sections = {
        "Packages": _packages(facts),
        "Machine": _machine(facts),
        "Extras": _extras(facts),
        "Findings": _findings(findings),
    }
    lines = []
    for title, rows in sections.items():
        lines += [title, *(f"  {row}" if row else "" for row in rows), ""]
    for skipped in facts.not_checked:
        lines.append(f"Not checked: {skipped}.")
    for part in ("training", "serving"):
        lines.append(f"{part.capitalize()}: {_sentence(facts, findings, part)}.")
    return "\n".join(lines)


def _sentence(facts: Facts, findings: Sequence[Finding], part: str) -> str:
    found = outcome(facts, findings, part)
    errors = [x.name for x in findings if x.level == "error" and x.concerns in (part, "both")]
    see = ", ".join(errors[:_MOST_NAMES])
    if len(errors) > _MOST_NAMES:
        see += f" and {len(errors) - _MOST_NAMES} other errors"
    device = _tensorflow_devices(facts) if part == "training" else _provider(facts)
    return {
        "works": f"works, {device}",
        "fails": f"cannot work: {see}",
        "not tried": "not tried; no error was found in what was checked",
        "not installed": "not installed here (no keras_gan)",
    }[found]


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0)
    return [f"{name:<{width}}  {value}".rstrip() for name, value in rows]


def _packages(facts: Facts) -> list[str]:
    remarks = {}
    probe, cuda = facts.probe("training"), facts.cuda
    if facts.trains and (build := probe.value("tensorflow", "cuda") or cuda.tensorflow):
        remarks["tensorflow"] = f"built for CUDA {build}"
    if cuda.onnxruntime_package:
        build = f"built for CUDA {cuda.onnxruntime}" if cuda.onnxruntime else "built for the CPU"
        remarks[cuda.onnxruntime_package] = build
    for name, tested in TESTED.items():
        if facts.trains:
            remarks[name] = ", ".join(filter(None, (remarks.get(name), f"tested: {tested}")))
    rows = []
    for name, version in versions(facts).items():
        remark = f" ({remarks[name]})" if name in remarks else ""
        rows.append((name, f"{version}{remark}"))
    if not version_of_library(facts):
        rows.insert(0, ("keras-gan", "not installed: this is serving/ alone"))
    return _table(rows)


def _machine(facts: Facts) -> list[str]:
    machine = facts.machine
    has = processor.features(machine.flags).items()
    features = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in has)
    rows = [
        ("system", machine.system),
        ("processor", f"{machine.processor}, {machine.cpus} CPUs"),
        ("features", features if machine.flags else "not listed by this system"),
        ("GPU", _gpu(facts)),
    ]
    if facts.trains:
        rows.append(("TensorFlow", _tensorflow_devices(facts)))
    rows.append(("onnxruntime", _provider(facts)))
    if facts.trains:
        rows.append(("precision: auto", _precision(facts)))
    rows.append(("int8", _int8(facts)))
    rows.append(("memory", f"{_gib(machine.free_memory)} free of {_gib(machine.memory)}"))
    rows += [("disk", f"{_gib(free)} free in {place}") for place, free in machine.disk.items()]
    return _table(rows)


def _precision(facts: Facts) -> str:
    chosen = automatic_precision(facts)
    if _trains_on_gpu(facts):
        return f"{chosen}, as there is a GPU"
    if chosen == "bfloat16":
        return "bfloat16, measured about twice as fast as float32 on such CPUs"
    return "float32, as this CPU has no native bfloat16 products"


def _int8(facts: Facts) -> str:
    if processor.multiplies_bytes(facts.machine.flags):
        return "model.int8.onnx is made for this CPU: it has VNNI or AMX"
    if not facts.machine.flags:
        return "model.int8.onnx is made for CPUs with VNNI or AMX"
    return "model.int8.onnx gains little, as this CPU has neither VNNI nor AMX (docs/bundle.md)"


def _extras(facts: Facts) -> list[str]:
    if facts.library is None:
        return ["unknown: the metadata of keras-gan is not installed here"]
    rows = []
    for name, found in extras(facts).items():
        lacks = found["lacks"]
        # Without the bounds of what is missing; "name>=2 (name 1 is installed)" keeps them.
        names = [x if " " in x else re.split("[<>=~!]", x)[0] for x in lacks[:_MOST_NAMES]]
        shown = ", ".join(names)
        if len(lacks) > _MOST_NAMES:
            shown += f" and {len(lacks) - _MOST_NAMES} others"
        rows.append((name, f"lacks {shown}: {found['command']}" if lacks else "complete"))
    return _table(rows)


def _findings(findings: Sequence[Finding]) -> list[str]:
    return list(_paragraphs(findings)) or ["none"]


def _paragraphs(findings: Sequence[Finding]) -> Iterator[str]:
    for number, one in enumerate(findings):
        if number:
            yield ""
        concerns = "training and serving" if one.concerns == "both" else one.concerns
        yield f"{one.level}: {one.name} ({concerns})"
        yield f"  found: {one.found}"
        yield f"  to do: {one.advice}"
