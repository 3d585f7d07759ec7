"""The rules of inputs and outputs in a manifest: errors name the entry, its key and the value."""

import json

import pytest
import tiny

import serving
from serving.errors import UsageError
from serving.manifest import check_fields

ANY = {"name": "z", "dtype": "float32", "shape": ["batch", 4], "kind": "array", "meta": {}}
IMAGE = ANY | {"name": "samples", "shape": ["batch", 8, "width", 3], "kind": "image"}
LATENTS = ANY | {"fill": "normal", "stream": 0, "value": None}
GIVEN = ANY | {"name": "x", "fill": "given", "stream": 0, "value": None}
LABELS = LATENTS | {"name": "y", "dtype": "int64", "shape": ["batch"], "kind": "label"}
LABELS |= {"meta": {"num_classes": 3}, "fill": "class", "stream": 1}
CONSTANT = GIVEN | {"name": "c", "fill": "constant", "value": 0.5}


def without(port, key):
    return {name: value for name, value in port.items() if name != key}


OUTPUTS = [
    ({}, "outputs", "a list of 1 to 99 objects", "{}"),
    ([], "outputs", "a list of 1 to 99 objects", "[]"),
    ([ANY] * 100, "outputs", "a list of 1 to 99 objects", "100 entries"),
    ([IMAGE, 3], "outputs[1]", "an object with name, dtype, shape, kind, meta", "3"),
    ([IMAGE, IMAGE], "outputs[1].name", "another name than that of outputs[0]", "'samples'"),
    ([IMAGE | {"name": "seeds"}], "outputs[0].name", "other than seeds", "'seeds'"),
    ([IMAGE, ANY | {"name": "a b"}], "outputs[1].name", "letters, digits and '_'", "'a b'"),
    ([without(IMAGE, "name")], "outputs[0].name", "letters", "nothing"),
    ([IMAGE, without(ANY, "dtype")], "outputs[1].dtype", "one of bool, float16", "nothing"),
    ([IMAGE | {"dtype": "complex64"}], "outputs[0].dtype", "one of bool", "'complex64'"),
    ([IMAGE | {"dtype": ["float32"]}], "outputs[0].dtype", "one of bool", "['float32']"),
    ([IMAGE | {"shape": [8, 8, 3]}], "outputs[0].shape", 'a list of "batch"', "[8, 8, 3]"),
    ([IMAGE, ANY | {"shape": ["batch", 0]}], "outputs[1].shape", "above 0", "['batch', 0]"),
    ([without(IMAGE, "shape")], "outputs[0].shape", "a list of", "nothing"),
    ([IMAGE | {"kind": "sound"}], "outputs[0].kind", "one of action, array, audio", "'sound'"),
    ([without(IMAGE, "kind")], "outputs[0].kind", "one of action, array", "nothing"),
    ([IMAGE | {"kind": "video"}], "outputs[0].shape", "that fits the kind video (A sample", "['b"),
    (
        [IMAGE | {"shape": ["batch", 8, 8, 5]}],
        "outputs[0].shape",
        "one that fits the kind image (Images must have 1 (gray), 3 (RGB) or 4 (RGBA) channels)",
        "['batch', 8, 8, 5]",
    ),
    ([without(IMAGE, "meta")], "outputs[0].meta", "an object of properties", "nothing"),
    (
        [IMAGE, ANY | {"meta": {"sample_rate": 8000}}],
        "outputs[1].meta",
        "properties of the kind array: value_range",
        "{'sample_rate': 8000}",
    ),
    (
        [IMAGE | {"meta": {"value_range": [1, -1]}}],
        "outputs[0].meta.value_range",
        "two numbers, the smaller one first",
        "[1, -1]",
    ),
    (
        [IMAGE | {"meta": {"stored_range": [0, "4095"]}}],
        "outputs[0].meta.stored_range",
        "two numbers, the smaller one first",
        "[0, '4095']",
    ),
    (
        [ANY | {"kind": "audio", "shape": ["batch", 9, 1], "meta": {"sample_rate": "\x1b[2J"}}],
        "outputs[0].meta",
        "properties that fit (`sample_rate` must be in Hz, from 1 to 768000)",
        r"{'sample_rate': '\x1b[2J'}",
    ),
    (
        [ANY | {"kind": "audio", "shape": ["batch", 9, 1], "meta": {"sample_rate": 10**6}}],
        "outputs[0].meta",
        "properties that fit (`sample_rate` must be in Hz, from 1 to 768000)",
        "{'sample_rate': 1000000}",
    ),
    (
        [ANY | {"kind": "mel", "shape": ["batch", 9, 40], "meta": {"mel": ["hop"]}}],
        "outputs[0].meta",
        "properties that fit (A mel definition must be a mapping)",
        "{'mel': ['hop']}",
    ),
]
INPUTS = [
    ([GIVEN, without(LATENTS, "fill")], "inputs[1].fill", "one of normal, uniform", "nothing"),
    ([LATENTS | {"fill": "noise"}], "inputs[0].fill", "one of normal", "'noise'"),
    ([LATENTS, GIVEN | {"stream": -1}], "inputs[1].stream", "below 2**32", "-1"),
    ([LATENTS | {"stream": True}], "inputs[0].stream", "below 2**32", "True"),
    ([GIVEN, LATENTS | {"dtype": "int32"}], "inputs[1].dtype", "a float for the fill", "'int32'"),
    ([LATENTS | {"value": 3}], "inputs[0].value", "null for the fill normal", "3"),
    (
        [LATENTS | {"fill": "uniform", "value": [2, 1]}],
        "inputs[0].value",
        "null or a pair of limits for the fill uniform",
        "[2, 1]",
    ),
    (
        [LATENTS, GIVEN, LABELS | {"stream": 0}],
        "inputs[2].stream",
        "another stream than that of inputs[0]",
        "0",
    ),
    (
        [LABELS, LABELS | {"name": "w", "stream": 2}],
        "inputs[1].fill",
        "another fill than that of inputs[0]",
        "'class'",
    ),
    ([LATENTS, LABELS | {"meta": {}}], "inputs[1].meta.num_classes", "above 0", "nothing"),
    ([LATENTS, LABELS | {"meta": {"num_classes": 0}}], "inputs[1].meta.num_classes", "above", "0"),
    ([LATENTS, LABELS | {"dtype": "float32"}], "inputs[1].dtype", "an integer for an", "'float32'"),
    ([LATENTS, LABELS | {"shape": ["batch", 3]}], "inputs[1].shape", '["batch"] for', "['batch'"),
    (
        [LATENTS, LABELS | {"meta": {"num_classes": 3, "frequencies": [1, 2]}}],
        "inputs[1].meta.frequencies",
        "3 values, one for each class",
        "[1, 2]",
    ),
    *(
        (
            [LATENTS, LABELS | {"meta": {"num_classes": len(names), "class_names": names}}],
            "inputs[1].meta",
            "properties that fit (`class_names` must be different texts, none of them empty)",
            "{'num_classes': ",
        )
        for names in (["a", "a"], ["a", "b", "a"], ["a", ""])
    ),
    ([LATENTS, CONSTANT | {"value": "1"}], "inputs[1].value", "a number or a list of", "'1'"),
    ([LATENTS, without(CONSTANT, "value")], "inputs[1].value", "a number or a list", "nothing"),
    ([LATENTS, CONSTANT, IMAGE], "inputs[2].fill", "one of normal", "nothing"),
]
CASES = [("outputs", *case) for case in OUTPUTS] + [("inputs", *case) for case in INPUTS]


@pytest.mark.parametrize(("field", "ports", "key", "rule", "received"), CASES)
def test_an_error_names_the_entry_and_its_key(field, ports, key, rule, received):
    with pytest.raises(UsageError) as caught:
        check_fields({field: ports}, [field], " in 'x'")
    line = str(caught.value)
    assert line.startswith(f"`{key}` in manifest.json must be "), line
    assert rule in line.partition(". Received: ")[0], line
    assert f". Received: {key}={received}" in line, line
    assert line.endswith(" in 'x'")
    assert line.isprintable()
    assert line.count("Received: ") == 1


def test_ports_that_fit_are_accepted():
    uniform = LATENTS | {"name": "u", "fill": "uniform", "stream": 7, "value": [-1, 1]}
    inputs = [LATENTS, LABELS, GIVEN, CONSTANT, uniform, without(GIVEN | {"name": "v"}, "value")]
    check_fields({"inputs": inputs, "outputs": [IMAGE, ANY]}, ["inputs", "outputs"])


def test_a_bundle_is_refused_by_the_same_line(tmp_path):
    path = tiny.clothes(tmp_path / "clothes")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["inputs"][1]["shape"] = ["batch", "n", "batch"]
    tiny.seal(path, manifest)
    with pytest.raises(serving.UsageError) as caught:
        serving.Bundle(path)
    assert "`inputs[1].shape` in manifest.json must be a list of" in str(caught.value)
    assert "Received: inputs[1].shape=['batch', 'n', 'batch'] in" in str(caught.value)
