"""Text: token ids `(time,)`, or weights of the tokens `(time, vocabulary)` in [0, 1]."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.errors import UsageError
from serving.kinds import _plots
from serving.kinds._kind import Format, Kind, Lines, Meta
from serving.strict_json import parse_object

# Characters at which readers of text files may end a line.
_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_ESCAPES = {ord(x): f"\\u{ord(x):04x}" for x in _BREAKS}
_LINE_ESCAPES = str.maketrans(_ESCAPES | {"\n": r"\n", "\r": r"\r", "\\": r"\\"})
_ESCAPED = re.compile(r"\\(?:([\\nr])|u([0-9a-f]{4}))")


def string_of(sample: np.ndarray, meta: Meta) -> str:
    """Returns a sample as a string: the most probable token at each step.

    Tokens of one character are joined as they are, longer ones by spaces. Without a vocabulary
    the ids are written as numbers.
    """
    ids = np.argmax(sample, axis=-1) if np.ndim(sample) == 2 else np.asarray(sample, np.int64)
    tokens: list[str] = list(meta.get("vocabulary") or [])
    found = [tokens[i] if 0 <= i < len(tokens) else str(i) for i in ids.tolist()]
    return ("" if tokens and all(len(t) <= 1 for t in tokens) else " ").join(found)


def ids_of(text: str, meta: Meta) -> np.ndarray:
    """Returns the token ids `(time,)` of a string.

    Raises:
        UsageError: a token that the vocabulary does not have.
    """
    tokens: list[str] = list(meta.get("vocabulary") or [])
    parts = list(text) if tokens and all(len(t) <= 1 for t in tokens) else text.split()
    known = {token: i for i, token in enumerate(tokens)}
    for part in parts:
        if part not in known if known else not (part.isascii() and part.isdigit()):
            wanted = f"tokens of the vocabulary of {len(tokens)}" if known else "token ids"
            raise UsageError(f"A text must consist of {wanted}. Received: {part!r:.80}")
    ids = [known[part] if known else int(part) for part in parts]
    return np.array(ids, np.int64)


def _to_text(sample: np.ndarray, meta: Meta, texts: Mapping[str, str]) -> bytes:
    return (string_of(sample, meta) + "\n").encode()


def to_line(text: str) -> str:
    r"""Returns a text on one line: `\n`, `\r`, `\u2028` for line breaks, `\\` for a backslash."""
    return text.translate(_LINE_ESCAPES)


def from_line(line: str) -> str:
    """Returns the text of a line of `to_line`."""
    named = {"n": "\n", "r": "\r", "\\": "\\"}
    return _ESCAPED.sub(lambda found: named.get(found[1]) or chr(int(found[2], 16)), line)


def _line(sample: np.ndarray, meta: Meta, facts: Mapping[str, Any]) -> bytes:
    return to_line(string_of(sample, meta)).encode()


def _file_of_line(line: bytes) -> bytes:
    return (from_line(line.decode("utf-8")) + "\n").encode()


def _json_line(sample: np.ndarray, meta: Meta, facts: Mapping[str, Any]) -> bytes:
    content = json.dumps({**facts, "text": string_of(sample, meta)}, ensure_ascii=False)
    return content.translate(_ESCAPES).encode()  # json escapes the other line breaks itself


def _to_jsonl(sample: np.ndarray, meta: Meta, texts: Mapping[str, str]) -> bytes:
    """Writes one line with the text and, where the provenance has them, its seed and label."""
    facts = {key.lower(): int(texts[key]) for key in ("Seed", "Label") if key in texts}
    return _json_line(sample, meta, facts) + b"\n"


def _from_text(content: bytes, shape: Sequence[int | None], meta: Meta) -> np.ndarray:
    try:
        text = content.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"A text must be UTF-8. Received: {error}") from None
    return _as_sample(text, shape, meta)


def _from_jsonl(content: bytes, shape: Sequence[int | None], meta: Meta) -> np.ndarray:
    try:
        value = json.loads(content, object_pairs_hook=parse_object)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"A line must be a JSON object with text. Received: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise UsageError(f"A line must be a JSON object with text. Received: {value!r:.80}")
    return _as_sample(value["text"], shape, meta)


def _as_sample(text: str, shape: Sequence[int | None], meta: Meta) -> np.ndarray:
    ids = ids_of(text, meta)
    if len(shape) == 1:
        return ids
    size = shape[-1] or len(meta.get("vocabulary") or ()) or int(ids.max(initial=0)) + 1
    if ids.size and int(ids.max()) >= size:
        raise UsageError(f"Token ids must be below {size}. Received: {int(ids.max())}")
    return np.eye(size, dtype=np.float32)[ids]


class Text(Kind):
    """Texts of tokens."""

    axes = ("time", "vocabulary")
    meta = ("vocabulary",)
    value_range = (0.0, 1.0)
    plural = "texts"
    is_distribution = True
    formats = (
        Format("txt", "text/plain", _to_text, _from_text, lines=Lines(_line, _file_of_line)),
        Format(
            "jsonl",
            "application/jsonl",
            _to_jsonl,
            _from_jsonl,
            lines=Lines(_json_line, lambda line: line + b"\n", is_json=True),
        ),
    )

    def check(self, shape: Sequence[int | None], meta: Meta | None = None) -> None:
        if len(shape) == 1:
            shape = (*shape, 1)  # token ids
        super().check(shape, meta)
        tokens = (meta or {}).get("vocabulary")
        if tokens and shape[-1] not in (None, 1, len(tokens)):
            raise UsageError(
                f"`vocabulary` must have one token for each of the {shape[-1]} weights. "
                f"Received: {len(tokens)} tokens"
            )

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        return _plots.text([string_of(sample, meta or {}) for sample in samples])


KIND = Text()
