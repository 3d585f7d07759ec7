"""The commands: training, resuming, exporting, and errors for mistakes."""

import itertools
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import absl.logging
import numpy as np
import PIL.Image
import pytest
import yaml

import serving
from keras_gan import UsageError, recipe, train
from keras_gan import run as runs
from keras_gan.__main__ import main

SMALL = [
    "training.examples=320",
    "training.batch_size=32",
    "training.precision=float32",  # "auto" depends on the CPU
    "training.tick_examples=64",
    "networks.generator.widths=[8,4,4]",
    "networks.generator.latent_dim=8",
    "networks.discriminator.widths=[8,4,4]",
    "evaluation.every_examples=160",
    "evaluation.count=50",
    "samples.count=9",
]
SETS = [part for setting in SMALL for part in ("--set", setting)]
BOTH = ("generator", "discriminator")
LABELS = [p for n in BOTH for p in ("--set", f"networks.{n}.condition=[labels]")]


def small(*settings):
    return recipe.load("quickstart", [*SMALL, *settings])


def weights(run, which="last"):
    gan = runs.Run.open(run).load(which)
    return [
        np.asarray(v)
        for v in gan.variables
        + gan.generator_optimizer.variables
        + gan.discriminator_optimizer.variables
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small finished run with its bundle, made by the commands."""
    run = tmp_path_factory.mktemp("trained") / "run"
    main(["train", "quickstart", *SETS, "--run", str(run), "--tensorboard"])
    main(["export", str(run)])
    return run


def test_a_bundle_records_its_weights_and_data(trained):
    training = json.loads((trained / "bundle" / "manifest.json").read_text())["training"]
    assert training["weights"] == "averaged"
    data = json.loads((trained / "data.json").read_text())
    assert training["data"] == {name: data[name] for name in ("description", "digest")}


def test_a_run_folder_is_complete(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"recipe.yaml", "environment.json", "metrics.csv", "report.html"} <= names
    assert {"samples", "checkpoints", "best", "bundle", "tensorboard"} <= names
    run = runs.Run.open(trained)
    assert run.recipe == small()
    assert [row["examples_seen"] for row in run.rows()] == [64, 128, 192, 256, 320]
    measured = [row["examples_seen"] for row in run.rows() if "sliced_wasserstein" in row]
    assert measured == [192, 320]
    grids = sorted(path.name for path in (trained / "samples").iterdir())
    assert grids[0] == "examples-000000000.png"
    assert grids[-1] == "examples-000000320.png"
    assert PIL.Image.open(trained / "samples" / grids[0]).size == (88, 88)
    assert list((trained / "tensorboard").rglob("events.out.tfevents*"))
    assert not list(trained.rglob(".*"))  # no temporary file is left


def test_keras_saved_model_and_onnx_draw_the_same_picture_for_a_seed(trained, tmp_path):
    seeds = [0, 1, 12345678901234]
    gan = runs.Run.open(trained).load()
    bundle = serving.Bundle(trained / "bundle")
    expected = gan.generate(seeds)
    np.testing.assert_allclose(bundle.generate(seeds), expected, atol=1e-4)
    program = (
        "import sys; sys.modules['keras'] = None\n"
        "import numpy as np, tensorflow as tf\n"
        f"model = tf.saved_model.load({str(trained / 'bundle/saved_model/run/1')!r})\n"
        f"out = model.signatures['generate'](seeds=tf.constant({seeds}, tf.int64))\n"
        f"np.save({str(tmp_path / 'out.npy')!r}, out['samples'].numpy())\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-4)
    out = tmp_path / "grid.npz"
    command = [sys.executable, "-m", "serving.cli", "sample", str(trained / "bundle")]
    subprocess.run([*command, "--count", "2", "--out", str(out)], check=True, timeout=60)
    np.testing.assert_allclose(np.load(out)["samples"], expected[:2], atol=1e-4)


def test_the_manifest_records_the_training(trained):
    manifest = json.loads((trained / "bundle" / "manifest.json").read_text())
    assert manifest["training"]["examples_seen"] == 320
    assert manifest["training"]["recipe"]["data"]["source"] == "fashion-mnist-10k"
    assert "d_loss" in manifest["training"]["metrics"]
    figures = manifest["parity"]["figures"]
    assert {"onnx", "saved_model", "saved_model generate"} <= set(figures)
    assert set(figures["onnx"]) == {"1", "5", "64"}
    assert max(value for row in figures.values() for value in row.values()) <= 1e-4


def test_export_uses_the_averaged_or_the_live_generator_of_any_checkpoint(trained, tmp_path):
    main(["export", str(trained), "--to", str(tmp_path / "best"), "--checkpoint", "best"])
    main(["export", str(trained), "--to", str(tmp_path / "live"), "--live", "--name", "clothes"])
    gan = runs.Run.open(trained).load()
    best = runs.Run.open(trained).load("best")
    for name, expected in (
        ("best", best.generate(range(3))),
        ("live", gan.generate(range(3), average=False)),
    ):
        made = serving.Bundle(tmp_path / name).generate(range(3))
        np.testing.assert_allclose(made, expected, atol=1e-4)
    assert np.abs(gan.generate(range(3)) - gan.generate(range(3), average=False)).max() > 1e-3
    assert (tmp_path / "live" / "saved_model" / "clothes" / "1").is_dir()


def test_verify_exits_with_status_1_for_a_tampered_bundle(trained, tmp_path, capsys):
    bundle = shutil.copytree(trained / "bundle", tmp_path / "bundle")
    main(["verify", str(bundle)])
    assert ": ok" in capsys.readouterr().out
    model = bundle / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(SystemExit) as exit:
        main(["verify", str(bundle)])
    assert exit.value.code == 1
    assert "model.onnx" in capsys.readouterr().out


def test_dry_run_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["train", "quickstart", *SETS, "--dry-run"])
    out = capsys.readouterr().out
    gan = train.build(small(), train.open_data(small()).spec)
    assert f"generator: {gan.generator.count_params():,} parameters" in out
    assert f"discriminator: {gan.discriminator.count_params():,} parameters" in out
    assert re.search(r"memory of the process without its data, estimated: [\d,]+ MiB", out)
    assert recipe.parse(yaml.safe_load(out.partition("\ndata: fashion")[0])) == small()
    assert not list(tmp_path.iterdir())


def test_list_shows_everything(capsys):
    main(["list"])
    out = capsys.readouterr().out
    for name in (
        "quickstart",
        "fashion-mnist-classes-60",
        "gaussians-25",
        "dcgan",
        "relativistic_average",
        "r2",
        "folder",
        "adaptive",
        "warm_up",
    ):
        assert re.search(rf"^  {name} +\w.{{20,}}", out, re.MULTILINE), name


# ------------------------------------------------------------------------ stopping and resuming


def start(run, *settings):
    arguments = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "keras_gan", "train", "quickstart", *SETS, *arguments]
    return subprocess.Popen(
        [*command, "--run", str(run)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow, id="SIGINT"),
        pytest.param(signal.SIGTERM, 0, id="SIGTERM"),
    ],
)
def test_an_interrupted_run_is_saved_and_its_resume_is_exact(tmp_path, number, status):
    long = ("training.examples=3200", "evaluation.every_examples=0")
    run = tmp_path / "run"
    process = start(run, *long)
    until = time.monotonic() + 120
    while not (run / "metrics.csv").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert "Traceback" not in err
    stopped = int(re.search(r"Stopped after ([\d,]+) examples", out)[1].replace(",", ""))
    assert 0 < stopped < 3200
    assert f"Resume with: keras-gan train --resume {run}" in out

    outcome = train.resume(run)
    assert outcome.reason == "finished"
    rows = outcome.run.rows()
    assert rows[-1]["examples_seen"] == 3200
    assert all(a["examples_seen"] < b["examples_seen"] for a, b in itertools.pairwise(rows))
    straight = train.train(small(*long), tmp_path / "straight")
    for a, b in zip(weights(run), weights(straight.run.path), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_can_be_made_longer_but_keeps_its_recipe(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "recipe.yaml").write_text(small("networks.generator.norm=none").to_yaml())
    with pytest.raises(UsageError, match=r"Received: networks.generator.norm: unset -> none"):
        train.resume(tmp_path / "run")
    (tmp_path / "run" / "recipe.yaml").write_text(small().to_yaml())
    with pytest.raises(UsageError, match=r"has seen all of its 320 examples"):
        train.resume(tmp_path / "run")
    with pytest.raises(
        UsageError,
        match=r"with its original recipe, except for training.examples, training.minutes, "
        r"training.collapse_guard, training.equilibrium. Use --override KEY to change another key. "
        r"Received: "
        r"game.loss: relativistic -> hinge; training.seed: 0 -> 3",
    ):
        train.resume(tmp_path / "run", ("training.seed=3", "game.loss=hinge"))
    # A schedule over the whole training would have other values in a longer one.
    opened = runs.Run.open(tmp_path / "run")
    opened.recipe = small("optimizers.generator.learning_rate={name: cosine, start: 1e-3}")
    message = r"except for training.minutes, .*Received: training.examples: 320 -> 384"
    with pytest.raises(UsageError, match=message):
        train.resume(tmp_path / "run", ("training.examples=384",))
    opened.recipe = small()
    outcome = train.resume(tmp_path / "run", ("training.examples=384",))
    assert outcome.gan.count("examples_seen") == 384
    assert outcome.run.recipe.training.examples == 384


def test_a_resume_needs_the_original_data_and_an_export_needs_none(tmp_path, capsys):
    rng = np.random.default_rng(0)
    data = tmp_path / "data.npz"
    np.savez(data, x=rng.integers(0, 255, (90, 8, 8, 1)).astype("uint8"))
    main(["train", "quickstart", *SETS, "--data", str(data), "--run", str(tmp_path / "run")])
    np.savez(data, x=rng.integers(0, 255, (80, 8, 8, 1)).astype("uint8"))
    with pytest.raises(
        UsageError, match=r"with its original data.*differs in counts .*and content"
    ):
        train.resume(tmp_path / "run", ("training.examples=384",))
    data.unlink()
    main(["export", str(tmp_path / "run")])
    assert serving.Bundle(tmp_path / "run").shape == (8, 8, 1)


def test_a_time_limit_ends_the_training(tmp_path):
    outcome = train.train(small("training.minutes=1e-6"), tmp_path / "run")
    assert outcome.reason == "out of time"
    assert outcome.gan.count("iteration") == 1
    assert outcome.run.load().count("iteration") == 1


@pytest.mark.slow
def test_conditional_training_on_a_folder_of_pictures(tmp_path):
    rng = np.random.default_rng(0)
    for kind, level in (("dark", 40), ("light", 210)):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for i in range(40):
            pixels = (level + rng.integers(-30, 30, (16, 16, 3))).astype("uint8")
            PIL.Image.fromarray(pixels).save(tmp_path / "pictures" / kind / f"{i}.png")
    run = tmp_path / "run"
    data = ["--data", str(tmp_path / "pictures"), *LABELS]
    main(["train", "quickstart", *SETS, *data, "--run", str(run)])
    main(["export", str(run)])
    bundle = serving.Bundle(run / "bundle")
    assert (bundle.num_classes, tuple(bundle.class_names)) == (2, ("dark", "light"))
    made = bundle.generate([5, 5], labels=[0, 1])
    assert made.shape == (2, 16, 16, 3)
    gan = runs.Run.open(run).load()
    np.testing.assert_allclose(made, gan.generate([5, 5], labels=[0, 1]), atol=1e-4)
    np.testing.assert_allclose(bundle.generate([4, 5]), gan.generate([4, 5]), atol=1e-4)


def test_preparing_and_reading_data_logs_nothing_of_other_libraries(tmp_path, capsys, caplog):
    x = np.random.default_rng(0).integers(0, 255, (64, 8, 8, 1)).astype("uint8")
    np.savez(tmp_path / "x.npz", x)
    absl.logging.set_verbosity(absl.logging.WARNING)  # as in a new process
    main(["prepare", str(tmp_path / "x.npz"), "--to", "tfds:ours", "--data-dir", str(tmp_path)])
    place = ["--data", "tfds:ours", "--set", f"data.data_dir={tmp_path}"]
    main([*TRAIN, *place, "--set", "evaluation.count=5", "--dry-run", "--run", str(tmp_path / "r")])
    assert caplog.records == []
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("keras-gan: warning: The recipe quickstart is for samples of 28 x")


# ------------------------------------------------------------------------ mistakes


@pytest.fixture
def bad(tmp_path):
    """A folder of invalid inputs, each with one mistake."""
    good = np.random.default_rng(0).integers(0, 255, (64, 8, 8, 1)).astype("uint8")
    for name in ("empty", "text", "truncated", "one"):
        (tmp_path / name).mkdir()
    pictures = [PIL.Image.fromarray(x[..., 0]) for x in good[:6]]
    for i, picture in enumerate(pictures):
        for folder in ("text", "truncated"):
            picture.save(tmp_path / folder / f"{i}.png")
    (tmp_path / "text" / "notes.png").write_text("this is not a picture")
    PIL.Image.new("RGB", (64, 64), "red").save(tmp_path / "truncated" / "cut.jpg")
    whole = (tmp_path / "truncated" / "cut.jpg").read_bytes()
    (tmp_path / "truncated" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    pictures[0].save(tmp_path / "one" / "0.png")
    holes = good.astype("float32") / 127.5 - 1
    holes[3, 2, 1] = np.nan
    np.savez(tmp_path / "nan.npz", x=holes)
    np.savez(tmp_path / "range.npz", x=good.astype("float32"))
    np.savez(tmp_path / "pickled.npz", x=np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "few.npz", x=good[:8])
    np.savez(tmp_path / "odd.npz", x=np.zeros((64, 9, 9, 1), "uint8") + good[:, :1, :1])
    (tmp_path / "broken.yaml").write_text("training: [")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    return tmp_path


TRAIN = ["train", "quickstart", *SETS]
MISTAKES = {
    "no latents": (
        [*TRAIN, "--set", "networks.generator.latent_dim=0"],
        "`latent_dim` must be an integer of at least 1",
    ),
    "optimizer's text": (
        [*TRAIN, "--set", "optimizers.generator.beta_1=abc"],
        "`beta_1` must be a",
    ),
    "list for a name": ([*TRAIN, "--set", "game.loss={name: [hinge]}"], "must name a loss"),
    "true for a number": ([*TRAIN, "--set", "training.examples=true"], "must be a number"),
    "unknown home": ([*TRAIN, "--data", "~nobody/x"], "does not exist"),
    "no data": ([*TRAIN, "--data", ""], "must not be empty. Received: --data ''"),
    "dry run too": ([*TRAIN, "--data", "{bad}/few.npz", "--dry-run"], "batch_size.*32"),
    "endless grid": ([*TRAIN, "--set", "samples.count=1000000"], "samples.count"),
    "no such recipe": (["train", "quickstrat"], "Did you mean 'quickstart'"),
    "broken recipe": (["train", "{bad}/broken.yaml"], "must be a YAML file"),
    "missing path": ([*TRAIN, "--data", "{bad}/nowhere"], "does not exist"),
    "empty folder": ([*TRAIN, "--data", "{bad}/empty"], "empty"),
    "text called png": ([*TRAIN, "--data", "{bad}/text"], r"notes\.png"),
    "truncated jpeg": ([*TRAIN, "--data", "{bad}/truncated"], r"cut\.jpg"),
    "one image": ([*TRAIN, "--data", "{bad}/one"], "at least 2"),
    "nan": ([*TRAIN, "--data", "{bad}/nan.npz"], r"nan.*\(3, 2, 1"),
    "range": ([*TRAIN, "--data", "{bad}/range.npz"], "value_range"),
    "pickled": ([*TRAIN, "--data", "{bad}/pickled.npz"], "pickle|object"),
    "too few": ([*TRAIN, "--data", "{bad}/few.npz"], "batch_size.*32"),
    "odd size": ([*TRAIN, "--data", "{bad}/odd.npz"], "divisible by 4 .*9 x 9"),
    "unknown key": ([*TRAIN, "--set", "training.sed=1"], "Did you mean 'seed'"),
    "indivisible": ([*TRAIN, "--set", "game.discriminator_steps=5"], "discriminator_steps=5"),
    "conditional": ([*TRAIN, "--set", "data.source=gaussians", *LABELS], "labels"),
    "run exists": ([*TRAIN, "--run", "{bad}/taken"], "new or empty folder"),
    "read-only run": ([*TRAIN, "--run", "/sys/run"], "/sys/run cannot be written"),
    "no run": (["train", "--resume", "{bad}/empty"], "recipe.yaml"),
    "neither": (["train"], "takes a recipe, --data FOLDER of pictures, or --resume"),
    "both": (["train", "quickstart", "--resume", "{bad}/empty"], "Received: both"),
    "minutes": ([*TRAIN, "--minutes", "-1"], "training.minutes: .*greater than 0"),
    "unknown option": ([*TRAIN, "--epochs", "3"], "--epochs"),
    "export of nothing": (["export", "{bad}/empty"], "recipe.yaml"),
    "verify of nothing": (["verify", "{bad}/empty"], "manifest.json"),
    "prepare to nowhere": (["prepare", "{bad}/few.npz", "--to", "few"], "tfds:"),
    "prepare with another key": (
        ["prepare", "{bad}/few.npz", "--to", "tfds:few", "--set", "training.seed=1"],
        "data.option=value",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_writes_no_file(mistake, bad, monkeypatch, capsys):
    arguments, message = MISTAKES[mistake]
    monkeypatch.chdir(bad)
    before = sorted(bad.rglob("*"))
    with pytest.raises(SystemExit) as exit:
        main([argument.replace("{bad}", str(bad)) for argument in arguments])
    err = capsys.readouterr().err
    assert exit.value.code == 2
    assert err.startswith("keras-gan: error: ")
    assert err.count("\n") == 1
    assert re.search(message, err), err
    assert sorted(bad.rglob("*")) == before


def test_corrupt_files_are_counted_and_skipped_when_asked(bad, capsys):
    options = ["--skip-corrupt", "--dry-run", "--set", "training.batch_size=2"]
    main([*TRAIN, "--data", str(bad / "text"), *options, "--set", "data.size=8"])
    out = capsys.readouterr().out
    assert re.search(r"1 .*skipped|skipped.* 1", out), out


def test_the_real_program_prints_neither_traceback_nor_log_messages(tmp_path):
    command = [sys.executable, "-m", "serving.cli", "train", "quickstrat"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"keras-gan: error: [^\n]*Did you mean 'quickstart'\?\n", done.stderr)


def test_a_full_disk_is_one_line_and_the_run_survives(tmp_path):
    """A limit of 40 kB on files, below the size of a checkpoint, stands in for a full disk."""
    program = (
        "import resource, sys\n"
        "from keras_gan.__main__ import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "main(sys.argv[1:])\n"
    )
    run = tmp_path / "run"
    command = [sys.executable, "-c", program, *TRAIN, "--run", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr[-2000:]
    line = done.stderr.strip().splitlines()[-1]
    assert re.search(r"keras-gan: error: .*cannot be written: ", line), done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert not list((run / "checkpoints").glob("*.keras"))
    assert runs.Run.open(run).recipe == small()


# ------------------------------------------------------------------------ the long ones


# The recipes for a GPU: shape of a sample, classes, and settings of small networks.
SMALL_R3GAN = [f"networks.{n}.{s}" for n in BOTH for s in ("preset=null", "width=4", "depth=2")]
SMALL_R3GAN += [f"networks.{n}.blocks_per_stage=1" for n in BOTH]
SMALL_RESNET = [f"networks.{n}.widths=[4,4,4]" for n in BOTH]
ON_A_GPU = {
    "cifar10-sngan": ((32, 32, 3), 0, SMALL_RESNET),
    "cifar10-r3gan": ((32, 32, 3), 10, SMALL_R3GAN),
    "celeba-64-r3gan": ((64, 64, 3), 0, SMALL_R3GAN),
}


def synthetic(name, tmp_path, count=40):
    """Writes random pictures of the recipe's shape, with labels if it has any."""
    shape, classes, _ = ON_A_GPU[name]
    x = np.random.default_rng(0).integers(0, 256, (count, *shape), "uint8")
    path = tmp_path / "data.npz"
    np.savez(path, x=x, **({"y": np.arange(count) % classes} if classes else {}))
    return str(path)


def few_steps(name, tmp_path, steps, batch, settings):
    if "r3gan" in name:  # start these schedules at a later value
        settings = [*settings, "game.augment.probability.start=0.5"]
        settings = [*settings, "game.ema_half_life.start=1000"]
    settings = [
        f"training.examples={steps * batch}",
        f"training.batch_size={batch}",
        f"training.tick_examples={batch}",
        "evaluation.every_examples=0",
        "evaluation.count=4",
        "samples.count=4",
        *settings,
    ]
    loaded = recipe.load(name, settings, data=synthetic(name, tmp_path))
    outcome = train.train(loaded, tmp_path / "run")
    rows = outcome.run.rows()
    assert rows[-1]["examples_seen"] == steps * batch
    assert np.isfinite([[row["d_loss"], row["g_loss"]] for row in rows]).all()
    assert outcome.gan.discriminator_steps == (5 if "sngan" in name else 1)
    if "r3gan" in name:
        probabilities = [row["augment_probability"] for row in rows]
        np.testing.assert_allclose(probabilities, 0.5, atol=1e-4)
        # The average lags behind: it equals neither the live nor the initial generator.
        first = train.build(loaded, train.open_data(loaded).spec).generator
        networks = (outcome.gan.generator, outcome.gan.average_generator, first)
        live, average, begun = (network.get_weights() for network in networks)
        assert any(not np.array_equal(a, b) for a, b in zip(average, begun, strict=True))
        assert any(np.abs(a - b).max() > 1e-6 for a, b in zip(live, average, strict=True))


@pytest.mark.parametrize(
    "name",
    ["cifar10-sngan", "cifar10-r3gan", pytest.param("celeba-64-r3gan", marks=pytest.mark.slow)],
)
def test_a_recipe_for_a_gpu_can_be_built_in_full_size(name, tmp_path, capsys):
    """Checks parameters and steps against the publications, without training."""
    main(["train", name, "--data", synthetic(name, tmp_path, 600), "--dry-run"])
    out = capsys.readouterr().out
    # SNGAN's counts include moving averages and the 1,281 numbers of the power iteration.
    generator, discriminator, steps = {
        "cifar10-sngan": (4_280_323, 1_053_825 + 1_281, 100_000),
        "cifar10-r3gan": (20_781_952, 21_280_512, 488_282),
        "celeba-64-r3gan": (22_429_824, 22_381_440, 585_938),
    }[name]
    assert f"generator: {generator:,} parameters" in out
    assert f"discriminator: {discriminator:,} parameters" in out
    assert f"steps: {steps:,}" in out


# Published settings of R3GAN, with schedules as their first and last value; and of SNGAN, with the
# epsilon of PyTorch's Adam.
R3GAN = {"learning_rate": (2e-4, 5e-5), "beta_1": 0.0, "beta_2": (0.9, 0.99), "epsilon": 1e-8}
PUBLISHED = {
    "cifar10-r3gan": {
        "gamma": (0.05, 0.005),
        "probability": (0.0, 0.55),
        "ema_half_life": (0, 5_000_000),
        "batch_size": 512,
        "conditional": True,
        "optimizer": R3GAN,
    },
    "celeba-64-r3gan": {
        "gamma": (2.0, 0.2),
        "probability": (0.0, 0.3),
        "ema_half_life": (0, 500_000),
        "batch_size": 256,
        "conditional": False,
        "optimizer": R3GAN,
    },
    "cifar10-sngan": {
        "gamma": None,
        "probability": None,
        "ema_half_life": 0,
        "batch_size": 5 * 64,
        "conditional": False,
        "optimizer": {"learning_rate": (2e-4, 0), "beta_1": 0.0, "beta_2": 0.9, "epsilon": 1e-8},
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_for_a_gpu_has_the_published_numbers(name):
    tree, published = recipe.load(name).model_dump(), PUBLISHED[name]

    def ends(value):
        """Returns a schedule's first and last value, and checks its shape and length."""
        if not isinstance(value, dict):
            return value
        shape = ("linear", None) if "sngan" in name else ("cosine", 20_000_000)
        assert (value["name"], value.get("examples")) == shape
        return value["start"], value.get("end", 0)

    game = tree["game"]
    penalties = {penalty["name"]: ends(penalty["weight"]) for penalty in game["terms"]}
    gamma = published["gamma"]
    assert penalties == ({"r1": gamma, "r2": gamma} if gamma else {})
    for penalty in game["terms"]:
        assert penalty.get("interval", 1) == 1
    augment = game["augment"]
    assert (augment and ends(augment["probability"])) == published["probability"]
    if augment:
        factors = {key: augment.get(key, 1.0) for key in ("blit", "geometry", "color", "cutout")}
        assert factors == {"blit": 1.0, "geometry": 1.0, "color": 0.5, "cutout": 1.0}
    assert ends(game["ema_half_life"]) == published["ema_half_life"]
    assert game["loss"] == ("hinge" if "sngan" in name else "relativistic")
    assert game["discriminator_steps"] == (5 if "sngan" in name else 1)
    for network in tree["networks"].values():
        assert network["condition"] == (["labels"] if published["conditional"] else [])
    assert tree["training"]["batch_size"] == published["batch_size"]
    for optimizer in tree["optimizers"].values():
        assert optimizer["name"] == "adam"
        found = {key: ends(optimizer[key]) for key in published["optimizer"]}
        assert found == published["optimizer"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_A_GPU)
def test_a_recipe_for_a_gpu_trains_with_small_networks(name, tmp_path):
    few_steps(name, tmp_path, 2, 10, ON_A_GPU[name][2])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ON_A_GPU)
def test_a_recipe_for_a_gpu_trains_20_steps_in_full_size(name, tmp_path):
    few_steps(name, tmp_path, 20, 5 if "sngan" in name else 2, [])


@pytest.mark.slow
def test_quickstart_keeps_its_promise(tmp_path):
    """Time, memory, kinds of clothing, and no two alike, as the benchmark prints them."""
    run = tmp_path / "quickstart"
    began = time.monotonic()
    # From a small process, as a child's peak memory starts at that of its parent.
    measured = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-m", "keras_gan", "quickstart", "--run", str(run)]
    done = subprocess.run(
        [sys.executable, "-c", measured, *command], stdout=subprocess.PIPE, text=True, check=True
    )
    assert time.monotonic() - began < 300
    assert int(done.stdout.split()[-1]) < 2.5 * 2**20  # in KiB
    benchmark = pathlib.Path(__file__).parents[1] / "benchmarks" / "classes.py"
    out = tmp_path / "classes.json"
    command = [sys.executable, str(benchmark), str(run / "bundle"), "--json", str(out)]
    subprocess.run(command, check=True, timeout=600)
    result = json.loads(out.read_text())
    assert result["accuracy"] > 0.85
    assert min(result["shares"]) >= 0.02
    ours, real = result["alike"]
    assert ours > real / 2


@pytest.mark.slow
def test_gaussians_8_finds_every_mode(tmp_path):
    benchmark = pathlib.Path(__file__).parents[1] / "benchmarks" / "gaussians.py"
    out = tmp_path / "gaussians.json"
    command = [sys.executable, str(benchmark), "--modes", "8", "--json", str(out)]
    subprocess.run(command, check=True, timeout=600)
    (row,) = json.loads(out.read_text())
    assert row["modes"] == 8
    assert row["high_quality"] >= 0.94
    assert row["seconds"] < 90


@pytest.mark.slow
def test_packs_and_top_k_are_trained_and_exported(tmp_path):
    """The discriminator is built for packs, the generator for single samples."""
    settings = ["--set", "game.pac=2", "--set", "game.top_k=0.5", "--set", "training.examples=96"]
    main(["train", "quickstart", *SETS, *settings, "--run", str(tmp_path / "run")])
    run = runs.Run.open(tmp_path / "run")
    gan = run.load()
    assert (gan.pac, gan.top_k) == (2, 0.5)
    assert gan.discriminator.input_shape == (None, 28, 28, 2)
    assert np.isfinite([row["d_loss"] for row in run.rows()]).all()
    main(["export", str(tmp_path / "run")])
    bundle = serving.Bundle(tmp_path / "run" / "bundle")
    np.testing.assert_allclose(
        bundle.generate([3, 4]), run.load("best").generate([3, 4]), atol=1e-4
    )
