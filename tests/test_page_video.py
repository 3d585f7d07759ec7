"""Tests of the page's videos in a browser: loops in step, their controls, downloads."""

import base64
import io
import time

import numpy as np
import pytest
import test_page
import tiny
from servers import Serving
from test_page import PATIENCE, axe, describe, module, opened

import serving
from serving import pictures

pytestmark = test_page.pytestmark
driver = test_page.driver  # the fixture
COUNT = 6  # frames


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of videos in gray and in color, and of long ones."""
    folder = tmp_path_factory.mktemp("videos")
    shapes = {"gray": (COUNT, 8, 8, 1), "color": (COUNT, 6, 10, 3), "clear": (2, 4, 4, 4)}
    for name, shape in shapes.items():
        tiny.write(folder / name, name, "video", shape, 5)
    describe(folder / "gray", frame_rate=20.0)
    describe(folder / "color", frame_rate=1.0, value_range=[0.0, 1.0])
    with Serving(*(folder / name for name in shapes), "--no-access-log") as found:
        found.folder = folder
        yield found


@pytest.fixture
def page(driver, server):
    yield from opened(driver, server)


def frames(server, name, *seeds):
    """Returns the pixels of videos as their files have them."""
    bundle = serving.Bundle(server.folder / name)
    return pictures.to_uint8(bundle.generate(seeds=seeds), bundle.value_range)


def pixels(page, selector):
    """Returns the pixels of a canvas."""
    found, width = page.js(
        "const x = document.querySelector(arguments[0]);"
        "const copy = new OffscreenCanvas(x.width, x.height);"
        "const pen = copy.getContext('2d', {willReadFrequently: true}); pen.drawImage(x, 0, 0);"
        "return [[...pen.getImageData(0, 0, x.width, x.height).data], x.width]",
        selector,
    )
    return np.array(found, np.uint8).reshape(-1, width, 4)


def tile(index):
    return f"#wall [data-index='{index}'] canvas"


def shown(page, where="#loops"):
    """Returns the number of the frame that the controls show, from 0."""
    return int(page.js(f"return document.querySelector('{where} input[type=range]').value"))


def number(page):
    page.wait("document.querySelector('#loops input')")
    return page.js("return document.querySelector('#loops .facts').textContent")


def paused(page, name, more=""):
    """Opens a model whose videos do not begin to play."""
    page.media(prefers_reduced_motion="reduce")
    page.open(f"#model={name}{more}")
    page.wait("document.querySelector('#loops input')")
    return page


def test_the_wall_shows_every_frame_of_its_videos(page):
    """The pixels are those of the server's files; a step shows the same frame of all videos."""
    paused(page, "color")
    assert number(page) == f"1 / {COUNT} at 1 Hz"
    wanted = frames(page.server, "color", 0, 17)
    for frame in (*range(COUNT), 0):  # after the last frame comes the first
        assert shown(page) == frame
        for at, index in enumerate((0, 17)):
            found = pixels(page, tile(index))
            np.testing.assert_array_equal(found[..., :3], wanted[at, frame])
            assert (found[..., 3] == 255).all()
        page.click("#loops [aria-label='Next frame']")
    page.click("#loops [aria-label='Previous frame']")
    assert shown(page) == 0
    page.set("#loops input", 4)
    np.testing.assert_array_equal(pixels(page, tile(17))[..., :3], wanted[1, 4])


def test_one_request_has_sixteen_videos(page):
    paused(page, "gray")
    asked = page.js(
        "return performance.getEntriesByType('resource')"
        ".filter((x) => x.name.endsWith('/generate')).length"
    )
    tiles = page.js("return document.querySelectorAll('#wall canvas').length")
    assert asked == -(-tiles // 16)
    wanted = frames(page.server, "gray", 3)[0, 0, ..., 0]
    np.testing.assert_array_equal(pixels(page, tile(3))[..., 0], wanted)
    np.testing.assert_array_equal(pixels(page, tile(3))[..., 2], wanted)


def test_transparent_videos_keep_their_alpha(page):
    paused(page, "clear")
    wanted = frames(page.server, "clear", 2)[0, 0]
    found = pixels(page, tile(2))
    np.testing.assert_array_equal(found[..., 3], wanted[..., 3])


def test_loops_play_in_step_and_stop(page):
    page.open("#model=gray")
    page.wait("document.querySelector('#loops [aria-label=Pause]')")
    page.js(
        "window.seen = new Set();"
        "window.watch = setInterval(() => seen.add(document.querySelector('#loops input').value))"
    )
    page.wait(f"seen.size === {COUNT}")  # all frames come by themselves
    page.js("clearInterval(watch)")
    page.click("#loops [data-play]")
    assert page.js("return document.querySelector('#loops [data-play]').ariaLabel") == "Play"
    frame = shown(page)
    time.sleep(0.3)
    assert shown(page) == frame
    wanted = frames(page.server, "gray", 0, 5, 20)
    for at, index in enumerate((0, 5, 20)):
        found = pixels(page, tile(index))[..., :1]
        np.testing.assert_array_equal(found, wanted[at, frame])


def test_the_keys_of_videos(page):
    """P plays and pauses, comma and period step; arrows still move in the wall."""
    paused(page, "color")
    page.js("document.querySelector('#wall [data-index=\"0\"]').focus()")
    page.key(".")
    page.key(".")
    page.key(",")
    assert shown(page) == 1
    said = "document.querySelector('#status').textContent"
    assert page.js(f"return {said}") == f"Paused at frame 2 of {COUNT}"
    page.key("p")
    assert page.js("return document.querySelector('#loops [data-play]').ariaLabel") == "Pause"
    assert page.js(f"return {said}") == "Playing"
    page.key("p")
    frame = shown(page)
    page.key("ArrowRight")
    assert page.focused() == "sample of seed 1"
    assert shown(page) == frame
    page.js("document.querySelector('#seed').focus()")
    page.key(".")  # typed into a field
    assert shown(page) == frame


def test_reduced_motion_starts_paused_and_the_controls_still_work(page):
    paused(page, "gray")
    assert page.js("return document.querySelector('#loops [data-play]').ariaLabel") == "Play"
    time.sleep(0.3)
    assert shown(page) == 0
    page.click("#loops [data-play]")
    page.wait("document.querySelector('#loops input').value > 0")
    page.media(prefers_reduced_motion="no-preference")
    page.open("#model=gray")
    page.wait("document.querySelector('#loops [aria-label=Pause]')")
    page.media(prefers_reduced_motion="reduce")  # while they play
    page.wait("document.querySelector('#loops [aria-label=Play]')")


def test_a_single_video_has_its_controls(page):
    paused(page, "color", "&sample=9")
    page.wait("document.querySelectorAll('#near .tile canvas').length === 24")
    figure = "#explore-figure"
    assert (
        page.js(f"return document.querySelector('{figure} canvas').ariaLabel") == "sample of seed 9"
    )
    wanted = frames(page.server, "color", 9)[0]
    for frame in range(COUNT):
        np.testing.assert_array_equal(pixels(page, f"{figure} canvas")[..., :3], wanted[frame])
        page.click(f"{figure} [aria-label='Next frame']")
    page.key(",")
    assert shown(page, figure) == COUNT - 1
    bundle = serving.Bundle(page.server.folder / "color")
    asked = page.server.ask("/v1/generate?model=color&around=9&radius=0.3&seeds=11&format=npy")
    near = pictures.to_uint8(read_array(asked), bundle.value_range)[0]
    found = pixels(page, "#near li:nth-child(2) canvas")[..., :3]
    np.testing.assert_array_equal(found, near[COUNT - 1])
    page.key("Escape")
    page.wait("!document.querySelector('dialog[open]')")
    assert shown(page) == COUNT - 1  # one clock for all
    assert axe(page) == []


def read_array(answer):
    """Reads the array of an answer."""
    return np.load(io.BytesIO(answer.body))


def test_a_video_is_downloaded_in_the_formats_of_the_server(page, tmp_path):
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    paused(page, "gray", "&sample=4")
    (model,) = (x for x in page.server.ask("/v1/models").json["models"] if x["name"] == "gray")
    formats = page.js(
        "return [...document.querySelector('#explore-format').options].map((x) => x.value)"
    )
    assert formats == model["formats"][:-4] == list(serving.kinds.get("video").written)
    for form in formats:
        page.set("#explore-format", form, "change")
        assert f"format={form}" in page.line("explore", "curl")
        page.click("#explore-save")
        path, end = tmp_path / f"gray-seed-4.{form}", time.monotonic() + PATIENCE
        while not path.is_file():
            assert time.monotonic() < end, list(tmp_path.iterdir())
            time.sleep(0.05)
        wanted = page.server.ask(f"/v1/generate?model=gray&seed=4&format={form}")
        assert path.read_bytes() == wanted.body


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_videos_are_accessible_and_fit_narrow_screens(page, scheme, width):
    page.media(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    page.size(width, 840, mobile=width < 500)
    page.open("#model=gray")
    page.wait("document.querySelector('#loops input')")
    assert axe(page) == []
    assert page.js("return document.documentElement.scrollWidth - innerWidth") <= 0
    page.click("#wall [data-index='0']")
    page.wait("document.querySelectorAll('#near .tile canvas').length === 24")
    assert axe(page) == []
    sheet = "document.querySelector('#explore')"
    assert page.js(f"return {sheet}.scrollWidth - {sheet}.clientWidth") == 0


def test_the_controls_belong_to_videos_alone(page):
    paused(page, "gray")
    page.set("#model", "color", "change")
    page.wait("document.querySelector('#loops .facts')?.textContent.includes('1 Hz')")
    page.set("#seed", "9")
    page.wait("location.hash.includes('seed=9')")
    page.filled()
    assert page.js("return document.querySelectorAll('#loops .transport').length") == 1


def test_arrays_of_numpy_are_read(page):
    page.open("#model=gray")
    code = (
        "(() => {{ const bytes = Uint8Array.from(atob('{0}'), (x) => x.charCodeAt(0));"
        " const x = m.readNpy(bytes.buffer); return [x.shape, [...x.values]]; }})()"
    )
    for dtype in ("float32", "float64", "float16", "int32", "uint8"):
        array = np.array([[0, 1, 2.5], [100, 0.25, 7]]).astype(dtype)
        file = io.BytesIO()
        np.save(file, array)
        data = base64.b64encode(file.getvalue()).decode()
        shape, values = module(page, "npy.js", code.format(data))
        assert shape == [2, 3]
        assert values == array.ravel().tolist()


def test_levels_are_rounded_as_on_the_server(page):
    """Halves go to the even level, in float32; values beyond the range are clipped."""
    page.open("#model=gray")
    levels = np.concatenate([np.arange(0, 256, 0.5), [-3, 300]]) / 127.5 - 1
    samples = levels.astype(np.float32).reshape(1, -1, 1, 1)
    values = samples.tolist()
    code = f"[...m.takeVideo({{value_range: [-1, 1]}}, {{values: {values}}}).frames.pixels]"
    found = module(page, "video.js", code)
    assert found == pictures.to_uint8(samples).ravel().tolist()
    take = "m.takeVideo({}, {values: [[[[0]], [[NaN]]], [[[1]], [[Infinity]]]]})"
    line = module(
        page, "video.js", f"(() => {{ try {{ {take} }} catch (e) {{ return e.message }} }})()"
    )
    assert line == "A video must have finite values. Received: 2 NaN or infinite values of 4"
