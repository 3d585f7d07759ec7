"""Tests of `keras-gan translate`: files, folders, damage, tiles, formats, metadata."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tiny
import translators
from PIL import Image
from test_uploads import png

from serving import Bundle, cli
from serving.inputs import Input, Port
from serving.manifest import digest

RNG = np.random.default_rng(0)
SCALE = 2


def enlarger(to, tileable=True):
    """Writes a bundle that enlarges pictures twice and exchanges red and blue."""
    inputs = [Input("condition", "float32", ("height", "width", 3), "image", tiny.RANGE)]
    shape = ("samples_height", "samples_width", 3)
    outputs = [Port("samples", "float32", shape, "image", tiny.RANGE)]
    resize = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    nodes = [
        ("Gather", ["condition", "order"], ["exchanged"], {"axis": 3}),
        ("Resize", ["exchanged", "", "scales"], ["samples"], resize),
    ]
    weights = {
        "order": np.array([2, 1, 0], np.int64),
        "scales": np.array([1, SCALE, SCALE, 1], np.float32),
    }
    model = tiny.network("enlarger", nodes, inputs, outputs, weights)
    tiny.save(to, "enlarger", model, inputs, outputs, "translator")
    content = json.loads((to / "manifest.json").read_text())
    content["translation"] = {
        "input": "condition",
        "output": "samples",
        "scale": SCALE,
        "multiple_of": 1,
        "min_side": 1,
        "radius": 0 if tileable else None,
        "tileable": tileable,
        "gray": "keep",
    }
    tiny.seal(to, content)
    return to


def expected(pixels):
    return pixels[..., ::-1].repeat(SCALE, 0).repeat(SCALE, 1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return enlarger(tmp_path_factory.mktemp("bundles") / "enlarger")


@pytest.fixture
def photos(tmp_path):
    """A folder of pictures of several formats and sizes, with other files among them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in (("wide.png", (3, 40, 3)), ("dot.BMP", (1, 1, 3)), ("Ünï.webp", (9, 5, 3))):
        image = Image.fromarray(RNG.integers(0, 256, size, np.uint8))
        image.save(folder / name, lossless=True)
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / ".ipynb_checkpoints").mkdir()
    return folder


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def translate(*arguments):
    return cli.main(["translate", *map(str, arguments)])


def test_one_file(bundle, photos, tmp_path, capsys):
    out = tmp_path / "large.png"
    assert translate(bundle, photos / "wide.png", "--out", out) == 0
    np.testing.assert_array_equal(pixels_of(out), expected(pixels_of(photos / "wide.png")))
    assert capsys.readouterr().out.startswith(f"Wrote {out}: 1 picture by enlarger in ")


def test_a_folder(bundle, photos, tmp_path, capsys):
    out = tmp_path / "answers"
    assert translate(bundle, photos, "--out", out) == 0
    assert sorted(x.name for x in out.iterdir()) == ["dot.png", "wide.png", "Ünï.png"]
    for path in out.iterdir():
        source = next(x for x in photos.iterdir() if x.stem == path.stem)
        np.testing.assert_array_equal(pixels_of(path), expected(pixels_of(source)))
    assert "3 pictures" in capsys.readouterr().out


LARGE = """
import resource, sys
from serving import cli
for picture in sys.argv[2:]:
    assert cli.main(["translate", sys.argv[1], picture, "--out", picture + ".out.png"]) == 0
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_large_picture_is_translated_in_bounded_memory(tmp_path):
    import export
    from keras_gan import architectures
    from keras_gan.spec import Field, Spec

    field = Field("image", (32, 32, 3), meta={"value_range": (-1.0, 1.0)})
    spec = Spec(fields={"samples": field, "condition": field})
    unet = architectures.build_network(
        "generator", "unet", spec, conditions=["condition"], widths=[4, 4, 4]
    )
    bundle = export.export_bundle(unet, tmp_path / "bundle").path
    facts = json.loads((bundle / "manifest.json").read_text())["translation"]
    assert (facts["tileable"], facts["multiple_of"]) == (True, 8)

    y, x = np.mgrid[:4096, :4096]
    picture = np.stack([x % 256, y % 256, (x ^ y) % 256], -1).astype(np.uint8)  # wraps around
    for size in (600, 4096):
        Image.fromarray(picture[:size, :size]).save(tmp_path / f"{size}.png")
    paths = [str(tmp_path / f"{size}.png") for size in (600, 4096)]
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(bundle), *paths], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    small, large = (int(line) for line in done.stdout.splitlines() if line.isdecimal())
    # Input and answer have 48 MiB each, and a copy or two; features of the whole have 256 MiB.
    assert large - small < 300, (small, large)
    answer = pixels_of(tmp_path / "4096.png.out.png")
    assert answer.shape == (4096, 4096, 3)
    whole = pixels_of(tmp_path / "600.png.out.png")  # which was not cut into tiles
    reach = 600 - facts["radius"]
    off = answer[:reach, :reach].astype(int) - whole[:reach, :reach]
    assert np.abs(off).max() <= 1  # of rounding
    assert whole.std() > 1


def test_subfolders_are_skipped_with_a_line(bundle, photos, tmp_path, capsys):
    assert translate(bundle, photos, "--out", tmp_path / "answers") == 0
    assert "skipped" not in capsys.readouterr().err  # hidden folders hold no pictures of the user
    for name in ("a", "b"):
        (photos / name).mkdir()
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(photos / name / "more.png")
    assert translate(bundle, photos, "--out", tmp_path / "answers") == 0
    assert "photos: 2 subfolders skipped, such as a; name a folder" in capsys.readouterr().err
    assert not list((tmp_path / "answers").glob("**/more.png"))
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    assert translate(bundle, tmp_path / "outer", "--out", tmp_path / "answers") == 2
    assert "with 0 other files and 1 subfolder, which" in capsys.readouterr().err


def test_several_files_into_a_folder(bundle, photos, tmp_path):
    out = tmp_path / "answers"
    paths = [photos / "wide.png", photos / "dot.BMP"]
    assert translate(bundle, *paths, "--out", out, "--format", "jpeg") == 0
    assert sorted(x.name for x in out.iterdir()) == ["dot.jpg", "wide.jpg"]
    with Image.open(out / "wide.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (80, 6))


def test_one_file_into_a_folder(bundle, photos, tmp_path):
    (tmp_path / "there").mkdir()
    for out in (tmp_path / "there", f"{tmp_path}/new/"):
        assert translate(bundle, photos / "wide.png", "--out", out, "--format", "webp") == 0
    for name in ("there", "new"):
        found = pixels_of(tmp_path / name / "wide.webp")
        np.testing.assert_array_equal(found, expected(pixels_of(photos / "wide.png")))


def test_damaged_files_are_named_and_the_others_go_on(bundle, photos, tmp_path, capsys):
    whole = (photos / "wide.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").write_bytes(b"")
    out = tmp_path / "answers"
    assert translate(bundle, photos, "--out", out) == 1
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert [line.split(": ")[2] for line in lines] == [
        str(photos / "cut.png"),
        str(photos / "empty.jpg"),
    ]
    assert "0 bytes" in lines[1]
    assert "3 pictures" in captured.out
    assert "2 could not be translated" in captured.out
    assert sorted(x.name for x in out.iterdir()) == ["dot.png", "wide.png", "Ünï.png"]


def test_one_damaged_file(bundle, tmp_path, capsys):
    (tmp_path / "a.png").write_text("no picture")
    assert translate(bundle, tmp_path / "a.png", "--out", tmp_path / "b.png") == 1
    captured = capsys.readouterr()
    assert str(tmp_path / "a.png") in captured.err
    assert captured.out.startswith("Wrote nothing: 0 pictures by enlarger")
    assert not (tmp_path / "b.png").exists()


def test_no_input_is_replaced(bundle, photos, tmp_path, capsys):
    before = {x: x.read_bytes() for x in photos.iterdir() if x.is_file()}
    (tmp_path / "link").symlink_to(photos)
    for arguments in (
        (photos, "--out", photos),
        (photos, "--out", tmp_path / "link"),
        (photos / "wide.png", "--out", photos / "wide.png"),
        (photos / "wide.png", "--out", photos),
    ):
        assert translate(bundle, *arguments) == 2
        assert "must not replace a picture that is read" in capsys.readouterr().err
    assert {x: x.read_bytes() for x in photos.iterdir() if x.is_file()} == before


def test_answers_are_not_written_among_the_pictures(bundle, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(folder / "a.bmp")
    for out in (folder, f"{tmp_path}/photos/../photos/"):
        assert translate(bundle, folder, "--out", out) == 2
        assert "Answers must not be written into a folder of pictures" in capsys.readouterr().err
    assert [x.name for x in folder.iterdir()] == ["a.bmp"]
    assert translate(bundle, folder / "a.bmp", "--out", folder) == 0  # a file beside another


def test_several_pictures_do_not_make_a_folder_named_as_a_picture(bundle, photos, tmp_path, capsys):
    paths = [photos / "wide.png", photos / "dot.BMP"]
    for pictures in (paths, [photos]):
        assert translate(bundle, *pictures, "--out", tmp_path / "all.png") == 2
        assert "--out must be a folder for several pictures" in capsys.readouterr().err
    assert not (tmp_path / "all.png").exists()
    assert translate(bundle, *paths, "--out", f"{tmp_path}/all.png/") == 0


def test_equal_stems_keep_their_endings(bundle, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "a.bmp"):
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(folder / name)
    assert translate(bundle, folder, "--out", tmp_path / "answers") == 0
    assert sorted(x.name for x in (tmp_path / "answers").iterdir()) == ["a.bmp.png", "a.png.png"]


def test_tiles(bundle, tmp_path):
    pixels = RNG.integers(0, 256, (70, 45, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for tile in (16, 0, 1000):
        assert (
            translate(bundle, tmp_path / "a.png", "--out", tmp_path / "b.png", "--tile", tile) == 0
        )
        np.testing.assert_array_equal(pixels_of(tmp_path / "b.png"), expected(pixels))


def test_tiles_of_a_network_that_cannot_be_tiled(tmp_path, photos, capsys):
    whole = enlarger(tmp_path / "whole", tileable=False)
    arguments = (whole, photos, "--out", tmp_path / "answers")
    assert translate(*arguments, "--tile", 64) == 2
    assert "--tile needs a network that can be tiled" in capsys.readouterr().err
    assert translate(*arguments) == 0


def test_alpha_gray_and_orientation(bundle, tmp_path):
    pixels = RNG.integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(np.dstack([pixels, np.full((6, 8), 255, np.uint8)])).save(tmp_path / "a.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "g.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    Image.fromarray(pixels).save(tmp_path / "t.png", exif=exif.tobytes())
    out = tmp_path / "answers"
    assert (
        translate(bundle, tmp_path / "a.png", tmp_path / "g.png", tmp_path / "t.png", "--out", out)
        == 0
    )
    opaque = pixels_of(out / "a.png")
    np.testing.assert_array_equal(opaque[..., :3], expected(pixels))
    assert (opaque[..., 3] == 255).all()
    np.testing.assert_array_equal(pixels_of(out / "g.png"), expected(pixels)[..., 2])
    np.testing.assert_array_equal(pixels_of(out / "t.png"), expected(np.rot90(pixels, -1)))


def test_notes_are_shown(bundle, tmp_path, capsys):
    Image.fromarray(RNG.integers(0, 65536, (4, 4), np.uint16)).save(tmp_path / "deep.png")
    assert translate(bundle, tmp_path / "deep.png", "--out", tmp_path / "b.png") == 0
    assert "deep.png: 16 bits per channel were reduced to 8." in capsys.readouterr().err


def test_16_bits_are_read_as_in_training(tmp_path, capsys):
    """12 bits of a scanner: white is 4095, by the manifest of the bundle."""
    folder = translators.negative(tmp_path / "negative")
    content = json.loads((folder / "manifest.json").read_text())
    content["inputs"][0]["meta"]["stored_range"] = [0.0, 4095.0]
    content["digest"] = digest(content)
    (folder / "manifest.json").write_text(json.dumps(content))
    deep = RNG.integers(0, 4096, (5, 4), np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert translate(folder, tmp_path / "deep.png", "--out", tmp_path / "answer.png") == 0
    line = "16 bits per channel were reduced to 8 from 0 to 4095, as in training."
    assert line in capsys.readouterr().err
    expected = 255 - np.rint(deep / 4095 * 255).astype(int)
    found = pixels_of(tmp_path / "answer.png").astype(int)
    assert np.abs(found - expected[..., np.newaxis]).max() <= 1
    with Image.open(tmp_path / "deep.png") as image:
        assert np.array_equal(np.asarray(Bundle(folder).translate(image)), found)
    colors = np.zeros((2, 3, 3), ">u2")
    rows = [row.tobytes() for row in colors]
    (tmp_path / "colors.png").write_bytes(png(3, 2, 16, 2, rows))
    assert translate(folder, tmp_path / "colors.png", "--out", tmp_path / "c.png") == 1
    line = "Colors must have 8 bits for a network whose pictures of more bits are from 0 to 4095"
    assert line in capsys.readouterr().err


def test_metadata(bundle, photos, tmp_path):
    out = tmp_path / "large.png"
    assert translate(bundle, photos / "wide.png", "--out", out) == 0
    with Image.open(out) as image:
        assert image.info["Model"] == "enlarger"
        assert image.info["Model SHA-256"] == Bundle(bundle).sha256
        assert "compositeWithTrainedAlgorithmicMedia" in image.info["XML:com.adobe.xmp"]
    assert translate(bundle, photos / "wide.png", "--out", out, "--no-metadata") == 0
    with Image.open(out) as image:
        assert not image.info


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--tile", "-1"), "--tile must be an integer"),
        (("--tile", "many"), "--tile must be an integer of at least 0. Received: --tile many"),
        (("--format", "gif"), "--format must be png, jpeg or webp. Received: --format gif"),
        (("--format", "webp"), "The ending of --out must be that of --format"),
        (("--max-pixels", "0"), "--max-pixels must be at least 1"),
        (("--out", "b.gif"), "--out must be a folder/, or end in .png, .jpg, .jpeg or .webp"),
        (("--precision", "int4"), "int4"),
    ],
)
def test_options_that_do_not_fit(bundle, photos, tmp_path, capsys, options, line):
    assert translate(bundle, photos / "wide.png", "--out", tmp_path / "b.png", *options) == 2
    assert line in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists()


def test_pictures_and_bundles_that_do_not_exist(bundle, photos, tmp_path, capsys):
    out = ("--out", tmp_path / "answers")
    (tmp_path / "none").mkdir()
    cases = {
        (bundle, tmp_path / "no.png"): "A picture must exist",
        (bundle, tmp_path / "none"): "A folder must have files that end in png",
        (tmp_path / "no", photos): "A bundle must exist",
        ("http://localhost:1/x", photos): "A server translates at /v1/translate",
        (tiny.clothes(tmp_path / "clothes"), photos): "needs a network from pictures",
    }
    for arguments, line in cases.items():
        assert translate(*arguments, *out) == 2
        assert line in capsys.readouterr().err
    (tmp_path / "file.png").touch()
    assert translate(bundle, photos, "--out", tmp_path / "file.png") == 2
    assert "--out must be a folder for several pictures" in capsys.readouterr().err


def test_the_bound_on_pixels(bundle, photos, tmp_path, capsys):
    out = ("--out", tmp_path / "answers", "--max-pixels", 100)
    assert translate(bundle, photos, *out) == 1
    assert "at most 100 pixels. Received: 40 x 3" in capsys.readouterr().err
    assert sorted(x.name for x in (tmp_path / "answers").iterdir()) == ["dot.png", "Ünï.png"]


def test_an_answer_too_large_for_its_format(bundle, tmp_path, capsys):
    Image.fromarray(np.zeros((1, 9000, 3), np.uint8)).save(tmp_path / "a.png")
    assert translate(bundle, tmp_path / "a.png", "--out", tmp_path / "b.webp") == 1
    assert "at most 16383 pixels high and wide; choose png" in capsys.readouterr().err


def test_it_starts_without_tensorflow(bundle, photos, tmp_path):
    arguments = ["translate", str(bundle), str(photos), "--out", str(tmp_path / "answers")]
    code = (
        "import sys; from serving import cli; status = cli.main(sys.argv[1:]); "
        "heavy = {'tensorflow', 'keras', 'keras_gan', 'export'} & set(sys.modules); "
        "assert not heavy, heavy; sys.exit(status)"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, timeout=120)


def test_help_is_complete(capsys):
    with pytest.raises(SystemExit) as ended:
        translate("--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in ("--out", "--tile", "--format", "--precision", "--max-pixels", "--no-metadata"):
        assert option in text
