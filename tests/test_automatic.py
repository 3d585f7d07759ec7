"""A recipe chosen for pictures: facts about them, choices, lengths, and the command."""

import re

import numpy as np
import PIL.Image
import pytest
import yaml

from keras_gan import UsageError, automatic, datasets, recipe
from keras_gan.__main__ import main
from keras_gan.automatic import Pictures
from keras_gan.commands import _app


def pictures(size=64, channels=3, count=4_000, **facts):
    facts = {"held_out": 400, "classes": (), "copies": 0, "plain": 0.0, **facts}
    return Pictures((size, size), channels, count, **facts)


def chosen(given, examples):
    """Returns the resolved recipe and the table as a dictionary."""
    tree, rows = automatic.choose(given, examples)
    tree["data"] = {"source": "fashion-mnist-10k"}
    return recipe.parse(tree), {row.name: f"{row.value}; {row.reason}" for row in rows}


def test_color_pictures_of_64_pixels():
    found, rows = chosen(pictures(), 48_000)
    assert found.networks["generator"].architecture == "resnet"
    assert [term["weight"] for term in found.game.options["terms"]] == [2.0, 2.0]
    assert found.game.options["augment"] == {"name": "diff_augment", "policy": "translation"}
    average = {"ema_half_life": 48_000, "ema_rampup": 0.04}
    assert found.game.options.items() >= average.items()
    assert found.networks["generator"].options["shortcut"] == "blurred"
    assert found.game.options["average_deviations"] == [0.05, 0.1]
    rate = {"name": "inverse_sqrt", "rate": 5e-4, "decay_examples": 16_000}
    assert found.optimizers["generator"].learning_rate == rate
    assert (found.training.batch_size, found.training.tick_examples) == (32, 2_000)
    assert (found.evaluation.every_examples, found.evaluation.count) == (9_600, 1_000)
    assert found.evaluation.features is None  # of no data but the pictures' own
    assert found.evaluation.pictures == "all"  # as few are held out
    assert chosen(pictures(count=300, held_out=30), 48_000)[0].evaluation.count == 330
    assert rows["augmentation"] == "translation; seen 12 times each"


def test_lengths_are_shares_of_the_budget():
    for examples in (12_000, 480_000):
        found, _ = chosen(pictures(28, 1, 60_000), examples)
        rate = found.optimizers["generator"].learning_rate
        assert (rate["start"], rate["examples"]) == (1.6e-3, examples // 2)
        assert found.game.options["ema_half_life"] == examples
        assert found.evaluation.every_examples == examples // 5
        assert found.networks["generator"].architecture == "dcgan"
    assert chosen(pictures(held_out=1_000), 480_000)[0].evaluation.pictures == "held_out"


@pytest.mark.parametrize(
    ("size", "weight", "constant"),
    [
        (16, 1.0, 64_000),
        (32, 1.0, 64_000),
        (48, 1.125, 28_444),
        (64, 2.0, 16_000),
        (128, 8.0, 16_000),
    ],
)
def test_penalties_grow_with_the_area_and_rates_fall_earlier(size, weight, constant):
    found, _ = chosen(pictures(size), 48_000)
    assert found.optimizers["generator"].learning_rate["decay_examples"] == constant
    assert found.game.options["terms"][0]["weight"] == weight


def test_few_pictures_are_augmented_adaptively_and_many_not_at_all():
    few, _ = chosen(pictures(count=500), 30_000)
    assert few.game.options["augment"] == {"name": "adaptive", "blit": 0.0, "examples": 3_000}
    many, _ = chosen(pictures(count=200_000), 30_000)
    assert many.game.options["augment"] is None


def test_facts_about_pictures():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 8, 12, 3)).astype("uint8")
    x[30:45, 0] = x[30:45, -1] = x[30:45, :, 0] = x[30:45, :, -1] = 255  # 15 with a white border
    x[50:] = x[40:50]  # and 10 copies, 5 of them with one
    y = np.array([0] * 20 + [1] * 40)
    found = automatic.look(datasets.from_arrays(x, y, x_test=x[:7] // 2, y_test=y[:7]))
    assert (found.size, found.channels, found.count, found.held_out) == ((8, 12), 3, 60, 7)
    assert (found.classes, found.copies, found.side) == ((20, 40), 10, 12)
    assert found.plain == pytest.approx(20 / 60)


def test_data_for_which_no_recipe_can_be_chosen():
    points = datasets.from_arrays(np.random.default_rng(0).normal(size=(80, 2)).astype("float32"))
    with pytest.raises(UsageError, match=r"for pictures only.*Received: points of shape \(2,\)"):
        automatic.look(points)
    noise = np.random.default_rng(0).integers(0, 256, (54, 8, 8, 1)).astype("uint8")
    with pytest.raises(UsageError, match=r"at least 50 pictures .* Received: 49 to train on"):
        automatic.look(datasets.from_arrays(noise, held_out=5 / 54))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(70):
        place = tmp_path / "pics" / ("a", "b")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3)).astype("uint8")
        PIL.Image.fromarray(pixels).save(place / f"{index}.png")
    return tmp_path / "pics"


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("keras-gan: error: ")


def test_the_command_needs_something_to_train(capsys):
    line = refused(capsys, "train")
    assert line == (
        "train takes a recipe, --data FOLDER of pictures, or --resume RUN. Received: none"
    )


def test_mistakes_are_one_line(capsys, folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    assert "Received" in refused(capsys, "train", "--data", folder, "--run", run)
    for setting, rule in (
        ("training.exampels=1", "training.exampels is not a key of the recipe"),
        ("data.sizes=8", "sizes"),
    ):
        line = refused(capsys, "train", "--data", folder, "--set", setting)
        assert rule in line, line
    assert "training.minutes" in refused(capsys, "train", "--data", folder, "--minutes", "-1")


def test_a_folder_is_trained_without_a_recipe(capsys, folder, tmp_path):
    small = ("networks.generator.width=4", "networks.discriminator.width=4")
    settings = [part for setting in small for part in ("--set", setting)]
    run = tmp_path / "run"
    main(["train", "--data", str(folder), "--minutes", "0.05", *settings, "--run", str(run)])
    out, err = capsys.readouterr()
    assert re.search(r"size +8x8, RGB +as stored", out)
    assert re.search(r"classes +2, not used +the smallest has \d+ pictures", out)
    assert re.search(r"expect +[\d,]+ examples in 0.05 minutes", out)
    assert "fewer than 1,000 pictures tends to copy them. Received: 63" in err
    written = yaml.safe_load((run / "recipe.yaml").read_text())
    assert written["networks"]["generator"]["width"] == 4
    assert written["training"]["minutes"] == 0.05
    assert (run / "report.html").is_file()
    assert list((run / "samples").glob("*.png"))


def test_a_length_of_ones_own_sets_the_shares(folder):
    small = ("networks.generator.width=4", "networks.discriminator.width=4")
    found = automatic.plan(str(folder), 30.0, ["training.examples=3200", *small])
    assert found.recipe.training.examples == 3_200
    assert found.recipe.evaluation.every_examples == 640
    assert found.recipe.game.options["augment"]["examples"] == 320
    expected = found.rows[-1]
    assert re.fullmatch(r"3,200 examples in [\d.]+ minutes", expected.value)
    long = automatic.plan(str(folder), 0.05, ["training.examples=10000000", *small])
    assert long.recipe.training.examples == 10_000_000
    assert re.fullmatch(r"[\d,]{3,6} examples in 0.05 minutes", long.rows[-1].value)


def test_alpha_channels_are_said(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(60):
        pixels = rng.integers(0, 256, (16, 16, 4 if number < 20 else 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    source = datasets.open(tmp_path)
    assert source.composited == 20
    assert "; 20 images with an alpha channel are composited onto white" in source.description
    rows = {row.name: row for row in automatic._of_data(automatic.look(source), source)}
    assert rows["alpha channel"].value == "in 20 pictures"
    for options in ({"channels": 4}, {"channels": 1}):
        source = datasets.open(tmp_path, **options)
        assert source.composited == (20 if options["channels"] == 1 else 0)
        assert ("alpha channel" in source.description) == (options["channels"] == 1)
    for number in range(20):
        (tmp_path / f"{number}.png").unlink()
    (tmp_path / "more.png").write_bytes((tmp_path / "30.png").read_bytes())
    source = datasets.open(tmp_path)
    assert (source.composited, "alpha channel" in source.description) == (0, False)


def test_texts_in_brackets_are_printed(capsys):
    table = _app.table()
    table.add_row("classes", "condition=[labels]")
    _app.out.print(table)
    _app.print_line("networks.generator.condition=[labels]")
    assert capsys.readouterr().out.count("condition=[labels]") == 2


# ------------------------------------------------------------------------ recipes for other data


def arrays(size=28, channels=1, count=80):
    x = np.random.default_rng(0).integers(0, 256, (count, size, size, channels), np.uint8)
    return datasets.from_arrays(x)


def test_a_recipe_made_for_other_samples_is_named_with_what_to_type():
    for name in ("quickstart", "fashion-mnist", "fashion-mnist-classes"):
        line = automatic.describe_misfit(name, "pics", arrays(64, 3))
        assert line.startswith(f"The recipe {name} is for samples of 28 x 28 pixels in gray, and")
        assert "Received: images of 64 x 64 pixels in color. `keras-gan train --data pics`" in line
    for size, channels in ((28, 3), (32, 1)):
        assert "chooses a recipe" in automatic.describe_misfit(
            "quickstart", "x", arrays(size, channels)
        )
    line = automatic.describe_misfit("gaussians-8", "pics", arrays())
    assert "is for samples of shape (2,)" in line
    points = datasets.from_arrays(np.zeros((9, 2), "float32") + np.arange(9)[:, None])
    line = automatic.describe_misfit("quickstart", "x.npz", points)
    assert line.endswith("Received: points of shape (2,)")  # none can be chosen for them
    assert automatic.describe_misfit("gaussians-25", "x.npz", points) == ""


def test_a_recipe_that_fits_or_whose_samples_are_not_known_is_not_named(tmp_path):
    assert automatic.describe_misfit("quickstart", "x", arrays()) == ""
    assert automatic.describe_misfit("stacked-fashion", "x", arrays(28, 3)) == ""
    assert automatic.describe_misfit("celeba-64-r3gan", "x", arrays(64, 3)) == ""
    assert automatic.describe_misfit("cifar10-sngan", "x", arrays(64, 3)) == ""  # of no known size
    assert "of 64 x 64 pixels, and" in automatic.describe_misfit("celeba-64-r3gan", "x", arrays())
    tree = yaml.safe_load(recipe.load("quickstart").to_yaml())
    for number, data in enumerate(({"source": "gone"}, {"source": str(tmp_path)})):
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump({**tree, "data": data}))
        assert automatic.describe_misfit(str(tmp_path / f"{number}.yaml"), "x", arrays(64, 3)) == ""


def test_the_command_warns_of_a_recipe_for_other_pictures_once(tmp_path, capsys):
    for name, size, channels in (("small", 28, 1), ("large", 32, 3)):
        x = np.random.default_rng(0).integers(0, 256, (90, size, size, channels), np.uint8)
        np.savez(tmp_path / f"{name}.npz", x)
    to = ["--dry-run", "--run", str(tmp_path / "run")]
    main(["train", "quickstart", "--data", str(tmp_path / "small.npz"), *to])
    assert capsys.readouterr().err == ""
    main(["train", "quickstart", "--data", str(tmp_path / "large.npz"), *to])
    error = capsys.readouterr().err
    assert error.startswith("keras-gan: warning: The recipe quickstart is for samples of 28 x 28")
    assert error.count("\n") == 1
    # Fitting options are no reason to warn, and an error stays one line.
    with pytest.raises(SystemExit):
        main(["train", "quickstart", "--data", str(tmp_path / "large.npz"), *to,
              "--set", "training.batch_size=9000"])  # fmt: skip
    assert capsys.readouterr().err.count("\n") == 1
