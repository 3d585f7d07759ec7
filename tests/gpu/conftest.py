"""Markers, time-outs and fixtures of the tests that run on a GPU, or on a fake device list."""

import contextlib
import faulthandler
import pathlib

import gpu_device
import pytest
import tensorflow as tf
from _pytest.faulthandler import fault_handler_stderr_fd_key

FOLDER = pathlib.Path(__file__).parent
SECONDS = 120  # of a test that states no time-out of its own
GRACE = 30  # after which a test that is stuck in a kernel ends the process


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    grouped = config.pluginmanager.hasplugin("xdist")
    for item in items:
        if FOLDER not in pathlib.Path(item.path).parents:
            continue
        item.add_marker(pytest.mark.gpu)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS))
        # In one process, which computes what they are compared with once: --dist loadgroup.
        given = getattr(item, "callspec", None)
        shared = given and (given.params.get("component") or given.params.get("family"))
        if shared and grouped:
            item.add_marker(pytest.mark.xdist_group(str(shared)))


@pytest.fixture(autouse=True)
def ended_if_stuck(request):
    """Ends the process if the time-out's signal has no effect, as within a kernel that hangs."""
    marker = request.node.get_closest_marker("timeout")
    seconds = marker.args[0] if marker.args else marker.kwargs["timeout"]
    # The standard error that pytest does not capture.
    stderr = request.config.stash[fault_handler_stderr_fd_key]
    faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=stderr)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def devices(pytestconfig):
    """Names of all devices to test."""
    return gpu_device.names(pytestconfig.getoption("--device"))


@pytest.fixture(scope="session")
def device(devices):
    """Name of the device that most tests use, such as "GPU:0"."""
    return devices[0]


@pytest.fixture
def on_device(device):
    """Places what the test computes on the device."""
    with tf.device(device):
        yield device


@pytest.fixture(scope="session")
def alone(device, devices):
    """Returns a context in which a recipe trains on the device alone, also beside others.

    Of several GPUs a training would take all, under a second strategy of this process.
    """

    @contextlib.contextmanager
    def context():
        one = tf.distribute.OneDeviceStrategy(device) if len(devices) > 1 else None
        with one.scope() if one else contextlib.nullcontext(), tf.device(device):
            yield device

    return context


@pytest.fixture(scope="session")
def is_gpu(device):
    return device.startswith("GPU")


@pytest.fixture
def hardware(is_gpu, device):
    """Skips a test of what only a GPU has."""
    if not is_gpu:
        pytest.skip(f"needs a GPU. Received: {device}")
    return device


@pytest.fixture
def two(devices):
    """Names of two devices."""
    if len(devices) < 2:
        kind = "GPUs" if devices[0].startswith("GPU") else "devices"
        pytest.skip(f"needs 2 {kind}. Received: {len(devices)}")
    return devices[:2]


@pytest.fixture(scope="session")
def strategies():
    """Strategies by their devices.

    Strategies of one process number their collective operations alike, so that those of a second
    one would be taken for those of the first.
    """
    made = {}

    def get(devices):
        if tuple(devices) not in made:
            made[tuple(devices)] = tf.distribute.MirroredStrategy(devices)
        return made[tuple(devices)]

    return get


@pytest.fixture
def strategy(two, strategies):
    """The strategy over two devices."""
    return strategies(two)


@pytest.fixture(autouse=True)
def without_tf32():
    """Computes products in float32 with 24 bits; tests of TensorFloat-32 enable it."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(before)
