"""Tests of the page's codes in a browser, and of requests with codes, against a running server."""

import numpy as np
import pytest
import test_page
import tiny
from servers import Serving
from test_page import axe, needs_curl, opened, pixels, run

import serving

pytestmark = test_page.pytestmark
driver = test_page.driver  # the fixture


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steered")
    bundles = [tiny.steered(folder / "steered"), tiny.clothes(folder / "clothes")]
    with Serving(*bundles, "--no-access-log") as found:
        found.bundle = serving.Bundle(bundles[0], threads=1)
        yield found


@pytest.fixture
def page(driver, server):
    yield from opened(driver, server)


def made(server, codes, seed=0):
    """Returns the picture of a seed and codes by a direct request."""
    body = {"model": "steered", "seed": seed, "format": "png", "inputs": {"codes": codes}}
    answer = server.ask("/v1/generate", body)
    assert answer.status == 200, answer.body
    return pixels(answer.body)


def move(page, selector, value):
    page.js(
        "const x = document.querySelector(arguments[0]); x.value = arguments[1];"
        "x.dispatchEvent(new Event('input', {bubbles: true}))",
        selector,
        value,
    )


def test_a_request_names_codes_and_wrong_ones_are_refused(server):
    own, given = made(server, [-2, -2, -2]), made(server, [2, -0.5, 1])
    assert (own != given).any()
    wanted = server.bundle.generate([0], codes=[[2, -0.5, 1]])[0]
    np.testing.assert_allclose(given / 127.5 - 1, wanted[..., 0], atol=1 / 127)
    answer = server.ask("/v1/generate", {"model": "steered", "inputs": {"codes": [3, 0, 0]}})
    assert answer.status == 400
    assert "must be a category from 0 to 2, or -2 for the seed's own. Received: 3" in answer.error
    url = f"http://127.0.0.1:{server.port}"
    client = serving.Client(url)
    found = client.generate(model="steered", seeds=[0], inputs={"codes": [[2, -0.5, 1]]})
    np.testing.assert_allclose(found[0], wanted, atol=1e-5)


def test_buttons_and_sliders_give_the_codes(page):
    page.open("#model=steered")
    np.testing.assert_array_equal(page.tile(3), made(page.server, [-2, -2, -2], 3))
    names = "document.querySelectorAll('#codes legend, #codes label')"
    assert page.js(f"return [...{names}].map((x) => x.innerText)") == [
        *("Codes", "Category 1", "seed's own", "0", "1", "2", "Code 2", "Code 3"),
    ]
    page.click("#codes input[name='code-0'][value='1']")
    page.wait("location.hash.includes('codes=1%2C-2%2C-2')")
    page.filled()
    np.testing.assert_array_equal(page.tile(3), made(page.server, [1, -2, -2], 3))
    move(page, "#code-2", 0.5)
    page.wait("location.hash.includes('codes=1%2C-2%2C0.5')")
    page.filled()
    np.testing.assert_array_equal(page.tile(3), made(page.server, [1, -2, 0.5], 3))
    outputs = "return [...document.querySelectorAll('#codes output')].map((x) => x.innerText)"
    assert page.js(outputs) == ["each seed's own", "0.50"]
    assert axe(page) == []
    link = page.js("return location.hash")
    page.open(link)
    assert page.js("return document.querySelector('#codes input:checked').value") == "1"
    assert page.js(outputs) == ["each seed's own", "0.50"]
    np.testing.assert_array_equal(page.tile(3), made(page.server, [1, -2, 0.5], 3))
    # Back to the seed's own, with the focus on the slider.
    page.click('[aria-label="Code 3: each seed\'s own"]')
    page.wait("location.hash.includes('codes=1%2C-2%2C-2')")
    assert page.js("return document.activeElement.id") == "code-2"
    page.click("#codes input[name='code-0'][value='-2']")
    page.wait("!location.hash.includes('codes')")
    page.filled()
    np.testing.assert_array_equal(page.tile(3), made(page.server, [-2, -2, -2], 3))


def test_models_without_codes_show_none(page):
    page.open("#model=clothes&codes=1,0,0")
    assert page.js("return document.querySelector('#codes').offsetHeight") == 0


@needs_curl
def test_the_copied_lines_have_the_codes(page, tmp_path):
    page.open("#model=steered&codes=2,-2,0.25&sample=7")
    page.wait("document.querySelector('#explore').open")
    page.wait("document.querySelector('#explore-figure img')")
    wanted = made(page.server, [2, -2, 0.25], 7)
    np.testing.assert_array_equal(run(page.line("explore", "curl"), tmp_path), wanted)
    python = page.line("explore", "python")
    assert 'inputs={"codes":[[2,-2,0.25]]}' in python.replace(" ", "")
