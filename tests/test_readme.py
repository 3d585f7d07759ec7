"""The code in README runs unchanged, except for the length of the training."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text("utf-8")
SHORT = (
    "--set training.examples=32 --set training.batch_size=8 --set evaluation.count=8 "
    "--set networks.generator.widths=[16,8,8] --set networks.discriminator.widths=[8,8,16]"
)

SHORT_CHOSEN = (  # of a recipe that is chosen, whose length follows from the minutes
    "--minutes 0.05 --set training.batch_size=8 --set evaluation.count=5 "
    "--set networks.generator.width=4 --set networks.discriminator.width=4"
)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def home(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("cats", "dogs"):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(0, 255, (12, 12, 3)).astype("uint8")
            PIL.Image.fromarray(pixels).save(tmp_path / "pictures" / kind / f"{i}.png")
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_commands(home):
    environment = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        "TFDS_DATA_DIR": str(home / "tensorflow_datasets"),
    }
    lines = [
        line.partition(" #")[0].strip() for block in blocks("bash") for line in block.split("\n")
    ]
    commands = [line for line in lines if line.startswith("keras-gan ")]
    assert len(commands) >= 9
    curls = [line for line in lines if line.startswith("curl ")]
    for command in commands:
        if " serve " in command:
            served(command, curls, home, environment)
            continue
        if " train " in command:
            command += f" {SHORT_CHOSEN if 'train --data' in command else SHORT}"
        done = subprocess.run(
            command,
            shell=True,
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert PIL.Image.open(home / "grid.png").size == (
        8 * 28 + 7 * 2,
        8 * 28 + 7 * 2,
    )  # with gaps of 2 pixels
    assert (home / "runs/mine/bundle/manifest.json").is_file()
    assert (home / "runs/prepared/report.html").is_file()
    made = {shlex.split(command)[1] for command in commands}
    assert made == {
        *("list", "train", "evaluate", "export", "verify", "prepare"),
        *("sample", "walk", "serve"),
    }
    assert (home / "walk.webp").is_file()


def served(command, curls, home, environment):
    """Runs a server, on a free port, and sends it the requests of README."""
    process = subprocess.Popen(
        [*shlex.split(command), "--port", "0"],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        place = process.stdout.readline().rpartition("//")[2].strip()
        assert curls
        for line in curls:
            assert "localhost:8000" in line
            line = line.replace("localhost:8000", place)
            subprocess.run(line, shell=True, cwd=home, check=True, timeout=60)
        assert PIL.Image.open(home / "one.png").size == (28, 28)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_python_code(home):
    program, use = blocks("python")
    assert "epochs=8" in program
    program = program.replace("epochs=8", "epochs=1, steps_per_epoch=3") + use
    program += "\nassert pictures.shape == (16, 28, 28, 1) and abs(pictures).max() <= 1\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=home, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "bundle: ok" in done.stdout
    assert (home / "game.keras").is_file()
    assert len(list((home / "samples").glob("*.png"))) == 2


def test_links_are_valid():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (pathlib.Path(__file__).parents[1] / target).is_file()
