"""Several devices and several processes play the game that one device would play."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import replicas
import tensorflow as tf

from keras_gan import UsageError, datasets, workers
from keras_gan import run as runs
from keras_gan.__main__ import main
from keras_gan.errors import WorkerLostError


def start(program, *arguments, **environment):
    """Starts a process, as devices and workers have to be set before anything else."""
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


def output(process, timeout=280):
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err[-3000:]
    return out.splitlines()


# ------------------------------------------------------------------------ two devices

SUM = """
import sys
import keras, numpy as np, tensorflow as tf
import keras_gan, replicas
from keras_gan.losses import Loss

class Sum(Loss):
    '''Sum of all losses.'''
    parts = [keras_gan.losses.get(name) for name in keras_gan.losses.names() if name != "sum"]

    def discriminator(self, real, fake):
        return sum(part.discriminator(real, fake) for part in self.parts)

    def generator(self, real, fake):
        return sum(part.generator(real, fake) for part in self.parts)

def play(gan, steps, data):
    gan.fit(tf.data.Dataset.from_tensors(data).repeat(), steps_per_epoch=steps, verbose=0)

def one_and_two(strategy, steps, optimizers=lambda: None, **arguments):
    x = replicas.samples()
    with replicas.as_two():
        one = replicas.make(cls=replicas.OnOneDevice, optimizers=optimizers(), **arguments)
        before = replicas.state(one)
        play(one, steps, x)
    with strategy.scope():
        two = replicas.make(optimizers=optimizers(), **arguments)
    play(two, steps, x)
    for average in (v for v in two.variables if v.name.startswith("average_")):
        first, second = strategy.experimental_local_results(average.value)
        np.testing.assert_array_equal(first, second)
    one, two = replicas.state(one), replicas.state(two)
    replicas.assert_moved(before, one, arguments)
    replicas.assert_equal(one, two, arguments)
"""


@pytest.fixture(scope="module")
def printed():
    """Output of one process with two devices; importing TensorFlow takes half of its time."""
    program = """
        strategy = replicas.two_devices()
        names = [replicas.penalty(name) for name in replicas.terms()]
        def clipping():
            return [keras.optimizers.Adam(1e-3, epsilon=1e-3, global_clipnorm=0.1) for _ in "gd"]
        kept = [0.05, 0.1]
        one_and_two(strategy, 3, clipping, loss=Sum(), terms=names, average_deviations=kept)
        print("equal")
        with strategy.scope():
            gan = replicas.make()

        @tf.function
        def noise():
            seed = lambda: gan.random_seed("noise")
            return strategy.run(lambda: gan.draw_latents(tf.zeros((4, 3)), seed()))

        a, b = strategy.experimental_local_results(noise())
        assert np.abs(a - b).min() > 0
        sgd = keras.optimizers.SGD
        for given, arguments in (
            ({}, {"jit_compile": True}),
            ({}, {"steps_per_execution": 2}),
            ({"gradient_accumulation_steps": 2}, {}),
        ):
            try:
                with strategy.scope():
                    gan.compile(sgd(0.1, **given), sgd(0.1), **arguments)
            except keras_gan.UsageError as error:
                print(error)

        good, bad = replicas.samples(), replicas.samples()
        bad[-1, 0] = np.inf  # in the half of the second device
        data = tf.data.Dataset.from_tensor_slices(np.stack([good, bad, good]))
        # Of a data set that is already distributed, fit checks the first batch only.
        data = strategy.experimental_distribute_dataset(data)

        def weights(gan):
            return [w.copy() for p in (gan.generator, gan.discriminator) for w in p.get_weights()]

        for policy in ("float32", "mixed_float16"):
            keras.config.set_dtype_policy(policy)
            with strategy.scope():
                gan = replicas.make("relativistic", ["r1", "le_cam"])
            seen = [weights(gan)]
            class Look(keras.callbacks.Callback):
                def on_train_batch_end(self, batch, logs):
                    seen.append(weights(gan))
            gan.fit(data, verbose=0, callbacks=[Look()])
            moved = [
                any(np.any(a != b) for a, b in zip(*pair)) for pair in zip(seen, seen[1:])
            ]
            remembered = [v.value.numpy() for v in gan.states["le_cam"].values()]
            finite = all(np.isfinite(w).all() for w in [*seen[-1], *remembered])
            finite = finite and len(remembered) == 3
            scales = [
                float(o.dynamic_scale.value.numpy() / o.initial_scale)
                for o in (gan.generator_optimizer, gan.discriminator_optimizer)
                if hasattr(o, "dynamic_scale")
            ]
            print(policy, moved, finite, scales)
        """
    return output(start(SUM + textwrap.dedent(program)))


def test_two_devices_train_like_one_with_the_whole_batch(printed):
    """With all losses and all terms together, and an optimizer that clips."""
    assert printed[0] == "equal"  # it compares every variable


def test_settings_that_keras_cannot_run_on_two_devices_are_refused_with_its_issue(printed):
    refused = [
        (line.partition("Received: ")[2], re.search(r"/issues/(\d+)", line)[1])
        for line in printed[1:4]
    ]
    assert refused == [
        ("jit_compile=True", "18666"),
        ("steps_per_execution=2", "19246"),
        ("gradient_accumulation_steps=2, ema_overwrite_frequency=None", "20582"),
    ]


def test_a_step_that_is_not_finite_on_the_second_device_leaves_the_weights_finite(printed):
    """In float32 the step has a gradient of zero; in float16 both loss scales are halved."""
    assert printed[4:] == [
        "float32 [True, False, True] True []",
        "mixed_float16 [True, False, True] True [0.5, 0.5]",
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_devices_train_like_one_with_every_loss_and_every_term():
    program = """
        strategy = replicas.two_devices()
        for loss, name in replicas.pairs():
            one_and_two(strategy, 3, loss=loss, terms=[replicas.penalty(name)])
            if name != "feature_matching":  # with an interval, it compares the means of each part
                penalties = [replicas.penalty(name, interval=2)]
                one_and_two(strategy, 5, loss=loss, terms=penalties)
            print(loss, name)
        """
    printed = output(start(SUM + textwrap.dedent(program)), timeout=880)
    assert printed == [" ".join(pair) for pair in replicas.pairs()]


@pytest.mark.slow
def test_batch_statistics_are_those_of_the_whole_batch_on_two_devices():
    program = """
        from keras_gan import layers as ours

        def dcgan(cls):
            keras.utils.set_random_seed(3)
            spec = keras_gan.Spec("image", (8, 8, 1), (-1.0, 1.0))
            networks = keras_gan.architectures.build(
                "dcgan", spec, False,
                generator={"latent_dim": 4, "widths": [8, 4], "norm": "batch"},
                discriminator={"widths": [8, 4]},
            )
            return cls(*networks, terms=["r1"])

        def conditional(cls):
            keras.utils.set_random_seed(3)
            dense, inputs = keras.layers.Dense, [keras.Input((4,)), keras.Input((), dtype="int32")]
            x = ours.ConditionalBatchNormalization(3)([dense(6)(inputs[0]), inputs[1]])
            generator = keras.Model(inputs, dense(3)(keras.activations.swish(x)))
            inputs = [keras.Input((3,)), keras.Input((), dtype="int32")]
            x = dense(6, activation="swish")(inputs[0]) + keras.layers.Embedding(3, 6)(inputs[1])
            return cls(generator, keras.Model(inputs, dense(1)(x)), num_classes=3)

        def compiled(gan):
            gan.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1))
            return gan

        strategy = replicas.two_devices()
        rng = np.random.default_rng(0)
        for build, shape in ((dcgan, (8, 8, 8, 1)), (conditional, (8, 3))):
            x = np.tanh(rng.normal(size=shape)).astype("float32"), np.arange(8) % 3
            with replicas.as_two():
                one = compiled(build(replicas.OnOneDevice))
                play(one, 3, x)
            with strategy.scope():
                two = compiled(build(keras_gan.GAN))
            play(two, 3, x)
            one, two = replicas.state(one), replicas.state(two)
            replicas.assert_equal(one, two, build.__name__)
            print(len([name for name in one if "moving_variance" in name]))
        """
    # Of the generator and of its average.
    assert output(start(SUM + textwrap.dedent(program))) == ["4", "2"]


def test_the_parts_of_the_workers_make_up_the_batch():
    points = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
    source = datasets.from_arrays(points, np.arange(50) % 3)

    def stream(**arguments):
        found = source.dataset(batch_size=12, seed=4, repeat=True, start=3, **arguments)
        return [[np.asarray(part) for part in batch] for batch in found.take(6)]

    whole = stream()
    parts = [stream(shard=(i, 3)) for i in range(3)]
    for k, batch in enumerate(whole):
        for i, array in enumerate(batch):
            np.testing.assert_array_equal(np.concatenate([p[k][i] for p in parts]), array)
    with pytest.raises(UsageError, match=r"Received: shard=\(0, 5\), batch_size=12"):
        stream(shard=(0, 5))
    with pytest.raises(UsageError, match=r"Received: shard=\(3, 3\), batch_size=12"):
        stream(shard=(3, 3))


def test_two_trainings_of_a_process_have_one_strategy_and_load_weights(tmp_path):
    """Two strategies would take each other's sums: with other shapes, TensorFlow ends both."""
    program = """
        replicas.two_devices()
        cpus = ["CPU:0", "CPU:1"]
        def sizes(strategies):
            for size, strategy in zip((2, 3), strategies):
                @tf.function
                def total():
                    def part():
                        context = tf.distribute.get_replica_context()
                        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.ones(size))
                    return strategy.run(part)
                yield strategy.experimental_local_results(total())[0].numpy().tolist()
        mirrored = tf.distribute.MirroredStrategy
        print(list(sizes([mirrored(cpus)] * 2)))
        try:
            print(list(sizes([mirrored(cpus), mirrored(cpus)])))
        except tf.errors.InvalidArgumentError:
            print("other shapes")
        with mirrored(cpus).scope():
            trained, other = replicas.make(seed=1), replicas.make(seed=2)
            trained.examples_seen.assign(5)
            trained.save(sys.argv[1])
            other.load_weights(sys.argv[1])
        print(other.count("examples_seen"))
        """
    expected = ["[[2.0, 2.0], [2.0, 2.0, 2.0]]", "other shapes", "5"]
    path = str(tmp_path / "game.keras")
    assert output(start(SUM + textwrap.dedent(program), path)) == expected
    assert workers.mirrored_strategy() is workers.mirrored_strategy()


# ------------------------------------------------------------------------ two processes


def ports(count=2):
    """Returns free ports."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


def test_two_processes_train_like_one_with_the_whole_batch(tmp_path):
    program = """
        import pickle
        from keras_gan import workers
        workers.configure(sys.argv[1], int(sys.argv[2]))
        team = workers.join()
        with team.strategy.scope():
            two = replicas.make("relativistic_average", ["r1", "gradient_penalty"])
        play(two, 3, replicas.samples())
        with open(sys.argv[3], "wb") as file:
            pickle.dump(replicas.state(two), file)
        print(team, team.gather([team.index, 7]).tolist())
        guard = workers.SharedCollapseGuard(team, np.ones((16, 2)) * np.arange(16)[:, None])
        guard.set_model(two)
        guard.on_train_begin()
        print(guard._diversity(lambda made: 0.3 + team.index))
        try:
            team.agree({"recipe": 1, "data": team.index})
        except keras_gan.UsageError as error:
            print(error)
        """
    a, b = ports()
    started = [
        start(
            SUM + textwrap.dedent(program),
            f"127.0.0.1:{a},127.0.0.1:{b}",
            index,
            tmp_path / str(index),
        )
        for index in range(2)
    ]
    x = replicas.samples()
    with replicas.as_two():
        penalties = ["r1", "gradient_penalty"]
        one = replicas.make("relativistic_average", penalties, cls=replicas.OnOneDevice)
        one.fit(tf.data.Dataset.from_tensors(x).repeat(), steps_per_epoch=3, verbose=0)
    printed = [output(process) for process in started]
    differs = (
        "All workers must have the same data. "
        f"Received: a different data on worker 1 (127.0.0.1:{b}) than on worker 0"
    )
    assert printed == [[f"worker {i} of 2 [[0, 7], [1, 7]]", "0.3", differs] for i in range(2)]
    states = [np.load(tmp_path / str(i), allow_pickle=True) for i in range(2)]
    for first, second in zip(states[0].values(), states[1].values(), strict=True):
        np.testing.assert_array_equal(first, second)
    replicas.assert_equal(replicas.state(one), states[0], "processes")


GAME = [
    "gaussians-8",
    *("--set", "training.examples=6400"),
    *("--set", "training.batch_size=32"),
    *("--set", "training.tick_examples=640"),
    *("--set", "evaluation.every_examples=3200"),
]


def launch(*arguments):
    """Starts two workers with the command line."""
    a, b = ports()
    where = ["--workers", f"127.0.0.1:{a},127.0.0.1:{b}", "--index"]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "keras_gan", "train", *map(str, arguments), *where, str(index)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]


def finish(processes, timeout=280):
    for process in processes:
        out, err = process.communicate(timeout=timeout)
        assert process.returncode == 0, (out, err[-3000:])
        yield out


def final(run):
    return replicas.state(runs.Run.open(run).load())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    printed = list(finish(launch(*GAME, "--run", run)))
    assert "Finished: 6,400 examples" in printed[0]
    assert "worker 1 of 2" in printed[1]
    return run


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_other_and_the_resumed_run_equals_an_undisturbed_one(
    undisturbed, tmp_path, victim
):
    run = tmp_path / "run"
    printed = list(finish(launch(*GAME, "--run", run, "--minutes", "0.05")))
    assert "Out of time" in printed[0]  # one worker's clock stops both at the same step
    (checkpoint,) = run.glob("checkpoints/examples-*")

    processes = launch("--resume", run, "--set", "training.minutes=null")
    before, deadline = (run / "metrics.csv").read_bytes(), time.monotonic() + 240
    while (run / "metrics.csv").read_bytes() == before:
        assert time.monotonic() < deadline
        assert processes[0].poll() is None, processes[0].communicate()
        time.sleep(0.05)
    processes[victim].kill()
    killed = time.monotonic()
    survivor = processes[1 - victim]
    _, err = survivor.communicate(timeout=60)
    assert time.monotonic() - killed < 10
    assert survivor.returncode == 1
    last = err.splitlines()[-1]
    assert last.startswith(f"keras-gan: error: Lost worker {victim} (127.0.0.1:"), err[-3000:]
    assert "Traceback" not in err
    processes[victim].communicate()
    assert list(run.glob("checkpoints/examples-*")) == [checkpoint]  # it resumes from the middle

    printed = list(finish(launch("--resume", run)))
    assert "Finished: 6,400 examples" in printed[0]
    first, second = final(undisturbed), final(run)
    assert len(first) == len(second)
    for (name, a), b in zip(first.items(), second.values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_signal_to_one_worker_ends_all_and_only_the_chief_writes(tmp_path):
    run = tmp_path / "run"
    processes = launch(*GAME, "--run", run, "--set", "training.examples=640000")
    deadline = time.monotonic() + 240
    while not (run / "metrics.csv").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    processes[1].send_signal(signal.SIGTERM)
    printed = list(finish(processes))
    assert "saved" in printed[0]
    assert printed[1].splitlines()[-1].startswith("Interrupted: worker 1 of 2")
    assert os.listdir(tmp_path) == ["run"]
    steps = runs.Run.open(run).load().count("iteration")
    assert steps % 10 == 0
    assert steps < 20_000


# ------------------------------------------------------------------------ what is refused

WORKERS = "10.0.0.1:2222,10.0.0.2:2222"
OTHER = json.dumps({"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--workers", WORKERS],
            "given together. Received: --workers 10.0.0.1:2222,10.0.0.2:2222 on",
        ),
        (["--index", "0"], "given together. Received: --index 0 only"),
        (["--workers", WORKERS, "--index", "2"], "from 0 to 1 with 2 workers. Received: --index 2"),
        (["--workers", WORKERS, "--index", "-1"], "Received: --index -1"),
        (["--workers", "a:x,b:2", "--index", "0"], "port from 1 to 65535. Received: 'a:x'"),
        (["--workers", "a:70000,b:2", "--index", "0"], "Received: 'a:70000'"),
        (["--workers", "a,b", "--index", "0"], "host:port.* Received: 'a'"),
        (["--workers", "a:1,,b:2", "--index", "0"], "Received: ''"),
        (["--workers", "a:1,a:1", "--index", "0"], "each address once. Received: a:1 twice"),
    ],
)
def test_wrong_workers_are_refused_in_one_line(arguments, message, capsys, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(SystemExit) as stop:
        main(["train", "quickstart", *arguments])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert len(err.splitlines()) == 1
    assert re.search(message, err), err
    assert "TF_CONFIG" not in os.environ


def test_workers_set_tf_config_unless_it_is_set(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "")  # restored at the end
    workers.configure(WORKERS, 1)
    assert json.loads(os.environ["TF_CONFIG"]) == {
        "cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
        "task": {"type": "worker", "index": 1},
    }
    workers.configure(WORKERS, 1)  # the same once more
    assert workers.are_several()
    with pytest.raises(UsageError, match=r"differs from --workers.* Received: TF_CONFIG="):
        workers.configure(WORKERS, 0)
    monkeypatch.setenv("TF_CONFIG", OTHER)
    workers.configure(None, None)
    assert os.environ["TF_CONFIG"] == OTHER


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "must be JSON"),
        ("[1]", "TF_CONFIG must hold"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG must hold"),
        (OTHER.replace('"index": 0', '"index": 2'), "must be from 0 to 1. Received: index=2"),
        (OTHER.replace('"task": {"type": "worker"', '"task": {"type": "ps"'), "Received: ps"),
        (
            '{"cluster": {"worker": ["a:1"], "evaluator": ["b:2"]}, '
            '"task": {"type": "worker", "index": 0}}',
            "Received: evaluator",
        ),
    ],
)
def test_an_invalid_tf_config_is_refused(config, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UsageError, match=message):
        workers.are_several()


def test_a_computation_before_joining_is_refused(monkeypatch, capsys):
    assert int(tf.constant(1) + 1) == 2
    threads = tf.config.threading.get_inter_op_parallelism_threads()
    monkeypatch.setenv("TF_CONFIG", OTHER)
    with pytest.raises(UsageError, match=r"before TensorFlow computes anything\. Received: TF_C"):
        workers.join()
    assert capsys.readouterr().err == ""  # it does not begin to wait for the others
    assert tf.config.threading.get_inter_op_parallelism_threads() == threads
    assert not workers.is_joined()


def team_of(monkeypatch, *addresses):
    monkeypatch.setattr(workers, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(workers, "_ENDING_SECONDS", 0.5)
    return workers.Team(tf.distribute.get_strategy(), ["127.0.0.1:1", *addresses], 0)


def test_a_worker_is_lost_if_its_server_does_not_answer(monkeypatch):
    """The text of the error does not matter: neither this one's nor that of the next test."""
    (port,) = ports(1)
    with socket.socket() as stopped:  # accepts connections as the kernel does for a stopped process
        stopped.bind(("127.0.0.1", 0))
        stopped.listen()
        address = f"127.0.0.1:{stopped.getsockname()[1]}"
        team = team_of(monkeypatch, address, f"127.0.0.1:{port}")
        ended = rf"Lost worker 1 \({address}\) and worker 2 \(127.0.0.1:{port}\): ended or can"
        with pytest.raises(WorkerLostError, match=ended) as caught, team.together():
            raise tf.errors.InternalError(None, None, "anything")
    assert type(caught.value.__cause__) is tf.errors.InternalError


def test_an_error_while_all_workers_answer_is_raised_as_it_is(monkeypatch):
    server = tf.distribute.Server({"worker": [f"127.0.0.1:{ports(1)[0]}"]}, "worker", 0)
    team = team_of(monkeypatch, server.target.removeprefix("grpc://"))
    text = "Collective ops is aborted by: Connection reset by peer"
    with pytest.raises(tf.errors.UnavailableError, match=text), team.together():
        raise tf.errors.UnavailableError(None, None, text)


def test_one_process_is_a_team_of_one(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    team = workers.join()
    assert (team.chief, team.several, team.replicas) == (True, False, 1)
    assert team.gather([3, -1]).tolist() == [[3, -1]]
    team.agree({"anything": 1})
    chief = {"cluster": {"chief": ["a:1"], "worker": ["b:2"]}, "task": {"type": "worker"}}
    chief["task"]["index"] = 0
    monkeypatch.setenv("TF_CONFIG", json.dumps(chief))
    assert workers._config() == (["a:1", "b:2"], 1)  # TensorFlow counts the chief first
