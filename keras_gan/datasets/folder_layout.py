"""Layouts of a folder: which of its subfolders are splits, and which are classes."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from keras_gan.datasets.classes import natural_key
from keras_gan.datasets.folder_files import Parts, Wanted, check_folder, find
from keras_gan.errors import UsageError

TRAIN = ("train", "training", "trn")
# The first of these that exists is held out.
HELD_OUT = ("heldout", "holdout", "test", "testing", "tst", "validation", "valid", "val")
HELD_OUT += ("dev", "eval", "evaluation")
_FILLERS = ("set", "data", "dataset", "images", "imgs", "split", "folder", "seg")
_PARTS = "fold|split|part|partition|subset|batch|chunk|shard"
_SHOWN = 5  # classes in a line
_EARLIER_HELD_OUT = ("held_out", "test", "validation", "valid", "val")  # of version 0.1.0


@dataclasses.dataclass(frozen=True)
class Layout:
    """The images of a folder with their splits and classes.

    Args:
        files: paths of the images that are used, in order.
        split_of: position of each image's split: 0 for training, 1 for held out.
        label_of: class id of each image, or -1.
        classes: names of the classes.
        has_splits: whether the folder has a split that is held out.
        lines: what was understood, one clause each.
        dropped: one sentence for each group of images that is left out, or may be meant otherwise.
    """

    files: list[Parts]
    split_of: list[int]
    label_of: list[int]
    classes: tuple[str, ...]
    has_splits: bool
    lines: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def read(
    root: Path, wanted: Wanted, labels: bool, skip_errors: bool, stacklevel: int
) -> tuple[Layout, str]:
    """Returns the layout of the files of a folder, and its other files in words; warns of the rest.

    Args:
        root: the folder.
        wanted: the files that are looked for.
        labels: whether subfolders are classes.
        skip_errors: whether folders that cannot be read are skipped.
        stacklevel: of the warnings, for the caller.

    Raises:
        UsageError: no folder, a run, one that cannot be read or that holds none of the files, or
            files both in class folders and beside them.
    """
    check_folder(root, wanted.noun)
    found = find(root, skip_errors, wanted)
    if not found.images:
        raise UsageError(
            f"A folder of {wanted.noun} must hold {wanted.examples}. Received: none in {root}"
            + (f", which holds {found.line}" if found.line else "")
        )
    layout = understand(root, found.images, labels, noun=wanted.noun)
    for line in layout.dropped:
        warnings.warn(line, stacklevel=stacklevel + 1)
    return layout, found.line


def understand(
    root: Path, files: Sequence[Parts], labels: bool, domains: str = "", noun: str = "images"
) -> Layout:
    """Returns the layout of the images of a folder.

    Subfolders named as splits (`train`, `Training_Set`, `test`, `val`, ...) are splits, and so are
    all subfolders if their names differ in the split alone (`x_train`, `x_test`). Below them, and
    below folders that are alone in theirs, the subfolders are the classes.

    Args:
        root: the folder, for errors.
        files: paths of the images relative to it, in order.
        labels: whether subfolders are classes.
        domains: a sentence about folders of two domains, if they are such; see
            `pair_layout.describe`.
        noun: plural noun for the files, for messages.

    Raises:
        UsageError: training images both in class folders and beside them.
    """
    base = wrapper_depth(files)
    tops = Counter(parts[base] for parts in files if len(parts) > base + 1)
    train, held_out = _roles([parts[base:] for parts in files], list(tops))
    if held_out is None:
        inner = [parts[base:] for parts in files]
        place = root.joinpath(*files[0][:base])
        classes = _classes(place, inner, noun) if labels else ()
        ids = {name: number for number, name in enumerate(classes)}
        label_of = [ids[parts[0]] if classes else -1 for parts in inner]
        said = (domains,) if domains and classes else _perhaps_splits(classes, noun)
        return Layout(list(files), [0] * len(files), label_of, classes, False, (), said)
    dropped = [domains] if domains and labels else []
    others = [name for name in sorted(tops) if name not in (train, held_out)]
    loose = sum(len(parts) == base + 1 for parts in files)
    if others or loose:
        names = [f"{name} ({tops[name]:,})" for name in others]
        dropped.append(_left_out(names, loose, noun))
    parts_of = {
        name: [parts for parts in files if len(parts) > base + 1 and parts[base] == name]
        for name in (train, held_out)
    }
    depth = base + 1 + wrapper_depth([parts[base + 1 :] for parts in parts_of[train]])
    classes: tuple[str, ...] = ()
    if labels:
        classes = _classes(root / str(train), [parts[depth:] for parts in parts_of[train]], noun)
    chosen = [(parts, 0, depth) for parts in parts_of[train]]
    chosen += _held_out(parts_of[held_out], base + 1, classes, f"{noun} in {held_out}", dropped)
    ids = {name: number for number, name in enumerate(classes)}
    chosen.sort(key=lambda item: item[0])
    counts = Counter(split for _, split, _ in chosen)
    shown = [f"{name} ({counts[at]:,})" for at, name in enumerate((train, held_out)) if counts[at]]
    return Layout(
        files=[parts for parts, _, _ in chosen],
        split_of=[split for _, split, _ in chosen],
        label_of=[ids[parts[at]] if classes else -1 for parts, _, at in chosen],
        classes=classes,
        has_splits=counts[1] > 0,
        lines=(f"splits: {', '.join(shown)}",),
        dropped=tuple(dropped),
    )


def _left_out(folders: list[str], loose: int, noun: str) -> str:
    """Returns a sentence about files beside the splits."""
    names = [*folders, *([f"{loose:,} {noun} beside the splits"] if loose else [])]
    return f"{noun.capitalize()} of other folders than the splits are left out: {', '.join(names)}"


def _perhaps_splits(classes: Sequence[str], noun: str) -> tuple[str, ...]:
    """Returns a sentence for classes with names of splits that do not belong together for sure."""
    rests: dict[bool, set[str]] = {True: set(), False: set()}  # of names of training splits, others
    for name in classes:
        form, rest = _split_words(name)
        if form:
            rests[form in TRAIN].add(rest)
    named = rests[True] and rests[False] and all(_split_words(name)[0] for name in classes)
    are_splits = named and ("" in rests[True] | rests[False] or rests[True] & rests[False])
    if not (are_splits or _are_numbered(classes)):
        return ()
    return (
        "Subfolders are classes unless their names are those of a training and a held-out split. "
        f"If these are splits, name two of them train and test, or read all {noun} without classes "
        f"by labels=false (--set data.labels=false). Received: {len(classes)} classes, "
        f"{', '.join(classes[:_SHOWN])}{', ...' * (len(classes) > _SHOWN)}",
    )


def _are_numbered(classes: Sequence[str]) -> bool:
    """Returns whether names are those of parts of one set, such as `fold1`, `fold2`, `fold3`."""
    numbers, rests = [], set()
    for name in classes:
        found = re.fullmatch(rf"(.*?)({_PARTS})([\W_]*)(\d+)", name.lower())
        if found is None or (found[1] and found[1][-1].isalpha()):
            return False
        numbers.append(int(found[4]))
        rests.add(found.group(1, 2, 3))
    numbers.sort()
    return (
        len(numbers) > 1
        and len(rests) == 1
        and numbers
        in (
            list(range(len(numbers))),
            list(range(1, len(numbers) + 1)),
        )
    )


def understand_earlier(root: Path, files: Sequence[Parts], labels: bool) -> Layout:
    """Returns the layout as version 0.1.0 understood it."""
    tops = {parts[0] for parts in files if len(parts) > 1}
    held_out = next((name for name in _EARLIER_HELD_OUT if name in tops), None)
    roots: tuple[str, ...] = ()
    if "train" in tops and held_out is not None:
        roots = ("train", held_out)
        files = [parts for parts in files if len(parts) > 1 and parts[0] in roots]
    inner = [parts[1:] if roots else parts for parts in files]
    classes = tuple(sorted(_classes(root, inner, "images"))) if labels else ()
    return Layout(
        files=list(files),
        split_of=[roots.index(parts[0]) if roots else 0 for parts in files],
        label_of=[classes.index(parts[0]) if classes else -1 for parts in inner],
        classes=classes,
        has_splits=bool(roots),
    )


def wrapper_depth(files: Sequence[Parts]) -> int:
    """Returns the number of folders, one in the other, that hold all of the files."""
    depth = 0
    while files and all(len(parts) > depth + 1 for parts in files):
        if len({parts[depth] for parts in files}) > 1:
            break
        depth += 1
    return depth


def _split_words(name: str) -> tuple[str, str]:
    """Returns the name of a split in a folder's name, and its other words; "" without a split."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)  # xTrain
    spaced = re.sub(r"(hold|held)[\W_]*out", r"\1out", spaced.lower())
    # Joined words are split at the end of a name only after x or before a word such as "set".
    words = [re.sub(rf"({'|'.join(_FILLERS)})$", "", w) or w for w in re.findall(r"[a-z]+", spaced)]
    words = [part for w in words for part in re.sub(r"^([xy])(?=tr|te|va)", r"\1 ", w).split()]
    forms = [word for word in words if word in TRAIN + HELD_OUT]
    rest = " ".join(word for word in words if word not in (*forms, *_FILLERS))
    return (forms[0], rest) if len(forms) == 1 else ("", "")


def plain_name(name: str) -> str:
    """Returns a folder's name in lower case, without separators and words such as "set"."""
    words = re.findall(r"[a-z]+", re.sub(r"(hold|held)[\W_]*out", r"\1out", name.lower()))
    kept = "".join(word for word in words if word not in _FILLERS)
    return re.sub(rf"({'|'.join(_FILLERS)})$", "", kept) or kept


def _roles(files: Iterable[Parts], tops: Sequence[str]) -> tuple[str | None, str | None]:
    """Returns the names of the training and of the held-out folder; `None` without splits."""
    plain = {name: plain_name(name) for name in sorted(tops)}
    trains = [name for form in TRAIN for name in sorted(tops) if plain[name] == form]
    # Of `train_100` and `train_360` nobody knows that only one is to be used.
    numbered = len(trains) > 1 and all(re.search(r"\d", name) for name in trains)
    train = trains[0] if trains and not numbered else None
    held = [name for form in HELD_OUT for name in sorted(tops) if plain[name] == form]
    if train is not None and held:
        return train, held[0]
    # All names have the same words beside the split's: `x_train`, `x_test`. Digits are no words.
    words = {name: _split_words(name) for name in sorted(tops)}
    splits = [form for form, _ in words.values()]
    alike = len({rest for _, rest in words.values()}) == 1
    if alike and all(splits) and len(set(splits)) == len(splits):
        forms = [
            next((n for form in of for n in words if words[n][0] == form), None)
            for of in (TRAIN, HELD_OUT)
        ]
        if None not in forms:
            return forms[0], forms[1]
    # One of two folders is named as a split: if both have the same subfolders, so is the other.
    if len(tops) == 2 and (train is not None or held):
        below = [
            {parts[1] for parts in files if len(parts) > 2 and parts[0] == name} for name in tops
        ]
        if below[0] == below[1] and len(below[0]) > 1:
            known = train or held[0]
            other = next(name for name in tops if name != known)
            return (known, other) if train is not None else (other, known)
    return None, None


def _held_out(
    files: Sequence[Parts], base: int, classes: Sequence[str], which: str, dropped: list[str]
) -> list[tuple[Parts, int, int]]:
    """Returns the held-out images with the depth of their class folders.

    Images of classes that are not trained on are left out, with a line in `dropped`.
    """
    depth = base + wrapper_depth([parts[base:] for parts in files])
    if not classes:
        return [(parts, 1, depth) for parts in files]
    depth = next((at for at in range(base, depth + 1) if _has(files, at, classes)), base)
    kept = [parts for parts in files if len(parts) > depth + 1 and parts[depth] in classes]
    missing = Counter(
        parts[depth] if len(parts) > depth + 1 else "no folder"
        for parts in files
        if len(parts) <= depth + 1 or parts[depth] not in classes
    )
    if missing:
        names = ", ".join(f"{key} ({count:,})" for key, count in sorted(missing.items())[:5])
        dropped.append(
            f"{missing.total():,} of {len(files):,} {which} are left out, as their class is not "
            f"among those to train on: {names}"
        )
    return [(parts, 1, depth) for parts in kept]


def _has(files: Sequence[Parts], depth: int, classes: Sequence[str]) -> bool:
    return any(len(parts) > depth + 1 and parts[depth] in classes for parts in files)


def _classes(root: Path, files: Sequence[Parts], noun: str) -> tuple[str, ...]:
    """Returns the names of the subfolders with files, if there are at least two."""
    classes = sorted({parts[0] for parts in files if len(parts) > 1}, key=natural_key)
    if len(classes) < 2:
        return ()
    loose = [parts[0] for parts in files if len(parts) == 1]
    if loose:
        raise UsageError(
            f"{noun.capitalize()} must be either all in class folders or all in one folder; "
            f"labels=false reads all of them, without classes. Received: {root} with "
            f"{len(classes)} folders of {noun} and {len(loose)} {noun} beside them, such as "
            f"{loose[0]}"
        )
    return tuple(classes)
