"""Noise as a seeded input of networks from pictures to pictures: trained, evaluated, exported."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from servers import Serving

import export
import keras_gan
from keras_gan import Field, Spec, UsageError, architectures, layers, metrics
from keras_gan.networks import input_names
from serving import Bundle, cli, uploads

NOISE, SIZE = 5, 16
RNG = np.random.default_rng(2)


def build(family, channels=3, given=3, **options):
    fields = {"samples": (None, None, channels), "condition": (None, None, given)}
    of = Spec(fields={name: Field("image", shape) for name, shape in fields.items()})
    role = "discriminator" if family == "patch" else "generator"
    small = {"unet": {"widths": [4, 4]}, "translator": {"width": 4, "blocks": 1}, "patch": {}}
    small["patch"] = {"width": 4, "layers": 1}
    return architectures.build_network(
        role, family, of, conditions=("condition",), **small[family] | options
    )


def pictures(count, height=SIZE, width=SIZE):
    return RNG.uniform(-1, 1, (count, height, width, 3)).astype("float32")


CONDITIONS = pictures(24)


@pytest.fixture(scope="module")
def gan():
    keras.utils.set_random_seed(0)
    gan = keras_gan.GAN(
        build("unet", noise=NOISE),
        build("patch"),
        terms=[keras_gan.terms.Reconstruction(weight=10)],
        ema_half_life=10,
    )
    gan.compile()
    gan.fit({"samples": -CONDITIONS, "condition": CONDITIONS}, batch_size=8, verbose=0)
    return gan


@pytest.fixture(scope="module")
def bundle(gan, tmp_path_factory):
    path = tmp_path_factory.mktemp("noise") / "bundle"
    export.export_bundle(gan, path, name="noisy")
    return path


# ------------------------------------------------------------------------ networks


def test_a_vector_is_appended_to_every_pixel():
    image, vector = np.zeros((2, 2, 3, 1), "float32"), np.array([[1, 2], [3, 4]], "float32")
    found = layers.AppendVector2D()([image, vector]).numpy()
    assert found.shape == (2, 2, 3, 3)
    assert (found[0] == (0, 1, 2)).all()
    assert (found[1] == (0, 3, 4)).all()
    half = layers.AppendVector2D(dtype="float16")([image, vector])
    assert half.dtype == "float16"


@pytest.mark.parametrize("family", ["unet", "translator"])
def test_latents_are_further_channels_of_the_condition(family):
    plain, noisy = build(family), build(family, noise=NOISE)
    assert list(input_names(plain)) == ["condition"]
    assert list(input_names(noisy)) == ["condition", "latents"]
    assert noisy.input_shape == [(None, None, None, 3), (None, NOISE)]
    assert (noisy.output_shape, plain.output_shape) == ((None, None, None, 3),) * 2
    # The layers that see the picture itself have kernels for the further channels.
    old = {weight.path: weight.shape for weight in plain.weights}
    grown = {
        weight.path: weight.shape[2] - old[weight.path][2]
        for weight in noisy.weights
        if weight.path in old and weight.shape != old[weight.path]
    }
    first = {"unet": ("down_1", "detail_1"), "translator": ("head",)}[family]
    assert grown == {f"{name}/kernel": NOISE for name in first}
    z = RNG.normal(size=(2, NOISE)).astype("float32")
    for height, width in ((8, 16), (24, 8)):
        x = pictures(1, height, width)
        one, other = noisy([np.concatenate([x, x]), z], training=False).numpy()
        assert one.shape == (height, width, 3)
        assert np.abs(one - other).mean() > 1e-3
    with pytest.raises(UsageError, match=r"`noise` must be .* Received: noise=-1"):
        build(family, noise=-1)


def test_a_translator_with_noise_and_features_trains_with_contrastive_patches():
    generator = build("translator", noise=2, features=True)
    gan = keras_gan.GAN(generator, build("patch"), terms=["contrastive_patches"])
    gan.compile()
    x = pictures(4)
    gan.fit({"samples": -x, "condition": x}, batch_size=4, verbose=0)
    assert gan.count("iteration") == 1
    assert np.isfinite(gan.generate([1], condition=x[:1])).all()


# ------------------------------------------------------------------------ games


def test_the_seed_chooses_among_the_answers_to_a_picture(gan):
    assert gan.sample_shape == (None, None, 3)
    x = np.repeat(pictures(1, 8, 24), 3, axis=0)
    found = gan.generate([7, 8, 7], condition=x)
    np.testing.assert_array_equal(found[0], found[2])
    assert np.abs(found[0] - found[1]).mean() > 1e-3
    one = gan.generate([8], condition=x[:1])
    np.testing.assert_allclose(one[0], found[1], atol=1e-6)


def test_both_stages_of_a_two_stage_game_draw_noise():
    gan = keras_gan.TwoStage(
        build("unet", noise=2),
        build("patch"),
        first_stage=8,
        terms=[keras_gan.terms.Reconstruction()],
    )
    gan.compile()
    gan.fit({"samples": -CONDITIONS, "condition": CONDITIONS}, batch_size=8, verbose=0)
    assert gan.count("examples_seen") == 24
    x = np.repeat(CONDITIONS[:1], 2, axis=0)
    for name in ("first", "last"):
        sampler = gan.first_sampler() if name == "first" else gan.sampler(True)
        one, other = sampler.generate(np.array([7, 8]), None, 1.0, 2, {"condition": x})
        assert np.abs(one - other).max() > 0, name


def test_a_cycle_refuses_noise_in_one_line():
    networks = {
        "forward": build("translator", noise=2),
        "backward": build("translator"),
        "discriminator_a": keras.Sequential([keras.Input((None, None, 3), name="samples")]),
    }
    networks["discriminator_b"] = networks["discriminator_a"]
    of = Spec(fields={"samples": Field("image", (SIZE, SIZE, 3))})
    for name in ("discriminator_a", "discriminator_b"):
        networks[name] = architectures.build_network("discriminator", "patch", of, width=4)
    line = r"'forward' must take the input `condition` alone: .* Received: condition, latents$"
    with pytest.raises(UsageError, match=line):
        keras_gan.Cycle(**networks)


def test_an_evaluation_compares_the_answers_of_the_first_seeds(gan):
    x = ((CONDITIONS + 1) * 127.5).round().astype("uint8")
    train, held = x[:4], x[4:]
    data = keras_gan.datasets.from_arrays(
        255 - train,
        x_test=255 - held,
        fields={"condition": train},
        fields_test={"condition": held},
    )
    options = {"metrics": ["psnr", "l1"], "cache": False, "progress": False}
    found = metrics.evaluate(gan, data, seed=100, **options)
    given = held.astype("float32") / np.float32(127.5) - 1
    answers = gan.generate(range(100, 120), condition=given)
    wanted = ((answers + 1) * 127.5).round().clip(0, 255).astype("uint8")
    assert found.values["psnr"] == pytest.approx(metrics.psnr(255 - held, wanted), abs=1e-3)
    assert found.values["l1"] == pytest.approx(metrics.l1(255 - held, wanted), abs=1e-5)
    assert found.protocol["generated"]["first_seed"] == 100
    assert metrics.evaluate(gan, data, seed=200, **options).values != found.values


# ------------------------------------------------------------------------ exported


def test_the_manifest_has_a_translator_with_a_seeded_input(bundle):
    opened = Bundle(bundle)
    assert opened.role == "translator"
    ports = {port.name: (port.fill, port.shape) for port in opened.inputs.ports}
    assert ports["latents"] == ("normal", (NOISE,))
    assert ports["condition"] == ("given", ("height", "width", 3))
    facts = opened.translation[0]
    assert (facts["scale"], facts["multiple_of"], facts["tileable"]) == (1, 4, True)


def test_one_seed_is_one_answer_in_every_runtime(gan, bundle, tmp_path, capsys):
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    values = pixels[np.newaxis].astype("float32") / np.float32(127.5) - 1
    wanted = gan.generate([7], condition=values)
    opened = Bundle(bundle)
    saved = tf.saved_model.load(str(next((bundle / "saved_model" / "noisy").iterdir())))
    generate = saved.signatures["generate"]
    made = generate(seeds=tf.constant([7], tf.int64), condition=tf.constant(values))
    np.testing.assert_allclose(made["samples"].numpy(), wanted, atol=1e-5)
    np.testing.assert_allclose(opened.generate([7], condition=values), wanted, atol=1e-5)
    answer = opened.translate(pixels, seed=7)
    assert np.abs(answer - (wanted[0] + 1) * 127.5).max() <= 0.51
    assert np.abs(answer.astype(int) - opened.translate(pixels, seed=8)).max() > 1
    # All tiles have the latents of the picture.
    tiles = opened.translate(values[0], tile=16, seed=7)
    np.testing.assert_allclose(tiles, wanted[0], atol=1e-5)
    (tmp_path / "in.png").write_bytes(uploads.write(pixels))
    command = ["translate", str(bundle), str(tmp_path / "in.png"), "--seed", "7", "--out"]
    assert cli.main([*command, str(tmp_path / "out.png")]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), answer)
    with Serving(bundle) as server:
        body, headers = (tmp_path / "in.png").read_bytes(), {"Content-Type": "image/png"}
        found = server.ask("/v1/translate?seed=7", body, headers)
        assert found.status == 200, found.body
        (tmp_path / "http.png").write_bytes(found.body)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "http.png")), answer)
