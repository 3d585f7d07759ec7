"""Regular expressions of texts: the language of Python's `re`, bounded automata, errors."""

import itertools
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import UsageError
from serving.patterns import DEAD, MAX_STATES, compile_pattern

CHARACTERS = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", "[a-c]", r"\w", r"\.", "[]a]"])
PATTERNS = st.recursive(
    CHARACTERS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        inner.map(lambda x: f"(?:{x})*"),
        inner.map(lambda x: f"({x})+"),
        inner.map(lambda x: f"({x})?"),
        inner.map(lambda x: f"({x}){{2}}"),
        inner.map(lambda x: f"({x}){{1,3}}"),
        inner.map(lambda x: f"({x}){{0}}"),
        inner.map(lambda x: f"({x}){{2,}}"),
        inner.map(lambda x: f"({x}|)"),
    ),
    max_leaves=6,
)
TEXTS = ["".join(x) for length in range(5) for x in itertools.product("ab.", repeat=length)]


def matches(automaton, text):
    state = 0
    for character in text:
        state = automaton.next[state, automaton.characters[character]]
        if state == DEAD:
            return False
    return bool(automaton.accepts[state])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(PATTERNS)
def test_the_language_is_that_of_python(pattern):
    automaton = compile_pattern(pattern, "ab.")
    for text in TEXTS:
        assert matches(automaton, text) == bool(re.fullmatch(pattern, text)), text


@pytest.mark.parametrize("pattern", [r"\d+\s\w", "[0-9.]{2}x", r"a\nb", r"[\d\-z]*", "é|ü", "[^x]"])
def test_classes_and_escapes(pattern):
    characters = "01.x a\nbz-éü"
    automaton = compile_pattern(pattern, characters)
    for text in map("".join, itertools.product(characters, repeat=3)):
        for part in (text, text[:2], text[:1]):
            assert matches(automaton, part) == bool(re.fullmatch(pattern, part, re.ASCII)), part


def test_a_small_automaton_by_hand():
    """(ab)+ has the states start, a, b: from a and start each letter has one way."""
    automaton = compile_pattern("(ab)+", "ab")
    assert automaton.next.tolist() == [[1, DEAD], [DEAD, 2], [1, DEAD]]
    assert automaton.accepts.tolist() == [False, False, True]
    nothing = compile_pattern("x", "")
    assert nothing.next.shape == (1, 0)
    assert not nothing.accepts[0]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("^a", r"\^ where a character must be at character 0"),
        ("a$", r"\$ where a character must be at character 1"),
        ("(?=a)", r"a group with \(\?"),
        (r"(?P<x>a)", r"a group with \(\?"),
        ("a*?", r"\? after a repetition"),
        ("a**", r"\* after a repetition"),
        ("*a", r"\* where a character must be"),
        ("(a", r"\( without \)"),
        ("a)", r"unmatched \)"),
        ("[ab", "nothing at character 3"),
        ("[b-a]", "a range that does not ascend"),
        ("a{3,2}", "n below m"),
        ("a{,3}", "without m"),
        ("a{x}", "without m"),
        (r"\b", r"\\b at character 1"),
        (r"\1", r"\\1 at character 1"),
        ("a\\", "nothing at character 2"),
        ("(" * 41 + "a" + ")" * 41, "more than 40 groups"),
    ],
)
def test_what_automata_do_not_have_is_refused(pattern, reason):
    with pytest.raises(UsageError, match="`pattern` must consist of .* Received: .*" + reason):
        compile_pattern(pattern, "ab")


def test_sizes_are_bounded():
    with pytest.raises(UsageError, match=r"at most 1000 characters once .* with 1000000"):
        compile_pattern("((a{100}){100}){100}", "ab")
    with pytest.raises(UsageError, match=f"an automaton of at most {MAX_STATES} states"):
        compile_pattern("(a|b)*a(a|b){12}", "ab")  # 2^13 states
    for pattern in ("", "a" * 1001, None, 5):
        with pytest.raises(UsageError, match=r"1 to 1000 characters\. Received: pattern of"):
            compile_pattern(pattern, "ab")
    largest = compile_pattern("((a|b|c)*d?){1,100}", "abcd")
    assert np.all(largest.next < len(largest.accepts))


@pytest.mark.parametrize("inner", ["()", "(())", "(|)", "(((){9999}){9999})"])
def test_repetitions_of_nothing_are_bounded(inner):
    with pytest.raises(UsageError, match="at most 1000 characters once"):
        compile_pattern(inner + "{9999}", "ab")
    assert matches(compile_pattern("(){100}a", "a"), "a")


def test_ranges_hold_the_characters_of_texts_alone():
    tracemalloc.start()
    automaton = compile_pattern("[!-\U0010ffff]" * 200, "ab")  # 1,000 characters
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20  # all characters of Unicode would take hundreds of MiB
    assert len(automaton.accepts) == 201
    assert matches(automaton, "ab" * 100)
    assert not matches(compile_pattern("[^!-\U0010ffff]", "ab"), "a")
