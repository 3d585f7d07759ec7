"""Export of generators of endless video: one seed is one video in every runtime."""

import io
import json
import subprocess
import sys
import textwrap

import keras
import numpy as np
import onnxruntime
import pytest
from servers import Serving

import export
import keras_gan
import serving
from keras_gan import UsageError, architectures, endless, latents
from keras_gan.spec import Field, Spec, label_field
from serving.client import Client
from serving.endless import stream_video

SMALL = {"content_dim": 3, "start_dim": 2, "motion_dim": 2, "units": 5, "widths": [4, 4]}
FRAMES, SEED = 4, 11


@pytest.fixture(scope="module")
def game():
    keras.utils.set_random_seed(3)
    meta = {"value_range": (-1.0, 1.0), "frame_rate": 8.0}
    fields = {"samples": Field("video", (FRAMES, 16, 16, 1), meta=meta)}
    spec = Spec(fields={**fields, "labels": label_field(3, ("a", "b", "c"))})
    networks = architectures.build(
        "video", spec, True, SMALL | {"sprites": 1}, {"width": 2, "clip_width": 2, "picked": 2}
    )
    rng = np.random.default_rng(5)
    for weight in networks[0].weights:
        drawn = rng.normal(0, 0.3, weight.shape)
        weight.assign(np.abs(drawn) + 0.5 if "variance" in weight.path else weight + drawn)
    gan = keras_gan.GAN(*networks, num_classes=3)
    gan.sample_kind = "video"
    return gan, spec


@pytest.fixture(scope="module")
def bundle(game, tmp_path_factory):
    path = tmp_path_factory.mktemp("endless") / "film"
    return export.export_bundle(game[0], path, spec=game[1], name="film")


def test_the_manifest_has_the_facts(bundle):
    facts = {"content_dim": 3, "start_dim": 2, "motion_dim": 2, "state": 6}
    assert bundle.manifest.video == facts | {"chunk": endless.CHUNK}
    assert "stream.onnx" in bundle.manifest.files
    assert bundle.manifest.worst_parity()["onnx, in chunks"] < 1e-5
    assert export.verify_bundle(bundle.path).ok


def test_one_seed_is_one_clip_in_every_runtime(game, bundle):
    wanted = np.asarray(game[0].generate(seeds=[SEED], labels=[1]))[0]
    opened = serving.Bundle(bundle.path, threads=1)
    np.testing.assert_allclose(opened.generate([SEED], [1])[0], wanted, atol=1e-5)
    session = onnxruntime.InferenceSession(str(bundle.path / "model.onnx"))
    drawn = serving.seeds.latents_from_seeds([SEED], 5 + 2 * FRAMES)
    dtype = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
    label = np.array([1], dtype[session.get_inputs()[1].type])
    (found,) = session.run(None, {"latents": drawn, "labels": label})
    np.testing.assert_allclose(found[0], wanted, atol=1e-5)
    script = textwrap.dedent(
        f"""
        import sys
        sys.modules["keras"] = None
        import numpy as np, tensorflow as tf
        model = tf.saved_model.load({str(bundle.path / "saved_model" / "film" / "1")!r})
        made = model.signatures["generate"](
            seeds=tf.constant([{SEED}], tf.int64), labels=tf.constant([1], tf.int64))
        np.save(sys.argv[1], made["samples"].numpy())
        """
    )
    to = bundle.path.parent / "found.npy"
    done = subprocess.run([sys.executable, "-c", script, to], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(np.load(to)[0], wanted, atol=1e-5)


def test_one_seed_is_one_long_video_in_keras_onnxruntime_and_over_http(game, bundle):
    """Longer than the clips of the training: one graph of Keras, chunks, a stream, a client."""
    frames, network = 21, game[0].exported(None, True)
    drawn = np.asarray(latents.latents_from_seeds([SEED], 5 + 2 * frames))
    whole = np.asarray(endless.with_frames(network, frames)([drawn, np.array([1])]))[0]
    opened = serving.Bundle(bundle.path, threads=1)
    chunks = np.stack(list(stream_video(opened, SEED, frames, "b")))
    np.testing.assert_allclose(chunks, whole, atol=1e-5)
    with Serving(bundle.path, "--workers", 1) as server:
        query = f"seed={SEED}&frames={frames}&labels=b&format=npy&stream=1"
        answer = server.ask(f"/v1/generate?{query}")
        np.testing.assert_array_equal(np.load(io.BytesIO(answer.body)), chunks)
        with Client(f"http://127.0.0.1:{server.port}") as client:
            received = np.stack(list(client.frames(SEED, frames, label="b")))
        np.testing.assert_array_equal(received, chunks)


def test_a_graph_that_makes_other_frames_is_found(bundle, tmp_path):
    """The check of the chunks runs on the bundle alone, and a changed fact fails it."""
    to = tmp_path / "changed"
    for file in bundle.path.rglob("*"):
        if file.is_file():
            place = to / file.relative_to(bundle.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())
    manifest = json.loads((to / "manifest.json").read_text())
    manifest["video"] |= {"content_dim": 2, "start_dim": 3, "chunk": 7}
    manifest["digest"] = serving.manifest.digest(manifest)
    (to / "manifest.json").write_text(json.dumps(manifest))
    report = export.verify_bundle(to)
    assert not report.ok
    assert any("stream.onnx" in problem for problem in report.problems)


def test_a_generator_without_the_split_has_no_such_graph(tmp_path):
    spec = Spec("video", (2, 8, 8, 1), (-1.0, 1.0))
    network = architectures.build_network("generator", "mlp", spec, latent_dim=4, widths=[8])
    made = export.export_bundle(network, tmp_path / "plain", spec=spec)
    assert made.manifest.video is None
    assert not (made.path / "stream.onnx").exists()
    line = r"^`frames` needs a generator of video .* which makes 2 frames$"
    with pytest.raises(UsageError, match=line):
        stream_video(serving.Bundle(made.path, threads=1), 0, 3)
