"""Tiny bundles of policies and of a reward, written quickly with onnx and numpy."""

import json

import numpy as np
import tiny

from serving.inputs import Input, Port

# Of CartPole-v1, MountainCarContinuous-v0 and Pendulum-v1 in gymnasium.
CARTPOLE = {
    "id": "CartPole-v1",
    "observation": {
        "low": [-4.800000190734863, None, -0.41887903213500977, None],
        "high": [4.800000190734863, None, 0.41887903213500977, None],
    },
    "action": {"n": 2},
}
PENDULUM = {
    "id": "Pendulum-v1",
    "observation": {"low": [-1.0, -1.0, -8.0], "high": [1.0, 1.0, 8.0]},
    "action": {"low": [-2.0], "high": [2.0]},
}
# Pushes the cart to the side to which the pole falls: 500 steps of an episode, which is all.
BALANCE = np.array([[0.0], [0.1], [1.0], [1.0]], np.float32) * np.array([[-1.0, 1.0]], np.float32)


def discrete(to, weights=BALANCE, environment=CARTPOLE, name="cartpole", width=0):
    """Writes a policy of discrete actions: the logits are linear in the observation.

    Args:
        to: folder of the bundle.
        weights: `(observation, actions)`.
        environment: of the manifest.
        name: name of the model.
        width: features of two hidden layers, whose part of the answer is tiny; 0 for none.
    """
    size, count = weights.shape
    inputs = [Input("observation", "float32", (size,), "array")]
    outputs = [
        Port("action", "int64", (), "label", {"num_classes": count}),
        Port("logits", "float32", (count,), "array"),
    ]
    arrays, last = {"kernel": weights}, "observation"
    nodes = [("MatMul", [last, "kernel"], ["linear"], {})]
    if width:
        rng = np.random.default_rng(0)
        shapes = {"first": (size, width), "second": (width, width), "third": (width, count)}
        arrays |= {n: rng.normal(size=s).astype("float32") / 1e3 for n, s in shapes.items()}
        for number, kernel in enumerate(shapes):
            nodes.append(("MatMul", [last, kernel], [f"x{number}"], {}))
            nodes.append(("Tanh", [f"x{number}"], [last := f"y{number}"], {}))
        nodes.append(("Add", ["linear", last], ["logits"], {}))
    else:
        nodes.append(("Identity", ["linear"], ["logits"], {}))
    nodes.append(("ArgMax", ["logits"], ["action"], {"axis": -1, "keepdims": 0}))
    model = tiny.network(name, nodes, inputs, outputs, arrays)
    return _save(to, model, inputs, outputs, environment)


def continuous(to, environment=PENDULUM, name="pendulum"):
    """Writes a policy of one number: 10 times the sum of the observation, within the bounds."""
    size = len(environment["observation"]["low"])
    (low,), (high,) = environment["action"]["low"], environment["action"]["high"]
    inputs = [Input("observation", "float32", (size,), "array")]
    outputs = [Port(each, "float32", (1,), "array") for each in ("action", "mean", "log_std")]
    nodes = [
        ("MatMul", ["observation", "kernel"], ["mean"], {}),
        ("Clip", ["mean", "low", "high"], ["action"], {}),
        ("Mul", ["mean", "zero"], ["log_std"], {}),
    ]
    weights = {
        "kernel": np.full((size, 1), 10, np.float32),
        "low": np.array(low, np.float32),
        "high": np.array(high, np.float32),
        "zero": np.array([0.0], np.float32),
    }
    model = tiny.network(name, nodes, inputs, outputs, weights)
    return _save(to, model, inputs, outputs, environment)


def reward(to, environment=CARTPOLE, name="reward"):
    """Writes a reward: the sum of the observation plus the number of the action."""
    inputs = [
        Input("observation", "float32", (4,), "array"),
        Input("action", "int64", (), "label", {"num_classes": 2}),
    ]
    outputs = [Port("reward", "float32", (), "array")]
    nodes = [
        ("ReduceSum", ["observation", "axes"], ["sum"], {"keepdims": 0}),
        ("Cast", ["action"], ["number"], {"to": 1}),
        ("Add", ["sum", "number"], ["reward"], {}),
    ]
    model = tiny.network(name, nodes, inputs, outputs, {"axes": np.array([1], np.int64)})
    return _save(to, model, inputs, outputs, environment, "reward")


def _save(to, model, inputs, outputs, environment, role="policy"):
    tiny.save(to, model.graph.name, model, inputs, outputs, role)
    edit(to, environment=environment)
    return to


def edit(bundle, **change):
    """Changes fields of the manifest; `None` removes one."""
    content = json.loads((bundle / "manifest.json").read_text()) | change
    tiny.seal(bundle, {key: value for key, value in content.items() if value is not None})
