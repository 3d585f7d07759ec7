"""Policies of bundles: actions, checks of observations, and the rules of their environments."""

import threading

import numpy as np
import policies
import pytest
import tiny
from policies import BALANCE, CARTPOLE, PENDULUM

import serving
from serving import UsageError, environments

SEEN = np.array([0.1, 0.2, 0.03, -0.5], np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    to = tmp_path_factory.mktemp("policies")
    policies.discrete(to / "discrete")
    policies.continuous(to / "continuous")
    policies.reward(to / "reward")
    tiny.clothes(to / "clothes")
    return to


@pytest.fixture(scope="module")
def cartpole(folder):
    return serving.Bundle(folder / "discrete")


@pytest.fixture(scope="module")
def pendulum(folder):
    return serving.Bundle(folder / "continuous")


def observations(count=64):
    return np.random.default_rng(0).uniform(-0.4, 0.4, (count, 4)).astype(np.float32)


def test_a_discrete_action_is_the_largest_logit(cartpole):
    # The logits are -x and x of 0.1 velocity + angle + angular velocity.
    for seen, action in (
        ([0, 0, 0.1, 0], 1),
        ([0, 0, -0.1, 0], 0),
        ([0, 3, 0.1, -0.5], 0),
        ([0, 5, 0.1, -0.5], 1),
        ([0, 0, 0, 0], 0),  # the first of equal ones
    ):
        found = cartpole.act(seen)
        assert type(found) is int
        assert found == action


def test_a_continuous_action_is_the_mean_within_its_bounds(pendulum):
    # The mean is 10 times the sum, the bounds are -2 and 2.
    for seen, action in (([0.1, 0.05, 0], 1.5), ([1, 0, 5], 2.0), ([-1, 0, -5], -2.0)):
        found = pendulum.act(seen)
        assert (found.shape, found.dtype) == ((1,), np.float32)
        np.testing.assert_allclose(found, [action], rtol=1e-6)


def test_several_observations_have_the_actions_of_each(cartpole, pendulum):
    for bundle, size in ((cartpole, 4), (pendulum, 3)):
        several = observations()[:, :size]
        found = bundle.act(several)
        assert found.shape == (64, *bundle.outputs[0].shape)
        np.testing.assert_array_equal(found, np.stack([bundle.act(row) for row in several]))
        np.testing.assert_array_equal(found, bundle.sample(observation=several)["action"])
    assert set(cartpole.act(observations()).tolist()) == {0, 1}


def test_every_form_of_an_observation_has_one_action(pendulum):
    wanted = pendulum.act(np.array([0.1, 0.05, -0.1], np.float32))
    for form in (
        [0.1, 0.05, -0.1],
        (0.1, 0.05, -0.1),
        np.array([0.1, 0.05, -0.1]),
        np.array([9.9, 0.1, 0.05, -0.1, 9.9], np.float32)[1:4],
        np.array([-0.1, 0.05, 0.1], np.float32)[::-1],
    ):
        np.testing.assert_allclose(pendulum.act(form), wanted, rtol=1e-6)


def test_an_action_is_not_changed_by_the_next_one(pendulum):
    first = pendulum.act([0.1, 0, 0])
    pendulum.act([-0.1, 0, 0])
    np.testing.assert_allclose(first, [1.0], rtol=1e-6)


def test_threads_share_an_actor(pendulum):
    found = {}

    def act(number):
        found[number] = [float(pendulum.act([number / 100, 0, 0])[0]) for _ in range(200)]

    threads = [threading.Thread(target=act, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for number, values in found.items():
        np.testing.assert_allclose(values, number / 10, rtol=1e-5)


RULE = r"An observation must be numbers of shape \(4,\), or several of shape \(batch, 4\)"


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        ([1, 2, 3], rf"{RULE}. Received: shape=\(3,\)"),
        (3.0, rf"{RULE}. Received: shape=\(\)"),
        (np.zeros((0, 4)), rf"{RULE}. Received: shape=\(0, 4\)"),
        (np.zeros((2, 2, 4)), rf"{RULE}. Received: shape=\(2, 2, 4\)"),
        ([[1, 2, 3, 4], [1, 2]], rf"{RULE}. Received: \[\[1, 2, 3, 4\], \[1, 2\]\]"),
        ("left", rf"{RULE}. Received: 'left'"),
        ([1, 2, 3, "4"], rf"{RULE}. Received: \[1, 2, 3, '4'\]"),
        (None, rf"{RULE}. Received: None"),
        ([True, False, True, True], rf"{RULE}. Received: \[True"),
        ([0, 0, 0, float("nan")], "must be finite. Received: NaN or infinity"),
        ([0, 0, 0, float("inf")], "must be finite. Received: NaN or infinity"),
        ([0, 0, 0, 1e300], "must be finite. Received: NaN or infinity"),
        (
            [9.5, 0, 0, 0],
            r"within the bounds of CartPole-v1, here \[-4.8, 4.8\]. Received: observation\[0\]=9.5",
        ),
        ([[0, 0, 0, 0], [0, 0, -1, 0]], r"\[-0.418879, 0.418879\]. Received: observation\[2\]=-1"),
    ],
)
def test_wrong_observations_are_one_line(cartpole, seen, line):
    with pytest.raises(UsageError, match=line) as error:
        cartpole.act(seen)
    assert "\n" not in str(error.value)


def test_rounding_may_exceed_a_bound(cartpole):
    assert cartpole.act([4.8000003, 1e30, -0.41888, 0.0]) == 1


def test_an_environment_may_exceed_its_own_bounds(cartpole):
    assert cartpole.actor.follow([9.5, 0, 0.1, 0]) == 1
    with pytest.raises(UsageError, match=r"must be finite\. Received: NaN"):
        cartpole.actor.follow([0, 0, float("nan"), 0])
    with pytest.raises(UsageError, match=RULE):
        cartpole.actor.follow([0, 0])


def test_an_answer_that_is_not_finite_is_an_error(tmp_path):
    bundle = serving.Bundle(policies.discrete(tmp_path / "overflow", BALANCE * np.float32(3e38)))
    assert bundle.act([0, 0, 0.01, 0]) == 1
    with pytest.raises(serving.NotFiniteError, match="NaN or infinity from 'cartpole'"):
        bundle.act([0, 3, 0.4, 3])


def test_other_bundles_have_no_actions(folder):
    for name in ("reward", "clothes"):
        bundle = serving.Bundle(folder / name)
        assert bundle.policy is None
        with pytest.raises(UsageError, match=f"A policy has the role 'policy'.*{name!r} of role"):
            bundle.act([1, 2, 3, 4])


def test_a_reward_takes_observations_and_actions(folder):
    bundle = serving.Bundle(folder / "reward")
    found = bundle.generate(observation=np.ones((3, 4)), action=[0, 1, 1])
    np.testing.assert_allclose(found, [4, 5, 5])
    for action in (-1, 2):
        with pytest.raises(UsageError, match=rf"'action' must be class ids from 0 to 1.*{action}"):
            bundle.generate(observation=np.ones((1, 4)), action=[action])


def changed(**change):
    return {**CARTPOLE, **change}


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ([], r"`environment` .* must be an object with id, observation and action"),
        (changed(id=3), "environment.id=3"),
        (changed(id="a\nb"), "environment.id="),
        (changed(observation={"low": None}), "environment.observation="),
        (changed(observation={"low": "0", "high": None}), "environment.observation.low='0'"),
        (changed(observation={"low": None, "high": [1.0]}), "4 numbers, one for each"),
        (changed(observation={"low": 2.0, "high": 1.0}), "must be at least low"),
        (changed(action={"n": 0}), "environment.action.n=0"),
        (changed(action={"n": True}), "environment.action.n=True"),
        (changed(action={"n": 2, "low": [1]}), "with n, or with low and high"),
        (changed(action={"low": [], "high": []}), r"environment.action.low=\[\]"),
        (changed(action={"low": [0, 1], "high": [2]}), "a list of 2 numbers, as low is"),
        (changed(action={"low": [0.0], "high": [1.0]}), "an `action` of dtype float32"),
    ],
)
def test_a_manifest_describes_its_environment(tmp_path, facts, line):
    policies.edit(policies.discrete(tmp_path / "bundle"), environment=facts)
    with pytest.raises(UsageError, match=line) as error:
        serving.Bundle(tmp_path / "bundle")
    assert "\n" not in str(error.value)


def test_a_manifest_with_an_environment_has_an_observation(tmp_path):
    bundle = tiny.points(tmp_path / "points")
    policies.edit(bundle, environment=CARTPOLE)
    with pytest.raises(UsageError, match="a given `observation` of fixed shape"):
        serving.Bundle(bundle)


class Box:
    def __init__(self, low, high):
        self.low, self.high = np.array(low, np.float32), np.array(high, np.float32)
        self.shape = self.low.shape


class Discrete:
    def __init__(self, n, start=0):
        self.n, self.start = np.int64(n), np.int64(start)


HUGE = float(np.finfo(np.float32).max)


def test_spaces_of_gymnasium_are_described():
    seen = Box([-1, -np.inf, -HUGE], [1, np.inf, HUGE])
    assert environments.describe("A-v0", seen, Discrete(3)) == {
        "id": "A-v0",
        "observation": {"low": [-1.0, None, None], "high": [1.0, None, None]},
        "action": {"n": 3},
    }
    facts = environments.describe(None, Box([0, 0], [1, 1]), Box([-2, -1], [2, np.inf]))
    assert facts["observation"] == {"low": 0.0, "high": 1.0}
    assert facts["action"] == {"low": [-2.0, -1.0], "high": [2.0, None]}
    assert environments.check_facts(facts) == facts
    read = environments.read(facts, (2,))
    np.testing.assert_array_equal(read.most, np.array([2, HUGE], np.float32))


@pytest.mark.parametrize(
    ("spaces", "line"),
    [
        ((Discrete(3), Discrete(3)), "must be a Box of at least one axis"),
        ((Box(0, 1), Discrete(3)), r"at least one axis. Received: .*shape \(\)"),
        ((Box([0], [1]), Discrete(3, start=1)), "a Discrete that starts at 0"),
        ((Box([0], [1]), Box([[0]], [[1]])), "a Box of one axis"),
    ],
)
def test_other_spaces_are_refused(spaces, line):
    with pytest.raises(UsageError, match=line):
        environments.describe("A-v0", *spaces)


def test_environments_differ_in_their_spaces():
    def found(theirs, other):
        return environments.difference(CARTPOLE, theirs, (4,), other)

    assert found(changed(id="CartPole-v0"), (4,)) == ""
    assert found(PENDULUM, (3,)) == "observations of shape (3,), not (4,)"
    assert found(changed(action={"n": 3}), (4,)) == "3 discrete actions, not 2 discrete actions"
    swing = changed(action={"low": [-2.0], "high": [2.0]})
    assert found(swing, (4,)) == "actions of 1 numbers from -2 to 2, not 2 discrete actions"
    free = changed(observation={"low": None, "high": None})
    assert found(free, (4,)) == ""  # a missing bound fits every bound
    rounded = {"low": [-4.8, None, -0.41887903, None], "high": [4.8, 1.0, 0.41887903, None]}
    assert found(changed(observation=rounded), (4,)) == ""
    other = changed(observation={"low": [-4.8, 0.0, -0.42, None], "high": None})
    assert found(other, (4,)).startswith("observations from [-4.8, 0, -0.42, none] to none, not")
