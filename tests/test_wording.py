"""Wording of the tree: words that are not used, American spelling, first lines, line lengths."""

import ast
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SUFFIXES = {".py", ".js", ".html", ".yaml", ".yml", ".md"}
THIS = pathlib.Path(__file__).name

NOT_USED = [
    "told",
    "tells",
    "sides",
    "lest",
    "anew",
    "of late",
    "any more",
    r"(?<!there[\s_])is no(?! longer)(?= )",
    "are none",
    "what becomes of",
    r"in kind(?!\.\w)",
    "by the clock",
    "company",
    "verdicts?",
    "twins?",
    "at once",
]
VERBS = (
    "categor|character|custom|discret|emphas|factor|final|general|initial|maxim|minim|normal|optim"
    "|organ|parametr|penal|quant|random|real|recogn|regular|serial|special|stabil|standard|summar"
    "|symbol|synchron|token|util|vector|visual"
)
BRITISH = [
    r"(?:behavi|col|fav|harb|hon|hum|lab|neighb|rum)our\w*",
    r"(?:calib|cent|fib|met|theat)(?:re|res|red)",
    rf"(?:{VERBS})is(?:e|es|ed|er|ers|ing|ation|ations)",
    r"(?:un)?(?:channel|label|level|model|signal|total|travel)l(?:ed|ing)",
    r"analys(?:e|ed|ing)",
    r"artefacts?",
    r"catalogues?",
    r"defences?",
    r"greys?(?! Kite)",  # a photograph has this name in a list of names
    r"greyscale",
    r"judgement\w*",
    r"licences?",
    r"programmes?",
    r"amongst|whilst",
    r"afterwards|towards",
]


def words(patterns):
    """Compiles patterns for words between other characters than letters.

    `told_rightly` and `sides=` match; "inside" and "besides" do not. A space also stands for the
    start of a comment's next line, and for the underscore of a name.
    """
    joined = "|".join(patterns).replace(" ", r"[\s_#/*]+")
    return re.compile(rf"(?<![a-z])(?:{joined})(?![a-z])", re.IGNORECASE)


WORDS, SPELLING = words(NOT_USED), words(BRITISH)
FIRST_LINE = re.compile(r"(?:What|Whether|How|Gives)\b", re.IGNORECASE)


def tracked():
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("needs a checkout of git", allow_module_level=True)
    paths = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return sorted(p for p in paths if p.suffix in SUFFIXES and p.name != THIS and p.is_file())


FILES = tracked()


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def hits(path, pattern):
    text = path.read_text("utf-8")
    return [
        f"{path.relative_to(ROOT)}:{line_of(text, found.start())}: {' '.join(found[0].split())!r}"
        for found in pattern.finditer(text)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_words(path):
    found = hits(path, WORDS) + hits(path, SPELLING)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.suffix == ".py"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_first_lines_of_docstrings(path):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (
        node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, kinds)
    )
    found = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {first.splitlines()[0]}"
        for node in nodes
        if (first := (ast.get_docstring(node) or "").lstrip()) and FIRST_LINE.match(first)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "limit"),
    [(p, {".md": 120, ".py": 100}[p.suffix]) for p in FILES if p.suffix in (".md", ".py")],
    ids=lambda x: str(x.relative_to(ROOT)) if isinstance(x, pathlib.Path) else str(x),
)
def test_lines_are_short(path, limit):
    lines = path.read_text("utf-8").splitlines()
    found = [
        f"{path.relative_to(ROOT)}:{number}: {len(line)} characters"
        for number, line in enumerate(lines, 1)
        if len(line) > limit
    ]
    assert not found, "\n".join(found)


def test_the_patterns():
    used = [
        "was told",
        "it tells",
        "sides=2",
        "upper_sides",
        "at\n    # once",
        "AT_ONCE",
        "is no way",
        "differs in kind.",
    ]
    for text in used:
        assert WORDS.search(text), text
    for text in (
        "inside",
        "besides",
        "is no longer",
        "there is no path",
        "for x in kind.shape",
        "retells",
        "at oncet",
        "accompany",
        "in kinds",
    ):
        assert not WORDS.search(text), text
    for text in (
        "neighbours",
        "normalised",
        "centre",
        "licence",
        "unlabelled",
        "grey",
        "optimiser",
    ):
        assert SPELLING.search(text), text
    for text in ("neighbor", "normalized", "precise", "labeled", "promise", "analyses", "diameter"):
        assert not SPELLING.search(text), text
