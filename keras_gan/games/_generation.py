"""Methods of a game that generate samples, and that choose a generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_gan.errors import UsageError
from keras_gan.games._sampling import Sampler
from serving.seeds import check_seeds


class GenerationInterface(keras.Model):
    """Base class of `Game`: its generators in inference mode.

    A game's class defines `networks`, `average`, `sampled` and `sample_shape`, see `Game`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._samplers: dict[tuple[str, bool], Any] = {}

    # Name of the score, the higher the better, that chooses the best checkpoint; None for a metric.
    score: str | None = None

    def scores(self) -> dict[str, float]:
        """Returns measures of the game's own, besides those of its samples; for subclasses."""
        return {}

    def baselines(self, fields: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
        """Returns the scores of others by name, such as of an expert; for subclasses.

        It is called before the first step of a training.

        Args:
            fields: arrays of the training data by name.
        """
        return {}

    def generate(
        self,
        seeds: Sequence[int] | range | np.ndarray,
        labels: Sequence[int] | int | np.ndarray | None = None,
        truncation: float = 1.0,
        average: bool = True,
        batch_size: int = 64,
        **given: Any,
    ) -> np.ndarray:
        """Generates the samples that seeds name.

        A seed names the same sample here, in an exported SavedModel, in onnxruntime, and in a
        batch of any size (see docs/seeds.md).

        Args:
            seeds: whole numbers from 0 to 2^63 - 1, one for each sample.
            labels: class ids, one for each sample or one for all. By default, in a conditional
                game, the seed modulo the number of classes.
            truncation: factor of the latents, from 0 up. Below 1 samples are more typical and
                less varied.
            average: use the averaged generator rather than the live one.
            batch_size: number of samples that are computed together.
            **given: other fields that the generator asks for, one row for each sample, such as
                `condition`.

        Returns:
            Samples as a float32 array `(len(seeds), ...)`, of the kind and range of the data. If
            nothing bounds the generator (`r3gan` ends without tanh) they may leave the range;
            clip them: `np.clip(samples, -1, 1)`.

        Raises:
            UsageError: a seed, label, or truncation out of range, labels without classes, or a
                field that is missing.
        """
        sampler = self.sampler(average)
        return sampler.generate(check_seeds(seeds), labels, truncation, batch_size, given)

    def sampler(self, average: bool, name: str | None = None) -> Sampler:
        """Returns the graph of a generator in inference mode, for any batch size.

        Args:
            average: use the averaged generator rather than the live one.
            name: name of the network; by default the one that samples come from.
        """
        name = name or self.sampled
        if (name, average) not in self._samplers:
            generator = self.average(name) if average else self.networks[name]
            self._samplers[name, average] = Sampler(
                generator, self.latent_dim, self.num_classes, self.shape_of(name)
            )
        return self._samplers[name, average]

    def shape_of(self, name: str) -> tuple:
        """Returns the shape of the samples of a network; for games with several generators."""
        return self.sample_shape

    @property
    def exports(self) -> str:
        """Name of the network that an export writes by default."""
        return self.sampled

    def exported(self, name: str | None = None, average: bool = True) -> keras.Model:
        """Returns the network that an export writes.

        Args:
            name: see `exported_name`.
            average: the averaged network rather than the live one.

        Raises:
            UsageError: no such network of that name.
        """
        name = self.exported_name(name)
        return (self.average(name) if average else self.networks[name]).model

    def exported_name(self, name: str | None = None) -> str:
        """Returns the name of the network that an export writes.

        Args:
            name: name of a network with an `export_role`; by default `exports`.

        Raises:
            UsageError: no such network of that name.
        """
        name = name or self.exports
        valid = [each for each in self.networks if self.export_role(each) is not None]
        if name not in valid:
            raise UsageError(
                "`network` must name a generator of the game, or a discriminator with the outputs "
                f"`logits` and `classes`: {', '.join(valid)}. Received: network={name!r}"
            )
        return name

    def export_role(self, name: str) -> str | None:
        """Returns the role that a network has in a bundle; `None` for one that is not exported.

        Args:
            name: name of the network: a generator, or a discriminator with the outputs `logits`
                and `classes`, which is a classifier.
        """
        if self.network_role(name) == "generator":
            return "generator"
        return (
            "classifier" if {"logits", "classes"} <= {*self.networks[name].output_names} else None
        )

    def describe_environment(self) -> dict[str, Any] | None:
        """Returns the spaces of the environment in which a game acts; `None` for other games.

        They are in the form of `serving.environments`, as the bundle of a policy has them.
        """
        return None
