"""Tiny bundles of vocoders, from spectrograms of any length to sound, and files of sound."""

import io
import json
import wave

import numpy as np
import tiny

from serving.inputs import Input, Port
from serving.manifest import digest
from serving.mel import Mel

MEL = Mel()  # 8 kHz, hop 64, 40 mels
CONTEXT = 4  # frames: 2 of the windows that overlap, 1 of each convolution


def write(to, name="voice", mel=MEL, context=CONTEXT, depth=2, width=8, scale=0.02, seed=0):
    """Writes a vocoder: `depth` convolutions over 3 frames, then windows that are added up.

    Args:
        to: the folder.
        name: of the model.
        mel: definition of its input.
        context: `audio.context` of the manifest.
        depth: convolutions; the context is 2 more.
        width: channels.
        scale: of the weights of the windows; the level of the sound.
        seed: of the weights.
    """
    rng = np.random.default_rng(seed)
    inputs = [Input("mel", "float32", ("frames", mel.mels), "mel", {"mel": mel.to_meta()})]
    meta = {"value_range": [-1.0, 1.0], "sample_rate": mel.sample_rate}
    outputs = [Port("samples", "float32", ("samples", 1), "audio", meta)]
    nodes, weights, last = [("Transpose", ["mel"], ["x"], {"perm": [0, 2, 1]})], {}, "x"
    channels = mel.mels
    for i in range(depth):
        kernel = rng.normal(0, (9 * channels) ** -0.5, (width, channels, 3))
        weights[f"k{i}"] = kernel.astype(np.float32)
        nodes += [
            ("Conv", [last, f"k{i}"], [f"c{i}"], {"pads": [1, 1]}),
            ("Tanh", [f"c{i}"], [f"t{i}"], {}),
        ]
        last, channels = f"t{i}", width
    weights["windows"] = rng.normal(0, scale, (width, 1, mel.window)).astype(np.float32)
    ends = [(mel.window - mel.hop) // 2] * 2
    nodes += [
        ("ConvTranspose", [last, "windows"], ["wave"], {"strides": [mel.hop], "pads": ends}),
        ("Transpose", ["wave"], ["samples"], {"perm": [0, 2, 1]}),
    ]
    model = tiny.network(name, nodes, inputs, outputs, weights)
    tiny.save(to, name, model, inputs, outputs, "vocoder")
    return declare(to, context)


def slow(to, name="slow"):
    """Writes a vocoder that takes about 10 ms for a chunk of 25 frames."""
    return write(to, name, context=22, depth=20, width=192)


def whole(to, name="whole"):
    """Writes a vocoder whose every sample depends on the whole spectrogram: its mean is taken."""
    meta = {"value_range": [-1.0, 1.0], "sample_rate": MEL.sample_rate}
    inputs = [Input("mel", "float32", ("frames", MEL.mels), "mel", {"mel": MEL.to_meta()})]
    outputs = [Port("samples", "float32", ("samples", 1), "audio", meta)]
    nodes = [
        ("ReduceMean", ["mel"], ["mean"], {"axes": [1], "keepdims": 1}),
        ("Sub", ["mel", "mean"], ["less"], {}),
        ("MatMul", ["less", "windows"], ["frames_of_samples"], {}),
        ("Reshape", ["frames_of_samples", "columns"], ["samples"], {}),
    ]
    rng = np.random.default_rng(1)
    weights = {
        "windows": rng.normal(0, 0.01, (MEL.mels, MEL.hop)).astype(np.float32),
        "columns": np.array([0, -1, 1], np.int64),  # 0: as it is
    }
    model = tiny.network(name, nodes, inputs, outputs, weights)
    tiny.save(to, name, model, inputs, outputs, "vocoder")
    return declare(to, None)


def declare(to, context):
    """Writes `audio` to the manifest of a bundle."""
    content = json.loads((to / "manifest.json").read_text())
    content["audio"] = {"context": context}
    content["digest"] = digest(content)
    (to / "manifest.json").write_text(json.dumps(content))
    return to


def reference(bundle, mel):
    """Returns the sound of a whole spectrogram, by one run of the network, `(time,)`."""
    return bundle.run({"mel": mel[np.newaxis].astype(np.float32)})["samples"][0, :, 0]


def tones(count, rate=8_000, seed=0):
    """Returns a sound of gliding tones and some noise, float32 `(count,)`."""
    rng = np.random.default_rng(seed)
    time = np.arange(count) / rate
    glide = np.sin(2 * np.pi * (200 * time + 300 * time**2)) * np.sin(np.pi * time) ** 2
    return (0.5 * glide + rng.normal(0, 0.01, count)).astype(np.float32)


def wav(samples, rate=8_000, width=2):
    """Returns a WAV file of the standard library, of samples `(time,)` or `(time, channels)`."""
    columns = np.asarray(samples, float)
    columns = columns[:, np.newaxis] if columns.ndim == 1 else columns
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(columns.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        values = np.rint(np.clip(columns, -1, 1) * (2 ** (8 * width - 1) - 1))
        file.writeframes(values.astype(f"<i{width}").tobytes())
    return buffer.getvalue()


def npy(array):
    """Returns an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def heard(content):
    """Returns the samples `(time,)` in [-1, 1] of a WAV file, and its rate, by the library."""
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        data = file.readframes(file.getnframes())
        return np.frombuffer(data, "<i2") / 32767, file.getframerate()
