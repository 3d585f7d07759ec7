"""The command `keras-gan doctor`: its options and its exit status."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from serving.doctor import bug_report, facts, report, rules
from serving.errors import UsageError

_DAY = 86400.0  # seconds


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print facts and findings as JSON")
    forms.add_argument("--brief", action="store_true", help="print three lines for a bug report")
    forms.add_argument(
        "--bug-report",
        action="store_true",
        help="print the template of a bug report, with these lines at its top",
    )
    add = parser.add_argument
    add(
        "--no-imports",
        action="store_true",
        help="read files only: import no package, which takes most of the time",
    )
    add(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="time after which an import counts as hanging (default: 120)",
    )
    add(
        "--packages",
        action="append",
        metavar="FOLDER",
        help="read and import packages of this folder, such as another environment's "
        "site-packages, in place of those of this Python",
    )
    add(
        "--root",
        default="/",
        metavar="FOLDER",
        help="read the files of the system, such as /proc/cpuinfo, below this folder (default: /)",
    )


def doctor(options: argparse.Namespace) -> int:
    """Runs the command; returns 1 if training or serving cannot work, else 0.

    Raises:
        UsageError: a folder that does not exist, or a timeout that is not positive.
    """
    if not 0 < options.timeout <= _DAY:
        raise UsageError(
            f"--timeout must be above 0, and 86400 at most. Received: --timeout {options.timeout:g}"
        )
    folders = [_folder("--packages", x) for x in options.packages] if options.packages else None
    root = _folder("--root", options.root)
    if sys.stderr and sys.stderr.isatty() and not options.no_imports:
        print("Importing the packages, which takes some seconds ...", file=sys.stderr)
    found = facts.gather(folders, root, not options.no_imports, options.timeout)
    findings = rules.judge(found)
    print(_form(options)(found, findings))
    parts = ("training", "serving")
    return int(any(report.outcome(found, findings, part) == "fails" for part in parts))


def _folder(option: str, value: str) -> Path:
    path = Path(os.path.expanduser(value)).absolute()
    if not os.path.isdir(path):
        raise UsageError(f"{option} must be a folder. Received: {option} {value!r:.200}")
    return path


def _form(options: argparse.Namespace) -> Callable[..., str]:
    if options.json:
        return lambda *args: json.dumps(report.as_json(*args), indent=2)
    if options.brief:
        return lambda *args: "\n".join(report.brief(*args))
    if options.bug_report:
        return lambda *args: bug_report.template("\n".join(report.brief(*args))).rstrip("\n")
    return report.text
