"""Exported vocoders: lengths, streaming in chunks, the front end, and what is refused."""

import dataclasses
import json

import numpy as np
import onnxruntime
import pytest
from sounds import MEL, spec, tones, vocoder

import export
import serving
from export import streaming
from export.declare import Declarations
from export.front import write_front
from export.manifest import Manifest
from export.network import open_network
from export.to_onnx import to_onnx
from export.vocoder import with_facts
from keras_gan.errors import UsageError
from keras_gan.spec import Spec
from serving.manifest import digest
from serving.mel import Mel


def random_weights(generator, seed=0):
    """Sets the weights such that no frame of the context is without effect."""
    rng = np.random.default_rng(seed)
    for weight in generator.trainable_weights:
        values = weight.numpy()
        if "scale" in weight.path:
            weight.assign(np.full(values.shape, 1.0))
        elif "kernel" in weight.path and "head" not in weight.path:
            weight.assign(values + rng.normal(0, 0.1, values.shape))
    return generator


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    to = tmp_path_factory.mktemp("vocoder") / "bundle"
    export.export_bundle(random_weights(vocoder()), to, spec=spec(), name="voice")
    return to


def test_the_manifest_of_a_vocoder(bundle):
    manifest = Manifest.load(bundle)
    assert manifest.role == "vocoder"
    assert manifest.audio == {"context": 8}
    (source,), (target,) = manifest.inputs, manifest.outputs
    assert (source.name, source.kind, source.fill) == ("mel", "mel", "given")
    assert source.shape == ("frames", 40)
    assert source.meta["mel"] == MEL.to_meta()
    assert (target.name, target.kind, target.shape) == ("samples", "audio", ("samples", 1))
    assert target.meta["sample_rate"] == 8000
    assert [sizes["frames"] for sizes in manifest.sizes] == [50, 1, 7, 51, 200]
    assert [sizes["samples"] for sizes in manifest.sizes] == [64 * n for n in (50, 1, 7, 51, 200)]
    assert {"front.onnx", "model.onnx", "golden_sizes_4.npz"} <= manifest.files.keys()
    figures = manifest.parity["figures"]
    assert figures["onnx, in chunks"]["1"] < 1e-5
    assert figures["front end"]["1"] < 1e-5


def test_the_data_and_the_vocoder_have_one_definition(bundle, tmp_path):
    other = dataclasses.replace(MEL, floor=1e-4)
    fields = spec().fields
    known = {"mel": dataclasses.replace(fields["mel"], meta={"mel": other.to_meta()})}
    with pytest.raises(UsageError, match=r"one definition.*'floor': 0.0001.*'floor': 1e-05"):
        with_facts(vocoder(), Declarations(spec=Spec(fields={**fields, **known})))
    unknown = {"mel": dataclasses.replace(fields["mel"], meta={})}
    found = with_facts(vocoder(), Declarations(spec=Spec(fields={**fields, **unknown})))
    assert found.inputs["mel"]["meta"]["mel"] == MEL.to_meta()


def test_it_passes_its_own_check(bundle):
    report = export.verify_bundle(bundle)
    assert report.ok, str(report)
    assert set(report.figures) >= {"onnx", "saved_model", "onnx, in chunks", "front end"}


def test_onnx_returns_the_samples_of_keras(bundle):
    mel = tones(2, frames=33)["mel"]
    expected = random_weights(vocoder())(mel).numpy()
    found = serving.Bundle(bundle).run({"mel": mel})["samples"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_chunks_with_a_frame_less_of_context_differ(bundle):
    model = bundle / "model.onnx"
    assert streaming.chunk_difference(model, "mel", MEL, 8) < 1e-5
    assert streaming.chunk_difference(model, "mel", MEL, 7) > 1e-5


def test_a_bundle_with_too_little_context_is_refused(bundle, tmp_path):
    content = json.loads((bundle / "manifest.json").read_text())
    content["audio"]["context"] = 7
    content["digest"] = digest(content)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bundle.rglob("*"):
        if file.is_file():
            (copy / file.relative_to(bundle)).parent.mkdir(parents=True, exist_ok=True)
            (copy / file.relative_to(bundle)).write_bytes(file.read_bytes())
    (copy / "manifest.json").write_text(json.dumps(content))
    report = export.verify_bundle(copy)
    assert [p for p in report.problems if "Chunks with 7 frames of context must equal" in p]
    (copy / "front.onnx").unlink()
    assert "front.onnx is missing" in export.verify_bundle(copy).problems


@pytest.mark.parametrize("options", [{}, {"window": 200, "hop": 80, "mels": 20}, {"hop": 256}])
def test_the_front_end_is_the_definition(tmp_path, options):
    mel = Mel(**options)
    write_front(mel, tmp_path / "front.onnx")
    assert streaming.front_difference(tmp_path / "front.onnx", mel) < 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "front.onnx"))
    assert session.get_inputs()[0].shape == ["batch", "samples"]
    assert session.get_outputs()[0].shape == ["batch", "frames", mel.mels]
    other = dataclasses.replace(mel, floor=1e-4)
    assert streaming.front_difference(tmp_path / "front.onnx", other) > 1


@pytest.mark.parametrize("options", [{}, {"gain": True, "kernels": [3], "dilations": [1, 3]}])
def test_hifi_in_onnx(options):
    """Without the spec of the data, kinds and role follow from the network."""
    network = open_network(random_weights(vocoder("hifi", **options)))
    network, audio = streaming.describe(network)
    assert network.role == "vocoder"
    assert network.inputs[0].kind == "mel"
    assert network.outputs[0].meta["sample_rate"] == 8000
    session = onnxruntime.InferenceSession(to_onnx(network).SerializeToString())

    def run(mel):
        return session.run(None, {"mel": mel})[0][0, :, 0]

    for frames in (1, 7, 50):
        mel = tones(1, frames=frames)["mel"]
        np.testing.assert_allclose(run(mel), network(mel)[0, :, 0], atol=1e-5)
    mel = tones(1, frames=60)["mel"]
    for frames in (1, 7, 25):
        parts = streaming.in_chunks(run, mel, frames, audio["context"], MEL.hop)
        np.testing.assert_allclose(parts, run(mel), atol=1e-5)
