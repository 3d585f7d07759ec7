"""The suite for GPUs on this machine: its cases, a fake device list, refusals, time-outs."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import gpu_device
import pytest
import tensorflow as tf

from keras_gan import augment, constraints, losses, terms, workers
from keras_gan.games import Game
from keras_gan.registry import classes

ROOT = pathlib.Path(__file__).parents[1]
SUITE = ROOT / "tests" / "gpu"
PATH = os.pathsep.join([str(ROOT), str(ROOT / "tests")])


def run(*arguments, path=SUITE, timeout=280):
    """Runs the tests marked gpu in a process to which no GPU is visible."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", str(path), "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=timeout,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": PATH},
    )


def test_the_suite_has_all_components_in_all_precisions_with_and_without_xla():
    listed = run("--collect-only", "-q").stdout.splitlines()
    cases = [line.rpartition("::")[2] for line in listed if "::" in line]
    assert len(cases) >= 150
    families = {
        "loss": losses.Loss,
        "term": terms.Term,
        "augment": augment.Augment,
        "constraint": constraints.Constraint,
        "game": Game,
    }
    for family, base in families.items():
        for name, cls in classes(base).items():
            if not cls.__module__.startswith("keras_gan."):
                continue
            found = [c for c in cases if f"_in_float32[{family}-{name}-" in c]
            expected = {
                f"{precision}-{how}]"
                for precision in ("float32", "mixed_float16", "mixed_bfloat16")
                for how in ("graph", "xla")
            }
            assert {c.partition(f"{family}-{name}-")[2] for c in found} >= expected, name


def test_without_a_gpu_the_suite_fails_in_one_line():
    done = run("-q")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert " passed" not in done.stdout
    (line,) = (x for x in done.stderr.splitlines() if x.startswith("ERROR"))
    assert line.startswith("ERROR: The tests marked gpu need a GPU that TensorFlow finds. ")
    assert "Received: --device GPU, 0 GPUs." in line


def test_without_a_gpu_the_suite_fails_in_one_line_in_processes_of_xdist():
    done = run("-q", "-n", "2")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.count("Received: --device GPU, 0 GPUs.") == 1
    assert "ERROR: The tests marked gpu need a GPU that TensorFlow finds. " in done.stderr
    assert "failed" not in done.stdout


@pytest.mark.slow
def test_without_a_gpu_each_test_fails_if_other_tests_are_selected_as_well():
    done = run("-q", "-n", "2", "-m", "not slow", "-k", "11_bits or name_of_an_operation")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "2 errors" in done.stdout  # in the setup of each
    assert done.stdout.count("Received: --device GPU, 0 GPUs.") >= 2


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [(None, 1, "0"), (None, 2, "0,1"), ("3,1,2", 2, "3,1"), ("GPU-ab", 1, "GPU-ab")],
)
def test_a_process_gets_the_first_of_the_visible_gpus(visible, count, expected, monkeypatch):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = gpu_device.environment(count)
    assert found["CUDA_VISIBLE_DEVICES"] == expected
    assert found["PATH"] == os.environ["PATH"]


def test_a_training_takes_the_strategy_in_whose_scope_it_starts(monkeypatch, capsys):
    """Also on a machine of several GPUs, where it would make its own."""
    several = [f"GPU:{i}" for i in range(3)]
    for kind in ("physical", "logical"):
        monkeypatch.setattr(tf.config, f"list_{kind}_devices", lambda _: several)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        team = workers.join()
        assert team.strategy is strategy
    assert team.replicas == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("device", ["CPU:0", "GPU:0", "CPU:1,CPU:1", "cuda"])
@pytest.mark.slow
def test_a_device_list_is_refused(device):
    done = run("--device", device)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"Received: --device {device}" in done.stderr


def test_a_selection_on_a_fake_device_and_the_list_of_what_did_not_run():
    chosen = (
        "layers_compute_on_the_device or 11_bits or xla_is_refused_on_two_devices"
        " or (trains_as_on_the_cpu_in_float32 and term-r1 and graph)"
    )
    done = run("--device", "CPU:1", "-k", chosen)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"6 passed, 2 skipped", done.stdout), done.stdout[-3000:]
    summary = done.stdout.partition("2 tests of devices did not run")[2].splitlines()
    assert [line for line in summary if line.startswith(("needs", "    "))] == [
        "needs 2 devices. Received: 1:",
        "    test_gpu_replicas.py::test_xla_is_refused_on_two_devices",
        "needs a GPU. Received: CPU:1:",
        "    test_gpu_numbers.py::test_products_in_tensor_float_32_have_11_bits",
    ]


@pytest.mark.slow
def test_a_hung_test_is_ended_by_its_time_out(tmp_path):
    """By a signal; if it is stuck where signals have no effect, the process ends."""
    folder = tmp_path / "tests" / "gpu"
    folder.mkdir(parents=True)
    shutil.copy(SUITE / "conftest.py", folder)
    (folder / "test_gpu_hung.py").write_text(
        textwrap.dedent(
            """
            import signal
            import time

            import conftest
            import pytest

            conftest.GRACE = 20

            @pytest.mark.timeout(2)
            def test_hung():
                time.sleep(200)

            def test_after_it():
                print("the next one")

            @pytest.mark.timeout(2)
            def test_stuck():
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
                time.sleep(200)
            """
        )
    )
    done = run(
        *("-p", "gpu_device", "-c", str(ROOT / "pyproject.toml"), "--device", "CPU:1", "-v"),
        path=folder,
        timeout=150,
    )
    assert done.returncode != 0
    assert "test_hung FAILED" in done.stdout
    assert "test_after_it PASSED" in done.stdout
    assert "Timeout (0:00:22)!" in done.stderr
    assert "in test_stuck" in done.stderr
    assert "passed" not in done.stdout.splitlines()[-1]
