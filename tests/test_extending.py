"""docs/extending.md: every example costs one file, is found by name, and works."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
import urllib.request

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text("utf-8")
PACKAGES = ("keras_gan", "serving", "export")
SHORT = " --set training.examples=128 --set training.precision=float32"


def examples():
    """The place of each example, with its code, and True if it is a new file."""
    found = re.findall(
        r"```(?:python|yaml)\n# (class in|new file) (\S+)\n(.*?)```", PAGE, re.DOTALL
    )
    return [(place, code, kind == "new file") for kind, place, code in found]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the packages with all examples of the page."""
    tree = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("*.pyc"))
    for place, code, is_new in examples():
        path = tree / place
        assert path.exists() != is_new, place
        with path.open("a", encoding="utf-8") as file:
            file.write(code if is_new else f"\n\n{code}")
    return tree


def environment(tree):
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": str(tree), "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}


def python(program, tree):
    """Runs a program with the extended packages, and returns its output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tree,
        env=environment(tree),
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def listed(tree):
    """The commands of the page, in one process but for the short length of the trainings."""
    (commands,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    library, serving = [], []
    for line in commands.splitlines():
        line += SHORT if " train " in line else ""
        (serving if " sample " in line else library).append(line.removeprefix("keras-gan "))
    return python(
        f"""
        import shlex
        from keras_gan.__main__ import main
        from serving import cli
        for line in {library!r}:
            main(shlex.split(line))
        for line in {serving!r}:
            assert not cli.main(shlex.split(line))
        from keras_gan import UsageError, recipe
        for setting in ("networks.generator.architecture=SIREN", "game.augment=random-gain"):
            try:
                recipe.load("gaussians-8", [setting])
            except UsageError as error:
                print(error)
        """,
        tree,
    )


def test_the_page_has_an_example_of_each_row_of_the_table():
    titles = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert set(titles) == {
        *("Loss", "Augmentation", "Schedule", "Constraint", "Term", "Metric", "Layer"),
        *("Architecture", "Data set", "Game", "Recipe", "Kind", "Export format", "Protocol"),
        "The commands",
    }
    places = [place for place, _, _ in examples()]
    assert len(set(places)) == len(places) == len(titles) - 1


@pytest.mark.timeout(900)
def test_everything_is_found_by_name_and_works(tree, listed):
    names = {line.split()[0] for line in listed.splitlines() if line.startswith("  ")}
    assert names >= {
        *("clock", "simultaneous", "sine", "exponential_loss", "drift", "gain", "weight_decay"),
        *("halving", "center_distance", "angles"),
    }
    for given, meant in {"SIREN": "sine", "random-gain": "gain"}.items():
        assert f"Received: {given!r}. Did you mean {meant!r}?" in listed
    header, *_, last = (tree / "runs/clock/metrics.csv").read_text().splitlines()
    assert {"drift", "center_distance"} <= set(header.split(","))
    assert last.startswith("128,2,")  # two steps
    assert (tree / "runs/simultaneous/metrics.csv").read_text().splitlines()[-1].startswith("128,")
    assert list((tree / "runs/clock/samples").glob("*.png"))
    bundle = tree / "runs/clock/bundle"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert "model.json" in manifest["files"]
    assert max(manifest["parity"]["figures"]["onnx_json"].values()) < 1e-6
    assert json.loads((bundle / "model.json").read_text())["graph"]["node"]
    with np.load(tree / "samples.npz") as samples:
        assert samples["samples"].shape == (4, 2)


@pytest.mark.timeout(300)
def test_the_kind_encodes_decodes_and_draws(tree):
    program = """
        import numpy as np
        from serving import kinds
        kind = kinds.get("angles")
        sample = np.array([0.0, np.pi / 2], "float32")
        content = kind.encode(sample, "deg")
        assert content == b"0.000,90.000", content
        assert np.allclose(kind.decode(content, "deg", (2,)), sample)
        assert kind.sheet(sample[None]).dtype == np.uint8
        """
    python(program, tree)


@pytest.mark.timeout(300)
def test_the_protocol_is_served_and_documented(tree, listed):
    command = [*(sys.executable, "-m", "serving.cli", "serve", "runs/clock/bundle"), "--port", "0"]
    process = subprocess.Popen(
        command, cwd=tree, env=environment(tree), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        place = process.stdout.readline().rpartition("//")[2].strip().rstrip("/")
        with urllib.request.urlopen(f"http://{place}/plain/clock", timeout=60) as response:
            assert response.read() == b"1\n"
        with urllib.request.urlopen(f"http://{place}/openapi.json", timeout=60) as response:
            document = json.load(response)
        about = document["paths"]["/plain/{name}"]["get"]["summary"]
        assert about == "Lists the versions of a model, one in each line"
    finally:
        process.terminate()
        process.communicate(timeout=60)
