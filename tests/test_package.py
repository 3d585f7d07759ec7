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

# The import rules of the design. They name packages, not modules: a new module needs no entry here.
PACKAGES = ("keras_gan", "export", "serving")
# Modules of serving that the other packages may import, so that each rule has one owner.
LEAVES = ("errors", "seeds", "manifest", "inputs", "kinds", "pictures", "provenance", "checks")
LEAVES += ("strict_json", "port_rules", "bundle_folder", "lists", "programs", "animations")
LEAVES += ("value_ranges", "labels", "nearest_names", "processor", "cuda", "main_memory")
LEAVES += ("system_files", "uploads", "png", "translation", "examples", "environments")
LEAVES += ("mel", "griffin_lim", "wav", "resample", "vocoding")
LEAVES += ("extras", "video_rules", "endless", "texts", "playing", "output_files")
LEAVES = tuple(f"serving.{name}" for name in LEAVES)
COMMANDS = "keras_gan.commands"  # the only part of the library that also exports and samples
# Parts that a game is made of. They work without it, and in games of a user's own.
PARTS = ("losses", "terms", "layers", "augment", "metrics", "datasets", "architectures")
PARTS = tuple(f"keras_gan.{name}" for name in (*PARTS, "schedules", "constraints", "spec"))
GAMES = ("keras_gan.games", "keras_gan.run", "keras_gan.callbacks", "keras_gan.train")

FILES = sorted(p for top in PACKAGES for p in (ROOT / top).rglob("*.py"))


def module_name(path):
    """`keras_gan/games/__init__.py` -> `keras_gan.games`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {module_name(path): path for path in FILES}


def within(name, *packages):
    """Checks whether a module is one of the packages or in one of them."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def runtime_nodes(tree):
    """Yields the nodes of a module except those that only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from runtime_nodes(node)


def first_two(name):
    return ".".join(name.split(".")[:2])


def imports(path):
    """Returns the modules of the project that a file imports, at its top or inside functions."""
    found = set()
    for node in runtime_nodes(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in NAMES else str(node.module) for name in names}
    return {name for name in found if within(name, *PACKAGES)}


GRAPH = {name: imports(path) for name, path in NAMES.items()}


def reached(start, graph):
    """Returns everything that a module imports, directly or not."""
    found, left = set(), [start]
    while left:
        new = graph.get(left.pop(), set()) - found
        found |= new
        left += new
    return found


def bad(names, rule):
    """Returns the imports of modules for which a rule of two modules does not hold."""
    return [f"{a} -> {b}" for a in names for b in sorted(GRAPH[a]) if not rule(a, b)]


def test_serving_imports_nothing_of_ours():
    assert not bad((n for n in NAMES if within(n, "serving")), lambda a, b: within(b, "serving"))


def test_the_leaves_of_serving_import_leaves_alone():
    leaves = [name for name in NAMES if within(name, *LEAVES)]
    assert not bad(leaves, lambda a, b: within(b, *LEAVES))
    heavy = ("import onnxruntime", "from onnxruntime")
    assert not [n for n in leaves if any(x in NAMES[n].read_text("utf-8") for x in heavy)]


def test_the_library_imports_the_leaves_of_serving_and_never_export():
    library = [n for n in NAMES if within(n, "keras_gan") and not within(n, COMMANDS)]
    assert not bad(library, lambda a, b: within(b, "keras_gan", *LEAVES))
    commands = [n for n in NAMES if within(n, COMMANDS)]
    assert not bad(
        commands, lambda a, b: b in ("serving", "export") or within(b, "keras_gan", *LEAVES)
    )


def test_export_imports_public_names_of_the_library_and_the_leaves_of_serving():
    """`serving` itself is `serving.Bundle`, which draws the pictures of the card."""

    def rule(name, other):
        public = within(other, "keras_gan") and other.count(".") < 2 and "._" not in other
        return public or other == "serving" or within(other, "export", *LEAVES)

    assert not bad((n for n in NAMES if within(n, "export")), rule)


def is_metric(path):
    """Checks whether a module defines a metric: a class whose base is one."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    bases = (ast.unparse(base) for n in nodes if isinstance(n, ast.ClassDef) for base in n.bases)
    return any(base.split(".")[-1].endswith("Metric") for base in bases)


def test_the_parts_of_a_game_know_nothing_of_games():
    """Metrics too; `metrics.evaluate` and its readers of generators and data open runs."""
    parts = [n for n in NAMES if within(n, *PARTS) and not within(n, "keras_gan.metrics")]
    metrics = [n for n in NAMES if within(n, "keras_gan.metrics") and is_metric(NAMES[n])]
    assert len(metrics) > 5
    found = {
        f"{part} -> {name}"
        for part in (*parts, *metrics)
        for name in reached(part, GRAPH)
        if within(name, *GAMES)
    }
    assert not found


def cycles(graph):
    """Returns the strongly connected components of more than one node (Tarjan's algorithm)."""
    order, low, stack, found = {}, {}, [], []

    def visit(node):
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in graph:
        if node not in order:
            visit(node)
    return found


def second_level(name):
    return ".".join(name.split(".")[:2])


def test_there_are_no_cycles():
    """Neither among modules, nor among the packages of the library's second level."""
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]
    assert not cycles(GRAPH)
    packages = {}
    for name, others in GRAPH.items():
        found = packages.setdefault(second_level(name), set())
        found |= {second_level(n) for n in others} - {second_level(name)}
    assert not cycles(packages)


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
        "serving/requirements-gpu.txt",
        "serving/docker/Dockerfile.gpu",
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
