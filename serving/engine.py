"""Runs a generator for many clients at once.

Each worker is a thread with an onnxruntime session of its own, of one thread: two of them do more
than one session of two threads, which waits for its slower half. A worker takes what is queued the
moment it is idle, so that a batch is what came in while the last one ran, and no request waits for
company; of a slow model, for which a batch saves nothing, it takes its share of that. A job that
finds several workers idle is divided among them. Everything that a sample costs besides is done
there too, for the whole batch: seeds become latents before the run, and samples become answers
after it. The event loop hears of a batch once. A sample that nobody else waits behind is made in
the loop's own thread if model and answer are quick, and by all CPUs if the model is not.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from serving.seeds import draw

QUICK = 0.002  # seconds that the event loop may be kept by a lone client's batch
LIGHT = 2**14  # numbers of an answer that takes no time beside that
# Pairs of words: a ufunc of more than 500 numbers lets go of the interpreter and waits to have it
# back.
_HELD = 480


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
        "alone",
        "count",
        "deadline",
        "done",
        "encode",
        "engine",
        "error",
        "facts",
        "labels",
        "latents",
        "left",
        "light",
        "result",
        "rows",
        "seeds",
        "truncation",
        "waiting",
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
        self.light = False  # whether `encode` takes no time beside a quick model's
        self.alone = False  # whether no other client is known to ask
        self.result: Any = None
        self.error: BaseException | None = None
        self.waiting = 0  # samples of it that no worker has taken
        self.left = 0  # samples of it that are not made; 0 also when nobody wants them any more
        self.rows: np.ndarray | None = None  # where its pieces meet

    def cancel(self) -> None:
        """Frees the job's place; nobody is told."""
        self.done = None
        if self.engine is not None:
            self.engine.forget(self)


def even(count: int, limit: int) -> int:
    """The size of batches, at most a limit, that divide a count as evenly as can be."""
    return -(-count // -(-count // limit))


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
        one: seconds that one sample takes in a worker alone; infinity where that is not known.
        wide: a session of several threads, for a sample while nothing else runs or waits.
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
        one: float = math.inf,
        wide: Callable[[dict[str, np.ndarray]], np.ndarray] | None = None,
    ):
        self.max_batch = max_batch
        self.queue = queue
        self.waiting = 0  # samples in the queue
        self.seconds = 0.0  # that a sample takes, averaged
        self._latent_dim = latent_dim
        self._num_classes = num_classes
        self._loop = loop
        self._sessions = sessions
        self._one = one
        self._wide = wide
        self._observe = observe
        self._jobs: set[Job] = set()  # queued or running
        self._deque: deque[tuple[Job, int, int]] = deque()  # pieces: a job's rows
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

        A quick and light job of a lone client is done before this returns, if no worker is at
        anything.

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
        job.engine, job.done = self, done
        job.waiting = job.left = job.count
        self._jobs.add(job)
        is_quick = job.count * self._one < QUICK
        if job.alone and job.light and is_quick and self._is_idle:
            job.waiting = job.left = 0
            self._deliver(*self._make(self._sessions[0], [(job, 0, job.count)]))
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
    def _is_idle(self) -> bool:
        # A worker that was woken counts as idle until it has taken what woke it.
        return not self._deque and self._idle == len(self._threads)

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
                self.waiting -= job.waiting
                job.waiting = job.left = 0

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
            if job.waiting:
                done = job.done
                job.error = Closed()
                job.cancel()
                if done is not None:
                    done(job)

    def join(self, seconds: float) -> bool:
        """Waits for the workers of a closed engine; gives whether all have ended."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    # ------------------------------------------------------------------ in the worker

    def _work(self, run: Callable[[dict[str, np.ndarray]], np.ndarray]) -> None:
        while True:
            pieces, alone = self._take()
            if not pieces:
                return
            # Of one sample: memory for a full batch is what the others have already.
            is_one = alone and pieces[0][0].count == len(pieces) == 1
            made = self._make((is_one and self._wide) or run, pieces)
            try:
                self._loop.call_soon_threadsafe(self._deliver, *made)
            except RuntimeError:  # the loop is closed: there is nobody left to tell
                return
            del pieces, made

    def _make(
        self,
        run: Callable[[dict[str, np.ndarray]], np.ndarray],
        pieces: list[tuple[Job, int, int]],
    ) -> tuple[list[Job], int, float]:
        """Makes a batch; gives the jobs that it ends, its samples and the seconds it took."""
        start = time.perf_counter()
        over: list[Job] = []
        count = sum(last - first for _, first, last in pieces)
        try:
            samples = run(self._feeds(pieces, count))
            row = 0
            for job, first, last in pieces:
                rows = samples[row : row + last - first]
                row += last - first
                if last - first < job.count and (rows := self._join(job, first, rows)) is None:
                    continue  # another worker has the rest
                over.append(job)
                try:
                    job.result = rows if job.encode is None else job.encode(job, rows)
                except Exception as error:
                    job.error = error
        except Exception as error:
            over = [job for job, _, _ in pieces]
            for job in over:
                job.error = Failed(str(error))
        return over, count, time.perf_counter() - start

    def _take(self) -> tuple[list[tuple[Job, int, int]], bool]:
        """Waits for jobs and takes what fits a batch; nothing once the engine is closed.

        Tells besides whether nothing else runs or waits.
        """
        pieces: list[tuple[Job, int, int]] = []
        count = 0
        queued = self._deque
        with self._ready:
            while True:
                limit = self.max_batch
                if self._one > QUICK:
                    # Of a slow model a large batch saves nothing, and who rides in it waits for
                    # all of it: each worker gets its share of those who wait.
                    limit = min(limit, -(-self.waiting // len(self._threads)))
                while queued:
                    job, first, last = queued[0]
                    if not job.left:  # forgotten
                        queued.popleft()
                        continue
                    if pieces and (count + last - first > limit or pieces[-1][0] is job):
                        return pieces, False  # a second piece of a job is for another worker
                    pieces.append(queued.popleft())
                    count += last - first
                    job.waiting -= last - first
                    self.waiting -= last - first
                if pieces or self._closed:
                    return pieces, self._idle == len(self._threads) - 1
                self._idle += 1
                self._ready.wait()
                self._idle -= 1

    def _join(self, job: Job, first: int, rows: np.ndarray) -> np.ndarray | None:
        """Puts a piece of a job to the others; gives them all when it is the last."""
        with self._ready:
            if job.rows is None:
                job.rows = np.empty((job.count, *rows.shape[1:]), rows.dtype)
            job.rows[first : first + len(rows)] = rows
            if not job.left:
                return None
            job.left -= len(rows)
            return None if job.left else job.rows

    def _feeds(self, pieces: list[tuple[Job, int, int]], count: int) -> dict[str, np.ndarray]:
        latents = np.empty((count, self._latent_dim), np.float32)
        labels = np.empty(count, np.int64) if self._num_classes else None
        seeded: list[np.ndarray] = []
        row = 0
        for job, first, last in pieces:
            end = row + last - first
            if job.latents is not None:
                latents[row:end] = job.latents[first:last]
            else:
                seeded.append(job.seeds[first:last])  # type: ignore[index]
            if labels is not None:
                own = job.labels
                labels[row:end] = seeded[-1] % self._num_classes if own is None else own[first:last]
            row = end
        if seeded:
            self._draw(pieces, seeded, latents)
        return {"latents": latents} if labels is None else {"latents": latents, "labels": labels}

    def _draw(
        self, pieces: list[tuple[Job, int, int]], seeded: list[np.ndarray], latents: np.ndarray
    ) -> None:
        """Makes the latents of many seeds at once: it takes as long as those of one."""
        seeds = seeded[0] if len(seeded) == 1 else np.concatenate(seeded)
        step = max(1, _HELD // ((self._latent_dim + 1) // 2))
        drawn = draw(seeds[:step], self._latent_dim)
        if len(seeds) > step:
            more = range(step, len(seeds), step)
            rest = [draw(seeds[i : i + step], self._latent_dim) for i in more]
            drawn = np.concatenate([drawn, *rest])
        row = start = 0
        for job, first, last in pieces:
            size = last - first
            if job.latents is None:
                part = drawn[start : start + size]
                start += size
                latents[row : row + size] = (
                    part if job.truncation == 1 else part * np.float32(job.truncation)
                )
            row += size

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
            job.left = 0
            done = job.done
            if done is not None:
                job.done = None
                done(job)
