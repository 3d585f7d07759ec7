"""Overrides of a recipe: keys taken out, another architecture, and names that people type."""

import pathlib
import re
import shlex

import pytest

from keras_gan import UsageError, architectures, augment, losses, recipe, registry, terms
from keras_gan.__main__ import main

DOCS = pathlib.Path(__file__).parents[1] / "docs"
R3GAN = "networks.discriminator.architecture=r3gan"


def commands(page):
    """Returns the commands of a page: those in code spans and those in code blocks."""
    text = (DOCS / page).read_text("utf-8")
    found = re.findall(r"`(keras-gan train [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.S))
    for block in re.findall(r"```\w*\n(.*?)```", text, re.S):
        found += re.findall(r"^keras-gan train .*", block.replace("\\\n", " "), re.M)
    return [shlex.split(command) for command in found]


@pytest.mark.parametrize("command", commands("architectures.md"), ids=lambda c: c[2])
def test_the_commands_of_the_page_run(command, capsys):
    main([*command[1:], "--dry-run"])
    printed = capsys.readouterr()
    assert "architecture: r3gan" in printed.out
    assert "discriminator: 151,328 parameters" in printed.out
    assert printed.err.splitlines() == [
        "keras-gan: warning: networks.generator.architecture=r3gan drops the recipe's options of "
        "dcgan: latent_dim=64",
        "keras-gan: warning: networks.discriminator.architecture=r3gan drops the recipe's options "
        "of dcgan: extra_halvings=1",
    ]


def test_another_architecture_has_none_of_the_former_ones_options():
    settings = ["networks.discriminator.preset=cpu-small", R3GAN]
    with pytest.warns(UserWarning, match="^networks.discriminator.architecture=r3gan drops") as got:
        loaded = recipe.load("fashion-mnist-classes", settings)
    assert len(got) == 1
    assert "of dcgan: " in str(got[0].message)
    assert "extra_halvings=1" in str(got[0].message)
    section = loaded.networks["discriminator"]
    assert section.options == {"preset": "cpu-small"}  # set before the architecture, and kept
    assert section.condition == ["labels"]  # not an option of an architecture
    assert (
        loaded.networks["generator"] == recipe.load("fashion-mnist-classes").networks["generator"]
    )


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_same_architecture_keeps_its_options():
    setting = "networks.discriminator.architecture=dcgan"
    assert recipe.load("quickstart", [setting]) == recipe.load("quickstart")
    whole = "networks.discriminator={architecture: r3gan, preset: cpu-small}"
    assert recipe.load("quickstart", [whole]).networks["discriminator"].options == {
        "preset": "cpu-small"
    }


def test_a_key_without_a_value_is_taken_out():
    settings = [
        "networks.discriminator.extra_halvings=",
        "game.terms.1=",
        "optimizers.generator= ",
        "training.minutes=",
    ]
    loaded = recipe.load("quickstart", settings)
    assert loaded.networks["discriminator"].options == {}
    assert [term["name"] for term in loaded.game.terms] == ["r1"]
    assert loaded.optimizers["generator"] == recipe.OptimizerSection()
    assert loaded.training.minutes is None
    assert recipe.load("quickstart", ["game.augment=null"]).game.augment is None


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("networks.discriminator.extra_halving=", "Did you mean 'extra_halvings'?"),
        ("trainin=", "Did you mean 'training'?"),
        ("data.size=", "Valid: source"),
    ],
)
def test_a_key_that_is_not_stated_cannot_be_taken_out(setting, hint):
    with pytest.raises(UsageError) as error:
        recipe.load("quickstart", [setting])
    assert str(error.value) == (
        "--set key= takes out a key that the recipe states, and key=null sets null. "
        f"Received: {setting!r}. {hint}"
    )


@pytest.mark.parametrize("setting", ["game.terms.7=", "game.loss.x=", "game.no.section=", "=3"])
def test_a_path_that_leads_nowhere_cannot_be_taken_out(setting):
    with pytest.raises(UsageError, match=r"^--set (must name a key|takes dotted\.path=value)"):
        recipe.load("quickstart", [setting])


@pytest.mark.parametrize(
    ("path", "typed", "name"),
    [
        ("game.augment", "ada", "adaptive"),
        ("game.augment", "ADA", "adaptive"),
        ("game.augment", "stylegan2-ada", "adaptive"),
        ("game.augment", "DiffAugment", "diff_augment"),
        ("game.augment", "diffaugment", "diff_augment"),
        ("game.augment", "diff-augment", "diff_augment"),
        ("game.augment", "ap", "apa"),  # by its spelling
        ("game.loss", "WGAN", "wasserstein"),
        ("game.loss", "lsgan", "least_squares"),
        ("game.loss", "RaGAN", "relativistic_average"),
        ("game.terms.0", "wgan-gp", "gradient_penalty"),
        ("game.terms.0", "LeCam", "le_cam"),
        ("game.terms.0", "bcr", "balanced_consistency"),
        ("networks.generator.architecture", "r3-gan", "r3gan"),
        ("networks.generator.architecture", "DCGAN", "dcgan"),
        ("networks.generator.architecture", "SNGAN", "resnet"),
    ],
)
@pytest.mark.filterwarnings("error::UserWarning")  # an unknown architecture drops no options
def test_a_name_that_people_type_is_found(path, typed, name):
    with pytest.raises(UsageError, match=rf"Received: '{typed}'.* Did you mean '{name}'\?$"):
        recipe.load("quickstart", [f"{path}={typed}"])


def test_other_names_are_not_names_and_stand_for_one_thing():
    bases = (losses.Loss, terms.Term, augment.Augment)
    for known in (*map(registry.classes, bases), architectures.families()):
        others = [o for each in known.values() for o in vars(each).get("also_called", ())]
        assert len(others) == len(set(others))
        assert not {re.sub(r"\W|_", "", name) for name in known} & set(others)
        assert all(re.fullmatch("[a-z0-9]+", other) for other in others)
