"""Trainings by recipe on the device: scores, memory, export."""

import json
import pathlib
import re
import subprocess
import sys
import textwrap

import gpu_device
import gpu_games as games
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import export
import serving
from keras_gan import recipe, train
from keras_gan.__main__ import main
from keras_gan.datasets import gaussians

POINTS = [
    "training.examples=640",
    "training.batch_size=32",
    "training.tick_examples=320",
    "networks.generator.widths=[16,16]",
    "networks.discriminator.widths=[16,16]",
    "evaluation.count=50",
    "samples.count=9",
]
# Largest difference of a sample in TF32, whose products have 11 bits, 5e-4, through the three dense
# layers of the generator; points are up to 3 in size.
TF32_SAMPLES = 2e-2
ROOT = pathlib.Path(__file__).parents[2]
SMALL = [
    "training.examples=640",
    "training.batch_size=32",
    "training.tick_examples=320",
    "networks.generator.widths=[8,4,4]",
    "networks.generator.latent_dim=8",
    "networks.discriminator.widths=[8,4,4]",
    "evaluation.count=50",
    "samples.count=9",
]


def process(program, *arguments, timeout):
    """Runs a program in a process of its own, which sees one GPU."""
    path = [str(ROOT), str(ROOT / "tests")]
    begin = f"import sys\nsys.path[:0] = {path!r}\n"
    return subprocess.run(
        [sys.executable, "-c", begin + textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=gpu_device.environment(1),
    )


# ------------------------------------------------------------------------ scores


@pytest.mark.timeout(240)
def test_gaussians_8_reaches_its_score(alone, is_gpu, tmp_path):
    """On a fake device with a tenth of the examples, and a score of a tenth."""
    examples, score = (2_000_000, 0.94) if is_gpu else (200_000, 0.4)
    settings = [f"training.examples={examples}", "evaluation.every_examples=1000000"]
    with alone() as device:
        gan = train.train(recipe.load("gaussians-8", settings), tmp_path / "run").gan
    games.assert_placed(gan, device)
    found = gaussians.score(gan.generate(range(25_000), batch_size=5_000), 8)
    assert found["modes"] == 8
    assert found["high_quality"] >= score


@pytest.mark.timeout(330)  # both processes
def test_quickstart_reaches_its_score(hardware, tmp_path):
    """The command that README names first; on CPUs this is a slow test of test_train.py."""
    run, out = tmp_path / "run", tmp_path / "classes.json"
    command = [sys.executable, "-m", "keras_gan", "quickstart", "--minutes", "2"]
    limits = {"check": True, "cwd": ROOT, "env": gpu_device.environment(1)}
    # 120 s of training; the rest is the start, the export and the first samples.
    subprocess.run([*command, "--run", str(run)], timeout=200, **limits)
    benchmark = [sys.executable, str(ROOT / "benchmarks" / "classes.py"), str(run / "bundle")]
    subprocess.run([*benchmark, "--json", str(out)], timeout=120, **limits)
    result = json.loads(out.read_text())
    assert result["accuracy"] > 0.85
    assert min(result["shares"]) >= 0.02
    assert result["alike"][0] > result["alike"][1] / 2


@pytest.mark.timeout(240)
@pytest.mark.parametrize("precision", games.PRECISIONS)
def test_a_recipe_trains_and_resumes(precision, alone, tmp_path):
    settings = [*SMALL, f"training.precision={precision}"]
    longer = {"settings": ("training.examples=1280",), "override": ("training.examples",)}
    with alone() as device:
        first = train.train(recipe.load("quickstart", settings), tmp_path / "run")
        games.assert_placed(first.gan, device)
        after = train.resume(tmp_path / "run", **longer)
    assert after.team.replicas == 1
    assert after.gan.count("examples_seen") == 1280
    rows = after.run.rows()
    assert [row["examples_seen"] for row in rows] == [320, 640, 960, 1280]
    assert np.isfinite([row["d_loss"] for row in rows]).all()


# ------------------------------------------------------------------------ memory


def test_memory_grows_as_it_is_needed(hardware, tmp_path):
    """The command sets it; TensorFlow's default takes the whole GPU."""
    program = """
        import tensorflow as tf
        from keras_gan.__main__ import main
        sets = [part for each in sys.argv[2:] for part in ("--set", each)]
        main(["train", "quickstart", "--run", sys.argv[1], *sets])
        gpus = tf.config.list_physical_devices("GPU")
        print(all(tf.config.experimental.get_memory_growth(gpu) for gpu in gpus))
        print(tf.config.experimental.get_memory_info("GPU:0")["peak"])
        """
    done = process(program, tmp_path / "run", *SMALL, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    growth, peak = done.stdout.splitlines()[-2:]
    assert growth == "True"
    assert 2**20 < int(peak) < 2**30


OUT_OF_MEMORY = """
    import tensorflow as tf
    from keras_gan.__main__ import main
    gpu = tf.config.list_physical_devices("GPU")[0]
    part = tf.config.LogicalDeviceConfiguration(memory_limit=512)  # MiB
    tf.config.set_visible_devices([gpu], "GPU")
    tf.config.set_logical_device_configuration(gpu, [part])
    sets = [part for each in sys.argv[2:] for part in ("--set", each)]
    main(["train", "gaussians-8", "--run", sys.argv[1], *sets])
    """


@pytest.mark.timeout(330)
def test_out_of_memory_is_one_line_with_a_batch_size_that_trains(hardware, tmp_path):
    """On 512 MiB of the GPU. The advice is followed until the training ends.

    Dense layers, the outputs of one of which are 1 GiB: where memory is short for convolutions,
    cuDNN's search for an algorithm may fail with an error of its own.
    """
    size, tried = 262_144, []
    while not tried or size != tried[-1]:
        tried.append(size)
        sets = [
            f"training.batch_size={size}",
            "training.examples=262144",
            "training.tick_examples=262144",
            "training.precision=float32",
            "networks.generator.widths=[1024,1024]",
            "networks.discriminator.widths=[1024,1024]",
            "evaluation.count=50",
            "samples.count=9",
        ]
        done = process(OUT_OF_MEMORY, tmp_path / str(size), *sets, timeout=80)
        errors = [line for line in done.stderr.splitlines() if "keras-gan: error:" in line]
        if done.returncode == 0:
            break
        assert done.returncode == 2, done.stderr[-3000:]
        (line,) = errors
        assert f"Received: training.batch_size={size}, out of memory. Try" in line
        size = int(re.search(r"--set training\.batch_size=(\d+) ", line)[1])
    assert done.returncode == 0
    assert 1 < len(tried) <= 4, tried


# ------------------------------------------------------------------------ export


@pytest.fixture(scope="module")
def exported(alone, tmp_path_factory):
    """A bundle of a run that was trained, and is exported, in this process."""
    folder = tmp_path_factory.mktemp("exported")
    with alone() as device:
        outcome = train.train(recipe.load("gaussians-8", POINTS), folder / "run")
        games.assert_placed(outcome.gan, device)
    with tf.device(device):
        main(["export", str(folder / "run")])
    return folder / "run" / "bundle"


def test_the_bundle_of_a_process_with_the_device_is_verified(exported):
    report = export.verify_bundle(exported)
    assert report.ok, report
    assert {"onnx", "saved_model", "saved_model generate"} <= set(report.figures)


def test_the_saved_model_names_no_device(exported):
    """TensorFlow refuses to load a graph that is pinned to a device which is not there."""
    (path,) = (exported / "saved_model").rglob("saved_model.pb")
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graphs = [meta.graph_def for meta in model.meta_graphs]
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [n for graph in graphs for f in graph.library.function for n in f.node_def]
    assert len(nodes) > 50
    assert not {node.device for node in nodes if "CPU:1" in node.device or "GPU" in node.device}


def test_the_saved_model_gives_the_golden_samples_on_the_device(exported, on_device):
    (path,) = (exported / "saved_model").rglob("saved_model.pb")
    model = tf.saved_model.load(str(path.parent))
    with np.load(exported / "golden.npz") as golden:
        seeds, expected = golden["seeds"], golden["samples"]
    found = model.signatures["generate"](seeds=tf.constant(seeds, tf.int64))["samples"]
    assert found.device.endswith(on_device)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_onnxruntime_gives_the_golden_samples_in_its_cuda_provider(exported, hardware):
    """In float32, and in TF32, which onnxruntime uses by default and so does `serving`."""
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    session = onnxruntime.InferenceSession(
        str(exported / "model.onnx"),
        providers=[("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"],
    )
    if session.get_providers()[0] != "CUDAExecutionProvider":
        pytest.skip(f"needs onnxruntime's CUDA provider. Received: {session.get_providers()}")
    with np.load(exported / "golden.npz") as golden:
        arrays = dict(golden)
    (found,) = session.run(["samples"], {i.name: arrays[i.name] for i in session.get_inputs()})
    np.testing.assert_allclose(found, arrays["samples"], atol=1e-4)
    bundle = serving.Bundle(exported, device="cuda")
    assert bundle.device == "cuda"
    np.testing.assert_allclose(
        bundle.generate(arrays["seeds"]), arrays["samples"], atol=TF32_SAMPLES
    )


def test_golden_inputs_and_seeds_give_the_golden_samples_on_the_cpu(exported):
    """The comparison of the test above, in the provider that every machine has."""
    session = onnxruntime.InferenceSession(
        str(exported / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    with np.load(exported / "golden.npz") as golden:
        arrays = dict(golden)
    (found,) = session.run(["samples"], {i.name: arrays[i.name] for i in session.get_inputs()})
    np.testing.assert_allclose(found, arrays["samples"], atol=1e-4)
    made = serving.Bundle(exported, device="cpu").generate(arrays["seeds"])
    np.testing.assert_allclose(made, arrays["samples"], atol=1e-4)
