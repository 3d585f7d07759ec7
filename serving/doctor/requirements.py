"""Requirements of keras-gan against the installed packages."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from serving.doctor.packages import Package, Packages, canonical

SERVING = Path(__file__).parents[1] / "requirements.txt"


class Unmet(NamedTuple):
    """Requirement that the installed packages do not meet.

    Args:
        name: name of the package.
        requirement: what is required, such as `keras>=3.15,<3.16`, without conditions.
        problem: "missing", "too-old", "too-new" or "excluded".
        installed: name and version of what is installed; empty if it is missing.
    """

    name: str
    requirement: str
    problem: str
    installed: str = ""


def reader() -> Any:
    """Returns the package that reads requirements, or pip's copy of it; None without both."""
    for name in ("packaging", "pip._vendor.packaging"):
        try:
            importlib.import_module(f"{name}.requirements")
            importlib.import_module(f"{name}.version")
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def of_serving() -> list[str]:
    """Returns the requirements of a program that only serves."""
    lines = (x.partition("#")[0].strip() for x in SERVING.read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("-")]


def name_of(requirement: str) -> str:
    """Returns the name of the package that a line requires."""
    return canonical(re.split(r"[^\w.-]", requirement)[0])


def unmet(packages: Packages, requirements: Iterable[str], extra: str = "") -> list[Unmet]:
    """Returns which requirements the installed packages do not meet.

    Args:
        packages: the installed packages.
        requirements: lines such as `ray[serve]>=2.50; extra == "scale"`.
        extra: an extra, whose own requirements alone are read; by default those of no extra.
    """
    library = reader()
    if library is None:
        return []
    return list(dict.fromkeys(_unmet(packages, requirements, extra, library, set())))


def _unmet(
    packages: Packages, lines: Iterable[str], extra: str, library: Any, seen: set[tuple[str, str]]
) -> Iterator[Unmet]:
    for line in lines:
        try:
            required = library.requirements.Requirement(line)
        except ValueError:  # metadata of another package, which is not ours to judge
            continue
        if not _applies(required.marker, extra):
            continue
        name = canonical(required.name)
        package = _in_place_of(name, required.extras, packages)
        bounds = ",".join(sorted(map(str, required.specifier), reverse=True))
        text = f"{required.name}{_extras(required)}{bounds}"
        if package is None:
            yield Unmet(name, text, "missing")
            continue
        problem = _problem(required.specifier, package.version, library)
        if problem:
            yield Unmet(name, text, problem, f"{package.name} {package.version}")
            continue  # the extras of another release may name other packages
        for inner in sorted(required.extras):
            if (package.name, inner) not in seen:
                seen.add((package.name, inner))
                yield from _unmet(packages, package.requires, inner, library, seen)


def _in_place_of(name: str, extras: Iterable[str], packages: Packages) -> Package | None:
    """Returns the package of this name, or one in its place that has the extras as well."""
    for package in packages.all_of(name):
        if package.name == name or set(map(canonical, extras)) <= set(
            map(canonical, package.extras)
        ):
            return package
    return None


def _extras(required: Any) -> str:
    return f"[{','.join(sorted(required.extras))}]" if required.extras else ""


def _applies(marker: Any, extra: str) -> bool:
    if marker is None:
        return not extra
    without = marker.evaluate({"extra": ""})
    return marker.evaluate({"extra": extra}) and not without if extra else without


def _problem(specifiers: Any, version: str, library: Any) -> str:
    try:
        installed = library.version.Version(version)
    except ValueError:
        return ""
    for one in specifiers:
        if one.contains(installed, prereleases=True):
            continue
        if one.operator not in (">=", ">", "<", "<=", "==", "~="):
            return "excluded"
        if one.operator in ("<", "<="):  # `<3.16` excludes 3.16.0.dev1, which is below 3.16
            return "too-new"
        bound = library.version.Version(re.sub(r"\.\*$", "", one.version))
        return "too-old" if installed < bound or one.operator == ">" else "too-new"
    return ""


def accepts(specifier: str, version: str) -> bool:
    """Returns True if a version is within a range such as `>=3.11`, or if neither can be read."""
    library = reader()
    if library is None or not specifier:
        return True
    required = library.requirements.Requirement(f"package{specifier}")
    return required.specifier.contains(version, prereleases=True)
