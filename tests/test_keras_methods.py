"""Methods of a Keras model on a game, and Keras's configuration: right, or one line."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_gan
from keras_gan import UsageError

X = np.random.default_rng(0).normal(size=(8, 1)).astype("float32")
Z = np.random.default_rng(1).normal(size=(5, 2)).astype("float32")


def networks(dropout=0.5):
    keras.utils.set_random_seed(3)
    generator = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(3),
            layers.BatchNormalization(),
            layers.Dropout(dropout),
            layers.Dense(1),
        ]
    )
    return generator, keras.Sequential([keras.Input((1,)), layers.Dense(1)])


def serve(path, inputs):
    loaded = tf.saved_model.load(str(path))
    return loaded.serve(inputs).numpy()


@pytest.fixture(scope="module")
def gan():
    """A trained game, which the tests only read."""
    game = keras_gan.GAN(*networks())
    game.compile(run_eagerly=True)
    game.fit(X, batch_size=4, verbose=0)
    return game


@pytest.fixture
def configured():
    """Restores Keras's configuration after a test."""
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


# ------------------------------------------------------------------------ saving and exporting


@pytest.mark.parametrize("name", ["x.h5", "x", "x.hdf5", "x.weights.h5", "x.pb", "x.keras.zip"])
def test_a_game_is_saved_to_a_keras_file_only(gan, tmp_path, name):
    with pytest.raises(UsageError, match=r"must end in .keras. Received: filepath=.*export_bundle"):
        gan.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_keras_files_and_folders_hold_the_whole_game(gan, tmp_path):
    gan.save(tmp_path / "x.keras", save_format="keras", include_optimizer=True)
    gan.save(tmp_path / "folder", zipped=False)
    for name in ("x.keras", "folder"):
        loaded = keras.saving.load_model(tmp_path / name)
        np.testing.assert_array_equal(loaded.generate([7]), gan.generate([7]))
        assert loaded.count("iteration") == int(loaded.optimizer.iterations) == 2
    with pytest.raises(UsageError, match=r"saved whole, .* Received: include_optimizer=False"):
        gan.save(tmp_path / "x.keras", include_optimizer=False)
    with pytest.raises(UsageError, match="Received: save_format='tf'"):
        gan.save(tmp_path / "x", save_format="tf")
    with pytest.raises(UsageError, match=r"only to a .keras file"):
        keras.saving.save_model(gan, tmp_path / "x.h5")


def test_weights_have_their_own_file(gan, tmp_path):
    for name in ("x.h5", "x", "x.keras", "x.npz"):
        with pytest.raises(UsageError, match=r"must end in .weights.h5. Received: filepath="):
            gan.save_weights(tmp_path / name)
    with pytest.raises(UsageError, match=r"must end in .weights.h5 or .keras. Received"):
        gan.load_weights(tmp_path / "x.h5")
    gan.save_weights(tmp_path / "x.weights.h5")
    other = keras_gan.GAN(*networks())
    other.compile()
    other.load_weights(tmp_path / "x.weights.h5")
    np.testing.assert_array_equal(other.generate([7]), gan.generate([7]))


def of_width(width, **arguments):
    """A game of two layers in each network."""
    keras.utils.set_random_seed(width)
    generator = keras.Sequential([keras.Input((2,)), layers.Dense(width), layers.Dense(1)])
    judge = keras.Sequential([keras.Input((1,)), layers.Dense(width), layers.Dense(1)])
    game = keras_gan.GAN(generator, judge, **arguments)
    game.compile()
    return game


def deeper():
    generator = keras.Sequential(
        [keras.Input((2,)), layers.Dense(3), layers.Dense(1), layers.Dense(1)]
    )
    judge = keras.Sequential([keras.Input((1,)), layers.Dense(3), layers.Dense(1)])
    return keras_gan.GAN(generator, judge)


def written(path, content):
    path.write_bytes(content)


OTHER_FILES = {
    "wider.weights.h5": lambda path, good: of_width(4).save_weights(path),
    "wider.keras": lambda path, good: of_width(4).save(path),
    "deeper.weights.h5": lambda path, good: deeper().save_weights(path),
    "deeper.keras": lambda path, good: deeper().save(path),
    "no average.weights.h5": lambda path, good: of_width(3, ema_half_life=0).save_weights(path),
    "model.weights.h5": lambda path, good: of_width(3).generator.save_weights(path),
    "empty.weights.h5": lambda path, good: written(path, b""),
    "empty.keras": lambda path, good: written(path, b""),
    "noise.weights.h5": lambda path, good: written(path, bytes(range(256)) * 9),
    "half.weights.h5": lambda path, good: written(path, good[: len(good) // 2]),
    "missing.weights.h5": lambda path, good: None,
    "missing.keras": lambda path, good: None,
    "folder.weights.h5": lambda path, good: path.mkdir(),
}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A game whose variables are all 7, and the bytes of a file of its weights."""
    game, path = of_width(3), tmp_path_factory.mktemp("narrow") / "good.weights.h5"
    game.save_weights(path)
    for variable in (*game.variables, *game.optimizer.variables):
        variable.assign(np.full(variable.shape, 7, variable.dtype))
    return game, path.read_bytes()


@pytest.mark.filterwarnings("ignore:Skipping variable loading")
@pytest.mark.parametrize("name", OTHER_FILES)
def test_weights_that_do_not_fit_are_refused_in_one_line_and_change_nothing(narrow, tmp_path, name):
    game, good = narrow
    OTHER_FILES[name](tmp_path / name, good)
    rule = r"must exist\." if "missing" in name else r"must be .*with the same networks\."
    with pytest.raises(UsageError, match=rf"file of weights {rule} Received: filepath=") as error:
        game.load_weights(tmp_path / name)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    for variable in (*game.variables, *game.optimizer.variables):
        assert (np.asarray(keras.ops.convert_to_numpy(variable.value)) == 7).all(), variable.path


@keras.saving.register_keras_serializable("tests")
class Keeper(layers.Dense):
    """A layer that stores one more value beside its variables."""

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["scale"] = np.float32(2)
        store["step_1"] = np.int32(3)

    def load_own_variables(self, store):
        assert (np.asarray(store["scale"]), np.asarray(store["step_1"])) == (2, 3)
        super().load_own_variables({key: store[key] for key in ("0", "1")})


def kept(width):
    generator = keras.Sequential([keras.Input((2,)), Keeper(width), Keeper(1)])
    judge = keras.Sequential([keras.Input((1,)), layers.Dense(3), layers.Dense(1)])
    game = keras_gan.GAN(generator, judge)
    game.compile()
    return game


def test_a_layer_may_store_other_values_than_its_variables(tmp_path):
    game, other = kept(3), kept(3)
    game.save_weights(tmp_path / "x.weights.h5")
    game.save(tmp_path / "x.keras")
    for name in ("x.weights.h5", "x.keras"):
        other.load_weights(tmp_path / name)
        np.testing.assert_array_equal(other.generate([7]), game.generate([7]))
    loaded = keras.saving.load_model(tmp_path / "x.keras")
    np.testing.assert_array_equal(loaded.generate([7]), game.generate([7]))
    with pytest.raises(UsageError, match="with 6 weights of generator, which has 4"):
        of_width(3).load_weights(deep(tmp_path / "deeper.weights.h5"))


def deep(path):
    deeper().save_weights(path)
    return path


def test_weights_can_be_loaded_partly_if_asked_for(tmp_path):
    of_width(4).save_weights(tmp_path / "other.weights.h5")
    game = of_width(3)
    with pytest.warns(UserWarning, match="could not be loaded"):
        game.load_weights(tmp_path / "other.weights.h5", skip_mismatch=True)


def test_export_writes_the_averaged_generator_in_inference_mode(gan, tmp_path):
    gan.export(tmp_path / "model", verbose=False)
    served = serve(tmp_path / "model", Z)
    np.testing.assert_allclose(served, gan.average_generator(Z, training=False), atol=1e-6)
    assert np.abs(served - gan.average_generator(Z, training=True)).max() > 1e-3
    for form in ("onnx", "litert", "openvino", "torch", "h5"):
        with pytest.raises(UsageError, match=rf"format='{form}'. export.export_bundle\(gan, 'FOL"):
            gan.export(tmp_path / "other", format=form)
    gan.generator.export(tmp_path / "live", verbose=False)  # of Keras alone
    live = serve(tmp_path / "live", Z)
    np.testing.assert_allclose(live, gan.generator(Z, training=False), atol=1e-6)


def test_export_of_a_conditional_game_takes_its_two_inputs(tmp_path):
    latents, labels = (
        keras.Input((2,), name="latents"),
        keras.Input((), dtype="int32", name="labels"),
    )
    embedded = layers.Concatenate()([latents, layers.Embedding(3, 2)(labels)])
    generator = keras.Model([latents, labels], layers.Dense(1)(embedded))
    samples, known = (
        keras.Input((1,), name="samples"),
        keras.Input((), dtype="int32", name="labels"),
    )
    judged = layers.Concatenate()([samples, layers.Embedding(3, 2)(known)])
    gan = keras_gan.GAN(
        generator, keras.Model([samples, known], layers.Dense(1)(judged)), num_classes=3
    )
    gan.export(tmp_path / "model", verbose=False)  # also before compile
    served = serve(tmp_path / "model", [Z[:3], np.arange(3, dtype="int32")])
    np.testing.assert_allclose(served, gan([Z[:3], np.arange(3, dtype="int32")]), atol=1e-6)
    by_name = gan({"latents": Z[:3], "labels": np.arange(3, dtype="int32")})
    np.testing.assert_allclose(by_name, served, atol=1e-6)
    with pytest.raises(
        UsageError, match=r"takes latents \(None, 2\), labels \(None,\). Received: \("
    ):
        gan(Z)


def test_a_subclassed_generator_is_exported_by_a_signature(tmp_path):
    class Generator(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, z):
            return self.dense(z)

    generator = Generator()
    generator(Z)
    gan = keras_gan.GAN(generator, networks()[1], latent_dim=2, ema_half_life=0)
    with pytest.raises(UsageError, match=r"`input_signature` is needed .*TensorSpec\(\(None, 2\)"):
        gan.export(tmp_path / "model")
    signature = [tf.TensorSpec((None, 2), tf.float32)]
    gan.export(tmp_path / "model", verbose=False, input_signature=signature)
    served = serve(tmp_path / "model", Z)
    np.testing.assert_allclose(served, generator(Z), atol=1e-6)


# ------------------------------------------------------------------------ calling and describing


@pytest.mark.parametrize(
    ("inputs", "received"),
    [
        (X, r"\(8, 1\)"),
        (16, "16"),
        ([1, 2, 3], r"\[1, 2, 3\]"),
        ({"seeds": Z}, "inputs named seeds"),
        ([Z, Z], r"\(5, 2\), \(5, 2\)"),
        (np.zeros((2, 8, 12, 1), "float32"), r"\(2, 8, 12, 1\)"),
    ],
)
def test_a_called_game_takes_the_inputs_of_its_generator(gan, inputs, received):
    message = rf"takes latents \(None, 2\). Received: {received}. Use generate\(seeds=range"
    for function in (gan, gan.predict, gan.predict_on_batch):
        with pytest.raises(UsageError, match=message) as caught:
            function(inputs)
        assert "\n" not in str(caught.value)


def test_predict_and_call_return_the_averaged_generators_samples(gan):
    expected = gan.average_generator(Z, training=False)
    np.testing.assert_allclose(gan(Z), expected, atol=1e-6)
    np.testing.assert_allclose(gan.predict(Z, verbose=0), expected, atol=1e-6)
    data = tf.data.Dataset.from_tensor_slices(Z).batch(2)
    np.testing.assert_allclose(gan.predict(data, verbose=0), expected, atol=1e-6)
    with pytest.raises(UsageError, match=r"Received: \(None, 1\). Use generate"):
        gan.predict(tf.data.Dataset.from_tensor_slices(X).batch(2))
    assert gan(keras.Input((2,))).shape == (None, 1)


def test_a_game_is_described_and_cloned(gan, capsys):
    gan.summary()
    assert "Optimizer params" in capsys.readouterr().out
    clone = keras.models.clone_model(gan)
    same = keras.models.model_from_json(gan.to_json())
    for other in (clone, same):
        assert other.get_config()["seed"] == gan.get_config()["seed"]
        assert [w.shape for w in other.weights] == [w.shape for w in gan.weights]
        np.testing.assert_array_equal(  # new weights, and an average that begins with them
            other.average_generator.get_weights()[0], other.generator.get_weights()[0]
        )
    for other in (clone, same):
        assert [of.name for of in other.optimizer.optimizers] == ["generator", "discriminator"]
    with pytest.raises(UsageError, match="precision='int8'"):
        gan.quantize("int8")


# ------------------------------------------------------------------------ configuration


def run(code, **environment):
    """Runs Python with environment variables and returns the status and the last line."""
    done = subprocess.run(
        [sys.executable, *code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr.strip().splitlines()[-1], done.stderr


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy", "openvino"])
def test_another_backend_is_refused_before_keras_is_imported(backend, tmp_path):
    status, line, whole = run(["-m", "keras_gan", "list"], KERAS_BACKEND=backend)
    assert status == 2
    assert whole.count("\n") == 1
    assert f"the backend {backend!r}, from the environment variable KERAS_BACKEND" in line
    (tmp_path / "keras.json").write_text(f'{{"backend": "{backend}"}}')
    home = {"KERAS_BACKEND": "", "KERAS_HOME": str(tmp_path)}
    status, line, _ = run(["-c", "import keras_gan"], **home)
    assert status == 1
    assert line.startswith("serving.errors.UsageError: keras_gan needs Keras on TensorFlow")
    assert line.endswith(f"from {tmp_path / 'keras.json'}")


def test_values_that_keras_rejects_are_named_with_their_file(tmp_path):
    for name, value in (("floatx", "float8"), ("image_data_format", "NHWC")):
        (tmp_path / "keras.json").write_text(f'{{"{name}": "{value}"}}')
        status, line, _ = run(["-m", "keras_gan", "list"], KERAS_HOME=str(tmp_path))
        assert status == 2
        assert line.startswith(f"keras-gan: error: `{name}` of {tmp_path / 'keras.json'} must be")


def test_export_refuses_a_keras_that_runs_on_another_backend():
    """A Keras on another backend, as it is in `sys.modules` once it is imported."""
    code = (
        "import sys, types; keras = types.ModuleType('keras'); "
        "keras.backend = types.SimpleNamespace(backend=lambda: 'jax'); "
        "sys.modules['keras'] = keras; import export"
    )
    status, line, _ = run(["-c", code], KERAS_BACKEND="tensorflow")
    assert status == 1
    assert "Received: the backend 'jax', from the import of keras" in line


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dcgan", {"latent_dim": 4, "widths": [8, 4, 4]}),
        ("resnet", {"latent_dim": 4, "width": 4, "attention": 4}),
        ("r3gan", {"latent_dim": 4, "widths": [8, 4, 4]}),
    ],
)
def test_architectures_are_channels_last_under_any_configuration(
    name, options, configured, tmp_path
):
    spec = keras_gan.Spec("image", (8, 8, 1), (-1.0, 1.0))
    others = {k: v for k, v in options.items() if k != "latent_dim"}

    def build():
        keras.utils.set_random_seed(5)
        return keras_gan.architectures.build(name, spec, False, options, others)

    expected = build()
    keras.config.set_image_data_format("channels_first")
    networks = build()
    assert keras.config.image_data_format() == "channels_first"
    z, x = np.ones((2, 4), "float32"), np.ones((2, 8, 8, 1), "float32")
    for model, other, inputs in zip(networks, expected, (z, x), strict=True):
        model.save(tmp_path / "x.keras")
        loaded = keras.saving.load_model(tmp_path / "x.keras")
        np.testing.assert_allclose(model(inputs), other(inputs), atol=1e-5)
        np.testing.assert_allclose(loaded(inputs), other(inputs), atol=1e-5)
        np.testing.assert_allclose(
            model(inputs, training=True), other(inputs, training=True), atol=1e-5
        )


def image_networks(first, last=()):
    generator = keras.Sequential(
        [keras.Input((4,)), layers.Dense(48), layers.Reshape((8, 6, 1)), first, *last]
    )
    discriminator = keras.Sequential(
        [keras.Input(generator.output_shape[1:]), layers.Flatten(), layers.Dense(1)]
    )
    return generator, discriminator


def test_networks_of_the_user_must_be_channels_last(configured):
    keras.config.set_image_data_format("channels_first")
    message = r"Samples are channels-last, and so must be the layers of the generator.*'channels_f"
    for layer in (layers.Conv2D(2, 1), layers.UpSampling2D(2), layers.AveragePooling2D(1)):
        with pytest.raises(UsageError, match=message):
            keras_gan.GAN(*image_networks(layer))
    # Flatten takes the configuration too, where it makes no difference to points; and a network
    # may exchange the axes itself.
    keras_gan.GAN(*image_networks(layers.Conv2D(2, 1, data_format="channels_last")))
    keras_gan.GAN(*image_networks(layers.Conv2D(2, 1), [layers.Permute((2, 3, 1))]))


@pytest.mark.parametrize("floatx", ["float16", "float64", "bfloat16"])
def test_another_floatx_is_refused(floatx, configured):
    keras.config.set_floatx(floatx)
    with pytest.raises(
        UsageError, match=rf"in float32. Received: keras.config.floatx\(\)='{floatx}"
    ):
        keras_gan.GAN(*networks())


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "int8_from_float32"])
def test_weights_that_are_not_trained_in_float32_are_refused(policy, configured):
    keras.config.set_dtype_policy(policy)
    generator, discriminator = networks()
    keras.config.set_dtype_policy("float32")
    with pytest.raises(UsageError, match=rf"The generator .* Received: .*{policy}"):
        keras_gan.GAN(generator, discriminator)
    with pytest.raises(UsageError, match=rf"The discriminator .* Received: .*{policy}"):
        keras_gan.GAN(networks()[0], discriminator)


def losses():
    models = networks(dropout=0.0)
    for model in models:  # the initial values depend on the dtype
        model.set_weights([np.full(w.shape, 0.5, "float32") for w in model.weights])
    gan = keras_gan.GAN(*models, terms=["r1"])
    gan.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1), run_eagerly=True)
    history = gan.fit(X, batch_size=4, verbose=0, shuffle=False).history
    return [history[name] for name in ("d_loss", "g_loss", "r1")]


def test_a_global_policy_or_epsilon_trains_as_float32_does(configured):
    expected = losses()
    keras.config.set_epsilon(1e-2)
    np.testing.assert_array_equal(losses(), expected)
    keras.config.set_dtype_policy("float64")
    np.testing.assert_allclose(losses(), expected, rtol=1e-5)
    keras.config.set_dtype_policy("mixed_float16")
    np.testing.assert_allclose(losses(), expected, rtol=2e-2)
