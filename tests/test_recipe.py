"""Recipes: presets are complete, and errors name the path of a wrong key."""

import importlib
import pathlib
import re

import keras
import numpy as np
import pytest
import yaml

import keras_gan
from keras_gan import UsageError, __main__, recipe, train


@pytest.mark.parametrize("name", sorted(recipe.names()))
def test_presets_are_valid_and_round_trip(name, tmp_path):
    loaded = recipe.load(name)
    assert recipe.names()[name].endswith(".")
    path = tmp_path / "resolved.yaml"
    path.write_text(loaded.to_yaml())
    again = recipe.load(str(path))
    assert again == loaded
    assert again.diff(loaded) == []


def test_the_four_basic_presets_exist():
    assert {"quickstart", "fashion-mnist", "gaussians-8", "gaussians-25"} <= set(recipe.names())


def test_overrides():
    loaded = recipe.load(
        "quickstart",
        [
            "training.batch_size=128",
            "game.terms.1.weight=0.5",
            "optimizers.generator.learning_rate=1e-3",
            "networks.generator.widths=[8, 4, 4]",
            "game.loss=hinge",
        ],
    )
    assert loaded.training.batch_size == 128
    assert loaded.game.terms[1] == {"name": "r2", "weight": 0.5, "interval": 8}
    assert loaded.optimizers["generator"].learning_rate == 0.001
    assert loaded.networks["generator"].options["widths"] == [8, 4, 4]
    assert loaded.game.loss == "hinge"
    assert recipe.load("quickstart", data="gaussians").data.model_dump() == {"source": "gaussians"}


def test_diff_names_the_paths():
    a = recipe.load("quickstart")
    b = recipe.load("quickstart", ["training.seed=7", "networks.generator.norm=none"])
    assert a.diff(b) == ["networks.generator.norm: unset -> none", "training.seed: 0 -> 7"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.batchsize=3", "training.batchsize is not a key .* Did you mean 'batch_size'"),
        ("trainign.seed=3", "trainign is not a key of the recipe. Did you mean 'training'"),
        (
            "networks.generator.widht=3",
            "^networks.generator.widht is not an option of the generator 'dcgan'. "
            r"Received: networks.generator.widht=3. Did you mean 'width'\?$",
        ),
        ("networks.discriminator.norms=x", "networks.discriminator.norms .* Did you mean 'norm'"),
        (
            "networks.generator.conditon=[labels]",
            "networks.generator.conditon is not an option .* Did you mean 'condition'",
        ),
        (
            "networks.generator={architectur: dcgan}",
            "networks.generator.architectur is not a key of the .* Did you mean 'architecture'",
        ),
        ("networks.generatr={architecture: dcgan}", "networks.generatr is .* mean 'generator'"),
        ("optimizers.generatr={beta_1: 0}", "optimizers.generatr is not .* mean 'generator'"),
        ("data={sorce: gaussians}", "data.sorce is not a key of the recipe. .* mean 'source'"),
        ("data={}", "^data.source is missing from the recipe$"),
        (
            "data={source: folder}",
            "^data.path is missing: the data set 'folder' needs it. Received: no options$",
        ),
        (
            "data.foldr=x",
            "data.foldr is not an option of the data set 'fashion-mnist-10k'. "
            "Received: data.foldr='x'. Valid: labeled, labeled_seed, labeled_share, labels, source",
        ),
        (
            "data.channels=1",
            "data.channels is not an option of the data set 'fashion-mnist-10k'. "
            "Received: data.channels=1. Valid: labeled, labeled_seed, labeled_share, labels, "
            "source$",
        ),
        ("data.label=false", "data.label is not .* Did you mean 'labels'"),
        ("data.labls=false", "data.labls is not .* Did you mean 'labels'"),
        ("game.terms.0.wieght=3", "game.terms.0.wieght .* Did you mean 'weight'"),
        ("game.terms.0.weight=-1", "game.terms.0: `weight` .* weight=-1"),
        ("game.terms.0.name=r3", "game.terms.0 must name a term. Received: 'r3'"),
        ("game.loss=hing", "game.loss must name a loss. Received: 'hing'. Did you mean 'hinge'"),
        ("game.augment=diff", "game.augment must name an augmentation. Rec.* 'diff'. Did you mean"),
        ("game.augment={name: diff_augment, plicy: x}", "augment.plicy .* Did you mean 'policy'"),
        ("game.augment={name: diff_augment, policy: colr}", "game.augment: `policy` .* 'color'"),
        ("optimizers.generator.beta1=0", "optimizers.generator.beta1 .* Did you mean 'beta_1'"),
        ("optimizers.generator.name=adm", "optimizers.generator.name must be .* 'adm'. Did you"),
        ("optimizers.generator.learning_rate={name: cosin}", "generator.learning_rate must name a"),
        ("optimizers.generator.learning_rate={name: cosine, strt: 1}", "rate.strt .* mean 'start'"),
        (
            "optimizers.generator.learning_rate=0",
            "`learning_rate` must be a number above 0. Rec.*=0.0",
        ),
        ("optimizers.generator.learning_rate=fast", "learning_rate: .*, or a schedule .* 'fast'"),
        ("optimizers.generator.beta_2={name: linear}", "beta_2.start is missing: the sch"),
        (
            "optimizers.generator.learning_rate={name: cosine, start: 1, examples: -5}",
            "generator.learning_rate: `examples` must be a number above 0. Received: examples=-5",
        ),
        (
            "optimizers.generator.learning_rate={name: cosine, start: -1}",
            r"generator: `learning_rate` must be .* from 0 up. Received: .*=Cosine\(start=-1.0",
        ),
        (
            "optimizers.generator.clipnorm={name: cosine, start: 1}",
            r"generator: `clipnorm` must be a number above 0. Received: clipnorm=Cosine\(",
        ),
        (
            "game.terms.0.weight={name: cosine, start: 1, end: -1}",
            r"game.terms.0: `weight` must .* from 0 up. Received: weight=Cosine\(start",
        ),
        (
            "game.terms.0.weight={name: warm_up, to: {name: cosne}, examples: 5}",
            "game.terms.0.weight.to must name a schedule. Rec.* 'cosne'. Did you mean 'cosine'",
        ),
        (
            "game.ema_half_life={name: warm_up, examples: 9e9, to: {name: linear, start: 1}}",
            "game.ema_half_life: A warm-up must be shorter than the training",
        ),
        ("training.batch_size=abc", "training.batch_size: must be an integer.* Received: 'abc'"),
        ("training.batch_size=0", "training.batch_size: .* greater than or equal to 1"),
        ("training.examples=null", "training.examples: must be an integer"),
        ("training.precision=float16", "training.precision: .*'mixed_float16'.*'float16'"),
        ("game.discriminator_steps=3", "multiple of game.discriminator_steps=3:.*batch_size=64"),
        ("game.pac=3", "multiple of game.pac=3: each device.*batch_size=64"),
        ("game.conditional=true", "game.conditional is not an option of the game 'gan'. "),
        ("game.name=gun", "game.name must name a game. Received: 'gun'. Did you mean 'gan'"),
        ("game.seed=3", "game.seed is not an option of the game 'gan'. "),
        ("game.loss=null", "game.loss must name a loss. Received: None"),
        ("game.terms=true", "game.terms must be a list. Received: True"),
        ("networks.generater={}", "networks.generater is not a key .* Did you mean 'generator'"),
        ("networks.critic={architecture: dcgan}", "networks.critic is not a key .* Valid: "),
        (
            "networks.generator.condition=[masks]",
            "networks.generator.condition: .*labels only.*'masks'",
        ),
        ("optimizers.critic={}", "optimizers.critic is not a key of the recipe. Valid: discr"),
        ("game.terms.0={name: path_length, dcay: 1}", "dcay .* Did you mean 'decay'"),
        ("optimizers.generator.lazy_interval=0", "lazy_interval: .* equal to 1. Received: 0"),
        ("optimizers.generator={name: sgd, lazy_interval: 4}", "must have. Received: .*='sgd'"),
        (
            "networks.generator.latent_dim=none",
            "networks.generator.latent_dim: .* integer.* Received: 'none'",
        ),
        (
            "networks.generator.architecture=dcgn",
            "networks.generator.architecture must be one of .* 'dcgan'",
        ),
        ("data.source=nowhere", "Received: 'nowhere'"),
        ("seed", "--set takes dotted.path=value. Received: 'seed'"),
        ("game.terms.9.weight=1", "--set must name a key of the recipe"),
        ("training.seed=[", "--set takes a value in YAML"),
    ],
)
def test_the_error_for_a_wrong_key_is_one_line_with_its_path(setting, message):
    settings = ["training.batch_size=64", setting]
    with pytest.raises(UsageError, match=message) as caught:
        recipe.load("quickstart", settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "received"),
    [
        ("beta_1=2", "`beta_1` must be a number from 0 up and below 1. Received: beta_1=2"),
        ("beta_2=1.0", "`beta_2` must be a number from 0 up and below 1. Received: beta_2=1.0"),
        ("beta_1=true", "`beta_1` must be a number .* Received: beta_1=True"),
        ("beta_1=null", "`beta_1` must be a number .* Received: beta_1=None"),
        ("beta_1=half", "`beta_1` must be a number .* Received: beta_1='half'"),
        ("epsilon=0", "`epsilon` must be a number above 0. Received: epsilon=0"),
        ("epsilon=.nan", "`epsilon` must be a number above 0. Received: epsilon=nan"),
        ("weight_decay=-0.1", "`weight_decay` must be a number from 0 up. Received: .*=-0.1"),
        ("clipnorm=abc", "`clipnorm` must be a number above 0. Received: clipnorm='abc'"),
        ("ema_momentum=1.5", "`ema_momentum` must be a number from 0 to 1. Received: .*=1.5"),
        ("amsgrad=3", "`amsgrad` must be true or false. Received: amsgrad=3"),
        ("gradient_accumulation_steps=1", "`grad.*` must be an integer of at least 2. Rec.*=1"),
        ("learning_rate=-1", "`learning_rate` must be a number from 0 up. Rec.*=-1.0"),
        ("beta_1={name: linear, start: 0.5, end: 2}", r"`beta_1` .* below 1. Rec.*=Linear\(st"),
        (
            "weight_decay={name: cosine, start: 0.1, end: -1}",
            r"`weight_decay` must be a number from 0 up. Received: .*=Cosine\(",
        ),
        (
            "learning_rate={name: warm_up, examples: 5, to: {name: linear, start: 1, end: -1}}",
            r"`learning_rate` must be a number from 0 up. Received: learning_rate=WarmUp\(",
        ),
    ],
)
def test_numbers_out_of_an_optimizers_range_are_refused(setting, received):
    with pytest.raises(UsageError, match=f"^optimizers.generator: {received}") as caught:
        recipe.load("quickstart", [f"optimizers.generator.{setting}"])
    assert "\n" not in str(caught.value)


def test_numbers_in_an_optimizers_range_are_taken():
    valid = ("beta_1=0", "epsilon=1e-3", "weight_decay=0.0", "clipnorm=null", "amsgrad=true")
    loaded = recipe.load("quickstart", [f"optimizers.generator.{setting}" for setting in valid])
    optimizer = recipe.make_optimizer(loaded.optimizers["generator"])
    assert (optimizer.beta_1, optimizer.epsilon, optimizer.amsgrad) == (0, 1e-3, True)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("game.ema_half_life=-1", "ema_half_life.* number from 0 up. Received: .*=-1.0"),
        ("game.ema_half_life={name: linear, start: -1}", "ema_half_life.* from 0 up. Rec.*=-1"),
        ("game.top_k=0", "top_k.* above 0 and at most 1. Received: top_k=0.0"),
        ("game.top_k=2", "top_k.* above 0 and at most 1. Received: top_k=2.0"),
        ("game.discriminator_steps=0", "discriminator_steps.* at least 1. Received: .*=0"),
        ("game.pac=0", "pac.* at least 1. Received: pac=0"),
        ("game.ema_rampup=0", "ema_rampup.* above 0. Received: ema_rampup=0.0"),
    ],
)
def test_a_value_out_of_the_games_range_is_refused_when_the_game_is_built(setting, message):
    loaded = recipe.load("gaussians-8", [setting])
    with pytest.raises(UsageError, match=message) as caught:
        train.build(loaded, keras_gan.Spec("points", (2,)))
    assert "\n" not in str(caught.value)


LABELS = [f"networks.{name}.condition=[labels]" for name in ("generator", "discriminator")]


def test_packs_have_no_labels():
    loaded = recipe.load("gaussians-8", [*LABELS, "game.pac=2"])
    with pytest.raises(UsageError, match=r"must have pac=1. Received: pac=2, num_classes=3"):
        train.build(loaded, keras_gan.Spec("points", (2,), num_classes=3))


def test_labels_need_data_with_labels():
    loaded = recipe.load("gaussians-8", LABELS)
    message = r"networks.generator.condition=\[labels\] needs data with labels.*'gaussians'"
    with pytest.raises(UsageError, match=message):
        train.build(loaded, keras_gan.Spec("points", (2,)))
    gan = train.build(loaded, keras_gan.Spec("points", (2,), num_classes=3))
    assert gan.num_classes == 3


@pytest.fixture
def lines(tmp_path):
    """The path of data that takes lists as options."""
    np.savez(tmp_path / "lines.npz", np.zeros((4, 2), "float32"))
    return str(tmp_path / "lines.npz")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("data.class_names=no,yes", ["no", "yes"]),
        ("data.class_names=[no, yes, Off, on]", ["no", "yes", "Off", "on"]),
        ("data.class_names=0,1", ["0", "1"]),
        ('data.columns=c,"a, b"', ["c", "a, b"]),
        ("data.value_range=0,255", [0, 255]),
        ("data.value_range=-0.5,0.5", [-0.5, 0.5]),
        ("data.labels=no", False),
        ("networks.generator.widths=8,4,4", [8, 4, 4]),
        ("networks.generator.condition=labels", ["labels"]),
        ("evaluation.others=precision,recall", ["precision", "recall"]),
        ("game.terms=r1,r2", ["r1", "r2"]),
        # One value is a list of one.
        ("evaluation.others=precision", ["precision"]),
        ("data.class_names=cat", ["cat"]),
        ('data.class_names="a, b"', ["a", "b"]),
        ("networks.generator.widths=8", [8]),
        ("game.terms=r1", ["r1"]),
    ],
)
def test_a_text_with_commas_is_a_list_where_one_is_expected(lines, setting, expected):
    path, _, _ = setting.partition("=")
    loaded = recipe.load("quickstart", [setting], lines)
    section, *rest = path.split(".")
    found = getattr(loaded, section)
    for key in rest:
        found = found[key] if isinstance(found, dict) else getattr(found, key)
    assert found == expected
    if section == "data":
        assert recipe.parse_data(lines, [setting]) == {rest[0]: expected}
    assert recipe.parse(yaml.safe_load(loaded.to_yaml())) == loaded


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        (
            "data.class_names=[true, no]",
            "class_names.0: must be a string; put numbers, .* Received: True",
        ),
        ("data.class_names=[1, 2]", "class_names.0: must be a string; .* in quotes. Received: 1"),
        ('data.class_names=""', r"class_names: must be a list, such as .* Received: ''"),
        ('networks.generator.condition=""', r"condition: must be a list, such as .* Received: ''"),
        ("evaluation.others=3", r"others: must be a list, such as .* Received: 3"),
        ("data.value_range=black", "value_range: must be a list, such as .* Received: 'black'"),
        ("data.class_names=3", r"class_names: must be a list, such as \[A, B\]. Received: 3"),
        ("data.value_range=0:255", "value_range: must be a list, such as .* Received: '0:255'"),
        ("data.value_range=255", "value_range: must be a list, such as .* Received: 255"),
        ("data.value_range=0,x", "value_range.1: must be a number. Received: 'x'"),
        ("networks.generator.widths=b", "widths: must be a list, such as .* Received: 'b'"),
        ("networks.generator.widths=true", "widths: must be a list, such as .* Received: True"),
        ("networks.generator.widths=8,b", "widths.1: must be an integer. Received: 'b'"),
        ("evaluation.others=precision,rcall", "evaluation.others.1: must be one of"),
        ("training.examples=yes", "^training.examples: must be a number. Received: True"),
        ("training=3", "^training: must be a section of keys, such as .* Received: 3"),
    ],
)
def test_what_is_not_a_list_or_a_text_is_refused_in_words_of_recipes(lines, setting, line):
    with pytest.raises(UsageError, match=line):
        recipe.load("quickstart", [setting], lines)


def test_the_games_constructor_is_the_section():
    """A user's game with another argument needs no change in any other file."""

    class StubbornGame(keras_gan.GAN):
        def __init__(
            self,
            *args,
            stubbornness: float | keras_gan.schedules.Schedule = 0.5,
            generator: keras.Model,
            discriminator: keras.Model,
            loss: str | dict | keras_gan.losses.Loss = "hinge",
            **kwargs,
        ):
            super().__init__(generator, discriminator, *args, loss=loss, **kwargs)
            self.stubbornness = stubbornness

    assert recipe.game_classes()["stubborn_game"] is StubbornGame
    tree = recipe.load("gaussians-8").model_dump()
    tree["game"] = {"name": "stubborn_game"}
    loaded = recipe.parse(tree)
    own = {"stubbornness": 0.5, "loss": "hinge"}
    passed_on = recipe.load("gaussians-8").game.options.keys()
    assert loaded.game.model_dump().items() >= own.items()
    assert loaded.game.options.keys() == {*own, *passed_on}
    tree["game"]["stubbornness"] = {"name": "cosine", "start": 1.0}
    loaded = recipe.parse(tree)
    assert "game.stubbornness" in loaded.open_ended()
    gan = train.build(loaded, keras_gan.Spec("points", (2,)))
    assert type(gan) is StubbornGame
    assert gan.stubbornness.examples == loaded.training.examples
    tree["game"]["stubborness"] = 1
    with pytest.raises(UsageError, match=r"game.stubborness .* Did you mean 'stubbornness'"):
        recipe.parse(tree)


def test_the_error_for_what_keras_refuses_is_one_line():
    settings = ["optimizers.generator.clipnorm=1.0", "optimizers.generator.clipvalue=1.0"]
    with pytest.raises(UsageError, match=r"optimizers.generator is refused by Keras: Only one"):
        recipe.load("quickstart", settings)


def test_files_that_are_not_recipes_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"neither. Did you mean 'quickstart'"):
        recipe.load("quickstrat")
    for name, content, message in (
        ("broken.yaml", b"a: [", "must be a YAML file"),
        ("list.yaml", b"- a\n", r"must hold sections .* with list"),
        ("binary.yaml", b"\xff\xfe\x00", "readable YAML file"),
        ("empty.yaml", b"", "with NoneType"),
        ("part.yaml", b"data: {source: gaussians}\n", "networks is missing from the recipe"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UsageError, match=message):
            recipe.load(str(path))


def test_a_section_of_the_wrong_type_is_refused(tmp_path):
    tree = yaml.safe_load(recipe.load("quickstart").to_yaml())
    tree["training"] = 5
    with pytest.raises(UsageError, match=r"training: must be a section .* Received: 5"):
        recipe.parse(tree)


def test_a_schedule_without_a_length_lasts_as_long_as_the_training():
    loaded = recipe.load("gaussians-8")
    rate = recipe.make_optimizer(loaded.optimizers["generator"], examples=100)._learning_rate
    assert [float(rate.at(images)) for images in (0, 50, 100)] == pytest.approx([1e-3, 5e-4, 0])
    paths = [f"optimizers.{role}.learning_rate" for role in ("generator", "discriminator")]
    assert loaded.open_ended() == paths
    fixed = [f"{path}.examples=500" for path in paths]
    assert recipe.load("gaussians-8", fixed).open_ended() == []


def test_lazy_interval_rescales_the_optimizer():
    """c = 16 / 17, on the arguments given and on Keras's own."""
    settings = ["lazy_interval=16", "learning_rate=0.0025", "beta_1=0.0", "beta_2=0.99"]
    loaded = recipe.load("quickstart", [f"optimizers.discriminator.{s}" for s in settings])
    assert recipe.parse(loaded.model_dump()) == loaded
    optimizer = recipe.make_optimizer(loaded.optimizers["discriminator"], examples=100)
    assert float(optimizer.learning_rate) == pytest.approx(0.0025 * 16 / 17)
    assert (optimizer.beta_1, optimizer.beta_2) == (0.0, pytest.approx(0.99 ** (16 / 17)))
    by_default = recipe.OptimizerSection(name="nadam", lazy_interval=4)
    assert recipe.make_optimizer(by_default, 1).beta_2 == pytest.approx(0.999**0.8)
    assert recipe.make_optimizer(recipe.OptimizerSection(), 1).beta_2 == 0.999


def test_the_augmentations_of_the_benchmark_of_few_images_exist(monkeypatch):
    monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parents[1] / "benchmarks"))
    small_data = importlib.import_module("small_data")
    found = {
        name: recipe.load("fashion-mnist", [f"game.augment={augment}"]).game.augment
        for name, augment in small_data.AUGMENTS.items()
    }
    assert found == {"none": None, "diff_augment": "diff_augment", "ada": "adaptive"}
    loaded = recipe.load("fashion-mnist-classes", [f"game.augment={small_data.ADA}"])
    assert loaded.game.augment == "adaptive"


def test_packs_and_discriminator_steps_are_known_to_the_game_alone():
    """Recipes, builders and the rest ask the class of the game."""
    root = pathlib.Path(keras_gan.__file__).parent
    naming = [p.name for p in root.rglob("*.py") if re.search(r"\bpac\b", p.read_text("utf-8"))]
    assert naming == ["gan.py"]
    for name in ("checking.py", "games.py", "signatures.py"):
        assert "discriminator_steps" not in (root / "recipe" / name).read_text("utf-8")
    assert keras_gan.GAN.batch_factors({"pac": 2}) == {"discriminator_steps": 1, "pac": 2}
    spec = keras_gan.Spec("points", (2,))
    assert keras_gan.GAN.network_spec("discriminator", spec, {"pac": 3}).shape == (6,)
    assert keras_gan.GAN.network_spec("generator", spec, {"pac": 3}) == spec
    assert keras_gan.Game.batch_factors({"pac": 2}) == {}


def test_the_path_of_a_wrong_list_has_only_keys():
    with pytest.raises(UsageError, match=r"^data\.vocabulary: .* Received: 'abcd'$"):
        recipe.load("gaussians-8", ["data={source: arrays, path: x.npz, vocabulary: abcd}"])


_ResourceExhausted = type("ResourceExhaustedError", (Exception,), {})


@pytest.mark.parametrize(
    "error", [MemoryError(), "tensor with shape[16,9999999999] and type float"]
)
def test_a_network_beyond_the_memory_is_one_line(error, monkeypatch, capsys):
    def fail(*_, **__):
        raise error if isinstance(error, MemoryError) else _ResourceExhausted(error)

    monkeypatch.setattr(__main__, "app", fail)
    with pytest.raises(SystemExit) as ending:
        __main__.main(["list"])
    assert ending.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "must fit into memory. Received: " in lines[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64:48", "64:48"),
        ("010", 10),
        ("1_000", 1000),
        ("-0x10", -16),
        ("3.", 3),  # a size
    ],
)
def test_numbers_are_those_of_yaml_1_2(text, value):
    found = recipe.parse_data(".", [f"data.size={text}"])["size"]
    assert (found, type(found)) == (value, type(value))
