"""Data that a run or bundle was trained on, as its files record it."""

from __future__ import annotations

import os
import pathlib
import warnings
from typing import Any

import numpy as np
import yaml

from keras_gan import data_record, datasets, places
from keras_gan import run as runs
from keras_gan.errors import UsageError
from keras_gan.games.gan import GAN
from keras_gan.metrics.generators import read_manifest
from keras_gan.metrics.samples import Samples
from serving import manifest as manifests
from serving.bundle_folder import hint, is_bundle, is_run

_OF_A_RUN = ("checkpoints", "recipe.yaml")


def locate(source: Any, checkpoint: str) -> tuple[Any, str]:
    """Returns the run or bundle that a path stands for, with the checkpoint; others unchanged.

    A folder of a bundle's versions stands for the latest one, and the checkpoints and the recipe
    of a run for the run. Other files and folders in a run may be samples themselves.
    """
    if not isinstance(source, str | os.PathLike):
        return source, checkpoint
    path = pathlib.Path(os.path.expanduser(source))
    latest = path / "latest"
    if is_bundle(latest):
        return latest.resolve(), checkpoint  # so that all reads see the same version
    if path.name in (manifests.FILE_NAME, manifests.MODEL) and path.is_file():
        return path.parent, checkpoint
    if path.name in (*_OF_A_RUN, *places.CHOSEN) or path.suffix == ".keras":
        place = places.find_run(path)
        if place is not None:
            return place.folder, place.choose(checkpoint)
    if not path.exists() and not datasets.exists(source):
        raise UsageError(
            "The samples to evaluate must be a run, a bundle, a folder of pictures, an .npz, .npy "
            f"or .csv file, or a data set's name. Received: source={os.fspath(source)!r}, which as "
            f"a path does not exist{hint(source, is_run)}"
        )
    return source, checkpoint


def data_to_compare(
    source: Any, data: Any, options: dict[str, Any] | None
) -> tuple[Any, dict[str, Any] | None]:
    """Returns the data to compare with and its options, by default what the source was trained on.

    Data that have moved get the options that the source records, if their content is the same.

    Raises:
        UsageError: a source or data of the wrong type, options of data that take none, or no data
            for a source that records none.
    """
    _check_type("source", source, (GAN, Samples))
    if data is not None:
        _check_type("data", data, (datasets.Source,))
    if isinstance(data, np.ndarray | tuple | datasets.Source) and options:
        raise UsageError(
            f"data_options apply only to data by name or path. Received: data_options={options}"
        )
    recorded = _recipe_data(source)
    if data is not None:
        if isinstance(data, str | os.PathLike) and recorded:
            section = datasets.with_folder(recorded, os.fspath(data))
            if "path" in section:  # the recorded data set reads folders, and this is another one
                return section.pop("source"), {**section, **(options or {})}
        if isinstance(data, str | os.PathLike) and not options and recorded:
            return data, _options_of_moved(source, os.fspath(data), recorded)
        return data, options
    if recorded is None:
        is_path = isinstance(source, str | os.PathLike)
        inside = hint(source, is_run) if is_path and os.path.isdir(source) else ""
        raise UsageError(
            "The data to compare with must be named, with --data or data=...; only runs and "
            f"bundles record what they were trained on. Received: source={str(source)!r:.80}"
            f"{inside}"
        )
    data_record.check_place(datasets.place_of(recorded), str(source))
    return recorded.pop("source"), {**recorded, **(options or {})}


def _options_of_moved(source: Any, data: str, recorded: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the recorded options for data that are the recorded ones in a new place."""
    described = _recorded_data(source) or {}
    options = {key: value for key, value in recorded.items() if key != "source"}
    if not options or datasets.exists(datasets.place_of(recorded)[1]):
        return None
    if not described.get("digest"):
        return None
    try:
        now = data_record.describe_data(datasets.open(data, **options))
    except UsageError:  # data of another form, to which the options do not apply
        return None
    return None if data_record.data_differences(described, now) else options


def _check_type(name: str, value: Any, kinds: tuple[type, ...]) -> None:
    is_pair = isinstance(value, tuple) and len(value) == 2
    if not is_pair and not isinstance(value, (str, os.PathLike, np.ndarray, *kinds)):
        others = "".join(f", a {kind.__name__}" for kind in kinds)
        line = " ".join(repr(value).split())
        raise UsageError(
            f"{name} must be a name or path, an array, a pair (samples, labels) of arrays{others}. "
            f"Received: {line:.80}"
        )


def _recipe_data(source: Any) -> dict[str, Any] | None:
    """Returns the data section of the recipe in a run or bundle."""
    if not isinstance(source, str | os.PathLike):
        return None
    path = pathlib.Path(os.path.expanduser(source))
    if (path / "recipe.yaml").is_file():
        try:
            return dict(runs.Run.open(path).record["data"])
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise UsageError(
                f"A run must record its recipe. Received: {path}: {' '.join(str(error).split())}"
            ) from error
    if (path / "manifest.json").is_file():
        training = read_manifest(path).get("training") or {}
        return dict(training.get("recipe", {}).get("data", {})) or None
    return None


def as_trained(source: Any, opened: datasets.Source) -> datasets.Source:
    """Returns data in the reading with which the source was trained, if that was an earlier one."""
    recorded = _recorded_data(source)
    if not recorded or not recorded.get("digest"):
        return opened
    return data_record.as_recorded(recorded, opened)


def check_training_data(
    source: Any, opened: datasets.Source, data: Any, by_default: bool, split: str
) -> None:
    """Checks that held-out samples were held out when the source was trained.

    Args:
        source: the samples' source.
        opened: the data to compare with.
        data: its name or path, if it has one.
        by_default: whether this is the data that the source records, with its options.
        split: the split to compare with.

    Raises:
        UsageError: the recorded data differ from what is now there under their name.

    Warns:
        UserWarning: the named data are not those of the training, so that the split to compare
            with may have been trained on.
    """
    recorded = _recorded_data(source)
    if recorded is None:
        return
    differences: list[str] = []
    if recorded.get("digest"):
        known = {key: recorded[key] for key in ("counts", "digest") if key in recorded}
        differences = data_record.data_differences(known, data_record.describe_data(opened))
        same = not differences
    else:  # a bundle that records only the name
        is_named = not by_default and isinstance(data, str | os.PathLike)
        same = not is_named or os.fspath(data) == recorded.get("source")
    if same:
        return
    if by_default:
        raise UsageError(
            f"A run is evaluated on the data it was trained on, {recorded['description']}; name "
            "other data with --data or data=.... "
            f"Received: {opened.description}, which differs in {' and '.join(differences)}"
        )
    if split == "held_out" and isinstance(data, str | os.PathLike):
        trained = recorded.get("description") or recorded.get("source")
        reason = f", which differs in {' and '.join(differences)}" if differences else ""
        warnings.warn(
            f"The generator was trained on other data ({trained}) than it is compared with "
            f"({opened.description}){reason}: samples held out here may have been trained on",
            stacklevel=4,
        )


def _recorded_data(source: Any) -> dict[str, Any] | None:
    """Returns what a run or bundle records: `description` and `digest`, or only `source`."""
    if not isinstance(source, str | os.PathLike):
        return None
    path = pathlib.Path(os.path.expanduser(source))
    if (path / "recipe.yaml").is_file():
        return runs.Run(path).data
    if (path / "manifest.json").is_file():
        training = read_manifest(path).get("training") or {}
        return training.get("data") or training.get("recipe", {}).get("data")
    return None
