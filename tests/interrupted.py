"""A program whose exports are killed as a JSON job describes; it prints the files that remain.

It imports TensorFlow once and computes nothing itself; each export runs in a fork.
"""

import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path

import bundles

from export.golden import check_golden
from export.manifest import Manifest
from export.verify import check_files
from keras_gan import UsageError

_COUNTED = ("open", "os.", "shutil.", "tempfile.", "fcntl.", "ctypes.dlsym")


def main():
    job = json.loads(sys.argv[1])
    to = Path(job["to"])
    left = []
    seconds, events = run(job, 0, {}) if job["whole_first"] else (0.0, 0)
    for number, instant in enumerate(job["instants"], 1):
        instant = dict(instant)
        if "share" in instant:
            instant = {"seconds": seconds * instant["share"]}
        elif "last" in instant:
            instant = {"count": max(1, events - instant["last"])}
        run(job, number, instant)
        left.append({"instant": instant, "found": look(to), "beside": entries(to)})
    run(job, 99, {})
    left.append({"instant": None, "found": look(to), "beside": entries(to)})
    print("left " + json.dumps(left))


def run(job, seed, instant):
    """Exports in a fork. Returns its time and the number of events."""
    start = time.monotonic()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        export_and_end(job, seed, instant, write)
    os.close(write)
    if "seconds" in instant:
        select.select([read], [], [], instant["seconds"])
        os.kill(pid, signal.SIGKILL)
    received = b""
    while piece := os.read(read, 100):
        received += piece
    os.close(read)
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not killed and status:
        sys.exit("an export has failed")
    return time.monotonic() - start, int(received or b"0")


def export_and_end(job, seed, instant, write):
    count = 0

    def watch(event, args):
        nonlocal count
        if event.startswith(_COUNTED):
            count += 1
            here = event == instant.get("event") and instant["path"] in str(args)
            if here or count == instant.get("count"):
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(watch)
        bundles.write(Path(job["to"]), seed=seed, **job["options"])
        os.write(write, str(count).encode())
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def look(to):
    """Returns the problem, or None, of each bundle that a reader finds, by its folder."""
    folders = [to, *sorted(to.glob("[0-9]*")), *to.glob("latest")]
    found = {}
    for folder in folders:
        if (folder / "manifest.json").exists() or folder.is_symlink():
            try:
                manifest = Manifest.load(folder)
                problems = check_files(folder, manifest) or check_golden(folder, manifest)
                found[folder.name] = problems[0] if problems else None
            except UsageError as error:
                found[folder.name] = str(error)
    return found


def entries(to):
    """Returns the entries of the target's folder, or of the target if it holds versions."""
    inside = to if (to / "latest").is_symlink() else to.parent
    return sorted(path.name for path in inside.iterdir())


if __name__ == "__main__":
    main()
