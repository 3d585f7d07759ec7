"""Tests of the page's section of policies and rewards in a browser, against a running server."""

import json
import subprocess

import numpy as np
import policies
import pytest
import test_page
import tiny
from servers import Serving
from test_page import PATIENCE, axe, needs_curl, opened

import serving

pytestmark = test_page.pytestmark
driver = test_page.driver  # the fixture


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of two policies, a reward and a generator."""
    folder = tmp_path_factory.mktemp("policies")
    wide = np.zeros((70, 2), np.float32)
    wide[69, 1] = 1
    free = {"id": None, "observation": {"low": None, "high": None}, "action": {"n": 2}}
    bundles = [
        policies.discrete(folder / "cartpole"),
        policies.continuous(folder / "pendulum"),
        policies.discrete(folder / "wide", wide, free, name="wide"),
        policies.reward(folder / "reward"),
        tiny.clothes(folder / "clothes"),
    ]
    with Serving(*bundles, "--no-access-log") as found:
        found.folder = folder
        yield found


@pytest.fixture
def page(driver, server):
    yield from opened(driver, server)


ANSWER = "document.querySelector('#act-answer').innerText"
BARS = (
    "[...document.querySelectorAll('#act-bars > li')].map((x) => "
    "[...x.querySelectorAll('span')].map((y) => y.innerText))"
)


def shown(page, model, answer):
    page.open(f"#model={model}", ready=False)
    page.wait(f"document.querySelector('#act-result').offsetHeight && {ANSWER} === {answer!r}")


def write(page, *values):
    """Writes numbers into the fields of the form."""
    page.js(
        "[...document.querySelectorAll('#act-fields input')].forEach((x, i) => "
        "{ x.value = arguments[0][i]; x.dispatchEvent(new Event('input', {bubbles: true})) })",
        [str(value) for value in values],
    )


def test_a_policy_has_a_form_of_its_observation(page):
    shown(page, "cartpole", "Action 0")
    for other in ("#wall", "#translate", "#classify", "#vocode", "#seed"):
        assert page.js(f"return document.querySelector('{other}').offsetHeight") == 0
    labels = page.js(
        "return [...document.querySelectorAll('#act-fields label span')].map((x) => x.innerText)"
    )
    assert labels == [
        "Observation 0, from -4.8 to 4.8",
        "Observation 1",
        "Observation 2, from -0.418879 to 0.418879",
        "Observation 3",
    ]
    facts = page.js("return document.querySelector('#act-facts').innerText")
    assert facts == "CartPole-v1: one of 2 actions, chosen by logits"
    assert "keras-gan play" in page.js("return document.querySelector('#act-how').innerText")
    write(page, 0.1, 0.2, 0.1, 0.5)
    page.wait(f"{ANSWER} === 'Action 1'")
    logit = 0.02 + 0.1 + 0.5
    share = 100 / (1 + np.exp(-2 * logit))
    wanted = [["Action 0", f"{100 - share:.1f} %"], ["Action 1", f"{share:.1f} %"]]
    assert page.js(f"return {BARS}") == wanted
    assert axe(page) == []


def test_a_continuous_policy_shows_its_numbers(page):
    shown(page, "pendulum", "Action 0")
    facts = page.js("return document.querySelector('#act-facts').innerText")
    assert facts == "Pendulum-v1: an action of 1 number, -2 to 2, chosen by mean and log_std"
    write(page, 0.1, 0.05, 0)
    page.wait(f"{ANSWER} === 'Action 1.5'")
    assert page.js("return document.querySelector('#act-bars').offsetHeight") == 0


def test_many_numbers_are_written_into_one_field(page):
    shown(page, "wide", "Action 0")
    assert page.js("return document.querySelectorAll('#act-fields input').length") == 1
    write(page, ",".join(["0"] * 69 + ["3"]))
    page.wait(f"{ANSWER} === 'Action 1'")


def test_a_reward_has_a_choice_of_the_action(page):
    shown(page, "reward", "Reward 0")
    write(page, 1, 2, 3, 4)
    page.wait(f"{ANSWER} === 'Reward 10'")
    page.js(
        "const x = document.querySelector('#act-action select'); x.value = '1'; "
        "x.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    page.wait(f"{ANSWER} === 'Reward 11'")
    assert page.js("return document.querySelector('#act-how').offsetHeight") == 0
    assert axe(page) == []
    page.js("location.hash = '#model=clothes'")
    page.wait("document.querySelector('#wall').offsetHeight")
    assert page.js("return document.querySelector('#act').offsetHeight") == 0


def test_wrong_numbers_are_explained(page):
    shown(page, "cartpole", "Action 0")
    write(page, 0, "left", 0, 0)
    page.wait("document.querySelector('#problem-text').offsetHeight")
    text = page.js("return document.querySelector('#problem-text').innerText")
    assert text.endswith("must be numbers. Received: a field without one")
    invalid = "document.querySelectorAll('#act-fields input[aria-invalid=true]').length"
    assert page.js(f"return {invalid}") == 1
    page.expected += ("400 (Bad Request)",)
    write(page, 9, 0, 0, 0)
    page.wait(
        "document.querySelector('#problem-text').innerText.includes('Received: observation[0]=9')"
    )
    assert page.js("return document.querySelector('#act-result').offsetHeight") == 0
    write(page, 0, 0, 0.1, 0)
    page.wait(f"{ANSWER} === 'Action 1'")
    assert page.js("return document.querySelector('#problem').offsetHeight") == 0


@needs_curl
def test_the_shown_lines_send_the_observation(page):
    for model, answer, more in (("cartpole", "Action 1", "action"), ("reward", "Reward 0.15", "")):
        page.open(f"#model={model}", ready=False)
        page.wait("document.querySelector('#act-result').offsetHeight")
        write(page, 0, 0.05, 0.1, 0)
        page.wait(f"{ANSWER} === {answer!r}")
        line = page.js(
            "return document.querySelector('#act-lines [data-line=curl] code').innerText"
        )
        done = subprocess.run(line, shell=True, check=True, timeout=PATIENCE, capture_output=True)
        found = json.loads(done.stdout)
        if more:
            assert found["action"] == 1
        else:
            assert found["samples"][0]["values"] == pytest.approx(0.15)
        line = page.js(
            "return document.querySelector('#act-lines [data-line=python] code').innerText"
        )
        url = f"http://127.0.0.1:{page.server.port}"
        assert line.startswith(f'import serving; print(serving.Client("{url}").')
        code = line.removeprefix("import serving; print(").removesuffix(")")
        assert float(np.ravel(eval(code, {"serving": serving}))[0]) == pytest.approx(
            float(answer.split()[1])
        )
