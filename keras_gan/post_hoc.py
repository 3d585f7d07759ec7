"""Averages of a run's generator that are chosen after its training."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

from keras_gan import callbacks, metrics, precision
from keras_gan.averages import Snapshot, SnapshotFolder, check_deviation, reconstruct
from keras_gan.building import open_data, open_held_out
from keras_gan.data_record import as_recorded, check_place, check_same, moved_place, reading_moved
from keras_gan.errors import UsageError
from keras_gan.games import Game
from keras_gan.run import Run

DEVIATIONS = (0.02, 0.035, 0.05, 0.075, 0.1, 0.14)


@dataclasses.dataclass(frozen=True)
class Tried:
    """An average and its measurement.

    Args:
        deviation: standard deviation of its profile, as a share of the training; None for the
            moving average of the training.
        error: difference of the profile from the one that was asked for, as a share of it.
        value: the run's evaluation metric on held-out samples; None if it was not measured.
    """

    deviation: float | None
    error: float
    value: float | None = None


def average(run: Run, deviation: float) -> Tried:
    """Writes a state of the run whose average has another deviation, as its `averaged`.

    Args:
        run: a run of a game with `average_deviations`. A run that was opened by the path of a
            checkpoint is averaged up to that.
        deviation: from 0.001 up and below 0.28.

    Raises:
        UsageError: a run without such averages, one opened by its `averaged`, or a deviation out
            of range.
    """
    check_deviation("deviation", deviation)
    gan = _load(run)
    tried = Tried(deviation, _assign(gan, _snapshots(run, gan), deviation))
    _save(run, gan, tried)
    return tried


def choose(
    run: Run,
    deviations: Sequence[float] = DEVIATIONS,
    data: str | os.PathLike[str] | None = None,
) -> tuple[str, list[Tried], Tried]:
    """Evaluates several averages on held-out samples, and writes the best as `averaged`.

    Args:
        run: as in `average`.
        deviations: the deviations to try, each from 0.001 up and below 0.28.
        data: new place of the run's data, if they have moved.

    Returns:
        The name of the run's metric, the averages with that of the training first, and the best
        one of the others.

    Raises:
        UsageError: as `average`; also no deviation, data that are not those of the training, or
            a metric that is finite for none of the averages.
    """
    if not deviations:
        raise UsageError("`deviations` must hold at least one number. Received: deviations=[]")
    for deviation in deviations:
        check_deviation("deviation", deviation)
    gan = _load(run)
    snapshots = _snapshots(run, gan)
    evaluation = _evaluation(run, data)
    metric = evaluation.metric
    with precision.graphs("float32"):  # as during the training
        tried = [Tried(None, 0.0, evaluation.measure(gan)[metric])]
        for deviation in deviations:
            error = _assign(gan, snapshots, deviation)
            tried.append(Tried(deviation, error, evaluation.measure(gan)[metric]))
    best = _best(metric, tried[1:])
    _assign(gan, snapshots, best.deviation)
    _save(run, gan, best, metric)
    return metric, tried, best


def _best(metric: str, tried: list[Tried]) -> Tried:
    best = min(tried, key=lambda each: _rank(metric, each))
    if math.isinf(_rank(metric, best)):
        raise UsageError(
            f"An average is chosen by finite values of {metric}. Received: {metric}={best.value} "
            f"for each of the deviations {', '.join(f'{each.deviation:g}' for each in tried)}"
        )
    return best


def _rank(metric: str, tried: Tried) -> float:
    if tried.value is None or not math.isfinite(tried.value):
        return math.inf
    return metrics.rank(metric, tried.value)


def _load(run: Run) -> Any:
    checkpoint = run.which()
    if run.is_averaged(checkpoint):  # its average is not the one of the training any longer
        raise UsageError(
            "An average must be computed from a state of the training, such as the run itself. "
            f"Received: {run.path}, opened by its checkpoint {checkpoint}"
        )
    return run.load(checkpoint)


def _snapshots(run: Run, gan: Game) -> list[Snapshot]:
    """Returns the stored averages up to a state of the run, its own included."""
    seen = gan.count("examples_seen")
    if not gan.average_deviations or not seen:
        raise UsageError(
            "Only a run that keeps averages can be averaged afterward: train it with --set "
            f"game.average_deviations=0.05,0.1. Received: {run.path}, after {seen:,} examples, "
            f"with average_deviations={gan.average_deviations}"
        )
    own = Snapshot(seen, gan.power_averages.deviations, gan.power_averages.values)
    stored = SnapshotFolder(run.averages).snapshots()
    return [*(s for s in stored if s.examples_seen < seen), own]


def _assign(gan: Game, snapshots: list[Snapshot], deviation: Any) -> float:
    found, error = reconstruct(snapshots, deviation)
    for name, values in found.items():
        gan.assign_average(name, values)
    return error


def _save(run: Run, gan: Any, tried: Tried, metric: str | None = None) -> None:
    record = {"deviation": tried.deviation, "profile_error": tried.error}
    if metric is not None:
        record[metric] = tried.value
    run.save_averaged(gan, {**record, "examples_seen": gan.count("examples_seen")})


def _evaluation(run: Run, data: str | os.PathLike[str] | None) -> callbacks.Evaluation:
    """Returns the evaluation of the run's training."""
    place = moved_place(run.data, run.record.get("data"), data)
    if place is None:
        check_place(run.data_place, run.path)
    with reading_moved(run.data, run.record.get("data"), place):
        recipe = run.trained_recipe(run.data_place[1] if place is None else place)
        source = as_recorded(run.data, open_data(recipe))
    check_same(run.data, source)
    held_out = open_held_out(recipe, source, 1)
    return callbacks.Evaluation(
        run,
        held_out.samples,
        held_out.labels,
        held_out.comparison,
        fields=held_out.fields,
        conditions=held_out.conditions,
    )
