"""Private parts of Keras and TensorFlow that the library uses: they exist, and are still needed.

A failure here names what a new version has changed. Until the library is adapted to it, the caps in
pyproject.toml stay.
"""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(p for top in ("keras_gan", "export", "serving") for p in (ROOT / top).rglob("*.py"))
RELEASED = f"Keras {keras.__version__}"

# Private modules, and the names of them that are used.
MODULES = {
    "keras.src.backend.common.global_state": ("get_global_attribute", "set_global_attribute"),
    "tensorflow.python.eager.context": ("context",),
    "tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2": ("CoordinatedJob",),
}


def dense():
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def functional():
    x = keras.layers.Input((2,), name="x")
    return keras.Model({"x": x}, {"y": keras.layers.Dropout(0.5)(keras.layers.Dense(1)(x))})


def error_in_a_layer():
    class Failing(keras.layers.Layer):
        def call(self, x):
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong") as caught:
        Failing()(keras.ops.zeros((1, 2)))
    return caught.value


# Private attributes, and an object that has each.
ATTRIBUTES = {
    "_all_reduce_sum_gradients": lambda: dense().optimizer,
    "_flatten_layers": dense,
    "_functional": dense,
    "_inbound_nodes": lambda: functional().layers[1],
    "_inputs_struct": functional,
    "_keras_call_info_injected": error_in_a_layer,
    "_keras_history": lambda: functional().outputs[0],
    "_learning_rate": lambda: dense().optimizer,
    "_nodes_by_depth": functional,
    "_outputs_struct": functional,
    "_seed_generators": lambda: functional().layers[2],
    "_trainable_variables": lambda: functional().layers[1],
    # An override: the game builds itself, so Keras must still call the method that does it.
    "_maybe_symbolic_build": dense,
}
PUBLIC = {"_asdict"}  # of a named tuple
BY_NAME = ("getattr", "hasattr", "setattr", "delattr")


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def assigned(tree):
    """Returns the names that a module defines."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                found.add(node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def used(tree):
    """Returns the private attributes that a module reads, also by getattr and similar."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in BY_NAME:
            found |= {a.value for a in node.args[1:2] if isinstance(a, ast.Constant)}
    return {name for name in found if isinstance(name, str) and is_private(name)}


TREES = {path: ast.parse(path.read_text("utf-8")) for path in FILES}


def test_every_private_attribute_in_use_is_listed():
    own = set().union(*map(assigned, TREES.values()))
    found = set().union(*map(used, TREES.values())) - own - PUBLIC
    assert found == set(ATTRIBUTES) - {"_maybe_symbolic_build"}


def test_every_private_module_in_use_is_listed():
    found = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    private = ("keras.src.", "tensorflow.python.", "tensorflow.compiler.")
    found = {name for name in found if name.startswith(private) and " " not in name}
    assert found == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_private_module_has_the_names_in_use(name):
    try:
        module = importlib.import_module(name)
    except ImportError:
        module = None
    missing = [part for part in MODULES[name] if not hasattr(module, part)]
    users = [str(p.relative_to(ROOT)) for p in FILES if name.rpartition(".")[2] in p.read_text()]
    assert not missing, f"{name} has no {missing}: adapt {', '.join(users)}"


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_private_attribute_in_use_exists(name):
    users = [str(p.relative_to(ROOT)) for p in FILES if name in p.read_text("utf-8")]
    owner = ATTRIBUTES[name]()
    rule = f"{RELEASED}: {type(owner).__name__} has no {name}: adapt {', '.join(users)}"
    assert hasattr(owner, name), rule


def test_the_context_of_tensorflow_has_what_is_set():
    """`keras_gan.sums` sets its options, `keras_gan.workers` its heartbeat."""
    from tensorflow.python.eager import context

    found = context.context()
    assert hasattr(found, "_config"), "adapt keras_gan/sums.py"
    assert hasattr(found, "configure_coordination_service"), "adapt keras_gan/workers.py"


# ------------------------------------------------------------------ the leak of checkpoints

# Counts the optimizers that Keras makes in each of three saves, without and with the patch. In a
# process of its own, since Keras remembers the lists that earlier saves have made.
COUNT = """
import json, pathlib, sys
import keras
from keras_gan import checkpoints

made = []
create = keras.optimizers.Optimizer.__init__

def counted(self, *arguments, **named):
    made.append(self)
    create(self, *arguments, **named)

keras.optimizers.Optimizer.__init__ = counted
model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.optimizer.build(model.trainable_variables)
path = pathlib.Path(sys.argv[1])
counts = []
for save in (model.save, lambda path: checkpoints.save_atomically(model, path)):
    counts.append([])
    for _ in range(3):
        before = len(made)
        save(path)
        counts[-1].append(len(made) - before)
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def optimizers_made(tmp_path_factory):
    file = tmp_path_factory.mktemp("leak") / "x.keras"
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(file)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_patch_against_the_leak_of_checkpoints_is_still_needed(optimizers_made):
    """Keras 3.15 makes an optimizer in every save, only to list its attributes."""
    without, _ = optimizers_made
    assert without[0] >= 1, "the test no longer counts what Keras makes: adapt COUNT"
    assert min(without[1:]) >= 1, (
        f"{RELEASED} keeps its lists of attributes by itself: remove _keep_attribute_lists from "
        "keras_gan/checkpoints.py, and these two tests"
    )


def test_the_patch_against_the_leak_of_checkpoints_still_applies(optimizers_made):
    _, patched = optimizers_made
    assert patched[1:] == [0, 0], (
        f"{RELEASED} stores its lists of attributes elsewhere, and every save leaks an optimizer: "
        "adapt _keep_attribute_lists in keras_gan/checkpoints.py"
    )
