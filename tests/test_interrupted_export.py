"""A killed export leaves the old bundle or the new one, and no lasting remains."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export import staging

PROGRAM = Path(__file__).with_name("interrupted.py")


def interrupt(to, instants, options, whole_first=False, timeout=280):
    job = {"to": str(to), "instants": instants, "options": options, "whole_first": whole_first}
    root = str(PROGRAM.parents[1])
    done = subprocess.run(
        [sys.executable, PROGRAM, json.dumps(job)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        timeout=timeout,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("left ")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("left "))


@pytest.mark.slow
def test_a_killed_export_leaves_no_incomplete_bundle(tmp_path):
    """Kills at a random instant, before the golden samples, and just before the move."""
    instants = [
        {"seconds": random.Random(1).uniform(0.5, 2.0)},
        {"event": "open", "path": "golden.npz"},
        {"event": "os.rename", "path": str(tmp_path / "fm")},
    ]
    *killed, last = interrupt(tmp_path / "fm", instants, {"overwrite": True})
    for after in killed:
        assert after["found"] == {}, after
    for after in killed[1:]:  # one folder: that of the previous export was removed
        assert [name[:11] for name in after["beside"]] == [".fm.export-"]
    assert last["found"] == {"fm": None}
    assert last["beside"] == ["fm"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("layout", ["overwritten", "versions"])
def test_killed_at_20_random_instants(layout, tmp_path):
    """Kills ten times at random, and ten times among the last file operations of the swap."""
    rng = random.Random(7)
    instants = [{"share": rng.random()} for _ in range(10)]
    instants += [{"last": rng.randrange(60)} for _ in range(10)]
    options = {"overwrite": True} if layout == "overwritten" else {"version": "next"}
    *killed, last = interrupt(tmp_path / "fm", instants, options, whole_first=True, timeout=1400)
    assert len(killed) == 20
    for after in killed:
        assert after["found"], after  # one always exists
        assert set(after["found"].values()) == {None}, after
    assert set(last["found"].values()) == {None}
    if layout == "overwritten":
        assert last["beside"] == ["fm"]
    else:
        numbers = sorted(int(name) for name in last["found"] if name != "latest")
        assert numbers == list(range(1, len(numbers) + 1))
        expected = {*map(str, numbers), "latest", "saved_model", "tf_serving"}
        assert set(last["beside"]) == expected
        assert os.readlink(tmp_path / "fm" / "latest") == str(numbers[-1])
        links = sorted(os.listdir(tmp_path / "fm" / "saved_model" / "clothes"), key=int)
        assert links == list(map(str, numbers))


# ------------------------------------------------------------------------------- the folders


def fill(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(text)


@pytest.mark.parametrize("can_exchange", [True, False])
def test_one_folder_replaces_another(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:  # as on other systems
        monkeypatch.setattr(staging, "_exchange", lambda *_: False)
    to = tmp_path / "bundle"
    for text in ("first", "second"):
        with staging.staging(to) as folder:
            fill(folder, text)
            staging.move(folder, to, overwrite=True)
        assert (to / "file").read_text() == text
        assert os.listdir(tmp_path) == ["bundle"]
    with staging.staging(to) as folder:
        fill(folder, "third")
        with pytest.raises(OSError, match="not empty"):
            staging.move(folder, to)
    assert (to / "file").read_text() == "second"


MOVES = """
import importlib.util, os, signal, sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("staging", sys.argv[1])
staging = importlib.util.module_from_spec(spec)
spec.loader.exec_module(staging)
to, text, left = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

def watch(event, args):
    global left
    left -= event.startswith(("open", "os.", "shutil.", "tempfile.", "fcntl.", "ctypes.dlsym"))
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
staging.clean(to)
with staging.staging(to) as folder:
    (folder / "file").write_text(text)
    staging.move(folder, to, overwrite=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_folders_killed_at_every_operation_on_files(tmp_path):
    """Tries every instant of an export without models: old or new, and no remains."""
    to, last, instant = tmp_path / "bundle", "first", 0
    fill(to, last)
    killed = []
    while not killed or killed[-1]:
        instant += 1
        command = [sys.executable, "-c", MOVES, staging.__file__, to, str(instant), str(instant)]
        killed.append(subprocess.run(command, check=False).returncode)
        assert set(killed) <= {-signal.SIGKILL, 0}
        found = (to / "file").read_text()
        assert found in (last, str(instant))
        last = found
        assert len(os.listdir(tmp_path)) <= 2  # the folder and the remains of the last export
    assert len(killed) > 10
    assert last == str(instant)
    assert os.listdir(tmp_path) == ["bundle"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems rename twice")
def test_linux_exchanges_folders_atomically(tmp_path):
    fill(tmp_path / "one", "1")
    fill(tmp_path / "other", "2")
    assert staging._exchange(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "one" / "file").read_text() == "2"
    assert (tmp_path / "other" / "file").read_text() == "1"


def test_the_bundle_of_a_killed_export_is_restored_and_that_of_a_running_one_is_left(tmp_path):
    to = tmp_path / "bundle"
    dead = tmp_path / ".bundle.export-abcdefgh"
    dead.mkdir()
    fill(dead / "old", "years of training")  # killed between its two renames
    others = [".bundle.2.export-abcdefgh", ".bundle.export-abc", "bundle.export-abcdefgh"]
    for name in others:
        (tmp_path / name).mkdir()
    with staging.staging(to) as folder:
        fill(folder, "new")
        staging.clean(to)
        assert (folder / "file").exists()
    assert (to / "file").read_text() == "years of training"
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "bundle"])
    shutil.rmtree(to)
    staging.clean(tmp_path / "nowhere" / "bundle")
    assert not (tmp_path / "nowhere").exists()
