"""Inference speed of exported generators, compared with Keras's own export and with PyTorch.

    python benchmarks/inference.py --net dcgan --torch-python /path/to/venv/bin/python
    python benchmarks/inference.py --net all --variants keras-onnx,ours --threads 1

The networks are `dcgan`, the generator of the keras.io example "dcgan_overriding_train_step"
(64 x 64 x 3), `quickstart`, that of the recipe quickstart (28 x 28 x 1), and one of each
architecture of this library. All variants have the same weights, except that PyTorch's variants
have weights of their own, of the same shapes.

Each variant runs in its own process with a fixed number of threads. Variants run alternately: for
each batch size and round, one computes batches for some seconds while the others sleep. Median and
95th percentile are over all batches of all rounds. The ratio is the speed relative to Keras's own
ONNX export, as the median over the rounds. `ours-without-PASS` is our ONNX model without one pass
of export.passes, `ours-without-all` without any.

"peak" is the share of the machine's peak matrix multiplication rate with the same threads, measured
between the rounds. It counts the products of the network as Keras defines it, so a variant with a
pass that saves products can exceed 100 %. "start" is the time from process start to first sample.

PyTorch is not a dependency. Its variants run in the Python given by --torch-python: `python -m venv
torch; torch/bin/pip install torch onnx onnxscript`, the last two for its ONNX export.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from train_step import matmul_peak, peak_memory

HERE = pathlib.Path(__file__).resolve().parent
BASE = "keras-onnx"  # the reference of all ratios
TORCH = ["torch-eager", "torch-eager-last", "torch-compile", "torch-onnx"]
REDUCED = {"ours-int8": "model.int8.onnx", "ours-float16": "model.fp16.onnx"}
# Names of the same networks in train_step_torch.py.
TORCH_NETS = {"dcgan": "dcgan", "quickstart": "small"}
NOTES = {
    "keras-predict": "model.predict",
    "keras-function": "the model in a tf.function",
    "saved-model": "our SavedModel's signature serving_default",
    "keras-onnx": 'model.export(format="onnx"), onnxruntime',
    "ours": "our ONNX model, onnxruntime",
    "ours-int8": "model.int8.onnx of --bundle",
    "ours-float16": "model.fp16.onnx of --bundle, made for GPUs",
    "ours-without-all": "our ONNX model without any pass",
    "torch-eager": "PyTorch",
    "torch-eager-last": "PyTorch, channels last",
    "torch-compile": "torch.compile",
    "torch-onnx": "torch.onnx.export, onnxruntime",
}
COLOR = ("image", (32, 32, 3), (-1.0, 1.0))
GRAY = ("image", (28, 28, 1), (-1.0, 1.0))
# Architecture, kind of samples, options, and number of classes.
ARCHITECTURES: dict[str, tuple[str, tuple, dict[str, Any], int]] = {
    "quickstart": ("dcgan", GRAY, {}, 0),
    "dcgan-classes": ("dcgan", GRAY, {"conditioning": "batch_norm"}, 10),
    "dcgan-layer": ("dcgan", GRAY, {"norm": "layer", "extra_convolutions": 1}, 0),
    "resnet": ("resnet", COLOR, {"width": 128}, 0),
    "resnet-classes": ("resnet", COLOR, {"width": 128, "attention": 16}, 10),
    "r3gan": ("r3gan", COLOR, {"preset": "cpu"}, 0),
    "r3gan-classes": ("r3gan", COLOR, {"preset": "cpu"}, 10),
    "mlp": ("mlp", ("points", (2,), None), {}, 0),
}
NETS = ("dcgan", *ARCHITECTURES)


# --------------------------------------------------------------------- the models


def build(net: str) -> Any:
    """Builds a Keras generator whose batch statistics match its activations."""
    import keras
    import numpy as np
    from train_step import build_networks

    import keras_gan

    if net == "dcgan":
        model = build_networks("dcgan")[0]
        # Keras exports only a model that has been called.
        model(np.zeros((1, *model.inputs[0].shape[1:]), "float32"))
        return model
    keras.utils.set_random_seed(0)
    family, what, options, classes = ARCHITECTURES[net]
    spec = keras_gan.Spec(*what, num_classes=classes)
    make = keras_gan.architectures.build_network
    model = make("generator", family, spec, conditional=classes > 0, **options)
    inputs = model.inputs
    latents = np.random.default_rng(0).normal(size=(64, inputs[0].shape[-1])).astype("float32")
    labels = np.arange(64) % max(classes, 1)
    for _ in range(20):  # otherwise activations vanish or explode, and denormals are slow
        model([latents, labels] if classes else latents, training=True)
    return model


def write_models(net: str, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Writes a network in every format; returns the file or folder of each variant."""
    import keras
    import onnx

    from export.network import open_network
    from export.passes import PASSES, optimize
    from export.to_onnx import to_onnx
    from export.to_saved_model import to_saved_model

    keras.backend.clear_session()
    model = build(net)
    files = {"keras-predict": folder / "generator.keras", BASE: folder / "keras.onnx"}
    files["keras-function"] = files["keras-predict"]
    model.save(files["keras-predict"])
    model.export(files[BASE], format="onnx", verbose=False)
    network = open_network(model, num_classes=getattr(model, "num_classes", 0))
    files["saved-model"] = folder / "saved_model"
    to_saved_model(network, files["saved-model"], name="generator")
    plain = to_onnx(network, without=PASSES)

    def save(variant: str, without: Any) -> dict[str, int]:
        copy = onnx.ModelProto()
        copy.CopyFrom(plain)
        counts = optimize(copy, without)
        files[variant] = folder / f"{variant}.onnx"
        onnx.save(copy, files[variant])
        return counts

    counts = save("ours", ())
    save("ours-without-all", PASSES)
    for name, count in counts.items():
        if count:
            save(f"ours-without-{name}", (name,))
    return files


def sample_flops(path: pathlib.Path) -> float:
    """Returns the floating-point operations of one sample, two for each product of a layer."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    weights = {i.name: numpy_helper.to_array(i).shape for i in model.graph.initializer}
    total = 0.0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
            continue
        given, kernel = shapes.get(node.input[0]), weights.get(node.input[1])
        output = shapes.get(node.output[0])
        if node.op_type == "Conv" and kernel and output:
            total += 2.0 * np.prod(kernel[1:]) * np.prod(output)
        elif node.op_type == "ConvTranspose" and kernel and given:
            total += 2.0 * np.prod(kernel[1:]) * np.prod(given)
        elif output:  # MatMul sums over the last axis of its first input
            first = given or weights.get(node.input[0], (1,))
            total += 2.0 * first[-1] * np.prod(output)
    return float(total)


# --------------------------------------------------------------------- the children


def keras_variant(variant: str, path: str, threads: int) -> Callable[[int], Any]:
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_gan  # noqa: F401 - registers the layers of the file

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if variant == "saved-model":
        loaded: Any = tf.saved_model.load(path)
        signature = loaded.signatures["serving_default"]
        _, specs = signature.structured_input_signature

        def call(batch: int) -> None:
            feeds = {
                name: tf.constant(drawn(spec.dtype.name, batch, tuple(spec.shape[1:])))
                for name, spec in specs.items()
            }
            signature(**feeds)["samples"].numpy()

        return call
    model: Any = keras.saving.load_model(path, compile=False)

    def feeds(batch: int) -> Any:
        made = [drawn(each.dtype, batch, tuple(each.shape[1:])) for each in model.inputs]
        return made if len(made) > 1 else made[0]

    if variant == "keras-predict":
        return lambda batch: np.asarray(model.predict(feeds(batch), batch_size=batch, verbose=0))
    function = tf.function(lambda inputs: model(inputs, training=False))

    def run(batch: int) -> None:
        function(tf.nest.map_structure(tf.constant, feeds(batch))).numpy()

    return run


def onnx_variant(path: str, threads: int) -> Callable[[int], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.x64quantprecision", "1")  # as in serving
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    ports = session.get_inputs()

    def run(batch: int) -> Any:
        feeds = {port.name: drawn(port.type, batch, tuple(port.shape[1:])) for port in ports}
        return session.run(None, feeds)

    return run


def peak_variant(threads: int) -> Callable[[int], None]:
    """Returns a function that multiplies matrices and keeps the best GFLOP/s."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    measure = matmul_peak()["float32"]

    def run(_: int) -> None:
        vars(run)["gflops"] = max(vars(run).get("gflops", 0.0), measure())

    return run


def drawn(dtype: str, batch: int, shape: tuple) -> Any:
    """Returns latents, or class ids for integer inputs; the same in every call."""
    import numpy as np

    if "int" in dtype:
        return np.zeros((batch, *shape), "int32" if "int32" in dtype else "int64")
    return np.random.default_rng(0).normal(size=(batch, *shape)).astype("float32")


def make(variant: str, path: str, threads: int) -> Callable[[int], Any]:
    if variant == "peak":
        return peak_variant(threads)
    if path.endswith(".onnx"):
        return onnx_variant(path, threads)
    return keras_variant(variant, path, threads)


def serve(variant: str, build: Callable[[], Callable[[int], Any]]) -> None:
    """Runs in the child process: for each line "B S", computes batches of B for S seconds."""
    answers = os.fdopen(os.dup(1), "w")  # other output must not mix with the answers
    os.dup2(2, 1)
    try:
        run = build()
        run(1)
    except Exception as error:
        line = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(json.dumps({"error": line}), file=answers, flush=True)
        return
    print(json.dumps({"ready": variant}), file=answers, flush=True)
    known = set()
    for line in sys.stdin:
        batch, seconds = int(line.split()[0]), float(line.split()[1])
        run(batch)  # wakes threads and caches
        if batch not in known:  # the first call of a size compiles, plans and allocates
            known.add(batch)
            run(batch)
        times = []
        cpu, end = time.process_time(), time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            began = time.perf_counter()
            run(batch)
            times.append(time.perf_counter() - began)
        answer = {"times": times, "cpu": (time.process_time() - cpu) / len(times)}
        answer |= {"memory": peak_memory(), "gflops": getattr(run, "gflops", None)}
        print(json.dumps(answer), file=answers, flush=True)


class Child:
    """A variant in its own process."""

    def __init__(self, variant: str, path: str, threads: int, options: argparse.Namespace):
        self.variant = variant
        program = [sys.executable, __file__]
        if variant in TORCH[:-1]:
            program = [options.torch_python, str(HERE / "inference_torch.py")]
        program += ["--child", variant, "--path", path, "--threads", str(threads)]
        self.process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if options.verbose else subprocess.DEVNULL,
            text=True,
            env=environment(threads),
        )
        self.rounds: list[dict[str, Any]] = []
        self.error = self._read().get("error")

    def _read(self) -> dict[str, Any]:
        stream: Any = self.process.stdout
        line = stream.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def compute(self, batch: int, seconds: float) -> None:
        stream: Any = self.process.stdin
        stream.write(f"{batch} {seconds}\n")
        stream.flush()
        answer = self._read()
        self.error = answer.get("error")
        if self.error is None:
            self.rounds.append(answer)

    def end(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def environment(threads: int) -> dict[str, str]:
    names = "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": paths}
    return {**os.environ, **quiet, **dict.fromkeys(names, str(threads))}


# --------------------------------------------------------------------- rounds


def measure(net: str, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        print(f"{net}: writing the models", file=sys.stderr, flush=True)
        files, missing = gather(net, folder, options)
        rows = []
        for threads in options.threads:
            rows += run_rounds(files, threads, missing, options)
        flops = sample_flops(files["ours-without-all"])
        for row in rows:
            row["peak_share"] = flops * row["batch"] / row["median_ms"] / 1e6 / row.pop("peak")
        return {
            "net": net,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "gflop_per_sample": flops / 1e9,
            "rows": rows,
            "bytes": {variant: size(path) for variant, path in files.items() if path.exists()},
            "start_seconds": starts(files, options),
            "missing": missing,
        }


def gather(
    net: str, folder: pathlib.Path, options: argparse.Namespace
) -> tuple[dict[str, pathlib.Path], dict[str, str]]:
    """Returns the file of each requested variant, and the reason why others have none."""
    files = write_models(net, folder)
    wanted = options.variants or [*files, *REDUCED, *TORCH]
    missing: dict[str, str] = {}
    for variant in [v for v in REDUCED if v in wanted]:
        path = pathlib.Path(options.bundle or "") / REDUCED[variant]
        if options.bundle and path.is_file():
            files[variant] = path
        else:
            missing[variant] = f"give --bundle FOLDER, one of this network with a {path.name}"
    for variant in [v for v in TORCH if v in wanted]:
        if not options.torch_python:
            missing[variant] = "give --torch-python PATH, a Python that has torch"
        elif net not in TORCH_NETS:
            missing[variant] = "this network has no PyTorch version here"
        elif variant != "torch-onnx":
            files[variant] = pathlib.Path(TORCH_NETS[net])
        else:
            path = folder / "torch.onnx"
            why = export_torch(TORCH_NETS[net], path, options)
            if why:
                missing[variant] = why
            else:
                files[variant] = path
    for variant in set(wanted) - set(files) - set(missing):
        missing[variant] = "no such variant of this network"
    # Ratios and shares of the peak always need these.
    chosen = {v: files[v] for v in files if v in wanted or v in (BASE, "ours-without-all")}
    return chosen, missing


def export_torch(net: str, path: pathlib.Path, options: argparse.Namespace) -> str | None:
    """Exports the network with PyTorch to ONNX; returns the reason if that fails."""
    program = [options.torch_python, str(HERE / "inference_torch.py")]
    done = subprocess.run(
        [*program, "--path", net, "--export", str(path)], capture_output=True, text=True
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
    return None


def run_rounds(
    files: dict[str, pathlib.Path],
    threads: int,
    missing: dict[str, str],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    children = []
    for variant in ["peak", *files]:
        print(f"starting {variant}, threads {threads}", file=sys.stderr, flush=True)
        child = Child(variant, str(files.get(variant, "")), threads, options)
        if child.error:
            missing[variant] = child.error
            child.end()
        else:
            children.append(child)
    rows = []
    for batch in options.batches:
        for child in children:
            child.rounds.clear()
        for number in range(options.rounds):
            # No one has always the same before it.
            for child in children if number % 2 else children[::-1]:
                if not child.error:
                    child.compute(batch, options.seconds)
            done = f"threads {threads}, batch {batch}, round {number + 1} of {options.rounds}"
            print(done, file=sys.stderr, flush=True)
        rows += summarize(children, threads, batch)
    best = max((row["peak"] for row in rows), default=math.nan)  # what the machine can do
    for row in rows:
        row["peak"] = best
    for child in children:
        child.end()
        if child.error:
            missing[child.variant] = child.error
    return rows


def summarize(children: list[Child], threads: int, batch: int) -> list[dict[str, Any]]:
    alive = {child.variant: child.rounds for child in children if not child.error}
    peak = max((each["gflops"] for each in alive.pop("peak", [])), default=math.nan)
    by_round = {
        variant: [statistics.median(each["times"]) for each in rounds]
        for variant, rounds in alive.items()
    }
    rows = []
    for variant, rounds in alive.items():
        times = sorted(t for each in rounds for t in each["times"])
        base = by_round.get(BASE, [math.nan] * len(rounds))
        pairs = zip(base, by_round[variant], strict=True)
        rows.append(
            {
                "variant": variant,
                "threads": threads,
                "batch": batch,
                "median_ms": statistics.median(times) * 1e3,
                "p95_ms": times[min(len(times) - 1, math.ceil(0.95 * len(times)) - 1)] * 1e3,
                "calls": len(times),
                "cpu_ms": statistics.median(each["cpu"] for each in rounds) * 1e3,
                "ratio": statistics.median(a / b for a, b in pairs),
                "memory_mib": max(each["memory"] for each in rounds),
                "peak": peak,
            }
        )
    return rows


def size(path: pathlib.Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


# --------------------------------------------------------------------- from start to sample


def starts(files: dict[str, pathlib.Path], options: argparse.Namespace) -> dict[str, float]:
    """Returns median seconds from process start to first sample, interleaved over variants."""
    variants = [v for v in files if not v.startswith("ours-without") and v != "torch-onnx"]
    found: dict[str, list[float]] = {variant: [] for variant in variants}
    for _ in range(options.starts):
        for variant in variants:
            program = [sys.executable, __file__]
            if variant in TORCH:
                program = [options.torch_python, str(HERE / "inference_torch.py")]
            program += ["--once", variant, "--path", str(files[variant]), "--threads", "1"]
            began = time.perf_counter()
            child = subprocess.Popen(
                program,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment(1),
            )
            line = child.stdout.readline() if child.stdout else ""
            if line.strip() == "sample":
                found[variant].append(time.perf_counter() - began)
            child.wait()
    return {variant: statistics.median(times) for variant, times in found.items() if times}


# --------------------------------------------------------------------- the table


def show(result: dict[str, Any]) -> None:
    print(f"{result['net']}: {result['gflop_per_sample']:.3f} GFLOP per sample")
    print(
        f"{'threads':>7}{'batch':>6} {'variant':<30}{'median ms':>10}{'p95 ms':>9}{'CPU ms':>9}"
        f"{'samples/s':>11}{'ratio':>7}{'peak':>7}"
    )
    for row in result["rows"]:
        print(
            f"{row['threads']:>7}{row['batch']:>6} {row['variant']:<30}{row['median_ms']:>10.3f}"
            f"{row['p95_ms']:>9.3f}{row['cpu_ms']:>9.3f}"
            f"{row['batch'] / row['median_ms'] * 1e3:>11.1f}"
            f"{row['ratio']:>7.2f}{row['peak_share']:>7.1%}"
        )
    print(f"{'variant':<30}{'MB':>8}{'start s':>9}")
    for variant in dict.fromkeys([*result["bytes"], *result["start_seconds"]]):
        megabytes = result["bytes"].get(variant, math.nan) / 1e6
        begun = result["start_seconds"].get(variant, math.nan)
        print(f"{variant:<30}{megabytes:>8.2f}{begun:>9.2f}  {NOTES.get(variant, '')}")
    for variant, why in result["missing"].items():
        print(f"{variant:<30}not measured: {why}")


def numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--net", choices=(*NETS, "all"), default="dcgan")
    parser.add_argument("--variants", help="names, separated by commas; all by default")
    parser.add_argument("--batches", type=numbers, default=[1, 8, 64])
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds per variant and round")
    parser.add_argument("--starts", type=int, default=3, help="processes started for each variant")
    parser.add_argument("--bundle", help="a bundle of the network, for its reduced precisions")
    parser.add_argument("--torch-python", help="a Python that has torch")
    parser.add_argument("--verbose", action="store_true", help="show what the variants print")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    for hidden in ("--child", "--once", "--path"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        threads = options.threads[0]
        serve(options.child, lambda: make(options.child, options.path, threads))
        return
    if options.once:
        make(options.once, options.path, options.threads[0])(1)
        print("sample", flush=True)
        return
    options.variants = options.variants and options.variants.split(",")
    nets = NETS if options.net == "all" else (options.net,)
    results = []
    for net in nets:
        results.append(measure(net, options))
        show(results[-1])
        if options.json:
            options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
