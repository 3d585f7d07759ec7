"""Exported samplers of texts: one seed names one text in every runtime; steps are verified."""

import io
import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from servers import Serving
from test_sequence_game import LENGTH, TOKENS, networks, spec

import export
import keras_gan
import serving
from export.isolated import run_isolated
from export.text_step import compare
from serving import UsageError

SEEDS = np.arange(40)


@pytest.fixture(scope="module")
def game():
    gan = keras_gan.SequenceGAN(*networks(classes=2), first_stage=0, num_classes=2)
    rng = np.random.default_rng(3)
    for generator in (gan.generator, gan.average("generator").model):
        for weight in generator.trainable_weights:
            weight.assign(2 * rng.normal(size=weight.shape) / max(1, weight.shape[0]) ** 0.5)
        rng = np.random.default_rng(3)
    return gan


@pytest.fixture(scope="module")
def folder(game, tmp_path_factory):
    to = tmp_path_factory.mktemp("export") / "bundle"
    export.export_bundle(game, to, spec=spec(classes=2), name="letters")
    return to


def strings(samples):
    texts = ("".join(TOKENS[i] for i in row) for row in np.asarray(samples).argmax(-1))
    return list(texts)


def test_one_seed_names_one_text_in_every_runtime(game, folder):
    expected = strings(game.generate(SEEDS))
    assert len({*expected}) > 10
    bundle = serving.Bundle(folder, threads=1)
    assert strings(bundle.generate(SEEDS)) == expected
    assert [text.text for text in bundle.texts(SEEDS)] == expected
    # onnxruntime alone, with the inputs of numpy
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    feeds = bundle.inputs.fill(SEEDS)
    assert strings(session.run(["samples"], feeds)[0]) == expected
    # TensorFlow without Keras
    np.savez(folder.parent / "inputs.npz", seeds=SEEDS, labels=feeds["labels"])
    plan = {
        "saved_model": str(folder / "saved_model" / "letters" / "1"),
        "inputs": str(folder.parent / "inputs.npz"),
        "signature": "generate",
        "batch": len(SEEDS),
    }
    (output,) = run_isolated([plan], "A SavedModel")
    assert strings(output["samples"]) == expected
    # HTTP: by the whole network, and by the step
    with Serving(folder) as server:
        path = f"/v1/generate?seeds={','.join(map(str, SEEDS))}"
        lines = server.ask(f"{path}&format=txt").body.decode().splitlines()
        assert lines == expected
        whole = np.load(io.BytesIO(server.ask(f"{path}&format=npy").body))
        assert strings(whole) == expected


@pytest.mark.parametrize(
    "options", [{"temperature": 0.4}, {"temperature": 0.0}, {"prefix": [2, 1]}]
)
def test_controls_are_those_of_keras(game, folder, options):
    bundle = serving.Bundle(folder, threads=1)
    expected = strings(game.generate(SEEDS, **options))
    assert [text.text for text in bundle.texts(SEEDS, **options)] == expected
    given = {}
    if "temperature" in options:
        given["temperature"] = np.full(1, options["temperature"], np.float32)
    if "prefix" in options:
        given["prefix"] = np.full((1, LENGTH), -1, np.int32)
        given["prefix"][0, :2] = options["prefix"]
    assert strings(bundle.generate(SEEDS, **given)) == expected
    vocabulary, mask = ["a", "d"], np.array([[1, 1, 0, 0, 1]], np.float32)
    expected = strings(game.generate(SEEDS, mask=mask[0]))
    assert strings(bundle.generate(SEEDS, mask=mask)) == expected
    assert [text.text for text in bundle.texts(SEEDS, vocabulary=vocabulary)] == expected


def test_the_manifest_and_the_log_probability(game, folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["text"] == {"width": 8, "ends": True}
    assert manifest["parity"]["figures"]["onnx, token by token"] == {"16": 0.0}
    fills = {port["name"]: (port["fill"], port["value"]) for port in manifest["inputs"]}
    assert fills == {
        "latents": ("normal", None),
        "labels": ("class", None),
        "temperature": ("constant", 1.0),
        "prefix": ("constant", -1.0),
        "mask": ("constant", 1.0),
    }
    texts = serving.Bundle(folder).texts(SEEDS, labels=1)
    assert texts[0].to_json()["label"] == 1
    ids = np.zeros((len(SEEDS), LENGTH), np.int64)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text.ids)] = text.ids
    batch = {"samples": np.eye(5, dtype="float32")[ids], "labels": np.ones(len(SEEDS), np.int32)}
    average = keras_gan.SequenceGAN(
        game.average("generator").model, game.discriminator, first_stage=0, num_classes=2
    )
    counted = np.minimum((ids > 0).sum(1) + 1, LENGTH)
    expected = -np.asarray(average.negative_log_likelihood(batch)) * counted
    np.testing.assert_allclose([text.log_probability for text in texts], expected, atol=1e-4)


def test_another_step_is_found(folder, tmp_path):
    assert export.verify_bundle(folder).ok
    model = onnx.load(folder / "step.onnx")
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 2:
            values = -onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for name in ("model.onnx", "golden.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    onnx.save_model(model, tmp_path / "step.onnx")
    manifest = export.Manifest.load(folder)
    _, problems = compare(tmp_path, manifest)
    assert len(problems) == 1
    assert "step.onnx must make the texts of model.onnx" in problems[0]
    (tmp_path / "step.onnx").write_bytes(b"x")
    _, problems = compare(tmp_path, manifest)
    assert "must load and run" in problems[0]


def test_prefixes_out_of_range_at_the_bundle(folder):
    bundle = serving.Bundle(folder)
    for prefix in (np.full((1, LENGTH + 1), 1), np.full((1, LENGTH), 5), np.full((1, LENGTH), -2)):
        with pytest.raises(UsageError, match=r"prefix.* Received: "):
            bundle.generate([1], prefix=prefix.astype(np.int32))


def test_a_residual_generator_is_exported_as_any_other(tmp_path):
    keras.utils.set_random_seed(0)
    gan = keras_gan.GAN(*networks("text_resnet"))
    export.export_bundle(gan, tmp_path / "bundle", spec=spec(), name="resnet")
    bundle = serving.Bundle(tmp_path / "bundle")
    assert bundle.text_sampler is None
    assert bundle.kind == "text"
    np.testing.assert_allclose(bundle.generate(range(5)), gan.generate(range(5)), atol=1e-5)
