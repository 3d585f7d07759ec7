"""Images of a TensorFlow Datasets data set: `tfds:NAME[/config][:version]`.

A data set that `keras_gan.datasets.prepare` wrote keeps all its fields, of any kind.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_gan.datasets import decoding, images, shards
from keras_gan.datasets.classes import number_classes
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.datasets.splits import Split, divide
from keras_gan.datasets.tfds_folders import (
    PREFIX,
    Name,
    import_tfds,
    open_builder,
    prepared,
    read_examples,
)
from keras_gan.errors import UsageError
from keras_gan.spec import Spec
from serving import kinds

_HELD_OUT_NAMES = ("test", "held_out", "validation", "valid", "val")


def open(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    image_key: str | None = None,
    label_key: str | None = None,
    labels: bool = True,
    keep_ids: bool = False,
    size: int | str | list[int] | tuple[int, int] | None = None,
    channels: int | None = None,
    value_range: Sequence[float] | None = None,
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
        download: whether TensorFlow Datasets may download and prepare a missing data set.
        image_key: the feature with the image; optional if there is only one.
        label_key: the feature with the class; optional if there is only one.
        labels: whether labels are used.
        keep_ids: whether classes without training samples are kept; by default they are left out.
        size: height and width of the images in pixels as one integer, or `[height, width]`, see
            the folder data set. By default the size that the data set states, or 64x64.
        channels: 1, 3 or 4; what the data set states by default, or 3.
        value_range: stored values that become black and white, see the folder data set.
        held_out: share of the samples to hold out, 0.1 by default; not allowed for a data set
            with a test or validation split.
        skip_corrupt: whether damaged images are skipped instead of refused.
        memory_limit, cache: see the folder data set.

    Raises:
        UsageError: a data set that is missing, has no images, or lacks the named feature.
    """
    folder = prepared(Name.parse(name), data_dir, download)
    builder = open_builder(folder)
    record = shards.read_record(folder)
    if record is not None:
        image_options = {"image_key": image_key, "size": size, "channels": channels}
        image_options["value_range"] = value_range
        return _open_record(builder, record, image_options, labels, held_out, keep_ids)
    features = _features(builder)
    image_key, kind = _find_samples(features, image_key)
    keys = _Keys(image_key, _find_label(features, label_key) if labels else None)
    given = decoding.GivenOptions(size, channels, value_range, skip_corrupt, memory_limit, cache)
    splits, skipped, earlier, resizing = _read(builder, keys, kind, given)
    spec, splits, is_numbered = _classes(kind, splits, features, keys, keep_ids)
    if is_numbered:
        earlier["keep_ids"] = True
    splits = divide(splits, held_out, "a data set")
    description = _describe(builder, splits, spec.modality.plural, spec.shape, resizing)
    resized = images.FILTER if resizing else None
    options = {"skipped": skipped, "resized": resized, "earlier_options": earlier}
    return Source(spec, splits, description, **options)


class _Keys(NamedTuple):
    """Names of the features with the samples and with the labels."""

    samples: str
    labels: str | None


def _classes(
    kind: str,
    splits: dict[str, Split],
    features: dict[str, Any],
    keys: _Keys,
    keep_ids: bool,
) -> tuple[Spec, dict[str, Split], bool]:
    """Returns the spec, the splits, and whether labels became other class ids."""
    stated = features[keys.labels] if keys.labels else None
    found = None
    if stated is not None:
        names = tuple(stated.names or map(str, range(stated.num_classes)))
        splits, found = number_classes(splits, names, keep_ids)
    count = len(found) if found else 0
    names = found.names if found else ()
    if names == tuple(map(str, range(count))):
        names = ()  # the numbers that TFDS makes up
    shape = tuple(splits["train"].samples.shape[1:])
    spec = Spec(kind, shape, kinds.get(kind).value_range, count, names)
    return spec, splits, bool(found and found.line)


def _is_deep(feature: Any) -> bool:
    return feature.np_dtype == np.uint16


def _levels(builder: Any, keys: _Keys, feature: Any, value_range: Any) -> images.Levels:
    """Returns the levels of the images, from the first ones of the training split."""
    few: list[Any] = []
    if value_range is None:
        train = _split_names(builder)[0]
        count, part = builder.info.splits[train].num_examples, decoding.LOOKED_AT // 4
        starts = (0, count // 4, count // 2, count - part)
        names = [f"{train}[{start}:{start + part}]" for start in starts]
        items = _items(builder, names if count > 4 * part else [train], keys)
        few = [item.file for item in items]
    is_deep = _is_deep(feature)
    shallow, deep = ([], few) if is_deep else (few, [])
    if value_range is not None:
        deep = [b""] if is_deep else []
    return decoding.find_levels(shallow, deep, value_range, builder.info.full_name)


def _read(
    builder: Any, keys: _Keys, kind: str, given: decoding.GivenOptions
) -> tuple[dict[str, Split], list[str], dict[str, Any], str]:
    """Returns the splits, the skipped images, the options of an earlier reading, and a resizing."""
    if not kinds.get(kind).has_pixels:
        return _read_points(builder, keys), [], {}, ""
    feature = _features(builder)[keys.samples]
    found = _levels(builder, keys, feature, given.value_range)
    shape = _shape(feature, given.size, given.channels)
    settings = [] if found == images.WHOLE_RANGE else [found.deep, found.shallow]
    settings = [_split_names(builder), *keys, shape, given.skip_corrupt, *settings]
    options = decoding.DecodeOptions(
        size=shape[:2],
        channels=shape[2],
        frames=False,
        skip_corrupt=given.skip_corrupt,
        memory_limit=given.memory_limit,
        cache=given.cache,
        key=_key(Path(builder.data_dir), settings),
        levels=found,
    )
    earlier = {}
    if given.value_range is None and found != images.WHOLE_RANGE:
        earlier["value_range"] = decoding.whole_range(_is_deep(feature))
    seen: list[tuple[Path, images.Header]] = []
    splits, skipped = _read_images(builder, keys, options, seen)
    return splits, skipped, earlier, _resizing(builder, feature, seen, options.size)


def _describe(
    builder: Any,
    splits: dict[str, Split],
    plural: str,
    shape: Sequence[int] = (),
    resizing: str = "",
) -> str:
    counts = " + ".join(f"{len(part):,}" for part in splits.values())
    form = f", as {'x'.join(map(str, shape))} ({resizing})" if resizing else ""
    return f"{counts} {plural} from the TFDS data set in {builder.data_dir}{form}"


def _open_record(
    builder: Any,
    record: shards.Record,
    image_options: dict[str, Any],
    labels: bool,
    held_out: float | None,
    keep_ids: bool,
) -> Source:
    """Opens a prepared data set by its record of fields."""
    for name, value in image_options.items():
        if value is not None:
            raise UsageError(
                f"`{name}` is only for data sets of images with at most labels. "
                f"Received: {name}={value!r} for {builder.data_dir}"
            )
    record = record if labels else record.without_labels()
    splits = {
        ours: shards.read_split(builder, theirs, record)
        for ours, theirs in zip(decoding.SPLITS, _split_names(builder), strict=False)
    }
    spec, is_numbered = record.spec, False
    if spec.num_classes:
        names = spec.class_names or tuple(map(str, range(spec.num_classes)))
        splits, found = number_classes(splits, names, keep_ids)
        if found is not None and found.line:
            spec, is_numbered = spec.with_classes(len(found), found.names), True
    splits = divide(splits, held_out, "a data set")
    return Source(
        spec,
        splits,
        _describe(builder, splits, spec.modality.plural),
        raw_ranges=record.raw_ranges,
        earlier_options={"keep_ids": True} if is_numbered else {},
    )


def _resizing(
    builder: Any, feature: Any, seen: list[tuple[Path, images.Header]], size: tuple[int, int]
) -> str:
    """Returns the stored sizes and the size that images get; warns of those that are enlarged."""
    height, width, _ = feature.shape
    if height is not None and width is not None:
        header = images.Header(height, width, gray=False, frames=1)
        count = sum(builder.info.splits[name].num_examples for name in _split_names(builder))
        seen = [(Path(f"all of {builder.info.name}"), header)] * count
    elif not seen:  # the images come from the cache
        return f"other sizes -> {size[0]}x{size[1]}"
    if enlarging := images.describe_enlarging(seen, size):
        warnings.warn(enlarging, stacklevel=4)
    return images.describe_resizing([header for _, header in seen], size)


def _read_images(
    builder: Any,
    keys: _Keys,
    options: decoding.DecodeOptions,
    seen: list[tuple[Path, images.Header]],
) -> tuple[dict[str, Split], list[str]]:
    """Decodes the images of all splits; also returns a line for each skipped one.

    The headers of the images are added to `seen` if the data set does not state their size.
    """
    names = _split_names(builder)
    count = sum(builder.info.splits[split].num_examples for split in names)
    items = _items(builder, names, keys)
    if None in _features(builder)[keys.samples].shape[:2]:
        items = _with_headers(items, seen)
    decoded = decoding.decode_all(items, count, options)
    splits = {
        ours: Split(
            decoded.samples,
            decoded.labels if keys.labels else None,
            np.flatnonzero(decoded.splits == position),
        )
        for position, ours in enumerate(decoding.SPLITS[: len(names)])
    }
    return splits, decoded.skipped


def _with_headers(
    items: Iterator[decoding.Item], seen: list[tuple[Path, images.Header]]
) -> Iterator[decoding.Item]:
    for item in items:
        with contextlib.suppress(images.CorruptImage):  # reported when it is decoded
            seen.append((Path(item.name.replace("/", " ")), images.read_header(item.file)))
        yield item


def _read_points(builder: Any, keys: _Keys) -> dict[str, Split]:
    splits = {}
    for ours, theirs in zip(decoding.SPLITS, _split_names(builder), strict=False):
        batches = list(read_examples(builder, split=theirs, batch_size=4096))
        points = np.concatenate([batch[keys.samples] for batch in batches]).astype(np.float32)
        labels = None
        if keys.labels:
            labels = np.concatenate([batch[keys.labels] for batch in batches]).astype(np.int32)
        splits[ours] = Split(points, labels)
    return splits


FORM = f"{PREFIX}NAME[/config][:version]"


def parse(source: str) -> dict[str, Any] | None:
    """Returns the options that a data set's name stands for: `tfds:` and the name."""
    return {"name": source.removeprefix(PREFIX)} if source.startswith(PREFIX) else None


def _features(builder: Any) -> dict[str, Any]:
    features = builder.info.features
    # Sorted, because their order varies between runs.
    return dict(sorted(features.items())) if hasattr(features, "items") else {}


def _find_samples(features: dict[str, Any], key: str | None) -> tuple[str, Any]:
    """Returns the name of the feature with the samples, and their kind."""
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
            "`image_key` must name the data set's image feature"
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
            f"`label_key` must name one of the data set's class labels, {candidates}; labels=false "
            f"uses none. Received: label_key={key!r} and the features {_list_features(features)}"
        )
    return key


def _list_features(features: dict[str, Any]) -> str:
    return ", ".join(f"{name} ({type(f).__name__})" for name, f in features.items()) or "(none)"


def _split_names(builder: Any) -> list[str]:
    """Returns the names of the split to train on and, if there is one, of the held-out split."""
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


def _items(builder: Any, names: list[str], keys: _Keys) -> Iterator[decoding.Item]:
    tfds = import_tfds()
    wanted = set(keys) - {None}
    decoders = tfds.decode.PartialDecoding(
        dict.fromkeys(wanted, True), {keys.samples: tfds.decode.SkipDecoding()}
    )
    for position, name in enumerate(names):
        examples = read_examples(builder, split=name, decoders=decoders)
        for number, example in enumerate(examples):
            yield decoding.Item(
                name=f"{builder.info.full_name}, {name} example {number}",
                file=example[keys.samples],
                label=int(example[keys.labels]) if keys.labels else -1,
                split=position,
            )


def _key(folder: Path, options: list[Any]) -> str:
    info = (folder / "dataset_info.json").read_text("utf-8")
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.iterdir())]
    content = json.dumps([str(folder.resolve()), info, files, options])
    return hashlib.sha256(content.encode()).hexdigest()[:32]
