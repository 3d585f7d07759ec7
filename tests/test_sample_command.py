"""Tests of `keras-gan sample`: given inputs, files of every kind, shards of other networks."""

import io
import json
import os
import tarfile
import wave

import numpy as np
import pytest
import tiny
from PIL import Image

import serving
from serving import cli, kinds, pictures

RNG = np.random.default_rng(0)
SIZES = ((5, 4), (5, 4), (7, 3))  # of the photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Bundles of several networks, and files for their inputs."""
    found = tmp_path_factory.mktemp("networks")
    for write in (tiny.translator, tiny.two_latents, tiny.conditioned, tiny.classifier, tiny.rows):
        write(found / write.__name__)
    (found / "photos").mkdir()
    for number, size in enumerate(SIZES):
        photo = Image.fromarray(RNG.integers(0, 255, (*size, 3), dtype=np.uint8))
        photo.save(found / "photos" / f"photo-{number}.png")
    (found / "photos" / ".hidden").touch()
    Image.fromarray(RNG.integers(0, 255, (4, 4), dtype=np.uint8)).save(found / "small.png")
    bright = RNG.integers(0, 256, (6, 4, 3))
    np.save(found / "bright.npy", bright * (255 / bright.max()))
    np.save(found / "pixels.npy", np.asarray(Image.open(found / "photos" / "photo-0.png")))
    (found / "bright").mkdir()
    for number, high in enumerate((1.0, 200)):
        np.save(
            found / "bright" / f"{number}.npy", np.linspace(1.5 % high, high, 12).reshape(2, 2, 3)
        )
    (found / "age.csv").write_text("age\n3.5\n")
    (found / "ages").mkdir()
    for age in (10, 20, 30):
        np.save(found / "ages" / f"{age}.npy", np.array([age], np.float32))
    return found


def sample(path, *options):
    return cli.main(["sample", str(path), *map(str, options)])


def photo(folder, number):
    pixels = np.asarray(Image.open(folder / "photos" / f"photo-{number}.png"))
    return kinds.get("image").range_of({})[0] + pixels[np.newaxis].astype(np.float32) * (2 / 255)


def test_a_folder_is_translated_file_by_file(folder, tmp_path, capsys):
    """The files are of different sizes; each result has the name of its picture."""
    out = tmp_path / "night"
    options = ("--input", f"picture={folder}/photos", "--seed", 5, "--each", "--out", out)
    assert sample(folder / "translator", *options) == 0
    assert "3 files in" in capsys.readouterr().out
    assert sorted(os.listdir(out)) == [f"photo-{number}.png" for number in range(3)]
    bundle = serving.Bundle(folder / "translator")
    for number, size in enumerate(SIZES):
        made = Image.open(out / f"photo-{number}.png")
        wanted = bundle.generate([5 + number], picture=photo(folder, number))
        assert made.size == size[::-1]
        difference = np.asarray(made).astype(int) - pictures.to_uint8(wanted)[0]
        assert np.abs(difference).max() <= 1
        assert made.info["Seed"] == str(5 + number)


def test_one_file_serves_for_all_samples(folder, tmp_path):
    grid, archive = tmp_path / "grid.png", tmp_path / "x.npz"
    for out in (grid, archive):
        options = ("--input", f"picture={folder}/photos/photo-0.png", "--count", 4, "--out", out)
        assert sample(folder / "translator", *options) == 0
    assert Image.open(grid).size == (2 * 4 + 2, 2 * 5 + 2)
    drawn = np.load(archive)
    assert sorted(drawn) == ["noise", "picture", "samples", "seeds"]
    assert drawn["seeds"].tolist() == [0, 1, 2, 3]
    assert np.ptp(drawn["picture"], axis=0).max() == 0
    assert np.ptp(drawn["samples"], axis=0).max() > 0


def test_an_array_of_uint8_is_the_picture_of_its_pixels(folder, tmp_path):
    for name, path in (("file", "photos/photo-0.png"), ("array", "pixels.npy")):
        options = ("--input", f"picture={folder}/{path}", "--out", tmp_path / f"{name}.npz")
        assert sample(folder / "translator", "--count", 1, *options) == 0
    with np.load(tmp_path / "file.npz") as a, np.load(tmp_path / "array.npz") as b:
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_a_sound_its_sheet_and_all_its_outputs(folder, tmp_path):
    bundle = serving.Bundle(folder / "two_latents")
    assert sample(folder / "two_latents", "--seed", 4, "--out", tmp_path / "x.wav") == 0
    with wave.open(str(tmp_path / "x.wav")) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (8000, 16)
        values = np.frombuffer(sound.readframes(16), "<i2") / 32767
    np.testing.assert_allclose(values, bundle.generate([4])[0, :, 0], atol=1e-4)
    assert sample(folder / "two_latents", "--count", 9, "--out", tmp_path / "sheet.png") == 0
    assert Image.open(tmp_path / "sheet.png").format == "PNG"
    options = ("--count", 3, "--truncation", 0.5, "--out", tmp_path / "x.npz")
    assert sample(folder / "two_latents", *options) == 0
    drawn = np.load(tmp_path / "x.npz")
    assert sorted(drawn) == ["content", "energy", "samples", "seeds", "style", "truncation"]
    assert drawn["truncation"].tolist() == [0.5] * 3
    assert sample(folder / "two_latents", "--count", 2, "--each", tmp_path / "all") == 0
    assert sorted(os.listdir(tmp_path / "all")) == ["seed000000.wav", "seed000001.wav"]


def test_rows_texts_and_numbers(folder, tmp_path):
    options = ("--input", f"condition={folder}/age.csv", "--count", 3, "--out")
    assert sample(folder / "conditioned", *options, tmp_path / "x.csv") == 0
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert lines[0] == "a,b,c,age"
    assert [line.rsplit(",", 1)[1] for line in lines[1:]] == ["3.5"] * 3
    options = ("--input", f"condition={folder}/ages", "--out", tmp_path / "x.npy")
    assert sample(folder / "conditioned", *options) == 0
    assert np.load(tmp_path / "x.npy")[:, 3].tolist() == [10, 20, 30]  # the count follows
    options = ("--input", f"picture={folder}/small.png", "--out")
    assert sample(folder / "classifier", *options, tmp_path / "x.txt") == 0
    assert (tmp_path / "x.txt").read_text().strip() in tiny.NAMES
    assert sample(folder / "classifier", *options, tmp_path / "x.json") == 0
    (weights,) = json.loads((tmp_path / "x.json").read_text())
    assert sum(weights) == pytest.approx(1.0, abs=1e-5)
    options = ("--count", 2, "--each", tmp_path / "rows", "--format", "csv")
    assert sample(folder / "rows", *options) == 0
    assert len((tmp_path / "rows" / "seed000001.csv").read_text().splitlines()) == 5


MISTAKES = [
    ("classifier", (), "The input 'picture' of kind 'image' must be given: --input picture="),
    ("classifier", ("--input", "picture={}/age.csv"), "takes files of png, webp, jpeg, npy, npz"),
    ("classifier", ("--input", "picture={}/photos/photo-0.png"), "must have the shape (4, 4, 1)"),
    ("classifier", ("--input", "picture={}/small.png", "--count", "2"), "leave --count out"),
    ("translator", ("--input", "picture={}/bright.npy"), "in [-1, 1] (from 0..255: x / 127.5 - 1)"),
    ("translator", ("--input", "picture={}/bright"), "from 1.5 to 200 in '"),
    ("classifier", ("--input", "picture={}/small.png", "--seed", "0"), "Received: --seed 0 for"),
    (
        "classifier",
        ("--input", "picture={}/small.png", "--seed", "7"),
        "--seed needs a network wit",
    ),
    (
        "classifier",
        ("--input", "picture={}/small.png", "--truncation", "0.5"),
        "`truncation` needs",
    ),
    (
        "classifier",
        ("--input", "picture={}/small.png", "--seed", "7", "--out", "a/"),
        "--seed need",
    ),
    (
        "classifier",
        ("--input", "picture={}/small.png", "--truncation", "2", "--out", "a/"),
        "needs",
    ),
    ("conditioned", ("--input", "age={}/age.csv"), "The inputs are latents, condition."),
    ("conditioned", ("--input", "condition={}/ages", "--count", "4"), "are for 3 samples"),
    ("translator", ("--input", "picture={}/photos", "--out", "x.npz"), "one shape; write one file"),
    ("two_latents", ("--out", "x.mp3"), "must be one of png, wav, npy, npz, json"),
    ("two_latents", ("--each", "x", "--format", "png"), "must be one of wav, npy, npz, json"),
]


@pytest.mark.parametrize(("name", "options", "rule"), MISTAKES)
def test_a_mistake_is_one_line(folder, tmp_path, monkeypatch, capsys, name, options, rule):
    monkeypatch.chdir(tmp_path)
    assert sample(folder / name, *(option.format(folder) for option in options)) == 2
    printed = capsys.readouterr()
    assert rule in printed.err
    assert (printed.out, printed.err.count("\n"), os.listdir()) == ("", 1, [])


# ---------------------------------------------------------------------------------- shards


CONTRADICTIONS = [
    ("two_latents", "wav", "x.png", "x.wav"),
    ("two_latents", "png", "x.wav", "x.png"),
    ("two_latents", "npy", "x.npz", "x.npy"),
    ("two_latents", "wav", "x.tar", "x.wav"),
    ("rows", "csv", "a.b.JSON", "a.b.csv"),
    ("rows", "json", "x.csv", "x.json"),
    ("rows", "npz", "x.jpg", "x.npz"),
    ("rows", "csv", "x.tfrecord", "x.csv"),
]


@pytest.mark.parametrize(("name", "form", "out", "better"), CONTRADICTIONS)
def test_an_ending_and_a_format_may_not_contradict_each_other(
    folder, tmp_path, monkeypatch, capsys, name, form, out, better
):
    monkeypatch.chdir(tmp_path)
    options = ("--count", 1, "--format", form, "--out")
    for more in ((), ("--each", "all")):
        assert sample(folder / name, *options, out, *more) == 2
        assert capsys.readouterr().err == (
            "keras-gan: error: The ending of --out must be that of --format: leave --format out, "
            f"or name the file {better}. Received: --format {form} --out {out}\n"
        )
    assert os.listdir() == []
    assert sample(folder / name, *options, better) == 0


@pytest.mark.parametrize("out", ["x", "x.data", "x.v2", "x.WAV", "x.wave", ".hidden"])
def test_endings_that_no_other_format_has_are_free(folder, tmp_path, out):
    path = tmp_path / out
    assert sample(folder / "two_latents", "--format", "wav", "--count", 1, "--out", path) == 0
    assert path.read_bytes()[:4] == b"RIFF"


def test_a_format_may_have_several_endings(tmp_path):
    tiny.write(tmp_path / "film", "film", "video", (2, 4, 4, 1), 3)
    options = ("--count", 1, "--format", "apng", "--out")
    assert sample(tmp_path / "film", *options, tmp_path / "x.png") == 0
    assert Image.open(tmp_path / "x.png").n_frames == 2  # type: ignore[attr-defined]
    assert sample(tmp_path / "film", *options, tmp_path / "x.gif") == 2


def test_the_endings_of_all_kinds():
    assert {"png", "jpg", "wav", "gif", "apng", "csv", "txt", "npz", "json"} <= kinds.endings()


def test_a_tar_of_translated_pictures_names_their_files(folder, tmp_path):
    options = ("--input", f"picture={folder}/photos", "--shard-size", 2, "--workers", 1)
    for _ in range(2):  # the second run finds all shards
        assert sample(folder / "translator", *options, "--out", f"{tmp_path}/a/") == 0
    with tarfile.open(tmp_path / "a" / "translator-000001.tar") as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    key = f"{2:019d}"
    assert sorted(members) == [f"{key}.json", f"{key}.png"]
    about = {"seed": 2, "model": "translator", "inputs": {"picture": "photo-2.png"}}
    assert json.loads(members[f"{key}.json"]) == about


def test_other_files_of_an_input_are_another_job(folder, tmp_path, capsys):
    options = ("--count", 2, "--workers", 1, "--out", f"{tmp_path}/a/")
    one, other = tmp_path / "one.npy", tmp_path / "other.npy"
    np.save(one, np.zeros(1, np.float32))
    np.save(other, np.ones(1, np.float32))
    assert sample(folder / "conditioned", "--input", f"condition={one}", *options) == 0
    assert sample(folder / "conditioned", "--input", f"condition={other}", *options) == 2
    assert "input condition=" in capsys.readouterr().err


def test_shards_hold_all_outputs(folder, tmp_path):
    drawn = serving.Bundle(folder / "two_latents").sample(range(5))
    options = ("--count", 5, "--batch-size", 2, "--workers", 1)
    assert sample(folder / "two_latents", *options, "--out", f"{tmp_path}/a/") == 0
    with tarfile.open(tmp_path / "a" / "two-latents-000000.tar") as tar:
        names = [m.name.partition(".")[2] for m in tar.getmembers()]
        content = tar.extractfile(f"{3:019d}.energy.npy").read()
    energy = np.load(io.BytesIO(content))
    assert names == ["wav", "energy.npy", "json"] * 5
    np.testing.assert_allclose(energy, drawn["energy"][3], atol=1e-6)
    out = f"{tmp_path}/b/"
    assert sample(folder / "two_latents", *options, "--format", "npz", "--out", out) == 0
    found = np.load(tmp_path / "b" / "two-latents-000000.npz")
    assert sorted(found) == ["energy", "samples", "seeds"]
    for name in found:
        np.testing.assert_allclose(found[name], drawn[name], atol=1e-6)


def test_pictures_of_many_sizes_need_a_format_of_files(folder, tmp_path, capfd):
    options = ("--input", f"picture={folder}/photos", "--workers", 1, "--out", f"{tmp_path}/a/")
    for form in ("npz", "tfrecord"):
        assert sample(folder / "translator", *options, "--format", form) == 2
        error = capfd.readouterr().err
        assert f"The {form} format holds samples of one shape: use webdataset" in error
        assert error.count("\n") == 1


def test_tensorflow_datasets_reads_rows_and_all_outputs(folder, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    options = ("--count", 4, "--format", "tfrecord", "--workers", 1, "--out", tmp_path / "a")
    assert sample(folder / "two_latents", *options) == 0
    builder = tfds.builder_from_directory(str(tmp_path / "a"))
    rows = sorted(tfds.as_numpy(builder.as_dataset(split="train")), key=lambda row: row["seed"])
    drawn = serving.Bundle(folder / "two_latents").sample(range(4))
    np.testing.assert_allclose([row["sample"] for row in rows], drawn["samples"], atol=1e-6)
    np.testing.assert_allclose([row["energy"] for row in rows], drawn["energy"], atol=1e-6)
