"""Classes with numbers as names: a number is an id and a text is a name, everywhere."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import tiny
from servers import ROOT, Serving

import serving
from keras_gan import Spec
from keras_gan.metrics.class_matching import data_ids
from serving import UsageError, cli
from serving.client import Client
from serving.inputs import Input, Inputs

DIGITS = ("1", "2", "3")
SEEDS = [4, 5]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Bundles whose classes are called 1, 2, 3, and shirt, shoe, bag."""
    root = tmp_path_factory.mktemp("models")
    tiny.clothes(root / "clothes")
    tiny.write(root / "digits", "digits", "image", (8, 8, 3), tiny.LATENTS, DIGITS, seed=3)
    return root


@pytest.fixture(scope="module")
def server(models):
    with Serving(models) as it:
        yield it


@pytest.fixture(scope="module")
def expected(models):
    """The samples of each class id."""
    bundle = serving.Bundle(models / "digits")
    return [bundle.generate(SEEDS, labels=np.full(2, label)) for label in range(3)]


def class_of(samples, expected):
    """Returns the class id of samples, by their values."""
    found = [np.allclose(samples, wanted, atol=1e-5) for wanted in expected]
    assert sum(found) == 1
    return found.index(True)


def test_a_number_is_an_id_and_a_text_is_a_name(models, expected):
    bundle = serving.Bundle(models / "digits")
    for labels, label in (
        (1, 1), (np.int32(1), 1), (0, 0), (1.0, 1), ([2, 2], 2),
        ("1", 0), ("3", 2), (["2", "2"], 1), (np.array(["3", "3"]), 2),
    ):  # fmt: skip
        assert class_of(bundle.generate(SEEDS, labels=labels), expected) == label, labels
    with pytest.raises(
        UsageError, match=r"string label must be .* name, 1, 2, 3; ids, 0 to 2, are num"
    ):
        bundle.generate(SEEDS, labels="0")
    for labels in (3, -1, 1.5, True, "4", "01"):
        with pytest.raises(UsageError, match=r"A (string )?label .*Received: label="):
            bundle.generate(SEEDS, labels=labels)


def test_a_text_of_digits_must_be_a_name_where_numbers_can_be_given(models, server):
    bundle = serving.Bundle(models / "clothes")
    shoe = bundle.generate(SEEDS, labels="shoe")
    for labels in (1, ["shoe", 1], [1, 1]):
        np.testing.assert_array_equal(bundle.generate(SEEDS, labels=labels), shoe)
    body = {"model": "clothes", "seeds": SEEDS, "format": "json"}
    for labels in ("1", "3", ["1", "shoe"], ["shoe", " 2 "], "01"):
        rule = "A string label must be a class name, shirt, shoe, bag; ids, 0 to 2, are numbers."
        with pytest.raises(UsageError, match=rule):
            bundle.generate(SEEDS, labels=labels)
        answer = server.ask("/v1/generate", {**body, "labels": labels})
        assert (answer.status, rule in answer.error) == (400, True), labels
    nameless = Inputs([Input("y", "int64", (), "label", {"num_classes": 3}, fill="class")])
    assert nameless.class_ids(np.arange(2), [2, 0]).tolist() == [2, 0]
    with pytest.raises(
        UsageError, match=r"a class name, of which this network has none; ids, 0 to 2"
    ):
        nameless.class_ids(np.arange(2), "2")


def test_digits_are_ids_where_all_is_text(models, server, tmp_path, capsys):
    """In addresses, forms and on the command line, if no class has a number as its name."""
    parts = (("model", "clothes"), ("seeds", "4,5"), ("labels", "1,shoe"), ("format", "json"))
    head = "--xYz\r\nContent-Disposition: form-data; name="
    form = "".join(f'{head}"{name}"\r\n\r\n{value}\r\n' for name, value in parts) + "--xYz--\r\n"
    media_type = {"Content-Type": "multipart/form-data; boundary=xYz"}
    query = "&".join("=".join(pair) for pair in parts)
    for answer in (
        server.ask(f"/v1/generate?{query}"),
        server.ask("/v1/generate", form.encode(), media_type),
    ):
        assert [sample["label"] for sample in answer.json["samples"]] == [1, 1]
    out = ["--count", "2", "--out", str(tmp_path / "a.npz")]
    assert cli.main(["sample", str(models / "clothes"), *out, "--labels", "2,shoe"]) == 0
    assert np.load(tmp_path / "a.npz")["labels"].tolist() == [2, 1]
    for text in ("3", "-1", "1.0", "1_0", "\N{ARABIC-INDIC DIGIT ONE}"):
        assert cli.main(["sample", str(models / "clothes"), *out, "--labels", text]) == 2
        assert "A label must be 0 to 2 or one of shirt, shoe, bag" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "label"), [("1", 0), ("2", 1), ("3", 2)])
def test_an_address_holds_names(server, expected, text, label):
    seeds = ",".join(map(str, SEEDS))
    path = f"/v1/generate?model=digits&seeds={seeds}&labels={text}&format=json"
    listed = server.ask(path).json["samples"]
    assert [sample["label"] for sample in listed] == [label, label]
    body = {"model": "digits", "seeds": SEEDS, "format": "json"}
    for labels in (label, text, [label, text]):
        listed = server.ask("/v1/generate", {**body, "labels": labels}).json["samples"]
        assert [sample["label"] for sample in listed] == [label, label], labels


def test_an_address_with_an_id_is_refused(server):
    for path, body in (
        ("/v1/generate?model=digits&seed=1&labels=0", None),
        ("/v1/generate", {"model": "digits", "seed": 1, "labels": "0"}),
    ):
        answer = server.ask(path, body)
        assert answer.status == 400
        assert "must be a class name, 1, 2, 3" in answer.error
    assert server.ask("/v1/generate?model=clothes&seed=1&labels=0").status == 200


def test_tensors_hold_ids(server, expected):
    for label in range(3):
        tensors = [
            {"name": "seeds", "datatype": "INT64", "shape": [2], "data": SEEDS},
            {"name": "labels", "datatype": "INT64", "shape": [2], "data": [label, label]},
        ]
        answer = server.ask("/v2/models/digits/infer", {"inputs": tensors})
        (output,) = answer.json["outputs"]
        found = np.array(output["data"], np.float32).reshape(output["shape"])
        assert class_of(found, expected) == label
        body = {"signature_name": "generate", "inputs": {"seeds": SEEDS, "labels": [label] * 2}}
        found = np.array(server.ask("/v1/models/digits:predict", body).json["outputs"])
        assert class_of(found, expected) == label


@pytest.mark.parametrize("protocol", ["keras_gan", "v2", "tf_serving"])
def test_the_client_sends_names_as_names(server, models, expected, protocol):
    bundle = None if protocol == "keras_gan" else models / "digits"
    with Client(f"http://127.0.0.1:{server.port}", protocol=protocol, bundle=bundle) as client:
        for labels, label in ((1, 1), ("1", 0), ([0, "2"], None)):
            found = client.generate(SEEDS, labels=labels, model="digits")
            if label is not None:
                assert class_of(found, expected) == label, labels
        np.testing.assert_allclose(found[0], expected[0][0], atol=1e-5)
        np.testing.assert_allclose(found[1], expected[1][1], atol=1e-5)


@pytest.mark.parametrize("shards", [False, True])
def test_the_command_line_holds_names(models, expected, tmp_path, shards, capsys):
    out = tmp_path / ("shards" if shards else "a.npz")
    target = ["--out", f"{out}/", "--format", "npz"] if shards else ["--out", str(out)]
    command = ["sample", str(models / "digits"), "--count", "2", "--seed", "4", *target]
    assert cli.main([*command, "--labels", "1,3"]) == 0
    (path,) = out.glob("*.npz") if shards else [out]
    with np.load(path) as drawn:
        assert drawn["labels"].tolist() == [0, 2]
        np.testing.assert_allclose(drawn["samples"][1], expected[2][1], atol=1e-5)
    assert cli.main([*command, "--labels", "0"]) == 2
    assert "must be a class name, 1, 2, 3" in capsys.readouterr().err


def test_an_extractor_without_names_has_the_ids_of_the_data():
    spec = Spec("image", (8, 8, 1), num_classes=3, class_names=DIGITS)
    np.testing.assert_array_equal(data_ids(3, (), spec), [0, 1, 2])
    np.testing.assert_array_equal(data_ids(3, ("3", "1", "2"), spec), [2, 0, 1])
    assert data_ids(3, ("3", "1", "7"), spec) is None
    earlier = Spec("image", (8, 8, 1), num_classes=3, class_names=("0", "2", "1"))
    np.testing.assert_array_equal(data_ids(3, (), earlier), [0, 2, 1])  # by value, as before


def test_the_page_asks_for_a_class_by_its_name(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("the page's script runs in node")
    script = f"""
import {{ fields, toAddress, toJSON }} from "{ROOT}/serving/page/requests.js";
const show = (label, names) => {{
  const view = {{ model: "m", version: null, label, names, truncation: 1, files: new Map() }};
  const found = fields(view, {{ seed: 1 }});
  return [toAddress("http://x/", found).split("labels=")[1] ?? null, JSON.parse(toJSON(found))];
}};
const cases = [[0, ["1", "2"]], [1, ["1", "2"]], [1, ["a", "b"]], [0, []], [null, ["1"]]];
console.log(JSON.stringify(cases.map(([label, names]) => show(label, names))));
"""
    path = tmp_path / "requests.mjs"
    path.write_text(script)
    done = subprocess.run([node, path], capture_output=True, text=True, timeout=60, check=True)
    found = [(address, body.get("labels")) for address, body in json.loads(done.stdout)]
    assert found == [("1", ["1"]), ("2", ["2"]), ("1", [1]), ("0", [0]), (None, None)]
