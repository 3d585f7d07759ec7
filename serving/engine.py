"""Runs a generator for many clients at once.

Each worker is a thread with an onnxruntime session of its own, of one thread: two of them do more
than one session of two threads, which waits for its slower half. A worker takes what is queued the
moment it is idle, so that a batch is what came in while the last one ran, and no request waits for
company. Everything that a sample costs besides is done there too, for the whole batch: seeds become
latents before the run, and samples become answers after it. The event loop hears of a batch once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from serving.latents import labels_from_seeds, latents_from_seeds


class Full(Exception):
    """The queue has no place for more."""

    def __init__(self, engine: Engine):
        super().__init__()
        self.engine = engine


class Failed(Exception):
    """The model could not be run."""


class Expired(Exception):
    """The deadline has passed before there was an answer."""


class Closed(Exception):
    """The engine has been closed."""


class Job:
    """Samples that ride in one batch, and what becomes of them.

    Args:
        count: number of samples, at most the engine's `max_batch`.
        seeds: int64 array of shape `(count,)`, or `None` where latents are given.
        latents: float32 array of shape `(count, latent_dim)`, or `None` for those of the seeds.
        labels: int64 array of shape `(count,)`; `None` for the seeds' own, or where there are none.
        truncation: factor on the latents.
        encode: turns the job and its samples `(count, ...)` into the answer, in the worker.
        deadline: on the clock of `time.monotonic`; infinity for none.
    """

    __slots__ = (
        "count",
        "deadline",
        "done",
        "encode",
        "engine",
        "error",
        "facts",
        "labels",
        "latents",
        "result",
        "seeds",
        "state",
        "truncation",
    )

    def __init__(
        self,
        count: int,
        seeds: np.ndarray | None = None,
        latents: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        truncation: float = 1.0,
        encode: Callable[[Job, np.ndarray], Any] | None = None,
        deadline: float = float("inf"),
    ):
        self.count = count
        self.seeds = seeds
        self.latents = latents
        self.labels = labels
        self.truncation = truncation
        self.encode = encode
        self.deadline = deadline
        self.done: Callable[[Job], None] | None = None
        self.engine: Engine | None = None
        self.facts: Any = None  # the protocol's own
        self.result: Any = None
        self.error: BaseException | None = None
        self.state = NEW

    def cancel(self) -> None:
        """Frees the job's place; nobody is told."""
        self.done = None
        if self.engine is not None:
            self.engine.forget(self)


NEW, QUEUED, RUNNING, OVER = range(4)


class Engine:
    """Answers jobs by the batch.

    All but the workers' own part is called in the thread of the event loop.

    Args:
        sessions: one callable for each worker, from feeds to samples.
        latent_dim: length of a latent vector.
        num_classes: number of classes, 0 without labels.
        loop: the event loop that is told of answers.
        max_batch: most samples in a batch.
        queue: most samples that wait for a worker.
        observe: called in the loop for each batch, with its samples and seconds.
    """

    def __init__(
        self,
        sessions: list[Callable[[dict[str, np.ndarray]], np.ndarray]],
        latent_dim: int,
        num_classes: int,
        loop: asyncio.AbstractEventLoop,
        *,
        max_batch: int = 16,
        queue: int = 512,
        observe: Callable[[int, float], None] | None = None,
    ):
        self.max_batch = max_batch
        self.queue = queue
        self.waiting = 0  # samples in the queue
        self.seconds = 0.0  # that a sample takes, averaged
        self._latent_dim = latent_dim
        self._num_classes = num_classes
        self._loop = loop
        self._observe = observe
        self._jobs: set[Job] = set()  # queued or running
        self._deque: deque[Job] = deque()
        self._ready = threading.Condition(threading.Lock())
        self._idle = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(run,), name=f"engine-{i}", daemon=True)
            for i, run in enumerate(sessions)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, done: Callable[[Job], None], *, part: bool = False) -> None:
        """Queues a job; `done` is called in the loop once it has a result or an error.

        Args:
            job: the job.
            done: called with the job, unless it is cancelled.
            part: of a request whose first part was taken; has its place already.

        Raises:
            Full: the queue has no place.
            Closed: the engine is closed.
        """
        if self._closed:
            raise Closed
        # What an idle worker takes at once is not waiting.
        if not part and self.waiting and self.waiting + job.count > self.queue:
            raise Full(self)
        job.engine, job.done, job.state = self, done, QUEUED
        self._jobs.add(job)
        with self._ready:
            self.waiting += job.count
            self._deque.append(job)
            if self._idle:
                self._ready.notify()

    async def run(self, job: Job, *, part: bool = False) -> Any:
        """Queues a job and waits for its result."""
        future = self._loop.create_future()

        def done(job: Job) -> None:
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

    def forget(self, job: Job) -> None:
        """Takes a job out, whatever has become of it; a worker may still be at its samples."""
        if job in self._jobs:
            self._jobs.discard(job)
            with self._ready:
                if job.state == QUEUED:
                    self.waiting -= job.count
                job.state = OVER

    def expire(self, now: float) -> None:
        """Ends the jobs whose deadline has passed."""
        late = [job for job in self._jobs if job.deadline <= now]
        for job in late:
            done = job.done
            job.error = Expired()
            job.cancel()
            if done is not None:
                done(job)

    @property
    def pending(self) -> int:
        """Jobs that have no answer yet."""
        return len(self._jobs)

    def retry_after(self) -> int:
        """Seconds until the queue of now is worked off, rounded up."""
        return max(1, round(self.waiting * self.seconds / len(self._threads) + 0.5))

    def close(self) -> None:
        """Ends the workers, after what they are at; what is queued gets `Closed`."""
        if self._closed:
            return
        self._closed = True
        with self._ready:
            self._ready.notify_all()
        for job in list(self._jobs):
            if job.state == QUEUED:
                done = job.done
                job.error = Closed()
                job.cancel()
                if done is not None:
                    done(job)

    # ------------------------------------------------------------------ in the worker

    def _work(self, run: Callable[[dict[str, np.ndarray]], np.ndarray]) -> None:
        while True:
            jobs = self._take()
            if not jobs:
                return
            start = time.perf_counter()
            count = 0
            try:
                feeds, count = self._feeds(jobs)
                samples = run(feeds)
                first = 0
                for job in jobs:
                    rows = samples[first : first + job.count]
                    first += job.count
                    try:
                        job.result = rows if job.encode is None else job.encode(job, rows)
                    except Exception as error:
                        job.error = error
            except Exception as error:
                for job in jobs:
                    job.error = Failed(str(error))
            seconds = time.perf_counter() - start
            try:
                self._loop.call_soon_threadsafe(self._deliver, jobs, count, seconds)
            except RuntimeError:  # the loop is closed: there is nobody left to tell
                return
            del jobs

    def _take(self) -> list[Job]:
        """Waits for jobs and takes what fits a batch; nothing once the engine is closed."""
        jobs: list[Job] = []
        count = 0
        queued = self._deque
        with self._ready:
            while True:
                while queued:
                    job = queued[0]
                    if job.state != QUEUED:
                        queued.popleft()
                        continue
                    if count + job.count > self.max_batch and jobs:
                        return jobs
                    queued.popleft()
                    job.state = RUNNING
                    self.waiting -= job.count
                    jobs.append(job)
                    count += job.count
                if jobs or self._closed:
                    return jobs
                self._idle += 1
                self._ready.wait()
                self._idle -= 1

    def _feeds(self, jobs: list[Job]) -> tuple[dict[str, np.ndarray], int]:
        count = sum(job.count for job in jobs)
        latents = np.empty((count, self._latent_dim), np.float32)
        labels = np.empty(count, np.int64) if self._num_classes else None
        seeded: list[np.ndarray] = []
        where: list[tuple[int, Job]] = []
        first = 0
        for job in jobs:
            if job.latents is None:
                seeded.append(job.seeds)  # type: ignore[arg-type]
                where.append((first, job))
            else:
                latents[first : first + job.count] = job.latents
            if labels is not None:
                own = job.labels
                own = labels_from_seeds(job.seeds, self._num_classes) if own is None else own
                labels[first : first + job.count] = own
            first += job.count
        if seeded:
            drawn = latents_from_seeds(
                seeded[0] if len(seeded) == 1 else np.concatenate(seeded), self._latent_dim
            )
            if len(drawn) == count:
                latents = drawn
            row = 0
            for first, job in where:
                part = drawn[row : row + job.count]
                row += job.count
                if latents is not drawn:
                    latents[first : first + job.count] = part
                if job.truncation != 1:
                    latents[first : first + job.count] *= np.float32(job.truncation)
        feeds = {"latents": latents}
        if labels is not None:
            feeds["labels"] = labels
        return feeds, count

    def _deliver(self, jobs: list[Job], count: int, seconds: float) -> None:
        if count:
            each = seconds / count
            self.seconds = 0.9 * self.seconds + 0.1 * each if self.seconds else each
            if self._observe is not None:
                self._observe(count, seconds)
        for job in jobs:
            if job not in self._jobs:
                continue  # cancelled while it ran
            self._jobs.discard(job)
            job.state = OVER
            done = job.done
            if done is not None:
                job.done = None
                done(job)
