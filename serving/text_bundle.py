"""Methods of a bundle that samples texts token by token."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.errors import UsageError
from serving.seeds import check_seeds

if TYPE_CHECKING:
    from serving.text_steps import Text, TextSteps
    from serving.texts import TextSampler


class TextInterface:
    """Base class of `Bundle`, which defines the attributes and `open_other`.

    Attributes:
        text_sampler: facts about a network that `texts` can use, `None` for another one.
    """

    name: str
    kind: str
    text_sampler: TextSampler | None = None

    def open_other(self, name: str) -> Any:
        """Opens a session for another graph of the bundle."""
        raise NotImplementedError

    def label_ids(self, seeds: np.ndarray, labels: Any = None) -> np.ndarray | None:
        """Returns the class id of each sample, `None` without classes."""
        raise NotImplementedError

    def texts(
        self,
        seeds: Any,
        labels: Any = None,
        temperature: float = 1.0,
        prefix: Any = (),
        pattern: str | None = None,
        vocabulary: Sequence[str] | None = None,
        length: int | None = None,
    ) -> list[Text]:
        """Samples the text that each seed names, token by token.

        Args:
            seeds: integers, each `0 <= seed < 2**63`.
            labels: as for `generate`.
            temperature: factor of the noise, from 0 up; with 0, each token is the most probable.
            prefix: text, or token ids, with which the texts begin.
            pattern: regular expression that the whole texts match, see `serving.patterns`.
            vocabulary: the only tokens after the prefix; by default all.
            length: most tokens of a text, from 1 to 1024; by default those of the whole network.

        Returns:
            A `serving.text_steps.Text` for each seed: `text`, `ids`, `log_probability`, `seed`.

        Raises:
            UsageError: a bundle that does not sample texts, or an argument that is not allowed.
        """
        steps = self.text_steps
        constraint = steps.constraint(prefix, pattern, vocabulary, length)
        checked = check_seeds(seeds)
        return steps.texts(checked, constraint, temperature, self.label_ids(checked, labels))

    @functools.cached_property
    def text_steps(self) -> TextSteps:
        """The step from token to token, opened when it is first used.

        Raises:
            UsageError: a bundle that does not sample texts, or whose step is damaged.
        """
        from serving.text_steps import TextSteps  # other bundles open without it
        from serving.texts import STEP

        if self.text_sampler is None:
            raise UsageError(
                "Texts with a temperature, prefix, pattern, vocabulary or length need a network "
                f"that samples token by token. Received: bundle {self.name!r} of kind {self.kind!r}"
            )
        return TextSteps(self.text_sampler, self.open_other(STEP))
