"""POST /v1/act in a real server process, with http.client and both Python clients."""

import asyncio

import numpy as np
import policies
import pytest
import tiny
from policies import BALANCE
from servers import Serving

import serving

SEEN = [0.1, 0.2, 0.03, -0.5]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("policies")


@pytest.fixture(scope="module")
def server(folder):
    bundles = [
        policies.discrete(folder / "cartpole"),
        policies.continuous(folder / "pendulum"),
        policies.discrete(folder / "overflow", BALANCE * np.float32(3e38), name="overflow"),
        policies.reward(folder / "reward"),
        tiny.clothes(folder / "clothes"),
    ]
    with Serving(*bundles, "--max-count", 50, "--max-batch", 8, "--workers", 2) as found:
        yield found
        assert found.process.poll() is None, "the server must still run after all tests"
        assert "Traceback" not in found.log


def ask(server, content, **options):
    return server.ask("/v1/act", content, **options)


def observations(count, size=4):
    return np.random.default_rng(0).uniform(-0.4, 0.4, (count, size)).astype(np.float32)


def test_an_answer_is_that_of_the_bundle(server, folder):
    bundle = serving.Bundle(folder / "cartpole")
    answer = ask(server, {"model": "cartpole", "observation": SEEN})
    assert answer.status == 200, answer.body
    found = answer.json
    outputs = bundle.sample(observation=np.array([SEEN]))
    assert found.pop("action") == bundle.act(SEEN) == 0
    np.testing.assert_allclose(found.pop("logits"), outputs["logits"][0], rtol=1e-6)
    assert found == {"model": "cartpole", "version": 1, "sha256": bundle.sha256}
    assert answer.headers["x-model-sha256"] == bundle.sha256
    found = ask(server, {"model": "pendulum", "observation": [0.1, 0.05, 0], "version": 1}).json
    np.testing.assert_allclose(found["action"], [1.5], rtol=1e-6)
    assert (found["log_std"], len(found["mean"])) == ([0.0], 1)


@pytest.mark.parametrize("count", [1, 8, 9, 50])
def test_several_observations_have_several_actions(server, folder, count):
    for model, size in (("cartpole", 4), ("pendulum", 3)):
        several = observations(count, size)
        found = ask(server, {"model": model, "observation": several.tolist()}).json
        wanted = serving.Bundle(folder / model).sample(observation=several)
        for name in wanted.keys() - {"observation"}:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-7)


def test_other_protocols_run_the_policy(server):
    seen = observations(3)
    wanted = ask(server, {"model": "cartpole", "observation": seen.tolist()}).json
    rows = [{"observation": row.tolist()} for row in seen]
    found = server.ask("/v1/models/cartpole:predict", {"instances": rows}).json["predictions"]
    assert [row["action"] for row in found] == wanted["action"]
    tensor = {"name": "observation", "shape": [3, 4], "datatype": "FP32", "data": seen.tolist()}
    found = server.ask("/v2/models/cartpole/infer", {"inputs": [tensor]}).json["outputs"]
    assert found[0]["name"] == "action"
    assert found[0]["data"] == wanted["action"]
    given = {"observation": seen.tolist(), "action": [0, 1, 1]}
    found = server.ask("/v1/generate", {"model": "reward", "inputs": given, "format": "json"})
    rewards = [sample["values"] for sample in found.json["samples"]]
    np.testing.assert_allclose(rewards, seen.sum(axis=1) + np.array([0, 1, 1]), rtol=1e-5)


@pytest.mark.parametrize(
    ("content", "status", "line"),
    [
        ({"observation": SEEN}, 400, "must be one of cartpole, overflow, pendulum. Received: mod"),
        ({"observation": SEEN, "model": "reward"}, 400, "pendulum. Received: model='reward'"),
        ({"observation": SEEN, "model": "nothing"}, 404, "The models are"),
        ({"observation": SEEN, "model": 3}, 400, "`model` must be a name"),
        ({"observation": SEEN, "model": "cartpole", "version": 9}, 404, "Received: version=9"),
        ({"model": "cartpole"}, 400, "`observation` must be given. Received: model"),
        ({"model": "cartpole", "observation": None}, 400, "must be given"),
        ({"model": "cartpole", "observations": [SEEN]}, 400, "Did you mean 'observation'?"),
        ({"model": "cartpole", "observation": SEEN[:3]}, 400, "Received: shape=(3,)"),
        ({"model": "cartpole", "observation": 1}, 400, "Received: shape=()"),
        ({"model": "cartpole", "observation": []}, 400, "Received: shape=(0,)"),
        ({"model": "cartpole", "observation": "left"}, 400, "Received: observation='left'"),
        ({"model": "cartpole", "observation": [*SEEN[:3], "4"]}, 400, "Received: observation=["),
        ({"model": "cartpole", "observation": [*SEEN[:3], True]}, 400, "Received: observation=["),
        ({"model": "cartpole", "observation": [*SEEN[:3], None]}, 400, "Received: observation=["),
        ({"model": "cartpole", "observation": [SEEN, [1, 2]]}, 400, "Received: observation=["),
        ({"model": "cartpole", "observation": [*SEEN[:3], 1e300]}, 400, "must be finite"),
        ({"model": "cartpole", "observation": [9, 0, 0, 0]}, 400, "Received: observation[0]=9"),
        ({"model": "cartpole", "observation": [SEEN] * 51}, 413, "Received: 51 observations"),
        ({"model": "cartpole", "observation": SEEN, "timeout": "x"}, 400, "`timeout` must be"),
        ({"model": "overflow", "observation": [0, 3, 0.4, 3]}, 422, "NaN or infinity in 'logits'"),
        ([1, 2], 400, "The body must be an object. Received: [1, 2]"),
        (b'{"observation": [NaN]}', 400, "The body must be JSON"),
        (b"", 400, "The body must be JSON"),
    ],
)
def test_errors_are_one_line(server, content, status, line):
    answer = ask(server, content)
    assert answer.status == status, answer.body
    assert line in answer.error


def test_other_bodies_and_methods_are_refused(server):
    answer = ask(server, b"x", headers={"Content-Type": "image/png"})
    assert answer.status == 415
    assert server.ask("/v1/act").status == 405


def test_the_listing_the_document_and_the_metrics_know_policies(server):
    models = {x["name"]: x for x in server.ask("/v1/models").json["models"]}
    assert models["cartpole"]["policy"] == {
        "input": "observation",
        "output": "action",
        "environment": policies.CARTPOLE,
    }
    assert models["pendulum"]["policy"]["environment"]["action"] == {"low": [-2.0], "high": [2.0]}
    for name in ("reward", "clothes"):
        assert models[name]["policy"] is None
    operation = server.ask("/openapi.json").json["paths"]["/v1/act"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["observation"]
    assert schema["properties"]["model"]["enum"] == ["cartpole", "overflow", "pendulum"]
    assert set(schema["properties"]) == {"observation", "model", "version", "timeout"}
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    found = ask(server, {"model": "cartpole", "observation": SEEN}).json
    assert set(answer["required"]) <= set(found) <= set(answer["properties"])
    lines = server.ask("/metrics").body.decode().splitlines()
    assert any('route="act"' in line and 'model="cartpole"' in line for line in lines)


def test_both_clients_return_what_the_bundle_does(server, folder):
    url = f"http://127.0.0.1:{server.port}"

    async def ask_later(given, model):
        async with serving.AsyncClient(url, timeout=30) as client:
            return await client.act(given, model=model)

    with serving.Client(url, timeout=30) as client:
        for model, size in (("cartpole", 4), ("pendulum", 3)):
            bundle = serving.Bundle(folder / model)
            for given in (observations(1, size)[0], observations(9, size).tolist()):
                wanted = bundle.act(given)
                for found in (client.act(given, model=model), asyncio.run(ask_later(given, model))):
                    assert type(found) is type(wanted)
                    np.testing.assert_allclose(found, wanted, rtol=1e-5)
                    assert np.shape(found) == np.shape(wanted)


def test_a_client_of_another_protocol_sends_tensors(server, folder):
    for protocol in ("tf_serving", "v2"):
        for model, size in (("cartpole", 4), ("pendulum", 3)):
            bundle = serving.Bundle(folder / model)
            url = f"http://127.0.0.1:{server.port}/{model}"
            with serving.Client(url, protocol=protocol, bundle=folder / model) as client:
                for given in (observations(1, size)[0], observations(5, size)):
                    found, wanted = client.act(given), bundle.act(given)
                    assert type(found) is type(wanted)
                    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_client_checks_its_observations(server):
    with serving.Client(f"http://127.0.0.1:{server.port}/cartpole", timeout=30) as client:
        for given, line in (
            ("left", "must be numbers in rows of equal length. Received: observation='left'"),
            ([], r"Received: observation=\[\]"),
            ([[1, 2], [3]], "rows of equal length"),
            ([1.0, float("nan")], "`observation` must be finite"),
            ([1e300, 0, 0, 0], "`observation` must be finite"),
        ):
            with pytest.raises(serving.UsageError, match=line):
                client.act(given)
        with pytest.raises(serving.ServerError, match=r"Received: shape=\(3,\)") as error:
            client.act([1, 2, 3])
        assert error.value.status == 400
    client = serving.Client(f"http://127.0.0.1:{server.port}/clothes", protocol="v2")
    with client, pytest.raises(serving.UsageError, match=r"`act` needs a policy.*latents"):
        client.act(SEEN)
