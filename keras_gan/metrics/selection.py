"""Selection of metrics by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from keras_gan import registry
from keras_gan.errors import UsageError
from keras_gan.metrics._metric import Metric, all_metrics
from keras_gan.metrics._needs import MetricContext


def evaluation_metrics() -> list[Metric]:
    """Returns the metrics that `evaluate` computes, in the order of its results."""
    return [metric for metric in all_metrics() if metric.in_evaluate]


def names() -> dict[str, str]:
    """Returns name and title of each metric that `evaluate` computes."""
    return {metric.name: metric.title for metric in evaluation_metrics()}


def parse_names(metrics: Iterable[str] | str | None) -> list[str] | None:
    """Returns the requested names as a list, which can be read more than once.

    Raises:
        UsageError: no names.
    """
    if metrics is None:
        return None
    requested = [metrics] if isinstance(metrics, str) else metrics
    requested = list(requested) if isinstance(requested, Iterable) else []
    if not requested:
        raise UsageError(
            "metrics must be names of metrics, at least one; metrics=None takes all that fit. "
            f"Received: metrics={metrics!r:.80}"
        )
    return requested


def need_equal_counts(metrics: list[str] | None) -> bool:
    """Returns whether a requested metric needs as many real samples as generated ones."""
    found = (_find(_normalized(requested)) for requested in metrics or ())
    return any(metric is not None and metric.requires("equal_counts") for metric in found)


def select(
    metrics: list[str] | None, context: MetricContext, default: Sequence[str] = ()
) -> list[Metric]:
    """Returns the metrics to compute: those requested, or by default all that apply.

    Args:
        metrics: the requested names; `None` for the default.
        context: facts that decide which metrics apply.
        default: names of the default metrics, of which those that apply are computed; empty for
            all.

    Raises:
        UsageError: an unknown name, or a metric that does not apply.
    """
    known = evaluation_metrics()
    if metrics is None:
        usual = [m for m in known if (m.name in default if default else m.by_default)]
        return [m for m in usual if m.missing(context) is None]
    found = (_select_one(requested, context) for requested in metrics)
    chosen = {metric.name: metric for metric in found}
    return [chosen[metric.name] for metric in known if metric.name in chosen]


def _select_one(requested: Any, context: MetricContext) -> Metric:
    name, colon, argument = str(requested).partition(":")
    text = _normalized(name)
    metric = _find(text)
    if metric is not None and colon:
        metric = metric.of_argument(argument.strip())
    if metric is None:
        raise UsageError(
            f"No metric has that name. Received: {requested!r}. {registry.nearest(text, names())}"
        )
    missing = metric.missing(context)
    if missing is not None:
        raise UsageError(
            f"The metric {metric.name} needs {missing.rule}. "
            f"Received: metrics={requested!r} with {missing.received}"
        )
    if text in metric.standard_names and not context.extractor.standard:
        raise UsageError(_not_standard(text, requested, metric, context))
    return metric


def _not_standard(text: str, requested: Any, metric: Metric, context: MetricContext) -> str:
    """Returns the error line for a name that only the standard protocol may use."""
    if context.truncation != 1:
        rule = "of latents that are not truncated (truncation=1)"
        rule += f"; {metric.name} is the same of others"
        received = f"truncation={context.truncation:g}"
    else:
        rule = f"with the extractor inception; {metric.name} is the same with another"
        received = f"features={context.extractor.name!r}"
    title = metric.standard_names[text]
    return f"{title} is called so only {rule}. Received: {requested!r} with {received}"


def _normalized(requested: Any) -> str:
    return str(requested).strip().replace("-", "_")


def _find(text: str) -> Metric | None:
    """Returns the metric with a name, an alias or a value's name."""
    return next((metric for metric in evaluation_metrics() if text in metric.names), None)
