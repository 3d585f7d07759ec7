"""Tests of `benchmarks/gpu.py`: work of a step, peaks, budgets, rows, and the whole program."""

import dataclasses
import importlib
import json
import math
import os
import pathlib
import subprocess
import sys
import time

import pytest

import keras_gan
from keras_gan import recipe

ROOT = pathlib.Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def load():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module


@pytest.fixture(scope="module")
def cells(load):
    return load("gpu_cells")


@pytest.fixture(scope="module")
def gpu(load):
    return load("gpu")


# ------------------------------------------------------------------------ work of a step


def products_of_fashion_mnist():
    """Returns the products of both networks, and of their first layers, by hand."""
    project, pixels = 64 * 7 * 7 * 128, 7 * 7
    generator = project + pixels * 9 * 128 * 128  # the convolution at 7 x 7
    generator += pixels * 16 * 128 * 64 + 4 * pixels * 16 * 64 * 32  # two transposed ones
    generator += 28 * 28 * 9 * 32 * 1
    first = 14 * 14 * 16 * 1 * 64
    discriminator = first + 7 * 7 * 16 * 64 * 128 + 4 * 4 * 9 * 128 * 256 + 4 * 4 * 256
    return generator, project, discriminator, first


def built(load, cells, network):
    return load("gpu_tensorflow").build_game(cells.Cell("ours", network, "float32", batch=10))


def test_flops_of_fashion_mnist_are_those_by_hand(load, cells):
    flops = load("gpu_flops")
    game = built(load, cells, "fashion-mnist")
    g, g1, d, d1 = (2 * products for products in products_of_fashion_mnist())
    generator, discriminator = map(flops.forward, (game.generator, game.discriminator))
    assert generator == (g, g1)
    assert discriminator == (d, d1)
    # Generator forward and backward, the discriminator on two batches and in the generator's step
    # with the real logits, two penalties in every eighth step.
    expected = (3 * g - g1) + 2 * (3 * d - d1) + 3 * d + 2 * 3 * d / 8
    found = flops.of_step(generator, discriminator, cells.game_of("fashion-mnist"))
    assert found == pytest.approx(expected, rel=1e-12)


def test_flops_of_the_example_are_those_of_the_other_benchmark(load, cells):
    flops, variants = load("gpu_flops"), load("train_step_variants")
    game = built(load, cells, "keras-dcgan")
    counts = [flops.forward(network) for network in (game.generator, game.discriminator)]
    assert counts[0][0] == variants.generator_flops("dcgan")
    assert counts[1] == variants.discriminator_flops("dcgan")
    found = flops.of_step(*counts, cells.game_of("keras-dcgan"))
    # The other benchmark also counts the gradient by the latents, which nothing needs.
    assert found == variants.step_flops("dcgan") - counts[0][1]


def test_blocks_in_parallel_and_groups_are_counted(load):
    import keras

    flops = load("gpu_flops")
    inputs = keras.Input((8, 8, 4))
    left = keras_gan.layers.SpectralNormalization(keras_gan.layers.Conv2D(8, 3, padding="same"))
    right = keras.layers.Conv2D(8, 1)(keras.layers.AveragePooling2D(1)(inputs))
    x = keras.layers.Add()([left(inputs), right])
    x = keras_gan.layers.Conv2D(8, 3, padding="same", groups=4)(x)
    x = keras.layers.DepthwiseConv2D(8)(x)
    model = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Flatten()(x)))
    first = 64 * 9 * 4 * 8 + 64 * 4 * 8  # both read the inputs
    assert flops.forward(model) == (2 * (first + 64 * 9 * 2 * 8 + 64 * 8 + 8 * 5), 2 * first)


def test_discriminator_steps_divide_the_generators_work(load, cells):
    flops = load("gpu_flops")
    game = cells.Game("hinge", discriminator_steps=5)
    found = flops.of_step((10.0, 1.0), (100.0, 20.0), game)
    assert found == 10 + 2 * (300 - 20) + (20 - 1 + 2 * 100) / 5
    penalized = dataclasses.replace(game, penalty=1.0, interval=4)
    assert flops.of_step((10.0, 1.0), (100.0, 20.0), penalized) == found + 6 * 100 / 4


@pytest.mark.parametrize("network", ["fashion-mnist", "cifar10-sngan", "cifar10-r3gan"])
def test_games_are_those_of_the_recipes(cells, network):
    game = cells.game_of(network)
    loaded = recipe.load(network)
    options = loaded.game.options
    assert game.loss == options["loss"]
    assert game.discriminator_steps == options.get("discriminator_steps", 1)
    names = {term["name"] for term in options.get("terms", [])}
    assert bool(game.penalty) == ("r1" in names) == ("r2" in names)
    assert {term.get("interval", 1) for term in options.get("terms", [])} <= {game.interval}
    assert bool(game.classes) == loaded.uses_labels
    assert (game.half_life is None) == (options["ema_half_life"] == 0)


# Parameters of the generator and the discriminator, and GFLOP of a step for each real image, as
# PyTorch counts them in its networks: `benchmarks/gpu.py` prints them.
PYTORCH = {
    "keras-dcgan": ((3_979_651, 404_801), 15.5820),
    "fashion-mnist": ((713_697, 431_553), 0.343924),
    "cifar10-sngan": ((4_276_739, 1_053_825), 7.94970),
    "cifar10-r3gan": ((20_781_952, 21_280_512), 252.908),
}


@pytest.mark.parametrize("network", PYTORCH)
def test_networks_have_pytorchs_parameters_and_operations(load, cells, network):
    flops, ours = load("gpu_flops"), load("gpu_tensorflow")
    game = built(load, cells, network)
    networks = game.generator, game.discriminator
    parameters, gflop = PYTORCH[network]
    assert tuple(ours.parameters_of(each) for each in networks) == parameters
    counts = [flops.forward(each) for each in networks]
    # PyTorch's count has the resampling of R3GAN as well, which is 0.05 % of its products.
    found = flops.of_step(*counts, cells.game_of(network)) / 1e9
    assert found == pytest.approx(gflop, rel=1e-3)


@pytest.mark.skipif(
    "TORCH_PYTHON" not in os.environ, reason="set TORCH_PYTHON to a Python of torch"
)
def test_pytorchs_networks(cells):
    games = {network: dataclasses.asdict(cells.game_of(network)) for network in PYTORCH}
    command = [os.environ["TORCH_PYTHON"], str(BENCHMARKS / "gpu_torch.py")]
    done = subprocess.run(
        [*command, "--count", json.dumps(games)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for network, found in json.loads(done.stdout).items():
        parameters, gflop = PYTORCH[network]
        assert tuple(found["parameters"]) == parameters
        assert found["counted_flops"] / 1e9 == pytest.approx(gflop, rel=1e-5)


# ------------------------------------------------------------------------ devices


@pytest.mark.parametrize(
    ("name", "tf32"),
    [
        ("NVIDIA H200", 494.7),
        ("NVIDIA H100 80GB HBM3", 494.7),
        ("NVIDIA H100 PCIe", 378.0),
        ("NVIDIA A100-SXM4-80GB", 156.0),
        ("NVIDIA L4", 60.0),
        ("NVIDIA L40S", 183.0),
        ("NVIDIA A10", 62.5),
        ("NVIDIA GeForce RTX 4090", 82.6),
    ],
)
def test_peaks_by_name(cells, name, tf32):
    peak = cells.known_peak(name)
    assert peak["tf32"] == tf32
    assert peak["float32"] <= tf32 < peak["bfloat16"]


def test_unknown_gpus_have_no_peak(cells):
    for name in ("NVIDIA A10G", "NVIDIA H100 NVL", "NVIDIA A1000", "AMD EPYC", "NVIDIA L400"):
        assert cells.known_peak(name) is None, name
    assert cells.known_peak("Tesla T4") == {"float32": 8.1}


def test_peaks_of_the_command_line(cells):
    assert cells.parse_peak("bfloat16=989,tf32=494.5") == {"bfloat16": 989.0, "tf32": 494.5}
    for text in ("989", "float16=3", "tf32=", "tf32=0", "tf32=-1"):
        with pytest.raises(ValueError, match=r"--peak must be PRECISION=TFLOPS.*Received"):
            cells.parse_peak(text)


def test_gpus_from_nvidia_smi(load):
    machine = load("gpu_machine")
    found = machine.from_query("NVIDIA H200, 570.86.15, 143771, 9.0\n")
    assert (found.name, found.driver) == ("NVIDIA H200", "570.86.15")
    assert found.gib == pytest.approx(140.4, abs=0.1)
    assert found.formats == ("float32", "tf32", "bfloat16")
    assert found.line == "device: NVIDIA H200, 140 GiB, driver 570.86.15"
    assert machine.from_query("Tesla T4, 535.1, 15360, 7.5").formats == ("float32",)
    shared = machine.from_query("NVIDIA GB10, 580.1, [N/A], 12.1")
    assert shared.gib > 0
    assert shared.formats == found.formats


def test_the_memory_of_a_machine_is_within_the_limit_of_its_container(load, monkeypatch):
    machine = load("gpu_machine")
    monkeypatch.setattr(machine.main_memory, "read", lambda root: (3 * 2**30, 2**30))
    assert machine.find("cpu").gib == 3


@pytest.mark.parametrize("hidden", ["-1", ""])
def test_a_machine_without_a_gpu(load, monkeypatch, hidden):
    machine = load("gpu_machine")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    found = machine.find("auto")
    assert (found.device, found.processes) == ("cpu", 1)
    assert found.line.startswith(f"device: CPU (CUDA_VISIBLE_DEVICES={hidden})")
    with pytest.raises(ValueError, match=r"--device gpu needs a GPU\. Received: CUDA_VISIBLE"):
        machine.find("gpu")


# ------------------------------------------------------------------------ the measurements


def test_the_order_is_that_of_importance(cells):
    formats = ("float32", "tf32", "bfloat16")
    sizes = cells.BATCHES["gpu"]
    found = cells.cells("gpu", sizes, formats, cells.PROGRAMS)
    assert len({cell.title for cell in found}) == len(found) == 60
    assert found[0] == cells.Cell("keras.io", "keras-dcgan", "tf32", True, batch=32)
    places = {cell.title: place for place, cell in enumerate(found)}
    for program in ("ours, no XLA", "torch eager"):
        for network in cells.NETWORKS:
            rows = [f"{program} {network} {p}" for p in ("bfloat16", "float32")]
            assert places[rows[0]] < places[rows[1]]
    assert (
        places["torch compile cifar10-r3gan bfloat16"]
        < places["ours, no XLA fashion-mnist float32"]
    )
    early = [places[f"onnxruntime {p} fashion-mnist"] for p in ("cuda", "tensorrt")]
    assert early == [5, 6]  # after the example, and ours and PyTorch's of its networks
    assert places["onnxruntime tensorrt cifar10-r3gan"] > 50
    assert [c.program for c in cells.cells("gpu", sizes, formats, ["onnx"])] == ["onnx"] * 9
    for cell in found:
        assert cells.Cell.from_json(cell.as_json()) == cell


def test_gpus_without_tf32_measure_float32_first(cells):
    found = cells.cells("gpu", {"keras-dcgan": 8}, ("float32",), cells.PROGRAMS)
    assert {cell.precision for cell in found[:5]} == {"float32"}
    named = {cells.obstacle(cell, "gpu", ("float32",), "python") for cell in found[5:]}
    assert named == {f"the device has no products in {name}" for name in ("tf32", "bfloat16")}


def test_what_a_cpu_cannot_measure_has_a_reason(cells):
    found = cells.cells("cpu", cells.BATCHES["cpu"], ("float32",), cells.PROGRAMS)
    reasons = {c.title: cells.obstacle(c, "cpu", ("float32",), None) for c in found}
    assert reasons["ours, XLA cifar10-sngan tf32"] == "TF32 is a number format of GPUs"
    assert reasons["onnxruntime tensorrt fashion-mnist"] == "needs a GPU"
    assert "--torch-python" in reasons["torch eager fashion-mnist float32"]
    assert reasons["ours, no XLA fashion-mnist float32"] is None
    assert reasons["onnxruntime cpu cifar10-r3gan"] is None


def test_batches_and_groups_fit_the_memory(cells):
    sizes = {network: cells.batch_that_fits(network, 139) for network in cells.NETWORKS}
    assert sizes == cells.BATCHES["gpu"]
    small = {network: cells.batch_that_fits(network, 15) for network in cells.NETWORKS}
    assert small["cifar10-r3gan"] == 8
    assert small["cifar10-sngan"] % 5 == 0
    found = cells.cells("gpu", sizes, ("float32", "tf32", "bfloat16"), cells.PROGRAMS)
    left, groups = found, []
    while left:
        groups.append(cells.next_wave(left, 8, 139))
        left = left[len(groups[-1]) :]
    assert [cell for group in groups for cell in group] == found
    for group in groups:
        assert 1 <= len(group) <= 8
        assert len(group) == 1 or sum(map(cells.memory_gib, group)) <= 0.9 * 139
    assert max(map(len, groups)) == 8
    assert len(cells.next_wave(found, 8, 1)) == 1  # too large for the GPU: tried by itself
    generators = cells.cells("gpu", sizes, ("float32",), ["onnx"])
    export = cells.Cell("export", "fashion-mnist")
    assert cells.next_wave([export, *generators], 8, 139) == [export]
    assert cells.next_wave(generators, 8, 139) == generators[:8]


# ------------------------------------------------------------------------ rows


def row(cells, program, seconds, compiled=False, parameters=(10, 20), **options):
    cell = cells.Cell(program, "fashion-mnist", "tf32", compiled, batch=64, **options)
    answer = {"seconds": seconds, "parameters": list(parameters), "memory": 100.0}
    if program == "ours":
        answer["flops"] = 2e9
    return cells.step_row(cell, answer, warm_up=7.0)


def test_rows_are_medians_and_ratios_to_pytorchs_best(cells):
    rows = [
        row(cells, "ours", [0.010, 0.5, 0.008]),
        row(cells, "torch", [0.020, 0.020, 0.030]),
        row(cells, "torch", [0.016, 0.017, 0.016], compiled=True),
    ]
    assert rows[0]["images_per_second"] == pytest.approx(6400)
    assert cells.compare(rows, {"tf32": 128.0}) == []
    assert [r["ratio"] for r in rows] == pytest.approx([1.6, 0.8, 1.0])
    # 6,400 images of 2 GFLOP are 12.8 TFLOP/s.
    assert [r["peak_share"] for r in rows] == pytest.approx([0.1, 0.05, 0.0625])
    lines = cells.table(rows)
    assert lines[0].split()[:2] == ["program", "network"]
    assert lines[1].startswith("ours, no XLA ")
    assert lines[1].split()[4:] == ["tf32", "64", "6,400.0", "10.00", "10.0%", "1.60"]
    assert [line.split(" fashion")[0].strip() for line in lines[2:]] == [
        "torch compile",
        "torch eager",
    ]
    assert cells.networks_lines(rows) == [
        "fashion-mnist: ours 10 + 20 parameters, torch 10 + 20 parameters, 2.00 GFLOP an image"
    ]


def test_the_step_with_augmentation_has_no_ratio(cells):
    rows = [row(cells, "ours", [0.01], extra=extra) for extra in ("input", "augment")]
    cells.compare([*rows, row(cells, "torch", [0.02])], {})
    assert [r["program"] for r in rows] == ["ours, no XLA, tf.data", "ours, no XLA, augmentation"]
    assert rows[0]["ratio"] == pytest.approx(2.0)
    assert rows[1]["ratio"] is None


def test_networks_of_other_sizes_are_not_compared(cells):
    rows = [row(cells, "ours", [0.01]), row(cells, "torch", [0.01], parameters=(10, 21))]
    (note,) = cells.compare(rows, {})
    assert note.startswith("fashion-mnist: not compared, the numbers of parameters differ")
    assert [r["ratio"] for r in rows] == [None, None]
    assert [r["peak_share"] for r in rows] == [None, None]  # of a device whose peak is unknown
    assert [line.split()[-2:] for line in cells.table(rows)[1:]] == [["-", "-"]] * 2


def test_what_is_not_known_is_null_in_json(cells):
    found = cells.without_nan({"a": [1.5, math.nan, (math.inf, 2)], "b": {"c": -math.inf}})
    assert json.dumps(found, allow_nan=False) == '{"a": [1.5, null, [null, 2]], "b": {"c": null}}'


def test_rows_of_generators(cells):
    cell = cells.Cell("onnx", "fashion-mnist", provider="cuda")
    answers = [{"times": [0.001, 0.002, 0.003], "memory": 9.0}, {"times": [0.032], "memory": 9.0}]
    rows = cells.sample_rows(cell, answers, 1.0, ("float32", "tf32"))
    assert [r["images_per_second"] for r in rows] == pytest.approx([500, 2000])
    assert [r["batch"] for r in rows] == [1, 64]
    assert {r["precision"] for r in rows} == {"tf32"}
    old = cells.sample_rows(cell, answers, 1.0, ("float32",))
    assert {r["precision"] for r in old} == {"float32"}
    assert cells.compare(rows, {"tf32": 1.0}) == []
    assert cells.table(rows)[1].startswith("onnxruntime cuda")


# ------------------------------------------------------------------------ time


def test_windows_hold_whole_intervals_and_end(load):
    calls = []

    def run(steps):
        calls.append(steps)
        time.sleep(0.002 * steps)

    known = {"step": 0.002}
    found = load("children").windows(run, 8, "0.2 4", known)
    assert found["steps_per_window"] % 8 == 0
    assert len(found["seconds"]) == 4
    assert all(seconds >= 0.002 for seconds in found["seconds"])
    assert calls == [8, *[found["steps_per_window"]] * 4]
    # A step that is longer than all windows together is timed until twice their length is over.
    assert len(load("children").windows(run, 1, "0.001 5", {"step": 1.0})["seconds"]) == 1


def child(load, source, **limits):
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    program = [sys.executable, "-c", source]
    return load("children").Child("test", program, environment, False, wait=False)


def is_running(pid):
    """Checks whether a process exists and has not ended; nobody may have asked how it ended."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "State:\tZ" not in status


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_child_over_its_time_is_ended_with_what_it_started(load, tmp_path):
    source = (
        "import pathlib, subprocess, sys, time\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(other.pid))\n"
        "time.sleep(600)"
    )
    slow = child(load, source)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.1)
    other = int((tmp_path / "pid").read_text())
    slow.wait_until_ready(0.5)
    assert slow.late
    assert slow.error == "no answer in time"
    assert is_running(other)
    began = time.monotonic()
    slow.kill()
    slow.kill()  # once more changes nothing
    while is_running(other) or is_running(slow.process.pid):
        assert time.monotonic() - began < 30
        time.sleep(0.1)


def test_a_child_answers_within_its_time_or_has_an_error(load):
    source = (
        "import time\nfrom children import respond\n"
        "respond(lambda: lambda line: time.sleep(float(line)) or {'slept': line})"
    )
    quick = child(load, source)
    quick.wait_until_ready(60)
    assert quick.error is None
    quick.ask("0", 60)
    assert quick.rounds[0]["slept"] == "0\n"
    quick.ask("100", 0.2)
    assert quick.late
    quick.kill()
    gone = child(load, "")
    gone.wait_until_ready(60)
    assert gone.error == "the process ended"
    assert not gone.late
    gone.ask("0", 5)
    assert gone.error == "the process ended"
    gone.kill()


def test_what_the_time_does_not_allow_is_named(gpu, load, tmp_path):
    machine = dataclasses.replace(load("gpu_machine").find("cpu"), name="NVIDIA L4")
    options = gpu.parse(["--limit", "5", "--seconds", "1", "--warm-up", "1", "--parallel", "1"])
    bench = gpu.Bench(machine, options, tmp_path)
    found = gpu.gpu_cells.cells("cpu", {"fashion-mnist": 8}, ("float32",), ["ours"])
    bench.run(found)
    result = bench.result()
    assert result["rows"] == []
    reasons = {entry["measurement"]: entry["reason"] for entry in result["not_measured"]}
    assert reasons.keys() == {cell.title for cell in found}
    assert reasons["ours, no XLA fashion-mnist float32"] == "not run: the limit of 5 s was over"
    assert result["peak_is"] == "NVIDIA's"
    json.dumps(result, allow_nan=False)


def test_exports_and_the_peak_come_before_what_needs_them(gpu, load, tmp_path):
    cells = gpu.gpu_cells
    machine = load("gpu_machine").from_query("NVIDIA H100 NVL, 570.1, 95830, 9.0")
    bench = gpu.Bench(machine, gpu.parse([]), tmp_path)
    sizes = {"fashion-mnist": 8, "cifar10-sngan": 10}
    planned = cells.cells("gpu", sizes, machine.formats, cells.PROGRAMS)
    exports = [cells.Cell("export", network) for network in sizes]
    assert bench.prepared(planned) == [cells.Cell("peak"), *exports, *planned]
    steps = cells.cells("gpu", sizes, machine.formats, ["ours"])
    assert bench.prepared(steps) == [cells.Cell("peak"), *steps]
    known = gpu.Bench(machine, gpu.parse(["--peak", "tf32=1"]), tmp_path)
    assert known.prepared(steps) == steps


def test_exports_are_in_the_first_group_and_their_providers_in_the_second(gpu, load, tmp_path):
    cells = gpu.gpu_cells
    machine = load("gpu_machine").from_query("NVIDIA H200, 570.86.15, 143771, 9.0")
    bench = gpu.Bench(machine, gpu.parse([]), tmp_path)
    planned = cells.cells("gpu", cells.BATCHES["gpu"], machine.formats, cells.PROGRAMS)
    waiting = bench.prepared(planned)
    first = cells.next_wave(waiting, 8, machine.gib)
    second = cells.next_wave(waiting[len(first) :], 8, machine.gib)
    assert [c.program for c in first] == ["export"] * 3 + ["keras.io"] + ["ours", "torch"] * 2
    assert [(c.network, c.provider) for c in second if c.program == "onnx"] == [
        ("fashion-mnist", "cuda"),
        ("fashion-mnist", "tensorrt"),
    ]


def test_slow_preparations_have_longer_limits(cells):
    limit = cells.warm_up_limit
    assert limit(cells.Cell("torch", "fashion-mnist", "tf32"), 75) == 75
    assert limit(cells.Cell("export", "fashion-mnist"), 75) == pytest.approx(105)
    assert limit(cells.Cell("ours", "cifar10-r3gan", "tf32"), 75) == pytest.approx(120)
    assert limit(cells.Cell("export", "cifar10-r3gan"), 75) == pytest.approx(120)
    assert limit(cells.Cell("onnx", "fashion-mnist", provider="tensorrt"), 75) == 120


def test_another_python_does_not_get_the_packages_of_this_one(gpu, load, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "/of/this/python")
    machine = load("gpu_machine").find("cpu")
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho '{\"error\": \"'$PYTHONPATH'\"}'\n")
    script.chmod(0o755)
    foreign = ["--torch-python", str(script), "--onnx-python", str(script)]
    options = gpu.parse([*foreign, "--parallel", "1"])
    bench = gpu.Bench(machine, options, tmp_path)
    for cell in (
        gpu.gpu_cells.Cell("torch", "fashion-mnist", "float32", batch=8),
        gpu.gpu_cells.Cell("onnx", "fashion-mnist", provider="cpu"),
    ):
        started = bench._start(cell)
        started.wait_until_ready(60)
        started.kill()
        assert started.error == str(ROOT)
    same = gpu._environment(gpu.gpu_cells.Cell("peak"), "cpu")
    assert same["PYTHONPATH"] == os.pathsep.join([str(ROOT), "/of/this/python"])


def test_options(gpu, capsys):
    options = gpu.parse(["--networks", "cifar10-r3gan,fashion-mnist", "--peak", "tf32=3"])
    assert options.networks == ["fashion-mnist", "cifar10-r3gan"]
    assert options.peak == {"tf32": 3.0}
    for arguments in (["--networks", "mnist"], ["--programs", ""], ["--peak", "3"]):
        with pytest.raises(SystemExit):
            gpu.parse(arguments)
        assert "Received:" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"--torch-python must be the path of a Python\. Received"):
        gpu.main(["--torch-python", "/nowhere/python"])


# ------------------------------------------------------------------------ the whole program


def run_program(tmp_path, *arguments, timeout, path=os.environ["PATH"]):
    result = tmp_path / "result.json"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--json", str(result), *arguments]
    environment = {**os.environ, "PATH": path}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(result.read_text())


def test_generators_in_every_provider_or_the_reason(tmp_path):
    """The smallest setting, on a machine whose nvidia-smi lists a GPU, there or not."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H200, 570.86.15, 143771, 9.0'\n")
    smi.chmod(0o755)
    arguments = ["--networks", "fashion-mnist", "--programs", "onnx", "--seconds", "0.05"]
    limits = ["--limit", "200", "--warm-up", "150"]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    printed, result = run_program(tmp_path, *arguments, *limits, timeout=260, path=path)
    assert printed.startswith("device: NVIDIA H200, 140 GiB, driver 570.86.15\n")
    assert result["peak_tflops"]["bfloat16"] == 989.4
    on_cpu = [r for r in result["rows"] if r["program"] == "onnxruntime cpu"]
    assert [r["batch"] for r in on_cpu] == [1, 64]
    assert all(r["images_per_second"] > 0 and r["seconds"] for r in on_cpu)
    measured = {r["program"] for r in result["rows"]}
    reasons = {entry["measurement"]: entry["reason"] for entry in result["not_measured"]}
    for provider, name in (("cuda", "CUDAExecution"), ("tensorrt", "TensorrtExecution")):
        reason = reasons.get(f"onnxruntime {provider} fashion-mnist", "")
        built = "is built for" in reason or f"cannot load {name}Provider" in reason
        assert built != (f"onnxruntime {provider}" in measured), reason
    assert result["seconds"] < 200


@pytest.mark.slow
def test_the_program_without_pytorch(tmp_path):
    arguments = ["--networks", "fashion-mnist", "--batch", "4", "--seconds", "0.1"]
    limits = ["--limit", "600", "--warm-up", "250"]
    printed, result = run_program(tmp_path, "--device", "cpu", *arguments, *limits, timeout=700)
    generators = ["onnxruntime cpu", "onnxruntime cpu"]
    programs = [r["program"] for r in result["rows"]]
    assert programs == ["ours, no XLA", "ours, XLA", *generators, "ours, no XLA, tf.data"]
    steps = [r for r in result["rows"] if "parameters" in r]
    assert {tuple(r["parameters"]) for r in steps} == {(713_697, 431_553)}
    assert {r["jit_compile"] for r in steps if r["program"] == "ours, XLA"} == {True}
    assert {r["jit_compile"] for r in steps if r["program"] == "ours, no XLA"} == {False}
    assert all(r["peak_share"] > 0 and r["seconds"] for r in steps)
    assert result["peak_is"] == "measured"
    assert "torch eager fashion-mnist float32: not measured: give --torch-python" in printed
