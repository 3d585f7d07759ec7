"""serving: samples from a bundle without TensorFlow, and the command line."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import bundles
import keras
import numpy as np
import pytest
from bundles import edit, flip
from PIL import Image
from servers import PROGRAM

import export
import serving
from serving import UsageError, cli, pictures
from serving.seeds import latents_from_seeds

L = keras.layers
ROOT = Path(__file__).parents[1]
NAMES = ("shirt", "shoe", "bag")


@pytest.fixture(scope="module")
def images(clothes, tmp_path_factory):
    """A run folder with the bundle of a conditional generator of pictures."""
    run = tmp_path_factory.mktemp("run")
    shutil.copytree(clothes.path, run / "bundle")
    return run


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    model = keras.Sequential([keras.Input((5,)), L.Dense(2)], name="points")
    return export.export_bundle(model, tmp_path_factory.mktemp("points") / "b").path


@pytest.fixture
def copy(images, tmp_path):
    return shutil.copytree(images / "bundle", tmp_path / "copy")


def run(*args, cwd=None, program=("-c", PROGRAM)):
    """Runs the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, *program, *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )


# ------------------------------------------------------------------------------- the bundle


def test_golden_samples_are_reproduced(images, points):
    for path in (images / "bundle", points):
        golden = np.load(path / "golden.npz")
        bundle = serving.Bundle(path)
        for count in (1, 5, len(golden["seeds"])):
            samples = bundle.generate(golden["seeds"][:count])
            np.testing.assert_allclose(samples, golden["samples"][:count], atol=1e-4)


def test_a_run_folder_is_found_to_hold_a_bundle(images):
    bundle = serving.Bundle(images)
    assert bundle.path == images / "bundle"
    assert (bundle.name, bundle.kind, bundle.shape) == ("clothes", "image", (8, 8, 3))
    assert (bundle.num_classes, bundle.class_names) == (3, NAMES)
    assert bundle.value_range == (-1.0, 1.0)
    assert bundle.device in ("cpu", "cuda")


def test_samples_do_not_depend_on_the_batch(images):
    bundle = serving.Bundle(images)
    together = bundle.generate(range(10))
    np.testing.assert_allclose(bundle.generate(range(10), batch_size=3), together, atol=1e-5)
    np.testing.assert_allclose(bundle.generate([7])[0], together[7], atol=1e-5)
    assert bundle.generate([]).shape == (0, 8, 8, 3)


def test_labels_may_be_ids_or_names_one_or_many(images):
    bundle = serving.Bundle(images)
    shoes = bundle.generate(range(4), labels="shoe")
    for labels in (1, [1] * 4, ["shoe"] * 4, np.ones(4, np.int32), np.array(1), [np.str_("shoe")]):
        np.testing.assert_array_equal(bundle.generate(range(4), labels=labels), shoes)
    assert np.abs(bundle.generate(range(4), labels="bag") - shoes).max() > 1e-3
    assert bundle.sample(range(4))["labels"].tolist() == [0, 1, 2, 0]


def test_truncation_scales_the_latents(images):
    drawn = serving.Bundle(images).sample([1, 2], truncation=0.5)
    np.testing.assert_array_equal(drawn["latents"], latents_from_seeds([1, 2], 6) / 2)
    still = serving.Bundle(images).generate([0, 3], truncation=0.0)
    np.testing.assert_allclose(still[0], still[1], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"seeds": [-1]}, "A seed must be at least 0"),
        ({"seeds": ["a"]}, "sequence of integers"),
        ({"labels": 3}, "0 to 2 or one of shirt, shoe, bag. Received: label='3'"),
        ({"labels": -1}, "A label must be"),
        ({"labels": 0.5}, "A label must be"),
        ({"labels": "hat"}, "A label must be"),
        ({"labels": [0, 1, 2]}, "one for each of the 2 seeds"),
        (
            {"truncation": -1},
            "`truncation` must be a finite number of at least 0. Received: truncation=-1",
        ),
        ({"truncation": float("nan")}, "at least 0. Received: truncation=nan"),
        ({"truncation": float("inf")}, "at least 0. Received: truncation=inf"),
        ({"truncation": "0.5"}, "at least 0. Received: truncation='0.5'"),
        ({"truncation": None}, "at least 0. Received: truncation=None"),
        ({"truncation": True}, "at least 0. Received: truncation=True"),
        ({"truncation": [0.5]}, "at least 0. Received: truncation=[0.5]"),
        ({"truncation": np.float32("nan")}, "`truncation` must be a finite number"),
        ({"seeds": "1"}, "`seeds` must be a sequence of integers. Received: seeds='1'"),
        ({"seeds": 2.0}, "`seeds` must be a sequence of integers. Received: seeds=2.0"),
        ({"seeds": [True]}, "`seeds` must be a sequence of integers. Received: seeds=[True]"),
        ({"labels": True}, "A label must be 0 to 2 or one of shirt, shoe, bag"),
        ({"labels": np.True_}, "Received: label='True'"),
        ({"labels": b"1"}, "A label must be 0 to 2 or one of shirt, shoe, bag"),
        ({"labels": None, "batch_size": True}, "at least 1. Received: batch_size=True"),
        ({"batch_size": 2.0}, "`batch_size` must be at least 1. Received: batch_size=2.0"),
        ({"batch_size": 0}, "`batch_size` must be at least 1. Received: batch_size=0"),
    ],
)
def test_a_mistake_is_one_line(images, options, rule):
    with pytest.raises(UsageError, match="Received: ") as caught:
        serving.Bundle(images).generate(**({"seeds": [0, 1]} | options))
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_for_a_generator_without_any_are_refused(points):
    with pytest.raises(UsageError, match="takes no labels"):
        serving.Bundle(points).generate([0], labels=1)


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda p: flip(p / "model.onnx"), "SHA-256"),
        (lambda p: (p / "model.onnx").unlink(), "must hold model.onnx"),
        (lambda p: (p / "manifest.json").unlink(), "a folder with a manifest.json"),
        (lambda p: (p / "manifest.json").write_text("{"), "must be JSON"),
        (lambda p: (p / "manifest.json").write_text("[]"), "schema_version"),
        (lambda p: (p / "manifest.json").write_bytes(b"\xff\xfe"), "must be JSON"),
        (lambda p: edit(p, schema_version=1), "schema_version=1"),
        (lambda p: edit(p, role=None), "role=None"),
        (lambda p: edit(p, inputs=None), "inputs=None"),
        (lambda p: edit(p, outputs=[]), "outputs=[]"),
        (lambda p: edit(p, seeds="other"), "seeds='other'"),
        (lambda p: edit(p, files={}), "files={}"),
    ],
)
def test_a_damaged_bundle_is_one_line(copy, damage, rule):
    damage(copy)
    with pytest.raises(UsageError) as caught:
        serving.Bundle(copy)
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_a_bundle_stands_for_it(images, tmp_path):
    found = serving.Bundle(images / "bundle" / "model.onnx")
    assert found.path.samefile(serving.Bundle(images).path)
    with pytest.raises(UsageError, match="must exist"):
        serving.Bundle(tmp_path / "nowhere")


def test_cuda_is_refused_without_a_gpu(images):
    if serving.Bundle(images).device == "cuda":
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match="needs a GPU"):
        serving.Bundle(images, device="cuda")


# ----------------------------------------------------------------------------------- pictures


def test_pixels_round_and_clip():
    samples = np.array([-2.0, -1.0, 0.0, 1.0, 2.0], np.float32).reshape(1, 1, 5, 1)
    assert pictures.to_uint8(samples).ravel().tolist() == [0, 0, 128, 255, 255]
    assert pictures.to_uint8(samples, (0.0, 2.0)).ravel().tolist() == [0, 0, 0, 128, 255]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_grid_holds_every_picture_in_its_place(channels):
    batch = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, channels))
    canvas = pictures.grid(batch.astype(np.uint8))
    assert canvas.shape == (3 * 6 - 2, 3 * 8 - 2, channels)
    for number in range(7):
        top, left = number // 3 * 6, number % 3 * 8
        assert (canvas[top : top + 4, left : left + 6] == number).all()
    decoded = np.asarray(Image.open(io.BytesIO(pictures.to_png(canvas))))
    np.testing.assert_array_equal(decoded.reshape(canvas.shape), canvas)


def test_a_plot_shows_points_where_they_are():
    plot = pictures.scatter(np.array([[-1.0, -1.0], [1.0, 1.0]]), (-2.0, 2.0))
    blue = np.argwhere((plot == (0x1F, 0x5F, 0xA8)).all(-1))
    middle = np.array(plot.shape[:2]) / 2
    assert len(blue) > 10
    assert ((blue[:, 0] > middle[0]) == (blue[:, 1] < middle[1])).all()  # up is smaller
    for shape in ((0, 2), (3, 1), (3, 5)):
        assert pictures.scatter(np.ones(shape, np.float32)).shape == plot.shape


# ------------------------------------------------------------------------------ the command line


def best_of_three(*args, **kwargs):
    """Returns the shortest of three times: the others also measure the machine's other load."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = run(*args, **kwargs)
        times.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    return done, min(times)


def test_help_is_fast_and_names_every_command(capsys):
    done, seconds = best_of_three("--help")
    print(f"keras-gan --help: {seconds:.2f} s")
    assert seconds < 0.5
    for command in cli.COMMANDS:
        assert re.search(rf"^  {command} +\w", done.stdout, re.MULTILINE)
    assert "keras-gan sample" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_help_imports_neither_numpy_nor_onnxruntime():
    code = "import sys, serving.cli as c; c.main(['--help']); print(sorted(sys.modules))"
    done = run(program=("-c", code))
    assert "'argparse'" in done.stdout
    assert not re.search("'(numpy|onnxruntime|PIL)'", done.stdout)


def test_sample_is_done_within_a_second(images, tmp_path):
    out = tmp_path / "grid.png"
    done, seconds = best_of_three("sample", images, "--count", 64, "--out", out)
    print(f"keras-gan sample: {seconds:.2f} s")
    assert seconds < 1.0
    assert done.stderr == ""
    assert re.fullmatch(
        rf"Wrote {re.escape(str(out))}: 64 samples of clothes, \d+ samples/s on \w+\n", done.stdout
    )
    assert Image.open(out).size == (78, 78)


def test_sample_writes_numbers(images, tmp_path):
    done = run(
        "sample",
        images,
        "--count",
        5,
        "--seed",
        2**40,
        "--labels",
        "shoe,2",
        "--truncation",
        0.7,
        "--batch-size",
        2,
        "--out",
        tmp_path / "new" / "x.npz",
    )
    assert done.returncode == 0, done.stderr
    drawn = np.load(tmp_path / "new" / "x.npz")
    assert drawn["seeds"].tolist() == list(range(2**40, 2**40 + 5))
    assert drawn["labels"].tolist() == [1, 2, 1, 2, 1]
    expected = serving.Bundle(images).generate(drawn["seeds"], drawn["labels"], 0.7)
    np.testing.assert_allclose(drawn["samples"], expected, atol=1e-5)
    assert drawn["latents"].shape == (5, 6)


def test_sample_has_a_default_file_and_plots_points(points, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sample", str(points)]) == 0
    assert Image.open("samples.png").size == (640, 640)
    assert cli.main(["sample", str(points), "--format", "npz"]) == 0
    assert np.load("samples.npz")["samples"].shape == (64, 2)
    assert cli.main(["sample", str(points), "--out", "numbers", "--format", "npz"]) == 0
    assert sorted(os.listdir()) == ["numbers", "samples.npz", "samples.png"]


def test_each_picture_has_a_file_named_by_its_seed(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["sample", str(images), "--count", "3", "--seed", "8", "--each", "all"]
    assert cli.main(command) == 0
    assert sorted(os.listdir()) == ["all"]
    assert sorted(os.listdir("all")) == ["seed000008.png", "seed000009.png", "seed000010.png"]
    sample = serving.Bundle(images).generate([9])
    np.testing.assert_array_equal(
        np.asarray(Image.open("all/seed000009.png")), pictures.to_uint8(sample)[0]
    )
    assert cli.main(command) == 2
    assert "must be empty, or pass --overwrite" in capsys.readouterr().err
    assert cli.main([*command, "--overwrite", "--out", "grid.png"]) == 0
    assert "3 files in all and grid.png" in capsys.readouterr().out


MISTAKES = [
    (["--count", "0"], "--count must be at least 1. Received: --count 0"),
    (["--count", "many"], "invalid int value: 'many'"),
    (["--seed", "-1"], "below 2**63"),
    (["--seed", str(2**63)], "below 2**63"),
    (["--labels", "3"], "A label must be 0 to 2"),
    (["--labels", "0,hat"], "Received: label='hat'"),
    (["--count", "1", "--labels", "shoe,bag"], "one for each sample. Received: 2 labels for 1 sam"),
    (["--count", "2", "--labels", "0,1,2"], "Received: 3 labels for 2 samples"),
    (["--out", "a.json", "--count", "3", "--labels", "0,1,2,shoe"], "4 labels for 3 samples"),
    (["--labels", ""], "must not be empty. Received: --labels ''"),
    (["--truncation", "-1"], "`truncation` must be"),
    (["--batch-size", "0"], "`batch_size` must be"),
    (["--format", "gif"], "must be one of png, webp, npy, npz, json. Received: format='gif'"),
    (["--out", "x.jpg"], "must be one of png, webp, npy, npz, json. Received: format='jpg'"),
    (["--out", "."], "must name a file"),
    (["--out", ".", "--format", "png"], "must name a file"),
    (["--out", "x.webp", "--count", "2"], "A .webp file holds one sample: pass --count 1, or"),
    (["--out", "x.wav"], "samples of kind 'image' must be one of png,"),
    (["--each"], "--each must name a folder, or --out must"),
    (["--input", "latents"], "--input must be NAME=FILE_OR_FOLDER, once for each input"),
    (["--input", "picture=/dev/null/x"], "must name a file or a folder of files"),
    (["--out", "/dev/null/x.png"], "must be writable"),
    (["--each", "/dev/null"], "must name a folder"),
    (["--count", "100000000"], "A grid must be at most"),
    (["--cuont", "3"], "Unrecognized arguments"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_a_mistake_on_the_command_line_exits_2(
    images, options, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sample", str(images), *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("keras-gan: error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert os.listdir() == []


def test_mistakes_leave_a_process_without_a_traceback(images, points, tmp_path):
    for args, message in [
        (["sample", tmp_path / "nowhere"], "must exist"),
        (["sample", tmp_path], "or has one in its folder bundle/"),
        (["sample", points, "--labels", "1"], "takes no labels"),
        (["sample"], "BUNDLE"),
        (["samples"], "Did you mean 'sample'?"),
        (["xyzzy"], "Valid: quickstart, train, average, evaluate, export"),
    ]:
        done = run(*args)
        assert done.returncode == 2
        assert done.stderr.startswith("keras-gan: error: ")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_an_existing_picture_is_replaced_whole_or_not_at_all(images, tmp_path, monkeypatch):
    out = tmp_path / "grid.png"
    out.write_text("old")

    def no_room(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", no_room)
    assert cli.main(["sample", str(images), "--out", str(out)]) == 2
    assert os.listdir(tmp_path) == ["grid.png"]
    assert out.read_text() == "old"
    monkeypatch.undo()
    assert cli.main(["sample", str(images), "--out", str(out)]) == 0
    assert os.listdir(tmp_path) == ["grid.png"]
    assert Image.open(out).format == "PNG"


def test_other_commands_go_to_the_library(tmp_path):
    """A stand-in for the library's package prints its arguments and sets the exit status."""
    (tmp_path / "keras_gan").mkdir()
    (tmp_path / "keras_gan" / "__init__.py").write_text("")
    (tmp_path / "keras_gan" / "__main__.py").write_text(
        "import sys; print(sys.argv[1:]); sys.exit(3)"
    )
    place = f"os.environ['PYTHONPATH'] = {str(tmp_path)!r}"  # of the stand-in
    code = f"import os; {place}; from serving.cli import main; main()"
    done = run("train", "recipe.yaml", "--set", "a=b", cwd=tmp_path, program=("-c", code))
    assert done.stdout == "['train', 'recipe.yaml', '--set', 'a=b']\n"
    assert done.returncode == 3


def test_every_command_of_the_library_is_known():
    from keras_gan.__main__ import app

    names = {command.name for command in app.registered_commands}
    assert names <= set(cli.COMMANDS) - {"sample"}


def test_version_is_the_librarys():
    import keras_gan

    assert run("--version").stdout == f"keras-gan {keras_gan.__version__}\n"


def test_a_closed_pipe_is_not_an_error():
    command = [sys.executable, "-c", PROGRAM, "--help"]
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode == 141


def test_control_c_prints_no_traceback(images, tmp_path):
    code = PROGRAM.replace(
        "from serving.cli",
        "import os, signal, time, serving.bundle as b\n"
        # A shell's background jobs are born with the signal ignored, and so are their children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        # Where there are other threads, one of them may take it, and this one hears of it later.
        "b.Bundle = lambda *_, **__: (os.kill(os.getpid(), signal.SIGINT), time.sleep(30))\n"
        "from serving.cli",
    )
    done = run("sample", images, "--out", tmp_path / "x.png", program=("-c", code))
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "")


# ------------------------------------------------------------------- other kinds, other inputs


def test_audio_is_sampled_to_arrays_and_drawn(tmp_path):
    layers = [L.Dense(32), L.Reshape((8, 4)), L.Conv1DTranspose(1, 8, 4, "same")]
    model = keras.Sequential([keras.Input((5,)), *layers], name="sound")
    path = bundles.unverified(model, tmp_path / "sound", kind="audio")
    bundle = serving.Bundle(path)
    assert (bundle.kind, bundle.shape) == ("audio", (32, 1))
    latents = latents_from_seeds([3, 4], 5)
    np.testing.assert_allclose(bundle.generate([3, 4]), model(latents), atol=1e-6)
    out = tmp_path / "samples"
    assert cli.main(["sample", str(path), "--count", "2", "--out", f"{out}.npz"]) == 0
    assert np.load(f"{out}.npz")["samples"].shape == (2, 32, 1)
    assert cli.main(["sample", str(path), "--count", "2", "--out", f"{out}.png"]) == 0
    assert Image.open(f"{out}.png").size[0] > 32
