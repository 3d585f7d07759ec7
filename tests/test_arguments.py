"""Tests of the checks of numbers that users give."""

import math

import numpy as np
import pytest

from keras_gan import arguments, augment, constraints, layers, optimizers, schedules, terms
from keras_gan.errors import UsageError
from keras_gan.schedules import Linear, WarmUp

OWNERS = {
    "a layer's count": lambda v: layers.EqualizedDense(v),
    "a layer's number": lambda v: layers.PixelNormalization(v),
    "a term's weight": lambda v: terms.R1(v),
    "a term's interval": lambda v: terms.R1(1.0, v),
    "a term's decay": lambda v: terms.get({"name": "path_length", "decay": v}),
    "a term's divisor": lambda v: terms.get({"name": "path_length", "batch_shrink": v}),
    "a term's factor": lambda v: terms.get({"name": "balanced_consistency", "real": v}),
    "a term's noise": lambda v: terms.get({"name": "latent_consistency", "noise": v}),
    "a probability": lambda v: augment.Pipeline(v),
    "a target": lambda v: augment.Adaptive(target=v),
    "an interval": lambda v: augment.Adaptive(interval=v),
    "a number of examples": lambda v: augment.Adaptive(examples=v),
    "a schedule's start": lambda v: Linear(v),
    "a schedule's length": lambda v: WarmUp(1.0, v),
    "a limit": lambda v: constraints.get({"name": "weight_clipping", "limit": v}),
    "a lazy interval": lambda v: optimizers.rescaled({}, v),
}


@pytest.mark.parametrize("value", ["a", True, None, math.nan, math.inf, [1]], ids=repr)
@pytest.mark.parametrize("owner", OWNERS)
def test_values_of_another_type_are_refused(owner, value):
    with pytest.raises(UsageError, match=r"^`\w+` must be .*\. Received: \w+=") as caught:
        OWNERS[owner](value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bounds", "valid", "invalid", "rule"),
    [
        ({}, [-5, 0.5, np.float32(1)], [-math.inf], "a finite number"),
        ({"minimum": 0}, [0, 2.5], [-1], "a number from 0 up"),
        ({"above": 0}, [1e-9], [0], "a number above 0"),
        ({"minimum": 0, "maximum": 1}, [0, 1], [-0.1, 1.1], "a number from 0 to 1"),
        ({"above": 0, "maximum": 1}, [1, 0.5], [0, 1.1], "a number above 0 and at most 1"),
        ({"above": -1, "below": 1}, [0], [-1, 1], "a number above -1 and below 1"),
    ],
)
def test_ranges(bounds, valid, invalid, rule):
    for value in valid:
        arguments.check_number("x", value, **bounds)
    for value in (*invalid, "a", True, math.nan):
        with pytest.raises(UsageError) as caught:
            arguments.check_number("x", value, **bounds)
        assert str(caught.value) == f"`x` must be {rule}. Received: x={value!r}"


def test_integers():
    for value in (2, np.int64(3)):
        arguments.check_integer("x", value, 2)
    for value in (1, 2.0, "2", True, None, math.nan):
        with pytest.raises(UsageError) as caught:
            arguments.check_integer("x", value, 2)
        message = f"`x` must be an integer of at least 2. Received: x={value!r}"
        assert str(caught.value) == message


def test_a_schedule_is_checked_by_its_bounds_where_one_may_be_given():
    arguments.check_share("x", Linear(1, 0.5), schedule=True)
    arguments.check_probability("x", schedules.get({"name": "cosine", "start": 1}), schedule=True)
    for check in (
        lambda: arguments.check_share("x", Linear(1, 0), schedule=True),
        lambda: arguments.check_share("x", Linear(1, 0.5)),
        lambda: arguments.check_share("x", Linear, schedule=True),
    ):
        with pytest.raises(UsageError, match=r"`x` must be .* Received: x="):
            check()
