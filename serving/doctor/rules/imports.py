"""Rules on the probes: packages that fail, crash or hang when they are imported or used."""

from __future__ import annotations

from collections.abc import Iterator

from serving.doctor.facts import Facts, Finding
from serving.doctor.rules._rule import rule

_CONCERNS = {"training": "training", "serving": "serving", "codecs": "both"}
_NAMES = {"PIL.features": "pillow"}  # of what is imported, where it is not the package's own
_ENDINGS = {"failed": "fails", "crashed": "crashes", "timeout": "hangs"}
_ADVICE = {
    "failed": "fix what the error says, or reinstall the package in a new environment",
    "crashed": "reinstall the package in a new environment; a crash at the import may also be a "
    "processor without features that the package was built for",
    "timeout": "try --timeout 300 on a busy machine or a slow disk; else reinstall the package",
}

_KILLED = (
    "free some memory or raise the container's limit: this signal mostly comes from a system that "
    "lacks memory"
)


@rule
def failed_imports(facts: Facts) -> Iterator[Finding]:
    """Finds packages that cannot be imported or used."""
    for part, probe in facts.probes.items():
        if probe.status not in _ENDINGS:
            continue
        package = probe.package or "Python"
        name = _NAMES.get(package, package.split()[-1].replace("_", "-").lower())
        ending = _ENDINGS[probe.status]
        action = package if " " in package else f"the import of {package}"
        yield Finding(
            "error",
            _CONCERNS[part],
            f"{name}-{ending}",
            f"{action} {ending}: {probe.error}",
            _KILLED if probe.error == "SIGKILL" else _ADVICE[probe.status],
        )
