"""Tests of `keras-gan classify`: files, folders, damage, JSON, wrong bundles."""

import json

import numpy as np
import pytest
import test_classification
import tiny
from PIL import Image
from test_classification import SIZE, pixels

from serving import Bundle, cli


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return test_classification.write(tmp_path_factory.mktemp("bundles") / "color")


@pytest.fixture
def photos(tmp_path):
    """A folder of pictures of two sizes, with another file among them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate((SIZE, (30, 50))):
        Image.fromarray(pixels(*size, seed=number)).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def classify(*arguments):
    return cli.main(["classify", *map(str, arguments)])


def test_a_line_for_each_picture(bundle, photos, capsys):
    assert classify(bundle, photos, "--top", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    opened = Bundle(bundle)
    assert len(lines) == 2
    for number, line in enumerate(lines):
        path = photos / f"{number}.png"
        found = opened.classify(path)
        first, second = found.top(2)
        assert line == (
            f"{path}: {first.name} {first.probability:.3f}, {second.name} "
            f"{second.probability:.3f}  novelty {found.novelty:.3g}"
        )


def test_json_lines(bundle, photos, capsys):
    assert classify(bundle, photos / "1.png", photos / "0.png", "--json", "--top", 3) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == [str(photos / "1.png"), str(photos / "0.png")]
    found = Bundle(bundle).classify(photos / "1.png")
    assert rows[0]["notes"] == list(found.notes)
    assert "resized from 50 x 30" in rows[0]["notes"][0]
    assert [x["id"] for x in rows[0]["classes"]] == [x.id for x in found.top()]
    got = [x["probability"] for x in rows[0]["classes"]]
    np.testing.assert_allclose(got, sorted(found.probabilities, reverse=True), atol=1e-6)
    assert rows[0]["novelty"] == pytest.approx(found.novelty, abs=1e-4)


def test_damaged_files_are_named_and_the_others_are_classified(bundle, photos, capsys):
    (photos / "cut.png").write_bytes((photos / "1.png").read_bytes()[:60])
    assert classify(bundle, photos) == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2
    (line,) = captured.err.splitlines()
    assert line.startswith(f"keras-gan: error: {photos / 'cut.png'}: A picture must be a readable")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("color", "missing.png"), "A picture must exist. Received: 'missing.png'"),
        (("color", "photos", "--top", "0"), "--top must be at least 1. Received: --top 0"),
        (("clothes", "photos"), "A classifier has the role 'classifier'"),
        (("points", "photos"), "whose input 'picture' is of kind 'points' and shape (5,)"),
        (("http://host", "photos"), "A server classifies at /v1/classify"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, photos, arguments, line, capsys):
    monkeypatch.chdir(tmp_path)
    test_classification.write(tmp_path / "color")
    test_classification.write(tmp_path / "points", shape=(5,), name="points")
    tiny.clothes(tmp_path / "clothes")
    assert classify(*arguments) == 2
    (found,) = capsys.readouterr().err.splitlines()
    assert line in found


def test_the_number_of_pixels_is_limited(bundle, photos, capsys):
    assert classify(bundle, photos, "--max-pixels", 100) == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert "at most 100 pixels. Received: 50 x 30" in captured.err
