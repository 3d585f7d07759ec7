"""The engine: batches, their order, deadlines and cancellation."""

import asyncio
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from servers import comes

from serving import feeds, loading, repository
from serving.engine import Closed, Engine, Expired, Failed, Full, SampleJob, even
from serving.feeds import PlainFeeds
from serving.generate import batches
from serving.limits import Settings
from serving.seeds import latents_from_seeds, normals


class Model:
    """Returns the sum of latents and label of each sample, once `go` is set."""

    def __init__(self):
        self.go = threading.Event()
        self.go.set()
        self.sizes = []
        self.began = threading.Event()

    def __call__(self, feeds):
        self.began.set()
        assert self.go.wait(10)
        self.sizes.append(len(feeds["latents"]))
        total = feeds["latents"].sum(axis=1)
        return [total + feeds["labels"] if "labels" in feeds else total]


def new_job(*args, encode=lambda job, outputs: outputs[0], **options):
    """Returns a job whose result is the first output."""
    return SampleJob(*args, encode=encode, **options)


def plain(dim, classes=0):
    return PlainFeeds("latents", dim, "labels", classes)


async def idle(engine, count):
    """Waits until that many workers are idle."""
    while engine._idle < count:
        await asyncio.sleep(0.001)


def seeds(*values):
    return np.array(values, np.int64)


def value(seed, label=0, truncation=1.0, dim=4):
    return (latents_from_seeds([seed], dim) * np.float32(truncation)).sum() + label


def run(test, workers=1, classes=0, **options):
    """Runs a coroutine function with an engine and its model."""

    async def main():
        model = Model()
        loop = asyncio.get_running_loop()
        engine = Engine([model] * workers, plain(4, classes), loop, **options)
        try:
            return await asyncio.wait_for(test(engine, model), 20)
        finally:
            model.go.set()
            engine.close()

    return asyncio.run(main())


async def hold(engine, model):
    """Occupies a worker."""
    model.go.clear()
    model.began.clear()
    task = asyncio.ensure_future(engine.run(new_job(1, seeds(0))))
    while not model.began.is_set():
        await asyncio.sleep(0.001)
    return task


def test_jobs_that_arrive_during_a_batch_form_the_next_batch():
    async def test(engine, model):
        first = await hold(engine, model)
        others = [asyncio.ensure_future(engine.run(new_job(1, seeds(i)))) for i in range(1, 7)]
        await asyncio.sleep(0.01)
        assert (engine.waiting, engine.pending) == (6, 7)
        model.go.set()
        await asyncio.gather(first, *others)
        assert model.sizes == [1, 4, 2]
        assert (engine.waiting, engine.pending) == (0, 0)

    run(test, max_batch=4)


def test_jobs_are_neither_split_nor_reordered():
    async def test(engine, model):
        first = await hold(engine, model)
        sizes = (3, 2, 4, 1, 1)
        done = []

        async def one(i, n):
            await engine.run(new_job(n, seeds(*range(n))))
            done.append(i)

        tasks = [asyncio.ensure_future(one(i, n)) for i, n in enumerate(sizes)]
        await asyncio.sleep(0.01)
        model.go.set()
        await asyncio.gather(first, *tasks)
        assert model.sizes == [1, 3, 2, 4, 2]
        assert done == [0, 1, 2, 3, 4]

    run(test, max_batch=4)


def test_an_idle_worker_takes_a_job_immediately():
    async def test(engine, model):
        start = time.monotonic()
        for _ in range(20):
            await engine.run(new_job(1, seeds(5)))
        assert time.monotonic() - start < 1
        assert model.sizes == [1] * 20

    run(test)


def test_a_single_client_is_answered_in_the_loop_if_that_is_quick_and_all_workers_are_idle():
    threads, observed = [], []

    async def test(engine, model):
        loop = asyncio.get_running_loop()

        def encode(job, outputs):
            threads.append(threading.current_thread() is threading.main_thread())
            return outputs[0]

        async def ask(alone=True, light=True, count=1, others=0):
            job = new_job(count, seeds(*range(5, 5 + count)), truncation=0.5, encode=encode)
            job.is_alone, job.is_light = alone, light
            done = loop.create_future()
            engine.submit(job, done.set_result)
            here = done.done()
            assert (await done).result[0] == pytest.approx(value(5, truncation=0.5))
            assert here == threads[-1]
            assert engine.pending <= others
            assert engine.waiting == 0
            return here

        await idle(engine, 2)
        assert await ask()
        assert await ask()
        assert not await ask(alone=False)
        await idle(engine, 2)
        assert not await ask(light=False)  # encoding may take long
        await idle(engine, 2)
        assert not await ask(count=6)  # would block the loop for too long
        await idle(engine, 2)
        held = await hold(engine, model)
        later = asyncio.ensure_future(ask(others=1))  # of two workers, either may be the first
        await asyncio.sleep(0.02)
        assert not later.done()  # it waits for a worker, not in the loop
        model.go.set()
        await held
        assert not await later

    run(
        test,
        workers=2,
        sample_seconds=0.0004,
        observe=lambda count, seconds: observed.append(count),
    )
    assert sorted(observed) == [1, 1, 1, 1, 1, 1, 3, 3]  # the long one was divided


def test_a_slow_or_unmeasured_model_never_runs_in_the_loop():
    async def test(engine, model):
        await idle(engine, 1)
        engine.seconds = 0.0001  # whatever the last batches took
        job = new_job(1, seeds(5))
        job.is_alone = job.is_light = True
        done = asyncio.get_running_loop().create_future()
        engine.submit(job, done.set_result)
        assert not done.done()
        await done

    run(test)
    run(test, sample_seconds=0.003)


@pytest.mark.parametrize("dim", [5, 300])
def test_latents_of_a_full_batch_are_drawn_in_parts_with_identical_bits(dim, monkeypatch):
    parts = []

    def spy(seeds, latent_dim, stream):
        parts.append(len(seeds) * -(-latent_dim // 2))
        return normals(seeds, latent_dim, stream)

    async def test():
        model = Model()
        model.go.clear()
        loop = asyncio.get_running_loop()
        engine = Engine([model], plain(dim), loop, max_batch=400, queue=500, sample_seconds=0.0001)
        try:
            held = await hold(engine, model)
            jobs = [
                new_job(1, seeds(i), encode=lambda job, outputs: outputs[0]) for i in range(400)
            ]
            found = [asyncio.ensure_future(engine.run(job)) for job in jobs]
            await asyncio.sleep(0.01)
            model.go.set()
            await held
            for number, rows in enumerate(await asyncio.gather(*found)):
                assert rows[0] == value(number, dim=dim)
            assert model.sizes == [1, 400]
        finally:
            model.go.set()
            engine.close()

    monkeypatch.setattr(feeds, "normals", spy)
    asyncio.run(test())
    assert max(parts) <= 500
    assert sum(parts) == 401 * -(-dim // 2)


def test_a_single_sample_uses_all_cpus_and_concurrent_ones_a_worker_each():
    wide = Model()

    async def test(engine, model):
        await idle(engine, 2)
        assert await engine.run(new_job(1, seeds(3))) == value(3)
        assert (wide.sizes, model.sizes) == ([1], [])
        await idle(engine, 2)
        wide.go.clear()
        wide.began.clear()
        first = asyncio.ensure_future(engine.run(new_job(1, seeds(4))))
        while not wide.began.is_set():
            await asyncio.sleep(0.001)
        assert await engine.run(new_job(1, seeds(5))) == value(5)  # at the same time
        assert (wide.sizes, model.sizes) == ([1], [1])
        wide.go.set()
        assert await first == value(4)
        await idle(engine, 2)

    run(test, workers=2, wide=wide)


def test_workers_share_the_queue_of_a_slow_model():
    async def test(engine, model):
        await idle(engine, 2)
        model.go.clear()
        held = []
        for left in (1, 0):
            held.append(asyncio.ensure_future(engine.run(new_job(1, seeds(0)))))
            while engine._idle > left:
                await asyncio.sleep(0.001)
        rest = [asyncio.ensure_future(engine.run(new_job(1, seeds(i)))) for i in range(6)]
        await asyncio.sleep(0)
        model.go.set()
        await asyncio.gather(*held, *rest)
        return sorted(model.sizes)

    assert run(test, workers=2, sample_seconds=0.0001) == [1, 1, 6]
    # A half of six, a half of three, the last.
    assert run(test, workers=2, sample_seconds=0.1) == [1, 1, 1, 2, 3]


def test_two_workers_run_at_the_same_time():
    async def test(engine, model):
        tasks = [await hold(engine, model), await hold(engine, model)]
        assert engine.waiting == 0
        model.go.set()
        await asyncio.gather(*tasks)

    run(test, workers=2)


def test_a_job_is_divided_among_idle_workers():
    async def test(engine, model):
        await idle(engine, 3)
        found = await engine.run(new_job(7, seeds(*range(7))))
        np.testing.assert_allclose(found, [value(i) for i in range(7)], atol=1e-5)
        assert sorted(model.sizes) == [2, 2, 3]
        await idle(engine, 3)
        await hold(engine, model)
        await hold(engine, model)  # one worker is idle: the job is not divided
        model.sizes.clear()
        last = asyncio.ensure_future(engine.run(new_job(4, seeds(1, 2, 3, 4))))
        await asyncio.sleep(0.02)
        model.go.set()
        await last
        await idle(engine, 3)  # the held ones too
        assert sorted(model.sizes) == [1, 1, 4]

    run(test, workers=3)


def test_a_divided_job_that_is_cancelled_or_fails_is_reported_once():
    async def test(engine, model):
        await idle(engine, 2)
        model.go.clear()
        gone = asyncio.ensure_future(engine.run(new_job(4, seeds(1, 2, 3, 4))))
        await asyncio.sleep(0.02)
        gone.cancel()
        await asyncio.sleep(0.02)
        assert (engine.waiting, engine.pending) == (0, 0)
        model.go.set()
        assert await engine.run(new_job(1, seeds(1))) == pytest.approx([value(1)])
        await idle(engine, 2)
        model.go.wait = lambda seconds: 1 / 0
        with pytest.raises(Failed):
            await engine.run(new_job(4, seeds(1, 2, 3, 4)))
        await asyncio.sleep(0.02)
        del model.go.wait
        assert len(await engine.run(new_job(4, seeds(1, 2, 3, 4)))) == 4

    run(test, workers=2)


def test_even_batches():
    sizes = [even(count, 16) for count in (1, 16, 17, 32, 33, 90, 1000)]
    assert sizes == [1, 16, 9, 16, 11, 15, 16]


def test_samples_do_not_depend_on_the_rest_of_the_batch():
    rng = np.random.default_rng(0)

    async def test(engine, model):
        async def one():
            n = int(rng.integers(1, 5))
            own = rng.integers(0, 2**40, n)
            labels = rng.integers(0, 3, n) if rng.random() < 0.5 else None
            factor = float(rng.choice([1.0, 0.5]))
            if rng.random() < 0.3:
                latents = rng.normal(size=(n, 4)).astype("float32")
                labels = rng.integers(0, 3, n)
                expected = latents.sum(axis=1) + labels
                job = new_job(n, None, {"latents": latents}, labels)
            else:
                own_labels = own % 3 if labels is None else labels
                expected = [value(s, y, factor) for s, y in zip(own, own_labels, strict=True)]
                job = new_job(n, own, {}, labels, factor)
            np.testing.assert_allclose(await engine.run(job), expected, atol=1e-5)

        await asyncio.gather(*(one() for _ in range(200)))
        assert max(model.sizes) == 8
        assert sum(model.sizes) > 200

    run(test, workers=2, classes=3, max_batch=8)


def test_a_full_queue_refuses_immediately_and_estimates_the_delay():
    async def test(engine, model):
        first = await hold(engine, model)
        waiting = [asyncio.ensure_future(engine.run(new_job(2, seeds(1, 2)))) for _ in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(Full) as caught:
            await engine.run(new_job(1, seeds(3)))
        assert caught.value.engine is engine
        engine.seconds = 0.8
        assert engine.retry_after() == 4  # 4 samples of 0.8 s, rounded up
        part = asyncio.ensure_future(engine.run(new_job(1, seeds(3)), part=True))
        await asyncio.sleep(0.01)
        assert engine.waiting == 5
        model.go.set()
        await asyncio.gather(first, part, *waiting)
        assert await engine.run(new_job(8, seeds(*range(8)))) is not None  # nothing waits: taken

    run(test, queue=4)


def test_a_cancelled_job_frees_its_place():
    async def test(engine, model):
        first = await hold(engine, model)
        gone = asyncio.ensure_future(engine.run(new_job(4, seeds(1, 2, 3, 4))))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        assert (engine.waiting, engine.pending) == (0, 1)
        stays = asyncio.ensure_future(engine.run(new_job(1, seeds(9))))
        await asyncio.sleep(0.01)
        model.go.set()
        assert await stays == pytest.approx([value(9)])
        await first
        assert model.sizes == [1, 1]

    run(test, queue=4)


def test_deadlines():
    async def test(engine, model):
        first = await hold(engine, model)
        now = time.monotonic()
        late = asyncio.ensure_future(engine.run(new_job(1, seeds(1), deadline=now + 5)))
        in_time = asyncio.ensure_future(engine.run(new_job(1, seeds(2), deadline=now + 500)))
        await asyncio.sleep(0.01)
        engine.expire(now + 4)
        assert engine.pending == 3
        engine.expire(now + 6)
        with pytest.raises(Expired):
            await late
        assert (engine.waiting, engine.pending) == (1, 2)
        model.go.set()
        await asyncio.gather(first, in_time)
        assert model.sizes == [1, 1]

    run(test)


def test_a_deadline_applies_to_running_jobs():
    async def test(engine, model):
        first = await hold(engine, model)
        (job,) = engine._jobs
        job.deadline = 0.0
        engine.expire(1.0)
        with pytest.raises(Expired):
            await first
        model.go.set()
        assert await engine.run(new_job(1, seeds(1))) == pytest.approx([value(1)])

    run(test)


def test_a_failing_model_fails_its_batch_only():
    async def test(engine, model):
        model.go.wait = lambda seconds: 1 / 0
        with pytest.raises(Failed, match="division by zero"):
            await engine.run(new_job(1, seeds(1)))
        del model.go.wait
        assert await engine.run(new_job(1, seeds(1))) == pytest.approx([value(1)])

    run(test)


def test_a_failing_encoder_fails_its_job_only():
    async def test(engine, model):
        first = await hold(engine, model)
        bad = new_job(1, seeds(1), encode=lambda job, rows: 1 / 0)
        good = new_job(1, seeds(2), encode=lambda job, outputs: float(outputs[0][0]))
        tasks = [asyncio.ensure_future(engine.run(job)) for job in (bad, good)]
        await asyncio.sleep(0.01)
        model.go.set()
        with pytest.raises(ZeroDivisionError):
            await tasks[0]
        assert await tasks[1] == pytest.approx(value(2))
        await first
        assert model.sizes == [1, 2]

    run(test)


def test_close_completes_running_jobs_and_refuses_the_rest():
    async def test(engine, model):
        first = await hold(engine, model)
        queued = asyncio.ensure_future(engine.run(new_job(1, seeds(1))))
        await asyncio.sleep(0.01)
        engine.close()
        with pytest.raises(Closed):
            await queued
        with pytest.raises(Closed):
            await engine.run(new_job(1, seeds(1)))
        model.go.set()
        assert await first == pytest.approx([value(0)])
        for thread in engine._threads:
            thread.join(5)
            assert not thread.is_alive()

    run(test)


def test_batches_are_observed():
    observed = []

    async def test(engine, model):
        await engine.run(new_job(3, seeds(1, 2, 3)))

    run(test, observe=lambda count, seconds: observed.append((count, seconds)))
    ((count, seconds),) = observed
    assert count == 3
    assert 0 < seconds < 5


def test_join_waits_for_running_batches():
    async def test(engine, model):
        first = await hold(engine, model)
        engine.close()
        assert not engine.join(0.05)
        model.go.set()
        assert engine.join(5)
        await first

    run(test)


def test_a_full_queue_holds_one_part_of_a_long_request():
    async def test(engine, model):
        first = await hold(engine, model)
        others = [asyncio.ensure_future(engine.run(new_job(1, seeds(i)))) for i in range(2)]
        await asyncio.sleep(0.01)
        request = SimpleNamespace(
            count=8,
            stream=False,
            served=SimpleNamespace(engine=engine, users=0),
            job=lambda first, last, encode: new_job(last - first, seeds(*range(first, last))),
        )
        app = SimpleNamespace(settings=SimpleNamespace(workers=4))
        # The queue has room for the first job of the request only.
        engine.queue = 3
        parts = batches.run_batches(app, request, None)
        taken = asyncio.ensure_future(anext(parts))
        await asyncio.sleep(0.01)
        assert engine.waiting == 3
        model.go.set()
        await asyncio.gather(first, *others)
        count = len(await taken)
        async for part in parts:
            count += len(part)
        assert count == 8

    run(test, queue=2, max_batch=1)


@pytest.mark.parametrize(
    ("times", "has_wide"),
    [((0.01, 0.004), True), ((0.01, 0.02), False), ((0.001,), False)],
    ids=["faster", "slower", "quick"],
)
def test_a_slow_model_gets_a_session_on_all_cpus_if_that_is_faster(
    times, has_wide, tmp_path, monkeypatch
):
    bundle = tiny.clothes(tmp_path / "clothes")
    left = list(times)
    monkeypatch.setattr(loading, "measure", lambda run, bundle: left.pop(0))
    monkeypatch.setattr(loading, "cpus", lambda: 2)

    async def main():
        found = repository.Repository(Settings(paths=(str(bundle),), workers=2))
        ready = asyncio.Event()
        found.start(asyncio.get_running_loop(), ready.set)
        await comes(ready)
        try:
            (served,) = found.newest.values()
            engine = served.engine
            assert (engine._sample_seconds, left) == (times[0], [])
            assert (engine._wide is not None) == has_wide
            feeds = {"latents": np.ones((1, served.bundle.latent_dim), np.float32)}
            feeds["labels"] = np.ones(1, np.int64)
            (expected,) = engine._sessions[0](feeds)
            if has_wide:
                np.testing.assert_allclose(engine._wide(feeds)[0], expected, atol=1e-5)
        finally:
            found.close()

    asyncio.run(main())


def test_a_replaced_engine_still_takes_requests_that_have_found_it(tmp_path):
    async def test(engine, model):
        found = repository.Repository(Settings(paths=(str(tiny.points(tmp_path / "points")),)))
        found._loop = asyncio.get_running_loop()
        old = type("Old", (), {"engine": engine, "busy": False})()
        found._release(old)
        assert await engine.run(new_job(1, seeds(1))) is not None
        assert old in found.ending
        while found.ending:
            await asyncio.sleep(0.01)
        with pytest.raises(Closed):
            await engine.run(new_job(1, seeds(1)))

    run(test)
