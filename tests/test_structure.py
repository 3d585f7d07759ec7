"""Tests of the tree's structure: kinds have one owner, modules and functions stay short."""

import ast
from pathlib import Path

import pytest

from serving import kinds

ROOT = Path(__file__).parents[1]
PACKAGES = ("keras_gan", "export", "serving")
FILES = sorted(p for top in PACKAGES for p in (ROOT / top).rglob("*.py"))
MOST_LINES = 500  # of a module
MOST_FUNCTION_LINES = 60  # of a function, its docstring included


def named(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda p: str(p.relative_to(ROOT)))


def is_kind(node):
    """Checks whether an expression is `kind`, `x.kind`, `x["kind"]`, `x.kind.name` or similar."""
    if isinstance(node, ast.Name):
        return node.id == "kind" or node.id.endswith("_kind")
    if isinstance(node, ast.Attribute):
        return node.attr == "kind" or (node.attr == "name" and is_kind(node.value))
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value == "kind"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        first = node.args[0] if node.args else None
        return node.func.attr == "get" and isinstance(first, ast.Constant) and first.value == "kind"
    return False


def strings(node):
    """Returns the texts of a constant, or of a list, tuple or set of constants."""
    parts = node.elts if isinstance(node, ast.List | ast.Tuple | ast.Set) else [node]
    return {part.value for part in parts if isinstance(part, ast.Constant)}


def branches(source):
    """Returns the lines that compare a kind with the name of a kind, or match it to one."""
    names = set(kinds.names())
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
            used = set().union(*map(strings, parts)) & names
            if used and any(map(is_kind, parts)):
                found.append(f"{node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.Match) and is_kind(node.subject):
            values = [n for case in node.cases for n in ast.walk(case.pattern)]
            values = [n.value for n in values if isinstance(n, ast.MatchValue)]
            if set().union(*map(strings, values)) & names:
                found.append(f"{node.lineno}: match {ast.unparse(node.subject)}")
    return found


def test_the_search_for_branches():
    for line in (
        "kind == 'image'",
        "x.kind in ('image', 'points')",
        "'audio' != self.spec.kind",
        "entry['kind'] == 'video'",
        "entry.get('kind') == 'video'",
        "port.kind.name == 'text'",
    ):
        assert branches(line), line
    assert branches("match x.kind:\n    case 'image' | 'video':\n        pass")
    for line in ("kind == other", "x.kind is None", "dtype.kind in 'iu'", "fill == 'class'"):
        assert not branches(line), line


@named(p for p in FILES if p.parent != ROOT / "serving" / "kinds")
def test_no_module_branches_on_a_kind(path):
    """Only the kinds themselves know what they are; all others ask them."""
    assert not branches(path.read_text("utf-8"))


@named(FILES)
def test_modules_and_functions_are_short(path):
    text = path.read_text("utf-8")
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, functions)]
    lengths = {n.name: (n.end_lineno or n.lineno) - n.lineno + 1 for n in nodes}
    assert text.count("\n") <= MOST_LINES
    assert not {name: n for name, n in lengths.items() if n > MOST_FUNCTION_LINES}
