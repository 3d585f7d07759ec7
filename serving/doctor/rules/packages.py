"""Rules on packages: missing, too old, newer than tested, or two in one folder."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from serving.doctor import requirements
from serving.doctor.facts import Facts, Finding
from serving.doctor.packages import FAMILIES
from serving.doctor.requirements import Unmet
from serving.doctor.rules._rule import rule
from serving.doctor.tested import TESTED


@rule
def unmet_requirements(facts: Facts) -> Iterator[Finding]:
    """Finds requirements that the installed packages do not meet."""
    serving = requirements.of_serving()
    lines = facts.library.requires if facts.library is not None else []
    if not facts.trains:
        lines = serving
    shared = set(map(requirements.name_of, serving))
    for one in requirements.unmet(facts.packages, lines):
        yield _finding(one, "both" if one.name in shared else "training")


def _finding(one: Unmet, concerns: str) -> Finding:
    if one.problem == "missing":
        return Finding(
            "error",
            concerns,
            f"{one.name}-missing",
            f"{one.name} is not installed; {one.requirement} is required",
            f"pip install '{one.requirement}'",
        )
    is_new = one.problem == "too-new"
    suffix = {"too-new": "newer-than-tested", "too-old": "too-old"}.get(one.problem, "excluded")
    return Finding(
        "warning" if is_new else "error",
        concerns,
        f"{one.name}-{suffix}",
        f"{one.installed} is installed; keras-gan requires {one.requirement}",
        f"pip install '{one.requirement}'",
    )


@rule
def newer_than_tested(facts: Facts) -> Iterator[Finding]:
    """Finds a TensorFlow or a Keras of a later minor release than those of `TESTED`.

    The requirements name a bound as well; this rule also judges a checkout without metadata.
    """
    lines = facts.library.requires if facts.library is not None else []
    known = {x.name for x in requirements.unmet(facts.packages, lines)}
    for name, tested in TESTED.items():
        package = facts.packages.any_of(name)
        if package is None or name in known:
            continue
        numbers, limit = _minor(package.version), _minor(tested)
        if numbers != limit and numbers:
            is_new = numbers > limit
            suffix = "newer-than-tested" if is_new else "too-old"
            yield Finding(
                "warning" if is_new else "error",
                "training",
                f"{name}-{suffix}",
                f"{package.name} {package.version} is installed; {tested} is the tested release",
                f"pip install '{name}=={tested}.*'",
            )


def _minor(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(x) for x in parts) if all(x.isdecimal() for x in parts) else ()


@rule
def python_release(facts: Facts) -> Iterator[Finding]:
    """Finds a Python on which keras-gan does not run."""
    wanted = facts.library.requires_python if facts.library is not None else ""
    if not requirements.accepts(wanted, platform.python_version()):
        yield Finding(
            "error",
            "both",
            "python-too-old",
            f"Python is {platform.python_version()}; keras-gan requires {wanted}",
            "make an environment with a newer Python",
        )


@rule
def several_in_one_folder(facts: Facts) -> Iterator[Finding]:
    """Finds packages that unpack to one folder, where the last one overwrote the others."""
    names = {"tensorflow": "several-tensorflows", "keras": "several-keras"}
    for family in FAMILIES:
        found = facts.packages.all_of(family)
        if len(found) < 2:
            continue
        there = facts.cuda.onnxruntime_package if family == "onnxruntime" else ""
        whose = f"; the files of {there} are there now" if there else ""
        listed = " and ".join(f"{x.name} {x.version}" for x in found)
        yield Finding(
            "warning",
            "both" if family == "onnxruntime" else "training",
            names.get(family, "both-onnxruntimes"),
            f"{listed} are installed, which unpack to the same folder {family}/{whose}",
            f"pip uninstall {' '.join(x.name for x in found)}, then install one of them again",
        )


@rule
def recorded_twice(facts: Facts) -> Iterator[Finding]:
    """Finds a package whose former release was not removed."""
    for name, versions in facts.packages.duplicates.items():
        yield Finding(
            "warning",
            "both",
            "installed-twice",
            f"{name} is recorded in {len(versions)} releases in one folder: {', '.join(versions)}",
            f"pip install --force-reinstall --no-deps {name}",
        )
