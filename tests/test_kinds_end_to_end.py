"""Every kind of data from a plain array to files of samples, by the commands."""

import json
import re

import numpy as np
import PIL.Image
import pytest
from servers import Serving

from keras_gan import UsageError, metrics
from keras_gan import run as runs
from keras_gan.__main__ import main
from serving import cli, kinds

RECIPE = """
data: {source: fashion-mnist-10k}
networks:
  generator: {architecture: mlp, latent_dim: 4, widths: [16]}
  discriminator: {architecture: mlp, widths: [16]}
training: {examples: 128, batch_size: 16, tick_examples: 64, jit_compile: false}
evaluation: {count: 12}
samples: {count: 6}
"""
RANDOM = np.random.default_rng(11)
COUNT = 80
LEVELS = RANDOM.uniform(0.2, 0.9, size=(COUNT, 1, 1))
WAVES = (LEVELS * np.sin(np.arange(200)[:, np.newaxis] / 7)).astype(np.float32)
WALKS = RANDOM.normal(size=(COUNT, 20, 2)).cumsum(axis=1).astype(np.float32)
ROWS = RANDOM.normal(size=(COUNT, 3)).astype(np.float32)
WORDS = RANDOM.integers(4, size=(COUNT, 6))
# By case: the kind, its samples, the options of the data set, and the shape of one sample.
CASES = {
    "image": ("image", RANDOM.integers(256, size=(COUNT, 6, 8, 3), dtype=np.uint8), {}, (6, 8, 3)),
    "points": ("points", ROWS, {}, (3,)),
    "audio": ("audio", WAVES, {"sample_rate": 8000}, (200, 1)),
    "audio of integers": ("audio", np.int16(32767 * WAVES), {}, (200, 1)),
    "video": (
        "video",
        RANDOM.integers(256, size=(COUNT, 3, 6, 8, 1), dtype=np.uint8),
        {"frame_rate": 5},
        (3, 6, 8, 1),
    ),
    "series": ("series", WALKS, {"columns": "[north, east]"}, (20, 2)),
    "text": ("text", WORDS, {"vocabulary": "[a, b, c, d]"}, (6, 4)),
    "text of weights": ("text", np.eye(4, dtype=np.float32)[WORDS], {}, (6, 4)),
    "table": ("table", ROWS, {"columns": "[age, height, weight]"}, (3,)),
    "table in a file": ("table", ROWS, {}, (3,)),
    "array": ("array", RANDOM.normal(size=(COUNT, 2, 3, 2, 2)).astype("float32"), {}, (2, 3, 2, 2)),
    "array of the shape of an image": (
        "array",
        RANDOM.normal(0.0, 10.0, (COUNT, 8, 8, 3)).astype("float32"),
        {},
        (8, 8, 3),
    ),
}


@pytest.fixture(scope="module", params=list(CASES))
def trained(request, tmp_path_factory):
    """A finished run of one kind, its kind and the shape of its samples."""
    kind, samples, options, shape = CASES[request.param]
    folder = tmp_path_factory.mktemp(kind)
    (folder / "my.yaml").write_text(RECIPE)
    data = folder / "data.npz"
    if request.param == "table in a file":
        data = folder / "data.csv"
        lines = [",".join(f"{value:.9g}" for value in row) for row in samples]
        data.write_text("\n".join(["age,height,weight", *lines]))
    else:
        np.savez(data, samples=samples)
        options = {"kind": kind, **options}
    sets = [part for key, value in options.items() for part in ("--set", f"data.{key}={value}")]
    run = folder / "run"
    main(["train", str(folder / "my.yaml"), "--data", str(data), *sets, "--run", str(run)])
    return run, kind, shape


def test_the_samples_are_of_the_kind(trained):
    path, kind, shape = trained
    run = runs.Run.open(path)
    assert (run.spec.kind, run.spec.shape) == (kind, shape)
    samples = run.load().generate(range(5))
    assert samples.shape == (5, *shape)
    assert np.isfinite(samples).all()
    if run.spec.value_range is not None:
        low, high = run.spec.value_range
        assert low <= samples.min() <= samples.max() <= high
    if run.spec.modality.is_distribution:
        np.testing.assert_allclose(samples.sum(axis=-1), 1, atol=1e-5)
    assert run.rows()[-1][metrics.Comparison(samples, spec=run.spec).metric] > 0


def test_the_preview_shows_the_samples(trained):
    path, _, _ = trained
    run = runs.Run.open(path)
    files = sorted(file.name for file in run.samples.iterdir())
    names = [name for name in files if name.endswith(".png")]
    assert [names[0], names[-1]] == ["examples-000000000.png", "examples-000000128.png"]
    field = run.spec.samples
    samples = run.load().generate(range(6))
    lines = field.modality.lines(samples, field.meta)
    texts = set() if lines is None else {"txt"}
    texts |= set() if field.modality.loop(samples, field.meta) is None else {"webp"}
    assert {name.split(".")[-1] for name in files} == {"png", *field.modality.previews, *texts}
    expected = field.modality.sheet(samples, field.meta)
    drawn = np.asarray(PIL.Image.open(run.samples / names[-1]))
    drawn = drawn if drawn.ndim == 3 else drawn[..., np.newaxis]
    assert drawn.shape == expected.shape
    assert np.abs(drawn.astype(int) - expected).mean() < 1
    assert np.abs(drawn.astype(int) - np.median(drawn)).max() > 50  # not blank
    report = (path / "report.html").read_text()
    assert names[-1] in report
    if lines is not None:
        written = (run.samples / names[-1]).with_suffix(".txt").read_text()
        assert written == "".join(f"{line}\n" for line in lines)
        assert f'<pre id="lines">{written}</pre>' in report


def test_the_run_is_evaluated(trained, tmp_path):
    path, kind, _ = trained
    out = tmp_path / "e.json"
    main(["evaluate", str(path), "--cache", "off", "--json", str(out)])
    found = json.loads(out.read_text())
    usual = kinds.get(kind).metrics or ("frechet_distance", "precision_recall")
    assert found["values"][_distance(kind)] > 0
    assert ("frechet_distance" in found["values"]) == ("frechet_distance" in usual)
    features = kinds.get(kind).features
    assert features is None or found["protocol"]["extractor"] == features


# Bundles of every kind --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(trained):
    path, _, _ = trained
    main(["export", str(path)])
    return path / "bundle"


def test_a_bundle_describes_its_samples_by_kind(trained, exported):
    path, kind, shape = trained
    field = runs.Run.open(path).spec.samples
    (output, *_) = json.loads((exported / "manifest.json").read_text())["outputs"]
    assert (output["name"], output["kind"]) == ("samples", kind)
    assert output["shape"] == ["batch", *shape]
    assert output["meta"] == field.to_json()["meta"]


def test_a_sample_is_written_in_the_formats_of_its_kind(trained, exported, tmp_path, capfd):
    path, kind, shape = trained
    meta = runs.Run.open(path).spec.samples.meta
    (expected,) = runs.Run.open(path).load().generate([5])
    for form in kinds.get(kind).all_formats().values():
        if not form.is_written or form.name == "json":
            continue
        out = tmp_path / f"sample.{form.name}"
        command = ["sample", str(exported), "--seed", "5", "--count", "1", "--out", str(out)]
        assert not cli.main(command)
        if form.name in ("npy", "npz"):  # batches
            loaded = np.load(out)
            loaded = loaded["samples"] if form.name == "npz" else loaded
            np.testing.assert_allclose(loaded, expected[np.newaxis], atol=1e-4)
        else:
            _check_file(out.read_bytes(), kind, form, shape, meta, expected)
    capfd.readouterr()


def test_the_server_sends_a_sample_in_the_formats_of_its_kind(trained, exported):
    path, kind, shape = trained
    meta = runs.Run.open(path).spec.samples.meta
    (expected,) = runs.Run.open(path).load().generate([5])
    with Serving(exported) as server:
        answer = server.ask("/v1/generate", {"seeds": [5], "format": "json"})
        assert answer.status == 200, answer.body
        np.testing.assert_allclose(answer.json["samples"][0]["values"], expected, atol=1e-4)
        for form in kinds.get(kind).formats:
            if not form.is_written:
                continue
            answer = server.ask(f"/v1/generate?seed=5&format={form.name}")
            assert answer.status == 200, answer.body
            assert answer.headers["content-type"].split(";")[0] == form.media_type
            _check_file(answer.body, kind, form, shape, meta, expected)


def test_a_bundle_is_evaluated_like_its_run(trained, exported, tmp_path):
    path, _, _ = trained
    values = []
    for source in (path, exported):
        main(["evaluate", str(source), "--cache", "off", "--json", str(tmp_path / "e.json")])
        values.append(json.loads((tmp_path / "e.json").read_text())["values"])
    assert values[0].keys() == values[1].keys()
    for name in {_distance(trained[1]), "nearest_distance"} & values[0].keys():
        assert values[0][name] == pytest.approx(values[1][name], rel=1e-2)


def _distance(kind):
    """Returns the name of a value by which samples of a kind are evaluated."""
    own = kinds.get(kind).metrics
    return "reverse_ngram_nll" if "reverse_ngram_nll" in own else "feature_sliced_wasserstein"


def _check_file(content, kind, form, shape, meta, expected):
    """Checks that a file holds the sample, as exactly as its format can."""
    modality = kinds.get(kind)
    if form.module:  # of a codec that loses details
        assert content[4:8] == b"ftyp"
        return
    if form.decode is None:
        assert content == modality.encode(expected, form.name, meta)
        return
    found = modality.decode(content, form.name, shape, meta)
    exact = modality.decode(modality.encode(expected, form.name, meta), form.name, shape, meta)
    low, high = modality.range_of(meta)
    step = (high - low) / 255 if modality.stored.get("uint8") else 1e-3
    lossy = form.name in ("gif",)  # at most 256 colors
    np.testing.assert_allclose(found, exact, atol=(8 if lossy else 1.01) * step)
    assert found.shape == tuple(shape)


# Given fields -----------------------------------------------------------------------------------

CONDITION = RANDOM.normal(size=(COUNT, 2, 2)).astype(np.float32)
FIELDS = {
    "samples": ROWS,
    "labels": np.arange(COUNT) % 3,
    "condition": CONDITION,
    "speaker": np.arange(COUNT) % 4,
}


def train(folder, arrays, *settings, networks=("generator", "discriminator"), condition=""):
    (folder / "my.yaml").write_text(RECIPE)
    np.savez(folder / "data.npz", **arrays)
    sets = [f"networks.{name}.condition=[{condition}]" for name in networks]
    parts = [part for setting in (*sets, *settings) for part in ("--set", setting)]
    run = folder / "run"
    data = ["--data", str(folder / "data.npz"), "--run", str(run)]
    main(["train", str(folder / "my.yaml"), *data, *parts])
    return run


@pytest.fixture(scope="module")
def conditioned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    return train(folder, FIELDS, condition="condition, labels, speaker")


def test_networks_receive_the_fields_of_their_condition(conditioned):
    gan = runs.Run.open(conditioned).load()
    names = [tensor.name for tensor in gan.generator.inputs]
    assert names == ["latents", "labels", "condition", "speaker"]
    assert "condition" in gan.networks["discriminator"].fields
    given = {"condition": CONDITION[:4], "speaker": np.arange(4)}
    samples = gan.generate(range(4), labels=1, **given)
    other = gan.generate(range(4), labels=1, **given | {"condition": CONDITION[4:8]})
    assert samples.shape == (4, 3)
    assert np.abs(samples - other).max() > 1e-4
    one = gan.generate(range(4), labels=1, condition=CONDITION[:1], speaker=[2])
    repeated = {"condition": CONDITION[:1].repeat(4, axis=0), "speaker": np.full(4, 2)}
    np.testing.assert_array_equal(one, gan.generate(range(4), labels=1, **repeated))
    for change, message in (
        ({"condition": CONDITION[:3]}, "one row for each of the 4 seeds, or one for all"),
        ({"condition": CONDITION[:4, :1]}, r"rows of shape \(2, 2\)\. Received: shape \(4, 1, 2\)"),
        ({"condition": np.nan * CONDITION[:4]}, "'condition' must be finite"),
        ({"speaker": np.zeros(4)}, "`speaker` must be of dtype int32. Received: float64"),
        ({"condition": np.array(["a"] * 4)}, "`condition` must be of dtype float32"),
        ({"mask": np.zeros(4)}, "takes these fields: condition, speaker. Received: mask="),
    ):
        with pytest.raises(UsageError, match=message):
            gan.generate(range(4), labels=1, **given | change)
    with pytest.raises(UsageError, match="needs the field 'condition'"):
        gan.generate(range(4), labels=1)


def test_previews_and_evaluations_use_the_conditions_of_held_out_data(conditioned, tmp_path):
    run = runs.Run.open(conditioned)
    assert run.rows()[-1]["sliced_wasserstein"] > 0
    assert 0 <= run.rows()[-1]["val_real_accuracy"] <= 1
    assert len(list(run.samples.iterdir())) >= 2
    values = []
    for _ in range(2):
        main(["evaluate", str(conditioned), "--cache", "off", "--json", str(tmp_path / "e.json")])
        values.append(json.loads((tmp_path / "e.json").read_text()))
    assert values[0]["values"] == values[1]["values"]
    generated = values[0]["protocol"]["generated"]
    assert generated["conditions"] == ["condition", "speaker"]
    assert generated["labels"] == "those of the real samples"


def test_a_run_with_conditions_is_resumed(conditioned):
    before = runs.Run.open(conditioned).rows()
    main(["train", "--resume", str(conditioned), "--set", "training.examples=192"])
    after = runs.Run.open(conditioned).rows()
    assert after[: len(before)] == before
    assert after[-1]["examples_seen"] == 192


@pytest.mark.parametrize(
    ("arrays", "condition", "settings", "message"),
    [
        (FIELDS, "mask", [], r"must name fields of the data .*labels, condition, speaker.*'mask'"),
        ({"samples": ROWS}, "condition", [], r"which has none\. Received: 'condition'"),
        ({"samples": ROWS}, "labels", [], r"needs data with labels"),
        (FIELDS, "samples", [], r"fields besides the samples, each once"),
        (FIELDS, "condition, condition", [], r"fields besides the samples, each once"),
        (
            {"samples": np.zeros((COUNT, 8, 8, 1), np.uint8), "condition": CONDITION},
            "condition",
            ["networks.generator={architecture: dcgan, condition: [condition]}"],
            r"'dcgan' takes labels only.*condition=\['condition'\]",
        ),
        (FIELDS, "condition", ["data.kind={condition: audio}"], r"\[-1, 1\].*Received: values"),
        (FIELDS, "condition", ["data.kind={condition: sound}"], r"`kind` must be one of"),
        (FIELDS, "condition", ["data.kind={samples: label}"], r"can be generated.*'label'"),
        (FIELDS | {"condition": CONDITION[:5]}, "condition", [], r"80 samples and 5 values"),
        (
            FIELDS | {"condition": CONDITION * np.nan},
            "condition",
            [],
            r"`condition` must be finite",
        ),
        (FIELDS, "condition", ["game.pac=2"], "packs can take samples only"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(
    arrays, condition, settings, message, tmp_path, capsys
):
    with pytest.raises(SystemExit) as ended:
        train(tmp_path, arrays, *settings, condition=condition)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    (line,) = (line for line in lines if not line.startswith("keras-gan: warning: "))
    assert line.startswith("keras-gan: error: ")
    assert not (tmp_path / "run").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.npz", "my.yaml"]
    assert re.search(message, line), line


def test_a_bundle_with_given_inputs_is_evaluated(conditioned, tmp_path):
    main(["export", str(conditioned), "--to", str(tmp_path / "bundle")])
    inputs = json.loads((tmp_path / "bundle" / "manifest.json").read_text())["inputs"]
    fills = {port["name"]: port["fill"] for port in inputs}
    assert fills["condition"] == fills["speaker"] == "given"
    values = []
    for source in (conditioned, tmp_path / "bundle"):
        main(["evaluate", str(source), "--cache", "off", "--json", str(tmp_path / "e.json")])
        values.append(json.loads((tmp_path / "e.json").read_text())["values"])
    assert values[0]["frechet_distance"] == pytest.approx(values[1]["frechet_distance"], rel=1e-3)
