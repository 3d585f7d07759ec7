"""Text: token ids `(time,)`, or weights of the tokens `(time, vocabulary)` in [0, 1].

A vocabulary may have an end token, the empty string: a text ends before the first one, and shorter
texts are filled up with it. Tokens of one character are joined as they are, longer ones by spaces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.errors import UsageError
from serving.kinds import _plots
from serving.kinds._formats import Format, Lines, Meta
from serving.kinds._kind import Kind
from serving.strict_json import parse_object

# Characters at which readers of text files may end a line.
_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_ESCAPES = {ord(x): f"\\u{ord(x):04x}" for x in _BREAKS}
_LINE_ESCAPES = str.maketrans(_ESCAPES | {"\n": r"\n", "\r": r"\r", "\\": r"\\"})
_ESCAPED = re.compile(r"\\(?:([\\nr])|u([0-9a-f]{4}))")
END = ""  # token after which nothing of a text is shown
UNKNOWN_WORD = "<unk>"  # token of words that a vocabulary does not have
UNKNOWN_CHARACTER = "\ufffd"  # the same of characters: the replacement character
_WORD = re.compile(r"<unk>|\w+(?:['\u2019-]\w+)*|[^\w\s]")


def split_words(text: str) -> list[str]:
    """Returns the words and the punctuation marks of a text: `it's, so` is `it's`, `,` and `so`."""
    return _WORD.findall(text)


def is_of_characters(tokens: Sequence[str]) -> bool:
    """Returns whether the tokens of a vocabulary are characters, which are joined without spaces.

    An empty vocabulary is not: its ids are written as numbers.
    """
    return bool(tokens) and all(len(token) <= 1 for token in tokens)


def string_of(sample: np.ndarray, meta: Meta) -> str:
    """Returns a sample as a string: the most probable token at each step, up to the end token.

    Tokens of one character are joined as they are, longer ones by spaces. Without a vocabulary
    the ids are written as numbers.
    """
    ids = np.argmax(sample, axis=-1) if np.ndim(sample) == 2 else np.asarray(sample, np.int64)
    tokens: list[str] = list(meta.get("vocabulary") or [])
    found = [tokens[i] if 0 <= i < len(tokens) else str(i) for i in ids.tolist()]
    if END in tokens and END in found:
        found = found[: found.index(END)]
    return ("" if is_of_characters(tokens) else " ").join(found)


def ids_of(text: str, meta: Meta) -> np.ndarray:
    """Returns the token ids `(time,)` of a string, without end tokens.

    Punctuation marks beside a word are tokens of their own where the vocabulary has words.

    Raises:
        UsageError: a token that the vocabulary does not have.
    """
    tokens: list[str] = list(meta.get("vocabulary") or [])
    known = {token: i for i, token in enumerate(tokens)}
    if is_of_characters(tokens):
        parts = list(text)
    else:
        words = text.split()
        parts = [p for w in words for p in (split_words(w) if known and w not in known else [w])]
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


def to_json_line(content: Mapping[str, Any]) -> str:
    """Returns an object as JSON on one line, for every reader of text files."""
    # json escapes the other line breaks itself
    return json.dumps(content, ensure_ascii=False).translate(_ESCAPES)


def _line(sample: np.ndarray, meta: Meta, facts: Mapping[str, Any]) -> bytes:
    return to_line(string_of(sample, meta)).encode()


def _file_of_line(line: bytes) -> bytes:
    return (from_line(line.decode("utf-8")) + "\n").encode()


def _json_line(sample: np.ndarray, meta: Meta, facts: Mapping[str, Any]) -> bytes:
    return to_json_line({**facts, "text": string_of(sample, meta)}).encode()


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
    ids, tokens = ids_of(text, meta), list(meta.get("vocabulary") or ())
    if END in tokens and len(ids) < (shape[0] or 0):
        ids = np.pad(ids, (0, (shape[0] or 0) - len(ids)), constant_values=tokens.index(END))
    if len(shape) == 1:
        return ids
    size = shape[-1] or len(tokens) or int(ids.max(initial=0)) + 1
    if ids.size and int(ids.max()) >= size:
        raise UsageError(f"Token ids must be below {size}. Received: {int(ids.max())}")
    sample = np.zeros((len(ids), size), np.float32)
    sample[np.arange(len(ids)), ids] = 1.0
    return sample


class Text(Kind):
    """Texts of tokens."""

    axes = ("time", "vocabulary")
    meta = ("vocabulary", "oracle")  # the seed of the random LSTM that the texts are drawn from
    value_range = (0.0, 1.0)
    plural = "texts"
    is_distribution = True
    metrics = (
        *("nll_oracle", "nll_gen", "ngram_nll", "reverse_ngram_nll", "bleu", "self_bleu"),
        *("real_words", "unique_texts", "unique_ngrams", "copies"),
    )
    # Held-out texts are unlikely after generated ones that are of low quality and after ones
    # that are all alike, so that this one alone can choose the best checkpoint.
    training_metrics = ("reverse_ngram_nll", "ngram_nll", "unique_texts")
    controls = ("training", "ngrams")
    features = "ngrams"
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
        seed = (meta or {}).get("oracle")
        if seed is not None and not (type(seed) is int and seed >= 0):
            raise UsageError(f"`oracle` must be an integer from 0. Received: oracle={seed!r:.80}")
        if tokens and shape[-1] not in (None, 1, len(tokens)):
            raise UsageError(
                f"`vocabulary` must have one token for each of the {shape[-1]} weights. "
                f"Received: {len(tokens)} tokens"
            )

    def lines(self, samples: np.ndarray, meta: Meta | None = None) -> list[str] | None:
        # A vocabulary of a user's own may have line ends.
        return [" ".join(string_of(sample, meta or {}).splitlines()) for sample in samples]

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        return _plots.text([string_of(sample, meta or {}) for sample in samples])


KIND = Text()
