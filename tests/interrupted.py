"""A program that exports and is killed, told how by a job in JSON; it prints what was left.

It imports TensorFlow once and computes nothing itself; each export is a fork of it.
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
    """Exports in a fork of its own; gives the time that it took and the events that it counted."""
    start = time.monotonic()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        export_and_end(job, seed, instant, write)
    os.close(write)
    if "seconds" in instant:
        select.select([read], [], [], instant["seconds"])
        os.kill(pid, signal.SIGKILL)
    told = b""
    while piece := os.read(read, 100):
        told += piece
    os.close(read)
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not killed and status:
        sys.exit("an export has failed")
    return time.monotonic() - start, int(told or b"0")


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
    """What a reader finds: the problem of each bundle that is there, by its place."""
    places = [to, *sorted(to.glob("[0-9]*")), *to.glob("latest")]
    found = {}
    for place in places:
        if (place / "manifest.json").exists() or place.is_symlink():
            try:
                manifest = Manifest.load(place)
                problems = check_files(place, manifest) or check_golden(place, manifest)
                found[place.name] = problems[0] if problems else None
            except UsageError as error:
                found[place.name] = str(error)
    return found


def entries(to):
    """What else is in the folder of the target, and in the target if it is one of versions."""
    inside = to if (to / "latest").is_symlink() else to.parent
    return sorted(path.name for path in inside.iterdir())


if __name__ == "__main__":
    main()
