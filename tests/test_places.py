"""Runs are found by any path in them, and data that has moved by its content."""

import json
import os
import shutil
import warnings

import numpy as np
import PIL.Image
import pytest
import tiny

import serving
from export.target import open_target
from keras_gan import UsageError, data_record, datasets, recipe, train
from keras_gan import metrics as metrics_
from keras_gan import run as runs
from keras_gan.__main__ import main
from keras_gan.places import find_run
from keras_gan.spec import Field, Spec
from serving import programs
from serving.bundle_folder import find_bundle
from serving.cli import main as serving_main

SMALL = [
    "networks.generator={architecture: mlp, widths: [4], latent_dim: 2}",
    "networks.discriminator={architecture: mlp, widths: [4]}",
    "game.terms=[]",
    "optimizers={}",
    "training={examples: 64, batch_size: 32, tick_examples: 32, checkpoint_seconds: 0}",
    "evaluation={count: 8, every_examples: 32}",
    "samples={count: 4}",
]
LONGER = ("training.examples=96",)


def pictures(folder, count=48, seed=0):
    """Writes pictures of 10x12 pixels in two classes."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        path = folder / ("ab"[i % 2]) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 256, (10, 12)).astype("uint8")).save(path)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with pictures, and a run on them that is named by a relative path."""
    folder = tmp_path_factory.mktemp("original")
    pictures(folder / "pics")
    (folder / "recipe.yaml").write_text(
        "data: {source: pics, size: [8, 8], held_out: 0.25}\nnetworks:\n"
        "  generator: {architecture: mlp}\n  discriminator: {architecture: mlp}\n"
        "training: {examples: 64}\n"
    )
    before = os.getcwd()
    os.chdir(folder)
    try:
        loaded = recipe.load("recipe.yaml", SMALL)
        assert loaded.data.source == str(folder / "pics")
        train.train(loaded, "run")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def moved(original, tmp_path):
    """A copy whose pictures are in `pics2`, and not where the run was trained."""
    shutil.copytree(original / "run", tmp_path / "run")
    shutil.copytree(original / "pics", tmp_path / "pics2")
    for path in (tmp_path / "run/recipe.yaml", tmp_path / "run/checkpoints/recipe.yaml"):
        path.write_text(path.read_text().replace(str(original), str(tmp_path)))
    return tmp_path


def evaluate(source, data=None, **options):
    fixed = {"metrics": "frechet_distance", "features": "pixels", "cache": False}
    return metrics_.evaluate(source, data, **{"count": 4, "progress": False, **fixed, **options})


# ------------------------------------------------------------------------ data


def test_a_run_is_resumed_with_its_data_in_a_new_place(moved, monkeypatch):
    run = moved / "run"
    with pytest.raises(UsageError, match=r"place must be given with --data .*pics', which does"):
        train.resume(run, LONGER)
    monkeypatch.chdir(moved)
    outcome = train.resume("run", LONGER, data="pics2")
    assert outcome.gan.count("examples_seen") == 96
    opened = runs.Run.open(run)  # the new place is recorded, absolute, and needs no --data again
    assert opened.record["data"] == {"source": str(moved / "pics2"), "size": [8, 8]} | {
        key: value for key, value in opened.record["data"].items() if key not in ("source", "size")
    }
    assert opened.record["data"]["held_out"] == 0.25
    assert "pics2" in opened.data["description"]
    monkeypatch.chdir("/")
    with pytest.raises(UsageError, match=r"has seen all of its 96 examples"):
        train.resume(run)


def test_other_data_in_the_new_place_is_refused_with_what_differs(moved):
    run = moved / "run"
    pictures(moved / "other", seed=1)
    with pytest.raises(
        UsageError, match=r"original data, .*differs in content \(digest [0-9a-f]{8}, now "
    ):
        train.resume(run, LONGER, data=moved / "other")
    pictures(moved / "more", count=56)
    with pytest.raises(
        UsageError, match=r"counts \(held_out 12, now 14; train 36, now 42\) and content"
    ):
        train.resume(run, LONGER, data=moved / "more")
    with pytest.raises(UsageError, match=r"which as a path does not exist"):
        train.resume(run, LONGER, data=moved / "nowhere")
    with pytest.raises(UsageError, match=r"`data` must name the new place"):
        train.resume(run, LONGER, data="")
    # The same content under another key, and by hand, is another door to the same check.
    with pytest.raises(UsageError, match=r"differs in content"):
        train.resume(run, (*LONGER, f"data.source={moved / 'other'}"))
    assert runs.Run.open(run).record["data"]["source"] == str(moved / "pics")


def test_a_run_is_evaluated_with_its_data_in_a_new_place(moved, original):
    with pytest.raises(UsageError, match=r"new place must be given with --data"):
        evaluate(moved / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = evaluate(moved / "run", moved / "pics2")
        assert found.values == evaluate(original / "run").values
    pictures(moved / "other", seed=1)
    with pytest.warns(UserWarning, match=r"trained on other data .*differs in counts .* content"):
        evaluate(moved / "run", moved / "other", data_options={"size": 8})


def test_data_of_another_kind_are_refused_with_what_differs(moved):
    """The recipe's options, such as its size, are no words of the user's."""
    run, rng = moved / "run", np.random.default_rng(0)
    np.savez(moved / "points.npz", rng.normal(size=(60, 2)).astype("float32"))
    np.savez(moved / "small.npz", rng.integers(0, 256, (60, 6, 8, 1), np.uint8))
    for label in ("cat", "dog", "emu"):
        pictures(moved / "classes" / label, seed=2)
    shape = r"shape \(\(8, 8, 1\), now \(6, 8, 1\)\)"
    for name, differences in {
        "points.npz": r"kind \(image, now points\) and counts",
        "small.npz": r"classes \(2: a, b, now none\) and " + shape,
        "classes": r"classes \(2: a, b, now 3: cat, dog, emu\) and counts",
        "gaussians": r"kind \(image, now points\)",
    }.items():
        place = moved / name if name != "gaussians" else name
        with pytest.raises(
            UsageError, match=rf"original data, .*differs in {differences}"
        ) as error:
            train.resume(run, LONGER, data=place)
        assert "not an option" not in str(error.value)


def test_an_error_in_the_new_place_that_concerns_it_is_the_error(moved):
    (moved / "empty").mkdir()
    with pytest.raises(UsageError, match=r"must hold at least 2 files of a format"):
        train.resume(moved / "run", LONGER, data=moved / "empty")
    (moved / "damaged.npz").write_bytes(b"PK damaged")
    with pytest.raises(UsageError, match=r"damaged\.npz") as error:
        train.resume(moved / "run", LONGER, data=moved / "damaged.npz")
    assert "size" not in str(error.value)


def test_differences_of_classes_and_fields_are_named():
    def describe(spec):
        return {"spec": spec.to_json(), "counts": {}, "raw_ranges": {}, "digest": "0" * 64}

    def differences(one, other):
        return data_record.data_differences(describe(one), describe(other))

    plain = Spec("image", (8, 8, 1), (-1.0, 1.0))
    two = plain.with_classes(2, ("no", "yes"))
    assert differences(plain, plain) == []
    assert differences(two, plain) == ["classes (2: no, yes, now none)"]
    assert differences(two, plain.with_classes(3)) == ["classes (2: no, yes, now 3)"]
    assert differences(two, plain.with_classes(2, ("yes", "no"))) == [
        "classes (2: in the order no, yes, now 2: in the order yes, no)"
    ]
    sound = {"sample_rate": 16_000, "value_range": (-1.0, 1.0)}
    slow = Spec(fields={"samples": Field("audio", (64, 1), meta=sound)})
    fast = Spec(fields={"samples": Field("audio", (64, 1), meta=sound | {"sample_rate": 8_000})})
    assert differences(slow, fast) == ["sample_rate (16000, now 8000)"]
    masked = Spec(fields={**plain.fields, "mask": Field("image", (8, 8, 1))})
    assert differences(masked, plain) == ["fields (samples, mask; now samples)"]


@pytest.mark.parametrize("form", ["npz", "csv"])
def test_files_move_too(form, tmp_path, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(60, 2)).astype("float32")

    def write(name, values):
        path = tmp_path / f"{name}.{form}"
        if form == "npz":
            np.savez(path, values)
        else:
            lines = ["x,y", *(f"{x},{y}" for x, y in values)]
            path.write_text("\n".join(lines) + "\n")
        return path

    monkeypatch.chdir(tmp_path)
    before = write("before", rows)
    loaded = recipe.load("quickstart", SMALL, before.name)
    assert loaded.data.source == str(before)
    source = train.open_data(loaded)
    run = runs.Run.create("run", loaded, data_record.describe_data(source)).path.resolve()
    after = before.rename(tmp_path / f"after.{form}")
    monkeypatch.chdir("/")
    with pytest.raises(UsageError, match=rf"data.source='.*before.{form}', which does not exist"):
        train.resume(run)
    with pytest.raises(UsageError, match=r"differs in .*digest"):
        train.resume(run, data=write("other", rows + 1))
    with pytest.raises(UsageError, match=r"differs in counts \(held_out \d+, now \d+; train"):
        train.resume(run, data=write("fewer", rows[:40]))
    opened = runs.Run.open(run)
    same = recipe.load(str(run / "recipe.yaml"), (f"data.source={json.dumps(str(after))}",))
    assert not data_record.data_differences(
        opened.data, data_record.describe_data(train.open_data(same))
    )


# ------------------------------------------------------------------------ runs


@pytest.mark.parametrize(
    "part",
    ["", "checkpoints", "recipe.yaml", "checkpoints/recipe.yaml", "best/best.json", "samples"],
)
def test_a_path_in_a_run_stands_for_the_run(original, part, monkeypatch, tmp_path):
    run = original / "run"
    assert runs.Run.open(run / part).path.resolve() == run
    assert runs.Run.open(run / part).which() == "last"
    assert runs.Run.open(f"{run / part}{'' if '.' in part else '/'}").path.resolve() == run
    (tmp_path / "link").symlink_to(run / part)
    assert runs.Run.open(tmp_path / "link").load().count("examples_seen") == 64
    monkeypatch.setenv("HOME", str(original))
    assert runs.Run.open(f"~/run/{part}").path.resolve() == run
    monkeypatch.chdir(run / part if (run / part).is_dir() else (run / part).parent)
    assert runs.Run.open(".").path.resolve() == run


def test_a_checkpoint_stands_for_itself(original, tmp_path, capsys):
    run = original / "run"
    first, last = sorted((run / "checkpoints").glob("*.keras"))
    assert runs.Run.open(first).which() == str(first)
    assert runs.Run.open(run / "best").which() == "best"
    found = evaluate(first, original / "pics", data_options={"size": 8, "held_out": 0.25})
    assert found.protocol["generated"]["examples_seen"] == 32
    assert found.protocol["generated"]["checkpoint"] == str(first)
    assert evaluate(last).protocol["generated"]["examples_seen"] == 64
    assert runs.Run.open(run).load(first.name).count("examples_seen") == 32
    main(["export", str(first), "--to", str(tmp_path / "bundle")])
    manifest = json.loads((tmp_path / "bundle/manifest.json").read_text())
    assert manifest["name"] == "run"
    assert manifest["training"]["examples_seen"] == 32
    assert manifest["training"]["checkpoint"] == str(first)
    with pytest.raises(UsageError, match=rf"checkpoint, {last.name}. Received: .*{first.name}"):
        train.resume(first, LONGER)
    with pytest.raises(UsageError, match=r"has seen all of its 64 examples"):
        train.resume(last)
    with pytest.raises(UsageError, match=r"must be given once.*and checkpoint='best'"):
        evaluate(first, checkpoint="best")


def test_a_path_without_a_run_says_what_to_give(original, tmp_path, capsys):
    run = tmp_path / "runs/x"
    shutil.copytree(original / "run", run)
    (run / "bundle").mkdir()
    (run / "bundle/manifest.json").write_text("{}")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/manifest.json").write_text("{}")
    (run / "bundle/model.onnx").touch()
    (tmp_path / "notes.txt").touch()
    for path, message in {
        run / "bundle": f"a bundle; its run is {run}$",
        run / "bundle/model.onnx": f"a bundle; its run is {run}$",
        tmp_path / "bundle": "bundle, a bundle, not its run$",
        tmp_path / "runs": "which has no recipe.yaml; the runs in it are x$",
        tmp_path / "notes.txt": "a file outside a run$",
        run / "checkpoints/none.keras": "none.keras, which does not exist$",
    }.items():
        for command in (["train", "--resume", str(path)], ["export", str(path)]):
            with pytest.raises(SystemExit) as ended:
                main(command)
            assert ended.value.code == 2
            error = capsys.readouterr().err
            assert error.startswith("keras-gan: error: A run folder must hold a recipe.yaml. Rec")
            assert error.count("\n") == 1
            with pytest.raises(UsageError, match=message):
                runs.Run.open(path)
    assert find_run(tmp_path) is None


def test_a_folder_named_checkpoints_may_be_a_run(run):
    """A project may have a recipe.yaml of its own beside it."""
    path = run.path.rename(run.path.parent / "checkpoints")
    (path.parent / "recipe.yaml").write_text("training: {}\n")
    assert runs.Run.open(path).path == path


# ------------------------------------------------------------------------ bundles


@pytest.fixture
def exported(run):
    """A run with a bundle; neither has been trained."""
    tiny.points(run.path / "bundle")
    (run.path / "bundle/saved_model/points/1").mkdir(parents=True)
    return run.path


@pytest.mark.parametrize(
    "part",
    [
        "",
        "bundle",
        "bundle/model.onnx",
        "bundle/saved_model/points/1",
        "recipe.yaml",
        "checkpoints",
    ],
)
def test_a_path_in_a_bundle_or_its_run_stands_for_the_bundle(exported, part, tmp_path, monkeypatch):
    assert serving.Bundle(exported / part).path == exported / "bundle"
    (tmp_path / "link").symlink_to(exported)
    assert serving.Bundle(f"{tmp_path}/link/").path == tmp_path / "link/bundle"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_bundle("~/run").name == "bundle"


def test_a_path_without_a_bundle_says_what_to_give(run, tmp_path):
    for part in ("", "recipe.yaml", "checkpoints"):
        message = (
            rf"must be exported before its .*keras-gan export {run.path}. Received: '.*{part}'$"
        )
        with pytest.raises(UsageError, match=message):
            serving.Bundle(run.path / part)
    with pytest.raises(UsageError, match=r"A bundle must exist. Received: '.*nowhere'"):
        serving.Bundle(run.path / "nowhere")
    for path in (tmp_path, run.path / "bundle"):
        path.mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=r"A bundle is a folder with a manifest.json, or has"):
            serving.Bundle(path)


# ------------------------------------------------------------------------ mistaken paths


def fail(capsys, *arguments):
    """Returns the one line with which a command fails."""
    command = serving_main if arguments[0] in ("sample", "walk", "serve") else main
    try:
        status = command([str(argument) for argument in arguments])
    except SystemExit as ended:
        status = ended.code
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("keras-gan: error: ")
    assert error.count("\n") == 1
    return error.removeprefix("keras-gan: error: ").strip()


@pytest.fixture
def project(exported, tmp_path, monkeypatch):
    """A folder with an exported run `runs/shoes` and another one, `runs/hats`."""
    (tmp_path / "runs").mkdir()
    shutil.copytree(exported, tmp_path / "runs/hats")
    shutil.rmtree(tmp_path / "runs/hats/bundle")
    exported.rename(tmp_path / "runs/shoes")
    pictures(tmp_path / "pics", count=4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_near_a_run_is_suggested_by_every_command(project, capsys):
    for command in (["sample"], ["walk"], ["serve"], ["verify"], ["export", "--check"]):
        for given in ("runs/shose", "shoes", "runs/shoes2"):
            line = fail(capsys, *command, given)
            assert line == f"A bundle must exist. Received: {given!r}. Did you mean 'runs/shoes'?"
        assert fail(capsys, *command, "runs/hat").endswith("Did you mean 'runs/hats'?")
        assert fail(capsys, *command, "quite-another").endswith("Received: 'quite-another'")
    for command in (["export"], ["train", "--resume"], ["evaluate"]):
        for given, meant in {"hats": "runs/hats", "runs/shose": "runs/shoes"}.items():
            line = fail(capsys, *command, given)
            assert line.endswith(f"does not exist. Did you mean {meant!r}?")
        assert fail(capsys, *command, "quite-another").endswith("does not exist")


def test_a_folder_of_runs_names_them(project, capsys):
    exported, both = "the runs in it are shoes", "the runs in it are hats, shoes"
    for command in ("sample", "walk", "verify"):
        assert fail(capsys, command, "runs").endswith(f"Received: 'runs'; {exported}")
        assert fail(capsys, command, ".").endswith("the runs in it are runs/shoes")
        assert fail(capsys, command, "pics").endswith("Received: 'pics'")
    for command in (["export"], ["train", "--resume"], ["evaluate"]):
        assert fail(capsys, *command, "runs").endswith(both)
        assert fail(capsys, *command, ".").endswith("the runs in it are runs/hats, runs/shoes")
    shutil.rmtree("runs/shoes")
    assert fail(capsys, "sample", "runs").endswith("; the runs, not exported, in it are hats")
    assert "must be exported before" in fail(capsys, "serve", "runs/hats")


def test_what_is_not_a_recipe_says_how_it_is_given(project, capsys):
    np.savez("points.npz", np.zeros((4, 2)))
    for given, advice in {
        "runs/hats": "a run: --resume runs/hats continues it, and runs/hats/recipe.yaml is its",
        "runs/hats/checkpoints": "hats continues it, and",
        "runs": "a folder; the runs in it are hats, shoes: --resume RUN continues one",
        "pics": "a folder: pictures in it are given with --data pics",
        "points.npz": "which is data: give a recipe as well, and --data points.npz",
        "emoji": "which is data: give a recipe as well, and --data emoji",
        "runs/hats/recipe.yml": "which is neither. Did you mean 'runs/hats/recipe.yaml'?",
        "quickstrat": "which is neither. Did you mean 'quickstart'?",
    }.items():
        line = fail(capsys, "train", given)
        assert line.startswith(f"A recipe must be a preset or a YAML file. Received: {given!r}, ")
        assert advice in line
    with pytest.raises(UsageError, match=r"YAML file. Received: ''$"):
        recipe.load("")
    assert recipe.load("runs/hats/recipe.yaml").data.source == "fashion-mnist-10k"


def test_a_run_is_not_data(project, capsys):
    for given in ("runs/hats", "runs/shoes"):
        line = fail(capsys, "train", "--data", given, "--run", "new")
        assert line == (
            f"Data must not be a run, whose samples are generated. Received: path={given!r}, a run"
        )
    assert "which holds 2 run folders" in fail(capsys, "train", "--data", "runs", "--run", "new")
    # Its previews are pictures like others for whoever names their folder.
    previews = pictures(project / "runs/hats/samples", count=4)
    assert datasets.open(previews, labels=False, held_out=0).count() == 4


def test_the_run_in_the_folder_of_its_pictures_is_not_trained_on(project):
    pictures(project / "runs/hats/samples", count=6, seed=1)
    pictures(project / "best/checkpoints", count=4, seed=2)  # names of a run without its recipe
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        source = datasets.open(".", labels=False, held_out=0, size=8)
    assert source.count() == 8
    assert source.description.endswith("left out: 2 run folders")
    (project / "recipe.yaml").write_text("a recipe beside the pictures")
    assert datasets.open(".", labels=False, held_out=0).count() == 8


def test_what_cannot_be_overwritten_gets_another_line(project):
    bundle = project / "runs/shoes/bundle"
    with pytest.raises(UsageError, match=r"or pass overwrite=True \(--overwrite\). Received: .*"):
        open_target(bundle, False, None)
    (project / "file").touch()
    for given, what in {
        "runs/shoes": f"a run, whose bundle is {bundle} by default",
        "pics": "a folder that is not a bundle",
        "file": "which is a file",
    }.items():
        with pytest.raises(UsageError) as error:
            open_target(project / given, False, None)
        assert str(error.value) == f"The target must not exist. Received: {project / given}, {what}"


def test_empty_arguments_are_refused(project, capsys):
    """As `--tokens "$TOKENS"` without such a variable would start a server without tokens."""
    for arguments, received in {
        ("serve", "runs/shoes", "--tokens", ""): "--tokens ''",
        ("serve", "runs/shoes", "--tokens="): "--tokens ''",
        ("sample", ""): "''",
        ("train", "quickstart", "--run", ""): "--run ''",
        ("evaluate", ""): "''",
        ("export", ""): "''",
        ("prepare", "pics", "--to="): "--to ''",
    }.items():
        line = fail(capsys, *arguments)
        assert line == f"An argument must not be empty. Received: {received}"
    programs.check_arguments(["train", "--set", "game.augment=", "--set=game.augment=", "-"])
    for call in (find_bundle, runs.Run.open):
        with pytest.raises(UsageError, match=r"must be named. Received: ''$"):
            call("")
