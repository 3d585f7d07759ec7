"""The data set of some sounds: sampling rate, length, split, windows, and the report."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_gan.arguments import check_integer, is_integer
from keras_gan.datasets import decoding
from keras_gan.datasets.sound_clips import NORMALIZE, ClipOptions
from keras_gan.datasets.sound_store import Clips, Item, Place, Store, read_all
from keras_gan.datasets.sound_windows import (
    LONGEST,
    WINDOW,
    Plan,
    Spectrograms,
    Windows,
    bounds,
    cut_windows,
    place_clips,
    spectrograms,
    to_cuts,
)
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import (
    Split,
    compile_pattern,
    digests_of,
    divide,
    match_pattern,
    refuse_groups,
    without_copies,
)
from keras_gan.errors import UsageError
from keras_gan.registry import check_names
from keras_gan.spec import Field, Spec, label_field
from serving.mel import Mel
from serving.resample import HIGHEST_RATE

HIGHEST_CHOSEN = 16_000  # Hz, of a sampling rate that is not given
LAYOUTS = ("auto", "one_shot", "windows")
ALIGN = ("center", "start")
SPLIT_BY = ("file", "folder")
SAMPLES = ("wave", "mel")
_SHOWN = 3  # names in a line


@dataclasses.dataclass(frozen=True)
class SoundOptions:
    """Options that all data sets of sound have, see `audio.open`."""

    sample_rate: int | None = None
    length: int | None = None
    layout: str = "auto"
    align: str = "center"
    normalize: str = "peak"
    channels: int = 1
    mel: Mapping[str, Any] | None = None
    held_out: float | None = None
    split_by: str = "file"
    group_pattern: str | None = None
    samples: str = "wave"

    def check(self) -> None:
        """Checks all options that do not depend on the sounds.

        Raises:
            UsageError: an option out of range.
        """
        if self.sample_rate is not None and not (
            is_integer(self.sample_rate) and self.sample_rate <= HIGHEST_RATE
        ):
            raise UsageError(
                f"`sample_rate` must be a whole number of Hz from 1 to {HIGHEST_RATE}. "
                f"Received: sample_rate={self.sample_rate!r}"
            )
        if self.length is not None:
            check_integer("length", self.length, 2)
        for name, valid in (
            ("layout", LAYOUTS),
            ("align", ALIGN),
            ("normalize", NORMALIZE),
            ("channels", (1, 2)),
            ("split_by", SPLIT_BY),
            ("samples", SAMPLES),
        ):
            value = getattr(self, name)
            if value not in valid or isinstance(value, bool):
                raise UsageError(
                    f"`{name}` must be {' or '.join(map(str, valid))}. Received: {name}={value!r}"
                )
        compile_pattern(self.group_pattern)
        if self.mel is None:
            if self.samples == "mel":
                raise UsageError(
                    "`samples=mel` needs the definition of the spectrograms, such as mel: "
                    "{hop: 64}. Received: samples='mel', mel=None"
                )
            return
        # Without a sampling rate, the other values are checked when that of the data is known.
        definition = self.definition(self.sample_rate) if self.sample_rate else None
        hop = definition.hop if definition else self._mel_options().get("hop", Mel.hop)
        if self.channels != 1:
            raise UsageError(
                f"`mel` needs one channel. Received: channels={self.channels}, mel={self.mel!r}"
            )
        if self.length is not None and is_integer(hop) and self.length % hop:
            raise UsageError(
                f"`length` must be a multiple of the hop of `mel`, {hop}. "
                f"Received: length={self.length}"
            )

    def definition(self, rate: int) -> Mel | None:
        """Returns the definition of the spectrograms at a sampling rate; `None` without them."""
        return None if self.mel is None else Mel(sample_rate=rate, **self._mel_options())

    def _mel_options(self) -> dict[str, Any]:
        """Returns the options of the spectrograms, with names that exist."""
        if not isinstance(self.mel, Mapping):
            raise UsageError(
                "`mel` must be a mapping of options of a mel definition, such as {hop: 64}. "
                f"Received: mel={self.mel!r}"
            )
        if "sample_rate" in self.mel:
            raise UsageError(
                "`mel` must not name a sampling rate, which is that of the data, `sample_rate`. "
                f"Received: mel={dict(self.mel)!r}"
            )
        check_names(Mel, dict(self.mel), "`mel`", skip=("sample_rate",))
        return dict(self.mel)


@dataclasses.dataclass(frozen=True)
class Found:
    """Sounds that were found, before they are decoded.

    Args:
        name: name of the data set and where it is from, for the description.
        items: the sounds.
        headers: sampling rate and number of samples of each.
        classes: names of the classes.
        has_splits: whether the items have a split that is held out.
        lines: clauses for the description.
        damaged: one line for each file whose header could not be read.
        drop_copies: whether sounds that equal an earlier one are left out.
    """

    name: str
    items: Sequence[Item]
    headers: Sequence[tuple[int, int]]
    classes: tuple[str, ...] = ()
    has_splits: bool = False
    lines: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    drop_copies: bool = False


def make(found: Found, options: SoundOptions, place: Place) -> Source:
    """Decodes sounds and returns their data set.

    Raises:
        UsageError: damaged files, no sound that can be used, or options that do not fit them.
    """
    options.check()
    if found.has_splits:
        folder = options.split_by if options.split_by != "file" else None
        refuse_groups("sounds", split_by=folder, group_pattern=options.group_pattern)
    rate = options.sample_rate or _usual_rate(found.headers)
    mel = options.definition(rate)
    form = ClipOptions(rate, options.channels, options.normalize)
    capacity = sum(-(-frames * rate // of) for of, frames in found.headers)
    place = dataclasses.replace(place, key=f"{place.key}-{rate}-{form.channels}-{form.normalize}")
    store = read_all(found.items, capacity, form, place)
    if not len(store):
        reasons = [*store.skipped, *(f"{name}: silent" for name in store.silent)]
        raise UsageError(
            "Sounds must be readable and not silent. Received: 0 of "
            f"{len(found.items) + len(found.damaged):,}; {_shown([*found.damaged, *reasons])}"
        )
    plan = _plan(store, options, mel)
    rows, short = _long_enough(store, plan)
    if found.drop_copies:
        clips: Any = Clips(store)
        rows = rows[np.sort(np.unique(digests_of(clips, rows), return_index=True)[1])]
    labels = np.array([item.label for item in found.items], np.int32)[store.column("item")]
    divided, grouped = _divide(store, rows, found, options)
    windows = {
        name: place_clips(store, part, plan)
        if plan.one_shot
        else cut_windows(store, part, plan, dense=name == "train")
        for name, part in divided.items()
    }
    made = spectrograms(store, plan, plan.mel, place) if plan.mel else None
    splits = {
        name: _to_split(store, of, plan, made, labels if found.classes else None, options)
        for name, of in windows.items()
        if len(of.clips)
    }
    if "train" not in splits:
        raise UsageError(
            f"Sounds must have windows that are not silent. Received: {len(store):,} sounds "
            f"without such windows of {plan.length:,} samples"
        )
    lines = [
        _count_line(store, divided, windows, plan),
        *found.lines,
        *grouped,
        *_report(store, found, plan, windows),
        *([f"{short:,} shorter than a window left out"] if short else []),
    ]
    skipped = [*found.damaged, *store.skipped, *(f"{name}: silent" for name in store.silent)]
    spec = _spec(plan, rate, options, found.classes)
    return Source(
        spec, splits, "; ".join([f"{found.name}, {lines[0]}", *lines[1:]]), skipped=skipped
    )


def _usual_rate(headers: Sequence[tuple[int, int]]) -> int:
    """Returns the commonest sampling rate, at most 16 kHz."""
    counts = collections.Counter(rate for rate, _ in headers)
    most = max(counts.values(), default=0)
    return min(HIGHEST_CHOSEN, max((r for r, n in counts.items() if n == most), default=8_000))


# ------------------------------------------------------------------------ layout


def _plan(store: Store, options: SoundOptions, mel: Mel | None) -> Plan:
    """Chooses layout and length where they are not given."""
    grain = mel.hop if mel else 1
    trimmed = np.diff(bounds(store, True), axis=1)[:, 0]
    usual = int(np.ceil(np.percentile(trimmed, 95)))
    layout = options.layout
    if layout == "auto":
        layout = "one_shot" if usual <= (options.length or LONGEST) else "windows"
    if options.length is not None:
        length = options.length
    elif layout == "one_shot":
        length = min(LONGEST, 1 << (max(2, usual) - 1).bit_length())
        length = -(-length // grain) * grain
    else:
        median = int(np.median(store.column("count")))
        length = min(WINDOW, 1 << max(1, median.bit_length() - 1))
        length = max(1, length // grain) * grain
    return Plan(layout == "one_shot", length, options.align, mel)


def _long_enough(store: Store, plan: Plan) -> tuple[np.ndarray, int]:
    """Returns the clips that are as long as a window, and the number of the others."""
    rows = np.arange(len(store))
    if plan.one_shot:
        return rows, 0
    counts = store.column("count")
    fits = counts >= plan.length
    if not fits.any():
        raise UsageError(
            "`length` must be at most the number of samples of the longest sound, "
            f"{counts.max():,}; layout=one_shot pads short ones. Received: length={plan.length}"
        )
    return rows[fits], int((~fits).sum())


def _spec(plan: Plan, rate: int, options: SoundOptions, classes: tuple[str, ...]) -> Spec:
    shape = (plan.length, options.channels)
    fields = {"samples": Field("audio", shape, meta={"sample_rate": rate})}
    if classes:
        fields["labels"] = label_field(len(classes), classes)
    if plan.mel:
        shape = (plan.length // plan.grain, plan.mel.mels)
        name = "samples" if options.samples == "mel" else "mel"
        fields[name] = Field("mel", shape, meta={"mel": plan.mel.to_meta()})
    return Spec(fields=fields)


def _to_split(
    store: Store,
    windows: Windows,
    plan: Plan,
    made: Spectrograms | None,
    labels: np.ndarray | None,
    options: SoundOptions,
) -> Split:
    samples: Any = to_cuts(store, windows, plan)
    others: dict[str, Any] = {"mel": made.cut(windows, plan)} if made else {}
    if options.samples == "mel":
        samples, others = others["mel"], {}
    own = None if labels is None else labels[windows.clips]
    apart = None if plan.one_shot else windows.apart
    return Split(samples, own, None, True, others, apart=apart)


# ------------------------------------------------------------------------ split


def _divide(
    store: Store, rows: np.ndarray, found: Found, options: SoundOptions
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the clips of each split: files or groups of files as a whole, never parts of one."""
    clips: Any = Clips(store)
    items = store.column("item")[rows]
    if found.has_splits:
        of = np.array([item.split for item in found.items])[items]
        splits = {
            name: Split(clips, None, rows[of == number])
            for number, name in enumerate(decoding.SPLITS)
        }
        divide(splits, options.held_out, "sounds")
        return {name: part.row_numbers for name, part in without_copies(splits).items()}, []
    groups = _groups(found, items, options)
    splits = divide({"train": Split(clips, None, rows)}, options.held_out, "sounds", groups)
    lines = []
    if groups is not None:
        count = len(set(groups))
        lines = [f"files of one group, of {count:,}, are kept together"]
    return {name: part.row_numbers for name, part in splits.items()}, lines


def _groups(found: Found, items: np.ndarray, options: SoundOptions) -> np.ndarray | None:
    """Returns the name of the group of each clip; `None` if each is a group."""
    of = [found.items[number] for number in items]
    pattern = compile_pattern(options.group_pattern)
    if pattern is not None:
        return np.array([match_pattern(pattern, item.name) for item in of])
    if options.split_by == "file":
        return np.array([i.group for i in of]) if all(i.group for i in of) else None
    folders = np.array([os.path.dirname(item.name) for item in of])
    classes = {item.label for item in of}
    if len(set(folders)) < 2 or (found.classes and len(set(folders)) == len(classes)):
        raise UsageError(
            "split_by='folder' needs sounds in two or more folders that are not the classes, such "
            f"as one for each speaker. Received: {len(set(folders))} folders and "
            f"{len(found.classes)} classes"
        )
    return folders


# ------------------------------------------------------------------------ report


def _count_line(
    store: Store, clips: Mapping[str, np.ndarray], windows: Mapping[str, Windows], plan: Plan
) -> str:
    rate = store.options.rate
    counts = " + ".join(f"{len(part):,}" for part in clips.values())
    text = f"{counts} sounds ({_seconds(int(store.column('count').sum()), rate)}) at {rate:,} Hz"
    one = f"{plan.length:,} samples ({plan.length / rate:.3g} s)"
    if plan.one_shot:
        used = np.diff(bounds(store, True), axis=1)[:, 0]
        cut = int((used > plan.length).sum())
        lost = np.maximum(0, used - plan.length).sum() / used.sum()
        return f"{text}, each as {one}" + (
            f", {cut:,} cut ({lost:.1%} of the sound)" if cut else ""
        )
    shown = " + ".join(f"{len(of.clips):,}" for of in windows.values())
    return f"{text}, in windows of {one}, {shown} of them"


def _report(store: Store, found: Found, plan: Plan, windows: Mapping[str, Windows]) -> list[str]:
    """Returns clauses on rates, silence, clipping, duplicates, and what was left out."""
    lines = []
    rates = collections.Counter(store.column("source_rate").tolist())
    if set(rates) != {store.options.rate}:
        each = ", ".join(f"{rate:,} Hz ({n:,})" for rate, n in rates.most_common(_SHOWN + 2))
        lines.append(f"resampled from {each}")
    silent = store.column("silent").sum() / store.column("count").sum()
    lines.append(f"{silent:.1%} silence")
    clipped = store.column("clipped").sum() / store.column("values").sum()
    if clipped >= 5e-5:
        lines.append(f"{clipped:.2%} clipped")
    clips: Any = Clips(store)
    copies = len(store) - len(np.unique(digests_of(clips, range(len(store)))))
    if copies:
        lines.append(f"{copies:,} duplicates" + (" left out" if found.drop_copies else ""))
    if windows["train"].quiet >= 5e-4:
        lines.append(f"{windows['train'].quiet:.1%} of the windows left out as quiet")
    names = [found.items[number].name for number in store.column("item")]
    for column, text in (
        ("opposite", "with channels that cancel each other, of which the loudest is read"),
        ("missing", "truncated, read as far as they go"),
    ):
        rows = np.flatnonzero(store.column(column))
        if len(rows):
            lines.append(f"{len(rows):,} {text} ({_shown([names[row] for row in rows])})")
    damaged = [*found.damaged, *store.skipped]
    for files, text in ((damaged, "damaged files skipped"), (store.silent, "silent ones left out")):
        if files:
            lines.append(f"{len(files):,} {text} ({_shown(files)})")
    if isinstance(store.samples, np.memmap):
        lines.append("kept in the cache folder")
    return lines


def _seconds(count: int, rate: int) -> str:
    seconds = count / rate
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} minutes"


def _shown(lines: Sequence[str]) -> str:
    return "; ".join([*lines[:_SHOWN], *(["..."] if len(lines) > _SHOWN else [])])
