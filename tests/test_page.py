"""Tests of the page in a browser, against a running server."""

import base64
import contextlib
import importlib.util
import io
import json
import shlex
import shutil
import subprocess
import tempfile
import time
import wave
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
import tiny
from PIL import Image
from servers import Serving

import serving
from serving import animations, kinds, pictures

webdriver = pytest.importorskip("selenium.webdriver", reason="the page is tested with selenium")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian: chromium-driver)"
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
)
PATIENCE = 60  # seconds; test machines are busy
NAMES = ("shirt", "shoe", "bag")
KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "ArrowUp": 38, "ArrowDown": 40, "Enter": 13}
KEYS |= {"Escape": 27, "Home": 36, "End": 35, "PageDown": 34, "Tab": 9, "w": 87, "c": 67}
KEYS |= {"p": 80, ",": 188, ".": 190}


@pytest.fixture(scope="module")
def driver():
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        found = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        found.set_script_timeout(PATIENCE)
        yield found
        found.quit()


@pytest.fixture(scope="module")
def clothes(tmp_path_factory):
    """A bundle of pictures in three classes."""
    return serving.Bundle(tiny.clothes(tmp_path_factory.mktemp("clothes") / "bundle"), threads=1)


@pytest.fixture(scope="module")
def server(clothes):
    with Serving(clothes.path, "--no-access-log") as found:
        yield found


@pytest.fixture
def page(driver, server):
    """Opens a browser of 1280 x 800; its console must have no unexpected messages at the end."""
    yield from opened(driver, server)


def opened(driver, server):
    """Yields a page of a server; then clears what it stored, and checks what it loaded and said."""
    found = Page(driver, server)
    yield found
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    found.js("localStorage.clear(); sessionStorage.clear()")
    found.check_hosts()
    found.check_console()


class Page:
    def __init__(self, driver, server):
        self.driver = driver
        self.server = server
        self.expected = ()  # messages that the console may have
        self.size(1280, 800)
        driver.get_log("browser")
        driver.get_log("performance")

    def size(self, width, height, mobile=False):
        about = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", about)

    def media(self, **features):
        listed = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    def open(self, hash="", ready=True):
        self.driver.get("about:blank")  # else only the hash would change
        self.driver.get(f"http://127.0.0.1:{self.server.port}/{hash}")
        return self.filled() if ready else self

    def js(self, code, *args):
        return self.driver.execute_script(code, *args)

    def wait(self, code, *args):
        """Waits until an expression is true; returns it."""
        end = time.monotonic() + PATIENCE
        while not (found := self.js(f"return {code}", *args)):
            assert time.monotonic() < end, f"timeout: {code}; {self.state()}"
            time.sleep(0.03)
        return found

    def state(self):
        return self.js(
            "return [location.href, document.querySelector('#problem').innerText, "
            "document.querySelector('#banner').innerText, "
            "document.activeElement.outerHTML.slice(0, 200)]"
        )

    def filled(self):
        """Waits until every visible tile, or text of a list, has its sample."""
        self.wait(
            "(() => { const all = [...document.querySelectorAll('#wall [data-index]')];"
            " const seen = all.filter((x) => { const at = x.getBoundingClientRect();"
            " return at.height && at.bottom > 60 && at.top < innerHeight; });"
            " return seen.length && seen.every((x) => x.getAttribute('aria-busy') === 'false'); "
            "})()"
        )
        return self

    def click(self, selector):
        self.js("document.querySelector(arguments[0]).click()", selector)

    def key(self, key, modifiers=0):
        """Sends a key to the focused element."""
        about = {"key": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": modifiers}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else None)
        about |= {"code": f"Key{key.upper()}" if key.isalpha() and len(key) == 1 else key}
        down = about | ({"text": text} if text and not modifiers else {})
        self.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyDown", **down})
        self.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyUp", **about})

    def set(self, selector, value, event="input"):
        self.js(
            "const x = document.querySelector(arguments[0]); x.value = arguments[1];"
            "x.dispatchEvent(new Event(arguments[2], {bubbles: true}))",
            selector,
            str(value),
            event,
        )

    def texts(self, selector):
        """Returns the text of each element."""
        return self.js(
            "return [...document.querySelectorAll(arguments[0])].map((x) => x.textContent)",
            selector,
        )

    def focused(self):
        return self.js("return document.activeElement.getAttribute('aria-label')")

    def label(self, index):
        return self.js(
            "return document.querySelector(`#wall [data-index='${arguments[0]}']`)"
            "?.getAttribute('aria-label')",
            index,
        )

    def picture(self, selector):
        """Returns the pixels of an image of the page."""
        address = self.wait("document.querySelector(arguments[0])?.src", selector)
        return pixels(base64.b64decode(address.partition(",")[2]))

    def tile(self, index):
        return self.picture(f"#wall [data-index='{index}'][aria-busy=false] img")

    def line(self, dialog, name):
        return self.js(
            "return document.querySelector(arguments[0]).innerText",
            f"#{dialog} [data-line={name}] code",
        )

    def hosts(self):
        """Returns the hosts that the browser has contacted since the last call."""
        found = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                address = message["params"]["request"]["url"]
                if not address.startswith(("data:", "blob:", "about:", "chrome:")):
                    found.add(address.split("/")[2])
        return found

    def check_hosts(self):
        assert self.hosts() <= {f"127.0.0.1:{self.server.port}"}

    def check_console(self):
        said = [x["message"] for x in self.driver.get_log("browser") if x["level"] != "INFO"]
        assert not [x for x in said if not any(known in x for known in self.expected)]


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def asked(server, **fields):
    """Returns the picture that the server gives for a direct request."""
    answer = server.ask(f"/v1/generate?{urlencode(fields)}")
    assert answer.status == 200, answer.body
    return pixels(answer.body)


# ------------------------------------------------------------------ the wall


def test_the_wall_shows_the_samples_of_the_seeds(page):
    page.open("#seed=5")
    assert page.js("return document.title") == "clothes · samples"
    assert [page.label(i) for i in (0, 1)] == [
        "sample of seed 5, class bag",
        "sample of seed 6, class shirt",
    ]
    for index in (0, 17):
        np.testing.assert_array_equal(page.tile(index), asked(page.server, seeds=5 + index))
    page.wait("document.querySelector('#status').innerText === 'Samples from seed 5'")
    page.click("#shuffle")
    page.filled()
    seed = int(page.js("return document.querySelector('#seed').value"))
    assert page.label(0) == f"sample of seed {seed}, class {NAMES[seed % 3]}"


def test_seeds_beyond_the_exact_numbers_of_javascript(page):
    seed = 2**53 + 1
    page.open(f"#seed={seed}")
    assert page.label(0) == f"sample of seed {seed}, class {NAMES[seed % 3]}"
    np.testing.assert_array_equal(page.tile(0), asked(page.server, seeds=seed))
    page.open(f"#seed={2**63 - 2}")  # the wall ends at the last seed
    assert (
        page.js(
            "return [...document.querySelectorAll('#wall .tile')]"
            ".filter((x) => x.offsetHeight).length"
        )
        == 2
    )
    np.testing.assert_array_equal(page.tile(1), asked(page.server, seeds=2**63 - 1))


def test_the_wall_fills_while_scrolling_and_the_document_stays_small(page):
    page.open()
    count = "return document.querySelectorAll('#wall .tile').length"
    first = page.js(count)
    sizes = []
    for _ in range(6):
        page.js("scrollTo(0, document.documentElement.scrollHeight)")
        time.sleep(0.1)
        page.filled()
        sizes.append(page.js(count))
    assert page.label(0) is None  # the first rows were removed
    seen = page.js(
        "return [...document.querySelectorAll('#wall .tile')]"
        ".filter((x) => x.getBoundingClientRect().top > 0).map((x) => Number(x.dataset.index))"
    )
    assert min(seen) > 3 * first
    assert max(sizes) < 3 * first
    assert seen == list(range(seen[0], seen[0] + len(seen)))  # without gaps and duplicates
    index = seen[3]
    assert page.label(index) == f"sample of seed {index}, class {NAMES[index % 3]}"
    np.testing.assert_array_equal(page.tile(index), asked(page.server, seeds=index))
    page.js("scrollTo(0, 0)")
    page.wait("document.querySelector('#wall [data-index=\"0\"]')")
    page.filled()
    np.testing.assert_array_equal(page.tile(0), asked(page.server, seeds=0))


def test_class_and_truncation_and_a_link_that_has_them(page):
    page.open()
    page.click("#class-choices input[value='1']")
    page.wait("document.querySelector('[data-index=\"4\"]').ariaLabel.endsWith('class shoe')")
    page.filled()
    np.testing.assert_array_equal(page.tile(4), asked(page.server, seeds=4, labels="shoe"))
    for value in (0.1, 0.9, 0.2, 0.5):  # requests of earlier values are aborted
        page.set("#truncation", value)
        time.sleep(0.02)
    page.wait("location.hash.includes('truncation=0.5')")
    page.filled()
    wanted = asked(page.server, seeds=4, labels=1, truncation=0.5)
    np.testing.assert_array_equal(page.tile(4), wanted)
    page.js("document.querySelector('#seed').focus()")
    page.set("#seed", 40)
    page.wait("location.hash.includes('seed=40')")
    link = page.js("return location.hash")
    page.open(link)
    assert page.js("return document.querySelector('#class-choices input:checked').value") == "1"
    assert page.js("return document.querySelector('#truncation-value').innerText") == "0.50"
    wanted = asked(page.server, seeds=42, labels=1, truncation=0.5)
    np.testing.assert_array_equal(page.tile(2), wanted)


def test_the_wall_by_keyboard(page):
    page.open()
    stops = "return document.querySelectorAll('#wall [tabindex=\"0\"]').length"
    assert page.js(stops) == 1
    columns = int(page.js("return document.querySelector('[role=grid]').ariaColCount"))
    page.js("document.querySelector('#theme').focus()")
    for _ in range(40):  # Tab reaches the first sample of the wall
        page.key("Tab")
        if (page.focused() or "").startswith("sample"):
            break
    assert page.focused() == "sample of seed 0, class shirt"
    assert page.js("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for key, modifiers, index in (
        ("ArrowRight", 0, 1),
        ("ArrowDown", 0, columns + 1),
        ("Home", 0, columns),
        ("ArrowLeft", 0, columns - 1),
        ("ArrowUp", 0, columns - 1),  # the first row
        ("End", 0, columns - 1),
    ):
        page.key(key, modifiers)
        assert page.focused() == f"sample of seed {index}, class {NAMES[index % 3]}", key
    for _ in range(12):
        page.key("PageDown")
    far = page.js("return Number(document.activeElement.dataset.index)")
    assert far > 200
    assert page.js(stops) == 1
    assert page.js(
        "const at = document.activeElement.getBoundingClientRect();"
        "return at.top > 60 && at.bottom <= innerHeight"
    )
    page.filled()
    page.js("scrollTo(0, 0)")  # the focused tile is removed: the wall keeps the focus
    page.wait("!document.querySelector(arguments[0])", f"#wall [data-index='{far}']")
    page.wait("document.querySelector('#wall').contains(document.activeElement)")
    page.key("Home", modifiers=2)
    assert page.focused() == "sample of seed 0, class shirt"
    page.key("Enter")
    page.wait("document.querySelector('#explore').open")
    page.key("Escape")
    page.wait("!document.querySelector('#explore').open")
    assert page.focused() == "sample of seed 0, class shirt"


# ------------------------------------------------------------------ single samples and walks


@pytest.fixture
def explored(page):
    page.open("#seed=0&truncation=0.8&sample=7")
    page.wait("document.querySelectorAll('#near .tile img').length === 24")
    return page


def run(line, folder):
    """Runs a copied line in a shell; returns the picture it writes."""
    subprocess.run(line, shell=True, cwd=folder, check=True, timeout=PATIENCE)
    return pixels((folder / shlex.split(line)[-1]).read_bytes())


needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")


@needs_curl
def test_the_copied_lines_give_the_same_picture(explored, tmp_path):
    page = explored
    allow = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page.driver.execute_cdp_cmd("Browser.grantPermissions", allow)
    # The clipboard is for the focused window, which is another one's where tests run side by side.
    page.driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    pasted = {}
    for name in ("seed", "curl", "python"):
        page.click(f"#explore [data-line={name}] button")
        page.wait("document.querySelector('#toast').classList.contains('on')")
        pasted[name] = page.driver.execute_async_script(
            "const done = arguments[0]; setTimeout(() => navigator.clipboard.readText().then(done))"
        )
        assert pasted[name] == page.line("explore", name)
    assert pasted["seed"] == "7"
    shown = page.picture("#explore-figure img")
    np.testing.assert_array_equal(run(pasted["curl"], tmp_path), shown)
    np.testing.assert_array_equal(asked(page.server, seeds=7, truncation=0.8), shown)
    url = f"http://127.0.0.1:{page.server.port}"
    (model,) = page.server.ask("/v1/models").json["models"]
    assert pasted["python"] == (
        f'import serving; samples = serving.Client("{url}")'
        f'.generate(model="clothes", version={model["version"]}, '
        "seeds=[7], truncation=0.8)"
    )


@needs_curl
def test_the_neighborhood_of_a_sample(explored, tmp_path):
    page = explored
    label = page.js("return document.querySelector('#near .tile').ariaLabel")
    assert label == "neighbor 8 of seed 7 at radius 0.3, class shoe"
    page.set("#radius", 0.64)
    page.wait("document.querySelector('#near .tile').ariaLabel.includes('radius 0.64')")
    page.click("#near li:nth-child(3) .tile")
    wanted = asked(page.server, around=7, radius=0.64, seeds=10, truncation=0.8)
    np.testing.assert_array_equal(page.picture("#explore-figure img"), wanted)
    np.testing.assert_array_equal(run(page.line("explore", "curl"), tmp_path), wanted)
    alt = page.js("return document.querySelector('#explore-figure img').alt")
    assert alt == "neighbor 10 of seed 7 at radius 0.64, class shoe"
    page.js("document.querySelector('#near .tile').focus()")
    page.key("ArrowRight")
    assert page.focused().startswith("neighbor 9 ")
    page.click("#explore-center")
    wanted = asked(page.server, seeds=7, truncation=0.8)
    np.testing.assert_array_equal(page.picture("#explore-figure img"), wanted)
    page.click("#explore-next")
    page.wait("document.querySelector('#explore-title').innerText === 'Seed 8'")
    assert "sample=8" in page.js("return location.hash")
    page.click("#explore-start")
    page.wait("location.hash.includes('seed=8')")
    page.filled()
    assert page.label(0) == "sample of seed 8, class bag"
    assert "sample" not in page.js("return location.hash")


def test_a_walk_between_two_samples(page):
    page.open()
    page.js("document.querySelector('#wall [data-index=\"2\"]').focus()")
    page.key("w")
    assert page.js("return document.querySelector('#tray-text').innerText") == (
        "From seed 2: pick the sample to walk to"
    )
    assert page.label(2) == "sample of seed 2, class bag, start of the walk"
    page.key("ArrowRight")
    page.key("Enter")
    page.wait("document.querySelectorAll('#film img').length === 24")
    assert page.label(2) == "sample of seed 2, class bag"
    for frame, seed in ((0, 2), (23, 3)):
        page.set("#walk-frame", frame)
        wanted = asked(page.server, seeds=seed, labels=2)  # the class of the first seed
        np.testing.assert_array_equal(page.picture("#walk-figure img"), wanted)
    page.set("#walk-frame", 9)
    alt = page.js("return document.querySelector('#walk-figure img').alt")
    assert alt == "frame 10 of 24 from seed 2 to seed 3, class bag"
    page.click("#walk-play")
    page.wait("Number(document.querySelector('#walk-frame').value) > 12")
    assert page.js("return document.querySelector('#walk-play').ariaLabel") == "Pause"
    page.click("#walk-play")
    at = page.js("return document.querySelector('#walk-frame').value")
    time.sleep(0.3)
    assert page.js("return document.querySelector('#walk-frame').value") == at
    page.set("#walk-to", "9")
    page.set("#walk-count", "8", "change")
    page.wait("document.querySelectorAll('#film img').length === 8")
    page.set("#walk-frame", 7)
    wanted = asked(page.server, seeds=9, labels=2)
    np.testing.assert_array_equal(page.picture("#walk-figure img"), wanted)
    page.set("#walk-to", "nine")
    page.wait("document.querySelector('#walk .problem').innerText.includes('seed=nine')")
    page.key("Escape")
    page.wait("!document.querySelector('#walk').open")
    assert page.focused() == "sample of seed 3, class shirt"


@needs_curl
def test_downloads(explored, tmp_path):
    page = explored
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)

    def saved(name):
        end = time.monotonic() + PATIENCE
        while not (tmp_path / name).is_file():
            assert time.monotonic() < end, list(tmp_path.iterdir())
            time.sleep(0.05)
        return Image.open(tmp_path / name)

    page.click("#explore-save")
    single = saved("clothes-seed-7.png")
    np.testing.assert_array_equal(single, asked(page.server, seeds=7, truncation=0.8))
    assert "7" in {str(x) for x in single.text.values()}  # the seed is in the file
    page.click("#explore [data-close]")
    page.set("#grid-count", "16", "change")
    page.click("#save-grid")
    assert saved("clothes-seeds-0-16.png").size == (4 * 8 + 3 * 2, 4 * 8 + 3 * 2)
    page.click("#open-walk")
    page.wait("document.querySelectorAll('#film img').length === 24")
    formats = page.js(
        "return [...document.querySelector('#loop-format').options].map((x) => x.text)"
    )
    assert formats == animations.available()
    page.set("#loop-format", "apng", "change")
    page.click("#loop-save")
    loop = saved("clothes-loop-0-1.apng")  # 8 seconds
    assert (loop.n_frames, loop.info["loop"]) == (240, 0)
    for frame, seed in ((0, 0), (120, 1)):
        loop.seek(frame)
        wanted = asked(page.server, seeds=seed, labels=0, truncation=0.8)
        np.testing.assert_array_equal(loop.convert("RGB"), wanted)


# ------------------------------------------------------------------ errors


def test_an_error_shows_the_message_of_the_server(page):
    page.expected = ("the server responded with a status of 4",)
    page.open("#version=99", ready=False)
    line = page.server.ask("/v1/generate?version=99").error
    page.wait("document.querySelector('#problem-text').innerText === arguments[0]", line)
    page.open("#truncation=1000", ready=False)
    line = page.server.ask("/v1/generate", {"truncation": 1000}).error
    page.wait("document.querySelector('#problem-text').innerText === arguments[0]", line)
    page.open("#model=hats", ready=False)
    page.wait("document.querySelector('#problem-text').innerText.includes('model=hats')")
    page.open("#class=1")
    page.set("#seed", "-3")
    page.wait("document.querySelector('#problem-text').innerText.endsWith('seed=-3')")
    page.set("#seed", "3")
    page.wait("document.querySelector('#problem').hidden")
    page.filled()


def test_the_page_continues_when_the_server_returns(driver, clothes):
    with Serving(clothes.path, "--no-access-log") as first:
        port = first.port
        page = Page(driver, first)
        page.expected = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
        page.expected += ("/readyz - Failed",)  # 503 while the next server still loads
        page.open()
        first.stop(kill=True)
        page.set("#truncation", 0.6)
        page.wait("!document.querySelector('#banner').hidden")
        said = page.js("return document.querySelector('#banner-text').innerText")
        assert said.startswith("The server does not answer. Trying again in ")
        page.wait("document.querySelectorAll('#wall .tile.stale').length > 0")
    with Serving(clothes.path, "--no-access-log", "--port", port) as second:
        page.click("#banner-now")
        page.wait("document.querySelector('#banner').hidden")
        page.filled()
        np.testing.assert_array_equal(page.tile(3), asked(second, seeds=3, truncation=0.6))
        assert page.js("return document.querySelector('#problem').hidden")
        page.check_hosts()
        page.check_console()


REFUSED = """
const [status, real] = [arguments[0], window.realFetch ?? fetch];
window.realFetch = real;
window.askedModels = 0;
window.refused = true;
window.fetch = async (address, options) => {
  if (String(address).endsWith("v1/models")) window.askedModels++;
  if (!window.refused) return real(address, options);
  const headers = { "Content-Type": "application/json" };
  return new Response('{"error": "Not now."}', { status, headers });
};
"""


def test_a_full_server_is_asked_once_and_one_that_times_out_twice(page):
    page.open().filled()
    page.js(REFUSED, 503)
    page.set("#truncation", 0.6)
    page.wait("!document.querySelector('#banner').hidden")
    time.sleep(3)
    assert page.js("return window.askedModels") == 0  # the server is still unavailable
    page.js("window.refused = false")
    page.wait("document.querySelector('#banner').hidden && window.askedModels === 1")
    page.filled()
    page.js(REFUSED, 504)
    page.click("#save-grid")
    page.wait("document.querySelector('#problem').innerText.includes('Not now.')")
    assert not page.js("return document.querySelector('#save-grid').disabled")


def test_a_server_that_requires_a_token(driver, clothes, tmp_path):
    (tmp_path / "tokens").write_text("a-long-enough-token-of-sixteen\n")
    with Serving(clothes.path, "--no-access-log", "--tokens", tmp_path / "tokens") as server:
        page = Page(driver, server)
        page.expected = ("the server responded with a status of 401",)
        page.open(ready=False)
        for number, token in enumerate(("wrong-token", "a-long-enough-token-of-sixteen")):
            page.wait("document.querySelector('#token').open")
            problem = page.js("return document.querySelector('#token .problem').innerText")
            assert bool(problem) == (number > 0), problem
            page.set("#token-value", token)
            page.click("#token button[type=submit]")
            page.wait(
                "document.querySelector('#token-value').value !== arguments[0] || "
                "!document.querySelector('#token').open",
                token,
            )
        page.filled()
        page.open("#sample=1")  # the tab has stored the token
        assert '-H "Authorization: Bearer $TOKEN"' in page.line("explore", "curl")
        assert "a-long-enough" not in page.js("return document.documentElement.outerHTML")
        page.js("sessionStorage.clear()")
        page.check_hosts()
        page.check_console()


# ------------------------------------------------------------------ accessibility and safety


def axe(page):
    """Returns the serious violations that axe-core finds."""
    spec = importlib.util.find_spec("axe_core_python")
    if spec is None:
        pytest.skip("axe-core-python is not installed")
    (script,) = Path(spec.origin).parent.rglob("axe.min.js")
    page.js(script.read_text("utf-8") + ";window.axe = axe")
    found = page.driver.execute_async_script(
        "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(done)"
    )
    return [
        (rule["id"], [node["html"][:200] for node in rule["nodes"][:3]])
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), pytest.param("dark", 390, marks=pytest.mark.slow)]
)
def test_axe_finds_nothing_serious(page, scheme, width):
    page.media(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    page.size(width, 840, mobile=width < 500)
    page.open()
    if width < 500:
        page.click("#settings-toggle")
    assert axe(page) == []
    page.set("#seed", "x")
    assert axe(page) == []
    page.open("#sample=3")
    page.wait("document.querySelectorAll('#near .tile img').length === 24")
    page.click("#near .tile")
    assert axe(page) == []
    page.click("#explore [data-close]")
    page.js("document.querySelector('#open-walk').click()")
    page.wait("document.querySelectorAll('#film img').length === 24")
    assert axe(page) == []


def test_a_phone_and_colors_and_motion(page):
    background = "return getComputedStyle(document.documentElement).backgroundColor"
    page.media(prefers_color_scheme="dark", prefers_reduced_motion="reduce")
    page.open()
    dark = page.js(background)
    animation = "return getComputedStyle(document.querySelector('.tile img')).animationName"
    assert page.js(animation) == "none"
    page.click("#theme")  # as the system -> light
    light = page.js(background)
    assert sum(map(int, light[4:-1].split(","))) > 600 > sum(map(int, dark[4:-1].split(",")))
    page.open()
    assert page.js(background) == light  # remembered
    page.media(prefers_color_scheme="light", prefers_reduced_motion="no-preference")
    page.open()
    assert page.js(animation) == "appear"

    page.size(390, 844, mobile=True)
    page.open()
    wide = "document.documentElement.scrollWidth - innerWidth"
    assert page.js(f"return {wide}") == 0
    assert not page.js("return document.querySelector('#controls').offsetHeight")
    page.click("#settings-toggle")
    assert page.js("return document.querySelector('#settings-toggle').ariaExpanded") == "true"
    assert page.js(f"return [{wide}, document.querySelector('#controls').offsetHeight > 0]") == [
        0,
        True,
    ]
    small = page.js(
        "return [...document.querySelectorAll('#controls button, #controls select, .bar button')]"
        ".filter((x) => x.offsetHeight && x.offsetHeight < 40).map((x) => x.id)"
    )
    assert small == []  # fingers
    page.click("#settings-toggle")
    page.click("#wall .tile")
    page.wait("document.querySelectorAll('#near .tile img').length === 24")
    sheet = "document.querySelector('#explore')"
    assert page.js(f"return [{sheet}.offsetWidth, {sheet}.scrollWidth]") == [390, 390]


def test_the_policy_allows_nothing_inline(page):
    answer = page.server.ask("/")
    assert "'unsafe" not in answer.headers["content-security-policy"]
    text = answer.body.decode()
    assert "style=" not in text
    assert "onclick" not in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    page.open()
    # The policy is enforced: an inline style has no effect.
    page.expected = ("Content Security Policy", "violates the following")
    assert (
        page.js(
            "document.body.insertAdjacentHTML('beforeend', '<p id=p style=\"color: red\">x</p>');"
            "const color = getComputedStyle(document.querySelector('#p')).color;"
            "document.querySelector('#p').remove(); return color"
        )
        != "rgb(255, 0, 0)"
    )


def module(page, name, code):
    """Evaluates an expression with a module of the page as `m`."""
    return page.driver.execute_async_script(
        f"const done = arguments[0]; import('/page/{name}').then((m) => done({code}))"
    )


def test_lines_escape_names(page):
    page.open()
    view = '{model: "it\'s $(x)", version: 2, label: null, names: [], truncation: 1}'
    found = f"m.fields({view}, {{seeds: [1n, 9223372036854775807n]}})"
    curl = module(page, "requests.js", f"m.toCurl('http://h:1/', {found}, 'a.png', true)")
    assert shlex.split(curl) == [
        "curl",
        "-fsS",
        "-H",
        "Authorization: Bearer $TOKEN",
        "http://h:1/v1/generate?model=it%27s+%24%28x%29&version=2&seeds=1,9223372036854775807",
        "-o",
        "a.png",
    ]
    text = module(page, "requests.js", f"m.toJSON({found})")
    assert json.loads(text) == {"model": "it's $(x)", "version": 2, "seeds": [1, 2**63 - 1]}
    python = module(page, "requests.js", f"m.toPython('http://h:1/', {found}, false)")
    assert python == (
        'import serving; samples = serving.Client("http://h:1")'
        '.generate(model="it\'s $(x)", version=2, seeds=[1, 9223372036854775807])'
    )


def test_a_sound_is_a_valid_wav_file(page):
    page.open()
    values = "[[0, 1], [0.5, -1], [-0.5, 3]]"
    listed = module(page, "kinds.js", f"[...new Uint8Array(m.wav({values}, [-1, 1], 8000))]")
    with contextlib.closing(wave.open(io.BytesIO(bytes(listed)))) as sound:
        about = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
        assert about == (2, 2, 8000)
        found = np.frombuffer(sound.readframes(9), "<i2").reshape(-1, 2)
    np.testing.assert_array_equal(found, [[0, 32767], [16384, -32767], [-16383, 32767]])


def describe(bundle, **meta):
    """Adds properties to the samples of a bundle."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["outputs"][0]["meta"] |= meta
    tiny.seal(bundle, manifest)
    return bundle


def test_other_kinds_are_shown(driver, tmp_path):
    """Points are a scatter plot, a sound has a player, a text is in words, numbers in tables."""
    shapes = {
        "dots": ("points", (2,)),
        "steps": ("series", (12, 2)),
        "clip": ("video", (3, 4, 4, 3)),
        "facts": ("table", (2,)),
        "poem": ("text", (5, 3)),
        "rows": ("array", (5, 3)),
        "bands": ("mel", (6, 5)),
    }
    found = {n: tiny.write(tmp_path / n, n, *about, 4) for n, about in shapes.items()}
    describe(found["steps"], columns=["wind", "rain"])
    describe(found["facts"], columns=["age", "height"])
    describe(found["clip"], frame_rate=25.0)
    describe(found["poem"], vocabulary=["a", "b", " "])
    found["tone"] = tiny.two_latents(tmp_path / "tone")
    with Serving(*found.values(), "--no-access-log") as server:
        page = Page(driver, server)
        page.open("#model=dots", ready=False)
        note = "document.querySelector('#wall .facts')?.innerText"
        page.wait(f"{note}?.startsWith('1024 points')")
        page.js("document.querySelector('#wall canvas').focus()")
        page.key("ArrowRight")
        page.key("Enter")
        page.wait("document.querySelector('#explore-title').innerText === 'Seed 1'")
        wanted = server.ask("/v1/generate?model=dots&seeds=1&format=json").json["samples"][0]
        cells = page.js(
            "return [...document.querySelectorAll('#explore-figure td')].map((x) => x.innerText)"
        )
        assert [float(x) for x in cells] == pytest.approx(wanted["values"], abs=1e-4)
        page.click("#explore [data-close]")

        page.open("#model=two-latents&sample=0")  # its rate is that of the model
        page.wait("document.querySelector('#explore-figure audio')?.duration === 16 / 8000")
        page.wait("document.querySelectorAll('#explore-outputs td').length === 1")
        energy = page.js("return document.querySelector('#explore-outputs td').innerText")
        bundle = serving.Bundle(found["tone"])
        assert float(energy) == pytest.approx(bundle.sample([0])["energy"][0, 0], abs=1e-3)
        assert page.js("return document.querySelector('#explore-outputs h3').innerText") == "energy"
        assert axe(page) == []
        for name, selector in (
            ("steps", "#explore-figure td"),
            ("clip", "#explore-figure input[type=range]"),
            ("facts", "#explore-figure td"),
            ("poem", "#explore-figure .said"),
            ("rows", "#explore-figure td"),
            ("bands", "#explore-figure canvas[width='24'][height='20']"),
        ):
            page.open(f"#model={name}&sample=2")
            page.wait("document.querySelector(arguments[0])", selector)
            page.wait("document.querySelectorAll('#near .tile').length === 24")
            assert axe(page) == []
            texts = page.texts("#explore-figure th")
            if name in ("steps", "facts"):
                assert set(found_columns(found[name])) <= set(texts)
            if name == "poem":
                sample = serving.Bundle(found[name]).generate([2])
                text = kinds.get("text").encode(sample[0], "txt", {"vocabulary": ["a", "b", " "]})
                shown = page.js(
                    "return document.querySelector('#explore-figure .said').textContent"
                )
                assert shown == text.decode().removesuffix("\n")
            if name == "clip":
                page.wait(
                    "document.querySelector('#explore-figure input[type=range]').value === '2'"
                )
                page.js("document.querySelector('#explore-figure [data-play]').click()")
                assert "25 Hz" in page.js(
                    "return document.querySelector('#explore-figure').innerText"
                )
        page.open("#model=clip")  # another model, by the form
        page.set("#model", "dots", "change")
        page.wait(f"{note}?.startsWith('1024 points')")
        page.set("#model", "rows", "change")
        page.filled()
        assert page.label(0) == "sample of seed 0"
        page.check_hosts()
        page.check_console()


def found_columns(bundle):
    return json.loads((bundle / "manifest.json").read_text())["outputs"][0]["meta"]["columns"]


# ------------------------------------------------------------------ given inputs


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A server of networks with given inputs, and pictures for them."""
    folder = tmp_path_factory.mktemp("networks")
    bundles = [write(folder / write.__name__) for write in (tiny.translator, tiny.conditioned)]
    bundles.append(tiny.classifier(folder / "labeler", role="labeler"))
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (6, 12, 3), dtype=np.uint8)).save(folder / "photo.png")
    Image.fromarray(rng.integers(0, 255, (4, 4), dtype=np.uint8)).save(folder / "small.png")
    (folder / "age.csv").write_text("age\n3.5\n")
    with Serving(*bundles, "--no-access-log") as server:
        server.folder = folder
        yield server


@pytest.fixture
def translated(driver, networks):
    yield from opened(driver, networks)


def choose(page, path, selector="#given input[type=file]"):
    page.driver.find_element("css selector", selector).send_keys(str(path))


DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (x) => x.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], arguments[1], { type: "image/png" }));
document.querySelector("#given .drop").dispatchEvent(
  new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
"""


def near(shown, bundle, photo, seed):
    """Checks a picture of the page against that of the bundle; a range may round differently."""
    given = kinds.get("image").decode(photo.read_bytes(), "png", (None, None, 3))[np.newaxis]
    wanted = pictures.to_uint8(bundle.generate([seed], picture=given))[0]
    assert shown.shape == wanted.shape
    assert np.abs(shown.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("way", ["chosen", "dropped"])
def test_a_picture_is_translated(translated, way, tmp_path):
    page, folder = translated, translated.server.folder
    photo, bundle = folder / "photo.png", serving.Bundle(folder / "translator")
    page.open("#model=translator&seed=5", ready=False)
    page.wait("document.querySelector('#wall').innerText.startsWith('Choose a file for picture')")
    accepted = page.js("return document.querySelector('#given input').accept").split(",")
    assert {"image/png", "image/jpeg"} <= set(accepted)
    if way == "chosen":
        choose(page, photo)
    else:
        page.js(DROP, base64.b64encode(photo.read_bytes()).decode(), "photo.png")
    page.wait("document.querySelector('#given img')?.naturalWidth === 12")
    page.filled()
    near(page.tile(0), bundle, photo, 5)
    near(page.tile(3), bundle, photo, 8)  # the noise is that of the seed
    page.js("document.querySelector('#wall [data-index=\"1\"]').click()")
    page.wait("document.querySelectorAll('#near .tile img').length === 24")
    near(page.picture("#explore-figure img"), bundle, photo, 6)
    assert axe(page) == []
    curl = page.line("explore", "curl")
    assert "-F 'picture=@\"photo.png\"'" in curl
    if shutil.which("curl"):
        shutil.copy(photo, tmp_path)
        near(run(curl, tmp_path), bundle, photo, 6)
    assert 'inputs={"picture":"photo.png"}' in page.line("explore", "python")


def test_a_model_without_seeds_shows_one_result(translated):
    page, folder = translated, translated.server.folder
    page.size(320, 640, mobile=True)
    page.open("#model=labeler&truncation=0.5", ready=False)  # kept from another model
    page.wait("document.querySelector('#given input')")
    wide = "return document.documentElement.scrollWidth - innerWidth"
    assert page.js(wide) == 0
    assert axe(page) == []
    choose(page, folder / "small.png")
    page.filled()
    tiles = "[...document.querySelectorAll('#wall .tile')].filter((x) => x.offsetHeight)"
    assert page.js(f"return {tiles}.length") == 1
    assert page.label(0) == "result for small.png"
    photo = np.asarray(Image.open(folder / "small.png")).astype(np.float32) / 127.5 - 1
    drawn = serving.Bundle(folder / "labeler").sample(picture=photo[np.newaxis, :, :, np.newaxis])
    best = tiny.NAMES[int(drawn["classes"][0].argmax())]
    assert page.js(f"return {tiles}[0].querySelector('.words').innerText") == best
    page.click("#settings-toggle")
    hidden = "return document.querySelector(arguments[0]).offsetHeight"
    assert page.js(hidden, "#seed") == page.js(hidden, "#truncation") == 0
    assert page.js(hidden, "#open-walk") == 0
    assert page.js(wide) == 0
    page.click("#settings-toggle")
    page.click("#wall .tile")
    page.wait("document.querySelector('#explore-title').innerText === 'Result'")
    page.wait("document.querySelectorAll('#explore-outputs td').length === 1")
    heads = page.texts("#explore-figure th")
    assert heads[0] == best
    assert sorted(heads) == sorted(tiny.NAMES)
    novelty = float(page.js("return document.querySelector('#explore-outputs td').innerText"))
    assert novelty == pytest.approx(drawn["novelty"][0, 0], abs=1e-3)
    assert page.js(hidden, ".nearby") == page.js(hidden, "#explore-next") == 0
    assert axe(page) == []
    sheet = "document.querySelector('#explore')"
    assert page.js(f"return [{sheet}.offsetWidth, {sheet}.scrollWidth]") == [320, 320]


def test_a_file_that_does_not_fit_is_an_error_in_the_server_s_words(translated):
    page, folder = translated, translated.server.folder
    page.expected = ("the server responded with a status of 4",)
    page.open("#model=labeler", ready=False)
    page.wait("document.querySelector('#given input')")
    choose(page, folder / "photo.png")
    page.wait("document.querySelector('#problem-text').innerText.includes('(4, 4, 1)')")
    choose(page, folder / "small.png")
    page.filled()
    page.wait("document.querySelector('#problem').hidden")
    page.set("#model", "conditioned", "change")
    page.wait("document.querySelector('#wall').innerText.startsWith('Choose a file for condition')")
    choose(page, folder / "age.csv")
    page.filled()
    text = page.js("return document.querySelector('#wall .tile .words').innerText")
    assert text.splitlines()[-1] == "age: 3.5000"
