"""Speed of a training step, compared with Keras and PyTorch on the same networks and batches.

    python benchmarks/train_step.py --net dcgan --torch-python /path/to/venv/bin/python
    python benchmarks/train_step.py --net small --variants ours,ours-bf16,keras --profile

There are two games: `dcgan`, the networks of the keras.io example "dcgan_overriding_train_step"
(64 x 64 x 3) with the original loss, and `small`, this library's `dcgan` at 28 x 28 x 1 with the
relativistic loss, R1 and R2 of R3GAN. Each variant runs in its own process, so that its memory is
measured alone. Variants run alternately: in each round one trains for some seconds while the others
sleep, so that a slow phase of the machine affects all. Figures are medians over rounds.

"peak" is the share of the machine's peak matrix multiplication rate in the variant's number format,
measured between the rounds. It counts the necessary work of a step once, so redundant work lowers
the share. "CPU" is the processor time of a step, summed over threads. On a machine that is not
idle, that column under `--threads 1` compares variants better than the wall-clock time, because
threads that wait for each other (OpenMP's, in PyTorch) suffer most from a busy core.

PyTorch is not a dependency. Its variants run in the Python given by --torch-python, any that has
torch: `python -m venv torch; torch/bin/pip install torch`.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
BATCH = {"dcgan": 32, "small": 64}
# Variants, and the environment variables that set their number format.
ENVIRONMENT: dict[str, dict[str, str]] = {
    "keras": {},
    "keras-grappler": {},
    "keras-mixed": {},
    "ours": {},
    "ours-bf16": {},
    "ours-fpmath": {"TF_SET_ONEDNN_FPMATH_MODE": "BF16"},
    "ours-mixed": {},
    "ours-xla": {},
}
TORCH = [
    f"torch-{how}-{layout}-{kind}"
    for kind in ("float32", "bf16")
    for how in ("eager", "compile")
    for layout in ("first", "last")
]
DEFAULT = ["keras", "ours", "ours-bf16", "keras-mixed", *TORCH]
NOTES = {
    "keras": "the keras.io example's step, float32",
    "keras-grappler": "the same under the graph pass of precision=bfloat16",
    "keras-mixed": "the same with Keras's policy mixed_bfloat16",
    "ours": "float32",
    "ours-bf16": "precision=bfloat16",
    "ours-fpmath": "float32, oneDNN set to multiply in bf16",
    "ours-mixed": "precision=mixed_bfloat16",
    "ours-xla": "float32, jit_compile=True",
}


def number_format(variant: str) -> str:
    half = variant.endswith(("bf16", "mixed", "fpmath", "grappler"))
    return "bfloat16" if half else "float32"


# --------------------------------------------------------------------- the work of a step


def generator_flops(net: str) -> float:
    """Returns the floating-point operations of the generator's forward pass, per sample."""
    if net == "dcgan":
        ups = [(8, 128, 128), (16, 128, 256), (32, 256, 512)]
        dense, last = 128 * 8 * 8 * 128, 64 * 64 * 25 * 512 * 3
    else:
        ups = [(7, 128, 64), (14, 64, 32)]
        dense, last = 64 * 7 * 7 * 128, 28 * 28 * 9 * 32 * 1
    return 2.0 * (dense + last + sum(size**2 * 16 * a * b for size, a, b in ups))


def discriminator_flops(net: str) -> tuple[float, float]:
    """Returns the same of the discriminator, and of its first layer alone."""
    if net == "dcgan":
        downs, dense = [(32, 3, 64), (16, 64, 128), (8, 128, 128)], 8 * 8 * 128
    else:
        downs, dense = [(14, 1, 64), (7, 64, 128)], 7 * 7 * 128
    parts = [2.0 * size**2 * 16 * a * b for size, a, b in downs]
    return sum(parts) + 2.0 * dense, parts[0]


def step_flops(net: str) -> float:
    """Returns the necessary operations of a training step per real sample, each product once.

    A backward pass computes two products for each one of the forward pass: with respect to the
    layer's input and to its weights. The generator runs once. The discriminator processes a real
    and a generated sample in its own step, and the generated one in the generator's step, where
    its weights are constant. R1 and R2 add the gradient with respect to the sample (one product)
    and its derivative with respect to the weights (two). The relativistic generator loss also
    needs the discriminator on the real sample.
    """
    g, (d, first) = generator_flops(net), discriminator_flops(net)
    if net == "dcgan":
        return 3 * g + 2 * (3 * d - first) + 2 * d
    return 3 * g + 2 * (6 * d - first) + 3 * d


# --------------------------------------------------------------------- TensorFlow's variants


def build_networks(net: str, own: Any = None) -> tuple[Any, Any]:
    """Builds the generator and the discriminator, which returns logits.

    `own` is a module of layers that compute the same functions as Keras's.
    """
    import keras
    from keras import layers

    import keras_gan

    keras.utils.set_random_seed(0)
    if net == "small":
        spec = keras_gan.Spec("image", (28, 28, 1), (-1.0, 1.0))
        networks = keras_gan.architectures.build("dcgan", spec)
        if own is None:
            clone: Any = keras.models.clone_model
            return clone(networks[0], clone_function=_as_keras), clone(
                networks[1], clone_function=_as_keras
            )
        return networks
    discriminator = keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            *(
                layer
                for width in (64, 128, 128)
                for layer in (
                    (own or layers).Conv2D(width, 4, 2, "same"),
                    layers.LeakyReLU(negative_slope=0.2),
                )
            ),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(1, dtype="float32"),
        ],
        name="discriminator",
    )
    generator = keras.Sequential(
        [
            keras.Input((128,)),
            layers.Dense(8 * 8 * 128),
            layers.Reshape((8, 8, 128)),
            *(
                layer
                for width in (128, 256, 512)
                for layer in (
                    (own or layers).Conv2DTranspose(width, 4, 2, "same"),
                    layers.LeakyReLU(negative_slope=0.2),
                )
            ),
            getattr(own, "NarrowConv2D", layers.Conv2D)(
                3, 5, padding="same", activation="sigmoid", dtype="float32"
            ),
        ],
        name="generator",
    )
    return generator, discriminator


def _as_keras(layer: Any) -> Any:
    """Converts a layer of this library to Keras's own layer of the same function."""
    import keras

    kind = getattr(keras.layers, type(layer).__name__, type(layer))
    return kind.from_config(layer.get_config())


def optimizers(net: str) -> tuple[Any, Any]:
    import keras

    if net == "dcgan":
        return keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)
    adam = keras.optimizers.Adam
    return adam(2e-4, beta_1=0.0, beta_2=0.99), adam(2e-4, beta_1=0.0, beta_2=0.99)


def build_ours(net: str, jit_compile: bool, steps_per_execution: int) -> Any:
    import keras_gan

    penalties: Any = {"dcgan": [], "small": ["r1", "r2"]}[net]
    loss = {"dcgan": "non_saturating", "small": "relativistic"}[net]
    # Neither the example nor the PyTorch variants keep an averaged generator.
    networks = build_networks(net, own=keras_gan.layers)
    gan = keras_gan.GAN(*networks, loss=loss, terms=penalties, ema_half_life=0)
    gan.compile(*optimizers(net), jit_compile=jit_compile, steps_per_execution=steps_per_execution)
    return gan


def build_keras(net: str) -> Any:
    """Builds the training step of the example: each forward pass and each network separately."""
    import keras
    import tensorflow as tf

    bce = keras.losses.BinaryCrossentropy(from_logits=True)

    class Example(keras.Model):
        def __init__(self, generator, discriminator):
            super().__init__()
            self.generator, self.discriminator = generator, discriminator
            self.latent_dim = generator.input_shape[-1]
            self.d_loss = keras.metrics.Mean("d_loss")
            self.g_loss = keras.metrics.Mean("g_loss")

        def compile(self, generator_optimizer, discriminator_optimizer):  # pyright: ignore
            super().compile()
            self.g_opt, self.d_opt = generator_optimizer, discriminator_optimizer

        @property
        def metrics(self):
            return [self.d_loss, self.g_loss]

        def learn(self, optimizer, network, tape, loss):
            weights = network.trainable_weights
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    class Original(Example):
        def train_step(self, real):  # pyright: ignore
            count = tf.shape(real)[0]
            fake = self.generator(tf.random.normal((count, self.latent_dim)))
            both = tf.concat([fake, real], axis=0)
            labels = tf.concat([tf.ones((count, 1)), tf.zeros((count, 1))], axis=0)
            labels += 0.05 * tf.random.uniform(tf.shape(labels))
            with tf.GradientTape() as tape:
                d_loss = bce(labels, self.discriminator(both, training=True))
            self.learn(self.d_opt, self.discriminator, tape, d_loss)
            noise = tf.random.normal((count, self.latent_dim))
            with tf.GradientTape() as tape:
                fake = self.generator(noise, training=True)
                g_loss = bce(tf.zeros((count, 1)), self.discriminator(fake))
            self.learn(self.g_opt, self.generator, tape, g_loss)
            self.d_loss.update_state(d_loss)
            self.g_loss.update_state(g_loss)
            return self.get_metrics_result()

    class Penalized(Example):
        def penalty(self, samples):
            with tf.GradientTape() as tape:
                tape.watch(samples)
                logits = self.discriminator(samples, training=True)
            slope = tape.gradient(logits, samples)
            return tf.reduce_mean(tf.reduce_sum(tf.square(slope), axis=(1, 2, 3))) / 2

        def train_step(self, real):  # pyright: ignore
            count = tf.shape(real)[0]
            noise = tf.random.normal((count, self.latent_dim))
            with tf.GradientTape() as tape:
                fake = self.generator(noise, training=True)
                gap = self.discriminator(real, training=True) - self.discriminator(
                    fake, training=True
                )
                d_loss = tf.reduce_mean(tf.nn.softplus(-gap))
                total = d_loss + self.penalty(real) + self.penalty(fake)
            self.learn(self.d_opt, self.discriminator, tape, total)
            noise = tf.random.normal((count, self.latent_dim))
            with tf.GradientTape() as tape:
                fake = self.generator(noise, training=True)
                gap = self.discriminator(fake, training=True) - self.discriminator(
                    real, training=True
                )
                g_loss = tf.reduce_mean(tf.nn.softplus(-gap))
            self.learn(self.g_opt, self.generator, tape, g_loss)
            self.d_loss.update_state(d_loss)
            self.g_loss.update_state(g_loss)
            return self.get_metrics_result()

    model = {"dcgan": Original, "small": Penalized}[net](*build_networks(net))
    model.compile(*optimizers(net))
    return model


class TensorFlowVariant:
    """A TensorFlow variant whose training steps are run one at a time, on endless data."""

    def __init__(self, variant: str, net: str, batch: int):
        import keras
        import tensorflow as tf

        if variant.endswith("mixed"):
            keras.config.set_dtype_policy("mixed_bfloat16")
        if variant.endswith(("-bf16", "grappler")):
            graph_pass = "auto_mixed_precision_onednn_bfloat16"
            tf.config.optimizer.set_experimental_options({graph_pass: True})
        if variant.startswith("keras"):
            self.model = build_keras(net)
        else:
            self.model = build_ours(net, variant.endswith("xla"), steps_per_execution=1)
        shape = {"dcgan": (64, 64, 3), "small": (28, 28, 1)}[net]
        images = tf.random.uniform((4 * batch, *shape), -1, 1, seed=0)
        data = tf.data.Dataset.from_tensor_slices(images).repeat().batch(batch, drop_remainder=True)
        self.data = iter(data.prefetch(2))
        self.model.make_train_function()
        self.step = self.model.train_function

    def run(self, steps: int) -> None:
        for _ in range(steps):
            logs = self.step(self.data)
        [float(value) for value in logs.values()]  # waits for the last step


def matmul_peak() -> dict[str, Callable[[], float]]:
    """Returns functions that measure the GFLOP/s of matrix multiplication, by dtype."""
    import tensorflow as tf

    size = 4096

    def measure(dtype: str) -> Callable[[], float]:
        a = tf.cast(tf.random.normal((size, size), seed=0), dtype)
        multiply = tf.function(lambda a: tf.reduce_sum(tf.matmul(a, a)[:1, :1]))
        multiply(a)

        def once() -> float:
            began = time.perf_counter()
            float(multiply(a))
            return 2 * size**3 / (time.perf_counter() - began) / 1e9

        return once

    return {dtype: measure(dtype) for dtype in ("float32", "bfloat16")}


# --------------------------------------------------------------------- rounds


def peak_memory() -> float:
    """Returns the peak resident memory of this process, in MiB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def serve(make: Callable[[], Any]) -> None:
    """Runs in the child process: builds a variant, then for each line "S" trains for S seconds."""
    answers = os.fdopen(os.dup(1), "w")  # other output must not mix with the answers
    os.dup2(2, 1)
    began = time.perf_counter()
    try:
        variant = make()
        variant.run(2)
    except Exception as error:
        line = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(json.dumps({"error": line}), file=answers, flush=True)
        return
    print(json.dumps({"warm-up": time.perf_counter() - began}), file=answers, flush=True)
    began = time.perf_counter()
    variant.run(1)
    step = time.perf_counter() - began
    for line in sys.stdin:
        variant.run(1)  # wakes threads and caches
        steps = max(1, round(float(line) / step))
        began, cpu = time.perf_counter(), time.process_time()
        variant.run(steps)
        step = (time.perf_counter() - began) / steps
        answer = {"seconds": step, "cpu": (time.process_time() - cpu) / steps}
        print(json.dumps({**answer, "memory": peak_memory()}), file=answers, flush=True)


class Child:
    """A variant in its own process."""

    def __init__(self, variant: str, options: argparse.Namespace):
        self.variant = variant
        program = [sys.executable, __file__]
        if variant.startswith("torch"):
            program = [options.torch_python, str(HERE / "train_step_torch.py")]
        program += ["--child", variant, "--net", options.net, "--batch", str(options.batch)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment |= ENVIRONMENT.get(variant, {})
        if options.threads:
            names = "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"
            environment |= dict.fromkeys(names, str(options.threads))
        self.process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if options.verbose else subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.seconds: list[float] = []
        self.cpu: list[float] = []
        self.memory = float("nan")
        answer = self._read()
        self.error = answer.get("error")
        self.warm_up = answer.get("warm-up", float("nan"))

    def _read(self) -> dict[str, Any]:
        stream: Any = self.process.stdout
        line = stream.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def train(self, seconds: float) -> None:
        stream: Any = self.process.stdin
        stream.write(f"{seconds}\n")
        stream.flush()
        answer = self._read()
        if "error" in answer:
            self.error = answer["error"]
            return
        self.seconds.append(answer["seconds"])
        self.cpu.append(answer["cpu"])
        self.memory = answer["memory"]

    def end(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    children, missing = [], {}
    for variant in options.variants:
        if variant.startswith("torch") and not options.torch_python:
            missing[variant] = (
                "give --torch-python PATH, a Python that has torch (pip install torch)"
            )
            continue
        print(f"starting {variant}", file=sys.stderr, flush=True)
        child = Child(variant, options)
        if child.error:
            missing[variant] = child.error
            child.end()
        else:
            children.append(child)
            print(f"  ready in {child.warm_up:.0f} s", file=sys.stderr, flush=True)
    peaks = matmul_peak()
    peak: dict[str, list[float]] = {dtype: [] for dtype in peaks}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        # The order alternates, so that no variant always follows the same one.
        for child in children if number % 2 else children[::-1]:
            if not child.error:
                child.train(options.seconds)
                last = child.seconds[-1] if child.seconds else float("nan")
                print(f"  {child.variant}: {last * 1e3:.1f} ms", file=sys.stderr, flush=True)
        for dtype, once in peaks.items():
            peak[dtype].append(once())
    for child in children:
        child.end()
    # The peak is the best of the rounds; the time of a step is their median.
    best = {dtype: max(values) for dtype, values in peak.items()}
    rows = [row(child, options, best) for child in children if not child.error]
    missing |= {child.variant: child.error for child in children if child.error}
    return {
        "net": options.net,
        "batch": options.batch,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "gflop_per_image": step_flops(options.net) / 1e9,
        "matmul_gflops": best,
        "rows": compare(children, rows),
        "missing": missing,
    }


def row(child: Child, options: argparse.Namespace, peak: dict[str, float]) -> dict[str, Any]:
    step = statistics.median(child.seconds)
    gflops = step_flops(options.net) * options.batch / step / 1e9
    return {
        "variant": child.variant,
        "step_ms": step * 1e3,
        "cpu_ms": statistics.median(child.cpu) * 1e3,
        "spread": (max(child.seconds) - min(child.seconds)) / step,
        "examples_per_second": options.batch / step,
        "memory_mib": child.memory,
        "peak_share": gflops / peak[number_format(child.variant)],
        "warm_up_seconds": child.warm_up,
    }


def compare(children: list[Child], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds each variant's speed relative to the Keras example's, the median over the rounds."""
    seconds = {child.variant: child.seconds for child in children}
    for one in rows:
        if "keras" in seconds:
            pairs = zip(seconds["keras"], seconds[one["variant"]], strict=True)
            one["ratio"] = statistics.median(a / b for a, b in pairs)
    return rows


def show(result: dict[str, Any]) -> None:
    peak = ", ".join(f"{v:,.0f} GFLOP/s {k}" for k, v in result["matmul_gflops"].items())
    print(
        f"{result['net']}, batch {result['batch']}: {result['gflop_per_image']:.2f} GFLOP per image"
    )
    print(f"matrix multiplication: {peak}")
    print(
        f"{'variant':<28}{'ms':>8}{'CPU ms':>8}{'images/s':>10}{'ratio':>7}{'MiB':>8}{'peak':>7}"
        "  spread"
    )
    for one in result["rows"]:
        print(
            f"{one['variant']:<28}{one['step_ms']:>8.1f}{one['cpu_ms']:>8.1f}"
            f"{one['examples_per_second']:>10.1f}"
            f"{one.get('ratio', float('nan')):>7.2f}{one['memory_mib']:>8,.0f}"
            f"{one['peak_share']:>7.1%}  {one['spread']:.0%}  {NOTES.get(one['variant'], '')}"
        )
    for variant, why in result["missing"].items():
        print(f"{variant:<28}not measured: {why}")


# --------------------------------------------------------------------- where the time goes


def profile(options: argparse.Namespace, variant: str, steps: int = 3) -> None:
    """Prints the time of each kind of operation, and of the longest operations, of a step."""
    import tensorflow as tf

    one = TensorFlowVariant(variant, options.net, options.batch)
    one.run(3)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        began = time.perf_counter()
        one.run(steps)
        taken = time.perf_counter() - began
        tf.profiler.experimental.stop()
        events = _operations(pathlib.Path(folder))
    print(
        f"\n{variant}, {options.net}, batch {options.batch}: {taken / steps * 1e3:.1f} ms per step"
    )
    for title, column, rows in (("kind of operation", 1, 20), ("operation", 0, 25)):
        total: dict[str, list[float]] = {}
        for event in events:
            entry = total.setdefault(str(event[column]), [0.0, 0.0])
            entry[0] += event[2] / steps
            entry[1] += 1 / steps
        whole = sum(ms for ms, _ in total.values())
        print(f"{'ms':>9} {'share':>6} {'times':>7}  {title} (of {whole:.1f} ms of thread time)")
        for name, (ms, count) in sorted(total.items(), key=lambda item: -item[1][0])[:rows]:
            print(f"{ms:>9.2f} {ms / whole:>6.1%} {count:>7.1f}  {name}")


def _operations(folder: pathlib.Path) -> list[tuple[str, str, float]]:
    """Returns (node, kind, milliseconds) of every operation in a trace."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space: Any = getattr(xplane_pb2, "XSpace")()  # noqa: B009 - made when imported
    space.ParseFromString(next(folder.rglob("*.xplane.pb")).read_bytes())
    found = []
    for plane in space.planes:
        names = {number: meta.name for number, meta in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                node, colon, kind = names[event.metadata_id].rpartition(":")
                if colon and "/" in node and kind.isidentifier():  # other events enclose operations
                    node = node.removeprefix("StatefulPartitionedCall/")
                    found.append((node, kind, event.duration_ps / 1e9))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--net", choices=tuple(BATCH), default="dcgan")
    parser.add_argument("--batch", type=int, help="samples in a batch")
    parser.add_argument("--variants", default=",".join(DEFAULT), help="names, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds per variant and round")
    parser.add_argument("--threads", type=int, help="threads of each variant; all cores by default")
    parser.add_argument("--torch-python", help="a Python that has torch")
    parser.add_argument("--profile", action="store_true", help="print time per operation instead")
    parser.add_argument("--verbose", action="store_true", help="show what the variants print")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.batch = options.batch or BATCH[options.net]
    options.variants = options.variants.split(",")
    if options.child:
        serve(lambda: TensorFlowVariant(options.child, options.net, options.batch))
        return
    if options.profile:
        for variant in options.variants:
            profile(options, variant)
        return
    result = measure(options)
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
