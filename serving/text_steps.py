"""Texts of a bundle's step, token by token, in numpy and onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.checks import check_number
from serving.errors import UsageError, one_line
from serving.kinds.text import to_json_line, to_line
from serving.seeds import normals
from serving.text_constraints import END, Constraint
from serving.texts import MAX_TEMPERATURE, START, STEP, TextSampler

_MAX_BLOCK = 64  # tokens whose noise is drawn together
_MAX_NOISE = 2**20  # numbers of it, where two tokens have fewer
_STATES = ("hidden", "cell")
_OUTPUTS = ["token", "next_hidden", "next_cell", "log_probability"]
MAX_BATCH = 64  # texts that are sampled together


class Token(NamedTuple):
    """One token of each text of a batch.

    Args:
        ids: int32 `(batch,)`; 0 of a text that has ended.
        log_probabilities: logarithm of the probability of each, without temperature and
            constraints, in nats, float32 `(batch,)`; 0 after the end of a text.
        running: texts that this token does not end, bool `(batch,)`.
    """

    ids: np.ndarray
    log_probabilities: np.ndarray
    running: np.ndarray


class Text(NamedTuple):
    """A sampled text.

    Args:
        seed: the seed that names it, `None` where texts were made of other noise.
        text: the text.
        ids: its token ids, without the end.
        log_probability: sum of those of its tokens, that of the end included, in nats.
        label: its class id, `None` without classes.
    """

    seed: int | None
    text: str
    ids: tuple[int, ...]
    log_probability: float
    label: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the text as plain JSON values."""
        rounded = round(self.log_probability, 6)
        facts = {"seed": self.seed} | ({} if self.label is None else {"label": self.label})
        return {**facts, "text": self.text, "log_probability": rounded}


def encode_lines(texts: Sequence[Text], form: str) -> bytes:
    """Returns texts as lines.

    Args:
        texts: the texts.
        form: "txt", in which line breaks within a text are escaped, or "jsonl".
    """
    if form == "jsonl":
        lines = [to_json_line(text.to_json()) for text in texts]
    else:
        lines = [to_line(text.text) for text in texts]
    return "".join(line + "\n" for line in lines).encode()


class TextSteps:
    """The step of a network that samples texts, and its session.

    Args:
        sampler: facts about the network.
        session: session of `step.onnx`.

    Raises:
        UsageError: a session of another graph.
    """

    def __init__(self, sampler: TextSampler, session: Any):
        self.sampler, self._session = sampler, session
        size, width = len(sampler.tokens), sampler.width
        shapes = {x.name: x.shape[1:] for x in session.get_inputs()}
        wanted = {"previous": [], "hidden": [width], "cell": [width], "noise": [size]}
        wanted |= {"temperature": [], "mask": [size]}
        if {k: v for k, v in shapes.items() if k != "labels"} != wanted:
            raise UsageError(
                f"{STEP} must have the inputs {', '.join(wanted)} of the manifest's sizes. "
                f"Received: {shapes}"
            )
        self._takes_labels = "labels" in shapes

    def constraint(
        self, prefix: Any = (), pattern: Any = None, vocabulary: Any = None, length: Any = None
    ) -> Constraint:
        """Returns the constraint of arguments as `Bundle.texts` takes them.

        Raises:
            UsageError: one that is not allowed, or texts that are not possible.
        """
        sampler = self.sampler
        most = sampler.check_length(length)
        allowed = None if vocabulary is None else sampler.check_vocabulary(vocabulary)
        return Constraint(sampler, most, sampler.check_text(prefix), pattern, allowed)

    def tokens(
        self,
        seeds: np.ndarray,
        constraint: Constraint,
        temperature: float = 1.0,
        labels: np.ndarray | None = None,
    ) -> Iterator[Token]:
        """Yields the tokens of texts, step by step, until all of them have ended.

        Args:
            seeds: checked seeds, int64 `(batch,)`, one for each text.
            constraint: what the texts must be.
            temperature: factor of the noise, from 0 up.
            labels: class ids `(batch,)` of a network with classes.

        Raises:
            UsageError: a temperature out of range, or a graph that does not run.
        """
        value = check_number("temperature", temperature, 0.0, MAX_TEMPERATURE)
        return self._run(seeds, constraint, value, labels)

    def _run(
        self, seeds: np.ndarray, constraint: Constraint, value: float, labels: Any
    ) -> Iterator[Token]:
        count, width = len(seeds), self.sampler.width
        feeds: dict[str, np.ndarray] = {
            "previous": np.full(count, START, np.int32),
            "hidden": np.zeros((count, width), np.float32),
            "cell": np.zeros((count, width), np.float32),
            "temperature": np.full(count, value, np.float32),
        }
        if self._takes_labels and labels is not None:
            feeds["labels"] = labels.astype(np.int64)
        states, running = np.full(count, constraint.start), np.ones(count, bool)
        block = self._block(count)
        for step in range(constraint.length):
            if step % block == 0:
                noise = self._noise(seeds, step, min(block, constraint.length - step))
            feeds["noise"] = np.ascontiguousarray(noise[:, step % block])
            feeds["mask"] = constraint.allowed(step, states)
            token, feeds["hidden"], feeds["cell"], found = self._step(feeds)
            token = np.where(running, token, END).astype(np.int32)
            found = np.where(running, found, np.float32(0))
            if self.sampler.ends:
                running = running & (token != END)
            yield Token(token, found, running)
            if not running.any():
                return
            states = constraint.advance(states, token)
            feeds["previous"] = token

    def _block(self, count: int) -> int:
        """Returns the number of tokens whose noise is drawn together.

        It is even, because seeds draw normal numbers in pairs.
        """
        fitting = _MAX_NOISE // (count * len(self.sampler.tokens))
        return max(2, min(_MAX_BLOCK, fitting) & ~1)

    def _noise(self, seeds: np.ndarray, first: int, count: int) -> np.ndarray:
        """Returns normal numbers of `count` tokens, `(batch, count, vocabulary)`."""
        size = len(self.sampler.tokens)
        found = normals(seeds, count * size, self.sampler.stream, first * size)
        return found.reshape(len(seeds), count, size)

    def _step(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return self._session.run(_OUTPUTS, feeds)
        except Exception as error:  # onnxruntime has a class for each failure
            raise UsageError(
                f"{STEP} must run in onnxruntime. Received: {one_line(error)}"
            ) from error

    def texts(
        self,
        seeds: np.ndarray,
        constraint: Constraint,
        temperature: float = 1.0,
        labels: np.ndarray | None = None,
    ) -> list[Text]:
        """Returns the texts that seeds name; takes the arguments of `tokens`."""
        found: list[Text] = []
        for start in range(0, len(seeds), MAX_BATCH):
            rows = slice(start, start + MAX_BATCH)
            own = None if labels is None else labels[rows]
            steps = list(self.tokens(seeds[rows], constraint, temperature, own))
            found += self.join(seeds[rows], steps, own)
        return found

    def join(
        self, seeds: np.ndarray, steps: list[Token], labels: np.ndarray | None = None
    ) -> list[Text]:
        """Returns the texts of a batch by their tokens."""
        classes = [None] * len(seeds) if labels is None else labels.tolist()
        ids = np.stack([step.ids for step in steps], axis=1)
        sums = np.sum([step.log_probabilities.astype(np.float64) for step in steps], axis=0)
        texts = []
        rows = zip(seeds.tolist(), ids.tolist(), sums.tolist(), classes, strict=True)
        for seed, row, total, label in rows:
            own = row[: row.index(END)] if self.sampler.ends and END in row else row
            texts.append(Text(seed, self.sampler.text_of(own), tuple(own), total, label))
        return texts
