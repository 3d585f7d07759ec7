"""Tests of the page's translation of pictures in a browser, against a running server."""

import base64
import io
import shutil
import time

import numpy as np
import pytest
import test_page
import translators
from PIL import Image
from servers import Serving
from test_page import PATIENCE, axe, choose, module, needs_curl, opened, pixels, run

pytestmark = test_page.pytestmark
driver = test_page.driver  # the fixture
PICTURE = {"Content-Type": "image/png"}
SIZE = (37, 52)  # height and width


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of an enlarging translator, two opposite ones, one of large radius, one of seeds."""
    folder = tmp_path_factory.mktemp("translators")
    bundles = [
        translators.enlarge(folder / "enlarge"),
        translators.negative(folder / "dark", "dark", backward="light"),
        translators.negative(folder / "light", "light", backward="dark"),
        translators.blur(folder / "blur", examples=2),
        translators.tinted(folder / "tinted", examples=2),
    ]
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    soft = np.stack([4 * x, 6 * y, 120 + 60 * np.sin(x / 5)], -1) + rng.normal(0, 3, (*SIZE, 3))
    Image.fromarray(soft.clip(0, 255).astype(np.uint8)).save(folder / "photo.png")
    with Serving(*bundles, "--no-access-log") as found:
        found.folder = folder
        yield found


@pytest.fixture
def page(driver, server):
    yield from opened(driver, server)


@pytest.fixture
def photo(server):
    return server.folder / "photo.png"


def answered(server, model, photo):
    answer = server.ask(f"/v1/translate?model={model}&format=png", photo.read_bytes(), PICTURE)
    assert answer.status == 200, answer.body
    return answer.body


def shown(page, selector):
    """Returns the RGB pixels of a canvas."""
    address = page.js("return document.querySelector(arguments[0]).toDataURL()", selector)
    return pixels(base64.b64decode(address.partition(",")[2]))[..., :3]


def translated(page):
    page.wait(
        "document.querySelector('#translate').getAttribute('aria-busy') === 'false' && "
        "document.querySelector('#translate-result').offsetHeight > 0"
    )


def divider(page):
    """Returns the position of the divider in percent, and the columns on its left."""
    return page.js(
        "const x = document.querySelector('.divider');"
        "const cut = document.querySelector('#compare-after').style.clipPath;"
        "return [Number(x.ariaValueNow), parseFloat(cut.match(/([\\d.]+)px\\)$/)[1])]"
    )


def test_a_chosen_picture_is_translated_and_compared(page, photo):
    page.open("#model=enlarge", ready=False)
    page.wait("document.querySelector('#translate').offsetHeight")
    assert page.js("return document.querySelector('#wall').offsetHeight") == 0
    assert page.js("return document.querySelector('#seed').offsetHeight") == 0
    choose(page, photo, "#translate-file")
    translated(page)
    size = "const x = document.querySelector('#compare-after'); return [x.height, x.width]"
    assert page.js(size) == [4 * SIZE[0], 4 * SIZE[1]]
    wanted = pixels(answered(page.server, "enlarge", photo))
    np.testing.assert_array_equal(shown(page, "#compare-after"), wanted)
    np.testing.assert_array_equal(shown(page, "#compare-before"), pixels(photo.read_bytes()))
    # Both have one size on the screen, and pixels are not smoothed.
    styles = page.js(
        "return [...document.querySelectorAll('#compare canvas')].map((x) => "
        "[x.offsetWidth, x.offsetHeight, getComputedStyle(x).imageRendering])"
    )
    assert styles == [[4 * SIZE[1], 4 * SIZE[0], "pixelated"]] * 2
    page.click("#translate [name=zoom][value='4']")
    assert page.js("return document.querySelector('#compare-after').offsetWidth") == 16 * SIZE[1]
    facts = page.js("return document.querySelector('#translate-facts').innerText")
    by = "\N{MULTIPLICATION SIGN}"
    assert facts == f"{SIZE[1]} {by} {SIZE[0]} to {4 * SIZE[1]} {by} {4 * SIZE[0]} pixels"
    assert axe(page) == []


def test_the_divider_moves_by_keys_and_by_the_pointer(page, photo):
    page.open("#model=enlarge", ready=False)
    page.wait("document.querySelector('#translate').offsetHeight")
    choose(page, photo, "#translate-file")
    translated(page)
    width = 4 * SIZE[1]
    assert divider(page) == [50, pytest.approx(width / 2, abs=1)]
    page.js("document.querySelector('.divider').focus()")
    for key, percent in (("ArrowRight", 52), ("ArrowLeft", 50), ("PageDown", 40), ("Home", 0)):
        page.key(key)
        assert divider(page) == [percent, pytest.approx(width * percent / 100, abs=1)], key
    page.key("End")
    assert divider(page) == [100, pytest.approx(width, abs=1)]
    text = "return document.querySelector('.divider').ariaValueText"
    assert page.js(text) == "100% input, 0% translation"
    x, y, left = page.js(
        "const at = document.querySelector('.divider').getBoundingClientRect();"
        "return [at.x + at.width / 2, at.y + at.height / 2, "
        "document.querySelector('.compare-stage').getBoundingClientRect().x]"
    )
    for kind, to in (("mousePressed", x), ("mouseMoved", left + 52), ("mouseReleased", left + 52)):
        about = {"type": kind, "x": to, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
        page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", about)
    assert divider(page) == [25, pytest.approx(52, abs=1)]


def test_the_bicubic_enlargement_is_pillow_s(page, photo):
    page.open("#model=enlarge", ready=False)
    page.wait("document.querySelector('#translate').offsetHeight")
    choose(page, photo, "#translate-file")
    translated(page)
    page.click("#translate [name=left][value=bicubic]")
    page.wait("document.querySelector('#compare-before').width === arguments[0]", 4 * SIZE[1])
    image = Image.open(photo)
    wanted = image.resize((4 * SIZE[1], 4 * SIZE[0]), Image.Resampling.BICUBIC)
    off = shown(page, "#compare-before").astype(int) - np.asarray(wanted)
    assert np.abs(off).max() <= 1
    assert np.abs(off).mean() < 0.05
    text = page.js("return document.querySelector('.divider').ariaValueText")
    assert text == "50% bicubic, 50% translation"
    page.set("#model", "blur", "change")  # of scale 1: without bicubic
    translated(page)
    page.wait("document.querySelector('#compare-after').width === arguments[0]", SIZE[1])
    assert page.js("return document.querySelector('#translate-left').offsetHeight") == 0


def test_a_file_that_the_browser_cannot_show_is_not_compared(page, photo, tmp_path):
    page.open("#model=enlarge", ready=False)
    page.wait("document.querySelector('#translate').offsetHeight")
    Image.open(photo).save(tmp_path / "photo.tif")
    choose(page, tmp_path / "photo.tif", "#translate-file")
    translated(page)
    wanted = pixels(answered(page.server, "enlarge", photo))
    np.testing.assert_array_equal(shown(page, "#compare-after"), wanted)
    heights = (
        "return ['.divider', '#compare-before', '#translate-left'].map((x) => "
        "document.querySelector(x).offsetHeight)"
    )
    assert page.js(heights) == [0, 0, 0]
    assert page.js("return document.querySelector('#compare-after').style.clipPath") == "none"
    notes = "return document.querySelector('#translate-notes').innerText"
    assert "cannot show the input" in page.js(notes)
    facts = page.js("return document.querySelector('#translate-facts').innerText")
    assert facts.startswith(f"{SIZE[1]} \N{MULTIPLICATION SIGN} {SIZE[0]} to {4 * SIZE[1]} ")
    assert axe(page) == []
    choose(page, photo, "#translate-file")
    page.wait("document.querySelector('.divider').offsetHeight > 0")
    translated(page)
    assert page.js(notes) == ""
    assert divider(page)[0] == 50


def test_a_large_answer_is_not_compared_with_bicubic(page, photo, tmp_path):
    page.open("#model=enlarge", ready=False)
    page.wait("document.querySelector('#translate').offsetHeight")
    choose(page, photo, "#translate-file")
    translated(page)
    page.click("#translate [name=left][value=bicubic]")
    page.wait("document.querySelector('.divider').ariaValueText.includes('bicubic')")
    Image.new("RGB", (1050, 1000), "teal").save(tmp_path / "large.png")  # of 16.8 million pixels
    choose(page, tmp_path / "large.png", "#translate-file")
    page.wait("document.querySelector('#compare-after').width === 4200")
    assert page.js("return document.querySelector('[name=left][value=bicubic]').disabled")
    text = "return document.querySelector('.divider').ariaValueText"
    assert page.js(text) == "50% input, 50% translation"
    choose(page, photo, "#translate-file")
    page.wait("document.querySelector('#compare-after').width === arguments[0]", 4 * SIZE[1])
    assert not page.js("return document.querySelector('[name=left][value=bicubic]').disabled")


DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (x) => x.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], "photo.png", { type: "image/png" }));
if (arguments[1] === "drop")
  document.querySelector("#translate").dispatchEvent(
    new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
else
  document.dispatchEvent(
    new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
"""


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_dropped_or_pasted_picture_and_the_other_direction(page, photo, way):
    page.open("#model=dark", ready=False)
    page.wait("document.querySelector('#translate').offsetHeight")
    page.js(DROP, base64.b64encode(photo.read_bytes()).decode(), way)
    translated(page)
    np.testing.assert_array_equal(
        shown(page, "#compare-after"), pixels(answered(page.server, "dark", photo))
    )
    assert page.js("return document.querySelector('#translate-file').files[0].name") == "photo.png"
    turn = "return document.querySelector('#translate-turn').innerText"
    assert page.js(turn) == "Other direction: light"
    page.click("#translate-turn")
    page.wait("location.hash.includes('model=light')")
    translated(page)  # the same picture
    assert page.js(turn) == "Other direction: dark"
    assert page.js("return document.querySelector('#model').value") == "light"
    page.set("#model", "enlarge", "change")
    page.wait("document.querySelector('#translate-turn').hidden")


@needs_curl
def test_the_download_and_the_copied_line_are_the_answer_of_the_server(page, photo, tmp_path):
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    page.open("#model=blur", ready=False)
    page.wait("document.querySelector('#translate').offsetHeight")
    choose(page, photo, "#translate-file")
    translated(page)

    def saved(name):
        end = time.monotonic() + PATIENCE
        while not (tmp_path / name).is_file():
            assert time.monotonic() < end, list(tmp_path.iterdir())
            time.sleep(0.05)
        return (tmp_path / name).read_bytes()

    page.click("#translate-save")
    assert saved("photo-blur.png") == answered(page.server, "blur", photo)
    page.set("#translate-format", "jpeg", "change")
    page.click("#translate-save")
    assert Image.open(io.BytesIO(saved("photo-blur.jpg"))).format == "JPEG"
    line = page.js("return document.querySelector('[data-line=curl] code').innerText")
    assert "format=jpeg" in line
    (tmp_path / "photo-blur.jpg").unlink()
    shutil.copy(photo, tmp_path)
    assert run(line, tmp_path).shape == (*SIZE, 3)
    page.set("#translate-format", "png", "change")
    line = page.js("return document.querySelector('[data-line=curl] code').innerText")
    np.testing.assert_array_equal(run(line, tmp_path), pixels(answered(page.server, "blur", photo)))
    python = page.js("return document.querySelector('[data-line=python] code').innerText")
    assert python == (
        f'import serving; serving.Client("http://127.0.0.1:{page.server.port}")'
        '.translate("photo.png", model="blur", version=1, to="photo-blur.png")'
    )


def test_a_model_with_random_inputs_has_a_field_for_the_seed(page, photo):
    page.open("#model=tinted&seed=7", ready=False)
    page.wait("document.querySelectorAll('#translate-example-list img').length === 2")
    label = "return document.querySelector('#seed-label').innerText"
    assert page.js(label) == "Seed"
    heights = (
        "return ['#seed', '#shuffle', '#save-grid', '#open-walk', '#truncation'].map((x) => "
        "document.querySelector(x).offsetHeight > 0)"
    )
    assert page.js(heights) == [True, True, False, False, False]
    choose(page, photo, "#translate-file")
    translated(page)

    def check(seed):
        wanted = pixels(answered(page.server, f"tinted&seed={seed}", photo))
        np.testing.assert_array_equal(shown(page, "#compare-after"), wanted)
        for kind, text in (("curl", f"&seed={seed}&"), ("python", f", seed={seed})")):
            assert text in page.js(f"return document.querySelector('[data-line={kind}]').innerText")

    check(7)
    page.set("#seed", "8", "change")
    page.wait("location.hash.includes('seed=8')")
    translated(page)
    check(8)
    # The examples and the choice of the left stay.
    assert page.js("return document.querySelectorAll('#translate-example-list img').length") == 2
    page.click("#shuffle")
    page.wait("!location.hash.includes('seed=8')")
    translated(page)
    drawn = page.js("return document.querySelector('#seed').value")
    assert drawn != "8"
    check(drawn)
    assert axe(page) == []
    page.set("#model", "blur", "change")  # without random inputs
    translated(page)
    assert page.js(heights)[:2] == [False, False]


def test_an_example_is_translated(page):
    page.open("#model=blur", ready=False)
    page.wait("document.querySelectorAll('#translate-example-list img').length === 2")
    page.click("#translate-example-list li:nth-child(2) button")
    translated(page)
    example = page.server.ask("/v1/models/blur/examples/1.png").body
    np.testing.assert_array_equal(shown(page, "#compare-before"), pixels(example))


def test_a_narrow_screen_and_an_unreadable_file(page, photo, tmp_path):
    page.size(360, 700, mobile=True)
    page.open("#model=enlarge", ready=False)
    page.wait("document.querySelector('#translate').offsetHeight")
    wide = "return document.documentElement.scrollWidth - innerWidth"
    choose(page, photo, "#translate-file")
    translated(page)
    page.click("#translate [name=zoom][value='4']")  # wider than the screen: it scrolls inside
    assert page.js(wide) == 0
    scroll = "document.querySelector('.compare-scroll')"
    assert page.js(f"return {scroll}.scrollWidth > {scroll}.clientWidth")
    page.js("document.querySelector('.divider').focus()")
    page.key("Home")
    page.js(f"{scroll}.scrollLeft = 100")
    page.wait("document.querySelector('#compare-after').style.clipPath.includes('100px')")
    assert divider(page)[0] == 0  # the divider stays at the left of what is seen
    assert axe(page) == []
    page.expected = ("the server responded with a status of 4",)
    (tmp_path / "text.png").write_text("no picture")
    choose(page, tmp_path / "text.png", "#translate-file")
    page.wait("document.querySelector('#problem-text').innerText.includes('readable PNG')")
    assert page.js("return document.querySelector('#translate-result').offsetHeight") == 0
    choose(page, photo, "#translate-file")
    translated(page)
    page.wait("document.querySelector('#problem').hidden")


def test_lines_escape_the_name_of_the_file(page):
    page.open("#model=blur", ready=False)
    page.wait("document.querySelector('#translate').offsetHeight")
    found = "{model: 'a b', version: 3, format: 'png'}"
    line = module(
        page, "requests.js", f"m.translateCurl('http://h:1/', {found}, `it's \"x\".png`, 'o.png')"
    )
    assert line == (
        "curl -fsS -F 'picture=@\"it'\\''s \\\"x\\\".png\"' "
        "'http://h:1/v1/translate?model=a+b&version=3&format=png' -o o.png"
    )
