"""Provenance in the metadata of images, and the model card of a bundle."""

import io
import os
import re
import xml.etree.ElementTree as ET

import bundles
import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image

import export
import serving
from export.card import model_card
from export.manifest import Manifest
from serving import cli, pictures
from serving.provenance import XMP_KEY, provenance, xmp

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
TRAINING = {
    "examples_seen": 640_000,
    "weights": "averaged",
    "data": {"description": "60,000 pictures of clothes | MIT", "digest": "abc123"},
    "recipe": {"game": {"loss": "hinge"}},
    "metrics": {"frechet_distance": 3.80123, "d_loss": 0.5},
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundles.write(
        tmp_path_factory.mktemp("card") / "bundle",
        training=TRAINING,
        license="CC-BY-4.0",
        intended_use="Teaching\nwhat a generator is.",
    )


def texts_of(content):
    """Reads the texts of a PNG file with Pillow, which checks their CRC."""
    image = Image.open(io.BytesIO(content) if isinstance(content, bytes) else content)
    image.load()
    return image.text


def xmp_of(texts):
    """Returns the properties of the XMP packet, which must be valid XML between its marks."""
    packet = texts[XMP_KEY]
    assert packet.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>')
    assert packet.endswith('<?xpacket end="r"?>')
    body = re.sub(r"<\?xpacket.*?\?>", "", packet)
    (description,) = ET.fromstring(body).iter(f"{RDF}Description")
    return description.attrib


# --------------------------------------------------------------------------------- pictures


def test_a_grid_records_model_first_seed_and_count(bundle, tmp_path):
    out = tmp_path / "grid.png"
    command = ["sample", str(bundle.path), "--count", "5", "--seed", "7", "--out", str(out)]
    assert cli.main([*command, "--truncation", "0.7", "--labels", "shoe"]) == 0
    texts = texts_of(out)
    assert texts["Model"] == "clothes"
    assert texts["Model SHA-256"] == bundle.manifest.files["model.onnx"]["sha256"]
    assert (texts["First seed"], texts["Count"]) == ("7", "5")
    assert (texts["Truncation"], texts["Labels"]) == ("0.7", "shoe")
    assert texts["Digital Source Type"] == SOURCE_TYPE
    properties = xmp_of(texts)
    assert properties[f"{IPTC}DigitalSourceType"] == SOURCE_TYPE
    assert properties[f"{IPTC}AISystemUsed"] == "clothes"
    assert properties[f"{IPTC}AISystemVersionUsed"] == f"sha256:{texts['Model SHA-256']}"


def test_metadata_are_the_users_choice_and_change_no_pixel(bundle, tmp_path):
    command = ["sample", str(bundle.path), "--count", "2", "--seed", "3"]
    with_them, without = tmp_path / "with.png", tmp_path / "without.png"
    each, plain = tmp_path / "each", tmp_path / "plain"
    assert cli.main([*command, "--out", str(with_them), "--each", str(each)]) == 0
    assert cli.main([*command, "--out", str(without), "--each", str(plain), "--no-metadata"]) == 0
    assert texts_of(without) == {}
    assert b"keras-gan" not in without.read_bytes()
    pixels, others = np.asarray(Image.open(with_them)), np.asarray(Image.open(without))
    np.testing.assert_array_equal(pixels, others)
    for name, seed in (("seed000003.png", "3"), ("seed000004.png", "4")):
        assert texts_of(each / name)["Seed"] == seed
        assert texts_of(each / name)["Label"] == str(int(seed) % 3)
        assert texts_of(plain / name) == {}


def test_plots_of_points_record_it_too(tmp_path):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)], name="points")
    bundle = export.export_bundle(model, tmp_path / "b")
    assert cli.main(["sample", str(bundle.path), "--out", str(tmp_path / "x.png")]) == 0
    assert texts_of(tmp_path / "x.png")["Model"] == "points"
    card = (bundle.path / "README.md").read_text()
    assert "Without a license, only the owner" in card
    assert "The data and the training are not described" in card
    assert "not suitable for" in card
    assert "generate_png" not in card


def test_any_model_name_is_read_back_from_the_packet():
    name = "a \"b\" & 'c' <d>\n\té ü 漢"
    (description,) = ET.fromstring(xmp(name, "1"))[0]
    found = {key.partition("}")[2]: value for key, value in description.attrib.items()}
    assert (found["AISystemUsed"], found["AISystemVersionUsed"]) == (name, "1")


def test_images_of_a_server_have_the_same_texts_as_those_of_the_command_line(bundle):
    """The graph writes the number and CRC of a chunk, which Pillow checks."""
    seeds = [0, 7, 10, 99, 12_345, 2**31, 10**18, 2**63 - 1]
    labels = [seed % 3 for seed in seeds]
    sha256 = bundle.manifest.files["model.onnx"]["sha256"]
    drawn = pictures.to_uint8(serving.Bundle(bundle.path).generate(seeds))
    files = pngs(bundle, seeds, labels)
    for seed, label, png, expected in zip(seeds, labels, files, drawn, strict=True):
        assert texts_of(png) == provenance("clothes", sha256, label=label, seed=seed)
        pixels = np.asarray(Image.open(io.BytesIO(png))).astype(int)
        assert np.abs(pixels - expected).max() <= 1


def pngs(bundle, seeds, labels):
    loaded = tf.saved_model.load(str(bundle.path / "saved_model" / bundle.manifest.name / "1"))
    inputs = {"seeds": tf.constant(seeds, tf.int64), "labels": tf.constant(labels, tf.int64)}
    return loaded.signatures["generate_png"](**inputs)["png_bytes"].numpy()


@pytest.mark.slow
def test_a_server_without_metadata(tmp_path):
    bundle = bundles.write(tmp_path / "b", metadata=False)
    assert [texts_of(png) for png in pngs(bundle, [7], [1])] == [{}]


# ------------------------------------------------------------------------------- the model card


def test_the_card_matches_the_manifest(bundle):
    card = (bundle.path / "README.md").read_text()
    assert card == model_card(bundle.path, bundle.manifest)
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "cc-by-4.0",
        "library_name": "keras",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["gan", "keras", "tensorflow", "onnx"],
    }
    for words in (
        "# clothes\n",
        "`samples`, of kind image and size 8 x 8 x 3, in 3 classes: shirt, shoe, bag",
        "Teaching what a generator is.\n",
        "- Data: 60,000 pictures of clothes \\| MIT\n",
        "- Digest of the data: `abc123`",
        "- Examples seen: 640000",
        "| Frechet distance | 3.80123 |",
        "CC-BY-4.0.",
        "| onnx | ",
        bundle.manifest.files["model.onnx"]["sha256"],
        'serving.Bundle("clothes")',
        "latents float32, labels int64 -> samples",
        "generate_png",
    ):
        assert words in body, words
    assert "README.md" in bundle.manifest.files
    assert bundle.manifest.intended_use == "Teaching\nwhat a generator is."
    assert Manifest.load(bundle.path) == bundle.manifest


def test_a_changed_card_is_detected(bundle, tmp_path):
    import shutil

    copy = shutil.copytree(bundle.path, tmp_path / "copy")
    with (copy / "README.md").open("a") as file:
        file.write("Free for every use.\n")
    assert os.path.getsize(copy / "README.md") > bundle.manifest.files["README.md"]["bytes"]
    assert "README.md was changed" in export.verify_bundle(copy).problems[0]
