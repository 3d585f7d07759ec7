"""Tests of the page's classification of pictures in a browser, against a running server."""

import json
import subprocess

import numpy as np
import pytest
import test_classification
import test_page
import tiny
from PIL import Image
from servers import Serving
from test_page import PATIENCE, axe, choose, needs_curl, opened

import serving

pytestmark = test_page.pytestmark
driver = test_page.driver  # the fixture


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of two classifiers and of a generator."""
    folder = tmp_path_factory.mktemp("classifiers")
    bundles = [
        test_classification.write(folder / "color", name="color"),
        test_classification.write(folder / "gray", channels=1, names=(), name="gray"),
        tiny.clothes(folder / "clothes"),
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    with Serving(*bundles, "--no-access-log") as found:
        found.folder = folder
        yield found


@pytest.fixture
def page(driver, server):
    yield from opened(driver, server)


BARS = (
    "return [...document.querySelectorAll('#classify-bars > li')].map((x) => "
    "[...x.querySelectorAll('span')].map((y) => y.innerText))"
)


def classified(page, model):
    page.wait(
        "document.querySelector('#classify').getAttribute('aria-busy') === 'false' && "
        "document.querySelector('#classify-result').offsetHeight > 0"
    )
    found = serving.Bundle(page.server.folder / model).classify(page.server.folder / "photo.png")
    rows = [[x.name, f"{100 * x.probability:.1f} %"] for x in found.top()]
    wanted = json.dumps(json.dumps(rows, separators=(",", ":")))
    page.wait(f"JSON.stringify((() => {{ {BARS} }})()) === {wanted}")
    return found


def test_a_chosen_picture_has_bars_of_its_classes(page):
    page.open("#model=color", ready=False)
    page.wait("document.querySelector('#classify').offsetHeight")
    for other in ("#wall", "#translate", "#seed"):
        assert page.js(f"return document.querySelector('{other}').offsetHeight") == 0
    choose(page, page.server.folder / "photo.png", "#classify-file")
    found = classified(page, "color")
    widths = page.js(
        "return [...document.querySelectorAll('#classify-bars .track')].map((x) => "
        "x.firstChild.getBoundingClientRect().width / x.getBoundingClientRect().width)"
    )
    np.testing.assert_allclose(widths, [x.probability for x in found.top()], atol=0.02)
    text = page.js("return document.querySelector('#classify-novelty').innerText")
    assert text.startswith(f"Novelty {found.novelty:#.3g}: the lower")
    notes = page.js("return document.querySelector('#classify-notes').innerText")
    assert notes == "The picture was resized from 30 x 20 to 6 x 4 pixels."
    assert axe(page) == []


def test_another_model_classifies_the_same_picture(page):
    page.open("#model=color", ready=False)
    page.wait("document.querySelector('#classify').offsetHeight")
    choose(page, page.server.folder / "photo.png", "#classify-file")
    classified(page, "color")
    page.js("location.hash = '#model=gray'")
    classified(page, "gray")
    page.js("location.hash = '#model=clothes'")
    page.wait("document.querySelector('#wall').offsetHeight")
    assert page.js("return document.querySelector('#classify').offsetHeight") == 0


@needs_curl
def test_the_shown_curl_line_classifies_the_picture(page):
    page.open("#model=color", ready=False)
    page.wait("document.querySelector('#classify').offsetHeight")
    choose(page, page.server.folder / "photo.png", "#classify-file")
    found = classified(page, "color")
    line = page.js(
        "return document.querySelector('#classify-lines [data-line=curl] code').innerText"
    )
    done = subprocess.run(
        line, shell=True, cwd=page.server.folder, check=True, timeout=PATIENCE, capture_output=True
    )
    assert json.loads(done.stdout)["classes"][0]["name"] == found.label


def test_a_damaged_picture_is_explained(page, tmp_path):
    page.open("#model=color", ready=False)
    page.wait("document.querySelector('#classify').offsetHeight")
    page.expected += ("400 (Bad Request)",)
    (tmp_path / "a.png").write_bytes(b"nothing")
    choose(page, tmp_path / "a.png", "#classify-file")
    page.wait("document.querySelector('#problem-text').offsetHeight")
    text = page.js("return document.querySelector('#problem-text').innerText")
    assert "Received: 7 bytes of another format" in text
    assert page.js("return document.querySelector('#classify-result').offsetHeight") == 0
