"""No command imports from the current folder, but for the module that --import names."""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from keras_gan import UsageError, imports

ROOT = pathlib.Path(__file__).parents[1]
# Names of our packages, of the standard library, and of packages that ours need.
NAMES = ("random", "inspect", "numpy", "keras", "tensorflow", "json", "pickle", "socket", "secrets")
NAMES += ("subprocess", "signal", "onnxruntime", "PIL", "difflib", "argparse", "typer", "yaml")
SMALL = (
    "data.source=gaussians",
    "networks.generator={architecture: mlp, widths: [4], latent_dim: 2}",
    "networks.discriminator={architecture: mlp, widths: [4]}",
    "game.terms=[]",
    "training.examples=64",
    "training.batch_size=32",
    "evaluation={count: 16}",
    "samples={count: 4}",
)
SETS = [part for setting in SMALL for part in ("--set", setting)]


def fill(folder, packages=("export", "serving")):
    """Writes modules that must not be imported."""
    source = f"open({str(folder / 'imported')!r}, 'a').write(__name__ + ' ')\n"
    source += "raise SystemExit('mine')\n"
    for name in NAMES:
        (folder / f"{name}.py").write_text(source)
    for name in packages:
        (folder / f"{name}.py").write_text(source)
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(source)
    return folder


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path)


def run(folder, *command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert not (folder / "imported").exists(), (folder / "imported").read_text()
    assert done.returncode == 0, done.stderr
    return done.stdout


def program():
    """Returns the console script as pip installs it, whose folder is first on its module path."""
    return pathlib.Path(sys.executable).with_name("keras-gan")


def test_quickstart_and_all_of_its_processes_import_nothing_from_the_current_folder(folder):
    """It trains, exports, verifies without Keras, samples and measures, in four processes."""
    out = run(folder, program(), "quickstart", *SETS, "--run", "run")
    assert "verified" in out
    assert (folder / "run/samples.png").is_file()


def test_python_m_imports_nothing_but_the_module_that_is_named(folder):
    (folder / "my_game.py").write_text("import my_terms\n")
    (folder / "my_terms.py").write_text(
        textwrap.dedent(
            """
            import inspect, random
            import keras_gan

            class Mine(keras_gan.terms.Term):
                '''A term of the current folder.'''
            """
        )
    )
    out = run(folder, sys.executable, "-m", "keras_gan", "list", "--import", "my_game")
    assert "A term of the current folder." in out


def test_the_server_programs_and_their_workers_import_nothing_from_the_current_folder(
    clothes, tmp_path
):
    (tmp_path / "all").mkdir()
    (tmp_path / "some").mkdir()
    shards = ("--count", "16", "--shard-size", "8", "--workers", "2", "--out", "shards/")
    everything = fill(tmp_path / "all")
    run(everything, program(), "sample", clothes.path, *shards)
    # Python itself takes `serving` from the current folder here, if there is one.
    others = fill(tmp_path / "some", packages=("export",))
    run(others, sys.executable, "-m", "serving.cli", "sample", clothes.path, *shards)
    for path in (everything, others):
        assert len(list((path / "shards").glob("*.tar"))) == 2


def test_a_checkout_that_is_not_installed_passes_its_place_on():
    """Without site-packages, the current folder is the only place where `serving` is found."""
    code = "from serving import programs; print(programs.environment().get('PYTHONPATH'))"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def place(folder, *options, **more):
        command = [sys.executable, "-S", *options, "-c", code]
        done = subprocess.run(
            command, cwd=folder, env=environment | more, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert place(ROOT) == str(ROOT)
    assert place("/", PYTHONPATH=f"{ROOT}:/other") == f"{ROOT}:/other"  # the user's, unchanged
    assert place("/", "-P", PYTHONPATH=str(ROOT)) == str(ROOT)


# ------------------------------------------------------------------------------- --import


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, and a module path that is restored at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(imports, "_LOADED", {})
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_module_of_the_current_folder_is_found_by_its_name(here):
    (here / "one_of_mine.py").write_text("import beside_it\nVALUE = beside_it.VALUE\n")
    (here / "beside_it.py").write_text("VALUE = 7\n")
    (here / "colorsys.py").write_text("raise SystemExit('mine')\n")  # of the standard library
    sys.modules.pop("colorsys", None)
    imports.load(["one_of_mine"])
    assert sys.modules["one_of_mine"].VALUE == 7
    assert sys.path[-1] == str(here)
    assert sys.path.count(str(here)) == 1
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)


def test_packages_and_their_modules_are_found_by_their_names(here):
    (here / "my_package").mkdir()
    (here / "my_package/__init__.py").write_text("VALUE = 1\n")
    (here / "my_package/inner.py").write_text("from my_package import VALUE\n")
    (here / "plain").mkdir()
    (here / "plain/inner.py").write_text("VALUE = 3\n")
    imports.load(["my_package.inner", "plain.inner", "my_package"])
    assert sys.modules["my_package.inner"].VALUE == 1
    assert sys.modules["plain.inner"].VALUE == 3
    recorded = {entry["name"]: entry for entry in imports.describe()}
    assert recorded["my_package.inner"]["path"] == str(here / "my_package/inner.py")
    assert recorded["my_package"]["path"] == str(here / "my_package/__init__.py")


def test_a_module_that_was_named_is_found_again_from_another_folder(here, monkeypatch):
    (here / "again.py").write_text("VALUE = 1\n")
    imports.load(["again"])
    recorded = imports.describe()
    monkeypatch.setattr(imports, "_LOADED", {})
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(here)])
    del sys.modules["again"]
    monkeypatch.chdir("/")
    imports.reload(recorded, "runs/x")
    assert sys.modules["again"].VALUE == 1
    monkeypatch.setattr(imports, "_LOADED", {})
    (here / "again.py").write_text("VALUE = 2\n")
    with pytest.raises(UsageError, match=r"runs/x was trained with --import .*again.py, which has"):
        imports.reload(recorded, "runs/x")
    (here / "again.py").unlink()
    with pytest.raises(UsageError, match=r"again.py, which does not exist: restore it"):
        imports.reload(recorded, "runs/x")


def test_a_module_that_hides_another_is_refused_rather_than_exchanged(here):
    (here / "random.py").write_text("VALUE = 1\n")
    with pytest.raises(UsageError, match=r"Received: .*random.py, but a module 'random' is impor"):
        imports.load(["random"])
    with pytest.raises(UsageError, match=r"'nowhere', which is neither installed nor in /"):
        imports.load(["nowhere"])
    imports.load(["colorsys"])  # installed, and not in the current folder
    assert imports.describe()[0]["folder"] == ""


@pytest.mark.parametrize(
    ("entries", "started"),
    [(":/nowhere", ["list", "module"]), ("/nowhere:", ["module"]), ("/nowhere::/other", ["list"])],
)
def test_an_empty_entry_of_the_module_path_is_not_the_current_folder(tmp_path, entries, started):
    folder = fill(tmp_path, ["export"])  # the script itself imports `serving`
    script = pathlib.Path(sys.executable).with_name("keras-gan")
    commands = {
        "help": [script, "--help"],  # imports no TensorFlow, which takes seconds
        "list": [script, "list"],
        "module": [sys.executable, "-P", "-m", "keras_gan", "--help"],
    }
    for command in (commands[name] for name in ("help", *started)):
        environment = {**os.environ, "PYTHONPATH": entries}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        assert not (folder / "imported").exists(), (folder / "imported").read_text()
