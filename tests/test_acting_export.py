"""Policies and rewards as bundles: their ports, their parity in every runtime, what is refused."""

import json

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from policies import CARTPOLE, PENDULUM

import export
import serving
from export import acting
from export.draft import open_draft
from keras_gan import UsageError, architectures, games
from keras_gan.control.spaces import spaces_of
from keras_gan.layers import update_statistics
from keras_gan.spec import Spec
from serving.inputs import Inputs

pytestmark = pytest.mark.timeout(300)
L = keras.layers


def observations(count=64, size=4):
    return np.random.default_rng(0).uniform(-0.4, 0.4, (count, size)).astype(np.float32)


def hidden(size, name="observation"):
    """Returns an input, and features of it that a normalizer comes before."""
    given = keras.Input((size,), name=name)
    normalizer = L.Normalization(mean=np.linspace(-0.1, 0.1, size), variance=np.full(size, 0.04))
    return given, L.Dense(16, "tanh")(normalizer(given))


def policy(size=4, count=2, name="observation"):
    """Returns a policy of discrete actions, with outputs besides its logits."""
    keras.utils.set_random_seed(1)
    given, x = hidden(size, name)
    outputs = {"samples": L.Softmax()(L.Dense(count)(x)), "logits": L.Dense(count)(x)}
    return keras.Model(given, outputs | {"value": L.Dense(1)(x)}, name="policy")


def gaussian(size=3):
    """Returns a policy of one number, whose mean exceeds the bounds of -2 and 2."""
    keras.utils.set_random_seed(2)
    given, x = hidden(size)
    outputs = {"log_std": L.Dense(1)(x), "mean": 2 * L.Dense(1)(x)}
    return keras.Model(given, outputs, name="policy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    to = tmp_path_factory.mktemp("policies")
    export.export_bundle(policy(), to / "discrete", role="policy", environment=CARTPOLE)
    export.export_bundle(gaussian(), to / "continuous", role="policy", environment=PENDULUM)
    return to


def runtimes(bundle, name="policy", **given):
    """Returns the outputs of onnxruntime and of the SavedModel, in which Keras takes no part."""
    session = onnxruntime.InferenceSession(bundle / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    yield dict(zip(names, session.run(names, given), strict=True))
    loaded = tf.saved_model.load(str(bundle / "saved_model" / name / "1"))
    tensors = {key: tf.constant(value) for key, value in given.items()}
    found = loaded.signatures["serving_default"](**tensors)
    yield {key: value.numpy() for key, value in found.items()}


@pytest.mark.parametrize("count", [1, 7, 64])
def test_a_discrete_policy_agrees_with_keras(folder, count):
    seen = observations(count)
    logits = np.asarray(policy()(seen)["logits"])
    for found in runtimes(folder / "discrete", observation=seen):
        assert found.keys() == {"action", "logits"}
        np.testing.assert_allclose(found["logits"], logits, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(found["action"], logits.argmax(axis=-1))
        assert found["action"].dtype == np.int64
    bundle = serving.Bundle(folder / "discrete")
    np.testing.assert_array_equal(bundle.act(seen), logits.argmax(axis=-1))
    if count == 64:
        assert set(logits.argmax(axis=-1).tolist()) == {0, 1}


@pytest.mark.parametrize("count", [1, 7, 64])
def test_a_continuous_policy_agrees_with_keras(folder, count):
    seen = observations(count, 3)
    wanted = {name: np.asarray(x) for name, x in gaussian()(seen).items()}
    wanted["action"] = wanted["mean"].clip(-2, 2)
    for found in runtimes(folder / "continuous", observation=seen):
        assert found.keys() == wanted.keys()
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        serving.Bundle(folder / "continuous").act(seen), wanted["action"], rtol=0, atol=1e-6
    )
    if count == 64:
        assert (np.abs(wanted["mean"]) > 2).any()


def test_the_manifest_describes_ports_and_environment(folder):
    content = json.loads((folder / "discrete" / "manifest.json").read_text())
    assert (content["role"], content["environment"]) == ("policy", CARTPOLE)
    (seen,) = content["inputs"]
    assert (seen["name"], seen["kind"], seen["fill"]) == ("observation", "array", "given")
    assert (seen["shape"], seen["meta"]) == (["batch", 4], {})
    action, logits = content["outputs"]
    assert (action["name"], action["dtype"], action["shape"]) == ("action", "int64", ["batch"])
    assert (action["kind"], action["meta"]) == ("label", {"num_classes": 2})
    assert (logits["name"], logits["shape"]) == ("logits", ["batch", 2])
    content = json.loads((folder / "continuous" / "manifest.json").read_text())
    assert content["inputs"][0]["meta"] == {"value_range": [-8.0, 8.0]}
    assert [port["name"] for port in content["outputs"]] == ["action", "mean", "log_std"]
    assert content["outputs"][0]["meta"] == {"value_range": [-2.0, 2.0]}
    for figures in content["parity"]["figures"].values():
        assert max(figures.values()) < 1e-6


def test_the_card_says_how_a_policy_acts(folder):
    card = (folder / "discrete" / "README.md").read_text()
    assert "policy.act(observation)  # one observation (4,), or several" in card
    assert "of the environment CartPole-v1" in card
    assert "keras-gan play" in card


def test_the_choice_of_the_largest_logit_is_one_operation(folder):
    import onnx

    operations = [node.op_type for node in onnx.load(folder / "discrete" / "model.onnx").graph.node]
    assert operations.count("ArgMax") == 1
    assert operations[-1] == "ArgMax"


def test_a_sequential_policy_with_other_names():
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), L.Dense(8, "relu"), L.Dense(2)], name="plain")
    network, _ = open_draft(model, role="policy", environment=CARTPOLE)
    found = network.run({"observation": observations()})
    np.testing.assert_array_equal(found["logits"], model(observations()))
    assert [port.name for port in network.outputs] == ["action", "logits"]


def test_a_policy_in_mixed_precision_is_exported_in_float32():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        models = policy(), gaussian()
    finally:
        keras.config.set_dtype_policy("float32")
    for model, facts, size in zip(models, (CARTPOLE, PENDULUM), (4, 3), strict=True):
        network, _ = open_draft(model, role="policy", environment=facts)
        name = "logits" if size == 4 else "mean"
        wanted = (policy() if size == 4 else gaussian())(observations(9, size))[name]
        found = network.run({"observation": observations(9, size)})[name]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def critic(size=4, count=2, one_hot=True):
    keras.utils.set_random_seed(4)
    seen, x = hidden(size)
    actions = keras.Input((count,), name="samples")
    reward = L.Dense(1)(L.Dense(8, "tanh")(L.Concatenate()([x, actions])))
    return keras.Model([seen, actions], reward, name="critic")


def test_a_reward_takes_the_numbers_of_discrete_actions(tmp_path):
    to = tmp_path / "reward"
    export.export_bundle(critic(), to, role="reward", environment=CARTPOLE)
    seen, actions = observations(6), np.array([0, 1, 1, 0, 1, 0])
    wanted = np.asarray(critic()([seen, np.eye(2, dtype=np.float32)[actions]]))[:, 0]
    for found in runtimes(to, "critic", observation=seen, action=actions):
        assert found.keys() == {"reward"}
        np.testing.assert_allclose(found["reward"], wanted, rtol=0, atol=1e-6)
    bundle = serving.Bundle(to)
    found = bundle.generate(observation=seen, action=actions)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    with pytest.raises(UsageError, match=r"class ids from 0 to 1\. Received: 2"):
        bundle.generate(observation=seen[:1], action=[2])
    assert "generate(observation=observations, action=actions)" in (to / "README.md").read_text()


def test_a_reward_takes_continuous_actions_within_their_bounds():
    network, _ = open_draft(critic(3, 1), role="reward", environment=PENDULUM)
    seen, actions = observations(6, 3), np.linspace(-2, 2, 6, dtype=np.float32)[:, np.newaxis]
    found = network.run({"observation": seen, "action": actions})["reward"]
    np.testing.assert_allclose(found, critic(3, 1)([seen, actions])[:, 0], rtol=0, atol=1e-6)
    with pytest.raises(UsageError, match=r"'action' must have values in \[-2, 2\]"):
        Inputs(network.inputs).check_given({"observation": seen[:1], "action": [[3.0]]})


def without(facts, **change):
    return {**facts, **change}


@pytest.mark.parametrize(
    ("model", "options", "line"),
    [
        (policy, {"role": "policy"}, "needs `environment`, the spaces"),
        (policy, {"environment": CARTPOLE}, "`environment` is for the roles policy and reward"),
        (policy, {"role": "classifier", "environment": CARTPOLE}, "Received: role='classifier'"),
        (policy, {"role": "policy", "environment": {"id": "A-v0"}}, "`environment` must be an obj"),
        (
            policy,
            {"role": "policy", "environment": without(CARTPOLE, action={"n": 3})},
            r"for 3 discrete actions must have the output 'logits' of shape \(3,\).*logits \(2,\)",
        ),
        (
            policy,
            {"role": "policy", "environment": PENDULUM},
            r"`environment.observation.low` must be one .* 3 numbers, .* of shape \(4,\)",
        ),
        (lambda: gaussian(4), {"role": "policy", "environment": CARTPOLE}, "the output 'logits'"),
        (critic, {"role": "policy", "environment": CARTPOLE}, "must have one input, the obs"),
        (policy, {"role": "reward", "environment": CARTPOLE}, "must have two inputs"),
        (
            lambda: critic(4, 3),
            {"role": "reward", "environment": CARTPOLE},
            r"of shape \(\) or one-hot \(2,\). Received: .*'samples' of shape \(3,\)",
        ),
        (
            lambda: keras.Sequential([keras.Input((None, 4)), L.Dense(2)]),
            {"role": "policy", "environment": CARTPOLE},
            "whose observations are floats of fixed shape",
        ),
    ],
)
def test_networks_that_do_not_fit_are_one_line(tmp_path, model, options, line):
    with pytest.raises(UsageError, match=line) as error:
        export.export_bundle(model(), tmp_path / "bundle", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "bundle").exists()


# ------------------------------------------------------------------------ games


def game(environment="CartPole-v1", kind=games.Imitation, **options):
    keras.utils.set_random_seed(5)
    spec = Spec(fields=spaces_of(environment).fields)
    names = ("policy", "value", "discriminator") if kind is games.Imitation else ("policy",)
    module = architectures.module("policy")
    networks = {name: getattr(module, name)(spec) for name in names}
    found = kind(**networks, environment=environment, **options)
    for each in networks.values():
        for weight in each.trainable_weights:
            if weight.path.endswith("kernel"):
                weight.assign(weight + keras.random.normal(weight.shape, stddev=0.3, seed=6))
        update_statistics(each, observations(64, spaces_of(environment).observation))
    return found


def test_a_game_is_exported_as_its_policy_with_the_spaces_of_its_environment(tmp_path):
    imitation = game()
    export.export_bundle(imitation, tmp_path / "a", average=False, name="cartpole")
    bundle, seen = serving.Bundle(tmp_path / "a"), observations()
    outputs = imitation.policy(seen)
    found = bundle.sample(observation=seen)
    np.testing.assert_allclose(found["logits"], outputs["logits"], rtol=0, atol=1e-6)
    # The game's own `samples` are the same choices, one-hot.
    np.testing.assert_array_equal(np.eye(2)[bundle.act(seen)], outputs["samples"])
    assert set(found["action"].tolist()) == {0, 1}
    facts = bundle.manifest["environment"]
    assert facts["id"] == "CartPole-v1"
    assert facts["action"] == {"n": 2}
    np.testing.assert_allclose(facts["observation"]["high"][0], 4.8, rtol=1e-6)
    assert facts["observation"]["low"][1] is None


def test_a_continuous_game_acts_within_its_bounds():
    cloning = game("Pendulum-v1", games.BehaviorCloning)
    network, draft = open_draft(cloning, average=False)
    assert draft.environment["action"] == {"low": [-2.0], "high": [2.0]}
    seen = observations(64, 3)
    found = network.run({"observation": seen})
    outputs = cloning.policy(seen)
    for name, ours in (("action", "samples"), ("mean", "mean"), ("log_std", "log_std")):
        np.testing.assert_allclose(found[name], outputs[ours], rtol=0, atol=2e-6)


def test_the_discriminator_of_a_game_is_a_reward():
    seen, actions = observations(16), np.arange(16) % 2
    given = {"observation": seen, "action": actions}
    pairs = {"observation": seen, "samples": np.eye(2, dtype=np.float32)[actions]}
    for reward, of in (
        ("gail", lambda x: np.log1p(np.exp(x))),  # -log(1 - D)
        ("log_d", lambda x: -np.log1p(np.exp(-x))),  # log(D)
        ("airl", lambda x: x),
    ):
        imitation = game(reward=reward)
        logits = np.float64(imitation.discriminator(pairs))[:, 0]
        assert logits.std() > 0.1
        network, draft = open_draft(imitation, role="reward", average=False)
        assert (draft.role, draft.environment["id"]) == ("reward", "CartPole-v1")
        np.testing.assert_allclose(network.run(given)["reward"], of(logits), rtol=0, atol=2e-6)


def test_other_networks_of_games_have_other_roles(tmp_path):
    cases = (
        (game(), {"network": "value"}, "policy, discriminator. Received: network='value'"),
        (game(), {"network": "policy", "role": "reward"}, "'policy' has the role 'policy'"),
        (game(kind=games.BehaviorCloning), {"role": "reward"}, "of BehaviorCloning, with the net"),
    )
    for imitation, options, line in cases:
        with pytest.raises(UsageError, match=line):
            export.export_bundle(imitation, tmp_path / "bundle", **options)
    environment = {**CARTPOLE, "action": {"n": 3}}
    with pytest.raises(UsageError, match="for 3 discrete actions"):
        export.export_bundle(game(), tmp_path / "bundle", environment=environment)


def test_the_layer_of_rewards_is_saved_and_loaded():
    layer = acting.RewardOfLogits("log_d")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_allclose(copy(np.array([[0.0], [1.0]])), [-np.log(2), -np.log1p(np.exp(-1))])
    assert acting.LargestLogit()(np.array([[1.0, 3, 3], [2, 1, 0]])).numpy().tolist() == [1, 0]
