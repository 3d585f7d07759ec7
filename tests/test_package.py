"""Tests of the package: imports, content of the wheel, use outside the checkout."""

import ast
import pathlib
import subprocess
import sys
import textwrap
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Modules of the project that each of its modules may import, by their first two names.
# Every module may import the leaves.
LEAVES = {"keras_gan.errors", "keras_gan.spec", "keras_gan.registry", "keras_gan._version"}
LEAVES |= {"keras_gan.networks", "keras_gan.replicas"}
# Leaves of serving, without onnxruntime.
SERVING_LEAVES = {"serving.errors", "serving.kinds", "serving.manifest", "serving.seeds"}
LEAVES |= SERVING_LEAVES
ALLOWED = {
    "serving.kinds": {"serving"},  # its pictures
    "keras_gan.networks": set(),
    "keras_gan.replicas": set(),
    "keras_gan.optimizers": {"keras_gan.schedules"},
    "keras_gan.errors": {"serving"},
    "keras_gan.spec": set(),
    "keras_gan.registry": set(),
    "keras_gan._version": set(),
    "keras_gan._start": set(),
    "keras_gan.latents": set(),
    "keras_gan.augment": {"keras_gan.schedules"},
    "keras_gan.losses": set(),
    "keras_gan.schedules": set(),
    "keras_gan.constraints": set(),
    "keras_gan.terms": {"keras_gan.augment", "keras_gan.optimizers", "keras_gan.schedules"},
    "keras_gan.pictures": set(),
    "keras_gan.precision": set(),
    "keras_gan.architectures": {"keras_gan.layers"},
    "keras_gan.convolutions": {"keras_gan.precision"},
    "keras_gan.layers": {"keras_gan.convolutions", "keras_gan.precision"},
    "keras_gan.datasets": set(),
    "keras_gan.metrics": {  # evaluate opens runs, bundles and games
        "keras_gan.checks",
        "keras_gan.datasets",
        "keras_gan.games",
        "keras_gan.latents",
        "keras_gan.pictures",
        "keras_gan.run",
    },
    "keras_gan.checks": {"keras_gan.latents", "keras_gan.schedules"},
    "keras_gan.theory": set(),
    "keras_gan.games": {
        "keras_gan.augment",
        "keras_gan.checks",
        "keras_gan.constraints",
        "keras_gan.losses",
        "keras_gan.optimizers",
        "keras_gan.terms",
        "keras_gan.schedules",
        "keras_gan.latents",
        "serving",
    },
    "keras_gan.memory": {"keras_gan.games"},
    "keras_gan.recipe": {
        "keras_gan.architectures",
        "keras_gan.datasets",
        "keras_gan.games",
        "keras_gan.terms",
        "keras_gan.schedules",
    },
    "keras_gan.files": set(),
    "keras_gan.environment": set(),
    "keras_gan.checkpoints": {"keras_gan.files", "keras_gan.games"},
    "keras_gan.run": {
        "keras_gan.checkpoints",
        "keras_gan.datasets",
        "keras_gan.environment",
        "keras_gan.files",
        "keras_gan.games",
        "keras_gan.recipe",
    },
    "keras_gan.report": {"keras_gan.files", "keras_gan.metrics", "keras_gan.run"},
    "keras_gan.callbacks": {
        "keras_gan.checkpoints",
        "keras_gan.checks",
        "keras_gan.files",
        "keras_gan.metrics",
        "keras_gan.optimizers",
        "keras_gan.pictures",
        "keras_gan.precision",
        "keras_gan.report",
        "keras_gan.run",
    },
    "keras_gan.building": {
        "keras_gan.architectures",
        "keras_gan.callbacks",
        "keras_gan.datasets",
        "keras_gan.games",
        "keras_gan.metrics",
        "keras_gan.precision",
        "keras_gan.recipe",
        "keras_gan.workers",
    },
    "keras_gan.fitting": {
        "keras_gan.building",
        "keras_gan.callbacks",
        "keras_gan.datasets",
        "keras_gan.games",
        "keras_gan.precision",
        "keras_gan.recipe",
        "keras_gan.run",
        "keras_gan.workers",
    },
    "keras_gan.train": {
        "keras_gan.building",
        "keras_gan.callbacks",
        "keras_gan.datasets",
        "keras_gan.fitting",
        "keras_gan.games",
        "keras_gan.precision",
        "keras_gan.recipe",
        "keras_gan.run",
        "keras_gan.workers",
    },
    "keras_gan.workers": {"keras_gan.callbacks", "keras_gan.run"},
    "keras_gan.__main__": {"keras_gan.commands", "keras_gan.workers"},
    "keras_gan.commands": {
        "export",
        "keras_gan.architectures",
        "keras_gan.augment",
        "keras_gan.constraints",
        "keras_gan.datasets",
        "keras_gan.losses",
        "keras_gan.memory",
        "keras_gan.metrics",
        "keras_gan.terms",
        "keras_gan.recipe",
        "keras_gan.report",
        "keras_gan.run",
        "keras_gan.schedules",
        "keras_gan.train",
        "keras_gan.workers",
    },
    "export": {"keras_gan", "keras_gan.datasets", "keras_gan.latents", "keras_gan.metrics"},
    "serving": set(),
}


def unit(name):
    """`keras_gan.datasets.folder` -> `keras_gan.datasets`, `export.bundle` -> `export`."""
    parts = name.split(".")
    if parts[:2] == ["serving", "kinds"]:  # a leaf that is a package
        return "serving.kinds"
    return ".".join(parts[:2]) if parts[0] == "keras_gan" else parts[0]


def imports(path):
    """Returns the units of the project that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [n if is_module(n) else str(node.module) for n in names]
        else:
            continue
        ours = [n for n in names if n.split(".")[0] in ("keras_gan", "export", "serving")]
        found |= {n if n in SERVING_LEAVES else unit(n) for n in ours}
    return found


def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


FILES = sorted(p for top in ("keras_gan", "export", "serving") for p in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_import_only_what_the_design_allows(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if name == "keras_gan":
        return  # imports everything, so that .keras files find their classes
    own = unit(name)
    assert own in ALLOWED, f"{own} is new: say in ALLOWED what it may import"
    leaves = SERVING_LEAVES if own.startswith("serving") else LEAVES
    assert imports(path) - {own} <= ALLOWED[own] | leaves


def test_serving_imports_nothing_heavy_and_no_other_package_of_the_project():
    """Runs in a new process, with an importer that blocks the others."""
    program = textwrap.dedent(
        """
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {"tensorflow", "keras", "keras_gan", "export"}:
                    raise ImportError(f"serving must not import {name}")

        sys.meta_path.insert(0, Blocker())
        import serving, serving.bundle, serving.cli, serving.seeds, serving.pictures
        import serving.bulk, serving.client, serving.ray_app, serving.tfrecord
        import serving.interpolation
        import serving.app, serving.server
        print(serving.seeds.latents_from_seeds([0], 2).shape)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "(1, 2)\n", done.stderr


def test_the_program_that_blocks_keras_is_never_imported():
    """It runs as a process; an import would block Keras for the importing program."""
    program = ROOT / "export" / "without_keras.py"
    assert "sys.meta_path.insert" in program.read_text("utf-8")
    for path in (ROOT / "export").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            assert not any(n.endswith("without_keras") for n in names), path
            assert not str(getattr(node, "module", "")).endswith("without_keras"), path


def test_the_library_contains_no_assert():
    for path in FILES:
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        assert not [n.lineno for n in nodes if isinstance(n, ast.Assert)], path


def test_the_wheel_works_in_a_fresh_environment_outside_the_checkout(tmp_path):
    """Builds it without the network; dependencies come from this environment."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} >= {"keras_gan", "export", "serving"}
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    for name in (
        "keras_gan/py.typed",
        "export/py.typed",
        "serving/py.typed",
        "serving/tf_serving/compose.yaml",
        "serving/docker/Dockerfile",
        "serving/kubernetes/deployment.yaml",
        "serving/page/index.html",
        "serving/page/style.css",
        "serving/page/app.js",
        "serving/requirements.txt",
        "keras_gan/recipes/quickstart.yaml",
        "keras_gan/datasets/data/t10k-images-idx3-ubyte.gz",
        "keras_gan/datasets/data/LICENSE.fashion-mnist",
        "keras_gan/metrics/networks/fashion_mnist.onnx",
    ):
        assert name in names, name

    environment = tmp_path / "env"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, timeout=120)
    (site,) = environment.glob("lib/python*/site-packages")
    here = pathlib.Path(pytest.__file__).parents[1]
    (site / "dependencies.pth").write_text(f"{here}\n")  # below the wheel's own folder in order
    program = (
        "import keras_gan, export, serving\n"
        "for package in (keras_gan, export, serving):\n"
        "    print(package.__file__)\n"
        "print(keras_gan.datasets.open('fashion-mnist-10k').count('train'))\n"
    )
    done = subprocess.run(
        [python, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    lines = done.stdout.splitlines()
    assert lines[-1:] == ["9000"], done.stderr[-2000:]
    assert all(line.startswith(str(environment)) for line in lines[:3])
    done = subprocess.run(
        [environment / "bin" / "keras-gan", "list"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert "quickstart" in done.stdout, done.stderr[-2000:]
    assert done.stderr == ""


@pytest.mark.gpu
def test_a_gpu_is_reported_and_trains(tmp_path):
    """Needs a GPU: the device is reported, and half precision trains on it."""
    import numpy as np

    from keras_gan import recipe, train

    assert train.name_devices().startswith("GPU: ")
    settings = ["training.examples=640", "training.precision=mixed_float16"]
    outcome = train.train(recipe.load("quickstart", settings), tmp_path / "run")
    assert np.isfinite([row["d_loss"] for row in outcome.run.rows()]).all()
