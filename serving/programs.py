"""Python programs that the commands start, and the path on which they look for modules.

No command imports from the current folder: a file `random.py` or a folder `export/` there is the
user's and would run in place of ours. `--import` loads a user's own modules.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def leave_current_folder() -> None:
    """Removes the current folder from the module path of a program of ours.

    `python -m serving...` has put it there, or an empty entry in PYTHONPATH, as of
    `export PYTHONPATH=$PYTHONPATH:/folder`. In a checkout that is not installed it is the folder of
    the packages, which stays.
    """
    # Python sets the first argument to -m until it has found the module to run.
    module = sys.orig_argv[-len(sys.argv)].removeprefix("-m") if sys.argv[:1] == ["-m"] else ""
    if module.startswith("serving.") and not sys.flags.safe_path:
        sys.path[:1] = [] if ROOT in sys.path[1:] else [ROOT]
    is_script = os.path.basename(sys.argv[0]).startswith("keras-gan") if sys.argv else False
    if (is_script or module.startswith("serving.")) and _has_empty_entry():
        sys.path[:] = [place for place in sys.path if place == ROOT or place != os.getcwd()]


def _has_empty_entry() -> bool:
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return len(entries) > 1 and "" in entries


def escape_output() -> None:
    """Lets the output escape characters that its encoding does not have, instead of failing.

    Standard error does so by itself: Python writes `caf\\xe9` to a terminal or pipe in ASCII.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def check_arguments(arguments: Sequence[str]) -> None:
    """Checks that no argument is empty, as `--tokens "$TOKENS"` is without such a variable.

    Raises:
        UsageError: an empty one, with the option before it.
    """
    for before, argument in zip(("", *arguments), arguments, strict=False):
        name, equals, value = argument.partition("=")
        if not argument or (argument.startswith("--") and equals and not value):
            option = name or (before if before.startswith("--") and "=" not in before else "")
            from serving.errors import UsageError  # after the current folder has been left

            received = f"{option} ''" if option else "''"
            raise UsageError(f"An argument must not be empty. Received: {received}")


def command(*arguments: str) -> list[str]:
    """Returns the command that runs Python with these arguments, without the current folder."""
    return [sys.executable, "-P", *arguments]


def environment() -> dict[str, str]:
    """Returns the environment of such a program, in which it finds the packages of this one."""
    found = dict(os.environ)
    if _has_empty_entry():
        entries = found["PYTHONPATH"].split(os.pathsep)
        found["PYTHONPATH"] = os.pathsep.join(filter(None, entries))
    # A checkout that is not installed is found through the current folder alone.
    if not sys.flags.safe_path and sys.path[:1] in ([""], [ROOT]) and ROOT not in sys.path[1:]:
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (ROOT, found.get("PYTHONPATH"))))
    return found


@contextlib.contextmanager
def safe_children() -> Iterator[None]:
    """Lets processes that start in this context look for no module in the current folder.

    For processes that a library starts: until they have received the module path of this one, they
    would find modules there first.
    """
    changed = environment() | {"PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")}
    os.environ |= {name: changed[name] for name in before if name in changed}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ |= {} if value is None else {name: value}
