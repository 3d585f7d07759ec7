"""`serving.Bundle` with networks of every role: given inputs, several outputs, named sizes."""

import asyncio
import json
import threading

import numpy as np
import pytest
import tiny

import serving
from serving import UsageError, loading
from serving.engine import Engine, SampleJob
from serving.feeds import DeclaredFeeds, PlainFeeds, choose_feeds
from serving.inputs import Input, Inputs
from serving.seeds import normals, uniforms


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    writers = (tiny.clothes, tiny.translator, tiny.two_latents, tiny.conditioned, tiny.classifier)
    return {write.__name__: serving.Bundle(write(root / write.__name__)) for write in writers}


def test_properties_follow_the_ports(bundles):
    clothes, translator = bundles["clothes"], bundles["translator"]
    assert (clothes.role, clothes.kind, clothes.shape) == ("generator", "image", (8, 8, 3))
    assert (clothes.latent_dim, clothes.num_classes) == (6, 3)
    assert clothes.class_names == tiny.NAMES
    assert clothes.meta == {"value_range": [-1.0, 1.0]}
    assert translator.shape == ("height", "width", 3)
    assert (translator.latent_dim, translator.num_classes) == (0, 0)
    assert bundles["conditioned"].value_range is None
    assert [port.name for port in bundles["classifier"].outputs] == ["classes", "novelty"]


def test_pictures_of_any_size_are_translated(bundles):
    bundle = bundles["translator"]
    rng = np.random.default_rng(0)
    for height, width in ((4, 6), (9, 2)):
        given = rng.uniform(-1, 1, (3, height, width, 3)).astype(np.float32)
        noise = normals(np.array([5, 6, 7]), height * width, 0).reshape(3, height, width, 1)
        drawn = bundle.sample([5, 6, 7], picture=given, batch_size=2)
        assert list(drawn) == ["samples", "seeds", "picture", "noise"]
        np.testing.assert_array_equal(drawn["noise"], noise)
        expected = np.tanh(given[..., ::-1] + 0.1 * noise)
        np.testing.assert_allclose(drawn["samples"], expected, atol=1e-6)
        one = bundle.generate([5, 6, 7], picture=given[:1])
        np.testing.assert_allclose(one[0], expected[0], atol=1e-6)
    assert bundle.generate([], picture=given[:1]).shape == (0, 9, 2, 3)
    assert bundles["clothes"].generate([]).shape == (0, 8, 8, 3)
    assert bundle.generate(picture=given)[2].shape == (9, 2, 3)  # seeds 0, 1, 2


def test_several_random_inputs_and_a_truncation(bundles):
    drawn = bundles["two_latents"].sample([3, 8], truncation=0.5)
    seeds = np.array([3, 8])
    content, style = normals(seeds, 16, 0), uniforms(seeds, 16, 1) * 2 - 1
    wave = np.tanh(0.5 * content + style)
    np.testing.assert_allclose(drawn["samples"][..., 0], wave, atol=1e-6)
    np.testing.assert_allclose(drawn["energy"][:, 0], (wave**2).sum(axis=1), rtol=1e-5)
    assert drawn["truncation"].tolist() == [0.5, 0.5]
    other = bundles["two_latents"].generate([3], style=np.zeros((1, 16)))
    np.testing.assert_allclose(other[0, :, 0], np.tanh(content[0]), atol=1e-6)


def test_a_network_without_random_inputs_needs_no_seeds(bundles):
    bundle = bundles["classifier"]
    given = np.random.default_rng(0).uniform(-1, 1, (5, 4, 4, 1)).astype(np.float32)
    drawn = bundle.sample(picture=given)
    assert list(drawn) == ["classes", "novelty", "picture"]
    np.testing.assert_allclose(drawn["classes"].sum(axis=1), 1, atol=1e-5)
    outputs = bundle.run({"picture": given})
    np.testing.assert_array_equal(outputs["novelty"], drawn["novelty"])


def test_labels_may_be_given_as_an_input(bundles):
    bundle = bundles["clothes"]
    latents = normals(np.array([4]), 6, 0)
    np.testing.assert_array_equal(bundle.generate([0], [1], latents=latents),
                                  bundle.generate([4], "shoe"))  # fmt: skip


PLAIN = {"picture": np.zeros((1, 4, 4, 1))}


def test_a_truncation_of_1_changes_no_network(bundles):
    for truncation in (1, 1.0, np.float32(1), np.int64(1)):
        found = bundles["classifier"].generate(**PLAIN, truncation=truncation)
        np.testing.assert_array_equal(found, bundles["classifier"].generate(**PLAIN))
    half = bundles["clothes"].generate([4], truncation=np.float32(0.5))
    np.testing.assert_array_equal(half, bundles["clothes"].generate([4], truncation=0.5))


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("translator", {"seeds": [1]}, "'picture' of kind 'image' must be given. Received: none"),
        ("translator", {"image": 1}, "The inputs are picture, noise. Received: 'image'"),
        ("translator", {"picture": np.zeros((1, 2, 2, 1))}, "(batch, height, width, 3)"),
        ("translator", {"picture": np.full((1, 2, 2, 3), np.nan)}, "must be finite"),
        ("conditioned", {"condition": [["a"]]}, "must be of dtype float32"),
        ("conditioned", {"seeds": range(3), "condition": [[1], [2]]}, "one for each of 3"),
        ("classifier", {"labels": 1, "picture": np.zeros((1, 4, 4, 1))}, "takes no labels"),
        ("classifier", PLAIN | {"seeds": [1]}, "`seeds` needs a network with random inputs."),
        ("classifier", PLAIN | {"seeds": []}, "Received: seeds=[] for the inputs picture"),
        ("classifier", PLAIN | {"truncation": 0.5}, "Received: truncation=0.5"),
        (
            "conditioned",
            {"condition": [[1]], "latents": np.zeros((1, 3)), "truncation": 0},
            "draws of normal inputs, which here are all given. Received: truncation=0",
        ),
        ("clothes", {"latents": np.zeros((1, 6)), "truncation": 2}, "all given. Received: trunc"),
    ],
)
def test_a_mistake_is_one_line(bundles, name, options, rule):
    with pytest.raises(UsageError, match="Received: ") as caught:
        bundles[name].generate(**options)
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("write", "ports", "change"),
    [
        (tiny.clothes, "inputs", {"name": "z"}),
        (tiny.clothes, "inputs", {"shape": ["batch", 7]}),
        (tiny.clothes, "outputs", {"shape": ["batch", 8, 8, 1]}),
        (tiny.clothes, "outputs", {"shape": ["batch", "height", 8, 3]}),
        (tiny.clothes, "outputs", {"dtype": "float64"}),
        (tiny.translator, "outputs", {"shape": ["batch", 8, 8, 3]}),
        (tiny.classifier, "outputs", {"name": "logits"}),
    ],
)
def test_the_manifest_must_describe_the_model(write, ports, change, tmp_path):
    folder = write(tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[ports][0] |= change
    tiny.seal(folder, manifest)
    with pytest.raises(UsageError, match=f"must describe the model beside it.*with {ports}="):
        serving.Bundle(folder)


def test_outputs_of_undeclared_shapes_are_refused(tmp_path):
    folder = tiny.classifier(tmp_path / "bundle")
    bundle = serving.Bundle(folder)
    bundle._shapes = [(4,), (1,)]
    bundle.outputs = (Input("classes", "float32", (4,)), bundle.outputs[1])
    with pytest.raises(UsageError, match="must return classes of the shape in the manifest"):
        bundle.run({"picture": np.zeros((1, 4, 4, 1), np.float32)})


# ------------------------------------------------------------------------ feeds of the engine


LATENTS = Input("latents", "float32", (5,), fill="normal")
LABELS = Input("labels", "int64", (), "label", {"num_classes": 3}, fill="class", stream=1)


def test_plain_and_declared_feeds_are_equal():
    inputs = Inputs([LATENTS, LABELS])
    plain, declared = choose_feeds(inputs), DeclaredFeeds(inputs)
    assert isinstance(plain, PlainFeeds)
    given = {"latents": np.ones((2, 5), np.float32)}
    jobs = [
        SampleJob(3, np.array([7, 8, 9])),
        SampleJob(2, None, given, np.array([2, 1])),
        SampleJob(1, np.array([4]), truncation=0.5),
    ]
    pieces = [(jobs[0], 1, 3), (jobs[1], 0, 2), (jobs[2], 0, 1)]
    found, expected = plain(pieces, 5), declared(pieces, 5)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
        assert array.dtype == expected[name].dtype


@pytest.mark.parametrize(
    "ports",
    [
        [LATENTS, Input("style", "float32", (5,), fill="normal", stream=1)],
        [LATENTS, Input("condition", "float32", (1,))],
        [Input("latents", "float32", ("time", 5), fill="normal")],
        [Input("latents", "float32", (5,), fill="normal", stream=1)],
        [LATENTS, Input("labels", "int32", (), "label", {"num_classes": 3}, "class", 1)],
        [LABELS],
    ],
)
def test_other_networks_are_filled_by_declaration(ports):
    assert isinstance(choose_feeds(Inputs(ports)), DeclaredFeeds)


def test_jobs_of_different_sizes_do_not_share_a_batch(bundles):
    bundle, shapes = bundles["translator"], []
    began, go = threading.Event(), threading.Event()
    (run,) = bundle.runners()

    def observed(feeds):
        shapes.append(feeds["picture"].shape[:2])
        began.set()
        assert go.wait(10)
        return run(feeds)

    async def main(jobs):
        loop = asyncio.get_running_loop()
        engine = Engine([observed], choose_feeds(bundle.inputs), loop, max_batch=8)
        first = asyncio.ensure_future(engine.run(jobs[0]))
        while not began.is_set():
            await asyncio.sleep(0.001)
        others = [asyncio.ensure_future(engine.run(job)) for job in jobs[1:]]
        await asyncio.sleep(0.01)
        go.set()
        results = await asyncio.gather(first, *others)
        engine.close()
        return results

    jobs = []
    for height in (4, 4, 6, 6, 6, 4):
        given = {"picture": np.full((1, height, 2, 3), height / 10, np.float32)}
        jobs.append(SampleJob(1, np.array([height]), given, sizes=(("height", height),)))
    results = asyncio.run(main(jobs))
    for job, (samples,) in zip(jobs, results, strict=True):
        expected = bundle.generate(job.seeds, picture=job.given["picture"])
        np.testing.assert_allclose(samples, expected, atol=1e-6)
    assert shapes == [(1, 4), (1, 4), (3, 6), (1, 4)]


def test_the_sizes_of_outputs_are_known_before_the_run(bundles):
    sizes = loading.OutputSizes(bundles["translator"])
    assert sizes.values({"height": 4, "width": 5}) == 60
    assert sizes.shape({"height": 4, "width": 5}) == (4, 5, 3)
    assert loading.OutputSizes(bundles["two_latents"]).values({}) == 17


def test_sizes_that_only_outputs_have_are_learned():
    class Vocoder:
        outputs = (Input("samples", "float32", ("time", 1)),)

    sizes = loading.OutputSizes(Vocoder())  # type: ignore[arg-type]
    sizes.learn({"frames": 64}, [np.zeros((1, 64 * 256, 1))])
    assert sizes.values({"frames": 100}) == 25_600
