"""Metrics of disentangled codes: what a generator's codes say about the factors of its samples."""

from __future__ import annotations

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric, MetricResult

_BINS = 20  # of a continuous code


class CategoryPurity(Metric):
    """Purity of the categorical codes: share of samples of the most frequent class of a category.

    The classes are those that the extractor predicts. Of several categorical codes the value is
    that of the purest.
    """

    title = "Category purity"
    better = "higher"
    needs = ("codes", "classes")
    by_default = False
    order = 96

    def of(self, inputs: EvaluationInputs) -> MetricResult:
        codes = inputs.codes_of_samples
        if not codes.categorical:
            raise UsageError(
                "category_purity needs a categorical code. Received: continuous codes alone"
            )
        classes = inputs.predictions[1]
        found = [
            category_purity(codes.values[:, i].astype(int), classes)
            for i in range(len(codes.categorical))
        ]
        details = {f"{self.name}_of_codes": found} if len(found) > 1 else {}
        return MetricResult({self.name: max(found)}, details)


class MutualInformationGap(Metric):
    """Mutual information gap of codes and known factors (MIG), in both directions.

    `mutual_information_gap` is the mean over the factors of the gap between the two codes that say
    most about a factor, in shares of the factor's entropy. `code_gap` is the mean over the
    continuous codes of the gap between the two factors of which a code says most, in shares of the
    entropy of the better known factor: it is 1 if every code determines one factor only, also if
    there are more factors than codes. Continuous codes are divided into 20 bins.

    Reference:
        - [Chen et al., 2018](https://arxiv.org/abs/1802.04942), section 4
    """

    title = "Mutual information gap"
    better = "higher"
    needs = ("codes", "factors")
    least = 100
    by_default = False
    order = 97

    def of(self, inputs: EvaluationInputs) -> MetricResult:
        codes, factors = inputs.codes_of_samples, inputs.factors
        information = mutual_information(codes.binned(_BINS), np.stack([*factors.values()], 1))
        entropies = np.array([entropy(levels) for levels in factors.values()])
        shares = information / np.maximum(entropies, 1e-12)
        values = {self.name: float(_gaps(shares.T).mean())}
        continuous = shares[len(codes.categorical) :]
        if len(continuous):
            values["code_gap"] = float(_gaps(continuous).mean())
        table = {
            f"code {i}": dict(zip(factors, map(float, row), strict=True))
            for i, row in enumerate(shares)
        }
        return MetricResult(values, {"information_shares": table})


class FactorAccuracy(Metric):
    """Accuracy with which the levels of known factors follow from one code each.

    For every factor it is that of the best single code: the most frequent level in each bin of the
    code is counted on one half of the samples and predicted on the other half. The value is the
    mean over the factors; the details have each factor's accuracy.
    """

    title = "Factor accuracy"
    better = "higher"
    needs = ("codes", "factors")
    least = 100
    by_default = False
    order = 98

    def of(self, inputs: EvaluationInputs) -> MetricResult:
        binned = inputs.codes_of_samples.binned(_BINS)
        found = {
            name: max(factor_accuracy(code, levels) for code in binned.T)
            for name, levels in inputs.factors.items()
        }
        return MetricResult({self.name: float(np.mean([*found.values()]))}, {self.name: found})


def category_purity(categories: np.ndarray, classes: np.ndarray) -> float:
    """Returns the share of samples whose class is the most frequent one of their category.

    Args:
        categories: ints from 0, `(count,)`.
        classes: ints from 0, `(count,)`.
    """
    return float(_table(categories, classes).max(axis=1).sum() / len(categories))


def mutual_information(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Returns the mutual information of each code with each factor in nats, `(codes, factors)`.

    The estimate from finite samples is corrected for its bias (Miller and Madow), and at least 0.

    Args:
        codes: ints from 0, `(count, codes)`.
        factors: ints from 0, `(count, factors)`.
    """
    found = np.zeros((codes.shape[1], factors.shape[1]))
    for i, code in enumerate(codes.T):
        for j, factor in enumerate(factors.T):
            table = _table(code, factor)
            joint = entropy_of_counts(table.ravel())
            both = entropy_of_counts(table.sum(axis=1)) + entropy_of_counts(table.sum(axis=0))
            found[i, j] = max(0.0, both - joint)
    return found


def entropy(levels: np.ndarray) -> float:
    """Returns the entropy of levels in nats, see `entropy_of_counts`."""
    return entropy_of_counts(np.bincount(levels))


def entropy_of_counts(counts: np.ndarray) -> float:
    """Returns the entropy of counts in nats, corrected by (levels - 1) / (2 samples)."""
    counts = counts[counts > 0]
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum() + (len(counts) - 1) / (2 * counts.sum()))


def factor_accuracy(code: np.ndarray, levels: np.ndarray) -> float:
    """Returns the accuracy of the most frequent level of a code's bin, on the second half.

    Args:
        code: bins as ints from 0, `(count,)`.
        levels: ints from 0, `(count,)`.
    """
    half = len(code) // 2
    table = np.zeros((code.max() + 1, levels.max() + 1), np.int64)
    np.add.at(table, (code[:half], levels[:half]), 1)
    return float((table.argmax(axis=1)[code[half:]] == levels[half:]).mean())


def _table(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Counts the pairs of two columns of ints."""
    table = np.zeros((rows.max() + 1, columns.max() + 1), np.int64)
    np.add.at(table, (rows, columns), 1)
    return table


def _gaps(shares: np.ndarray) -> np.ndarray:
    """Returns the difference of the two largest numbers of each row."""
    ordered = np.sort(shares, axis=1)
    return ordered[:, -1] - (ordered[:, -2] if shares.shape[1] > 1 else 0.0)
