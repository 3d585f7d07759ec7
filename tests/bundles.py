"""Small bundles for the tests of their readers, and forged changes."""

import dataclasses
import hashlib
import json

import keras
import numpy as np

import export
from export.bundle import write_models
from export.draft import open_draft
from export.files import describe_files
from serving.manifest import digest

L = keras.layers
NAMES = ("shirt", "shoe", "bag")
LATENTS = 6


def generator(name="clothes", seed=3):
    """A generator of 8 x 8 images in three classes, with a transposed convolution."""
    keras.utils.set_random_seed(seed)
    z, y = keras.Input((LATENTS,)), keras.Input((), dtype="int32")
    x = L.Concatenate()([z, L.Embedding(3, 4, embeddings_initializer="random_normal")(y)])
    x = L.Reshape((4, 4, 4))(L.Dense(4 * 4 * 4)(x))
    x = L.Conv2DTranspose(3, 4, 2, "same", activation="tanh")(x)
    return keras.Model([z, y], x, name=name)


def write(to, seed=3, **options):
    """Exports the generator to a bundle."""
    options = {"num_classes": 3, "class_names": NAMES} | options
    return export.export_bundle(generator(seed=seed), to, **options)


def unverified(model, to, **options):
    """Writes a bundle as an export does, without comparing the runtimes."""
    opened, draft = open_draft(model, **options)
    to.mkdir()
    write_models(opened, to, draft)
    dataclasses.replace(draft, files=describe_files(to)).save(to)
    return to


def reseal(bundle, content=None, files=True):
    """Corrects the digest and hashes of a bundle, as a forger would."""
    path = bundle / "manifest.json"
    content = json.loads(path.read_text()) if content is None else content
    for name in content["files"] if files else ():
        data = (bundle / name).read_bytes()
        content["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    content["digest"] = digest(content)
    path.write_text(json.dumps(content))


def edit(bundle, **change):
    """Changes fields of a manifest and corrects its digest."""
    content = json.loads((bundle / "manifest.json").read_text()) | change
    reseal(bundle, content, files=False)


def flip(path, where=None, bit=0):
    """Flips a bit of a file, by default one in its middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if where is None else where] ^= 1 << bit
    path.write_bytes(content)


def rewrite_golden(bundle, **change):
    """Replaces arrays of `golden.npz`, `None` to leave one out, and corrects the hashes."""
    with np.load(bundle / "golden.npz") as golden:
        arrays = dict(golden) | change
    arrays = {name: value for name, value in arrays.items() if value is not None}
    np.savez(bundle / "golden.npz", **arrays)
    reseal(bundle)
