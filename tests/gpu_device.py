"""Devices of the tests marked `gpu`: the option --device, refusals, and what was skipped.

Loaded as a plugin by `conftest.py`. A fake device list consists of logical CPU devices.
"""

import collections
import os
import re

import pytest
import tensorflow as tf
from _pytest.mark.expression import Expression

_FAKE = re.compile(r"CPU:([1-9])")
_NO_GPU = (
    "The tests marked gpu need a GPU that TensorFlow finds. Received: --device GPU, 0 GPUs. "
    "--device CPU:1,CPU:2 runs what does not depend on the hardware on logical CPU devices"
)


def names(option):
    """Returns the names of the devices to test, such as ["GPU:0", "GPU:1"] or ["CPU:1"]."""
    if option == "GPU":
        return [f"GPU:{i}" for i, _ in enumerate(tf.config.list_physical_devices("GPU"))]
    return option.split(",")


def environment(count):
    """Returns the environment of a process to which the first GPUs that are visible here are."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = listed.split(",") if listed else [str(i) for i in range(count)]
    return {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(found[:count])}


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        default="GPU",
        help="Devices of the tests marked gpu: GPU for all GPUs (default), or a fake list, such as "
        "CPU:1 or CPU:1,CPU:2, of logical CPU devices",
    )


def pytest_configure(config):
    option = config.getoption("--device")
    found = [_FAKE.fullmatch(name) for name in option.split(",")]
    if option != "GPU" and (not all(found) or len(set(option.split(","))) < len(found)):
        raise pytest.UsageError(
            "--device must be GPU, or names of logical CPU devices from CPU:1 on, such as "
            f"CPU:1,CPU:2. Received: --device {option}"
        )
    configure(option)
    # Of pytest-xdist: the process that starts the others, which would fail test by test.
    starts = not hasattr(config, "workerinput") and getattr(config.option, "dist", "no") != "no"
    if starts and _selects_gpu(config.option.markexpr) and not config.option.collectonly:
        refuse_without(config)


def _selects_gpu(expression):
    """Checks whether -m selects tests marked gpu, and none that has no marker."""
    if not expression:
        return False
    parsed = Expression.compile(expression)
    return parsed.evaluate(lambda name, **_: name == "gpu") and not parsed.evaluate(
        lambda name, **_: False
    )


def configure(option):
    """Creates the devices of the option, before anything is computed: they cannot change later."""
    if option.startswith("GPU"):
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)  # several processes share it
        return
    # CPU:0 stays the host, which computes the references.
    count = 1 + max(int(name.partition(":")[2]) for name in option.split(","))
    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, parts)


def missing(config):
    """Returns why the tests marked gpu cannot run, or an empty text."""
    return "" if names(config.getoption("--device")) else _NO_GPU


def refuse_without(config):
    """Ends the run with one line if there is no device."""
    if missing(config):
        raise pytest.UsageError(missing(config))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Ends the run before the first test if tests marked gpu are selected and there is no GPU."""
    chosen = [item for item in items if item.get_closest_marker("gpu")]
    worker = hasattr(config, "workerinput")  # of pytest-xdist: there each test fails instead
    if chosen and not worker and not config.option.collectonly:
        refuse_without(config)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and missing(item.config):
        pytest.fail(missing(item.config), pytrace=False)


def pytest_terminal_summary(terminalreporter):
    """Lists the tests of devices that were skipped, by reason."""
    skipped = collections.defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        if "gpu" in report.keywords and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            skipped[reason].append(report.nodeid.rpartition("/")[2])
    if not skipped:
        return
    total = sum(map(len, skipped.values()))
    terminalreporter.section(f"{total} tests of devices did not run")
    for reason, tests in sorted(skipped.items()):
        terminalreporter.line(f"{reason}:")
        for test in sorted(tests):
            terminalreporter.line(f"    {test}")
