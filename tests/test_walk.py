"""`keras-gan walk`: frames by hand, loops without a jump, files of every format, bad input."""

import io
import os

import numpy as np
import pytest
import tiny
from PIL import Image, ImageSequence
from servers import Serving

import serving
from serving import animations, cli, interpolation, pictures, walk_command
from serving.inputs import Input, Port

SEEDS = (1, 5, 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Bundles of pictures, gray and in color, of points, and of networks that cannot walk."""
    found = tmp_path_factory.mktemp("walks")
    for write in (tiny.clothes, tiny.points, tiny.rows, tiny.translator, tiny.classifier):
        write(found / write.__name__)
    tiny.write(found / "gray", "gray", "image", (5, 7, 1), 4)
    ports = (
        Input("latents", "float32", (2,), fill="normal"),
        Port("samples", "float32", (2,), "points"),
    )
    model = tiny.network(
        "exponential", [("Exp", ["latents"], ["samples"], {})], ports[:1], ports[1:]
    )
    tiny.save(found / "exponential", "exponential", model, ports[:1], ports[1:])
    Image.new("RGB", (4, 3), "teal").save(found / "teal.png")
    np.save(found / "latents.npy", np.zeros(tiny.LATENTS, np.float32))
    return found


def walk(path, *options):
    return cli.main(["walk", str(path), *map(str, options)])


def frames(file):
    """Returns the frames of a file as uint8 RGB pixels, and their durations in ms."""
    with Image.open(file) as film:
        sequence = ImageSequence.Iterator(film)
        found = [(np.asarray(x.convert("RGB")), x.info["duration"]) for x in sequence]
    return np.stack([pixels for pixels, _ in found]), [duration for _, duration in found]


def wanted(bundle, seeds, **options):
    return pictures.to_uint8(bundle.generate(seeds, **options))


def steps(film):
    """Returns the distance of each frame to the next, the last one's to the first."""
    film = film.reshape(len(film), -1).astype(float)
    return np.linalg.norm(np.roll(film, -1, axis=0) - film, axis=1)


# ------------------------------------------------------------------------------- paths


def test_the_places_of_a_loop():
    """Two stations, four points: there, half way, the other, half way back."""
    path = interpolation.Path(2, 4, loop=True)
    assert [path.place(n) for n in range(4)] == [(0, 1, 0.0), (0, 1, 0.5), (1, 0, 0.0), (1, 0, 0.5)]
    assert [path.nearest(n) for n in range(4)] == [0, 0, 1, 1]
    a, b = np.array([2.0, 0.0]), np.array([0.0, 2.0])
    points = [path.point(n, np.stack([a, b])) for n in range(4)]
    np.testing.assert_allclose(points, [a, [2**0.5, 2**0.5], b, [2**0.5, 2**0.5]])


def test_smooth_is_slower_at_the_stations():
    """3 t^2 - 2 t^3 at 1/4, 1/2 and 3/4."""
    path = interpolation.Path(2, 8, loop=True, easing="smooth")
    assert [path.place(n)[2] for n in range(4)] == [0.0, 0.15625, 0.5, 0.84375]
    with pytest.raises(serving.UsageError, match=r"one of linear, smooth\. Received: easing='x'"):
        interpolation.Path(2, 8, easing="x")


def test_slerp_of_many_vectors_is_that_of_each():
    """Also of equal, of opposite and of zero vectors, between which the line is straight."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4, 5))
    b[0, 0], b[0, 1], a[0, 2] = a[0, 0], -a[0, 1], 0
    found = interpolation.slerp(a, b, 0.3)
    for row in np.ndindex(3, 4):
        np.testing.assert_array_equal(found[row], interpolation.slerp(a[row], b[row], 0.3))
    np.testing.assert_allclose(found[0, :3], 0.7 * a[0, :3] + 0.3 * b[0, :3])
    angle = np.arccos(a[1, 1] @ b[1, 1] / np.linalg.norm(a[1, 1]) / np.linalg.norm(b[1, 1]))
    between = np.sin(0.7 * angle) * a[1, 1] + np.sin(0.3 * angle) * b[1, 1]
    np.testing.assert_allclose(found[1, 1], between / np.sin(angle))


# ------------------------------------------------------------------------------- films


@pytest.mark.parametrize("name", ["clothes", "gray"])
def test_every_seed_appears_and_the_loop_has_no_jump(folder, tmp_path, capsys, name):
    out = tmp_path / "new" / "walk.webp"
    options = ("--seeds", "1,5,9", "--seconds", 1, "--truncation", 0.5, "--out", out)
    assert walk(folder / name, *options) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"Wrote {out}: 30 frames of")
    assert f"through 3 seeds of {name} in" in printed.out
    assert printed.err == ""
    assert os.listdir(out.parent) == ["walk.webp"]
    film, durations = frames(out)
    assert sum(durations) == 1000
    bundle = serving.Bundle(folder / name)
    labels = {"labels": 1} if bundle.num_classes else {}  # the class of the first seed
    keys = wanted(bundle, SEEDS, truncation=0.5, **labels)
    for number, key in zip((0, 10, 20), keys, strict=True):
        np.testing.assert_array_equal(film[number], np.broadcast_to(key, film.shape[1:]))
    a, b = bundle.sample(SEEDS[:2], truncation=0.5, **labels)["latents"].astype(float)
    middle = interpolation.slerp(a, b, 0.3)[np.newaxis].astype(np.float32)
    middle = wanted(bundle, [1], latents=middle, **labels)[0]
    assert np.abs(film[3].astype(int) - middle).max() <= 1
    distances = steps(film)
    assert distances[-1] < 1.5 * distances[:-1].max()
    assert distances.max() < 0.5 * np.linalg.norm(keys[0].astype(float) - keys[1])


def test_labels_for_each_seed_change_half_way(folder, tmp_path):
    out = tmp_path / "walk.apng"
    options = ("--seeds", "4,7", "--labels", "bag,shoe", "--seconds", 0.4, "--frame-rate", 20)
    assert walk(folder / "clothes", *options, "--out", out) == 0
    film, durations = frames(out)
    assert durations == [50] * 8
    bundle = serving.Bundle(folder / "clothes")
    latents = bundle.sample([4, 7], labels=0)["latents"].astype(float)
    path = interpolation.Path(2, 8, loop=True)
    points = np.stack([path.point(n, latents) for n in range(8)]).astype(np.float32)
    labels = ["bag"] * 3 + ["shoe"] * 4 + ["bag"]
    labels[6] = "shoe"  # half way back: the earlier one of the two
    expected = wanted(bundle, [4] * 8, labels=labels, latents=points)
    assert np.abs(film.astype(int) - expected).max() <= 1


def test_several_walks_side_by_side(folder, tmp_path):
    out = tmp_path / "walk.webp"
    options = ("--seeds", "10,20", "--count", 4, "--seconds", 0.2, "--batch-size", 8)
    assert walk(folder / "clothes", *options, "--out", out) == 0
    film, _ = frames(out)
    assert film.shape == (6, 18, 18, 3)  # two rows of two, with a line of 2 pixels between them
    bundle = serving.Bundle(folder / "clothes")
    labels = [seed % 3 for seed in range(10, 14)]  # of each walk's first seed
    for number, first in ((0, 10), (3, 20)):
        keys = wanted(bundle, range(first, first + 4), labels=labels)
        np.testing.assert_array_equal(film[number], pictures.grid(keys))


def test_points_move_on_fixed_axes(folder, tmp_path):
    out = tmp_path / "cloud.webp"
    options = ("--seeds", "0,100", "--count", 20, "--seconds", 0.2, "--out", out)
    assert walk(folder / "points", *options) == 0
    film, _ = frames(out)
    assert film.shape == (6, 640, 640, 3)
    np.testing.assert_array_equal(film[0, 607:], film[3, 607:])  # the numbers at the axes
    assert (film[0] != film[3]).any()


def test_a_picture_to_translate_sets_the_size(folder, tmp_path):
    out = tmp_path / "walk.webp"
    given = ("--input", f"picture={folder}/teal.png")
    assert walk(folder / "translator", *given, "--seconds", 0.2, "--out", out) == 0
    film, _ = frames(out)
    assert film.shape == (8, 3, 4, 3)  # the first of four seeds follows after 2 frames
    bundle = serving.Bundle(folder / "translator")
    picture = np.asarray(Image.open(folder / "teal.png"))[np.newaxis] * np.float32(2 / 255) - 1
    np.testing.assert_array_equal(film[2], wanted(bundle, [1], picture=picture)[0])


@pytest.mark.parametrize("form", ["webp", "gif", "apng"])
def test_a_file_says_where_it_comes_from(folder, tmp_path, form):
    out = tmp_path / f"walk.{form.upper()}"  # the case of an ending does not count
    options = ("--seeds", "1,5", "--seconds", 0.1, "--out", out)
    assert walk(folder / "clothes", *options) == 0
    with Image.open(out) as film:
        assert (film.n_frames, film.info["loop"]) == (4, 0)  # without end
    assert b"trainedAlgorithmicMedia" in out.read_bytes()
    before = out.read_bytes()
    assert walk(folder / "clothes", *options, "--no-metadata") == 0  # it is replaced, as by sample
    assert b"trainedAlgorithmicMedia" not in out.read_bytes()
    assert len(out.read_bytes()) < len(before)


def test_durations_add_up(tmp_path):
    """30 frames/s: 33, 34 and 33 ms, of GIF 30, 40 and 30."""
    ramp = np.arange(30, dtype=np.uint8)[:, np.newaxis, np.newaxis, np.newaxis] * 8
    film = np.broadcast_to(ramp, (30, 6, 5, 1))
    for form, first in (("webp", [33, 34, 33]), ("gif", [30, 40, 30]), ("apng", [33, 34, 33])):
        content = animations.encode(film, form, 30.0)
        pixels, durations = frames(io.BytesIO(content))
        assert durations[:3] == first
        assert sum(durations) == 1000
        np.testing.assert_array_equal(pixels[:, 0, 0, 0], ramp.ravel())


def test_mp4_with_the_extra(folder, tmp_path):
    av = pytest.importorskip("av", reason="needs the extra video")
    out = tmp_path / "walk.mp4"
    options = ("--seeds", "1,5", "--seconds", 0.8, "--frame-rate", 25, "--out", out)
    assert walk(folder / "gray", *options) == 0
    with av.open(str(out)) as container:
        film = np.stack([x.to_ndarray(format="gray") for x in container.decode(video=0)])
        assert container.streams.video[0].average_rate == 25
        assert "trainedAlgorithmicMedia" in container.metadata["comment"]
    assert film.shape == (20, 6, 8)  # of 5 x 7: made even by repeating the last row and column
    keys = wanted(serving.Bundle(folder / "gray"), [1, 5])[..., 0]
    assert np.abs(film[[0, 10], :5, :7].astype(int) - keys).mean() < 12


def test_mp4_without_the_extra_names_it(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(animations.importlib.util, "find_spec", lambda name: None)
    assert walk(folder / "clothes", "--out", tmp_path / "walk.mp4") == 2
    assert capsys.readouterr().err == (
        "keras-gan: error: A .mp4 file needs the extra 'video': pip install 'keras-gan[video]'. "
        "Received: no module 'av'\n"
    )
    assert animations.available() == ["webp", "gif", "apng"]


def test_progress_is_shown_on_a_terminal(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert walk(folder / "clothes", "--seconds", 1, "--out", tmp_path / "walk.webp") == 0
    shown = capsys.readouterr().err
    assert " of 32 frames, " in shown
    assert shown.endswith("\r")  # and removed


# ------------------------------------------------------------------------------- bad input


MISTAKES = [
    ("clothes", ("--seeds", "1"), "--seeds must be 2 or more integers"),
    ("clothes", ("--seeds", "1,x"), "Received: --seeds 1,x"),
    ("clothes", ("--seeds", "1,-5"), "Received: --seeds 1,-5"),
    ("clothes", ("--seeds", ""), "must not be empty. Received: --seeds ''"),
    ("clothes", ("--seeds", f"1,{2**63}"), "All seeds must be below 2**63"),
    ("clothes", ("--seeds", f"1,{2**63 - 1}", "--count", "2"), "--count 2"),
    ("clothes", ("--seconds", "0"), "--seconds must be above 0. Received: --seconds 0"),
    ("clothes", ("--seconds", "nan"), "--seconds must be above 0. Received: --seconds nan"),
    ("clothes", ("--seconds", "1e9"), "A walk has at most 10000 frames."),
    ("clothes", ("--seconds", "0.1"), "must give each seed a frame, here at least 0.133."),
    ("clothes", ("--frame-rate", "60"), "--frame-rate must be from 1 to 50 frames/s."),
    ("clothes", ("--frame-rate", "nan"), "--frame-rate must be from 1 to 50 frames/s."),
    ("clothes", ("--count", "0"), "--count must be at least 1. Received: --count 0"),
    ("clothes", ("--count", "10000000"), "A grid must be at most 16384 pixels wide and high."),
    ("clothes", ("--count", "300000"), "at most 134217728 pixels together. Received: 240 frames"),
    ("clothes", ("--easing", "bouncy"), "`easing` must be one of linear, smooth."),
    ("clothes", ("--labels", "shoe,bag"), "one for all or one for each of 4 seeds."),
    ("clothes", ("--labels", "hat"), "A label must be 0 to 2 or one of shirt, shoe, bag."),
    ("clothes", ("--truncation", "-1"), "`truncation` must be a finite number of at least 0."),
    ("clothes", ("--batch-size", "0"), "`batch_size` must be at least 1."),
    ("clothes", ("--out", "walk.avi"), "The ending of --out must be one of .webp, .gif, .apng"),
    ("clothes", ("--out", "walk"), "Received: --out walk"),
    ("clothes", ("--out", "folder.webp"), "--out must name a file. Received: --out folder.webp"),
    ("clothes", ("--out", "file/walk.webp"), "--out must be in a folder."),
    ("clothes", ("--precision", "int8"), "int8"),
    ("gray", ("--labels", "1"), "takes no labels"),
    (
        "clothes",
        ("--input", "latents={}/latents.npy"),
        "A walk needs a normal input that is not giv",
    ),
    ("rows", (), "A walk shows samples of kind image or points. Received: 'rows' of kind 'series'"),
    ("classifier", (), "A walk needs a model with normal inputs. Received: 'classifier'"),
    ("translator", (), "must be given: --input picture="),
    ("translator", ("--input", "picture={}"), "--input of a walk must name one file"),
]


@pytest.mark.parametrize(("name", "options", "rule"), MISTAKES)
def test_a_mistake_is_one_line(folder, tmp_path, monkeypatch, capsys, name, options, rule):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.webp").mkdir()
    (tmp_path / "file").touch()
    before = sorted(os.listdir())
    options = [option.format(folder) for option in options]
    assert walk(folder / name, *options) == 2
    printed = capsys.readouterr()
    assert rule in printed.err
    assert (printed.out, printed.err.count("\n"), sorted(os.listdir())) == ("", 1, before)


def test_an_interrupted_or_failed_walk_keeps_the_old_file(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "walk.webp"
    out.write_bytes(b"old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(walk_command.ProgressLine, "update", interrupt)
    assert walk(folder / "clothes", "--out", out) == 130
    monkeypatch.undo()
    for truncation, rule in (("1e39", "must be finite"), ("1e4", "try a smaller --truncation")):
        assert walk(folder / "exponential", "--truncation", truncation, "--out", out) == 2
        printed = capsys.readouterr().err
        assert rule in printed
        assert printed.count("\n") == 1
    assert os.listdir(tmp_path) == ["walk.webp"]
    assert out.read_bytes() == b"old"


# ------------------------------------------------------------------------------- server


@pytest.fixture(scope="module")
def server(folder):
    paths = [folder / name for name in ("clothes", "points", "rows", "translator")]
    with Serving(*paths, "--no-access-log", "--max-count", 100) as found:
        yield found


LOOP = {"model": "clothes", "interpolate": [1, 5, 9], "count": 30, "loop": True, "frame_rate": 30}


def test_the_server_makes_the_same_animation(server, folder, tmp_path):
    out = tmp_path / "walk.webp"
    assert walk(folder / "clothes", "--seeds", "1,5,9", "--seconds", 1, "--out", out) == 0
    answer = server.ask("/v1/generate", LOOP)
    assert (answer.status, answer.headers["content-type"]) == (200, "image/webp")
    for found, expected in zip(frames(io.BytesIO(answer.body)), frames(out), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert b"Between seeds" not in answer.body  # WebP has the XMP packet only
    assert b"trainedAlgorithmicMedia" in answer.body
    address = "/v1/generate?model=clothes&interpolate=1,5,9&count=30&loop=true&frame_rate=30"
    assert server.ask(address).body == answer.body
    plain = server.ask("/v1/generate", LOOP | {"metadata": False, "format": "gif"})
    assert (plain.body[:6], plain.headers["content-type"]) == (b"GIF89a", "image/gif")
    assert b"trainedAlgorithmicMedia" not in plain.body
    # The command takes the frames of a server, too.
    remote = tmp_path / "remote.webp"
    url = f"http://127.0.0.1:{server.port}/clothes"
    assert walk(url, "--seeds", "1,5,9", "--seconds", 1, "--out", remote) == 0
    np.testing.assert_array_equal(frames(remote)[0], frames(out)[0])


def test_labels_and_easing_of_a_request(server, folder):
    fields = {"count": 6, "format": "json", "frame_rate": None, "labels": ["bag", "shoe", "shirt"]}
    listed = server.ask("/v1/generate", LOOP | fields | {"easing": "smooth"}).json["samples"]
    assert [(x["from"], x["to"], x["at"], x["label"]) for x in listed] == [
        (1, 5, 0.0, 2),
        (1, 5, 0.5, 2),
        (5, 9, 0.0, 1),
        (5, 9, 0.5, 1),
        (9, 1, 0.0, 0),
        (9, 1, 0.5, 0),
    ]
    one = server.ask("/v1/generate", LOOP | fields | {"labels": "bag"}).json["samples"]
    assert {x["label"] for x in one} == {2}


def test_other_samples_are_frames_too(server):
    answer = server.ask("/v1/generate?model=clothes&seeds=3,4,5&frame_rate=2&format=apng")
    film, durations = frames(io.BytesIO(answer.body))
    assert durations == [500] * 3
    for seed, frame in zip((3, 4, 5), film, strict=True):
        one = server.ask(f"/v1/generate?model=clothes&seed={seed}&format=png")
        np.testing.assert_array_equal(frame, np.asarray(Image.open(io.BytesIO(one.body))))


def test_the_models_list_their_animations(server):
    listed = {x["name"]: x["animations"] for x in server.ask("/v1/models").json["models"]}
    formats = animations.available()
    assert listed == {
        "clothes": {"formats": formats, "max_frames": 100},
        "points": {"formats": formats, "max_frames": 40},  # 2^24 / 640^2
        "rows": {"formats": [], "max_frames": None},
        "translator": {"formats": formats, "max_frames": None},
    }
    schema = server.ask("/openapi.json").json["paths"]["/v1/generate"]["get"]
    assert "image/webp" in schema["responses"]["200"]["content"]
    names = {parameter["name"] for parameter in schema["parameters"]}
    assert {"loop", "easing", "frame_rate"} <= names


REFUSED = [
    ({"frame_rate": 0.5}, "`frame_rate` must be a number from 1 to 50.0."),
    ({"frame_rate": "fast"}, "`frame_rate` must be a number"),
    ({"easing": "x"}, "`easing` must be one of linear, smooth."),
    ({"easing": ["smooth"]}, "`easing` must be one of linear, smooth."),
    ({"loop": "yes"}, "`loop` must be true or false."),
    ({"format": "png"}, "`format` must be one of webp, gif, apng"),
    ({"stream": True}, "An animation is one file and cannot be streamed."),
    ({"count": 101}, "`count` must be at most 100. Received: count=101"),
    ({"interpolate": None}, "`loop` needs `interpolate`. Received: loop=True"),
    ({"labels": ["bag", "shoe"]}, "`labels` must be one for all or one for each of the 30 seeds."),
    ({"model": "points", "count": 41}, "numbers or pixels. Received: 41 samples of 409600"),
    ({"model": "rows"}, "An animation shows samples of kind image or points."),
]


@pytest.mark.parametrize(("fields", "rule"), REFUSED)
def test_a_refused_request_is_one_line(server, fields, rule):
    answer = server.ask("/v1/generate", LOOP | fields)
    assert answer.status == 400
    assert rule in answer.error
