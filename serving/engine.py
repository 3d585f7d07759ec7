"""Batching engine: runs a network for many clients.

Each worker is a thread with its own single-threaded onnxruntime session: two of them generate more
samples than one session of two threads, which waits for its slower half. An idle worker takes what
is queued immediately, so a batch holds what arrived during the last one, and requests are never
delayed to fill a batch. If the model is slow, a large batch saves nothing, and a worker takes its
share of the queue only. A job that finds several workers idle is divided among them.

A batch holds jobs of equal named sizes only, such as those of pictures of one height and width.

Workers do everything that a sample costs: they draw latents from the seeds of the whole batch
before the run (`serving.feeds`), and encode the responses after it. The event loop is notified once
per batch. If a single client requests a few samples and both model and encoding are fast, the event
loop's own thread generates them; if the model is slow, a session on all CPUs does.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from serving.bundle import Run
from serving.feeds import Piece

QUICK = 0.002  # seconds for which the batch of a single client may block the event loop
LIGHT = 2**14  # numbers in a response whose encoding takes negligible time beside that
_NONE_GIVEN: Mapping[str, np.ndarray] = {}


class Full(Exception):
    """The queue is full."""

    def __init__(self, engine: Engine):
        super().__init__()
        self.engine = engine


class Failed(Exception):
    """The model failed to run."""


class Expired(Exception):
    """The deadline passed before there was a result."""


class Closed(Exception):
    """The engine has been closed."""


class SampleJob:
    """Samples of one request that run in one batch.

    Args:
        count: number of samples, at most the engine's `max_batch`.
        seeds: int64 array of shape `(count,)`, or `None` if no input is drawn from a seed.
        given: checked arrays `(count, ...)` by the names of inputs, in place of drawn ones.
        labels: int64 array of shape `(count,)`; `None` for the default labels of the seeds, or for
            a model without classes.
        truncation: factor on the latents drawn from seeds, or value of the input of this name.
        encode: maps the job and its outputs, a list of arrays `(count, ...)`, to the response;
            runs in the worker. Without it, the outputs are the result.
        deadline: on the clock of `time.monotonic`; infinity for none.
        sizes: the named sizes of the given arrays; jobs in one batch have equal ones.
    """

    __slots__ = (
        "context",
        "count",
        "deadline",
        "done",
        "encode",
        "engine",
        "error",
        "given",
        "is_alone",
        "is_light",
        "labels",
        "outputs",
        "remaining",
        "result",
        "seeds",
        "sizes",
        "truncation",
        "waiting",
    )

    def __init__(
        self,
        count: int,
        seeds: np.ndarray | None = None,
        given: Mapping[str, np.ndarray] = _NONE_GIVEN,
        labels: np.ndarray | None = None,
        truncation: float = 1.0,
        encode: Callable[[SampleJob, list[np.ndarray]], Any] | None = None,
        deadline: float = float("inf"),
        sizes: tuple[tuple[str, int], ...] = (),
    ):
        self.count = count
        self.seeds = seeds
        self.given = given
        self.labels = labels
        self.truncation = truncation
        self.encode = encode
        self.deadline = deadline
        self.sizes = sizes
        self.done: Callable[[SampleJob], None] | None = None
        self.engine: Engine | None = None
        self.context: Any = None  # for the use of `encode`
        self.is_light = False  # `encode` takes negligible time beside a fast model
        self.is_alone = False  # no other client is active
        self.result: Any = None
        self.error: BaseException | None = None
        self.waiting = 0  # samples that no worker has taken
        self.remaining = 0  # samples that are not generated; 0 also after cancellation
        # Outputs of a divided job, as workers finish its pieces.
        self.outputs: list[np.ndarray] | None = None

    def cancel(self) -> None:
        """Frees the job's place in the queue, without calling `done`."""
        self.done = None
        if self.engine is not None:
            self.engine.forget(self)


def even(count: int, limit: int) -> int:
    """Returns the batch size, at most `limit`, that divides `count` most evenly."""
    return -(-count // -(-count // limit))


class Engine:
    """Engine that runs the jobs of many clients in batches.

    Must be called from the event loop's thread, except for the workers' own methods.

    Args:
        sessions: one callable per worker, from feeds to all outputs.
        feeds: maps the pieces of jobs in a batch, and its size, to the feeds.
        loop: the event loop in which `done` and `observe` are called.
        max_batch: maximum number of samples in a batch.
        queue: maximum number of samples waiting for a worker.
        observe: called for each batch with its number of samples and its seconds.
        sample_seconds: time that one worker takes for one sample; infinity if unknown.
        wide: a multi-threaded session, for a sample while nothing else runs or waits.
    """

    def __init__(
        self,
        sessions: list[Run],
        feeds: Callable[[list[Piece], int], dict[str, np.ndarray]],
        loop: asyncio.AbstractEventLoop,
        *,
        max_batch: int = 16,
        queue: int = 512,
        observe: Callable[[int, float], None] | None = None,
        sample_seconds: float = math.inf,
        wide: Run | None = None,
    ):
        self.max_batch = max_batch
        self.queue = queue
        self.waiting = 0  # samples in the queue
        self.seconds = 0.0  # moving average of the seconds per sample
        self._feeds = feeds
        self._loop = loop
        self._sessions = sessions
        self._sample_seconds = sample_seconds
        self._wide = wide
        self._observe = observe
        self._jobs: set[SampleJob] = set()  # queued or running
        # Pieces of jobs that wait: a job, the first of its rows and the one after the last.
        self._deque: deque[Piece] = deque()
        self._ready = threading.Condition(threading.Lock())
        self._idle = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(run,), name=f"engine-{i}", daemon=True)
            for i, run in enumerate(sessions)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, job: SampleJob, done: Callable[[SampleJob], None], *, part: bool = False
    ) -> None:
        """Queues a job; calls `done` in the loop once it has a result or an error.

        If the model is fast, encoding is light, no other client is active and all workers are
        idle, the job is done before this returns.

        Args:
            job: the job.
            done: called with the job, unless it is cancelled.
            part: continues a request whose first job was accepted; a full queue accepts it.

        Raises:
            Full: the queue is full.
            Closed: the engine is closed.
        """
        if self._closed:
            raise Closed
        # While nothing waits, an idle worker takes the job immediately, whatever its size.
        if not part and self.waiting and self.waiting + job.count > self.queue:
            raise Full(self)
        job.engine, job.done = self, done
        job.waiting = job.remaining = job.count
        self._jobs.add(job)
        is_quick = job.count * self._sample_seconds < QUICK
        if job.is_alone and job.is_light and is_quick and self._is_idle:
            job.waiting = job.remaining = 0
            self._deliver(*self._run_batch(self._sessions[0], [(job, 0, job.count)]))
            return
        with self._ready:
            pieces = 1
            if job.count > 1 and self._idle > 1 and not self.waiting:
                pieces = min(job.count, self._idle)
            self.waiting += job.count
            for i in range(pieces):
                first, last = job.count * i // pieces, job.count * (i + 1) // pieces
                self._deque.append((job, first, last))
            if self._idle:
                self._ready.notify(pieces)

    @property
    def is_full(self) -> bool:
        """True if as many samples wait as the queue holds."""
        return self.waiting >= self.queue

    @property
    def _is_idle(self) -> bool:
        # A worker that was notified counts as idle until it has taken the job.
        return not self._deque and self._idle == len(self._threads)

    async def run(self, job: SampleJob, *, part: bool = False) -> Any:
        """Queues a job, waits for its result and returns it.

        Args:
            job: the job.
            part: as for `submit`.

        Raises:
            Full, Closed: as for `submit`.
            Failed: the model failed.
            Expired: the deadline passed.
        """
        future = self._loop.create_future()

        def done(job: SampleJob) -> None:
            if not future.done():
                future.set_result(None)

        self.submit(job, done, part=part)
        try:
            await future
        except asyncio.CancelledError:
            job.cancel()
            raise
        if job.error is not None:
            raise job.error
        return job.result

    def forget(self, job: SampleJob) -> None:
        """Removes a job in any state; a worker that runs it drops its samples."""
        if job in self._jobs:
            self._jobs.discard(job)
            with self._ready:
                self.waiting -= job.waiting
                job.waiting = job.remaining = 0

    def expire(self, now: float) -> None:
        """Fails the jobs whose deadline has passed with `Expired`."""
        late = [job for job in self._jobs if job.deadline <= now]
        for job in late:
            done = job.done
            job.error = Expired()
            job.cancel()
            if done is not None:
                done(job)

    @property
    def pending(self) -> int:
        """Number of jobs without a result."""
        return len(self._jobs)

    def retry_after(self) -> int:
        """Returns the seconds, rounded up, until the current queue is processed."""
        return max(1, round(self.waiting * self.seconds / len(self._threads) + 0.5))

    def close(self) -> None:
        """Stops the workers after their current batches; queued jobs fail with `Closed`."""
        if self._closed:
            return
        self._closed = True
        with self._ready:
            self._ready.notify_all()
        for job in list(self._jobs):
            if job.waiting:
                done = job.done
                job.error = Closed()
                job.cancel()
                if done is not None:
                    done(job)

    def join(self, seconds: float) -> bool:
        """Waits for the workers of a closed engine; returns True if all have stopped in time."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    # ------------------------------------------------------------------ in the worker

    def _work(self, run: Run) -> None:
        while True:
            pieces, is_alone = self._take()
            if not pieces:
                return
            # One sample only: a full batch in one more session would need its memory as well.
            is_single = is_alone and pieces[0][0].count == len(pieces) == 1
            outcome = self._run_batch((is_single and self._wide) or run, pieces)
            try:
                self._loop.call_soon_threadsafe(self._deliver, *outcome)
            except RuntimeError:  # the loop is closed
                return
            del pieces, outcome

    def _run_batch(
        self,
        run: Run,
        pieces: list[Piece],
    ) -> tuple[list[SampleJob], int, float]:
        """Runs a batch; returns the jobs that it completes, its samples and its seconds."""
        start = time.perf_counter()
        completed: list[SampleJob] = []
        count = sum(last - first for _, first, last in pieces)
        try:
            outputs = run(self._feeds(pieces, count))
            row = 0
            for job, first, last in pieces:
                end = row + last - first
                rows = [output[row:end] for output in outputs]
                row = end
                if last - first < job.count and (rows := self._join(job, first, rows)) is None:
                    continue  # another worker still has a piece of this job
                completed.append(job)
                try:
                    job.result = rows if job.encode is None else job.encode(job, rows)
                except Exception as error:
                    job.error = error
        except Exception as error:
            completed = [job for job, _, _ in pieces]
            for job in completed:
                job.error = Failed(str(error))
        return completed, count, time.perf_counter() - start

    def _take(self) -> tuple[list[Piece], bool]:
        """Waits for jobs and takes a batch of them; takes nothing once the engine is closed.

        Returns:
            The pieces of jobs, and True if nothing else runs or waits.
        """
        pieces: list[Piece] = []
        count = 0
        queued = self._deque
        with self._ready:
            while True:
                limit = self.max_batch
                if self._sample_seconds > QUICK:
                    # A large batch of a slow model saves no time, and all of its requests wait
                    # for the whole batch. So each worker takes its share of the queue.
                    limit = min(limit, -(-self.waiting // len(self._threads)))
                while queued:
                    job, first, last = queued[0]
                    if not job.remaining:  # cancelled
                        queued.popleft()
                        continue
                    if pieces and (
                        count + last - first > limit
                        or pieces[-1][0] is job  # another worker takes a job's second piece
                        or pieces[-1][0].sizes != job.sizes
                    ):
                        return pieces, False
                    pieces.append(queued.popleft())
                    count += last - first
                    job.waiting -= last - first
                    self.waiting -= last - first
                if pieces or self._closed:
                    return pieces, self._idle == len(self._threads) - 1
                self._idle += 1
                self._ready.wait()
                self._idle -= 1

    def _join(self, job: SampleJob, first: int, rows: list[np.ndarray]) -> list[np.ndarray] | None:
        """Stores a piece of a divided job; returns all outputs once the last piece is stored."""
        with self._ready:
            if job.outputs is None:
                job.outputs = [np.empty((job.count, *x.shape[1:]), x.dtype) for x in rows]
            for output, piece in zip(job.outputs, rows, strict=True):
                output[first : first + len(piece)] = piece
            if not job.remaining:
                return None
            job.remaining -= len(rows[0])
            return None if job.remaining else job.outputs

    def _deliver(self, jobs: list[SampleJob], count: int, seconds: float) -> None:
        if count:
            each = seconds / count
            self.seconds = 0.9 * self.seconds + 0.1 * each if self.seconds else each
            if self._observe is not None:
                self._observe(count, seconds)
        for job in jobs:
            if job not in self._jobs:
                continue  # cancelled during the run
            self._jobs.discard(job)
            job.remaining = 0
            done = job.done
            if done is not None:
                job.done = None
                done(job)
