"""Sentences of telephone prompts, one speaker each, 8 kHz, 21 minutes (Debian packages)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_gan.datasets import audio, decoding, sound_files
from keras_gan.datasets.sound_source import Found, SoundOptions, make
from keras_gan.datasets.sound_store import Item, Place
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.errors import UsageError

KIND = audio.KIND
ROOT = Path("/usr/share/asterisk/sounds")
# Folder of the recordings in each language.
SPEAKERS = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
TEST, VALIDATION = 28, 30  # files, in the order of the SHA-256 of their names
HELD_OUT = ("test", "validation")
# Options that a recipe keeps if another folder takes the place of these sounds.
FOLDER_OPTIONS = ("sample_rate", "length", "layout", "normalize", "mel", "samples")


def open(
    *,
    language: str = "en",
    held_out: str = "test",
    sample_rate: int | None = None,
    length: int | None = None,
    layout: str = "windows",
    normalize: str = "none",
    mel: Mapping[str, Any] | None = None,
    samples: str = "wave",
    root: str | os.PathLike[str] = ROOT,
    memory_limit: int = MEMORY_LIMIT,
    cache: str | os.PathLike[str] | None = None,
) -> Source:
    """Opens the sentences of Asterisk's prompts, without digits, letters and silence.

    Debian's package asterisk-core-sounds-en-wav, or that of another language, must be installed.
    The recordings are under CC BY-SA 3.0, those in Italian and Russian under CC BY 3.0. English and
    Spanish are the same speaker. In the order of the SHA-256 of their names, the first 28 sentences
    are test sentences and the next 30 are for validation.

    Args:
        language: `"en"` (358 sentences), `"es"`, `"fr"`, `"it"` or `"ru"`.
        held_out: which sentences are held out, `"test"` or `"validation"`. The others of the two
            are left out, so that neither is ever trained on.
        sample_rate: see `keras_gan.datasets.audio`, as all of the following; by default that of the
            files, 8,000 Hz.
        length: samples of one example.
        layout: `"windows"`, `"one_shot"` or `"auto"`.
        normalize: `"none"`, which keeps the level, or `"peak"`.
        mel: options of the spectrograms, such as `{hop: 64}`.
        samples: `"wave"`, or `"mel"`: the spectrogram that `mel` defines is the sample itself.
        root: folder of the recordings of all languages.
        memory_limit: see `keras_gan.datasets.folder`.
        cache: see there.

    Raises:
        UsageError: a package is not installed, or an option out of range.
    """
    options = SoundOptions(
        sample_rate, length, layout, "center", normalize, 1, mel, samples=samples
    )
    options.check()
    files = _files(language, held_out, Path(os.path.expanduser(root)))
    test, validation = files[:TEST], files[TEST : TEST + VALIDATION]
    held = test if held_out == "test" else validation
    chosen = [*held, *files[TEST + VALIDATION :]]
    items = [
        Item(str(file), lambda file=file: sound_files.opened(file), -1, int(number < len(held)))
        for number, file in enumerate(chosen)
    ]
    left_out = VALIDATION if held_out == "test" else TEST
    other = HELD_OUT[1 - HELD_OUT.index(held_out)]
    lines = [f"{left_out} sentences for {other} left out"]
    found = audio.read_headers(f"asterisk-sounds: {SPEAKERS[language]}", items, False, lines)
    key = decoding.cache_key(chosen, "asterisk")
    split = Found(**{**vars(found), "has_splits": True})
    return make(split, options, Place(False, memory_limit, cache, key))


def _files(language: str, held_out: str, root: Path) -> list[Path]:
    """Returns the sentences in the order of the hashes of their names.

    Raises:
        UsageError: an option out of range, or no files.
    """
    for name, value, valid in (("language", language, SPEAKERS), ("held_out", held_out, HELD_OUT)):
        if value not in valid:
            raise UsageError(f"`{name}` must be {' or '.join(valid)}. Received: {name}={value!r}")
    folder = root / SPEAKERS[language]
    files = sorted(folder.glob("*.wav"), key=lambda f: hashlib.sha256(f.stem.encode()).digest())
    if len(files) <= TEST + VALIDATION:
        raise UsageError(
            f"The sounds of Debian's package asterisk-core-sounds-{language}-wav must be installed "
            f"(apt install asterisk-core-sounds-{language}-wav). Received: {len(files)} files in "
            f"{folder}"
        )
    return files


def folder_source(section: Mapping[str, Any]) -> str:
    """Returns the data set that reads a folder in place of these sounds."""
    return "audio"
