"""Generated and real samples that are compared, and the pairs among them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_gan import datasets
from keras_gan.metrics._metric import IMAGES, Labeled, MetricContext
from keras_gan.metrics.classified import Classified, classify
from keras_gan.metrics.extractor import Extractor
from keras_gan.metrics.pairs import (
    Answer,
    Pairs,
    answered_field,
    as_compared,
    controls_of,
    to_range,
)
from keras_gan.metrics.real_data import choose, from_data
from keras_gan.metrics.samples import BATCH, Batch, Conditions, Samples
from keras_gan.metrics.text_controls import CONTROLS
from keras_gan.metrics.texts import Texts
from keras_gan.spec import Spec


@dataclasses.dataclass(frozen=True)
class Compared:
    """Generated and real samples, and how many of each are compared.

    Args:
        generated: the generated samples.
        real: the real samples.
        data: the data of the real samples.
        spec: description of a real sample, with the sizes of the split.
        conditions: the other fields of the real samples.
        count: number of generated samples.
        real_count: number of real samples.
        has_training: whether there is a training split besides the samples compared with.
        paired: whether the real samples of the same rows are the right answers.
        luma, shave: of the metrics of signals, see `Pairs`.
        controls: samples by name that are evaluated beside the generated ones.
    """

    generated: Samples
    real: Samples
    data: datasets.Source
    spec: Spec
    conditions: Conditions
    count: int
    real_count: int
    has_training: bool
    paired: bool = False
    luma: bool = False
    shave: int = 0
    controls: Mapping[str, Samples] = dataclasses.field(default_factory=dict)

    def context(self, extractor: Extractor, truncation: float) -> MetricContext:
        """Returns the facts that decide which metrics apply."""
        labeled = bool(self.generated.spec.num_classes)
        return MetricContext(
            extractor,
            self.spec,
            labeled,
            self.has_training,
            self.count,
            self.real_count,
            truncation,
            answers=self.generated.answers,
            paired=self.paired,
            invertible=self.generated.inverse is not None,
            coded=self.generated.codes is not None,
            classes=self.generated.classifier.classes if self.generated.classifier else 0,
            unpaired=self.data.is_unpaired,
            likely=self.generated.token_logits is not None,
        )

    def protocol(self, extractor: Extractor, digest: str, seed: int) -> dict[str, Any]:
        """Returns the entries of the protocol that describe the samples."""
        controls = {name: dict(of.generated.protocol) for name, of in self.each_control()}
        return {
            **extractor.protocol,
            "sample_shape": list(self.spec.shape),
            "quantization": "8 bits" if self.spec.modality.has_pixels else "none",
            "generated": {"count": self.count, **self.generated.protocol},
            "real": {"count": self.real_count, "sha256": digest, **self.real.protocol},
            **({"controls": controls} if controls else {}),
            "seed": seed,
        }

    def images(self, pairs: Pairs | None) -> tuple[Batch, Batch]:
        """Returns as many real as generated samples, read again rather than kept in memory.

        Those of pairs are a fixed random choice, because files are often in the order of classes.
        """
        number = min(IMAGES, self.count, self.real_count)
        if pairs is None or not self.paired:
            return self.real.take(number), self.generated.take(number)
        rows = choose(len(pairs.real), number)
        return (pairs.real[rows], None), (pairs.generated[rows], None)

    def pairs(self) -> Pairs:
        """Returns real samples, answers and conditions, row by row."""
        number = min(self.count, self.real_count)
        real = self._real_rows(number)
        conditions = self._answered(np.arange(number))
        generated = as_compared(self.generated.take(number)[0], self.spec.samples)
        inverse = self.generated.inverse
        return Pairs(real, generated, conditions, inverse, self.luma, self.shave, self.paired)

    def texts(self) -> Texts:
        """Returns the real and the generated texts, and all of the training split, as ids."""
        to_ids, labels = self.spec.modality.to_ids, []

        def read(samples: Samples, count: int) -> np.ndarray:
            parts = []
            for batch, classes in samples.read(count):
                parts.append(to_ids(batch))
                labels.append(classes)
            return np.concatenate(parts)

        real = read(self.real, self.real_count)
        known = [part for part in labels if part is not None]
        return Texts(
            real,
            read(self.generated, self.count),
            to_ids(self.data.arrays("train")[0]),
            self.spec.samples,
            to_ids(self.data.arrays("held_out")[0]) if self.has_training else None,
            np.concatenate(known) if known else None,
        )

    def labeled(self) -> tuple[Labeled, Labeled, Labeled]:
        """Returns generated, training and held-out samples with labels."""
        train = from_data(self.data, "train")
        number = min(self.count, train.count or self.count)  # equal numbers for both trainings
        batches = (
            self.generated.take(number),
            train.take(number),
            self.real.take(self.real_count),
        )
        return batches  # pyright: ignore[reportReturnType]

    def classified(self) -> Classified:
        """Returns the discriminator's judgment of the real and of the generated samples."""
        found: Any = self.generated.classifier
        real, labels = self.real.take(self.real_count)
        generated = self.generated.take(self.count)[0]
        if self.spec.modality.has_pixels:
            real, generated = to_range(real), to_range(generated)
        ids: Any = labels  # of data with classes, which the metrics ask for
        return classify(found, real, ids, generated)

    def each_control(self) -> Iterator[tuple[str, Compared]]:
        """Yields name and comparison of each control.

        Beside answers these are the controls of `controls_of`, such as the conditions themselves,
        beside samples of some kinds those that the kind names, and those that the generated
        samples bring.
        """
        found: dict[str, Samples] = {}
        name = answered_field(self.spec)
        if self.paired and self.generated.answers and name is not None:
            of_kind = controls_of(self.spec, name).items()
            found = {control: self._control(*parts) for control, parts in of_kind}
        if self.has_training:
            found |= {key: CONTROLS[key](self.data) for key in self.spec.modality.controls}
        for name, samples in (found | {**self.generated.controls, **self.controls}).items():
            yield name, dataclasses.replace(self, generated=samples)

    def _control(self, answer: Answer, protocol: dict[str, Any]) -> Samples:
        def read(count: int) -> Iterator[Batch]:
            all_real = functools.cache(lambda: self._real_rows(self.real_count))
            for start in range(0, count, BATCH):
                rows = np.arange(start, min(start + BATCH, count))
                real = functools.partial(lambda rows: all_real()[rows % self.real_count], rows)
                yield answer(self._answered(rows), real), None

        spec = Spec(fields={"samples": self.spec.samples})
        return Samples(spec, None, read, protocol, answers=True)

    def _answered(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the values of the field that samples answer."""
        name = answered_field(self.spec) or ""
        return as_compared(self.conditions.read(numbers)[name], self.spec.fields[name])

    def _real_rows(self, number: int) -> np.ndarray:
        # A choice of fewer real samples would be another one.
        return _first(self.real, self.real_count, number)


def _first(samples: Samples, count: int, number: int) -> np.ndarray:
    """Returns the first samples of those that a count reads."""
    parts, found = [], 0
    for batch, _ in samples.read(count):
        parts.append(batch)
        found += len(batch)
        if found >= number:
            break
    return np.concatenate(parts)[:number]
