"""Tests of `keras-gan sample --balance`: equal classes, samples that a classifier recognizes."""

import keras
import numpy as np
import onnx
import pytest
import tiny
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import serving
from serving import cli

COUNTS = {"shirt": 5, "shoe": 2, "bag": 1}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A bundle of 8 x 8 images of shirts, shoes and bags, and a folder of samples as real ones."""
    root = tmp_path_factory.mktemp("balance")
    bundle = serving.Bundle(tiny.clothes(root / "clothes"), threads=1, device="cpu")
    write_real(root / "real", bundle)
    means = [bundle.generate(range(1000), labels=c).mean(axis=0).ravel() for c in range(3)]
    return root, bundle, np.stack(means, axis=1)


def write_real(folder, bundle, counts=None):
    for number, (name, count) in enumerate((counts or COUNTS).items()):
        (folder / name / "deep").mkdir(parents=True)
        for seed in range(count):
            (sample,) = bundle.generate([900 + seed], labels=number)
            pixels = ((sample + 1) * 127.5).round().astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / "deep"[: 4 * (seed % 2)] / f"{seed}.png")


def write_classifier(path, means, order=(0, 1, 2), low=-1.0, high=1.0, softmax=True, meta=None):
    """Writes an ONNX file: the class of the nearest mean, scores are logits or probabilities.

    -|x - m|^2 / 4 = x m / 2 - m^2 / 4 + a constant, for x in [-1, 1].
    """
    means = means[:, list(order)]
    scale = 2 / (high - low)  # x = scale * value - 1 - scale * low
    kernel = (means * scale / 2).astype(np.float32)
    bias = ((means * (-1 - scale * low) / 2).sum(axis=0) - (means**2).sum(axis=0) / 4)[np.newaxis]
    nodes = [
        helper.make_node("Reshape", ["picture", "flat"], ["x"]),
        helper.make_node("MatMul", ["x", "kernel"], ["y"]),
        helper.make_node("Add", ["y", "bias"], ["z"]),
        helper.make_node("Softmax" if softmax else "Identity", ["z"], ["scores"]),
    ]
    weights = {
        "flat": np.array([-1, len(means)], np.int64),
        "kernel": kernel,
        "bias": bias.astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "nearest",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["batch", 8, 8, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, meta or {})
    onnx.save(model, path)
    return path


def balance(root, out, *options, source="real", bundle="clothes"):
    given = ["--balance", root / source, "--out", out, *options]
    return cli.main(["sample", str(root / bundle), *map(str, given)])


def count(folder):
    return {path.name: len(list(path.rglob("*.png"))) for path in sorted(folder.iterdir())}


def test_all_classes_become_equal_and_keras_reads_them(places, tmp_path, capsys):
    root, bundle, _ = places
    out = tmp_path / "made"
    assert balance(root, out, "--seed", 4) == 0
    assert count(out) == {"bag": 4, "shirt": 0, "shoe": 3}
    text = capsys.readouterr().out
    assert "shoe        2          3" in text
    assert "7 samples of clothes" in text
    # Seeds from 4 on whose remainder by 3 is the class.
    assert sorted(p.name for p in (out / "shoe").iterdir()) == [
        f"seed{seed:06d}.png" for seed in (4, 7, 10)
    ]
    made = np.asarray(Image.open(out / "bag" / "seed000005.png"), float)
    wanted = (bundle.generate([5], labels="bag")[0] + 1) * 127.5
    np.testing.assert_allclose(made, wanted, atol=0.51)
    assert Image.open(out / "bag" / "seed000005.png").info["Label"] == "2"
    options = {"image_size": (8, 8), "batch_size": 20, "shuffle": False, "verbose": False}
    real = keras.utils.image_dataset_from_directory(root / "real", **options)
    more = keras.utils.image_dataset_from_directory(out, **options)
    assert real.class_names == more.class_names == ["bag", "shirt", "shoe"]
    labels = np.concatenate([y for _, y in real.concatenate(more)])
    assert np.bincount(labels).tolist() == [5, 5, 5]


def test_real_pictures_go_along_and_the_count_may_be_larger(places, tmp_path):
    root, *_ = places
    out = tmp_path / "all"
    assert balance(root, out, "--count", 7, "--with-real", "--truncation", 0.5) == 0
    assert count(out) == {"bag": 7, "shirt": 7, "shoe": 7}
    link = out / "shirt" / "deep" / "1.png"
    assert link.read_bytes() == (root / "real" / "shirt" / "deep" / "1.png").read_bytes()
    (_, y), *rest = keras.utils.image_dataset_from_directory(
        out, image_size=(8, 8), batch_size=30, verbose=False
    )
    assert not rest
    assert np.bincount(y).tolist() == [7, 7, 7]


def test_some_classes_and_again_with_overwrite(places, tmp_path):
    root, *_ = places
    options = ("--labels", "shoe,bag", "--overwrite")
    for _ in range(2):
        assert balance(root, tmp_path, *options) == 0
        assert count(tmp_path) == {"bag": 1, "shoe": 0}


def check_kept(places, out, path, level=0.999, *options):
    """Runs the command with a classifier, and checks each sample against the nearest means."""
    root, bundle, means = places
    given = ("--keep-if-recognized", level, "--classifier", path, "--tries", 500, *options)
    assert balance(root, out, *given) == 0
    assert count(out) == {"bag": 4, "shirt": 0, "shoe": 3}

    def surest(seed, number):
        (sample,) = bundle.generate([seed], labels=number)
        scores = (-((sample.ravel()[:, np.newaxis] - means) ** 2)).sum(axis=0) / 4
        return np.exp(scores - scores.max())[number] / np.exp(scores - scores.max()).sum()

    for number, name in ((1, "shoe"), (2, "bag")):
        seeds = [int(p.stem.removeprefix("seed")) for p in sorted((out / name).iterdir())]
        tried = range(number, max(seeds) + 1, 3)
        assert seeds == [seed for seed in tried if surest(seed, number) >= level]
    return max(seeds)


def test_only_recognized_samples_are_kept(places, tmp_path, capsys):
    """ONNX files with probabilities or logits, of another range or order of classes."""
    means = places[2]
    forms = {
        "plain": ({"meta": {"value_range": "-1,1"}}, ("--classifier-classes", "shirt,shoe,bag")),
        "bytes": (
            {"low": 0.0, "high": 255.0, "softmax": False, "order": (2, 0, 1)},
            ("--classifier-classes", "bag,shirt,shoe", "--classifier-range", 0, 255),
        ),
    }
    for name, (form, options) in forms.items():
        path = write_classifier(tmp_path / f"{name}.onnx", means, **form)
        last = check_kept(places, tmp_path / name, path, 0.999, *options)
        text = capsys.readouterr().out
        assert "The classifier is right for 8 of 8 real pictures." in text
        tried = (last - 2) // 3 + 1
        assert f"bag         1          4 {tried:>7} {4 / tried:>6.0%}" in text
        assert tried > 4


def test_a_keras_file_classifies(places, tmp_path):
    means = places[2]
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Rescaling(2, -1),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.layers[-1].set_weights([means / 2, -(means**2).sum(axis=0) / 4])
    model.save(tmp_path / "c.keras")
    options = ("--classifier-range", 0, 1, "--classifier-classes", "shirt,shoe,bag")
    check_kept(places, tmp_path / "out", tmp_path / "c.keras", 0.999, *options)


def test_a_bundle_classifies(tmp_path, capsys):
    """Its classes are matched by name, also if a folder cannot have the name, as with a slash."""
    names, order = ("T-shirt/top", "shoe", "bag"), (2, 0, 1)
    folder = tiny.write(tmp_path / "g", "g", "image", (8, 8, 3), tiny.LATENTS, names, seed=3)
    bundle = serving.Bundle(folder, threads=1, device="cpu")
    write_real(tmp_path / "real", bundle, {"T-shirt_top": 5, "shoe": 2, "bag": 1})
    means = np.stack([bundle.generate(range(200), labels=c).mean(0).ravel() for c in range(3)], 1)
    kernel = means.astype(np.float32) / 8
    given = [names[i] for i in order]
    tiny.linear_classifier(tmp_path / "c", "c", (8, 8, 3), kernel[:, list(order)], given)
    level = ("--keep-if-recognized", 0.8, "--classifier", tmp_path / "c", "--tries", 500)
    assert balance(tmp_path, tmp_path / "out", *level, bundle="g") == 0
    assert count(tmp_path / "out") == {"T-shirt_top": 0, "bag": 4, "shoe": 3}
    rejected = 0
    for number, name in ((1, "shoe"), (2, "bag")):
        seeds = [int(p.stem.removeprefix("seed")) for p in (tmp_path / "out" / name).iterdir()]
        tried = list(range(number, max(seeds) + 1, 3))
        scores = np.exp(bundle.generate(tried, labels=number).reshape(len(tried), -1) @ kernel)
        sure = scores[:, number] / scores.sum(1) >= 0.8
        assert sorted(seeds) == [seed for seed, kept in zip(tried, sure, strict=True) if kept]
        rejected += (~sure).sum()
    assert rejected > 0
    other = tiny.linear_classifier(tmp_path / "o", "o", (8, 8, 3), kernel, ("shirt", "shoe", "bag"))
    level = ("--keep-if-recognized", 0.8, "--classifier", other)
    assert balance(tmp_path, tmp_path / "again", *level, bundle="g") == 2
    assert "The classes of the classifier must be those of the bundle" in capsys.readouterr().err


def test_tries_are_bounded_and_a_wrong_range_is_noticed(places, tmp_path, capsys):
    root, _, means = places
    path = write_classifier(tmp_path / "c.onnx", means, order=(1, 2, 0))
    options = ("--classifier-range", -1, 1, "--classifier-classes", "shirt,shoe,bag")
    kept = ("--keep-if-recognized", 0.99999, "--classifier", path, "--tries", 3, *options)
    assert balance(root, tmp_path / "out", *kept) == 1
    captured = capsys.readouterr()
    assert "warning: The classifier is wrong for most real pictures" in captured.err
    assert "bag: 0 of 4 samples were recognized in 12 tries" in captured.err
    assert captured.err.count("error:") == 2


def test_mistakes(places, tmp_path, capfd):
    root, bundle, means = places
    tiny.points(root / "points")
    path = write_classifier(tmp_path / "c.onnx", means)
    write_real(tmp_path / "hats", bundle, {"hat": 1, "shoe": 1})
    write_real(tmp_path / "few", bundle, {"shirt": 1, "shoe": 2})
    write_real(tmp_path / "empty", bundle, {"shirt": 1, "shoe": 2, "bag": 0})
    sure = ("--classifier", path, "--keep-if-recognized")
    mistakes = [
        (("--balance", root / "none"), "must name a folder. Received"),
        (("--balance", tmp_path / "hats"), "shirt, shoe, bag. Received: 'hat' in"),
        (("--balance", tmp_path / "few"), "Received: 'bag' without pictures"),
        (("--balance", tmp_path / "empty"), "Received: 'bag' without pictures"),
        (("--count", 4), "at least 5, the number of pictures of the largest class"),
        (("--each",), "Received: --each"),
        (("--out", root / "real" / "x"), "--out must be apart from"),
        (("--out", root / "real"), "--out must be apart from"),
        (("--out", root), "--out must be apart from"),
        (("--keep-if-recognized", 0.5), "Received: --keep-if-recognized alone"),
        (("--tries", 5), "--tries needs --classifier"),
        ((*sure, 1.5), "Received: --keep-if-recognized 1.5"),
        ((*sure, 0.5), "--classifier-range must name the smallest"),
        (
            (*sure, 0.5, "--classifier-range", 1, 0),
            "the smaller first, such as 0 255. Received: 1 0",
        ),
        ((*sure, 0.5, "--classifier-range", 0, 1), "not that of the alphabet: shirt, shoe, bag"),
        (
            (*sure, 0.5, "--classifier-range", 0, 1, "--classifier-classes", "shirt,hat,bag"),
            "must be those of the bundle, shirt, shoe, bag. Received: shirt, hat, bag",
        ),
        (
            ("--classifier", root / "clothes", "--keep-if-recognized", 0.5),
            "of role classifier, with a picture",
        ),
        (("--classifier", tmp_path / "x.pt", "--keep-if-recognized", 0.5), "a .keras file, an .on"),
    ]
    for options, line in mistakes:
        assert balance(root, tmp_path / "out", *options) == 2, options
        error = capfd.readouterr().err
        assert line in error, (options, error)
        assert error.count("\n") == 1
        assert not (tmp_path / "out").exists()
    assert balance(root, tmp_path / "out", bundle="points") == 2
    assert "--balance needs a generator of pictures of classes" in capfd.readouterr().err
    assert cli.main(["sample", str(root / "clothes"), "--with-real"]) == 2
    assert "--with-real needs --balance" in capfd.readouterr().err


def test_a_classifier_of_another_shape_is_refused(places, tmp_path, capfd):
    tiny.classifier(tmp_path / "classifier")  # of 4 x 4 pictures
    options = ("--classifier", tmp_path / "classifier", "--keep-if-recognized", 0.5)
    assert balance(places[0], tmp_path / "out", *options) == 2
    assert "of the samples, (8, 8, 3). Received: (4, 4, 1)" in capfd.readouterr().err
