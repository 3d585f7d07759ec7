"""Tests of the page's texts in a browser: the list, one text, typed inputs, copies, downloads."""

import json
import shlex
import subprocess
import sys
import time

import numpy as np
import pytest
import test_page
import texts
import tiny
from servers import Serving
from test_page import PATIENCE, axe, describe, needs_curl, opened
from test_page_sound import ENVIRONMENT

import serving
from serving.kinds.text import from_line

pytestmark = test_page.pytestmark
driver = test_page.driver  # the fixture
MARKUP = ["<img src=x onerror=alert(1)>", "\u202eright", "\u05de\u05dc\u05d4", "cat", "sat"]
SAID = "[...document.querySelectorAll('#wall .said')].map((x) => x.textContent)"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of texts with a temperature and a prefix, of texts of markup, and of one prefix."""
    folder = tmp_path_factory.mktemp("texts")
    texts.writer(folder / "writer")
    texts.writer(folder / "continuer", fill="given")
    tiny.write(folder / "markup", "markup", "text", (12, 5), 5, ("odd", "even"))
    describe(folder / "markup", vocabulary=MARKUP)
    names = ("writer", "continuer", "markup")
    with Serving(*(folder / name for name in names), "--no-access-log") as found:
        found.folder = folder
        yield found


@pytest.fixture
def page(driver, server):
    allow = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    driver.execute_cdp_cmd("Browser.grantPermissions", allow)
    driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    yield from opened(driver, server)


def strings(server, name, seeds, **given):
    """Returns the texts of a client."""
    with serving.Client(f"http://127.0.0.1:{server.port}/{name}") as client:
        files = client.files(seeds, format="txt", **given)
    return [content.decode().removesuffix("\n") for content in files]


def pasted(page):
    page.wait("document.querySelector('#toast').classList.contains('on')")
    return page.driver.execute_async_script(
        "const done = arguments[0]; setTimeout(() => navigator.clipboard.readText().then(done))"
    )


def test_the_list_has_the_texts_of_the_client_with_their_seeds(page):
    page.open("#model=writer&seed=5")
    found = page.wait(SAID)
    assert found == strings(page.server, "writer", range(5, 5 + len(found)))
    assert any("\n" in text for text in found)
    assert page.label(2) == "sample of seed 7"
    assert page.texts("#wall .seed")[:3] == ["5", "6", "7"]
    assert page.js("return document.querySelector('#wall .facts').textContent") == (
        f"{len(found)} texts"
    )
    assert not page.js("return document.querySelector('#sizes').offsetHeight")


def test_more_texts_come_by_scrolling(page):
    page.open("#model=writer")
    first = len(page.wait(SAID))
    page.js("scrollTo(0, document.documentElement.scrollHeight)")
    page.wait(f"{SAID}.length > {first}")
    found = page.js(f"return {SAID}")
    assert found == strings(page.server, "writer", range(len(found)))


def test_markup_of_a_model_stays_text(page):
    """No element comes from a text, and a script of another direction keeps to its own line."""
    page.open("#model=markup")
    found = page.wait(SAID)
    assert found == strings(page.server, "markup", range(len(found)))
    assert any("<img" in text for text in found)
    assert page.js("return document.querySelectorAll('#wall .said *, #wall img').length") == 0
    directions = page.js(
        "return [...document.querySelectorAll('#wall .said')].map((x) =>"
        " getComputedStyle(x).direction)"
    )
    assert set(directions) == {"ltr", "rtl"}
    for text, direction in zip(found, directions, strict=True):  # that of the first letter
        first = next(x for x in text if x.isalpha())
        assert direction == ("rtl" if first in MARKUP[2] else "ltr")
    page.click("#wall .seed")
    page.wait("document.querySelectorAll('#near .tile').length === 24")
    assert page.texts("#explore-figure .said") == found[:1]
    assert page.js("return document.querySelectorAll('dialog .said *, dialog img').length") == 0


def test_one_text_and_all_of_them_are_copied(page):
    page.open("#model=writer")
    found = page.wait(SAID)
    at = next(i for i, text in enumerate(found) if "\n" in text)
    label = page.js(
        "const row = document.querySelectorAll('#wall li')[arguments[0]];"
        "row.lastElementChild.click(); return row.lastElementChild.ariaLabel",
        at,
    )
    assert label == f"Copy the text of the sample of seed {at}"
    assert pasted(page) == found[at]
    page.click("#wall .row button")  # lines, as a file of them has them
    page.wait("document.querySelector('#toast').innerText.includes('all texts')")
    answer = page.server.ask(f"/v1/generate?model=writer&count={len(found)}&format=txt")
    assert pasted(page) + "\n" == answer.body.decode()
    page.click("#wall .seed")
    page.click("#explore-figure button")
    page.wait("document.querySelector('#toast').innerText === 'Copied the text'")
    assert pasted(page) == found[0]


def test_the_list_by_keyboard(page):
    page.open("#model=writer")
    stops = "return document.querySelectorAll('#wall ol [tabindex=\"0\"]').length"
    assert page.js(stops) == 2  # one text: its seed and its copy
    page.js("document.querySelector('#wall .seed').focus()")
    page.key("ArrowDown")
    page.key("ArrowDown")
    assert page.focused() == "sample of seed 2"
    assert page.js(stops) == 2
    page.key("w")
    assert page.focused() == "sample of seed 2, start of the walk"
    page.js("document.querySelector('#tray-cancel').click()")
    page.js("document.querySelector('#wall [data-index=\"2\"]').focus()")
    page.key("Enter")
    page.wait("document.querySelector('#explore').open")
    page.key("Escape")
    page.wait("!document.querySelector('#explore').open")
    assert page.focused() == "sample of seed 2"
    page.key("Home")
    assert page.focused() == "sample of seed 0"


def ids(text):
    padding = [-1] * (texts.LENGTH - len(text))
    return [*(texts.LETTERS.index(letter) for letter in text), *padding]


def test_temperature_and_prefix_are_settings(page):
    page.open("#model=writer")
    before = page.wait(SAID)
    page.set("#constant-temperature", 0.3)
    page.wait("location.hash.includes('input.temperature=0.3')")
    page.set("#constant-prefix", "ab c")
    page.wait("location.hash.includes('input.prefix=ab')")
    page.filled()
    given = {"temperature": [0.3], "prefix": np.array([ids("ab c")])}
    found = page.js(f"return {SAID}")
    assert found == strings(page.server, "writer", range(len(found)), inputs=given) != before
    assert all(text.startswith("ab c") for text in found)
    link = page.js("return location.hash")
    page.open(link)
    assert page.js(f"return {SAID}") == found
    assert page.js("return document.querySelector('#constant-prefix').value") == "ab c"
    assert page.texts("#constants output")[0] == "0.30"
    page.click("#constants .field:nth-child(2) button")
    page.wait("!location.hash.includes('prefix')")
    page.filled()
    assert not all(text.startswith("ab c") for text in page.js(f"return {SAID}"))
    assert page.focused() is None  # the field has a label of its own
    assert page.js("return document.activeElement.id") == "constant-prefix"


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("abx", '`prefix` must consist of tokens of the model\'s vocabulary. Received: "x"'),
        ("a" * 9, "`prefix` must have at most 8 tokens. Received: 9 tokens"),
    ],
)
def test_a_prefix_that_does_not_fit_is_one_line(page, typed, line):
    page.open("#model=writer")
    page.set("#constant-prefix", typed)
    page.wait("document.querySelector('#problem-text').innerText === arguments[0]", line)
    assert page.js("return document.querySelector('#constant-prefix').ariaInvalid") == "true"
    page.set("#constant-prefix", "a")
    page.wait("document.querySelector('#problem').hidden")
    page.open(f"#model=writer&input.prefix={typed}")  # a link from elsewhere
    page.wait("document.querySelector('#problem-text').innerText === arguments[0]", line)


@needs_curl
def test_the_shown_lines_write_the_text(page, tmp_path):
    page.open("#model=writer&sample=3&input.prefix=ba&input.temperature=0.5")
    page.wait("document.querySelector('#explore-figure .said')")
    (wanted,) = page.texts("#explore-figure .said")
    assert wanted.startswith("ba")
    curl = page.line("explore", "curl")
    subprocess.run(["sh", "-c", curl], cwd=tmp_path, check=True, timeout=PATIENCE)
    assert (tmp_path / "writer-seed-3.txt").read_text("utf-8") == wanted + "\n"
    python = page.line("explore", "python") + "; print(samples[0].decode(), end='')"
    command = [sys.executable, "-c", python]
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout == wanted + "\n"


@needs_curl
def test_a_given_prefix_may_be_typed(page, tmp_path):
    page.open("#model=continuer", ready=False)
    page.wait("document.querySelector('#given input[type=text]')")
    text = "ab cab c"  # of the length of the input
    page.set("#given input[type=text]", text)
    page.filled()
    found = page.js(f"return {SAID}")
    assert found[:1] == strings(page.server, "continuer", [0], prefix=text.encode()) == [text]
    page.set("#constant-temperature", 0.4)  # goes with the file in one form
    page.wait("location.hash.includes('temperature')")
    page.filled()
    page.click("#wall .seed")
    curl = page.line("explore", "curl")
    parts = shlex.split(curl)
    assert f'prefix="{text}";type=text/plain' in parts
    assert 'inputs={"temperature":0.4}' in parts
    subprocess.run(["sh", "-c", curl], cwd=tmp_path, check=True, timeout=PATIENCE)
    assert (tmp_path / "continuer-seed-0.txt").read_text("utf-8") == text + "\n"


def test_texts_are_downloaded_as_lines(page, tmp_path):
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)

    def saved(name):
        end = time.monotonic() + PATIENCE
        while not (tmp_path / name).is_file():
            assert time.monotonic() < end, list(tmp_path.iterdir())
            time.sleep(0.05)
        return (tmp_path / name).read_bytes()

    page.open("#model=writer&seed=2")
    page.set("#grid-count", "16", "change")
    for form in ("txt", "jsonl"):
        page.set("#grid-format", form, "change")
        page.click("#save-grid")
        wanted = page.server.ask(f"/v1/generate?model=writer&seed=2&count=16&format={form}").body
        assert saved(f"writer-seeds-2-16.{form}") == wanted
        assert wanted.count(b"\n") == 16
    rows = [json.loads(row) for row in wanted.splitlines()]
    assert [row["text"] for row in rows] == page.js(f"return {SAID}")[:16]
    page.set("#grid-format", "grid", "change")
    page.click("#save-grid")
    assert saved("writer-seeds-2-16.png").startswith(b"\x89PNG")
    page.click("#wall .seed")
    for form in ("txt", "jsonl"):
        page.set("#explore-format", form, "change")
        page.click("#explore-save")
        wanted = page.server.ask(f"/v1/generate?model=writer&seed=2&format={form}").body
        assert saved(f"writer-seed-2.{form}") == wanted


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_texts_are_accessible_and_fit_narrow_screens(page, scheme, width):
    page.media(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    page.size(width, 840, mobile=width < 500)
    page.open("#model=markup")
    if width < 500:
        page.click("#settings-toggle")
    assert axe(page) == []
    assert page.js("return document.documentElement.scrollWidth - innerWidth") <= 0
    page.open("#model=writer&sample=1")
    page.wait("document.querySelectorAll('#near .tile').length === 24")
    assert axe(page) == []
    sheet = "document.querySelector('#explore')"
    assert page.js(f"return {sheet}.scrollWidth - {sheet}.clientWidth") == 0


def test_a_list_ends_at_the_last_seed_and_at_512_texts(page):
    page.open(f"#model=writer&seed={2**63 - 3}")
    assert len(page.js(f"return {SAID}")) == 3
    page.open("#model=writer")
    more = "document.querySelector('#wall > button')"
    page.js(
        "window.down = setInterval(() => scrollTo(0, document.documentElement.scrollHeight), 20)"
    )
    page.wait(f"{more}.offsetHeight")
    page.js("clearInterval(down)")
    assert page.js(f"return {SAID}.length") == 512
    page.js(f"{more}.click()")
    page.wait("location.hash.includes('seed=512')")
    page.filled()
    assert page.js(f"return {SAID}[0]") == strings(page.server, "writer", [512])[0]


def test_a_walk_of_texts(page):
    page.open("#model=writer")
    page.click("#open-walk")
    page.wait("document.querySelectorAll('#film .said').length === 24")
    page.set("#walk-frame", 23)
    assert page.texts("#walk-figure .said") == strings(page.server, "writer", [1])
    curl, python = (page.line("walk", name) for name in ("curl", "python"))
    assert "format=txt" in curl
    answer = page.server.ask(curl[curl.index("/v1/") : curl.rindex("'")])
    lines = page.js(
        "return [...document.querySelectorAll('#film .said')].map((x) => x.textContent)"
    )
    assert [from_line(x) for x in answer.body.decode().splitlines()] == lines
    assert python.endswith(
        '.files(model="writer", version=1, interpolate=[0, 1], count=24, format="txt")'
    )
