"""Layouts of folders with pictures of two domains: side by side, or in folders of their own.

A folder's name may say the split (`train`, `val`, `test`), the domain (`A`, `B`, `HR`, `LR`) or
both (`trainA`, `test_B`, `DIV2K_train_HR`). Splits may be above or below the domains.
"""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from keras_gan.datasets.folder_files import Parts
from keras_gan.datasets.folder_layout import HELD_OUT, TRAIN, plain_name, wrapper_depth
from keras_gan.errors import UsageError

SPLITS = ("train", "held_out")
SHOWN = 3  # files in an error


class Role(NamedTuple):
    """Meaning of a folder's name.

    Args:
        split: a word of `TRAIN` or `HELD_OUT`; empty if the name says none.
        domain: name of the domain; empty if the name says none.
    """

    split: str
    domain: str


class Place(NamedTuple):
    """An image with the split and the domain that its folders say.

    Args:
        parts: its path.
        split: as in `Role`.
        domain: likewise.
        key: the folders below those, and the name without its suffix, in Unicode's composed form:
            that of partners is equal.
    """

    parts: Parts
    split: str
    domain: str
    key: Parts


@dataclasses.dataclass(frozen=True)
class Layout:
    """The images of a folder by split and domain.

    Args:
        places: the images by split (`"train"`, `"held_out"`) and domain, in order. The domain is
            empty if no folder says one.
        names: the word of each split in the names of the folders, empty if they say none.
        lines: what was understood, one clause each.
        dropped: one sentence for each group of images that is left out.
    """

    places: dict[str, dict[str, list[Place]]]
    names: dict[str, str]
    lines: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def of(self, split: str, domain: str) -> list[Place]:
        """Returns the images of a domain in a split."""
        return self.places.get(split, {}).get(domain, [])

    def empty_domain(self, split: str) -> str:
        """Returns the numbers of images of both domains in words; "" if both have some."""
        counts = {domain: len(self.of(split, domain)) for domain in ("A", "B")}
        found = " and ".join(f"{count:,} of {domain}" for domain, count in counts.items())
        return "" if all(counts.values()) else found

    @property
    def has_domains(self) -> bool:
        """True if folders say the domains."""
        return any(domain for domains in self.places.values() for domain in domains)


def domain_role(name: str) -> Role | None:
    """Returns the meaning of a name such as `A`, `trainB`, `test_a`, `domainB` or `val`."""
    found = re.fullmatch(r"(.*?)[\W_]*(?:domain)?[\W_]*([ab])", name, re.IGNORECASE)
    rest = plain_name(found[1]) if found else None
    if found and rest in ("", *TRAIN, *HELD_OUT):
        return Role(rest or "", found[2].upper())
    return split_role(name)


def split_role(name: str) -> Role | None:
    """Returns the meaning of a name such as `train` or `Validation`; `None` for other names."""
    plain = plain_name(name)
    return Role(plain, "") if plain in (*TRAIN, *HELD_OUT) else None


_WHOLE = re.compile(r"(low|high)(?:[\W_]*res(?:olution)?)?")  # names of no other words
_LOW = re.compile(r"(?<![a-z])lr(?![a-wyz])")
_HIGH = re.compile(r"(?<![a-z])hr(?![a-wyz])")
_SCALE = re.compile(r"(?:^|[^a-z]|lr)x[\W_]*(\d+)$")


def resolution_role(name: str) -> Role | None:
    """Returns the meaning of a name such as `HR`, `low`, `DIV2K_train_LR_bicubic` or `X4`."""
    lower = name.lower()
    if whole := _WHOLE.fullmatch(lower):
        return Role("", "LR" if whole[1] == "low" else "HR")
    low, high = _LOW.search(lower), _HIGH.search(lower)
    domain = "LR" if low and not high else "HR" if high and not low else ""
    if not domain:
        is_form = _SCALE.search(lower) or lower == "bicubic"
        return Role("", "") if is_form else split_role(name)
    words = re.findall(r"[a-z]+", lower)
    return Role(next((word for word in words if word in (*TRAIN, *HELD_OUT)), ""), domain)


def stem_without(scale: int) -> Callable[[str], str]:
    """Returns a function from a file's name to its stem without endings such as `x4` and `_LR`.

    Args:
        scale: the scale; endings of others stay.
    """
    ending = re.compile(rf"(?:[\W_]*x{scale}|(?:[\W_]+|(?<=\d))[hl]r)+$", re.IGNORECASE)
    return lambda name: ending.sub("", os.path.splitext(name)[0])


def of_scale(files: Sequence[Parts], scale: int) -> tuple[list[Parts], list[str]]:
    """Returns the files that are not below a folder of another scale, and a line about those."""
    kept, scales = [], set()
    for parts in files:
        found = {int(m[1]) for name in parts[:-1] if (m := _SCALE.search(name.lower()))}
        if found and found != {scale} and any(_LOW.search(p.lower()) for p in parts[:-1]):
            scales |= found
        else:
            kept.append(parts)
    line = f"low resolutions of other scales left out: {', '.join(map(str, sorted(scales)))}"
    return kept, [line] if scales else []


def describe(root: Path, files: Sequence[Parts]) -> str:
    """Returns one sentence about folders of two domains that are read as classes.

    Args:
        root: the folder.
        files: its images.

    Returns:
        The sentence with the recipe for them; empty if the folders are not those of two domains.
    """
    for role, domains in ((domain_role, ("A", "B")), (resolution_role, ("HR", "LR"))):
        places = [_locate(each, role) for each in _unwrapped(files, role)]
        counts = Counter(place.domain for place in places)
        if not all(counts[domain] for domain in domains) or counts[""]:
            continue
        if any(
            (name in ("a", "b") or name.lower() in ("low", "high"))
            for parts in files
            for name in parts[:-1]
        ):
            continue  # these may as well be classes
        keys = [
            {(place.split, place.key) for place in places if place.domain == domain}
            for domain in domains
        ]
        recipe, reason = "cyclegan", "whose pictures have no partners of the same names"
        if domains == ("HR", "LR"):
            recipe, reason = "super-resolution", "a high and a low resolution"
        elif keys[0] == keys[1]:
            recipe, reason = "pix2pix", "whose pictures have partners of the same names"
        shown = " and ".join(f"{counts[domain]:,} images of {domain}" for domain in domains)
        return (
            f"Folders of two domains, {reason}, are read as classes. To translate from one to the "
            f"other, use `keras-gan train {recipe} --data {root}`. Received: {shown}"
        )
    return ""


def understand(
    files: Sequence[Parts],
    role: Callable[[str], Role | None] = domain_role,
    stem: Callable[[str], str] | None = None,
) -> Layout:
    """Returns the layout of the images of a folder.

    Args:
        files: their paths.
        role: function from a folder's name to its meaning.
        stem: function from a file's name to what it shares with its partner's; by default the
            name without its suffix.

    Raises:
        UsageError: held-out images without training images.
    """
    places = [_locate(each, role, stem) for each in _unwrapped(files, role)]
    dropped = []
    if any(place.domain for place in places):
        loose = [place for place in places if not place.domain]
        places = [place for place in places if place.domain]
        if loose:
            dropped.append(
                f"Images outside of the folders of the two domains are left out: {len(loose):,}, "
                f"such as {'/'.join(loose[0].parts)}"
            )
    counts = Counter(place.split for place in places)
    trains = [name for name in TRAIN if counts[name]] or ([""] if counts[""] else [])
    held = [name for name in HELD_OUT if counts[name]]
    if not trains:
        raise UsageError(
            "Pictures to train on must be in a folder named train, or in one without a split's "
            f"name. Received: {', '.join(f'{counts[n]:,} of {n}' for n in held)}"
        )
    names: dict[str, str] = dict(zip(SPLITS, (trains[0], *held[:1]), strict=False))
    found: dict[str, dict[str, list[Place]]] = {}
    for split, name in names.items():
        domains: dict[str, list[Place]] = defaultdict(list)
        for place in places:
            if place.split == name:
                domains[place.domain].append(place)
        found[split] = dict(domains)
    others = [f"{name or 'no split'} ({counts[name]:,})" for name in counts.keys() - names.values()]
    if others:
        dropped.append(
            f"Images of other splits than {' and '.join(names.values())} are left out: "
            f"{', '.join(sorted(others))}"
        )
    shown = ", ".join(name for name in names.values() if name)
    return Layout(found, names, (f"splits: {shown}",) if len(names) > 1 else (), tuple(dropped))


def _unwrapped(
    files: Sequence[Parts], role: Callable[[str], Role | None]
) -> list[tuple[Parts, int]]:
    """Returns each path with the number of its folders that hold all files and mean nothing."""
    depth = wrapper_depth(files)
    skipped = 0
    while skipped < depth and role(files[0][skipped]) is None:
        skipped += 1
    return [(parts, skipped) for parts in files]


def _locate(
    given: tuple[Parts, int],
    role: Callable[[str], Role | None],
    stem: Callable[[str], str] | None = None,
) -> Place:
    parts, at = given
    split = domain = ""
    while at < len(parts) - 1:
        meaning = role(parts[at])
        if meaning is None or (split and meaning.split) or (domain and meaning.domain):
            break
        split, domain = split or meaning.split, domain or meaning.domain
        at += 1
    name = stem(parts[-1]) if stem else os.path.splitext(parts[-1])[0]
    # macOS decomposes the accents of names, and other systems do not.
    key = tuple(unicodedata.normalize("NFC", part) for part in (*parts[at:-1], name))
    return Place(parts, split, domain, key)


def match(first: Sequence[Place], second: Sequence[Place], hint: str) -> list[tuple[Place, Place]]:
    """Returns the partners of two domains, which have equal stems, in the order of the first.

    Args:
        first: images of one domain.
        second: images of the other.
        hint: what to do with images without partners, for the error.

    Raises:
        UsageError: images of one stem in a domain, or without a partner; the first three.
    """
    ours, theirs = by_key(first), by_key(second)
    alone = [place for key, place in ours.items() if key not in theirs]
    alone += [place for key, place in theirs.items() if key not in ours]
    if alone:
        raise UsageError(
            "Every picture must have a partner in the other domain, with the same name but for its "
            f"suffix{hint}. Received: {len(alone):,} of {len(first) + len(second):,} without one: "
            f"{listed(alone)}"
        )
    return [(place, theirs[key]) for key, place in ours.items()]


def by_key(places: Sequence[Place]) -> dict[Parts, Place]:
    """Returns the images of a domain by what they share with their partners.

    Raises:
        UsageError: several images with one stem.
    """
    counts = Counter(place.key for place in places)
    repeated = [place for place in places if counts[place.key] > 1]
    if repeated:
        raise UsageError(
            "The names of a domain's pictures must differ in more than their suffix. "
            f"Received: {len(repeated):,} that do not: {listed(repeated)}"
        )
    return {place.key: place for place in places}


def describe_direction(layout: Layout, swapped: bool) -> str:
    """Returns the direction of a translation and the folders of its input and target, in words."""
    names = ["left half", "right half"]
    if layout.has_domains:
        first = [layout.of("train", domain)[0] for domain in ("A", "B")]
        names = ["/".join(place.parts[: len(place.parts) - len(place.key)]) for place in first]
    before, after = reversed(names) if swapped else names
    return f"{'b_to_a' if swapped else 'a_to_b'} (input: {before}, target: {after})"


def listed(places: Iterable[Place]) -> str:
    """Returns the paths of the first three images in words."""
    paths = ["/".join(place.parts) for place in places]
    return ", ".join(paths[:SHOWN]) + ", ..." * (len(paths) > SHOWN)
