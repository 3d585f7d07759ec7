"""Fields and specs: kinds, shapes, dtypes and metadata, and their form in JSON."""

import json
import pathlib
import re

import pytest

import keras_gan
from keras_gan import Field, Spec, UsageError
from keras_gan.spec import infer_spec


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("image", (28, 28, 1)),
        ("points", (2,)),
        ("audio", (16000, 1)),
        ("series", (24, 6)),
        ("video", (16, 64, 64, 3)),
        ("text", (32,)),
        ("table", (9,)),
        ("array", (7,)),
        ("array", (3, 2, 5, 4, 1)),
        ("audio", (None, 1)),
        ("image", (None, None, 3)),
    ],
)
def test_a_shape_that_fits_its_kind(kind, shape):
    assert Spec(kind, shape).shape == shape


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        (
            "sound",
            (8, 1),
            "`kind` must be one of action, array, audio, codes, image, label, mel, points, ",
        ),
        ("sequence", (8, 1), "`kind` must be one of"),
        ("audio", (8,), "'audio' must have 2 positive dimensions (time, channels)"),
        ("series", (8, 0), "'series' must have 2 positive dimensions (time, features)"),
        ("video", (8, 8, 3), "must have 4 positive dimensions (frames, height, width, channels)"),
        ("array", (0,), "'array' must have positive dimensions (at least one)"),
        ("image", (8, 8, 2), "Images must have 1 (gray), 3 (RGB) or 4 (RGBA) channels"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(kind, shape, message):
    with pytest.raises(UsageError) as caught:
        Spec(kind, shape)
    assert message in str(caught.value)
    assert "Received: " in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Field("label", (), meta={"num_classes": 2, "class_names": ("a", "a")}),
            r"`class_names` must be different texts.*class_names=\['a', 'a'\]",
        ),
        (lambda: Field("points", (2,), "int32"), "dtypes float32.*dtype='int32'"),
        (lambda: Field("label", (), "float32"), "dtypes int32, int64.*dtype='float32'"),
        (
            lambda: Field("image", (8, 8, 1), meta={"sample_rate": 8000}),
            "may have value_range, stored_range. Received: sample_rate",
        ),
        (
            lambda: Field("audio", (8, 1), meta={"sample_rate": 0}),
            "in Hz, from 1 to 768000.*sample_rate=0",
        ),
        (lambda: Field("audio", (8, 1), meta={"value_range": (1, 0)}), "ascending order.*1, 0"),
        (lambda: Field("table", (3,), meta={"columns": ["a"]}), "each of the 3 .*1 names"),
        (lambda: Spec("points", (2,), None, 3, ("a", "b")), "each of the 3 classes.*2 names"),
        (lambda: Spec("points", (2,), None, 0, ("a",)), "each of the 0 classes.*1 names"),
        (lambda: Spec(fields={"x": Field("points", (2,))}), "a field `samples`.*'x'"),
        (
            lambda: Spec(fields={"samples": Field("points", (2,)), "labels": Field("text", (2,))}),
            "`labels` must be of kind 'label'",
        ),
        (lambda: Spec("points", (2,), fields={"samples": Field("points", (2,))}), "not of both"),
        (lambda: Spec("audio", (8, None)).packed(2), "last axis.*count=2"),
    ],
)
def test_fields_that_do_not_fit_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("vocabulary", [["a", "a"], []])
def test_the_tokens_of_a_vocabulary_differ(vocabulary):
    with pytest.raises(UsageError, match=r"at least one\. Received: vocabulary="):
        Field("text", (6, len(vocabulary) or 2), meta={"vocabulary": vocabulary})


def test_a_spec_of_samples_and_labels_has_two_fields():
    spec = Spec("image", (8, 8, 1), (-1.0, 1.0), 3, ("a", "b", "c"))
    assert list(spec.fields) == ["samples", "labels"]
    assert spec.fields["samples"] == Field("image", (8, 8, 1), meta={"value_range": (-1.0, 1.0)})
    assert spec.fields["samples"].dtype == "float32"
    labels = spec.fields["labels"]
    assert (labels.kind, labels.shape, labels.dtype) == ("label", (), "int32")
    assert (spec.num_classes, spec.class_names) == (3, ("a", "b", "c"))
    assert spec.value_range == (-1.0, 1.0)
    assert list(Spec("points", (2,)).fields) == ["samples"]
    assert Spec("points", (2,)).num_classes == 0
    assert Spec("points", (2,)).class_names == ()


def every_field() -> Spec:
    return Spec(
        fields={
            "mask": Field("array", (None,), "bool"),
            "labels": Field("label", (), "int64", {"num_classes": 2}),
            "condition": Field("series", (None, 80), meta={"columns": None}),
            "samples": Field("audio", (None, 1), meta={"sample_rate": 24_000}),
        }
    )


def test_samples_and_labels_are_the_first_fields():
    assert list(every_field().fields) == ["samples", "labels", "condition", "mask"]


@pytest.mark.parametrize(
    "spec",
    [
        Spec("points", (2,)),
        Spec("image", (8, 8, 1), (-1.0, 1.0), 2, ("a", "b")),
        every_field(),
        Spec(fields={"samples": Field("text", (9,), meta={"vocabulary": ["a", "b"]})}),
    ],
)
def test_a_spec_survives_json(spec):
    again = Spec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert hash(again) == hash(spec)


def test_the_older_form_of_a_run_record_is_read():
    recorded = {
        "kind": "image",
        "shape": [8, 8, 1],
        "value_range": [-1.0, 1.0],
        "num_classes": 2,
        "class_names": ["a", "b"],
    }
    assert Spec.from_json(recorded) == Spec("image", (8, 8, 1), (-1.0, 1.0), 2, ("a", "b"))


def test_packed_samples_are_concatenated_along_the_last_axis():
    spec = Spec("image", (8, 8, 1), (-1.0, 1.0), 3)
    packed = spec.packed(2)
    assert packed.shape == (8, 8, 2)
    assert (packed.kind, packed.num_classes, packed.value_range) == ("image", 3, (-1.0, 1.0))
    assert spec.packed(1) is spec


def test_classes_are_replaced():
    spec = Spec("points", (2,), None, 2, ("a", "b"))
    assert spec.with_classes(2, ("c", "d")) == Spec("points", (2,), None, 2, ("c", "d"))
    assert spec.with_classes(0) == Spec("points", (2,))


@pytest.mark.parametrize(
    ("shape", "kind", "value_range"),
    [
        ((8, 8, 3), "image", (-1.0, 1.0)),
        ((8, 8, 2), "array", None),
        ((7,), "points", None),
        ((7, 1), "series", None),
        ((2, 8, 8, 3), "video", (-1.0, 1.0)),
        ((2, 8, 8, 2), "array", None),
    ],
)
def test_a_spec_by_shape_alone(shape, kind, value_range):
    spec = infer_spec(shape, 2, ("a", "b"))
    assert (spec.kind, spec.value_range, spec.class_names) == (kind, value_range, ("a", "b"))
    assert infer_spec(shape, 0, ("a",)).class_names == ()


def test_no_module_branches_on_the_name_of_a_kind():
    branch = re.compile(r"""\bkind (==|!=|in|not in) *[(\[{]?["']""")
    folder = pathlib.Path(keras_gan.__file__).parent
    for file in folder.rglob("*.py"):
        lines = file.read_text("utf-8").splitlines()
        found = [line for line in lines if branch.search(line) and ".dtype.kind" not in line]
        assert not found, file.name
