"""Evaluation: equal values from all sources, the protocol, the cache, and the errors."""

import dataclasses
import fractions
import json
import os
import shutil
import struct
import warnings

import bundles
import inception_weights
import keras
import numpy as np
import onnx
import PIL.Image
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

import export
import keras_gan
from keras_gan import Spec, UsageError, data_record, datasets, metrics, recipe
from keras_gan import run as runs
from keras_gan.__main__ import main
from keras_gan.metrics import class_matching, inception, real_data, sources, statistics
from keras_gan.metrics.features import open_features
from keras_gan.metrics.generators import Drawing
from keras_gan.metrics.images import to_bytes

SPEC = Spec("image", (8, 12, 1), (-1.0, 1.0), num_classes=3)
COUNT = 150
LABELS = [f"networks.{name}.condition=[labels]" for name in ("generator", "discriminator")]


def labeled_images(count, seed=0):
    """Images of three classes that differ in brightness, as bytes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    values = 60 + 60 * labels[:, None, None, None] + 12 * rng.normal(size=(count, 8, 12, 1))
    return np.clip(values, 0, 255).round().astype("uint8"), labels.astype("int32")


def by_brightness(samples):
    """Extractor of three features with exactly the classes of `labeled_images`."""
    mean = (samples.mean(axis=(1, 2, 3)) + 1) * 127.5
    features = np.stack([mean, samples.std(axis=(1, 2, 3)), samples[:, 0, 0, 0]], axis=1)
    return features, np.eye(3)[np.clip(np.round((mean - 60) / 60), 0, 2).astype(int)]


def write_onnx(path, layout="NHWC", value_range=None, inputs=1):
    """Writes a linear network of 5 features and 3 logits."""
    rng = np.random.default_rng(1)
    shape = ["n", 8, 12, 1] if layout == "NHWC" else ["n", 1, 8, 12]
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["features"]),
        helper.make_node("MatMul", ["features", "v"], ["logits"]),
    ]
    weights = {"w": rng.normal(size=(96, 5)) / 10, "v": rng.normal(size=(5, 3))}
    of = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "extractor",
        [of("images" if i == 0 else f"i{i}", TensorProto.FLOAT, shape) for i in range(inputs)],
        [of("logits", TensorProto.FLOAT, ["n", 3]), of("features", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(v.astype("float32"), k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if value_range:
        helper.set_model_props(model, {"value_range": value_range})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    return write_onnx(tmp_path_factory.mktemp("extractor") / "linear.onnx")


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.npz"
    x, y = labeled_images(240)
    x_test, y_test = labeled_images(COUNT, seed=1)
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return path


@pytest.fixture(scope="module")
def game():
    keras.utils.set_random_seed(5)
    networks = keras_gan.architectures.build(
        "dcgan",
        SPEC,
        True,
        generator={"latent_dim": 4, "widths": [8, 4, 4]},
        discriminator={"widths": [8, 4, 4]},
    )
    gan = keras_gan.GAN(*networks, num_classes=3)
    gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    x, y = labeled_images(64)
    gan.fit((x / 127.5 - 1).astype("float32"), y, batch_size=16, epochs=2, verbose=0)
    return gan


@pytest.fixture(scope="module")
def places(game, data_file, tmp_path_factory):
    """The same 150 samples as a game, a run, a bundle, arrays, files of them, and pictures."""
    folder = tmp_path_factory.mktemp("places")
    resolved = recipe.load("quickstart", LABELS, str(data_file))
    run = runs.Run.create(
        folder / "run", resolved, data_record.describe_data(datasets.open(str(data_file)))
    )
    run.save(game)
    training = {"recipe": run.record, "examples_seen": game.count("examples_seen")}
    bundle = export.export_bundle(game, folder / "bundle", training=training).path
    # Labels of the held-out samples in the order in which `evaluate` requests them of a game.
    labels = np.random.default_rng(0).permutation(np.arange(COUNT) % 3)
    samples = game.generate(range(COUNT), labels=labels)
    np.savez(folder / "samples.npz", samples=samples, labels=labels, allow_pickle=False)
    np.savez(folder / "made.npz", samples=samples, labels=labels)
    for i, (sample, label) in enumerate(zip(samples, labels, strict=True)):
        pixels = np.round((sample[..., 0] + 1) * 127.5).astype("uint8")
        (folder / "pictures" / str(label)).mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels).save(folder / "pictures" / str(label) / f"{i:03d}.png")
    return {
        "game": game,
        "run": run.path,
        "bundle": bundle,
        "arrays": (samples, labels),
        "file": folder / "made.npz",
        "pictures": folder / "pictures",
    }


def evaluate(source, data=None, features=by_brightness, count=COUNT, **options):
    options = {"cache": False, "progress": False, **options}
    return metrics.evaluate(source, data, features, count, **options)


# ------------------------------------------------------------------------ values


def test_an_array_compared_with_itself_is_perfect():
    x, _ = labeled_images(60)
    found = evaluate(x, x, "pixels", 60)
    assert found["frechet_distance"] == pytest.approx(0, abs=1e-9)
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["feature_sliced_wasserstein"] == 0
    assert -0.1 < found["kernel_distance"] < 0  # its bias is of pairs of equal samples


def test_the_distance_of_shifted_points_is_the_squared_shift():
    x = np.random.default_rng(0).normal(size=(80, 2)).astype("float32")
    moved = x + np.array([3, -4], "float32")
    found = evaluate(moved, x, None, 80, metrics=["frechet_distance", "precision_recall"])
    assert found["frechet_distance"] == pytest.approx(25, rel=1e-6)
    assert list(found.values) == ["frechet_distance", "precision", "recall"]
    assert found.protocol["extractor"] == "pixels"
    assert found.protocol["quantization"] == "none"


def test_all_sources_of_the_same_samples_have_the_same_values(places, data_file, linear):
    found = {
        name: evaluate(source, data_file, linear, average=True).values
        for name, source in places.items()
    }
    expected = found["game"]
    assert expected["frechet_distance"] > 0
    assert "label_accuracy" in expected
    for name in places:
        # Rounding to 8 bits may differ if runtimes differ by a millionth.
        close = 2e-2 if name == "bundle" else 1e-5
        assert found[name].keys() == expected.keys(), name
        for key in ("frechet_distance", "label_accuracy", "modes", "nearest_distance"):
            assert found[name][key] == pytest.approx(expected[key], rel=close), (name, key)
    assert found["run"] == expected
    assert found["arrays"] == expected


def test_a_run_and_a_bundle_record_their_data(places, linear):
    for name in ("run", "bundle"):
        found = evaluate(places[name], None, linear, metrics="frechet_distance")
        assert "from" in found.protocol["real"]["source"]
        assert found.protocol["generated"]["examples_seen"] == 128
    with pytest.raises(UsageError, match=r"The data to compare with must be named.*pictures"):
        evaluate(places["pictures"])


def test_the_protocol_records_how_values_were_computed(places, data_file, linear):
    found = evaluate(places["run"], data_file, linear, 90, seed=7, average=False, real_count=120)
    protocol = found.protocol
    assert protocol["extractor"] == "linear"
    assert len(protocol["extractor_sha256"]) == 64
    assert protocol["resize"] == "none"
    assert protocol["quantization"] == "8 bits"
    assert protocol["generated"] == {
        "count": 90,
        "source": f"run {places['run']}",
        "checkpoint": "last",
        "weights": "live",
        "examples_seen": 128,
        "first_seed": 7,
        "truncation": 1.0,
        "labels": "those of the real samples",
    }
    assert (protocol["real"]["count"], protocol["real"]["split"]) == (120, "held_out")
    assert protocol["kernel_distance"] == {"subsets": 100, "subset_size": 45, "seed": 2020}
    assert protocol["class_score"] == {"splits": 10, "seed": 2020}
    assert protocol["precision_recall"] == {"neighbors": 3}
    assert protocol["runtime"].startswith("onnxruntime ")
    assert protocol["runtime"].endswith(", CPUExecutionProvider")
    assert {"keras_gan", "tensorflow", "numpy", "onnxruntime"} <= protocol["software"].keys()
    assert "feature_sliced_wasserstein" not in found.values  # of unequal counts
    averaged = evaluate(places["run"], data_file, linear, 90, seed=7, real_count=120)
    assert averaged["frechet_distance"] != found["frechet_distance"]
    other = evaluate(places["run"], data_file, linear, 90, average=False, real_count=120)
    assert other["frechet_distance"] != found["frechet_distance"]


def test_a_data_set_as_a_source_is_its_training_split():
    named = "fashion-mnist-10k"
    found = evaluate(named, named, "fashion_mnist", 300, metrics=["frechet_distance", "modes"])
    assert found.protocol["generated"]["split"] == "train"
    assert found.protocol["extractor"] == "fashion_mnist"
    assert found.protocol["features"] == 128
    assert found["modes"] == 10
    noise = np.random.default_rng(0).integers(0, 256, (300, 28, 28, 1)).astype("uint8")
    far = evaluate(noise, named, None, 300, metrics=["frechet_distance"])
    assert far.protocol["extractor"] == "fashion_mnist"
    assert far["frechet_distance"] > 20 * found["frechet_distance"]


def test_stacked_garments_are_classified_channel_by_channel():
    x, y = datasets.open("fashion-mnist-10k").arrays("held_out")
    stacks = np.concatenate([x[:60], x[60:120], x[120:180]], axis=-1)
    single = open_features("fashion_mnist", Spec("image", (28, 28, 1), (-1, 1)))
    stacked = open_features("fashion_mnist_stacked", Spec("image", (28, 28, 3), (-1, 1)))
    features, probabilities = stacked(stacks)
    assert (stacked.dim, stacked.classes) == (384, 1000)
    np.testing.assert_allclose(features[:, 128:256], single(x[60:120])[0], atol=1e-5)
    each = [single(x[start : start + 60])[1].argmax(1) for start in (0, 60, 120)]
    np.testing.assert_array_equal(probabilities.argmax(1), np.stack(each, 1) @ [100, 10, 1])
    right = [np.mean(k == y[i * 60 : i * 60 + 60]) for i, k in enumerate(each)]
    assert np.mean(right) > 0.85
    found = evaluate(stacks, stacks, "fashion_mnist_stacked", 60, metrics=["modes"])
    modes = len(np.unique(probabilities.argmax(1)))
    assert found["modes"] == modes
    shares = np.unique(probabilities.argmax(1), return_counts=True)[1] / 60
    assert found["reverse_kl"] == pytest.approx(np.sum(shares * np.log(shares * 1000)), rel=1e-6)


def test_predicted_classes_are_compared_with_labels():
    """Of 90 samples, ten of class 2 are labeled 0."""
    x, y = labeled_images(90)
    wrong = y.copy()
    wrong[np.flatnonzero(y == 2)[:10]] = 0
    found = evaluate((x, wrong), (x, y), count=90)
    assert found["label_accuracy"] == pytest.approx(80 / 90)
    assert found["label_accuracy_real"] == 1
    assert found["label_accuracy_worst"] == pytest.approx(30 / 40)
    assert found.details["label_accuracy_worst_class"] == "0"
    assert found.details["label_accuracy"] == {"0": 0.75, "1": 1.0, "2": 1.0}
    assert found["modes"] == 3
    assert found["reverse_kl"] == pytest.approx(0, abs=1e-9)
    assert found["class_score"] == pytest.approx(3, rel=0.2)  # lower in parts of 9 samples


def test_a_single_class_is_detected():
    x, y = labeled_images(90)
    found = evaluate(x[y == 1], (x, y), count=30, real_count=90)
    assert found["modes"] == 1
    assert found["reverse_kl"] == pytest.approx(np.log(93 / 31), rel=1e-6)
    assert found["class_score"] == pytest.approx(1)
    assert "label_accuracy" not in found.values


def test_a_repeated_sample_is_detected():
    x, _ = labeled_images(60)
    found = evaluate(np.repeat(x[:1], 60, axis=0), x, "pixels", 60)
    assert found["recall"] < 0.1
    assert found["coverage"] < 0.2
    assert found["frechet_distance"] > 0.5


def test_memorized_samples_are_detected_and_drawn(data_file, tmp_path):
    source = datasets.open(data_file)
    x = source.arrays("train")[0][:COUNT]
    picture = tmp_path / "nearest.png"
    found = evaluate(x, source, "pixels", nearest_picture=picture)
    assert found["nearest_ratio"] == pytest.approx(0, abs=1e-6)
    assert found["nearest_close"] == 1
    assert found["nearest_distance_real"] > 0
    drawn = np.asarray(PIL.Image.open(picture))
    assert drawn.shape == (8 * (8 + 2) - 2, 6 * (12 + 2) - 2)  # lines of 2 pixels between them
    np.testing.assert_array_equal(drawn[:, :12], drawn[:, 14:26])  # each beside its original
    assert (drawn[:, 28:40] != drawn[:, :12]).any()
    unseen = evaluate(source.arrays("held_out")[0], source, "pixels", metrics=["nearest"])
    assert unseen["nearest_ratio"] == 1
    assert unseen["nearest_close"] == pytest.approx(0.05, abs=0.01)


def test_split_names_select_their_samples(data_file):
    whole = np.concatenate([datasets.open(data_file).arrays(s)[0] for s in ("train", "held_out")])
    for split, count in (("train", 240), ("held_out", COUNT), ("all", 390)):
        asked = {"count": 390, "real_count": count, "split": split, "metrics": "frechet_distance"}
        found = evaluate(whole, data_file, **asked)
        assert found.protocol["real"]["split"] == split
        assert (found["frechet_distance"] < 1e-9) == (split == "all")


def test_classification_accuracy_falls_with_wrong_labels():
    """With labels 1 and 2 exchanged in the generated samples, the accuracy is a third."""
    x, y = labeled_images(192)
    source = datasets.from_arrays(x, y, x_test=x[:60] ^ 1, y_test=y[:60])
    found = evaluate(
        (x, (3 - y) % 3),
        source,
        metrics=["classification_accuracy"],
        count=180,
        real_count=60,
        epochs=25,
        seed=2**40,  # the classifiers use it modulo 2**32
    )
    assert found["classification_accuracy"] == pytest.approx(1 / 3, abs=0.1)
    assert found["classification_accuracy_reverse"] == pytest.approx(1 / 3, abs=0.1)
    assert found["classification_accuracy_real"] > 0.9
    of_classes = found.details["classification_accuracy"]
    assert of_classes == pytest.approx({"0": 1, "1": 0, "2": 0}, abs=0.15)
    settings = {"epochs": 25, "generated": 180, "training": 180, "test": 60, "seed": 0}
    assert found.protocol["classification_accuracy"] == settings
    with pytest.raises(UsageError, match=r"same number of samples. Received: 60 generated and 90"):
        metrics.classification_accuracy((x[:60], y[:60]), (x[:90], y[:90]), (x, y))


# ------------------------------------------------------------------------ cache


def test_real_statistics_are_cached_and_reused(data_file, linear, tmp_path):
    x, _ = labeled_images(COUNT, seed=3)
    asked = {"cache": tmp_path / "cache", "metrics": ["frechet_distance", "kernel_distance"]}
    first = evaluate(x, data_file, linear, **asked)
    files = sorted((tmp_path / "cache").iterdir())
    assert [file.name.partition(".")[2] for file in files] == ["moments.npz", "rows.npz"]
    times = [file.stat().st_mtime_ns for file in files]
    assert evaluate(x, data_file, linear, **asked).values == first.values  # to the last bit
    assert [file.stat().st_mtime_ns for file in files] == times

    with np.load(files[0]) as kept:  # values must come from the file
        arrays = dict(kept)
    arrays["mean"] = arrays["mean"] + 1
    with files[0].open("wb") as stream:
        np.savez(stream, **arrays)
    moved = evaluate(x, data_file, linear, **asked)
    assert moved["frechet_distance"] > first["frechet_distance"] + 1
    assert moved["kernel_distance"] == first["kernel_distance"]

    sizes = {file: file.stat().st_size for file in files}
    for file in files:  # damage
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        again = evaluate(x, data_file, linear, **asked)
        assert again.values == first.values
    assert all(file.stat().st_size == size for file, size in sizes.items())
    assert sorted((tmp_path / "cache").iterdir()) == files


def test_each_data_count_and_extractor_has_its_own_cache_file(data_file, linear, tmp_path):
    x, y = labeled_images(COUNT, seed=3)
    asked = {"cache": tmp_path, "metrics": ["frechet_distance"]}
    changed = x.copy()
    changed[17, 3, 3] ^= 1
    for data, features, count in (
        (x, linear, COUNT),
        (changed, linear, COUNT),
        (x, linear, 100),
        (x, "pixels", COUNT),
    ):
        before = len(list(tmp_path.iterdir()))
        evaluate(x, data, features, count, **asked)
        assert len(list(tmp_path.iterdir())) == before + 1
    evaluate(x, (x, y), by_brightness, **asked)  # a function has no hash
    assert len(list(tmp_path.iterdir())) == 4


# ------------------------------------------------------------------------ extractors


def images(shape=(8, 12, 1), count=6):
    return np.random.default_rng(2).uniform(-1, 1, (count, *shape)).astype("float32")


def in_8_bits(x):
    return np.round((x + 1) * 127.5) / 127.5 - 1


def test_an_onnx_file_gives_features_and_classes(linear, tmp_path):
    x = images()
    extractor = open_features(linear, SPEC)
    features, probabilities = extractor(x)
    rng = np.random.default_rng(1)
    w, v = rng.normal(size=(96, 5)) / 10, rng.normal(size=(5, 3))
    expected = in_8_bits(x).reshape(6, -1) @ w
    np.testing.assert_allclose(features, expected, atol=1e-5)
    powers = np.exp(expected @ v)
    np.testing.assert_allclose(probabilities, powers / powers.sum(1, keepdims=True), atol=1e-5)
    assert (extractor.dim, extractor.classes, extractor.name) == (5, 3, "linear")

    first = open_features(write_onnx(tmp_path / "first.onnx", "NCHW"), SPEC)
    np.testing.assert_allclose(first(x)[0], features, atol=1e-6)
    wide = open_features(write_onnx(tmp_path / "wide.onnx", value_range="0,255"), SPEC)
    np.testing.assert_allclose(wide(x)[0], (in_8_bits(x).reshape(6, -1) + 1) * 127.5 @ w, rtol=1e-3)


def test_features_of_a_keras_classifier_are_its_penultimate_layer(tmp_path):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 12, 1)),
            layers.Flatten(),
            layers.Dense(7, "relu"),
            layers.Dropout(0.5),
            layers.Dense(3, "softmax"),
        ],
        name="classifier",
    )
    x = images()
    extractor = open_features(model, SPEC)
    features, probabilities = extractor(x)
    hidden = np.maximum(in_8_bits(x).reshape(6, -1) @ model.get_weights()[0], 0)
    np.testing.assert_allclose(features, hidden, atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    model.save(tmp_path / "saved.keras")
    saved = open_features(str(tmp_path / "saved.keras"), SPEC)
    np.testing.assert_array_equal(saved(x)[0], features)
    assert saved.name == "saved"
    before = extractor.sha256
    model.layers[1].kernel.assign(model.layers[1].kernel * 2)
    assert open_features(model, SPEC).sha256 != before


def test_images_are_converted_to_the_size_and_channels_of_the_network():
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])
    extractor = open_features(model, SPEC)
    assert extractor.resize == "antialiased bicubic"
    assert extractor.protocol["input"] == [4, 4, 3]
    flat = extractor(np.full((1, 8, 12, 1), 0.2, "float32"))[0]
    np.testing.assert_allclose(flat, np.full((1, 48), 153 / 127.5 - 1), atol=1e-6)
    # Fewer pixels cannot represent a checkerboard: antialiasing leaves gray.
    board = (np.indices((8, 12)).sum(0) % 2 * 2.0 - 1)[None, ..., None]
    assert np.abs(extractor(board)[0]).max() < 0.2

    gray = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    colored = np.full((1, 4, 4, 3), -1, "float32")
    colored[..., 1] = 1  # green
    luma = open_features(gray, Spec("image", (4, 4, 3), (-1, 1)))(colored)[0]
    np.testing.assert_allclose(luma, 2 * 0.587 - 1, atol=1e-6)


def pickled(weights, keys):
    """Returns a state dictionary as PyTorch pickles it, opcode by opcode."""
    out = b"\x80\x02}("
    for (name, array), key in zip(weights.items(), keys, strict=True):
        whole = b"".join(b"K" + bytes([n]) for n in array.shape)
        out += b"X" + struct.pack("<I", len(name)) + name.encode()
        out += b"ctorch._utils\n_rebuild_tensor_v2\n("
        out += b"(U\x07storagectorch\nFloatStorage\nU\x01" + key.encode() + b"U\x03cpuK"
        out += bytes([array.size]) + b"tQK\x00(" + whole + b"t(" + whole + b"t\x89N" + b"tR"
    return out + b"u."


def test_a_pytorch_file_is_read_without_pytorch():
    rng = np.random.default_rng(0)
    weights = {"a.weight": rng.normal(size=(2, 3)), "b": rng.normal(size=4)}
    weights = {name: array.astype("float32") for name, array in weights.items()}
    content = b"\x80\x02K\x01.\x80\x02K\x02.\x80\x02}." + pickled(weights, "01")
    content += b"\x80\x02](U\x010U\x011e."
    for array in weights.values():
        content += struct.pack("<q", array.size) + array.tobytes()
    read = inception.read(content)
    assert read.keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(read[name], array)
    with pytest.raises(Exception, match=r"os\.system"):
        inception.read(b"\x80\x02cos\nsystem\n.")


@pytest.mark.slow
def test_inception_agrees_with_torch_fidelity():
    """With random weights; reference values from inception-v3-compat of torch-fidelity 0.4.0."""
    extract = inception.network(inception_weights.make())
    features, probabilities = extract(inception_weights.images().astype("float32"))
    assert features.shape == (2, inception.DIM)
    np.testing.assert_allclose(
        features[:, [0, 500, 1000, 1500, 2000]],
        [
            [1.5441217422485352, 0.0, 0.0, 2.767066478729248, 3.643037796020508],
            [1.4051179885864258, 0.0, 0.0, 2.6399922370910645, 3.4087281227111816],
        ],
        atol=1e-4,
    )
    assert features.std() == pytest.approx(4.558468, rel=1e-5)
    np.testing.assert_allclose(
        features.mean(1), [3.4018404483795166, 3.3729443550109863], rtol=1e-5
    )
    assert probabilities.shape == (2, inception.CLASSES)
    np.testing.assert_array_equal(probabilities.argmax(1), 592)
    np.testing.assert_allclose(
        probabilities.max(1), [0.1634889543056488, 0.16446930170059204], rtol=1e-4
    )


def test_inception_is_refused_unless_it_is_the_standard_network(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_GAN_INCEPTION", raising=False)
    with pytest.raises(UsageError, match=r"pt_inception-2015-12-05-6726825d.pth.*no path"):
        open_features("inception", SPEC)
    with pytest.raises(UsageError, match=r"pt_inception-2015-12-05-6726825d.pth.*not a file"):
        open_features(f"inception:{tmp_path}/none.pth", SPEC)
    (tmp_path / "other.pth").write_bytes(b"other")
    with pytest.raises(UsageError, match=r"of sha256 6726825d.*Received.*of sha256 d9298a10"):
        open_features(f"inception:{tmp_path}/other.pth", SPEC)
    monkeypatch.setenv("KERAS_GAN_INCEPTION", f"{tmp_path}/other.pth")
    with pytest.raises(UsageError, match="of sha256 d9298a10"):
        open_features("inception", SPEC)


# ------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "vgg"}, r"features must be fashion_mnist.*Received: features='vgg'"),
        ({"features": "none.onnx"}, r"must exist. Received: features='none.onnx'"),
        ({"features": 3}, r"features must be.*Received: features=3"),
        ({"features": "{two}"}, r"must have one input.*Received: .*two.onnx with images"),
        ({"features": "{broken}"}, r"onnxruntime must load the model. Received: .*broken.onnx"),
        ({"metrics": ["frechet"]}, r"No metric has that name. Received: 'frechet'. Did you mean"),
        ({"metrics": ["fid"]}, r"FID is called so only with the extractor inception.*by_brightn"),
        ({"metrics": ["kid"]}, r"KID is called so only with.*kernel_distance is the same"),
        ({"metrics": "inception_score"}, r"The Inception score is called so only.*class_score is"),
        (
            {"metrics": ["modes"], "features": "pixels"},
            r"mode_coverage needs an extractor with cl",
        ),
        ({"metrics": ["label_accuracy"]}, r"label_accuracy needs generated samples with labels"),
        ({"metrics": ["ms_ssim"]}, r"ms_ssim needs images of at least 11x11"),
        ({"split": "train", "metrics": ["nearest"]}, r"nearest needs data with a training split"),
        ({"split": "test2"}, r'"train" or "all". Received: split=\'test2\''),
        ({"split": ["train"]}, r"split must be.*Received: split=\['train'\]"),
        ({"metrics": []}, r"at least one; metrics=None takes all that fit. Received: metrics=\[\]"),
        ({"metrics": 3}, r"metrics must be names of metrics.*Received: metrics=3"),
        ({"cache": 5}, r"cache must be True, False or a folder. Received: cache=5"),
        ({"epochs": 1.5}, r"`epochs` must be an integer of at least 1. Received: epochs=1.5"),
        ({"nearest_picture": "none/x.png"}, r"to a folder that exists.*Received: 'none/x.png'"),
        (
            {"count": 5, "metrics": "coverage"},
            r"density_coverage needs at least 6 real and 6",
        ),
        ({"count": 1}, r"`count` must be an integer of at least 2. Received: count=1"),
        ({"count": 100}, r"at most the number of samples, 60 in arrays.*Received: count=100"),
        ({"real_count": 999}, r"`real_count` must be at most the number.*150.*real_count=999"),
        ({"split": "train", "nearest_picture": "x.png"}, r"A picture of nearest neighbors needs"),
        ({"cache": "{file}/x", "features": "pixels"}, r"cache folder must be writable"),
    ],
)
def test_errors_are_one_line(options, message, data_file, tmp_path):
    x, _ = labeled_images(60)
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    places = {
        "two": write_onnx(tmp_path / "two.onnx", inputs=2),
        "broken": tmp_path / "broken.onnx",
        "file": tmp_path / "broken.onnx",
    }
    given = {"count": 60, **options}
    given = {k: v.format(**places) if isinstance(v, str) else v for k, v in given.items()}
    with pytest.raises(UsageError, match=message) as caught:
        evaluate(x, data_file, **given)
    assert "\n" not in str(caught.value)


def test_sources_and_data_that_do_not_fit_are_refused(data_file, places, tmp_path, linear):
    x, _ = labeled_images(60)
    with pytest.raises(UsageError, match=r"`count` must be .* 150 in arrays.*smaller count"):
        evaluate(places["game"], data_file, count=151, metrics=["sliced_wasserstein"])
    with pytest.raises(UsageError, match=r"must have one shape.*\(8, 12, 1\), real ones of \(2,\)"):
        evaluate(x, np.zeros((60, 2), "float32"), count=60)
    with pytest.raises(UsageError, match=r"takes images.*samples of kind 'points'"):
        evaluate(np.eye(60, 2), np.eye(60, 2), linear, 60)
    bad = keras.Sequential([keras.Input((9, 9, 2)), keras.layers.Flatten()], name="linear")
    with pytest.raises(UsageError, match=r"'linear' must take samples of shape \(9, 9, 4\)"):
        open_features(bad, Spec("image", (9, 9, 4), (-1, 1)))
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=r"schema_version 2. Received: schema_version=None"):
        evaluate(tmp_path, data_file)
    for source, shown in (((x,), r"\(array"), ((x, x, x), r"\(array"), ([x], r"\[array"), (3, "3")):
        with pytest.raises(UsageError, match=rf"source must be .*Received: {shown}") as caught:
            evaluate(source, data_file)
        assert "\n" not in str(caught.value)
        with pytest.raises(UsageError, match=rf"data must be a name or path.*Received: {shown}"):
            evaluate(x, source)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda x: np.ones((2, 4)), r"\(count, number\). Received: \(2, 4\) for 60 samples"),
        (lambda x: x.reshape(len(x), -1)[:2], r"Received: \(2, 96\) for 60 samples"),
        (lambda x: x.reshape(len(x), -1) * 1j, r"Received: \(2, 96\) complex numbers for 2"),
        (
            lambda x: (np.ones((len(x), 2)), np.ones((2, 3)) / 3),
            r"return probabilities .*\(2, 3\)",
        ),
        (
            lambda x: (np.ones((len(x), 2)), np.full((len(x), 3), np.nan)),
            "Probabilities must be finite numbers. Received: NaN or infinity from '<lambda>'",
        ),
    ],
)
def test_an_extractor_must_return_one_row_of_numbers_per_sample(given, message, data_file):
    x, _ = labeled_images(60)
    with pytest.raises(UsageError, match=message):
        evaluate(x, data_file, given, 60)


def test_keras_models_that_cannot_be_extractors_are_refused(places, game, tmp_path):
    class Own(keras.Model):
        def call(self, x):
            return keras.ops.mean(x, axis=(1, 2))

    own = Own(name="own")
    unbuilt = keras.Sequential([keras.layers.Flatten()], name="unbuilt")
    for model in (own, unbuilt):
        with pytest.raises(UsageError, match=rf"must be built.*Received: '{model.name}' without"):
            open_features(model, SPEC)
    own(np.zeros((1, 8, 12, 1), "float32"))
    x = labeled_images(5)[0]
    expected = x.astype("float64").mean(axis=(1, 2)) / 127.5 - 1
    np.testing.assert_allclose(open_features(own, SPEC)(x)[0], expected, atol=1e-6)
    for saved in (game, checkpoint_of(places)):
        with pytest.raises(UsageError, match=r"must be a single model, such as gan.discriminator"):
            open_features(saved, SPEC)


def test_metrics_that_need_more_samples_are_left_out(data_file, linear):
    x, _ = labeled_images(4)
    found = evaluate(x, data_file, linear, 4).values
    assert {"frechet_distance", "precision", "recall"} <= found.keys()
    assert "density" not in found
    assert "precision" not in evaluate(x, data_file, linear, 3).values


def test_metrics_may_be_an_iterator(data_file, linear):
    x, _ = labeled_images(60)
    asked = ["precision", "modes"]
    found = evaluate(x, data_file, linear, 60, metrics=iter(asked))
    assert found.values == evaluate(x, data_file, linear, 60, metrics=asked).values
    assert {"precision", "modes"} <= found.values.keys()


def test_a_folder_of_versions_is_evaluated_at_its_latest(places, data_file, linear, tmp_path):
    shutil.copytree(places["bundle"], tmp_path / "versions" / "1")
    (tmp_path / "versions" / "latest").symlink_to("1")
    asked = {"features": linear, "count": 60, "metrics": "frechet_distance"}
    found = evaluate(tmp_path / "versions", data_file, **asked)
    assert found.values == evaluate(places["bundle"], data_file, **asked).values
    assert found.protocol["generated"]["source"].endswith("versions/1")


def test_labels_are_matched_by_the_names_of_the_classes(tmp_path):
    """The ids of a folder are in the order of its names, and no folder is called T-shirt/top."""
    source = datasets.open("fashion-mnist-10k")
    x, y = source.arrays("held_out")
    x, y, names = x[:300], y[:300], source.spec.class_names
    for row, (image, label) in enumerate(zip(x, y, strict=True)):
        folder = tmp_path / "named" / names[label].replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image[..., 0]).save(folder / f"{row}.png")
    asked = {"features": "fashion_mnist", "count": 300, "metrics": "label_accuracy"}
    by_id = evaluate((x, y), source, **asked)
    assert by_id["label_accuracy"] > 0.8
    named = evaluate(tmp_path / "named", source, **asked)
    assert named["label_accuracy"] == by_id["label_accuracy"]
    whole = datasets.open(tmp_path / "named", held_out=0)  # ids in the order of the alphabet
    assert whole.spec.class_names[0] == "Ankle boot"
    asked |= {"split": "train"}
    alphabetical = evaluate(tmp_path / "named", whole, **asked)
    assert alphabetical["label_accuracy"] == by_id["label_accuracy"]
    other = datasets.from_arrays(x, y, class_names=[*"abcdefghij"], held_out=0)
    with pytest.raises(UsageError, match=r"the data's classes, by the same names.*_mnist' with"):
        evaluate((x, y), other, **asked)
    del asked["metrics"]
    assert "label_accuracy" not in evaluate((x, y), other, **asked).values


# ------------------------------------------------------------------------ command


def test_the_command_prints_a_table_and_writes_json(places, linear, tmp_path, capsys):
    out = tmp_path / "out.json"
    asked = ["evaluate", str(places["run"]), "--features", str(linear), "--count", "100"]
    asked += ["--metrics", "fid,precision", "--json", str(out), "--cache", "off"]
    with pytest.raises(SystemExit) as ended:
        main(asked)
    assert ended.value.code == 2
    assert "FID is called so only with" in capsys.readouterr().err
    asked[asked.index("fid,precision")] = "frechet_distance,precision"
    main(asked)
    output = capsys.readouterr().out
    written = json.loads(out.read_text())
    values = written["values"]
    assert list(values) == ["frechet_distance", "precision", "recall"]
    assert f"frechet_distance  {values['frechet_distance']:.6g}" in output
    assert "features: linear, sha256 " in output
    assert "generated: 100 of run" in output
    assert "real: 100 of arrays: 240 + 150 images" in output
    assert written["protocol"]["generated"]["weights"] == "averaged"


def test_a_value_that_is_not_finite_is_null_in_json(tmp_path):
    found = metrics.EvaluationResult({"a": float("nan"), "b": 2.0}, {})
    found.save(tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["values"] == {"a": None, "b": 2.0}


# ------------------------------------------------------------------------ samples


def test_images_that_are_not_finite_are_refused(game, data_file):
    """In 8 bits, NaN would be black."""
    weight = game.generator.trainable_variables[0]
    before = weight.numpy()
    weight.assign(np.full_like(before, np.nan))
    try:
        with pytest.raises(UsageError, match=r"Images must be finite numbers. Received: NaN or in"):
            evaluate(game, data_file, average=False, metrics="frechet_distance")
    finally:
        weight.assign(before)
    x = np.full((60, 8, 12, 1), np.inf, "float32")
    with pytest.raises(UsageError, match=r"Images must be finite numbers. Received: NaN or infi"):
        evaluate(x, data_file, count=60)


def test_rounding_to_bytes_is_exact():
    """Near the middle between two bytes, float32 rounds to the wrong one."""
    middles = ((np.delete(np.arange(255), 127) + 0.5) / 127.5 - 1).astype("float32")
    values = np.concatenate([middles, np.nextafter(middles, 2), np.nextafter(middles, -2)])
    exact = [(fractions.Fraction(float(x)) + 1) * fractions.Fraction(255, 2) for x in values]
    expected = np.array([round(x) for x in exact], "uint8")
    np.testing.assert_array_equal(to_bytes(values), expected)
    assert (np.round((values + np.float32(1)) * np.float32(127.5)) != expected).any()


def test_floats_must_be_in_the_stated_range(data_file):
    x, _ = labeled_images(60)
    from_0 = x.astype("float32") / 255
    with pytest.raises(UsageError, match=r"give others as uint8 or in \[-1, 1\]. Received: values"):
        evaluate(from_0, data_file, count=60)
    with pytest.raises(UsageError, match=r"must be in \[-1, 1\].*Received: values from -1\.[6-9]"):
        evaluate(from_0 * 2 - 2, data_file, count=60)
    over = (from_0 * 2 - 1) * 1.6  # as of a generator without a tanh
    assert over.min() < -1 < 1 < over.max()
    cut = evaluate(np.clip(over, -1, 1), data_file, count=60)
    assert evaluate(over, data_file, count=60).values == cut.values


def test_a_file_of_floats_is_read_like_the_array(data_file, linear, tmp_path):
    x, y = labeled_images(60)
    over = ((x.astype("float32") / 127.5 - 1) * 1.6).clip(-1.3, 1.3)
    np.save(tmp_path / "over.npy", over)
    np.savez(tmp_path / "over.npz", x=over, y=y)
    expected = evaluate(over, data_file, linear, 60).values
    assert evaluate(tmp_path / "over.npy", data_file, linear, 60).values == expected
    found = evaluate(tmp_path / "over.npz", data_file, linear, 60)
    assert expected.items() <= found.values.items()
    assert "label_accuracy" in found.values
    assert "over.npz" in found.protocol["generated"]["source"]
    for name, values in (("from_0", x / 255.0), ("far", over * 2)):
        np.save(tmp_path / f"{name}.npy", values.astype("float32"))
        with pytest.raises(UsageError, match=r"as uint8 or in \[-1, 1\]. Received:.* from -?[02]"):
            evaluate(tmp_path / f"{name}.npy", data_file, linear, 60)


def copied(places, name, tmp_path, file, change):
    """Returns a copy of a run or bundle with a change in one of its JSON files."""
    folder = tmp_path / name
    shutil.copytree(places[name], folder)
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))
    return folder


def test_samples_of_a_bundle_are_rescaled_from_its_range(places, game, tmp_path):
    """From [-1, 3] to [-1, 1]: the middle, 1, becomes 0."""
    folder = copied(
        places,
        "bundle",
        tmp_path,
        "manifest.json",
        lambda m: m["outputs"][0]["meta"].update(value_range=[-1, 3]),
    )
    bundles.reseal(folder, files=False)
    found, labels = sources.open_samples(folder).take(20)
    expected = to_bytes((game.generate(range(20), labels=labels) + 1) / 2 - 1)
    assert np.abs(found.astype(int) - expected).max() <= 1  # the runtimes' roundings
    assert np.abs(expected - 127.5).max() > 30


def test_bundles_with_external_weights_and_with_other_inputs(tmp_path, monkeypatch):
    dense = [keras.Input((5,)), keras.layers.Dense(300), keras.layers.Dense(2)]
    model = keras.Sequential(dense, name="points")
    monkeypatch.setattr("export.to_onnx.MAX_FILE", 1000)
    path = bundles.unverified(model, tmp_path / "points")
    golden = np.load(path / "golden.npz")
    found, _ = sources.open_samples(path).take(2)
    np.testing.assert_allclose(found, golden["samples"][:2], atol=1e-5)
    (path / "model.onnx.data").write_bytes(b"")
    with pytest.raises(UsageError, match=r"model\.onnx\.data must have the SHA-256"):
        sources.open_samples(path)
    monkeypatch.undo()
    z, style = keras.Input((5,), name="z"), keras.Input((3,), name="style")
    styled = keras.Model([z, style], keras.layers.Dense(2)(keras.ops.concatenate([z, style], -1)))
    path = bundles.unverified(styled, tmp_path / "styled", name="styled")
    with pytest.raises(UsageError, match=r"asks for the field 'style'.*data with samples"):
        sources.open_samples(path)


def test_default_counts_are_the_available_samples(data_file, places, linear):
    x, _ = labeled_images(400)
    found = evaluate(x, data_file, linear, None, metrics="frechet_distance")
    protocol = found.protocol
    assert (protocol["generated"]["count"], protocol["real"]["count"]) == (COUNT, COUNT)
    found = evaluate(x[:60], data_file, linear, None)
    assert (found.protocol["generated"]["count"], found.protocol["real"]["count"]) == (60, 60)
    assert "feature_sliced_wasserstein" in found.values
    found = evaluate(x, data_file, linear, 400, metrics=["modes"])
    assert (found.protocol["generated"]["count"], found.protocol["real"]["count"]) == (400, COUNT)
    assert "feature_sliced_wasserstein" not in evaluate(x, data_file, linear, 400).values


def test_fid_without_a_count_is_of_50000_samples():
    x = np.random.default_rng(0).normal(size=(50_000, 2)).astype("float32")
    pixels = open_features("pixels", Spec("points", (2,)))
    standard = dataclasses.replace(pixels, standard=True)
    for count, real, name in (
        (50_000, 50_000, "fid"),
        (10_000, 50_000, "fid_10000"),
        (50_000, 1_000, "fid_50000"),
    ):
        found = evaluate(x, x, standard, count, real_count=real, metrics=["fid"])
        assert list(found.values) == [name]
    assert list(evaluate(x, x[:300], standard, 50_000, metrics="fid").values) == ["fid"]


def test_a_truncated_distance_is_not_called_fid(places, data_file, linear):
    standard = dataclasses.replace(open_features(linear, SPEC), standard=True)
    asked = {"count": 90, "metrics": "frechet_distance"}
    for truncation, name in ((1, "fid_90"), (0.5, "frechet_distance")):
        found = evaluate(places["game"], data_file, standard, truncation=truncation, **asked)
        assert list(found.values) == [name]
    said = r"FID is called so only of latents that are not truncated .*frechet_distance is.*=0\.5$"
    with pytest.raises(UsageError, match=said):
        evaluate(places["game"], data_file, standard, 90, truncation=0.5, metrics=["fid"])


def test_settings_that_a_source_does_not_have_are_refused(places, data_file):
    for name in ("bundle", "file", "arrays", "pictures"):
        with pytest.raises(UsageError, match=r"live generator .*chosen only for a run or a game"):
            evaluate(places[name], data_file, average=False)
        with pytest.raises(UsageError, match=r"can be chosen only for a run. Received: checkpoint"):
            evaluate(places[name], data_file, checkpoint="best")
    with pytest.raises(UsageError, match=r"checkpoint can be chosen only for a run"):
        evaluate(places["game"], data_file, checkpoint="best")
    for name in ("file", "arrays", "pictures"):
        with pytest.raises(UsageError, match=r"other than 1 is available only for a run.*=0.5"):
            evaluate(places[name], data_file, truncation=0.5)
    with pytest.raises(UsageError, match=r"`truncation` must be a number from 0 up. .*=-1"):
        evaluate(places["game"], data_file, truncation=-1)


def test_truncated_samples_are_those_of_generate(game, places):
    """At 0 all samples of a class are equal; run, bundle and game agree at 0.5."""
    half = Drawing(seed=3, truncation=0.5)
    opened = {name: sources.open_samples(places[name], drawing=half) for name in ("game", "bundle")}
    expected = game.generate(range(3, 13), truncation=0.5)
    for made in opened.values():
        assert made.protocol["truncation"] == 0.5
        samples = made.take(10)[0] / 127.5 - 1
        assert np.abs(samples - expected).max() < 1.01 / 127.5
    none, labels = sources.open_samples(places["game"], drawing=Drawing(truncation=0.0)).take(12)
    for i, label in enumerate(labels):
        np.testing.assert_array_equal(none[i], none[np.argmax(labels == label)])


def test_seeds_are_checked_and_recorded(places, data_file, linear, tmp_path):
    for source in ("game", "run", "bundle"):
        for seed in (-1, 2**63 - 100, 0.5, [1, 2]):
            with pytest.raises(UsageError, match=r"[Ss]eed"):
                evaluate(places[source], data_file, linear, seed=seed, metrics="frechet_distance")
    with pytest.raises(UsageError, match=r"A seed must be at least 0 and below 2\*\*63"):
        evaluate(places["game"], data_file, linear, count=150, seed=2**63 - 10)
    found = evaluate(
        places["run"], data_file, linear, seed=np.int64(2**62), checkpoint=checkpoint_of(places)
    )
    found.save(tmp_path / "x.json")
    written = json.loads((tmp_path / "x.json").read_text())["protocol"]
    assert written["seed"] == written["generated"]["first_seed"] == 2**62
    assert written["generated"]["checkpoint"].endswith(".keras")


def checkpoint_of(places):
    return next((places["run"] / "checkpoints").glob("*.keras"))


# ------------------------------------------------------------------------ data


def test_a_run_is_compared_with_the_data_it_was_trained_on(places, data_file, linear, tmp_path):
    asked = {"features": linear, "metrics": "frechet_distance"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for name in ("run", "bundle"):
            evaluate(places[name], None, **asked)
            evaluate(places[name], data_file, **asked)
    other = copied(places, "run", tmp_path, "data.json", lambda data: data.update(digest="0"))
    with pytest.raises(
        UsageError, match=r"evaluated on the data it was trained on.*differs in content"
    ):
        evaluate(other, None, **asked)
    with pytest.warns(UserWarning, match=r"trained on other data.*may have been trained on"):
        evaluate(other, data_file, **asked)
    x, y = labeled_images(COUNT, seed=2)
    np.savez(tmp_path / "other.npz", x=x, y=y)
    for name in ("run", "bundle"):
        with pytest.warns(UserWarning, match=r"trained on other data.*may have been trained on"):
            evaluate(places[name], tmp_path / "other.npz", count=15, **asked)


def test_a_generator_makes_the_classes_of_the_data(game, places, linear):
    """Two thirds of the real samples are of class 2, and so are those generated."""
    x, _ = labeled_images(90)
    y = np.where(np.arange(90) < 60, 2, np.arange(90) % 2).astype("int32")
    labels_of = {}
    for name in ("game", "bundle"):
        made = sources.open_samples(places[name], drawing=Drawing(seed=5))
        real = real_data.from_data(real_data.open_data((x, y)), "all")
        asked = class_matching.like_real(class_matching.match_classes(made, real.spec), real, 90)
        labels = asked.take(180)[1]
        np.testing.assert_array_equal(np.bincount(labels), [30, 30, 120])
        assert len(np.unique(labels[:20])) == 3  # not in the order of the data
        found = evaluate(places[name], (x, y), linear, 90)
        labels_of[name] = found.protocol["generated"]["labels"]
        without = evaluate(places[name], x, linear, 90)
        assert without.protocol["generated"]["labels"] == "seed modulo classes"
    of_real = "those of the real samples"
    assert labels_of == {"game": of_real, "bundle": of_real}


@pytest.mark.parametrize(
    ("own", "known", "ids"),
    [
        (("b", "c", "a"), ("a", "b", "c"), [1, 2, 0]),
        (("c", "b"), ("a", "b", "c"), [2, 1]),
        (("0", "1", "10"), (), [0, 1, 10]),
        (("0", "10", "2"), ("zero", "one", "two", *"abcdefgh"), [0, 10, 2]),
        (("00", "1"), ("0", "1", "2"), [0, 1]),
        ((), ("b", "a"), [0, 1]),
        (("a", "x"), ("a", "b", "c"), "'x'"),
        (("a", "b"), (), "'a'"),
        (("0", "11"), (), "'11'"),
        (("T-shirt_top", "Bag"), ("Bag", "T-shirt/top"), [1, 0]),
        (("C", "C++"), ("C++", "C"), [1, 0]),
    ],
)
def test_classes_are_matched_by_name(own, known, ids):
    count = len(own) or 2
    labels = np.arange(count, dtype="int32")
    x = np.zeros((count, 2), "float32")
    made = real_data.from_data(datasets.from_arrays(x, labels, class_names=own, held_out=0), "all")
    real = Spec("points", (2,), None, len(known) or 11, known)
    if isinstance(ids, str):
        with pytest.raises(UsageError, match=rf"must be among those of the data.*Received: {ids}"):
            class_matching.match_classes(made, real)
    else:
        np.testing.assert_array_equal(class_matching.match_classes(made, real).take(count)[1], ids)


def test_a_folder_with_fewer_classes_keeps_their_ids(places, data_file, tmp_path):
    """Without the folder of class 0, the ids by the order of folders differ."""
    shutil.copytree(places["pictures"], tmp_path / "some")
    shutil.rmtree(tmp_path / "some" / "0")
    found = evaluate(tmp_path / "some", data_file, None, count=60, metrics="frechet_distance")
    assert found.protocol["generated"]["source"].endswith("as 8x12x1")
    made = sources.open_samples(tmp_path / "some", SPEC)
    labels = class_matching.match_classes(made, SPEC).take(made.count)[1]
    assert set(labels) == {1, 2}
    with pytest.raises(UsageError, match=r"by id \(0 to 1\).*Received: '2' of folder"):
        class_matching.match_classes(made, SPEC.with_classes(2))


def test_decoding_to_another_size_is_recorded(tmp_path, data_file, places):
    (tmp_path / "large").mkdir()
    for i in range(4):
        PIL.Image.new("L", (36, 16), 60 * i).save(tmp_path / "large" / f"{i}.png")
    found = evaluate(tmp_path / "large", data_file, count=4, metrics="frechet_distance")
    assert found.protocol["generated"]["decoded_to"] == [8, 12, 1]
    assert found.protocol["generated"]["decoded_by"].startswith("Lanczos")
    same = evaluate(places["pictures"], data_file, metrics="frechet_distance")
    assert "decoded_to" not in same.protocol["generated"]


def test_pairs_are_within_classes_if_all_samples_have_labels():
    x, y = (array[:80] for array in datasets.open("fashion-mnist-10k").arrays("held_out"))
    settings = {"images": 80, "pairs": 1000, "of": "one class", "seed": 3}
    asked = {"metrics": ["ms_ssim", "sliced_wasserstein"], "features": "pixels", "seed": 3}
    within = evaluate((x, y), (x, y), count=80, **asked)
    assert within.protocol["ms_ssim"] == settings
    assert within.protocol["feature_sliced_wasserstein"] == {"directions": 256, "seed": 0}
    of_any = evaluate(x, (x, y), count=80, **asked)
    assert of_any.protocol["ms_ssim"] == {**settings, "of": "any two images"}
    assert within["ms_ssim"] == within["ms_ssim_real"] > of_any["ms_ssim_real"] + 0.05
    lone = y.copy()
    lone[lone == 9] = 8
    lone[0] = 9  # alone in its class
    of_lone = evaluate((x, lone), (x, y), count=80, **asked)
    assert of_lone.protocol["ms_ssim"]["of"] == "any two images"


# ------------------------------------------------------------------------ what is cached


@keras.saving.register_keras_serializable("tests")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def squared(x):
    return x * x


def test_features_of_custom_code_are_not_cached(tmp_path):
    layers = keras.layers
    flat = [keras.Input((8, 12, 1)), layers.Flatten()]
    plain = keras.Sequential([*flat, layers.Dense(4, "relu")])
    known = open_features(plain, SPEC)
    assert known.identity.endswith(f"tensorflow {tf.__version__}")
    for own in (
        keras.Sequential([*flat, Doubled()]),
        keras.Sequential([*flat, keras.Sequential([layers.Dense(4), Doubled()])]),
        keras.Sequential([*flat, layers.Lambda(lambda x: 2 * x)]),
        keras.Sequential([*flat, layers.Dense(4, squared)]),
    ):
        extractor = open_features(own, SPEC)
        assert extractor.sha256 is None
        assert extractor.identity is None
    own = keras.Sequential([*flat, Doubled()])
    own.save(tmp_path / "own.keras")
    saved = open_features(tmp_path / "own.keras", SPEC)
    assert len(saved.sha256) == 64
    assert saved.identity is None


def test_external_weights_are_part_of_an_extractors_hash(data_file, linear, tmp_path):
    path = tmp_path / "outside.onnx"
    outside = {"save_as_external_data": True, "location": "weights", "size_threshold": 0}
    onnx.save(onnx.load(linear), path, **outside)
    asked = {"count": 60, "metrics": "frechet_distance", "cache": tmp_path / "cache"}
    x, _ = labeled_images(60)
    first = evaluate(x, data_file, path, **asked)
    assert first["frechet_distance"] == evaluate(x, data_file, linear, **asked)["frechet_distance"]
    weights = np.fromfile(tmp_path / "weights", "float32")
    (weights * 3).tofile(tmp_path / "weights")
    other = evaluate(x, data_file, path, **asked)
    assert other["frechet_distance"] == pytest.approx(9 * first["frechet_distance"], rel=1e-5)
    hashes = [found.protocol["extractor_sha256"] for found in (first, other)]
    assert hashes[0] != hashes[1]


def test_the_cache_deletes_its_oldest_files(data_file, tmp_path, monkeypatch):
    x, _ = labeled_images(COUNT, seed=3)
    (tmp_path / "mine.npz").write_bytes(bytes(10**6))  # not a file of the cache
    asked = {"cache": tmp_path, "metrics": ["frechet_distance", "precision"]}
    evaluate(x, data_file, "pixels", **asked)
    first = sorted(tmp_path.glob("*.rows.npz"))
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    size = sum(path.stat().st_size for path in tmp_path.iterdir()) - 10**6
    monkeypatch.setattr(statistics, "LIMIT", size + size // 2)
    evaluate(x, data_file, "pixels", 140, **asked)
    left = [path for path in tmp_path.iterdir() if path.name != "mine.npz"]
    assert sum(path.stat().st_size for path in left) <= size + size // 2
    assert not set(first) & set(left)
    assert len([path for path in left if path.name.endswith("rows.npz")]) == 1
    assert (tmp_path / "mine.npz").stat().st_size == 10**6


# ------------------------------------------------------------------------ the classifier


def test_the_packaged_classifier_is_the_documented_one():
    """92.76 % of the 10,000 test images, as docs/metrics.md states."""
    extractor = open_features("fashion_mnist", Spec("image", (28, 28, 1), (-1, 1)))
    sha256 = "fb0238f60f4fa7044bc3db558f62e77bf79cdf9ebcf47dad9739435cae449c8d"
    assert extractor.sha256 == sha256
    source = datasets.open("fashion-mnist-10k")
    hits = [extractor(x)[1].argmax(1) == y for x, y in map(source.arrays, ("train", "held_out"))]
    assert np.concatenate(hits).shape == (10_000,)
    assert np.concatenate(hits).mean() == pytest.approx(0.9276, abs=0.001)


def test_files_and_arrays_are_read_as_samples_of_the_data_they_are_compared_with(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 8, 3)).astype(np.float32)
    np.savez(tmp_path / "x.npz", samples=x)
    like = datasets.from_arrays(x, kind="series", columns=["a", "b", "c"]).spec
    for source in (x, tmp_path / "x.npz"):
        found = sources.open_samples(source, like)
        assert found.spec.samples == like.samples
        np.testing.assert_array_equal(found.take(20)[0], x)
        with pytest.raises(UsageError, match=r"shape \(8, 3\) need the option kind"):
            sources.open_samples(source)
    assert real_data.open_data(x, {"kind": "series"}).spec.kind == "series"
    gray = np.tanh(x[..., :2])  # without an axis of channels
    found = sources.open_samples(gray, keras_gan.Spec("image", (8, 2, 1), (-1.0, 1.0)))
    pixels = (gray[..., np.newaxis] + 1) * 127.5  # images are compared as uint8
    np.testing.assert_allclose(found.take(20)[0].astype(float), pixels, atol=0.51)
    wave = np.clip(x[..., :1], -1.4, 1.4)  # a generator may exceed the range a little
    np.save(tmp_path / "wave.npy", wave)
    like = datasets.from_arrays(np.tanh(wave), kind="audio", sample_rate=8000).spec
    for source in (wave, tmp_path / "wave.npy"):
        found = sources.open_samples(source, like)
        assert found.spec.samples == like.samples
        np.testing.assert_allclose(found.take(20)[0], np.clip(wave, -1, 1), atol=1e-6)


def test_floats_without_negative_ones_are_judged_as_those_of_data_sets_are():
    bright = np.linspace(0, 1, 64, dtype="float32").reshape(4, 4, 4, 1)
    with pytest.raises(UsageError, match=r"with negative values.*from 0 to 1"):
        real_data.open_data(bright)
    same = np.full_like(bright, 0.5)  # a collapsed generator's, which are no evidence of [0, 1]
    np.testing.assert_array_equal(real_data.open_data(same).arrays()[0], same)
