"""Workers: several processes that train one game together.

Every worker computes the same steps on its part of each batch. TensorFlow synchronizes them by
collective operations. The chief, the first worker, writes the run folder.
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
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import callbacks
from keras_gan.errors import UsageError, WorkerLostError, one_line
from keras_gan.run import Run
from serving.lists import parse_list

_HEARTBEAT_MS = 5_000  # a worker without a heartbeat for this long counts as lost
_GATHERING_MS = 10 * 60_000  # timeout for all workers to connect
_AGREE_EVERY = 10  # steps between two synchronizations of the limits
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
# The start of an HTTP/2 connection (RFC 9113, 3.4): the preface and an empty SETTINGS frame. Every
# worker serves gRPC, and a running one answers with its own settings.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_ANSWER_SECONDS = 2.0  # a worker that does not answer for this long counts as lost
_ENDING_SECONDS = 10.0  # a worker that has failed may take this long to end


# ------------------------------------------------------------------------ configuration


def configure(workers: str | None, index: int | None) -> None:
    """Sets TF_CONFIG from a list of addresses and the index of this process in it.

    Args:
        workers: `host:port,host:port,...`, the same on every worker; the first is the chief.
        index: index of this process, from 0.

    Raises:
        UsageError: an invalid address or index, one argument without the other, or a different
            TF_CONFIG in the environment.
    """
    if workers is None and index is None:
        return
    if workers is None or index is None:
        got = f"--index {index}" if workers is None else f"--workers {workers}"
        raise UsageError(f"--workers and --index must be given together. Received: {got} only")
    addresses = parse_list(workers)
    for address in addresses:
        _check_address(address)
    for i, address in enumerate(addresses):
        if address in addresses[:i]:
            raise UsageError(f"--workers must list each address once. Received: {address} twice")
    if not 0 <= index < len(addresses):
        raise UsageError(
            f"--index must be from 0 to {len(addresses) - 1} with {len(addresses)} workers. "
            f"Received: --index {index}"
        )
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    if os.environ.get("TF_CONFIG") and _config() != _parse_config(config):
        raise UsageError(
            "TF_CONFIG is set and differs from --workers and --index; use only one of them. "
            f"Received: TF_CONFIG={os.environ['TF_CONFIG']}"
        )
    os.environ["TF_CONFIG"] = json.dumps(config)


def _check_address(address: str) -> None:
    found = _ADDRESS.fullmatch(address)
    if not found or not 1 <= int(found[2]) <= 65_535:
        raise UsageError(
            "A worker's address must be host:port, with a port from 1 to 65535. "
            f"Received: {address!r}"
        )


def _parse_config(config: Mapping[str, Any]) -> tuple[list[str], int]:
    """Returns the addresses of a TF_CONFIG, the chief first as in TensorFlow, and the own index."""
    try:
        cluster, task = config["cluster"], config["task"]
        job, index = str(task["type"]), int(task["index"])
        jobs = {name: [str(a) for a in addresses] for name, addresses in cluster.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UsageError(
            'TF_CONFIG must hold {"cluster": {"worker": ["host:port", ...]}, '
            '"task": {"type": "worker", "index": 0}}. '
            f"Received: {os.environ.get('TF_CONFIG')}"
        ) from None
    odd = sorted((set(jobs) | {job}) - {"chief", "worker"})
    if odd:
        raise UsageError(
            "TF_CONFIG must hold workers and a chief only: Keras supports neither parameter "
            "servers nor an evaluator (https://github.com/keras-team/keras/issues/18624). "
            f"Received: {odd[0]}"
        )
    if not 0 <= index < len(jobs.get(job, [])):
        raise UsageError(
            f"The index of a {job} in TF_CONFIG must be from 0 to {len(jobs.get(job, [])) - 1}. "
            f"Received: index={index}"
        )
    chiefs = jobs.get("chief", [])
    return chiefs + jobs.get("worker", []), index + (len(chiefs) if job == "worker" else 0)


def _config() -> tuple[list[str], int]:
    """Returns addresses and own index from TF_CONFIG; without it, those of a single process."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return [""], 0
    try:
        config = json.loads(text)
    except ValueError:
        raise UsageError(f"TF_CONFIG must be JSON. Received: {text!r}") from None
    if isinstance(config, dict) and not config.get("cluster"):
        return [""], 0  # TensorFlow also reads this as a single process
    return _parse_config(config)


# ------------------------------------------------------------------------ the team


class Team:
    """The processes that train one game, from the point of view of one of them.

    Args:
        strategy: the strategy that distributes the steps.
        addresses: addresses of all workers, the chief first.
        index: index of this process.
    """

    def __init__(self, strategy: tf.distribute.Strategy, addresses: list[str], index: int):
        self.strategy, self.addresses, self.index = strategy, addresses, index

    def __str__(self) -> str:
        return f"worker {self.index} of {len(self.addresses)}"

    @property
    def several(self) -> bool:
        """True if there are other processes."""
        return len(self.addresses) > 1

    @property
    def chief(self) -> bool:
        """True if this process writes the run folder."""
        return self.index == 0

    @property
    def replicas(self) -> int:
        """Number of devices that share a batch, over all workers."""
        return self.strategy.num_replicas_in_sync

    def gather(self, values: list[int]) -> np.ndarray:
        """Returns the integers of all workers, `(workers, len(values))`. All must call it."""
        mine = np.zeros((len(self.addresses), len(values)), np.int64)
        mine[self.index] = values
        return self._sum(tf.constant(mine)).numpy() if self.several else mine

    @functools.cached_property
    def _sum(self):
        def replica_sum(values):
            context: Any = tf.distribute.get_replica_context()
            local = context.num_replicas_in_sync // len(self.addresses)
            # Only the first device of each worker contributes.
            contributes = tf.equal(context.replica_id_in_sync_group % local, 0)
            values = tf.where(contributes, values, tf.zeros_like(values))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

        @tf.function(autograph=False)
        def run(values):
            sums = self.strategy.run(replica_sum, args=(values,))
            return self.strategy.experimental_local_results(sums)[0]

        return run

    def agree(self, values: Mapping[str, Any]) -> None:
        """Checks that all workers have the same values.

        Args:
            values: JSON values or bytes, by the names for the error.

        Raises:
            UsageError: on every worker, with the name of a value that differs and the worker.
        """
        if not self.several:
            return
        gathered = self.gather([_digest(value) for value in values.values()])
        for name, digests in zip(values, gathered.T, strict=True):
            others = [i for i, digest in enumerate(digests) if digest != digests[0]]
            if others:
                raise UsageError(
                    f"All workers must have the same {name}. Received: a different {name} on "
                    f"worker {others[0]} ({self.addresses[others[0]]}) than on worker 0"
                )

    def _lost(self) -> list[str]:
        """Returns the other workers that do not answer, after an error of TensorFlow."""
        deadline = time.monotonic() + _ENDING_SECONDS
        others = [(i, a) for i, a in enumerate(self.addresses) if i != self.index]
        while True:
            silent = [f"worker {i} ({address})" for i, address in others if not _answers(address)]
            if silent or time.monotonic() >= deadline:
                return silent
            time.sleep(0.5)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Turns TensorFlow's errors of a lost worker into one line.

        Raises:
            WorkerLostError: another worker has ended or cannot be reached.
        """
        try:
            yield
        except _LOST as error:
            # TensorFlow raises these for other failures as well.
            lost = self._lost() if self.several else []
            if not lost:
                raise
            raise WorkerLostError(
                f"Lost {' and '.join(lost)}: ended or cannot be reached, so that {self} ends as "
                "well. The output there has the reason; start all workers again with --resume RUN "
                "to continue from the last checkpoint"
            ) from error


def _answers(address: str) -> bool:
    """Returns whether a worker's server answers; that of a stopped process does not."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS) as connection:
            connection.sendall(_PREFACE)
            return bool(connection.recv(1))
    except OSError:
        return False


def _digest(value: Any) -> int:
    content = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little", signed=True)


def state(gan: Any) -> bytes:
    """Returns a digest of all variables that a training depends on."""
    digest = hashlib.sha256()
    for variable in callbacks.variables_of(gan):
        digest.update(variable.value.numpy().tobytes())
    return digest.digest()


_joined: list[Team] = []  # the team of several workers, which a process can join once


def join() -> Team:
    """Connects to the workers in TF_CONFIG; without it, uses all GPUs of this machine.

    Within the scope of a strategy, a process without other workers trains under that strategy.

    With several workers the first call must come before TensorFlow computes anything, which
    includes loading a recipe. Later calls return the same team.

    Raises:
        UsageError: an invalid TF_CONFIG, or a call that comes too late.
        WorkerLostError: not all workers have connected in time.
    """
    if _joined:
        return _joined[0]
    addresses, index = _config()
    if len(addresses) == 1:
        return Team(_local_strategy(), addresses, 0)
    if _has_computed():
        raise UsageError(
            "keras_gan.workers.join() must be called before TensorFlow computes anything. "
            "Received: TF_CONFIG of several workers, and a computation before the call"
        )
    print(
        f"keras-gan: worker {index} of {len(addresses)} is waiting for the others "
        f"({', '.join(addresses)})",
        file=sys.stderr,
        flush=True,
    )
    try:
        _set_heartbeat_timeout()
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        reason = one_line(error)
        raise WorkerLostError(f"The workers could not connect: {reason}") from error
    _joined.append(Team(strategy, addresses, index))
    return _joined[0]


def is_joined() -> bool:
    """Checks whether this process has connected to other workers."""
    return bool(_joined)


def are_several() -> bool:
    """Checks whether TF_CONFIG lists several workers."""
    return len(_config()[0]) > 1


def _local_strategy() -> tf.distribute.Strategy:
    if tf.distribute.has_strategy():  # TensorFlow refuses another one within its scope
        return tf.distribute.get_strategy()
    gpus = tf.config.list_logical_devices("GPU") if tf.config.list_physical_devices("GPU") else []
    if len(gpus) < 2:
        return tf.distribute.get_strategy()
    print(
        f"keras-gan: training on {len(gpus)} GPUs of this machine; select others with "
        "CUDA_VISIBLE_DEVICES",
        file=sys.stderr,
        flush=True,
    )
    return mirrored_strategy()


@functools.cache
def mirrored_strategy() -> tf.distribute.Strategy:
    """Returns the process's strategy over all of its GPUs, the same in each call.

    Strategies of one process number their collective operations alike, so that a second training
    under a strategy of its own would fail at a sum of other shapes.
    """
    return tf.distribute.MirroredStrategy()


def _has_computed() -> bool:
    """Returns whether TensorFlow has computed anything: its threads can then not be changed."""
    # No public function reports this state. A number other than the present one is refused by it.
    threads = tf.config.threading
    before = threads.get_inter_op_parallelism_threads()
    try:
        threads.set_inter_op_parallelism_threads(before + 1)
    except RuntimeError:
        return True
    threads.set_inter_op_parallelism_threads(before)
    return False


def _set_heartbeat_timeout() -> None:
    """Sets the time after which a worker without a heartbeat is lost, TensorFlow's default 10 s."""
    # TensorFlow has no public function for it. Where this fails, the strategy uses the default.
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


# ------------------------------------------------------------------------ callbacks


class NullRun(Run):
    """The run folder of a worker that is not the chief: nothing is written."""

    ending: Any = None
    evaluation: Any = None

    def __init__(self, rows: Iterable[dict[str, float]] = ()) -> None:
        super().__init__("")
        self._rows = list(rows)

    def save(self, gan: Any, keep: int = 2) -> Any:
        return None

    def save_best(self, gan: Any, record: dict[str, Any]) -> None:
        return None

    @property
    def best_record(self) -> dict[str, Any] | None:
        return None

    def rows(self) -> list[dict[str, float]]:
        return self._rows

    def write_rows(self, rows: list[dict[str, float]]) -> None:
        self._rows = rows


class WorkerCallbacks(callbacks.RunWriter):
    """The record of a worker that is not the chief: it checks the losses and writes nothing."""

    def _report(self) -> None:
        return None


class SharedCollapseGuard(callbacks.CollapseGuard):
    """A collapse guard whose workers all act on the diversity that the chief has measured.

    Machines round differently, and one worker alone must not stop or roll back.

    Args:
        team: the workers.
        *args, **kwargs: those of `keras_gan.callbacks.CollapseGuard`.
    """

    def __init__(self, team: Team, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.team = team

    def _diversity(self, measure: Any) -> float:
        share = np.float64(super()._diversity(measure))
        return float(self.team.gather([int(share.view(np.int64))])[0, 0].view(np.float64))


class SharedLimits(callbacks.Limits):
    """Limits that end the training of all workers at the same step.

    Clocks differ, and a signal may reach one worker only: the workers synchronize every 10 steps.

    Args:
        team: the workers.
        steps: number of the last step.
        minutes: time limit in minutes, or `None`.
        hold: as in `keras_gan.callbacks.Limits`.
    """

    def __init__(self, team: Team, steps: int, minutes: float | None = None, hold: bool = False):
        super().__init__(steps, minutes, hold)
        self.team = team

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        gan: Any = self.model
        step = gan.count("iteration")
        if step % _AGREE_EVERY == 0:
            own = self._signal or 0, time.monotonic() >= self._end
            signals, times = self.team.gather([int(value) for value in own]).max(axis=0)
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


class Agreement(keras.callbacks.Callback):
    """Callback that ends the training of all workers if a callback of one has ended it.

    It must be the last callback, as it reads the decision of the others at the end of a tick.

    Args:
        team: the workers.
    """

    def __init__(self, team: Team):
        super().__init__()
        self.team = team

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        gan: Any = self.model
        gan.stop_training = bool(self.team.gather([int(gan.stop_training)]).any())
