"""Power-function averages: profiles by hand, reconstruction, snapshots, and the command."""

import io
import json
import re
import shutil

import keras
import numpy as np
import pytest

import serving
from keras_gan import UsageError, averages, post_hoc, recipe, train
from keras_gan import run as runs
from keras_gan.__main__ import main
from keras_gan.averages import Snapshot, SnapshotFolder, coefficients, exponent, inner_product
from keras_gan.commands.exporting import _measured
from keras_gan.metrics import evaluate

# ------------------------------------------------------------------------ profiles


def test_the_exponents_of_the_publication():
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)
    for deviation in (0.001, 0.02, 0.14, 0.279):
        g = exponent(deviation)
        assert (g + 1) ** 0.5 / (g + 2) / (g + 3) ** 0.5 == pytest.approx(deviation)


def profile(t, end, g):
    return np.where(t <= end, (g + 1) * (t / end) ** g / end, 0.0)


def test_the_inner_product_is_the_integral():
    # 2 t on [0, 1] and 3 t^2 / 8 on [0, 2]: the integral of 6 t^3 / 8 up to 1 is 6 / 32.
    assert inner_product(1.0, 1, 2.0, 2) == pytest.approx(6 / 32)
    assert inner_product(2.0, 2, 1.0, 1) == pytest.approx(6 / 32)
    t = (np.arange(200_000) + 0.5) / 200_000
    for a, b in (((1.0, 16.97), (1.0, 6.94)), ((0.5, 16.97), (0.8, 6.94)), ((0.7, 5), (0.7, 5))):
        sums = (profile(t, *a) * profile(t, *b)).mean()
        assert inner_product(*a, *b) == pytest.approx(sums, rel=1e-4)
        assert inner_product(*b, *a) == pytest.approx(inner_product(*a, *b))


def test_a_stored_profile_is_found_again_and_others_nearly():
    """A run has 8 to 16 snapshots."""
    for count, errors in (
        (16, {0.02: 0.12, 0.035: 0.021, 0.05: 0, 0.075: 0.0035, 0.1: 0, 0.14: 0.007}),
        (8, {0.02: 0.245, 0.035: 0.059, 0.05: 0, 0.075: 0.0125, 0.1: 0, 0.14: 0.026}),
    ):
        times = [t for t in range(1, count + 1) for _ in range(2)]
        exponents = [exponent(0.05), exponent(0.1)] * count
        factors, _ = coefficients(times, exponents, 0.1, count)
        assert factors[-1] == pytest.approx(1, abs=1e-3)
        for deviation, expected in errors.items():
            factors, error = coefficients(times, exponents, deviation, count)
            assert factors.sum() == pytest.approx(1)
            assert error == pytest.approx(expected, abs=6e-4), (count, deviation)


# ------------------------------------------------------------------------ reconstruction

BATCH, STEPS = 4, 3000


def trajectory():
    """Weights that decay, oscillate ever more slowly, and walk randomly."""
    k = np.arange(1, STEPS + 1)[:, None] / STEPS
    walk = np.random.default_rng(0).normal(size=(STEPS, 4)).cumsum(0) / STEPS**0.5
    return np.concatenate([np.exp(-5 * k), np.sin(9 * np.sqrt(k)), k**2, walk], axis=1)


def averaged(weights, deviation):
    """Returns the average after each step, by the recursion."""
    average, found = np.zeros(weights.shape[1]), []
    for k, now in enumerate(weights, 1):
        beta = (1 - BATCH / (k * BATCH)) ** (exponent(deviation) + 1)
        average = beta * average + (1 - beta) * now
        found.append(average)
    return np.array(found)


def test_a_deviation_that_was_not_stored_is_reconstructed():
    weights, stored = trajectory(), (0.05, 0.1)
    copies = [averaged(weights, deviation).astype("float32") for deviation in stored]

    def taken(k):
        return Snapshot(k * BATCH, stored, lambda: {"generator": [[c[k - 1]] for c in copies]})

    snapshots = [taken(k) for k in range(200, STEPS + 1, 200)]
    spread = weights.std(axis=0)
    for deviation, most in ((0.075, 0.01), (0.06, 0.01), (0.14, 0.02), (0.04, 0.05)):
        found, _ = averages.reconstruct(snapshots, deviation)
        directly = averaged(weights, deviation)[-1]
        assert (np.abs(found["generator"][0] - directly) / spread).max() < most, deviation
    # At an earlier time, and from the two copies of one time alone.
    found, _ = averages.reconstruct(snapshots, 0.075, end=2000 * BATCH)
    directly = averaged(weights, 0.075)[1999]
    assert (np.abs(found["generator"][0] - directly) / spread).max() < 0.01
    found, error = averages.reconstruct(snapshots[-1:], 0.075)
    assert 0.01 < error < 0.1
    directly = averaged(weights, 0.075)[-1]
    assert (np.abs(found["generator"][0] - directly) / spread).max() < 0.05


def test_variances_stay_positive_and_constants_constant():
    """A narrow profile is reached by differences of wide ones."""
    stored, times = (0.05, 0.1), range(200, STEPS + 1, 200)
    falls = STEPS * np.linspace(0.9, 0.999, 40)  # the steps at which 40 variances fall from 100
    k = np.arange(1, STEPS + 1)[:, None]
    weights = np.concatenate([np.where(k < falls, 100.0, 1e-3), np.full((STEPS, 1), -7.0)], axis=1)
    copies = [averaged(weights, deviation).astype("float32") for deviation in stored]

    def taken(k):
        parts = [[c[k - 1, :40], c[k - 1, 40:]] for c in copies]
        return Snapshot(k * BATCH, stored, lambda: {"generator": parts})

    found, error = averages.reconstruct([taken(k) for k in times], 0.01)
    assert error > 0.1  # the snapshots are too far apart for it
    variances, constant = found["generator"]
    assert (variances >= 0).all()
    assert constant == pytest.approx([-7.0], rel=1e-3)


def test_what_cannot_be_reconstructed_is_refused():
    snapshot = Snapshot(100, (0.05,), dict)
    rule = r"^`deviation` must be a number from 0.001 up and below 0.28. Received: deviation="
    for deviation in (0, 0.0009, 1e-200, 0.28, -1, float("nan"), "a"):
        with pytest.raises(UsageError, match=rule):
            averages.reconstruct([snapshot], deviation)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match=r"stored up to its end. Received: 1 snapshots, end=50"):
        averages.reconstruct([snapshot], 0.05, end=50)
    with pytest.raises(UsageError, match=r"Received: 0 snapshots"):
        averages.reconstruct([], 0.05)


# ------------------------------------------------------------------------ the game


def values(gan):
    return [array for copy in gan.power_averages.values()["generator"] for array in copy]


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_game_keeps_the_averages_of_the_recursion(make_gan, images, tmp_path, jit):
    """Batch statistics included; in a file, and resumed bit for bit."""
    gan = make_gan(average_deviations=[0.05, 0.1])
    gan.compile(*(keras.optimizers.Adam(1e-3) for _ in range(2)), jit_compile=jit)
    assert gan.get_config()["average_deviations"] == [0.05, 0.1]
    expected = None
    for step in range(1, 4):
        gan.fit(images.take(1), verbose=0)
        live = gan.generator.get_weights()
        expected = expected or [np.zeros_like(w) for _ in range(2) for w in live]
        betas = [(1 - 1 / step) ** (exponent(d) + 1) for d in (0.05, 0.1)]
        expected = [
            b * old + (1 - b) * new
            for b, old, new in zip(np.repeat(betas, len(live)), expected, live * 2, strict=True)
        ]
        for found, value in zip(values(gan), expected, strict=True):
            np.testing.assert_allclose(found, value, atol=1e-5)
    names = [w.path for w in gan.generator.weights]
    assert any("moving_variance" in name for name in names)

    gan.save(tmp_path / "game.keras")
    again = keras.saving.load_model(tmp_path / "game.keras")
    for each in (gan, again):
        each.fit(images, verbose=0)
    for a, b in zip(values(gan), values(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_training_is_the_same_with_further_averages(make_gan, images):
    games = [make_gan(), make_gan(average_deviations=[0.05])]
    assert len(games[1].weights) > len(games[0].weights)
    for gan in games:
        gan.fit(images, verbose=0)
    for name in ("generator", "discriminator", "average_generator"):
        pairs = zip(*(getattr(gan, name).get_weights() for gan in games), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs), name


def test_the_game_refuses_deviations(make_gan):
    for given, message in (
        ([0.3], r"from 0.001 up and below 0.28. Received: average_deviations=0.3$"),
        ([0.05, 0.05], r"each deviation once. Received: average_deviations=\[0.05, 0.05\]"),
        (0.05, r"must be a list of numbers. Received: average_deviations=0.05"),
        ("0.05", r"must be a list of numbers. Received: average_deviations='0.05'"),
    ):
        with pytest.raises(UsageError, match=message):
            make_gan(average_deviations=given)
    with pytest.raises(UsageError, match=r"needs a moving average.*, ema_half_life=0$"):
        make_gan(average_deviations=[0.05], ema_half_life=0)


def test_only_an_average_can_be_assigned(make_gan):
    gan, without = make_gan(), make_gan(ema_half_life=0)
    weights = gan.average_generator.get_weights()
    gan.assign_average("generator", [2 * w for w in weights])
    for before, after in zip(weights, gan.average_generator.get_weights(), strict=True):
        np.testing.assert_array_equal(after, 2 * before)
    last = weights[-1].shape
    for each, name, given, message in (
        (without, "generator", weights, r"`ema_half_life` above 0.* Received: ema_half_life=0$"),
        (gan, "decoder", weights, r"moving average: generator. Received: name='decoder'$"),
        (
            gan,
            "generator",
            weights[1:],
            rf"the {len(weights)} .*: {len(weights) - 1} arrays$",
        ),
        (
            gan,
            "generator",
            [*weights[:-1], np.ones((2, 3, 5))],
            rf"Received: values\[{len(weights) - 1}\] of shape \(2, 3, 5\) instead of "
            rf"{re.escape(str(last))}$",
        ),
    ):
        kept = [np.copy(w) for n in ("generator", "average_generator") for w in arrays(each, n)]
        with pytest.raises(UsageError, match=message):
            each.assign_average(name, given)
        now = [w for n in ("generator", "average_generator") for w in arrays(each, n)]
        assert all(np.array_equal(a, b) for a, b in zip(kept, now, strict=True))


def arrays(gan, name):
    return getattr(gan, name).get_weights()


# ------------------------------------------------------------------------ snapshots


def seen_in(folder):
    return [snapshot.examples_seen for snapshot in folder.snapshots()]


def test_snapshots_are_evenly_spaced_and_at_most_sixteen(tmp_path):
    folder = SnapshotFolder(tmp_path / "averages", every=32)
    given = {"generator": [[np.ones(2, "float32"), np.zeros((2, 3), "float32")]]}
    written = 0
    for seen in range(32, 32 * 101, 32):
        if folder.is_due(seen):
            folder.save(seen, (0.05,), given)
            written += 1
        found = np.array(seen_in(folder))
        assert len(found) < 16
        assert len(set(np.diff([0, *found]))) == 1
        assert seen - found[-1] < found[0]
    assert written < 50
    folder.save(3210, (0.05,), given)  # the end of a training, between two multiples
    assert seen_in(folder) == [*range(256, 3201, 256), 3210]
    assert [*folder.snapshots()[0].read()] == ["generator"]
    [[ones, zeros]] = folder.snapshots()[-1].read()["generator"]
    assert (ones.tolist(), zeros.shape) == ([1.0, 1.0], (2, 3))
    folder.drop_after(1000)
    assert seen_in(folder) == [256, 512, 768]
    path = tmp_path / "averages/examples-000000512.npz"
    for size in (100, 0):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(UsageError, match=r"must be whole. Received: .*000512.npz"):
            folder.snapshots()


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file cannot be written: File exists$"):
        SnapshotFolder(tmp_path / "file").save(1, (0.05,), {})
    folder = SnapshotFolder(tmp_path / "averages")
    (tmp_path / "averages/examples-000000017.npz").mkdir(parents=True)
    for change in (lambda: folder.save(32, (0.05,), {}), lambda: folder.drop_after(1)):
        with pytest.raises(UsageError, match=r"17.npz cannot be written: (Is a dir|Operation not)"):
            change()


# ------------------------------------------------------------------------ a run

SMALL = [
    "training.batch_size=8",
    "training.tick_examples=16",
    "training.precision=float32",
    "training.checkpoint_seconds=0",
    "networks.generator.widths=[8,4,4]",
    "networks.generator.latent_dim=4",
    "networks.discriminator.widths=[8,4,4]",
    "evaluation.count=40",
    "samples.count=4",
]
RATE = "{name: inverse_sqrt, rate: 1.0e-3, decay_examples: 32, warm_up_examples: 48}"
KEPT = [*(f"optimizers.{n}.learning_rate={RATE}" for n in ("generator", "discriminator"))]
KEPT += ["game.average_deviations=0.05,0.1"]


def trained(folder, examples, *settings):
    made = recipe.load("quickstart", [*SMALL, *settings, f"training.examples={examples}"])
    return train.train(made, folder).run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of 20 steps with averages; its bundle is of the reconstructed one."""
    return trained(tmp_path_factory.mktemp("averages") / "run", 160, *KEPT)


def arrays_in(path):
    with np.load(io.BytesIO(path.read_bytes())) as content:
        return {name: content[name] for name in content.files}


def test_a_resumed_run_has_the_snapshots_of_an_uninterrupted_one(run, tmp_path):
    """With rates of inverse square roots, whose training may be made longer."""
    part = trained(tmp_path / "run", 72, *KEPT)
    fake = part.averages / "examples-000000999.npz"
    fake.write_bytes(b"of a state that was lost")
    train.resume(part.path, ("training.examples=160",))
    names = [path.name for path in sorted(run.averages.iterdir())]
    assert names == [f"examples-{seen:09d}.npz" for seen in range(16, 161, 16)]
    # That of the end of the first part, between two multiples, has been deleted.
    assert [path.name for path in sorted(part.averages.iterdir())] == names
    for name in names:
        first, second = (arrays_in(each.averages / name) for each in (run, part))
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[k], second[k]) for k in first), name
    for a, b in zip(run.load().variables, part.load().variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_without_further_averages_has_no_snapshots(tmp_path, capsys):
    plain = trained(tmp_path / "run", 16)
    assert not plain.averages.exists()
    capsys.readouterr()
    for options in (["--deviation", "0.05"], ["--choose"]):
        with pytest.raises(SystemExit, match="2"):
            main(["average", str(plain.path), *options])
        error = capsys.readouterr().err
        assert re.search(r"keeps averages.*average_deviations=0.05,0.1.*after 16 examples", error)
        assert error.count("\n") == 1


def test_a_deviation_is_written_as_a_state_of_the_run(run, capsys, tmp_path):
    main(["average", str(run.path), "--deviation", "0.1"])
    out = capsys.readouterr().out
    assert f"keras-gan export {run.path} --checkpoint averaged" in out
    record = json.loads((run.path / "averaged/averaged.json").read_text())
    assert record["deviation"] == 0.1
    assert record["examples_seen"] == 160
    assert record["profile_error"] < 1e-3
    gan = run.load("averaged")
    last = run.load()
    stored = gan.power_averages.values()["generator"][1]
    for a, b in zip(gan.average_generator.get_weights(), stored, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    for a, b in zip(gan.generator.get_weights(), last.generator.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)

    main(["export", str(run.path), "--checkpoint", "averaged", "--to", str(tmp_path / "bundle")])
    bundle = serving.Bundle(tmp_path / "bundle")
    np.testing.assert_allclose(bundle.generate(range(4)), gan.generate(range(4)), atol=1e-4)
    assert np.abs(gan.generate(range(4)) - last.generate(range(4))).max() > 1e-4
    training = json.loads((tmp_path / "bundle/manifest.json").read_text())["training"]
    assert training["checkpoint"] == "averaged"
    assert training["metrics"]["deviation"] == 0.1
    file = str(run.checkpoint("averaged"))
    assert _measured(run, file, 160) == training["metrics"]
    last = str(run.checkpoint())
    assert _measured(run, last, 160) == _measured(run, "last", 160) == run.rows()[-1]
    for each in (run.path / "averaged", file):
        with pytest.raises(UsageError, match=r"a state of the training.*by its checkpoint .*avera"):
            post_hoc.average(runs.Run.open(each), 0.05)
    assert runs.Run.open(run.path / "averaged").which() == "averaged"
    found = evaluate(run.path / "averaged", count=20)
    assert found.protocol["generated"]["checkpoint"] == "averaged"
    runs.check_new(run.path, replace=True)  # it holds nothing but a run


def test_the_best_deviation_on_held_out_samples_is_chosen(run, capsys):
    main(["average", str(run.path), "--choose"])
    out = capsys.readouterr().out
    metric, tried, best = post_hoc.choose(run)
    assert [each.deviation for each in tried] == [None, *post_hoc.DEVIATIONS]
    # The average of the training was evaluated at its end, on the same samples.
    assert tried[0].value == pytest.approx(run.rows()[-1][metric], rel=1e-5)
    assert best.value == min(each.value for each in tried[1:])
    record = run.averaged_record
    assert (record["deviation"], record[metric]) == (best.deviation, best.value)
    assert (run.path / "averaged" / record["file"]).is_file()
    for each in tried[1:]:
        assert re.search(rf"^ *{each.deviation:g} +{each.value:.6g} +[\d.]+%", out, re.MULTILINE)
    assert f"Wrote {run.path / 'averaged'}: deviation {best.deviation:g}, {metric} " in out


def test_measurements_that_are_not_finite_are_not_exported(copied):
    rows = copied.rows()
    copied.write_rows([*rows[:-1], {**rows[-1], "d_loss": float("inf")}])
    found = _measured(copied, "last", 160)
    assert found == {k: v for k, v in rows[-1].items() if k != "d_loss"}
    json.dumps(found, allow_nan=False)


@pytest.fixture
def copied(run, tmp_path):
    """A copy of the run without a reconstructed average."""
    shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("averaged"))
    return runs.Run.open(tmp_path / "run")


def test_an_interrupted_average_leaves_the_previous_one(copied, monkeypatch):
    post_hoc.average(copied, 0.05)
    before = copied.load("averaged").average_generator.get_weights()

    def full(*_):
        raise UsageError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(runs.Run, "_write_json", full)
        with pytest.raises(UsageError, match="No space"):
            post_hoc.average(copied, 0.1)
    assert copied.averaged_record["deviation"] == 0.05
    after = copied.load("averaged").average_generator.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    post_hoc.average(copied, 0.1)
    names = {path.name for path in (copied.path / "averaged").iterdir()}
    assert names == {"averaged.json", "examples-000000160-0.1.keras"}


def test_what_cannot_be_chosen_is_refused(copied, tmp_path):
    with pytest.raises(UsageError, match=r"`deviations` must hold at least one number"):
        post_hoc.choose(copied, [])
    with pytest.raises(UsageError, match=r"`data` must name the new place of the data"):
        post_hoc.choose(copied, [0.1], data="")
    points = np.random.default_rng(0).normal(size=(60, 2))
    np.savez(tmp_path / "other.npz", points.astype("float32"))
    with pytest.raises(UsageError, match=r"only be used with its original data.*kind \(image, now"):
        post_hoc.choose(copied, [0.1], data=tmp_path / "other.npz")
    _, tried, _ = post_hoc.choose(copied, [0.1], data=copied.data_place[1])
    assert len(tried) == 2
    assert copied.averaged_record["deviation"] == 0.1


def test_the_best_value_is_finite():
    nan, good = (post_hoc.Tried(0.05, 0.0, value) for value in (float("nan"), 2.0))
    assert post_hoc._best("fid", [nan, good]) is good
    with pytest.raises(UsageError, match=r"values of fid. Received: fid=nan for each .* 0.05$"):
        post_hoc._best("fid", [nan])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--deviation", "0.3"], "from 0.001 up and below 0.28. Received: deviation=0.3"),
        (["--deviation", "0"], "from 0.001 up and below 0.28. Received: deviation=0"),
        ([], "average takes --deviation, or --choose. Received: neither"),
        (["--deviation", "0.1", "--choose"], "Received: both"),
        (["--deviation", "0.1", "--data", "x.npz"], "--data needs --choose. Received: --data x"),
    ],
)
def test_mistakes_are_errors_of_one_line(run, options, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["average", str(run.path), *options])
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
