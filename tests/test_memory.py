"""The memory estimate against a real process."""

import re
import subprocess
import sys

import pytest

from keras_gan import memory, recipe, train

SETTINGS = ["training.batch_size=256", "training.examples=1024", "evaluation.count=64"]


@pytest.mark.slow
def test_the_estimate_is_close_to_the_peak_of_a_training_process(tmp_path):
    resolved = recipe.load("quickstart", SETTINGS)
    gan = train.build(resolved, train.open_data(resolved).spec)
    line = memory.estimate(gan, resolved.training.batch_size)[-1]
    estimated = int(re.search(r"([\d,]+) MiB", line)[1].replace(",", ""))
    program = (
        "import pathlib, re, sys\n"
        "from keras_gan import recipe, train\n"
        f"train.train(recipe.load('quickstart', {SETTINGS!r}), sys.argv[1])\n"
        # Not ru_maxrss, which starts at the peak of the process that started this one.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1]) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert estimated == pytest.approx(int(done.stdout), rel=0.25)
