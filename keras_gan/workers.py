"""Several processes that train one game: who they are, what they agree on, and when they end.

Every worker computes the same steps on its part of each batch; TensorFlow keeps them in lockstep
by collective operations. The chief, the first of them, writes the run folder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import callbacks
from keras_gan.errors import UsageError, WorkerLostError
from keras_gan.run import Run

_HEARTBEAT_MS = 5_000  # a worker that is silent for so long is taken for dead
_GATHERING_MS = 10 * 60_000  # all must have come by then
_AGREE_EVERY = 10  # steps between two agreements on whether to stop
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d+)")
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.InternalError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnknownError,
)
# What TensorFlow says when a collective operation has nobody to talk to.
_SIGNS = re.compile(
    r"aborted by|heartbeat|unhealthy|[Ss]ocket closed|[Cc]onnection (reset|refused)|preempt"
    r"|[Cc]oordination|failed to connect|[Bb]arrier|CollectiveReduce|CollectiveGather"
)


# ------------------------------------------------------------------------ who takes part


def configure(workers: str | None, index: int | None) -> None:
    """Sets TF_CONFIG from a list of addresses and the place of this process in it.

    Args:
        workers: `host:port,host:port,...`, the same on every worker; the first is the chief.
        index: which of them this process is, from 0.

    Raises:
        UsageError: an address or index that cannot be, one without the other, or a TF_CONFIG
            that says otherwise.
    """
    if workers is None and index is None:
        return
    if workers is None or index is None:
        got = f"--index {index}" if workers is None else f"--workers {workers}"
        raise UsageError(f"--workers and --index go together. Received: {got} alone")
    addresses = [address.strip() for address in workers.split(",")]
    for address in addresses:
        _check_address(address)
    for i, address in enumerate(addresses):
        if address in addresses[:i]:
            raise UsageError(f"--workers must name each worker once. Received: {address} twice")
    if not 0 <= index < len(addresses):
        raise UsageError(
            f"--index must be from 0 to {len(addresses) - 1} with {len(addresses)} workers. "
            f"Received: --index {index}"
        )
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    if os.environ.get("TF_CONFIG") and _config() != _normal(config):
        raise UsageError(
            "TF_CONFIG is set and says otherwise than --workers and --index; give one of them. "
            f"Received: TF_CONFIG={os.environ['TF_CONFIG']}"
        )
    os.environ["TF_CONFIG"] = json.dumps(config)


def _check_address(address: str) -> None:
    found = _ADDRESS.fullmatch(address)
    if not found or not 1 <= int(found[2]) <= 65_535:
        raise UsageError(
            f"A worker's address is host:port, with a port from 1 to 65535. Received: {address!r}"
        )


def _normal(config: Mapping[str, Any]) -> tuple[list[str], int]:
    """Addresses of a TF_CONFIG in TensorFlow's order, the chief first, and the own place."""
    try:
        cluster, task = config["cluster"], config["task"]
        kind, index = str(task["type"]), int(task["index"])
        jobs = {name: [str(a) for a in addresses] for name, addresses in cluster.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UsageError(
            'TF_CONFIG must hold {"cluster": {"worker": ["host:port", ...]}, '
            '"task": {"type": "worker", "index": 0}}. '
            f"Received: {os.environ.get('TF_CONFIG')}"
        ) from None
    odd = sorted((set(jobs) | {kind}) - {"chief", "worker"})
    if odd:
        raise UsageError(
            "Only workers and a chief take part: Keras has no parameter servers and no evaluator "
            "(https://github.com/keras-team/keras/issues/18624). "
            f"Received: {odd[0]} in TF_CONFIG"
        )
    if not 0 <= index < len(jobs.get(kind, [])):
        raise UsageError(
            f"The index of a {kind} in TF_CONFIG must be one of its {len(jobs.get(kind, []))} "
            f"addresses'. Received: {index}"
        )
    chiefs = jobs.get("chief", [])
    return chiefs + jobs.get("worker", []), index + (len(chiefs) if kind == "worker" else 0)


def _chiefs() -> list[str]:
    return json.loads(os.environ["TF_CONFIG"])["cluster"].get("chief", [])


def _config() -> tuple[list[str], int]:
    """TF_CONFIG of the environment; one process without it."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return [""], 0
    try:
        config = json.loads(text)
    except ValueError:
        raise UsageError(f"TF_CONFIG must be JSON. Received: {text!r}") from None
    if isinstance(config, dict) and not config.get("cluster"):
        return [""], 0  # as TensorFlow reads it: a program of its own
    return _normal(config)


# ------------------------------------------------------------------------ the team


class Team:
    """The processes that train one game, as one of them sees them.

    Args:
        strategy: what distributes the steps.
        addresses: of all workers, the chief first.
        index: the place of this process among them.
    """

    def __init__(self, strategy: tf.distribute.Strategy, addresses: list[str], index: int):
        self.strategy, self.addresses, self.index = strategy, addresses, index

    def __str__(self) -> str:
        return f"worker {self.index} of {len(self.addresses)}"

    @property
    def several(self) -> bool:
        """Whether there are other processes."""
        return len(self.addresses) > 1

    @property
    def chief(self) -> bool:
        """Whether this process writes the run folder."""
        return self.index == 0

    @property
    def replicas(self) -> int:
        """Devices that compute a step together, over all workers."""
        return self.strategy.num_replicas_in_sync

    def gather(self, values: list[int]) -> np.ndarray:
        """The whole numbers of every worker, `(workers, len(values))`; all must call it."""
        mine = np.zeros((len(self.addresses), len(values)), np.int64)
        mine[self.index] = values
        return self._sum(tf.constant(mine)).numpy() if self.several else mine

    @functools.cached_property
    def _sum(self):
        def replica_sum(values):
            context: Any = tf.distribute.get_replica_context()
            local = context.num_replicas_in_sync // len(self.addresses)
            # A worker speaks through the first of its devices alone.
            speaks = tf.equal(context.replica_id_in_sync_group % local, 0)
            values = tf.where(speaks, values, tf.zeros_like(values))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

        @tf.function(autograph=False)
        def run(values):
            sums = self.strategy.run(replica_sum, args=(values,))
            return self.strategy.experimental_local_results(sums)[0]

        return run

    def agree(self, things: Mapping[str, Any]) -> None:
        """Refuses workers that were started with different things.

        Args:
            things: what must be the same everywhere, as JSON or bytes, by its name.

        Raises:
            UsageError: on every worker, naming what differs and where.
        """
        if not self.several:
            return
        told = self.gather([_digest(thing) for thing in things.values()])
        for name, digests in zip(things, told.T, strict=True):
            others = [i for i, digest in enumerate(digests) if digest != digests[0]]
            if others:
                raise UsageError(
                    "All workers must train the same game. Received: another "
                    f"{name} on worker {others[0]} ({self.addresses[others[0]]}) than on worker 0"
                )

    def _lost(self, message: str) -> str:
        """Who TensorFlow says is gone: the first other worker that it names."""
        for job, number in re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", message):
            index = int(number) + (len(_chiefs()) if job == "worker" else 0)
            if index != self.index and index < len(self.addresses):
                return f"worker {index} ({self.addresses[index]})"
        return "another worker"

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Tells in one line that another worker has gone.

        Raises:
            WorkerLostError: in place of what TensorFlow says of it.
        """
        try:
            yield
        except _LOST as error:
            if not self.several or not _SIGNS.search(str(error)):
                raise
            raise WorkerLostError(
                f"Lost {self._lost(str(error))}: it has ended or cannot be reached, "
                f"and {self} ends too. Its own output says why; start all workers again with "
                "--resume RUN to go on from the last checkpoint"
            ) from error


def _digest(thing: Any) -> int:
    content = thing if isinstance(thing, bytes) else json.dumps(thing, sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little", signed=True)


def state(gan: Any) -> bytes:
    """A digest of all that a game goes on from."""
    digest = hashlib.sha256()
    for variable in callbacks.variables_of(gan):
        digest.update(variable.value.numpy().tobytes())
    return digest.digest()


_joined: list[Team] = []  # the team of several, once in a process


def join() -> Team:
    """Meets the workers that TF_CONFIG names; else takes all GPUs of this machine.

    Where there are several workers, it must first be called before TensorFlow computes anything,
    the reading of a recipe included; from then on it gives the same team.

    Raises:
        UsageError: a TF_CONFIG that makes no sense, or a call that comes too late.
        WorkerLostError: not all of the workers came.
    """
    if _joined:
        return _joined[0]
    addresses, index = _config()
    if len(addresses) == 1:
        return Team(_local_strategy(), addresses, 0)
    print(
        f"keras-gan: worker {index} of {len(addresses)} waits for the others "
        f"({', '.join(addresses)})",
        file=sys.stderr,
        flush=True,
    )
    try:
        _watch_heartbeats()
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise UsageError(
            "Workers must meet before TensorFlow computes anything: call keras_gan.workers.join() "
            "first of all. Received: TF_CONFIG of several workers, and a computation before it"
        ) from error
    except tf.errors.OpError as error:
        reason = " ".join(str(error).split())[:200]
        raise WorkerLostError(f"The workers did not come together: {reason}") from error
    _joined.append(Team(strategy, addresses, index))
    return _joined[0]


def have_met() -> bool:
    """Whether this process has joined others."""
    return bool(_joined)


def are_several() -> bool:
    """Whether TF_CONFIG names several workers."""
    return len(_config()[0]) > 1


def _local_strategy() -> tf.distribute.Strategy:
    gpus = tf.config.list_logical_devices("GPU") if tf.config.list_physical_devices("GPU") else []
    if len(gpus) < 2:
        return tf.distribute.get_strategy()
    print(
        f"keras-gan: training on {len(gpus)} GPUs of this machine; CUDA_VISIBLE_DEVICES chooses",
        file=sys.stderr,
        flush=True,
    )
    return tf.distribute.MirroredStrategy()


def _watch_heartbeats() -> None:
    """Sets how soon a silent worker is given up; TensorFlow's own 10 s are at our limit."""
    # There is no public way to it; without it the strategy configures the same by its defaults.
    with contextlib.suppress(ImportError, AttributeError, TypeError):
        protobuf = "tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2"
        jobs: Any = importlib.import_module(protobuf)
        context: Any = importlib.import_module("tensorflow.python.eager.context")
        cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec()
        context.context().configure_coordination_service(
            service_type="standalone",
            service_leader="/job:chief/replica:0/task:0"
            if "chief" in cluster.jobs
            else "/job:worker/replica:0/task:0",
            cluster_register_timeout_in_ms=_GATHERING_MS,
            heartbeat_timeout_in_ms=_HEARTBEAT_MS,
            coordinated_jobs=[
                jobs.CoordinatedJob(name=job, num_tasks=cluster.num_tasks(job))
                for job in cluster.jobs
            ],
        )


# ------------------------------------------------------------------------ beside the game


class NullRun(Run):
    """The run as a worker sees it that is not the chief: it writes nothing."""

    ending: Any = None
    evaluation: Any = None

    def __init__(self, rows: Iterable[dict[str, float]] = ()) -> None:
        super().__init__("")
        self._told = list(rows)

    def save(self, gan: Any, keep: int = 2) -> Any:
        return None

    def save_best(self, gan: Any, record: dict[str, Any]) -> None:
        return None

    @property
    def best_record(self) -> dict[str, Any] | None:
        return None

    def rows(self) -> list[dict[str, float]]:
        return self._told

    def write_rows(self, rows: list[dict[str, float]]) -> None:
        self._told = rows


class WorkerCallbacks(callbacks.RunWriter):
    """The record of a worker that is not the chief: it looks at the losses, and writes nothing."""

    def _report(self) -> None:
        return None


class CollapseGuard(callbacks.CollapseGuard):
    """The guard of one of several workers: all act on what the chief has measured.

    Machines round differently, and one alone must not stop or roll back.

    Args:
        team: the workers.
        *args, **kwargs: as of `keras_gan.callbacks.CollapseGuard`.
    """

    def __init__(self, team: Team, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.team = team

    def _diversity(self, measure: Any) -> float:
        share = np.float64(super()._diversity(measure))
        return float(self.team.gather([int(share.view(np.int64))])[0, 0].view(np.float64))


class Limits(callbacks.Limits):
    """Ends the training of all workers at the same step.

    Their clocks differ, and a signal may reach but one of them: every 10 steps all are told.

    Args:
        team: the workers.
        steps: number of the last step.
        minutes: most time, in minutes, or `None`.
        hold: as of `keras_gan.callbacks.Limits`.
    """

    def __init__(self, team: Team, steps: int, minutes: float | None = None, hold: bool = False):
        super().__init__(steps, minutes, hold)
        self.team = team

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        gan: Any = self.model
        step = gan.count("iteration")
        if step % _AGREE_EVERY == 0:
            own = self._signal or 0, self._time_is_over()
            signals, times = self.team.gather([int(wish) for wish in own]).max(axis=0)
            self.interrupted = signal.Signals(int(signals)) if signals else None
            self.out_of_time = bool(times)
        if self.interrupted or self.out_of_time or step >= self.steps:
            gan.stop_training = True

    def on_train_begin(self, logs: Any = None) -> None:
        self._signal: signal.Signals | None = None
        super().on_train_begin(logs)

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number)

    def _time_is_over(self) -> bool:
        return time.monotonic() >= self._end


class Agreement(keras.callbacks.Callback):
    """Ends the training of all workers where a callback of one of them ends it.

    To be the last of the callbacks: it looks at what the others have decided at a tick's end.

    Args:
        team: the workers.
    """

    def __init__(self, team: Team):
        super().__init__()
        self.team = team

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        gan: Any = self.model
        gan.stop_training = bool(self.team.gather([int(gan.stop_training)]).any())
