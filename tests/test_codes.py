"""Codes in the latents: layer, networks, the term of InfoGAN, and sprites of known factors."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import erf

import export
import keras_gan
import serving
from export import fidelity, quantize, speed
from keras_gan import UsageError, architectures, datasets, latents, layers, metrics, terms
from keras_gan.datasets import sprites
from keras_gan.metrics.samples import Codes
from serving import seeds as numpy_seeds

RNG = np.random.default_rng(5)
CODES = {"categorical": [3, 2], "continuous": 2}
WIDTH, COUNT, LATENTS = 7, 4, 9
Z = RNG.normal(size=(500, LATENTS)).astype("float32")


def expected_codes(z):
    """Codes of latents by numpy: two categories, then two continuous codes."""
    categories = [z[:, :3].argmax(1), z[:, 3:5].argmax(1)]
    return np.column_stack([*categories, erf(z[:, 5:7].astype("float64") / math.sqrt(2))])


# ------------------------------------------------------------------------ layer


def test_the_first_latents_become_codes_and_the_others_stay():
    layer = layers.LatentCodes(**CODES)
    out = layer(Z).numpy()
    codes = expected_codes(Z)
    np.testing.assert_allclose(layer.codes(Z), codes, atol=1e-6)
    np.testing.assert_array_equal(out[:, :3], np.eye(3)[codes[:, 0].astype(int)])
    np.testing.assert_array_equal(out[:, 3:5], np.eye(2)[codes[:, 1].astype(int)])
    np.testing.assert_allclose(out[:, 5:7], codes[:, 2:], atol=1e-6)
    np.testing.assert_array_equal(out[:, 7:], Z[:, 7:])
    assert (layer.width, layer.count) == (WIDTH, COUNT)
    again = layers.LatentCodes.from_config(layer.get_config())
    np.testing.assert_array_equal(again(Z), out)


def test_codes_of_seeds_are_equally_likely_and_uniform():
    z = np.asarray(latents.latents_from_seeds(np.arange(4000), LATENTS))
    codes = np.asarray(layers.LatentCodes(**CODES).codes(z))
    for column, count in ((0, 3), (1, 2)):
        shares = np.bincount(codes[:, column].astype(int), minlength=count) / len(codes)
        # Four standard deviations of a share.
        assert abs(shares - 1 / count).max() < 4 * math.sqrt((1 / count) / len(codes))
    deciles = np.quantile(codes[:, 2:], np.linspace(0.1, 0.9, 9), axis=0)
    np.testing.assert_allclose(deciles, np.linspace(-0.8, 0.8, 9)[:, None] * [1, 1], atol=0.06)
    # The numbers of the seeds are those of every other network.
    np.testing.assert_allclose(z, numpy_seeds.normals(np.arange(4000), LATENTS, 0), atol=1e-6)


def test_given_codes_replace_those_of_the_latents_one_by_one():
    layer = layers.LatentCodes(**CODES)
    given = np.full((500, COUNT), -2, "float32")
    np.testing.assert_array_equal(layer([Z, given]), layer(Z))
    given[:, 0], given[:, 3] = 2, -1
    out = layer([Z, given]).numpy()
    np.testing.assert_array_equal(out[:, :3], np.tile([0, 0, 1], (500, 1)))
    np.testing.assert_array_equal(out[:, 6], np.full(500, -1))
    np.testing.assert_array_equal(
        np.delete(out, [0, 1, 2, 6], 1), layer(Z).numpy()[:, [3, 4, 5, 7, 8]]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"must be a categorical or a continuous code\. Received: categorical=\(\)"),
        ({"categorical": [1]}, r"`categorical` must be a list of integers .*categorical=\[1\]"),
        ({"categorical": 3}, r"`categorical` must be a list .*Received: categorical=3"),
        ({"continuous": -1}, r"`continuous` must be an integer of at least 0.*continuous=-1"),
        ({"continuous": 10}, r"`latent_dim` must be at least .*, 10\. Received: latent_dim=9"),
    ],
)
def test_the_layer_refuses(arguments, message):
    with pytest.raises(UsageError, match=message):
        layers.LatentCodes(**arguments)(Z)


# ------------------------------------------------------------------------ networks


SMALL = {
    "mlp": {"widths": [8, 8]},
    "dcgan": {"width": 4, "depth": 1},
    "resnet": {"widths": [4, 4]},
    "r3gan": {"width": 8, "depth": 1},
}


def networks(family="mlp", conditional=False, codes=CODES, **options):
    spec = keras_gan.Spec("image", (8, 8, 1), (-1.0, 1.0)).with_classes(2)
    small = SMALL[family]
    return architectures.build(
        family,
        spec,
        conditional,
        {"codes": codes, "latent_dim": LATENTS, **small, **options},
        {"codes": codes, **small},
    )


@pytest.mark.parametrize(
    ("family", "conditional"),
    [("mlp", False), ("dcgan", False), ("dcgan", True), ("resnet", True), ("r3gan", True)],
)
def test_a_generator_takes_codes_in_an_input_of_their_own(family, conditional):
    keras.utils.set_random_seed(0)
    generator, discriminator = networks(family, conditional)
    assert set(discriminator.output) == {"logits", "codes"}
    assert discriminator.output["codes"].shape == (None, WIDTH)
    steered = layers.with_codes_input(generator)
    names = ["latents", *(["labels"] if conditional else []), "codes"]
    assert [tensor.name for tensor in steered.inputs] == names
    assert {id(w) for w in steered.weights} == {id(w) for w in generator.weights}
    labels = [np.array([0, 1] * 10, "int32")] if conditional else []
    z = Z[:20]
    own = generator([z, *labels] if conditional else z).numpy()
    unset = np.full((20, COUNT), -2, "float32")
    np.testing.assert_allclose(steered([z, *labels, unset]), own, atol=1e-6)
    codes = unset.copy()
    codes[:, 0] = 1
    moved = steered([z, *labels, codes]).numpy()
    same = z[:, :3].argmax(1) == 1
    assert 0 < same.sum() < 20
    np.testing.assert_allclose(moved[same], own[same], atol=1e-6)
    assert abs(moved[~same] - own[~same]).reshape(-1, 64).max(1).min() > 1e-4


def test_other_generators_have_no_input_of_codes():
    generator, _ = networks(codes=None)
    assert layers.with_codes_input(generator) is generator
    assert layers.find_codes(generator) is None


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([3], r"`codes` must be a dictionary of categorical and continuous.*codes=\[3\]"),
        ({"discrete": [3]}, r"`codes` must be a dictionary.*Received: codes={'discrete': \[3\]}"),
        ({"continuous": 20}, r"`latent_dim` must be at least .*20\. Received: latent_dim=9"),
    ],
)
def test_an_architecture_refuses_codes(codes, message):
    with pytest.raises(UsageError, match=message):
        networks(codes=codes)


# ------------------------------------------------------------------------ term


def test_the_values_of_the_term_by_hand():
    """-log softmax of the right category, and the Gaussian's -log density, by numpy."""
    generator, _ = networks()
    predicted = RNG.normal(size=(6, WIDTH)).astype("float32")
    z = Z[:6]
    codes = expected_codes(z)
    term = terms.MutualInformation(continuous=0.3, std=0.4)
    context = terms.StepContext(
        "generator",
        {"generator": keras_gan.networks.Network("generator", generator, ("latents",), "samples")},
        lambda samples: {"codes": tf.constant(predicted)},
        None,
        tf.constant(z),
        None,
        tf.zeros((6, 8, 8, 1)),
        (0, 0),
    )
    rows = np.arange(6)
    wanted = 0.0
    for column, part in ((0, predicted[:, :3]), (1, predicted[:, 3:5])):
        logs = part - np.log(np.exp(part).sum(1, keepdims=True))
        wanted = wanted - logs[rows, codes[:, column].astype(int)]
    density = np.exp(-(((codes[:, 2:] - predicted[:, 5:]) / 0.4) ** 2) / 2) / (
        0.4 * math.sqrt(2 * math.pi)
    )
    wanted = wanted - 0.3 * np.log(density).sum(1)
    np.testing.assert_allclose(term.values(context), wanted, rtol=1e-5)


def test_the_gradient_by_the_predictions_agrees_with_finite_differences():
    layer = layers.LatentCodes(**CODES)
    term, codes = terms.MutualInformation(continuous=0.7, std=0.6), layer.codes(Z[:4])
    predicted = tf.Variable(RNG.normal(size=(4, WIDTH)).astype("float32"))

    def value(at):
        return term._negative_log_likelihood(layer, codes, at)

    with tf.GradientTape() as tape:
        total = tf.reduce_sum(value(predicted))
    gradient = tape.gradient(total, predicted).numpy()
    for column in range(WIDTH):
        step = np.zeros((4, WIDTH), "float32")
        step[:, column] = 1e-2
        slope = (value(predicted + step) - value(predicted - step)).numpy() / 2e-2
        np.testing.assert_allclose(gradient[:, column], slope, atol=2e-3)


def test_both_networks_learn_the_codes(tmp_path):
    """Nothing can be read at first, and the categories after a few epochs, also when loaded."""
    keras.utils.set_random_seed(1)
    generator, discriminator = networks(codes={"categorical": [3], "continuous": 1})
    gan = keras_gan.GAN(generator, discriminator, terms=["mutual_information"])
    gan.compile(keras.optimizers.Adam(2e-3), keras.optimizers.Adam(2e-3))
    data = np.tanh(RNG.normal(size=(512, 8, 8, 1))).astype("float32")
    logs = gan.fit(data, batch_size=32, epochs=20, verbose=0).history
    # log 3 for the category and about 1 for the other code if nothing is known.
    assert logs["mutual_information"][0] > 1.5
    assert logs["mutual_information"][-1] < 0.8
    assert logs["generator_mutual_information"][-1] < 0.8
    z = latents.latents_from_seeds(np.arange(300), LATENTS)
    layer = layers.find_codes(gan.generator)
    predicted = discriminator(generator(z))["codes"].numpy()
    right = predicted[:, :3].argmax(1) == layer.codes(z).numpy()[:, 0]
    assert right.mean() > 0.9
    gan.save(tmp_path / "gan.keras")
    again = keras.saving.load_model(tmp_path / "gan.keras")
    np.testing.assert_array_equal(again.generate(range(4)), gan.generate(range(4)))


def test_the_term_refuses_networks_without_codes():
    generator, discriminator = networks()
    plain, blind = networks(codes=None)
    with pytest.raises(UsageError, match=r"reads the output 'codes' of the discriminator\. Rec"):
        keras_gan.GAN(generator, blind, terms=["mutual_information"])
    with pytest.raises(UsageError, match=r"needs a generator with codes.*Received: a generator w"):
        keras_gan.GAN(plain, discriminator, terms=["mutual_information"])
    _, other = networks(codes={"continuous": 2})
    with pytest.raises(UsageError, match=r"must have the shape \('batch', 7\).*\(None, 2\)"):
        keras_gan.GAN(generator, other, terms=["mutual_information"])
    packs = keras_gan.Spec("image", (8, 8, 1), (-1.0, 1.0)).packed(2)
    packed = architectures.build_network("discriminator", "mlp", packs, codes=CODES)
    with pytest.raises(UsageError, match=r"Packs of samples have no codes.*needs them\. Rec"):
        keras_gan.GAN(generator, packed, terms=["mutual_information"], pac=2)
    for arguments, message in (
        ({"std": 0}, r"`std` must be a number above 0\. Received: std=0"),
        ({"continuous": -1}, r"`continuous` must be a number from 0 up\. Received: continuous=-1"),
    ):
        with pytest.raises(UsageError, match=message):
            terms.MutualInformation(**arguments)
    term = terms.MutualInformation(0.5, 1, 0.25, 0.1, 0.4)
    assert type(term).from_config(term.get_config()).get_config() == term.get_config()


# ------------------------------------------------------------------------ sprites


@pytest.fixture(scope="module")
def drawn():
    return sprites.draw_all()


def test_all_sprites_differ_and_their_number_is_that_of_the_docstring(drawn):
    pictures, levels = drawn
    assert len(pictures) == len(levels) == 3 * 5 * 5 * 9 * 9 * 5 == 30_375
    assert "30,375" in sprites.__doc__
    assert len({picture.tobytes() for picture in pictures}) == 30_375
    assert len(np.unique(levels, axis=0)) == 30_375
    np.testing.assert_array_equal(levels.max(0) + 1, sprites.LEVELS)


def test_the_moments_of_sprites_are_their_factors(drawn):
    pictures, levels = drawn
    chosen = RNG.permutation(len(pictures))[:2000]
    weights = pictures[chosen, :, :, 0] / 255
    value = {n: v[levels[chosen, i]] for i, (n, v) in enumerate(sprites.FACTORS.items())}
    mass = weights.sum((1, 2))
    axis = np.arange(32) - 15.5
    x = (weights.sum(1) * axis).sum(1) / mass
    y = (weights.sum(2) * axis).sum(1) / mass
    assert abs(x - value["x"]).max() < 0.35
    assert abs(y - value["y"]).max() < 0.35
    peak = weights.max((1, 2))
    assert abs(peak - value["gray"]).max() < 1 / 255
    areas = (math.pi / 2, 3 * math.sqrt(3) / 4, 0.75 + 1)  # of an ellipse, triangle and cross
    wanted = np.take(areas, value["shape"].astype(int)) * value["size"] ** 2
    np.testing.assert_allclose(mass / value["gray"], wanted, rtol=0.12)
    # The long axis of an ellipse is at the angle, counterclockwise as seen.
    u, v = axis[None, None, :] - x[:, None, None], -(axis[None, :, None] - y[:, None, None])
    turn = np.arctan2(2 * (weights * u * v).sum((1, 2)), (weights * (u**2 - v**2)).sum((1, 2))) / 2
    ellipses = value["shape"] == 0
    assert abs(np.degrees(turn) - value["angle"])[ellipses].max() < 4


def test_factors_are_read_back_also_from_noisy_sprites(drawn):
    pictures, levels = drawn
    chosen = RNG.permutation(len(pictures))[:60]
    np.testing.assert_array_equal(sprites.read_factors(pictures[chosen]), levels[chosen])
    noisy = pictures[chosen] / 127.5 - 1 + RNG.normal(0, 0.05, (60, 32, 32, 1))
    np.testing.assert_array_equal(sprites.read_factors(noisy), levels[chosen])
    assert sprites.read_factors(pictures[:0]).shape == (0, 6)
    with pytest.raises(UsageError, match=r"of shape \(count, 32, 32, 1\)\. Received: shape=\(2, 8"):
        sprites.read_factors(np.zeros((2, 8, 8, 1)))


def test_the_source_holds_out_a_tenth():
    source = datasets.open("sprites")
    assert (source.count("train"), source.count("held_out")) == (27_338, 3_037)
    assert source.spec.class_names == ("ellipse", "triangle", "cross")
    samples, labels = next(iter(source.dataset("held_out", 64)))
    assert samples.shape == (64, 32, 32, 1)
    np.testing.assert_array_equal(sprites.read_factors(samples.numpy())[:, 0], labels)
    with pytest.raises(UsageError, match=r"`data_seed` must be an integer of at least 0.*=-1"):
        datasets.open("sprites", data_seed=-1)


# ------------------------------------------------------------------------ metrics


def metric_inputs(codes, levels, classes=None):
    """Inputs of a metric for generated samples of known codes and levels of factors."""
    names = tuple(sprites.FACTORS)[: levels.shape[1]]
    extractor = metrics.Extractor("known", lambda x: (x, None), factors=names)
    found = [SimpleNamespace(features=levels.astype("float32"), probabilities=classes)] * 2
    return metrics.EvaluationInputs(*found, extractor, codes=codes)


def drawn_codes(count=4000):
    rng = np.random.default_rng(2)
    return np.column_stack([rng.integers(3, size=count), rng.uniform(-1, 1, (count, 2))])


def test_codes_that_are_the_factors_have_the_largest_values():
    """One code for each factor; levels are the quarters of the codes' ranges."""
    values = drawn_codes()
    levels = np.column_stack([values[:, 0], np.floor((values[:, 1:] + 1) * 2)]).astype(int)
    codes = Codes(values, (3,))
    inputs = metric_inputs(codes, levels, np.eye(3)[[2, 0, 1]][levels[:, 0]])
    gaps = metrics.MutualInformationGap().of(inputs)
    assert gaps.values["mutual_information_gap"] == pytest.approx(1, abs=0.01)
    assert gaps.values["code_gap"] == pytest.approx(1, abs=0.01)
    assert metrics.FactorAccuracy().of(inputs).values == {"factor_accuracy": 1.0}
    assert metrics.CategoryPurity().of(inputs).values == {"category_purity": 1.0}


def test_codes_without_a_meaning_have_those_of_chance():
    values = drawn_codes()
    levels = np.random.default_rng(3).integers([3, 4, 4], size=(4000, 3))
    inputs = metric_inputs(Codes(values, (3,)), levels, np.eye(3)[levels[:, 0]])
    gaps = metrics.MutualInformationGap().of(inputs).values
    assert gaps["mutual_information_gap"] == pytest.approx(0, abs=0.01)
    assert gaps["code_gap"] == pytest.approx(0, abs=0.01)
    chance = (1 / 3 + 1 / 4 + 1 / 4) / 3
    found = metrics.FactorAccuracy().of(inputs).values["factor_accuracy"]
    assert found == pytest.approx(chance, abs=0.04)
    purity = metrics.CategoryPurity().of(inputs).values["category_purity"]
    assert purity == pytest.approx(1 / 3, abs=0.03)


def test_a_code_of_two_factors_has_no_gap_and_one_of_none_does_not_help():
    """Both factors are the first continuous code: its own gap is 0, that of each factor is 1."""
    values = drawn_codes()
    both = np.floor((values[:, 1] + 1) * 2).astype(int)
    gaps = metrics.MutualInformationGap().of(
        metric_inputs(Codes(values, (3,)), np.column_stack([both, both]))
    )
    assert gaps.values["mutual_information_gap"] == pytest.approx(1, abs=0.01)
    assert gaps.values["code_gap"] == pytest.approx(0, abs=0.01)
    assert gaps.details["information_shares"]["code 1"]["size"] == pytest.approx(1, abs=0.01)


def test_values_of_tables_by_hand():
    categories, classes = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 1])
    assert metrics.category_purity(categories, classes) == pytest.approx(5 / 6)
    table = np.array([[2, 1], [0, 3]]) / 6
    shares = table / table.sum(1, keepdims=True) / table.sum(0, keepdims=True)
    plain = sum(p * math.log(s) for p, s in zip(table.flat, shares.flat, strict=True) if p)
    bias = (1 + 1 - 2) / 12  # of two levels, two levels and three pairs
    found = metrics.mutual_information(categories[:, None], classes[:, None])
    assert found == pytest.approx(np.array([[plain + bias]]))
    assert metrics.factor_accuracy(np.array([0, 1, 0, 1]), np.array([2, 1, 2, 0])) == 0.5


def test_an_evaluation_of_a_game_with_codes():
    """The generator paints the sprite that its codes name: a category, and x by one code."""
    pictures, levels = sprites.draw_all()
    plain = (levels[:, [1, 2, 4, 5]] == [2, 2, 4, 4]).all(1)
    table = (pictures[plain] / 127.5 - 1).reshape(3, 9, 1024).astype("float32")
    z = keras.Input((6,), name="latents")
    coded = layers.LatentCodes([3], 1)(z)
    place = keras.ops.clip(keras.ops.floor((coded[:, 3] + 1) * 4.5), 0, 8)
    row = keras.ops.argmax(coded[:, :3], -1) * 9 + keras.ops.cast(place, "int64")
    fixed = keras.initializers.Constant(table.reshape(27, 1024))
    flat = keras.layers.Embedding(27, 1024, embeddings_initializer=fixed)(row)
    generator = keras.Model(z, keras.layers.Reshape((32, 32, 1))(flat))
    spec = keras_gan.Spec("image", (32, 32, 1), (-1.0, 1.0))
    codes = {"categorical": [3], "continuous": 1}
    discriminator = architectures.build_network("discriminator", "mlp", spec, codes=codes)
    gan = keras_gan.GAN(generator, discriminator, ema_half_life=0)
    found = metrics.evaluate(
        gan,
        "sprites",
        "sprites",
        count=600,
        progress=False,
        metrics=["category_purity", "mutual_information_gap", "factor_accuracy"],
    )
    assert found.values["category_purity"] == 1
    # Shape and x are known, and the four other factors are constant, of entropy 0. Of the 20 bins
    # of the code, 8 contain a limit between two levels of x, which leaves 0.22 of ln 9 nats open.
    assert found.values["mutual_information_gap"] == pytest.approx(1.9 / 6, abs=0.01)
    assert found.values["code_gap"] == pytest.approx(0.9, abs=0.02)
    assert found.details["factor_accuracy"]["x"] > 0.75
    with pytest.raises(UsageError, match=r"category_purity needs a generator with codes"):
        metrics.evaluate(pictures[:200], "sprites", "sprites", metrics=["category_purity"])
    with pytest.raises(UsageError, match=r"reads known factors, such as features=sprites\. Rec"):
        metrics.evaluate(gan, "sprites", "pixels", count=200, metrics=["factor_accuracy"])
    with pytest.raises(UsageError, match=r"'sprites' takes pictures of 32x32x1\. Received: sam"):
        metrics.open_features("sprites", keras_gan.Spec("image", (8, 8, 1)))


# ------------------------------------------------------------------------ export and serving


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    keras.utils.set_random_seed(0)
    generator, discriminator = networks("dcgan", codes={"categorical": [3], "continuous": 2})
    gan = keras_gan.GAN(generator, discriminator, terms=["mutual_information"])
    folder = tmp_path_factory.mktemp("codes") / "bundle"
    with pytest.MonkeyPatch.context() as patch:  # whatever the speed and fidelity of int8
        patch.setattr(quantize, "LEAST_SPEEDUP", 0.0)
        patch.setattr(quantize, "MOST_CHANGE", 100.0)
        patch.setattr(fidelity, "MOST", 128)
        patch.setattr(speed, "_MEASUREMENT", 0.001)
        export.export_bundle(gan, folder, name="codes", precision="float16,int8")
    return gan, folder


def test_a_bundle_takes_codes_and_leaves_the_others_to_the_seed(exported):
    gan, folder = exported
    bundle = serving.Bundle(folder)
    port = bundle.inputs.by_name["codes"]
    assert (port.fill, port.value, port.kind, port.shape) == ("constant", -2.0, "codes", (3,))
    assert port.meta == {"categorical": [3], "continuous": 2}
    own = gan.generate(range(6))
    np.testing.assert_allclose(bundle.generate(range(6)), own, atol=1e-5)
    steered = layers.with_codes_input(gan.average_generator)
    z = latents.latents_from_seeds(np.arange(6), LATENTS)
    for codes in ([[1, -2, 0.5]], [[c % 3, -1 + c / 3, -2] for c in range(6)]):
        whole = tf.constant(np.broadcast_to(np.array(codes, "float32"), (6, 3)))
        wanted = steered([z, whole]).numpy()
        assert abs(wanted - own).max() > 1e-3
        np.testing.assert_allclose(bundle.generate(range(6), codes=codes), wanted, atol=1e-5)
        # TensorFlow Serving runs this signature.
        served = tf.saved_model.load(str(folder / "saved_model" / "codes" / "1"))
        run = served.signatures["serving_default"]
        found = run(latents=z, codes=whole)["samples"]
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(("precision", "most"), [("float16", 5e-3), ("int8", 0.1)])
def test_codes_steer_a_bundle_of_reduced_precision(exported, precision, most):
    """The input keeps its name and type, and each code has its effect within the stated parity."""
    _, folder = exported
    whole, bundle = serving.Bundle(folder), serving.Bundle(folder, precision=precision)
    assert bundle.inputs.by_name["codes"].dtype == "float32"
    stated = bundle.manifest["parity"]["precisions"][precision]["max"]
    assert 0 < max(stated.values()) < most  # a share of the range, [-1, 1]
    seeds = range(64)
    own = bundle.generate(seeds)
    for codes in ([0, -2, -2], [2, -2, -2], [-2, 1, -2], [-2, -2, -0.75]):
        found = bundle.generate(seeds, codes=[codes])
        np.testing.assert_allclose(found, whole.generate(seeds, codes=[codes]), atol=2 * most)
        assert abs(found - own).max() > 0.02
    # A given category or number is the one that a seed would have drawn.
    drawn = layers.LatentCodes([3], 2).codes(latents.latents_from_seeds(seeds, LATENTS)).numpy()
    np.testing.assert_allclose(bundle.generate(seeds, codes=drawn), own, atol=most)
    with pytest.raises(serving.UsageError, match=r"Code 0 .*must be a category from 0 to 2"):
        bundle.generate([1], codes=[[3, 0, 0]])


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([3, 0, 0], r"Code 0 of the input 'codes' must be a category from 0 to 2, or -2.*: 3$"),
        ([0.5, 0, 0], r"Code 0 .* must be a category from 0 to 2, .*Received: 0\.5$"),
        ([0, 0, 1.25], r"Code 2 of the input 'codes' must be a number from -1 to 1.*: 1\.25$"),
        ([0, 0], r"'codes' must have the shape \(batch, 3\)\. Received: shape=\(1, 2\)"),
        ([0, float("nan"), 0], r"'codes' must be finite\. Received: NaN or infinity"),
    ],
)
def test_a_bundle_refuses_codes(exported, codes, message):
    with pytest.raises(serving.UsageError, match=message):
        serving.Bundle(exported[1]).generate([1], codes=[codes])


def test_a_training_step_moves_the_predicted_codes_a_little():
    """At the rate of the recipes, plain layers overshoot the codes' range and never learn them."""
    keras.utils.set_random_seed(0)
    spec = keras_gan.Spec("image", (32, 32, 1), (-1.0, 1.0))
    network = architectures.build_network(
        "discriminator", "dcgan", spec, width=16, codes={"categorical": [3], "continuous": 5}
    )
    random = np.random.default_rng(0)
    samples = random.uniform(-1, 1, (64, 32, 32, 1)).astype("float32")
    codes = random.uniform(-1, 1, (64, 8)).astype("float32")
    before = network(samples)["codes"]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(network(samples)["codes"] - codes))
    gradients = zip(
        tape.gradient(loss, network.trainable_variables), network.trainable_variables, strict=True
    )
    optimizer = keras.optimizers.Adam(1.6e-3, beta_1=0.0, beta_2=0.99)
    optimizer.apply_gradients([pair for pair in gradients if pair[0] is not None])
    moved = np.abs(network(samples)["codes"] - before).mean()
    assert 0.01 < moved < 0.06  # 0.12 with `Dense`
