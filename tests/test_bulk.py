"""Tests of shards: content, byte-for-byte reproduction, interruption, user errors."""

import dataclasses
import hashlib
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from environments import python_with
from PIL import Image

import serving
from serving import UsageError, bulk, cli, pictures, tfrecord
from serving.inputs import Port

ROOT = Path(__file__).parents[1]
FORMATS = ("webdataset", "npz", "tfrecord")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of pictures in three classes."""
    return serving.Bundle(tiny.clothes(tmp_path_factory.mktemp("clothes") / "bundle"), threads=1)


def sample(bundle, out, *options):
    """Runs the command in this process."""
    command = ["sample", str(bundle.path), "--out", str(out), "--workers", "1", *options]
    return cli.main(command)


def start(bundle, out, *options, **more):
    """Starts the command in a new process."""
    command = [sys.executable, "-m", "serving.cli", "sample", str(bundle.path), "--out", str(out)]
    return subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore SIGINT, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **more,
    )


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def index(folder):
    return json.loads((folder / "index.json").read_text())


# ----------------------------------------------------------------------------------- content


def test_a_tar_holds_pictures_labels_and_seeds_by_key(bundle, tmp_path, capsys):
    out = tmp_path / "shards"
    options = ("--count", "10", "--seed", "5", "--shard-size", "4", "--batch-size", "3")
    assert sample(bundle, f"{out}/", *options) == 0
    assert "10 samples of clothes in 3 shards" in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == [
        "clothes-000000.tar",
        "clothes-000001.tar",
        "clothes-000002.tar",
        "index.json",
    ]
    drawn = bundle.sample(range(5, 15))
    expected = pictures.to_uint8(drawn["samples"])
    with tarfile.open(out / "clothes-000001.tar") as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
        assert {(m.mtime, m.uid, m.uname) for m in tar.getmembers()} == {(0, 0, "")}
    assert [name.partition(".")[2] for name in members] == ["png", "cls", "json"] * 4
    for row, seed in enumerate(range(9, 13), 4):
        key = f"{seed:019d}"
        image = Image.open(io.BytesIO(members[f"{key}.png"]))
        np.testing.assert_array_equal(np.asarray(image), expected[row])
        assert image.info["Seed"] == str(seed)
        assert members[f"{key}.cls"] == b"%d" % drawn["labels"][row]
        about = {"seed": seed, "model": "clothes", "label": int(drawn["labels"][row])}
        assert json.loads(members[f"{key}.json"]) == about


READ_TARS = """
import sys
import numpy, webdataset
data = webdataset.WebDataset(sys.argv[1], shardshuffle=False).decode("rgb8")
images, labels, about = zip(*data.to_tuple("png", "cls", "json"))
numpy.savez(sys.argv[2], images=images, labels=labels, seeds=[x["seed"] for x in about])
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_webdataset_reads_the_tars(bundle, tmp_path):
    python = python_with("webdataset", "webdataset", "pillow", "numpy")
    assert sample(bundle, f"{tmp_path}/x/", "--count", "10", "--shard-size", "4") == 0
    found = tmp_path / "found.npz"
    pattern = f"{tmp_path}/x/clothes-{{000000..000002}}.tar"
    subprocess.run([python, "-c", READ_TARS, pattern, found], check=True)
    drawn = bundle.sample(range(10))
    read = np.load(found)
    assert read["seeds"].tolist() == list(range(10))
    np.testing.assert_array_equal(read["labels"], drawn["labels"])
    np.testing.assert_array_equal(read["images"], pictures.to_uint8(drawn["samples"]))


def test_an_npz_holds_arrays(bundle, tmp_path):
    out = tmp_path / "shards"
    options = ["--format", "npz", "--count", "5", "--shard-size", "3", "--batch-size", "2"]
    options += ["--labels", "shoe,0", "--truncation", "0.5"]
    assert sample(bundle, f"{out}/", *options) == 0
    parts = [np.load(out / f"clothes-00000{n}.npz") for n in (0, 1)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert sorted(whole) == ["labels", "samples", "seeds"]
    assert whole["seeds"].tolist() == [0, 1, 2, 3, 4]
    assert whole["labels"].tolist() == [1, 0, 1, 0, 1]  # the cycle continues across shards
    expected = bundle.generate(range(5), whole["labels"], 0.5)
    assert whole["samples"].dtype == np.float32
    np.testing.assert_allclose(whole["samples"], expected, atol=1e-6)


def test_the_index_lists_every_shard(bundle, tmp_path):
    out = tmp_path / "shards"
    assert sample(bundle, f"{out}/", "--count", "10", "--shard-size", "4") == 0
    content = index(out)
    assert content["complete"] is True
    assert content["count"] == 10
    assert [(x["seed"], x["count"]) for x in content["shards"]] == [(0, 4), (4, 4), (8, 2)]
    for record in content["shards"]:
        data = (out / record["name"]).read_bytes()
        assert record["sha256"] == hashlib.sha256(data).hexdigest()
        assert record["bytes"] == len(data)
    assert content["arguments"]["sha256"] == bundle.sha256
    assert "onnxruntime" in content["software"]


def test_metadata_can_be_omitted(bundle, tmp_path):
    assert sample(bundle, f"{tmp_path}/x/", "--count", "1", "--no-metadata") == 0
    with tarfile.open(tmp_path / "x" / "clothes-000000.tar") as tar:
        image = Image.open(tar.extractfile(f"{0:019d}.png"))
        assert image.info == {}


# ------------------------------------------------------------------------------- TFRecord


def plain_crc32c(message):
    """Bit by bit, as RFC 3720 defines it."""
    value = 0xFFFFFFFF
    for byte in message:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def test_checksums_are_those_of_the_rfc():
    """The test vectors of RFC 3720, B.4, and messages of different lengths together."""
    vectors = [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ]
    found = tfrecord.crc32c([message for message, _ in vectors])
    assert found.tolist() == [value for _, value in vectors]
    rng = random.Random(0)
    messages = [rng.randbytes(rng.randrange(40)) for _ in range(60)]
    assert tfrecord.crc32c(messages).tolist() == [plain_crc32c(m) for m in messages]
    assert tfrecord.crc32c([]).tolist() == []
    few = [rng.randbytes(4000), rng.randbytes(3000), b""]
    assert tfrecord.crc32c(few).tolist() == [plain_crc32c(m) for m in few]
    assert tfrecord.masked(np.array([0], np.uint32)).tolist() == [0xA282EAD8]


def test_records_are_framed_as_tensorflow_reads_them():
    content = tfrecord.records([b"abc", b""])
    length, head = struct.unpack_from("<QI", content)
    assert length == 3
    rotated = plain_crc32c(struct.pack("<Q", 3))
    rotated = (rotated >> 15 | rotated << 17) & 0xFFFFFFFF
    assert head == (rotated + 0xA282EAD8) % 2**32
    assert len(content) == 2 * 16 + 3


def test_tensorflow_datasets_reads_pictures_labels_and_seeds(bundle, tmp_path):
    import tensorflow_datasets as tfds

    out = tmp_path / "shards"
    options = ("--format", "tfrecord", "--count", "10", "--seed", "5", "--shard-size", "4")
    assert sample(bundle, out, *options) == 0
    builder = tfds.builder_from_directory(str(out))
    assert builder.info.splits["train"].num_examples == 10
    assert builder.info.splits["train"].shard_lengths == [4, 4, 2]
    assert builder.info.features["label"].names == ["shirt", "shoe", "bag"]
    assert builder.info.features["image"].shape == (8, 8, 3)
    rows = sorted(tfds.as_numpy(builder.as_dataset(split="train")), key=lambda row: row["seed"])
    assert [int(row["seed"]) for row in rows] == list(range(5, 15))
    drawn = bundle.sample(range(5, 15))
    np.testing.assert_array_equal([row["label"] for row in rows], drawn["labels"])
    expected = pictures.to_uint8(drawn["samples"])
    np.testing.assert_array_equal([row["image"] for row in rows], expected)


def test_tensorflow_datasets_reads_numbers(tmp_path):
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    samples = rng.normal(size=(3, 4, 2)).astype("float32")
    seeds = [0, 7, 2**63 - 1]
    messages = [
        tfrecord.example({"sample": x, "seed": s}) for x, s in zip(samples, seeds, strict=True)
    ]
    (tmp_path / tfrecord.file_name("a-b", 0, 1)).write_bytes(tfrecord.records(messages))
    port = Port("samples", "float32", (4, 2), "audio")
    about = {"lengths": [3], "size": 1, "description": ""}
    for name, text in tfrecord.metadata("a-b", [port], None, **about).items():
        (tmp_path / name).write_text(text)
    builder = tfds.builder_from_directory(str(tmp_path))
    assert builder.name == "a_b"
    rows = list(tfds.as_numpy(builder.as_dataset(split="train")))
    assert [int(row["seed"]) for row in rows] == seeds
    np.testing.assert_array_equal([row["sample"] for row in rows], samples)


# ------------------------------------------------------------- reproduction and resumption


@pytest.mark.parametrize("form", FORMATS)
def test_a_shard_is_made_again_byte_for_byte(bundle, tmp_path, form):
    out = tmp_path / "shards"
    options = ("--format", form, "--count", "10", "--shard-size", "4", "--batch-size", "3")
    assert sample(bundle, f"{out}/", *options) == 0
    before = files(out)
    names = [record["name"] for record in index(out)["shards"]]
    (out / names[1]).unlink()
    (out / names[2]).write_bytes(b"cut")
    untouched = (out / names[0]).stat().st_mtime_ns
    assert sample(bundle, f"{out}/", *options) == 0
    assert files(out) == before
    assert (out / names[0]).stat().st_mtime_ns == untouched


def test_shards_of_a_larger_whole_and_another_number_of_workers_are_the_same(bundle, tmp_path):
    """Two processes write the same bytes as one; a shard depends on its seeds alone."""
    process = start(
        bundle, f"{tmp_path}/two/", "--count", "8", "--shard-size", "2", "--workers", "2"
    )
    assert sample(bundle, f"{tmp_path}/one/", "--count", "8", "--shard-size", "2") == 0
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "8 samples of clothes in 4 shards" in out
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_complete_folder_is_left_as_it_is(bundle, tmp_path, capsys):
    out = tmp_path / "shards"
    for rate in ("samples/s", "all of them existed"):
        assert sample(bundle, f"{out}/", "--count", "4", "--shard-size", "2") == 0
        assert rate in capsys.readouterr().out


def test_other_arguments_are_refused_by_name(bundle, tmp_path, capsys):
    out = f"{tmp_path}/shards/"
    assert sample(bundle, out, "--count", "4", "--shard-size", "2") == 0
    before = files(tmp_path / "shards")
    capsys.readouterr()
    others = ("--count", "5", "--shard-size", "2", "--labels", "shoe", "--truncation", "0.5")
    assert sample(bundle, out, *others) == 2
    error = capsys.readouterr().err
    for part in ("count=5 (was 4)", "labels=[1] (was None)", "truncation=0.5 (was 1.0)"):
        assert part in error
    assert "shard_size" not in error
    assert error.count("\n") == 1
    assert files(tmp_path / "shards") == before


def test_other_releases_are_refused_by_name(bundle, tmp_path, monkeypatch):
    job = bulk.plan(bundle, 2, seed=0, count=2)
    bulk.run(job, str(tmp_path), workers=1)
    software = index(tmp_path)["software"] | {"pillow": "0.1"}
    monkeypatch.setattr("serving.bulk.index.software", lambda: software)
    with pytest.raises(UsageError, match=r"arguments and releases.*pillow='0.1' \(was"):
        bulk.run(job, str(tmp_path), workers=1)


def test_only_our_own_temporary_files_are_removed(bundle, tmp_path):
    ours = [f".clothes-000001.tar.{os.getpid()}.part", ".index.json.7.part"]
    theirs = ["film.mkv.part", ".film.mkv.12.part"]
    for name in (*ours, *theirs):
        (tmp_path / name).touch()
    bulk.run(bulk.plan(bundle, 2, seed=0, count=2), str(tmp_path), workers=1, overwrite=True)
    left = {path.name for path in tmp_path.iterdir() if path.suffix == ".part"}
    assert left == set(theirs)


def test_a_folder_of_other_files_is_not_changed(bundle, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert sample(bundle, f"{tmp_path}/", "--count", "2") == 2
    assert "holds 'notes.txt'" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["notes.txt"]
    assert sample(bundle, f"{tmp_path}/", "--count", "2", "--overwrite") == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "index.json").write_text("{}")
    assert sample(bundle, f"{tmp_path}/", "--count", "2", "--overwrite") == 2
    assert "must be a file that keras-gan sample wrote" in capsys.readouterr().err


def test_a_bundle_that_changes_is_refused(bundle, tmp_path):
    link = tmp_path / "latest"
    link.symlink_to(bundle.path)
    job = bulk.plan(serving.Bundle(link, threads=1), 2, seed=0, count=4)
    assert job.bundle == str(bundle.path.resolve())
    other = dataclasses.replace(job, sha256="0" * 64)
    for workers in (1, 2):
        with pytest.raises(UsageError, match=r"must not change while.*was '000"):
            bulk.run(other, str(tmp_path / f"{workers}"), workers=workers)


def test_two_runs_do_not_write_into_one_folder(bundle, tmp_path):
    job = bulk.plan(bundle, 2, seed=0, count=2)
    destination = bulk.open_destination(str(tmp_path))
    with destination.locked(), pytest.raises(UsageError, match="Only one run at a time"):
        bulk.run(job, str(tmp_path), workers=1)
    assert bulk.run(job, str(tmp_path), workers=1)["complete"]


def wait_for_shards(folder, process, count):
    for _ in range(1200):
        if len(list(folder.glob("*.tar"))) >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no shard was made")


def children_of(process):
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize(
    "sent",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL],
)
def test_an_interrupted_run_is_resumed(bundle, tmp_path, sent):
    """Ctrl-C and SIGTERM end it in order; a killed run leaves no workers behind."""
    out = tmp_path / "shards"
    options = ("--count", "200000", "--shard-size", "40", "--batch-size", "8", "--workers", "2")
    process = start(bundle, f"{out}/", *options, start_new_session=True)
    wait_for_shards(out, process, 3)
    workers = children_of(process)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    for _ in range(200):
        if not any(map(alive, workers)):
            break
        time.sleep(0.05)
    assert not any(map(alive, workers))
    if sent == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + sent
        assert "run the same command again" in err
        assert "Traceback" not in err
        assert not list(out.glob(".*"))
        done = index(out)
        assert done["complete"] is False
        assert {r["name"] for r in done["shards"]} == {p.name for p in out.glob("*.tar")}
    kept = {r["name"]: (out / r["name"]).stat().st_mtime_ns for r in index(out)["shards"]}
    again = start(bundle, f"{out}/", *options, start_new_session=True)
    count = len(list(out.glob("*.tar")))
    wait_for_shards(out, again, count + 2)
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=60)
    assert not list(out.glob(".*"))
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept


# ---------------------------------------------------------------------------------- memory


PEAK = """
import re, sys
from serving import Bundle, bulk
bundle = Bundle(sys.argv[1], threads=1)
job = bulk.plan(bundle, int(sys.argv[4]), seed=0, count=int(sys.argv[3]), form="npz")
bulk.run(job, sys.argv[2], workers=1)
# Not getrusage, which includes the peak of the process that forked this one.
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def peak(bundle, out, count, shard):
    """Returns the peak MiB of a process that makes `count` samples in shards of `shard`."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, bundle.path, out, str(count), str(shard)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_count_or_the_shard(bundle, tmp_path):
    """20,000 samples are 15 MB: kept in memory they would exceed the limit."""
    few = peak(bundle, tmp_path / "few", 500, 500)
    many = peak(bundle, tmp_path / "many", 20_000, 20_000)
    print(f"{few:.0f} and {many:.0f} MiB")
    assert many < few + 5


# ----------------------------------------------------------------------------- user errors


MISTAKES = [
    (["--shard-size", "0"], "--shard-size must be at least 1"),
    (["--workers", "0"], "--workers must be at least 1"),
    (["--format", "png"], "must be webdataset, npz or tfrecord. Received: format='png'"),
    (["--engine", "spark"], "--engine must be processes or ray. Received: --engine spark"),
    (["--labels", "hat"], "A label must be 0 to 2"),
    (["--count", "1", "--labels", "shoe,bag"], "Received: 2 labels for 1 sample"),
    (["--count", str(10**15)], "A job must have at most 1000000 shards"),
    (["--truncation", "-1"], "Received: truncation=-1.0"),
    (["--batch-size", "0"], "Received: batch_size=0"),
    (["--each", "x"], "--each cannot be combined"),
    (["--out", "/dev/null", "--workers", "1"], "must name a folder"),
    (["--out", "/dev/null/x/"], "must be writable"),
    (["--out", "grid.png", "--workers", "1"], "Shards are written to a folder: name one without"),
    (["--out", "x.tar", "--format", "webdataset"], "with a slash. Received: --out x.tar"),
    (["--out", "X.TFRecord", "--format", "tfrecord"], "with a slash. Received: --out X.TFRecord"),
    (["--out", "x.npz", "--format", "npz", "--engine", "processes"], "Received: --out x.npz"),
    (["--out", "memory://bucket/grid.webp"], "Received: --out memory://bucket/grid.webp"),
    (["--out", "nosuch://bucket/x"], "file system's package for fsspec"),
]


@pytest.mark.parametrize(("options", "rule"), MISTAKES)
def test_a_mistake_is_one_line(bundle, tmp_path, monkeypatch, capsys, options, rule):
    monkeypatch.chdir(tmp_path)
    command = ["sample", str(bundle.path), "--out", "shards/", "--count", "3", *options]
    assert cli.main(command) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert rule in printed.err
    assert printed.err.count("\n") == 1
    assert os.listdir() == []


def test_a_folder_with_the_ending_of_a_file_is_one_with_a_slash(bundle, tmp_path):
    out = tmp_path / "x.tar"
    for name in (f"{out}/", str(out)):  # the second time it exists
        options = ("--count", "2", "--format", "webdataset")
        assert sample(bundle, name, *options) == 0
    assert (out / "index.json").is_file()


def test_a_url_without_fsspec_and_ray_without_ray_are_one_line(
    bundle, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name, options, rule in (
        ("fsspec", ["--out", "s3://b/x"], "pip install 'keras-gan[bulk]'"),
        ("ray", ["--out", "y/", "--engine", "ray"], "pip install 'keras-gan[scale]'"),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        assert cli.main(["sample", str(bundle.path), "--count", "1", *options]) == 2
        error = capsys.readouterr().err
        assert rule in error
        assert error.count("\n") == 1
    assert os.listdir() == []


def test_a_url_is_written_through_fsspec(bundle, tmp_path, capsys):
    pytest.importorskip("fsspec")
    near, far = tmp_path / "near", tmp_path / "far"
    options = ("--count", "6", "--shard-size", "2")
    assert sample(bundle, f"{near}/", *options) == 0
    assert sample(bundle, f"file://{far}", *options) == 0
    assert files(near) == files(far)
    (far / "clothes-000001.tar").unlink()
    assert sample(bundle, f"file://{far}/", *options) == 0
    assert files(near) == files(far)
    assert sample(bundle, f"file://{far}/", "--count", "7", "--shard-size", "2") == 2
    assert "count=7 (was 6)" in capsys.readouterr().err


# ------------------------------------------------------------------------------------- Ray


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ray_data_makes_the_same_shards(bundle, tmp_path):
    python = python_with("ray", "ray[serve,data]", "onnxruntime", "pillow", "httptools", "orjson")
    options = ["--count", "40", "--shard-size", "8"]
    assert sample(bundle, f"{tmp_path}/here/", *options) == 0
    for _ in range(2):
        command = [python, "-m", "serving.cli", "sample", bundle.path, "--engine", "ray"]
        done = subprocess.run(
            [*command, "--out", f"{tmp_path}/ray/", *options, "--workers", "2"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert "all of them existed" in done.stdout
    here, ray = (index(tmp_path / name) for name in ("here", "ray"))
    assert [r["name"] for r in here["shards"]] == [r["name"] for r in ray["shards"]]
    with tarfile.open(tmp_path / "ray" / "clothes-000003.tar") as tar:
        image = Image.open(tar.extractfile(f"{24:019d}.png"))
        np.testing.assert_array_equal(
            np.asarray(image), pictures.to_uint8(bundle.generate([24]))[0]
        )
