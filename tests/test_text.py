"""Text in and out: lists, sizes, encodings of terminals, and file names that are not text."""

import io
import os
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest
import tiny

import export
from keras_gan import UsageError, datasets, report
from keras_gan.__main__ import main
from keras_gan.datasets.images import check_size
from serving import bundle_folder, cli, limits, programs, telemetry
from serving.generate import fields
from serving.lists import join_list, parse_labels, parse_list
from serving.nearest_names import nearest

BYTES = os.fsdecode(b"caf\xe9")  # a file name in Latin-1

# ------------------------------------------------------------------------ nearest names


def of_folder(name):
    return UsageError(bundle_folder.hint(name, bundle_folder.is_run))


@pytest.mark.parametrize(
    ("report", "name", "meant"),
    [
        *((fields.unknown_field, name, "truncation") for name in ("TRUNCATION", "tru")),
        *((cli.main, [name], "quickstart") for name in ("QUICK-START", "qui")),
        *((datasets.open, name, "gaussians") for name in ("GAUSSIANS", "gau")),
        *((of_folder, name, "hats-of-2019") for name in ("HATS_OF_2019", "hat")),
    ],
)
def test_one_rule_finds_the_nearest_name(report, name, meant, tmp_path, monkeypatch, capsys):
    """A name in other case or with other separators, and the beginning of only one name."""
    (tmp_path / "hats-of-2019/checkpoints").mkdir(parents=True)
    (tmp_path / "hats-of-2019/recipe.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    try:
        line = str(report(name))
    except UsageError as error:
        line = str(error)
    assert f"id you mean {meant!r}?" in line + capsys.readouterr().err


def test_the_beginning_of_several_names_is_near_none_of_them():
    names = ["first_layer", "first_width"]
    assert nearest("fir", names) == "Valid: first_layer, first_width"
    assert nearest("fi", names[:1]) == "Valid: first_layer"  # too short
    assert nearest("__", ["--", "a"]) == "Valid: --, a"
    assert nearest("first", []) == "It has none"


# ------------------------------------------------------------------------ lists


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a,b", ["a", "b"]),
        (" a , b c ", ["a", "b c"]),
        ('"shirt, short",bag', ["shirt, short", "bag"]),
        ('bag, "shirt, short" , 3', ["bag", "shirt, short", "3"]),
        ('"a ""b"", c"', ['a "b", c']),
        ('" a"', [" a"]),
        ("3,", ["3", ""]),
        ("", [""]),
        ('5" disk,x', ['5" disk', "x"]),
        ('"open, end', ['"open', "end"]),
    ],
)
def test_a_list_is_separated_by_commas_outside_of_quotes(text, values):
    assert parse_list(text) == values
    assert parse_list(join_list(values)) == values


def test_every_door_reads_a_list_by_the_same_rule():
    assert fields.from_text("labels", '"shirt, short",1') == ["shirt, short", "1"]
    assert fields.from_text("seeds", "1, 2") == [1, 2]
    assert limits.names(["a, b", '"c"', ""]) == ("a", "b", "c")
    with pytest.raises(UsageError, match=r"`seeds` must be integers. Received: seeds='1,,2'"):
        fields.from_text("seeds", "1,,2")


def test_a_class_with_a_comma_is_never_guessed():
    names = ("shirt, short", "shirt", "bag")
    assert parse_labels("shirt,bag", names) == ["shirt", "bag"]
    with pytest.raises(UsageError, match=r"""in double quotes: --labels '"shirt, short"'. Recei"""):
        parse_labels("shirt, short", names)
    assert parse_labels("shirt, short", (*names, "short")) == ["shirt", "short"]  # both are classes


def test_labels_with_commas_on_the_command_line(tmp_path, capsys):
    names = ("shirt, short", "shoe", "bag")
    path = tiny.write(tmp_path / "bundle", "x", "image", (8, 8, 3), 6, names, seed=3)

    def drawn(*labels):
        out = tmp_path / "out.npz"
        status = cli.main(["sample", str(path), "--count", "2", "--out", str(out), *labels])
        if status:
            return capsys.readouterr().err
        with np.load(out) as arrays:
            return arrays["labels"].tolist()

    assert drawn("--labels", '"shirt, short",bag') == [0, 2]
    assert drawn("--labels", 'bag, "shirt, short"') == [2, 0]
    assert "must be in double quotes" in drawn("--labels", "shirt, short")
    shards = ["sample", str(path), "--count", "2", "--out", f"{tmp_path}/shards/", "--workers", "1"]
    assert cli.main([*shards, "--labels", '"shirt, short"']) == 0
    assert cli.main([*shards, "--labels", "shirt, short"]) == 2
    assert "must be in double quotes" in capsys.readouterr().err


# ------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (64, (64, 64)),
        (64.0, (64, 64)),
        ("64", (64, 64)),
        (" 64 ", (64, 64)),
        ("64x64", (64, 64)),
        ("64,48", (64, 48)),
        ("(64, 48)", (64, 48)),
        ("[64,48]", (64, 48)),
        ([64.0, 48], (64, 48)),
        ((64, 48), (64, 48)),
        (np.int64(8), (8, 8)),
    ],
)
def test_a_size_is_height_and_width(given, size):
    assert check_size(given) == size


@pytest.mark.parametrize("given", ["a", "", "0", "64,48,3", "-3", 0, -1, 64.5, True, None, [8], {}])
def test_another_size_is_refused(given):
    with pytest.raises(UsageError, match=r"`size` must be a positive integer or \[height, width\]"):
        check_size(given)


@pytest.mark.parametrize("given", ["64x48", "64 X 48", "64*48"])
def test_a_size_of_unknown_order_is_asked_for(given):
    message = r"\[64, 48\] has a height of 64 pixels, \[48, 64\] a width of 64. Received: size='64"
    with pytest.raises(UsageError, match=message):
        check_size(given)


def pictures(folder, height=8, width=12):
    for i in range(12):
        path = os.path.join(folder, (BYTES, "b")[i % 2], f"{BYTES}{i}.png")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        pixels = np.full((height, width), 20 * i, "uint8")
        with open(path, "wb") as file:
            PIL.Image.fromarray(pixels).save(file, "png")
    return folder


@pytest.mark.parametrize("text", ["8,12", "(8, 12)", "[8, 12]", "8.0", '"8"', "8x12"])
def test_a_size_on_the_command_line(text, tmp_path, capsys):
    data = ["--data", str(pictures(tmp_path)), "--set", f"data.size={text}", "--dry-run"]
    settings = [f"networks.{name}={{architecture: mlp}}" for name in ("generator", "discriminator")]
    settings += ["evaluation.count=2", "training.batch_size=8"]
    sets = [part for setting in settings for part in ("--set", setting)]
    if text == "8x12":
        with pytest.raises(SystemExit):
            main(["train", "quickstart", *sets, *data])
        assert "[8, 12] has a height of 8 pixels" in capsys.readouterr().err
        return
    main(["train", "quickstart", *sets, *data])
    shape = (8, 12, 1) if "12" in text else (8, 8, 1)
    assert f"samples: image of shape {shape}" in capsys.readouterr().out


# ------------------------------------------------------------------------ encodings


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_character_without_a_code_is_escaped(encoding, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    programs.escape_output()
    print("Žluťoučký \u2714", BYTES)
    out.flush()
    text = out.buffer.getvalue().decode(encoding)
    expected = {
        "ascii": r"\u017dlu\u0165ou\u010dk\xfd \u2714 caf\udce9",
        "latin-1": r"\u017dlu\u0165ou\u010dký \u2714 caf\udce9",
        "utf-8": r"Žluťoučký ✔ caf\udce9",
    }
    assert text == expected[encoding] + "\n"


@pytest.mark.parametrize(
    "setting", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_programs_print_to_any_terminal(setting, tmp_path):
    """A path and a class that the encoding does not have, in output and in errors."""
    path = tiny.write(tmp_path / "Ž✔", "x", "image", (8, 8, 3), 6, ("ž", "b", "c"))
    command = [sys.executable, "-m", "serving.cli", "sample", path, "--count", "2"]
    out = tmp_path / "Ž.png"

    def run(*options):
        done = subprocess.run(
            [*command, *options], env=os.environ | setting, capture_output=True, timeout=60
        )
        return done.returncode, done.stdout, done.stderr

    status, stdout, stderr = run("--out", out, "--labels", "ž")
    assert (status, stderr) == (0, b"")
    assert stdout.startswith(b"Wrote ")
    assert rb"\u017d.png" in stdout
    status, stdout, stderr = run("--out", out, "--labels", "Ω")
    assert status == 2
    assert rb"\u03a9" in stderr
    assert stderr.count(b"\n") == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_log_of_the_server_takes_any_name(form):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    log = telemetry.Log(form, output=stream)
    log.say(f"Žž and {BYTES}")
    text = stream.buffer.getvalue().decode("utf-8")
    assert r"caf\udce9" in text.replace(r"\\", "\\")
    assert "Žž" in text


# ------------------------------------------------------------------------ names that are not text


def test_files_whose_names_are_not_text_are_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = datasets.open(pictures(os.path.join(tmp_path, BYTES)))
    assert opened.spec.class_names == ("b", r"caf\xe9")
    assert opened.description.isprintable()
    assert r"caf\udce9" in opened.description
    points = np.random.default_rng(0).normal(size=(20, 2)).astype("float32")
    with open(f"{BYTES}.npz", "wb") as file:
        np.savez(file, points)
    with open(f"{BYTES}.csv", "w") as file:
        file.write("x,y\n" + "".join(f"{x},{y}\n" for x, y in points))
    for form in ("npz", "csv"):
        assert datasets.open(f"{BYTES}.{form}").count("train") == 18


def test_a_report_names_a_folder_whose_name_is_not_text(run):
    run.path = run.path.rename(run.path.parent / BYTES)
    assert r"caf\udce9" in report.write(run).read_text("utf-8")


def test_a_bundle_cannot_be_written_to_a_path_that_is_not_text(tmp_path):
    with pytest.raises(UsageError, match=r"path of a bundle must be valid UTF-8.*'.*caf"):
        export.export_bundle(keras.Sequential(), tmp_path / BYTES)
