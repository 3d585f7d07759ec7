"""Images of a TensorFlow Datasets data set: `tfds:NAME[/config][:version]`."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan.datasets import decoding, images
from keras_gan.datasets.source import MEMORY_LIMIT, OwnSplitsError, Source, Split, hold_out
from keras_gan.errors import UsageError
from keras_gan.spec import Spec

PREFIX = "tfds:"
_NAME = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?")
_HELD_OUT_NAMES = ("test", "held_out", "validation", "valid", "val")


@dataclasses.dataclass(frozen=True)
class Name:
    """The name of a TFDS data set, `name[/config][:version]`.

    Raises:
        UsageError: `text` is not such a name.
    """

    name: str
    config: str | None = None
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> Name:
        match = _NAME.fullmatch(text.removeprefix(PREFIX))
        if match is None:
            raise UsageError(
                "A TFDS data set is called tfds:NAME[/config][:version], the version like 1.0.0. "
                f"Received: {text!r}"
            )
        return cls(**match.groupdict())

    def __str__(self) -> str:
        config = f"/{self.config}" if self.config else ""
        return self.name + config + (f":{self.version}" if self.version else "")


def open(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    image_key: str | None = None,
    label_key: str | None = None,
    labels: bool = True,
    size: int | list[int] | tuple[int, int] | None = None,
    channels: int | None = None,
    held_out: float | None = None,
    skip_corrupt: bool = False,
    memory_limit: int = MEMORY_LIMIT,
    cache: str | os.PathLike[str] | None = None,
) -> Source:
    """Opens a data set that TensorFlow Datasets prepared, and decodes all of its images.

    Args:
        name: `NAME[/config][:version]`; the newest version by default.
        data_dir: folder of prepared data sets; `TFDS_DATA_DIR` from the environment or
            `~/tensorflow_datasets` by default.
        download: whether TensorFlow Datasets may download and prepare the data set if it is not
            there.
        image_key: the feature with the image; may be left out if there is only one.
        label_key: the feature with the class; may be left out if there is only one.
        labels: whether labels are used.
        size: side of the images in pixels, or `[height, width]`, see the folder data set. By
            default the size that the data set states; 64x64 if it states none.
        channels: 1, 3 or 4; what the data set states by default, or 3.
        held_out: share of the samples to hold out, 0.1 by default; not to be given for a data
            set with a test or validation split.
        skip_corrupt: whether damaged images are left out instead of refused.
        memory_limit: see the folder data set.
        cache: see the folder data set.

    Raises:
        UsageError: a data set that is not there, has no images, or no such feature.
    """
    folder = _prepared(Name.parse(name), data_dir, download)
    builder = _builder(folder)
    features = _features(builder)
    image_key, kind = _find_samples(features, image_key)
    label_key = _find_label(features, label_key) if labels else None
    names = _split_names(builder)
    if kind == "points":
        splits = _read_points(builder, names, image_key, label_key)
        decoded, shape, skipped = None, splits["train"].samples.shape[1:], []
    else:
        shape = _shape(features[image_key], size, channels)
        plan = decoding.Plan(
            size=shape[:2],
            channels=shape[2],
            frames=False,
            skip_corrupt=skip_corrupt,
            memory_limit=memory_limit,
            cache=cache,
            key=_key(folder, [names, image_key, label_key, shape, skip_corrupt]),
        )
        count = sum(builder.info.splits[split].num_examples for split in names)
        items = _items(builder, names, image_key, label_key)
        decoded = decoding.decode_all(items, count, plan)
        skipped = decoded.skipped
        splits = {
            ours: Split(
                decoded.samples,
                decoded.labels if label_key else None,
                np.flatnonzero(decoded.splits == position),
            )
            for position, ours in enumerate(decoding.SPLITS[: len(names)])
        }
    splits = _divide(splits, held_out)
    classes = features[label_key] if label_key else None
    spec = Spec(
        kind,
        tuple(shape),
        (-1.0, 1.0) if kind == "image" else None,
        classes.num_classes if classes else 0,
        _class_names(classes),
    )
    counts = " + ".join(f"{len(part):,}" for part in splits.values())
    things = "points" if kind == "points" else "images"
    return Source(
        spec, splits, f"{counts} {things} from the TFDS data set in {folder}", skipped=skipped
    )


def load(
    split: str = "train", batch_size: int = 64, seed: int = 0, **options: Any
) -> tf.data.Dataset:
    """Batches of one epoch; `options` are those of `open`."""
    return open(**options).dataset(split, batch_size, seed)


def parse(source: str) -> dict[str, Any] | None:
    """The options that a data set's name stands for: `tfds:` and the name."""
    return {"name": source.removeprefix(PREFIX)} if source.startswith(PREFIX) else None


def find(name: str | Name, data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder of a prepared data set's newest version that fits the name, if there is one.

    TensorFlow Datasets' own search asks its builders' code, which may ask the network.
    """
    name = Name.parse(name) if isinstance(name, str) else name
    folder = data_root(data_dir) / name.name
    config = name.config or _default_config(folder)
    folder = folder / config if config else folder
    if not folder.is_dir():
        return None
    versions = [
        path
        for path in folder.iterdir()
        if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and (path / "features.json").is_file()
    ]
    if name.version:
        versions = [path for path in versions if path.name == name.version]
    newest = max(versions, key=lambda path: [int(n) for n in path.name.split(".")], default=None)
    return newest


def data_root(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder of prepared data sets."""
    given = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(os.path.expanduser(given))


def _default_config(folder: Path) -> str | None:
    """The configuration taken when none is named."""
    with contextlib.suppress(OSError, ValueError):
        metadata = json.loads((folder / ".config" / "metadata.json").read_text("utf-8"))
        return metadata.get("default_config_name")
    return None


def import_tfds() -> Any:
    """TensorFlow Datasets, whose import takes a while."""
    import tensorflow_datasets

    return tensorflow_datasets


def _prepared(name: Name, data_dir: str | os.PathLike[str] | None, download: bool) -> Path:
    folder = find(name, data_dir)
    if folder is not None:
        return folder
    if not download:
        raise UsageError(
            "The TFDS data set must be prepared on this machine, or download=true must allow "
            f"TensorFlow Datasets to download it. Received: {name}, which is not in "
            f"{data_root(data_dir)}"
        )
    tfds = import_tfds()
    try:
        builder = tfds.builder(str(name), data_dir=str(data_root(data_dir)))
        builder.download_and_prepare()
    except Exception as error:  # downloads fail in as many ways as there are data sets
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UsageError(
            f"TensorFlow Datasets must be able to prepare the data set. Received: {name}: {reason}"
        ) from error
    return Path(builder.data_dir)


def _builder(folder: Path) -> Any:
    try:
        return import_tfds().builder_from_directory(str(folder))
    except Exception as error:  # damaged metadata fails in the parser that meets it first
        raise UsageError(
            f"The prepared data set must be whole and readable. Received: {folder}: {error}"
        ) from error


def _features(builder: Any) -> dict[str, Any]:
    features = builder.info.features
    # Sorted, because they come in another order each time.
    return dict(sorted(features.items())) if hasattr(features, "items") else {}


def _find_samples(features: dict[str, Any], key: str | None) -> tuple[str, Any]:
    """The name of the feature with the samples, and their kind."""
    tfds = import_tfds()
    candidates = [n for n, f in features.items() if type(f) is tfds.features.Image]
    if key is None and not candidates and _is_points(features.get("features")):
        return "features", "points"
    if key is None and len(candidates) > 1 and "image" in candidates:
        key = "image"
    if key is None and len(candidates) == 1:
        key = candidates[0]
    if key not in candidates:
        raise UsageError(
            "image_key must name the data set's image feature"
            + (f", one of {', '.join(candidates)}" if candidates else "")
            + f". Received: image_key={key!r} and the features {_list_features(features)}"
        )
    if features[key].np_dtype not in (np.uint8, np.uint16):
        raise UsageError(
            "Images of a TFDS data set must have 8 or 16 bits a channel. "
            f"Received: {key} of {features[key].np_dtype}"
        )
    return key, "image"


def _is_points(feature: Any) -> bool:
    return (
        type(feature) is import_tfds().features.Tensor
        and len(feature.shape) == 1
        and np.issubdtype(feature.np_dtype, np.floating)
    )


def _find_label(features: dict[str, Any], key: str | None) -> str | None:
    candidates = [n for n, f in features.items() if type(f) is import_tfds().features.ClassLabel]
    if key is None and not candidates:
        return None
    if key is None:
        key = candidates[0] if len(candidates) == 1 else "label"
    if key not in candidates:
        raise UsageError(
            f"label_key must name one of the data set's class labels, {candidates}; labels=false "
            f"uses none. Received: label_key={key!r} and the features {_list_features(features)}"
        )
    return key


def _list_features(features: dict[str, Any]) -> str:
    return ", ".join(f"{name} ({type(f).__name__})" for name, f in features.items()) or "(none)"


def _class_names(classes: Any) -> tuple[str, ...]:
    """Names of the classes, unless they are the numbers that TFDS makes up."""
    if classes is None:
        return ()
    names = tuple(classes.names)
    return () if names == tuple(map(str, range(len(names)))) else names


def _split_names(builder: Any) -> list[str]:
    """The data set's split to train on, and the one to hold out if it has one."""
    available = builder.info.splits
    if "train" not in available:
        raise UsageError(
            "A TFDS data set must have a train split. "
            f"Received: {builder.info.full_name} with {', '.join(available)}"
        )
    held_out = [n for n in _HELD_OUT_NAMES if n in available and available[n].num_examples]
    return ["train", *held_out[:1]]


def _shape(feature: Any, size: Any, channels: int | None) -> tuple[int, int, int]:
    height, width, stated = feature.shape
    if size is not None:
        height, width = images.check_size(size)
    elif height is None or width is None:
        height, width = images.DEFAULT_SIZE
    return height, width, images.check_channels((stated or 3) if channels is None else channels)


def _items(
    builder: Any, names: list[str], image_key: str, label_key: str | None
) -> Iterator[decoding.Item]:
    tfds = import_tfds()
    wanted = {image_key, label_key} - {None}
    decoders = tfds.decode.PartialDecoding(
        dict.fromkeys(wanted, True), {image_key: tfds.decode.SkipDecoding()}
    )
    for position, name in enumerate(names):
        examples = _read(builder, split=name, decoders=decoders)
        for number, example in enumerate(examples):
            yield decoding.Item(
                name=f"{builder.info.full_name}, {name} example {number}",
                file=example[image_key],
                label=int(example[label_key]) if label_key else -1,
                split=position,
            )


def _read(builder: Any, **options: Any) -> Iterator[dict[str, Any]]:
    """Examples of a data set in a fixed order."""
    try:
        dataset = builder.as_dataset(shuffle_files=False, **options)
        yield from dataset.as_numpy_iterator()
    except tf.errors.OpError as error:
        raise UsageError(
            "The prepared data set must be whole and readable. "
            f"Received: {builder.data_dir}: {error.message}"
        ) from error


def _read_points(
    builder: Any, names: list[str], key: str, label_key: str | None
) -> dict[str, Split]:
    splits = {}
    for ours, theirs in zip(decoding.SPLITS, names, strict=False):
        batches = list(_read(builder, split=theirs, batch_size=4096))
        points = np.concatenate([batch[key] for batch in batches]).astype(np.float32)
        labels = None
        if label_key:
            labels = np.concatenate([batch[label_key] for batch in batches]).astype(np.int32)
        splits[ours] = Split(points, labels)
    return splits


def _divide(splits: dict[str, Split], held_out: float | None) -> dict[str, Split]:
    if "held_out" not in splits:
        train = splits["train"]
        return hold_out(train.samples, train.labels, 0.1 if held_out is None else held_out)
    if held_out is not None:
        raise OwnSplitsError(
            "held_out must not be given for a data set that brings its own splits. "
            f"Received: held_out={held_out!r}"
        )
    return splits


def _key(folder: Path, options: list[Any]) -> str:
    info = (folder / "dataset_info.json").read_text("utf-8")
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.iterdir())]
    content = json.dumps([str(folder.resolve()), info, files, options])
    return hashlib.sha256(content.encode()).hexdigest()[:32]
