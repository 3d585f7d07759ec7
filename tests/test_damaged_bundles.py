"""Damaged and forged bundles: every reader refuses them in one line."""

import hashlib
import io
import json
import os
import random
import shutil
import zipfile

import numpy as np
import onnx
import pytest
from bundles import edit, flip, reseal, rewrite_golden

import export
import serving
from export.golden import check_golden
from export.manifest import Manifest
from export.verify import check_files
from keras_gan import UsageError
from keras_gan.__main__ import main
from serving import cli

DATA = "model.onnx.data"
SAVED = "saved_model/clothes/1"
HASH = {"sha256": "0" * 64, "bytes": 0}


@pytest.fixture
def whole(clothes):
    return clothes.path


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


# --------------------------------------------------------------------------------- damages


def files(**change):
    """Puts entries into `files`; Python's names have no slashes, so a dict goes under `more`."""

    def damage(path):
        content = json.loads((path / "manifest.json").read_text())
        edit(path, files=content["files"] | change.get("more", {}))

    return damage


def text(old, new):
    """Replaces a piece of the manifest's text without correcting the digest."""

    def damage(path):
        content = (path / "manifest.json").read_text()
        assert old in content
        (path / "manifest.json").write_text(content.replace(old, new, 1))

    return damage


def cut(name):
    return lambda path: (path / name).write_bytes(
        (path / name).read_bytes()[: (path / name).stat().st_size // 2]
    )


def link(name):
    """Moves a file out of the bundle and replaces it by a link."""

    def damage(path):
        outside = path.with_name("outside")
        (path / name).rename(outside)
        (path / name).symlink_to(outside)

    return damage


def swap(one, other):
    def damage(path):
        (path / one).rename(path / "between")
        (path / other).rename(path / one)
        (path / "between").rename(path / other)

    return damage


def port(name, *shape, dtype="float32", kind="array", meta=None, **filled):
    fields = {"name": name, "dtype": dtype, "shape": ["batch", *shape], "kind": kind}
    return fields | {"meta": meta or {}} | filled


def given(name, *shape, **change):
    return port(name, *shape, **({"fill": "given", "stream": 0, "value": None} | change))


def ports(**change):
    return lambda path: edit(path, **change)


def output(**change):
    return change_port("outputs", 0, **change)


def latents(**change):
    return change_port("inputs", 0, **change)


def labels(**change):
    return change_port("inputs", 1, **change)


def change_port(group, index, **change):
    def damage(path):
        found = json.loads((path / "manifest.json").read_text())[group]
        found[index] |= change
        edit(path, **{group: found})

    return damage


def more_inputs(*more):
    def damage(path):
        content = json.loads((path / "manifest.json").read_text())
        edit(path, inputs=[*content["inputs"], *more])

    return damage


def weights(content, then=lambda path: None):
    """Adds a file of weights, whose content is `1` according to the manifest."""

    def damage(path):
        (path / DATA).write_bytes(b"1")
        files(more={DATA: {"sha256": hashlib.sha256(b"1").hexdigest(), "bytes": 1}})(path)
        (path / DATA).write_bytes(content)
        then(path)

    return damage


def golden(**change):
    return lambda path: rewrite_golden(path, **change)


def huge_header(path):
    """An array of 2 TB in a file of some bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2**33, 8, 8, 3)}
    )
    replace_member(path, "samples.npy", header.getvalue())


def replace_member(path, name, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path / "golden.npz") as old:
        members = {info.filename: old.read(info) for info in old.infolist()} | {name: content}
    with zipfile.ZipFile(path / "golden.npz", "w", compression) as new:
        for member, data in members.items():
            new.writestr(member, data)
    reseal(path)


def zip_bomb(path):
    """200 MB of zeros in 200 kB."""
    member = io.BytesIO()
    np.save(member, np.zeros((50 * 2**20 // 192, 8, 8, 3), np.float32))
    replace_member(path, "samples.npy", member.getvalue(), zipfile.ZIP_DEFLATED)


def other_model(change):
    """Changes the ONNX model and corrects the hashes."""

    def damage(path):
        model = onnx.load(path / "model.onnx")
        change(model)
        (path / "model.onnx").write_bytes(model.SerializeToString())
        reseal(path)

    return damage


def rename_output(model):
    for node in model.graph.node:
        node.output[:] = ["pictures" if name == "samples" else name for name in node.output]
    model.graph.output[0].name = "pictures"


def claim_huge_output(model):
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2**40


def nested(path):
    (path / "manifest.json").write_text('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")


def nested_a_little(path):
    value = []
    for _ in range(200):
        value = [value]
    edit(path, training={"recipe": value})


def device(path):
    (path / "manifest.json").unlink()
    os.mkfifo(path / "manifest.json")


BOTH, EXPORT = ("export", "serving"), ("export",)

# name: damage, readers that must refuse it, words of their error.
DAMAGES = {
    # bytes
    "model cut": (cut("model.onnx"), BOTH, "SHA-256"),
    "model empty": (lambda p: (p / "model.onnx").write_bytes(b""), BOTH, "SHA-256"),
    "model longer": (lambda p: (p / "model.onnx").open("ab").write(b"\0"), BOTH, "SHA-256"),
    "model flipped": (lambda p: flip(p / "model.onnx"), BOTH, "SHA-256"),
    "model's first bit": (lambda p: flip(p / "model.onnx", 0), BOTH, "SHA-256"),
    "model's last bit": (lambda p: flip(p / "model.onnx", -1, 7), BOTH, "SHA-256"),
    "golden cut": (cut("golden.npz"), EXPORT, "SHA-256"),
    "golden flipped": (lambda p: flip(p / "golden.npz"), EXPORT, "SHA-256"),
    "graph cut": (cut(f"{SAVED}/saved_model.pb"), EXPORT, "SHA-256"),
    "graph flipped": (lambda p: flip(p / SAVED / "saved_model.pb"), EXPORT, "SHA-256"),
    "weights flipped": (
        lambda p: flip(p / SAVED / "variables/variables.data-00000-of-00001"),
        EXPORT,
        "SHA-256",
    ),
    "manifest cut": (cut("manifest.json"), BOTH, "must be JSON"),
    "manifest empty": (lambda p: (p / "manifest.json").write_bytes(b""), BOTH, "must be JSON"),
    "manifest no text": (
        lambda p: (p / "manifest.json").write_bytes(b"\xff\xfe\0"),
        BOTH,
        "must be JSON",
    ),
    # missing, added and swapped files
    "model missing": (lambda p: (p / "model.onnx").unlink(), BOTH, "model.onnx"),
    "golden missing": (lambda p: (p / "golden.npz").unlink(), EXPORT, "golden.npz is missing"),
    "SavedModel missing": (lambda p: shutil.rmtree(p / "saved_model"), EXPORT, "is missing"),
    "manifest missing": (lambda p: (p / "manifest.json").unlink(), BOTH, "manifest.json"),
    "model and golden swapped": (swap("model.onnx", "golden.npz"), BOTH, "SHA-256"),
    "model and manifest swapped": (swap("model.onnx", "manifest.json"), BOTH, "must be JSON"),
    "a file more": (lambda p: (p / "extra.py").write_text(""), EXPORT, "'extra.py' is not in"),
    "a file with a line break": (
        lambda p: (p / "extra\nok").write_text(""),
        EXPORT,
        r"'extra\nok' is not in",
    ),
    "a folder for the model": (
        lambda p: ((p / "model.onnx").unlink(), (p / "model.onnx").mkdir()),
        BOTH,
        "model.onnx",
    ),
    # links and devices
    "model a link": (link("model.onnx"), BOTH, "link"),
    "manifest a link": (link("manifest.json"), BOTH, "a link, not a regular file"),
    "golden a link": (link("golden.npz"), EXPORT, "is a link"),
    "SavedModel a link": (link("saved_model"), EXPORT, "is missing"),
    "a link to a loop": (lambda p: (p / "loop").symlink_to(p), EXPORT, "is a link"),
    "a link to nothing": (lambda p: (p / "x").symlink_to("nowhere"), EXPORT, "is a link"),
    "manifest a pipe": (device, BOTH, "manifest.json"),
    # the manifest as JSON
    "license edited": (text('"license": null', '"license": "CC0-1.0"'), BOTH, "digest"),
    "a key twice": (text('"kind"', '"kind": "points", "kind"'), BOTH, "the key 'kind' twice"),
    "NaN": (text('"license": null', '"license": NaN'), BOTH, "must be JSON"),
    "Infinity": (text('"license": null', '"license": -Infinity'), BOTH, "must be JSON"),
    "a number above all": (text('"license": null', '"license": 1e999'), BOTH, "must be JSON"),
    "an endless number": (text('"license": null', '"license": ' + "9" * 9999), BOTH, "be JSON"),
    "nested deep": (nested, BOTH, "must be JSON"),
    "nested a little": (nested_a_little, BOTH, "nested more than 64 deep"),
    "17 MB": (lambda p: edit(p, notice="x" * 17 * 2**20), BOTH, "bytes"),
    "a list": (lambda p: (p / "manifest.json").write_text("[]"), BOTH, "schema_version"),
    "schema 1": (lambda p: edit(p, schema_version=1), BOTH, "schema_version=1"),
    "schema true": (lambda p: edit(p, schema_version=True), BOTH, "schema_version=True"),
    # fields
    "name that leaves": (lambda p: edit(p, name="../../etc"), BOTH, "name="),
    "name of a terminal": (lambda p: edit(p, name="\x1b[2J"), BOTH, "name="),
    "name half a letter": (lambda p: edit(p, name="\ud800"), BOTH, "name="),
    "name of another": (lambda p: edit(p, name="shoes"), EXPORT, "saved_model/shoes"),
    "role of a terminal": (lambda p: edit(p, role="\x1b[2J"), BOTH, "role="),
    "huge shape": (output(shape=["batch", 2**31, 2**31, 3]), BOTH, "outputs[0].shape="),
    "other shape": (output(shape=["batch", 16, 16, 3]), BOTH, "samples|describe the model"),
    "shape of trues": (output(shape=["batch", True, True, True]), BOTH, "outputs[0].shape="),
    "shape without a batch": (output(shape=[8, 8, 3]), BOTH, "outputs[0].shape="),
    "kind of no kind": (output(kind="sound"), BOTH, "outputs[0].kind='sound'"),
    "kind of another shape": (output(kind="video"), BOTH, "outputs[0].shape="),
    "property of another kind": (
        output(meta={"sample_rate": 8000}),
        BOTH,
        "outputs[0].meta={'sample_rate'",
    ),
    "a size without tested values": (
        output(shape=["batch", "height", 8, 3]),
        BOTH,
        "tested values of the named sizes|describe the model",
    ),
    "tested values of no size": (
        lambda p: edit(p, parity={"sizes": [{"height": 2**40}]}),
        EXPORT,
        "tested values of the named sizes",
    ),
    "latents of 0": (latents(shape=["batch", 0]), BOTH, "inputs[0].shape="),
    "huge latents": (latents(shape=["batch", 2**62]), BOTH, "inputs[0].shape="),
    "other latents": (latents(shape=["batch", 7]), BOTH, "latents of golden|describe the model"),
    "unknown fill": (latents(fill="noise"), BOTH, "inputs[0].fill='noise'"),
    "a negative stream": (latents(stream=-1), BOTH, "inputs[0].stream=-1"),
    "one stream for two": (labels(stream=0), BOTH, "inputs[1].stream=0"),
    "no classes": (labels(meta={}), BOTH, "inputs[1].meta.num_classes=nothing"),
    "names of numbers": (
        labels(meta={"num_classes": 1, "class_names": [5]}),
        BOTH,
        "inputs[1].meta.class_names=[5]",
    ),
    "two names of three": (
        labels(meta={"num_classes": 3, "class_names": ["a", "b"]}),
        BOTH,
        "inputs[1].meta={'num_classes': 3, 'class_names': ['a', 'b']}",
    ),
    "range upside down": (
        output(meta={"value_range": [1, -1]}),
        BOTH,
        "outputs[0].meta.value_range=[1, -1]",
    ),
    "empty range": (output(meta={"value_range": []}), BOTH, "outputs[0].meta.value_range=[]"),
    "path that leaves": (files(more={"../secret": HASH}), BOTH, "files="),
    "path from the root": (files(more={"/etc/passwd": HASH}), BOTH, "files="),
    "path by detours": (files(more={"x/./y": HASH}), BOTH, "files="),
    "path of Windows": (files(more={"..\\x": HASH}), BOTH, "files="),
    "files without the model": (lambda p: edit(p, files={}), BOTH, "must list model.onnx"),
    "hash of no hash": (
        files(more={"model.onnx": {"sha256": "é", "bytes": 1}}),
        BOTH,
        "files=",
    ),
    "size of no size": (
        files(more={"model.onnx": HASH | {"bytes": "1"}}),
        BOTH,
        "files=",
    ),
    # inputs and outputs
    "no inputs": (lambda p: edit(p, inputs=[]), BOTH, "inputs=[]"),
    "outputs of another shape": (
        ports(outputs=[port("samples", 8, 8, 1)]),
        BOTH,
        "samples of golden.npz must fit|describe the model",
    ),
    "labels of another shape": (labels(shape=["batch", 3]), BOTH, "inputs[1].shape="),
    "a name twice": (
        ports(outputs=[port("samples", 8, 8, 3)] * 2),
        BOTH,
        "outputs[1].name='samples'",
    ),
    "a name of an input": (
        ports(outputs=[port("latents", 8)]),
        BOTH,
        "different names|describe the model",
    ),
    "a name that is a path": (more_inputs(given("../x", 3)), BOTH, "inputs[2].name='../x'"),
    "an input of objects": (
        more_inputs(given("x", 3, dtype="object")),
        BOTH,
        "inputs[2].dtype='object'",
    ),
    "an input without golden values": (
        more_inputs(given("x", 3)),
        BOTH,
        "must hold labels, latents, samples, seeds, x|describe the model",
    ),
    "a hundred inputs": (
        more_inputs(*[given("x" * 150, 3)] * 90),
        BOTH,
        "inputs[2].stream=|inputs[3].name=",
    ),
    "tolerance of text": (lambda p: edit(p, parity={"tolerance": "1"}), EXPORT, "parity="),
    "weights that are missing": (files(more={DATA: HASH}), BOTH, DATA),
    "weights longer than said": (weights(b"12"), BOTH, "SHA-256"),
    "weights of no hash": (files(more={DATA: HASH | {"sha256": 7}}), BOTH, "files="),
    "weights a link": (weights(b"1", link(DATA)), BOTH, "link"),
    # forged: hashes and digest fit
    "golden with a pickle": (
        golden(samples=np.array([{"a": 1}] * 16, object)),
        EXPORT,
        "samples of golden.npz must fit",
    ),
    "golden with a huge header": (huge_header, EXPORT, "samples of golden.npz must"),
    "golden a zip bomb": (zip_bomb, EXPORT, "must have the bytes"),
    "golden not finite": (
        golden(samples=np.full((16, 8, 8, 3), np.nan, np.float32)),
        EXPORT,
        "samples of golden.npz must be in range",
    ),
    "golden of other counts": (golden(seeds=np.arange(3)), EXPORT, "the same length"),
    "golden with more": (golden(extra=np.zeros(1)), EXPORT, "must hold"),
    "golden no zip": (
        lambda p: ((p / "golden.npz").write_text("x"), reseal(p)),
        EXPORT,
        "readable",
    ),
    "model no model": (
        lambda p: ((p / "model.onnx").write_bytes(b"\x08\xff" * 9), reseal(p)),
        BOTH,
        "model.onnx",
    ),
    "model of another name": (other_model(rename_output), BOTH, "model.onnx|describe the model"),
    "model that claims more": (other_model(claim_huge_output), BOTH, "model.onnx|the model"),
}


def refusals(path):
    """Returns the error of each reader before a runtime starts, `None` where it accepts."""
    said = {}
    try:
        manifest = Manifest.load(path)
        problems = check_files(path, manifest) or check_golden(path, manifest)
        said["export"] = problems[0] if problems else None
    except UsageError as error:
        said["export"] = str(error)
    try:
        serving.Bundle(path)
        said["serving"] = None
    except serving.UsageError as error:
        said["serving"] = str(error)
    return said


def is_one_line(text):
    return text.isprintable() and len(text) < 1000


def test_there_are_more_than_fifty_damages():
    assert len(DAMAGES) > 50


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_bundle_is_refused_in_one_line(copy, name):
    damage, readers, words = DAMAGES[name]
    damage(copy)
    for reader, said in refusals_of(copy).items():
        if reader not in readers:
            assert said is None or reader == "export", (reader, said)
            continue
        assert said is not None, f"{reader} accepted it"
        assert is_one_line(said), said
        assert any(word in said for word in words.split("|")), said


def refusals_of(path):
    """Returns the same through the functions that users call."""
    said = refusals_by(path, lambda: export.verify_bundle(path).problems, UsageError)
    other = refusals_by(path, lambda: serving.Bundle(path) and (), serving.UsageError)
    return {"export": said, "serving": other}


def refusals_by(path, read, error_class):
    try:
        problems = read()
    except error_class as error:
        return str(error)
    return problems[0] if problems else None


@pytest.mark.parametrize("name", DAMAGES)
def test_the_command_line_shows_no_traceback(copy, name, capsys):
    damage, readers, _ = DAMAGES[name]
    damage(copy)
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(copy)])
    printed = capsys.readouterr()
    assert ended.value.code in (1, 2)
    assert "Traceback" not in printed.out + printed.err
    assert len(printed.out.splitlines() + printed.err.splitlines()) <= 12
    if "serving" in readers:
        assert cli.main(["sample", str(copy), "--count", "1", "--out", str(copy / "x.png")]) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("keras-gan: error: ")
        assert printed.err.count("\n") == 1


# --------------------------------------------------------------------------- random damage

NASTY = [None, True, 0, -1, 2**63, 10**400, 0.5, 1e308, "", "x" * 5000, "\n", "\x1b[0m", "\ud800"]
NASTY += [[], {}, [[]], [None], {"": None}, {"count": 1}, ["a", 1], "../x", "/", [-1, 1], [3, 3, 3]]


def mutate(rng, value):
    """Changes something somewhere in a JSON value."""
    if isinstance(value, dict | list) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value) if isinstance(value, dict) else range(len(value)))
        other = dict(value) if isinstance(value, dict) else list(value)
        if rng.random() < 0.15:
            del other[key]
        elif isinstance(other, dict) and rng.random() < 0.15:
            other[rng.choice(["..", "", "\n", "name", "x"])] = other.pop(key)
        else:
            other[key] = mutate(rng, other[key])
        return other
    return rng.choice(NASTY)


@pytest.mark.parametrize("seed", range(8))
def test_random_manifests_are_refused_or_read(copy, seed):
    """Every reader refuses a forged manifest in one line, or accepts it."""
    rng = random.Random(seed)
    content = json.loads((copy / "manifest.json").read_text())
    for _ in range(100):
        changed = content
        for _ in range(rng.randint(1, 3)):
            changed = mutate(rng, changed)
        if not isinstance(changed, dict):
            continue
        (copy / "manifest.json").write_text(json.dumps(changed | {"digest": ""}))
        assert None not in refusals(copy).values()  # for a wrong field, or for the digest
        if isinstance(changed.get("files"), dict):
            reseal(copy, changed, files=False)
            for said in refusals(copy).values():
                assert said is None or is_one_line(said), said


@pytest.mark.parametrize("seed", range(4))
def test_random_bit_flips_are_refused(copy, whole, seed):
    """The hashes cover every bit of every file of a bundle."""
    rng = random.Random(seed)
    names = sorted(str(p.relative_to(whole)) for p in whole.rglob("*") if p.is_file())
    content = json.loads((whole / "manifest.json").read_text())
    for _ in range(60):
        name = rng.choice([*names, "manifest.json", "manifest.json"])
        size = (whole / name).stat().st_size
        flip(copy / name, rng.randrange(size), rng.randrange(8))
        said = refusals(copy)
        if name == "manifest.json":  # a bit in the spaces of JSON may have no effect
            try:
                same = json.loads((copy / name).read_text("utf-8")) == content
            except ValueError:
                same = False
            assert same or None not in said.values(), said
        else:
            assert said["export"] is not None, name
            assert (said["serving"] is not None) == (name == "model.onnx")
        assert all(x is None or is_one_line(x) for x in said.values()), said
        shutil.copy(whole / name, copy / name)


@pytest.mark.parametrize("seed", range(4))
def test_random_golden_samples_are_refused_or_read(copy, whole, seed):
    """With corrected hashes: no memory beyond the size of the file, no pickle, no traceback."""
    rng = random.Random(seed)
    manifest = Manifest.load(copy)
    size = (whole / "golden.npz").stat().st_size
    for _ in range(60):
        content = bytearray((whole / "golden.npz").read_bytes())
        for _ in range(rng.randint(1, 8)):
            content[rng.randrange(size)] = rng.randrange(256)
        if rng.random() < 0.2:
            del content[rng.randrange(size) :]
        (copy / "golden.npz").write_bytes(content)
        problems = check_golden(copy, manifest)
        assert all(is_one_line(problem) for problem in problems), problems


def test_an_intact_bundle_is_accepted(whole, copy):
    assert refusals(whole) == {"export": None, "serving": None}
    text('"kind": "image"', '"kind":  "image" ')(copy)  # other text, same content
    assert refusals(copy) == {"export": None, "serving": None}
