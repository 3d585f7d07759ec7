"""Texts token by token: constraints, seeds, lengths, log-probabilities, errors, the command."""

import json
import math
import re

import numpy as np
import pytest
import text_bundles
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import serving
from serving import UsageError, cli
from serving.manifest import digest
from serving.seeds import normals
from serving.text_steps import Text, encode_lines
from serving.texts import check_controls

SEEDS = range(200)
WORDS = ("", "<unk>", "in", "the", "end")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


@pytest.fixture(scope="module")
def chain(folder):
    return serving.Bundle(text_bundles.write(folder / "chain"), threads=1)


@pytest.fixture(scope="module")
def endless(folder):
    """A chain in which no token ends a text."""
    tokens = ("0", "1", "2", "3")
    path = text_bundles.write(folder / "endless", "endless", tokens, ends=False)
    return serving.Bundle(path, threads=1)


@pytest.fixture(scope="module")
def words(folder):
    return serving.Bundle(text_bundles.write(folder / "words", "words", WORDS), threads=1)


def strings(bundle, seeds=SEEDS, **options):
    return [text.text for text in bundle.texts(seeds, **options)]


def test_tokens_follow_from_the_seed_by_hand(chain):
    """Token t is the argmax of the row of the token before + noise t; log p is of the row."""
    table = np.random.default_rng(0).normal(0, 2, (7, 6)).astype(np.float32)
    for temperature in (0.0, 0.5, 1.0):
        for text in chain.texts(range(20), temperature=temperature):
            noise = normals(np.array([text.seed]), 48, 0).reshape(8, 6)
            previous, total, ids = -1, 0.0, []
            for t in range(8):
                row = table[previous + 1]
                previous = int(np.argmax(row + np.float32(temperature) * noise[t]))
                total += row[previous] - math.log(np.exp(row.astype(float)).sum())
                if previous == 0:
                    break
                ids.append(previous)
            assert text.ids == tuple(ids)
            assert text.text == "".join(text_bundles.LETTERS[i] for i in ids)
            assert text.log_probability == pytest.approx(total, abs=1e-4)


def test_a_batch_changes_nothing(chain):
    whole = chain.texts(range(150))
    assert [chain.texts([seed])[0] for seed in (0, 63, 64, 149)] == [
        whole[seed] for seed in (0, 63, 64, 149)
    ]


def test_a_longer_text_begins_with_the_shorter_one(endless):
    short, long = (strings(endless, range(5), length=n) for n in (8, 1000))
    assert [len(text) for text in long] == [1000] * 5
    assert [text[:8] for text in long] == short
    numbers = normals(np.arange(3), 4000, 5)  # noise of a block equals that of the whole
    np.testing.assert_array_equal(numbers[:, 256:512], normals(np.arange(3), 256, 5, 256))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.sampled_from(["[a-d]+", "(ab|cd)*", "a.c?", "[^ ]{3,8}", "(a|b)+ (c|d)+", ".*d", "a{8}"]),
    st.floats(0, 3),
    st.integers(0, 10**6),
)
def test_patterns_are_obeyed(chain, pattern, temperature, seed):
    for text in strings(chain, range(seed, seed + 10), pattern=pattern, temperature=temperature):
        assert re.fullmatch(pattern, text)
        assert len(text) <= 8


def test_a_pattern_is_obeyed_by_200_seeds(chain, endless):
    found = strings(chain, pattern="(ab|cd)+ ?", length=20)
    assert all(re.fullmatch("(ab|cd)+ ?", text) and len(text) <= 20 for text in found)
    assert len({*found}) > 20
    # Without a token that ends a text, its length is exact.
    assert {len(text) for text in strings(endless, pattern="(012|3)*", length=11)} == {11}
    assert all(re.fullmatch("(012|3)*", text) for text in strings(endless, pattern="(012|3)*"))


def test_prefix_and_vocabulary(chain, words):
    for text in chain.texts(SEEDS, prefix="da", vocabulary=["a", "b"], length=6):
        assert re.fullmatch("da[ab]{0,4}", text.text)
    assert strings(chain, range(3), prefix="abcdabcd") == ["abcdabcd"] * 3
    assert strings(chain, range(3), prefix=[2, 1], length=2) == ["ba"] * 3
    found = strings(words, pattern="the( in| end)+")
    assert all(re.fullmatch("the( in| end)+", text) for text in found)
    assert all(
        re.fullmatch("in the( [a-z]+)*", t)
        for t in strings(words, prefix="in the ", pattern="[a-z ]+")
    )


def test_the_most_probable_tokens(chain):
    assert len({*strings(chain, temperature=0)}) == 1
    assert len({*strings(chain, temperature=1)}) > 10


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pattern": "a{9}"}, "within `length`, at most 8 tokens. Received: length=8, pattern="),
        ({"pattern": "x+"}, "within `length`"),
        ({"pattern": "("}, r"`pattern` must consist of"),
        ({"pattern": "a+", "vocabulary": ["b"]}, "1 allowed tokens"),
        ({"prefix": "ax"}, "`prefix`: A text must consist of tokens"),
        ({"prefix": "a" * 9}, "`prefix` must have at most `length` tokens, 8"),
        ({"prefix": "ab", "pattern": "a+"}, "no match from token 1 on, pattern='a"),
        ({"prefix": [0, 1]}, "ids of tokens that do not end it"),
        ({"prefix": [9]}, "token ids below 6"),
        ({"prefix": 3}, "`prefix` must be a list of token ids"),
        ({"prefix": [[1, 2], [3]]}, "`prefix` must be a list of numbers, or lists of equal"),
        ({"vocabulary": []}, "`vocabulary` must be a list of tokens"),
        ({"vocabulary": "ab"}, "`vocabulary` must be a list of tokens"),
        ({"vocabulary": ["e"]}, "tokens of the network, of which there are 6. Received: 'e'"),
        ({"length": 0}, "`length` must be an integer from 1 to 1024. Received: length=0"),
        ({"length": 1025}, "`length` must be an integer from 1 to 1024"),
        ({"temperature": -0.1}, "`temperature` must be a number from 0.0 to 100.0"),
        ({"temperature": float("nan")}, "`temperature`"),
        ({"labels": 1}, "takes no labels"),
    ],
)
def test_what_is_not_possible_is_refused_before_a_token(chain, options, reason):
    with pytest.raises(UsageError, match=reason) as found:
        chain.texts([1], **options)
    assert "\n" not in str(found.value)
    assert "Received: " in str(found.value)


def test_only_texts_of_exactly_the_length_where_none_ends(endless):
    with pytest.raises(UsageError, match="at exactly 7 tokens"):
        endless.texts([1], pattern="(01)*", length=7)
    assert strings(endless, [1], pattern="(01)*", length=6) == ["010101"]


def test_other_bundles_have_no_texts(folder):
    points = serving.Bundle(tiny.points(folder / "points"))
    assert points.text_sampler is None
    with pytest.raises(UsageError, match=r"samples token by token\. Received: bundle 'points'"):
        points.texts([1])


def test_damaged_steps_and_manifests(folder):
    def change(name, **facts):
        path = text_bundles.write(folder / name)
        content = json.loads((path / "manifest.json").read_text())
        content |= facts
        content["digest"] = digest(content)
        (path / "manifest.json").write_text(json.dumps(content))
        return path

    path = text_bundles.write(folder / "flipped")
    tiny.flip(path / "step.onnx")
    with pytest.raises(UsageError, match=r"step\.onnx must have the SHA-256"):
        serving.Bundle(path).texts([1])
    for facts, reason in (
        ({"width": 3}, "`text` in manifest.json must be an object with width and ends"),
        ({"width": 0, "ends": True}, "`text.width`"),
        ({"width": 3, "ends": 1}, "`text.ends`"),
    ):
        with pytest.raises(UsageError, match=reason):
            serving.Bundle(change(f"bad{len(list(folder.iterdir()))}", text=facts))
    with pytest.raises(UsageError, match=r"step\.onnx must have the inputs"):
        serving.Bundle(change("wide", text={"width": 5, "ends": True})).texts([1])
    inputs = json.loads((path / "manifest.json").read_text())["inputs"][:3]
    with pytest.raises(UsageError, match="latents, temperature, prefix and mask, beside `text`"):
        serving.Bundle(change("less", inputs=inputs))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"prefix": [[1], [2, 3]]}, "`prefix` must be a list of numbers, or lists of equal"),
        ({"prefix": [[1], [2]]}, "`prefix` must have one row .* of 3. Received: prefix of 2 rows"),
        ({"prefix": np.zeros((0, 4))}, "Received: prefix of 0 rows"),
        ({"mask": [[1], [1, 0]]}, "`mask` must be a list of numbers, or lists of equal"),
        ({"mask": np.ones((2, 6))}, "`mask` must have one row .* Received: mask of 2 rows"),
        ({"mask": [1, 1]}, r"`mask` must be numbers of shape \(6,\)"),
    ],
)
def test_controls_have_a_row_for_each_text(options, reason):
    with pytest.raises(UsageError, match=reason):
        check_controls((8, 6), 3, **options)
    found = check_controls((8, 6), 3, prefix=[[1, 2]], mask=np.eye(6)[:3])
    assert found["prefix"][:, :3].tolist() == [[1, 2, -1]] * 3


def test_noise_of_a_large_vocabulary(folder):
    """Fewer tokens' noise is drawn at a time than of a small one, with the same texts."""
    tokens = ("", *(f"w{i}" for i in range(1, 3000)))
    path = text_bundles.write(folder / "large", "large", tokens, length=2)
    bundle = serving.Bundle(path, threads=1)
    together = bundle.texts(range(64), length=9)  # five blocks of two tokens
    alone = [bundle.texts([seed], length=9)[0] for seed in (0, 63)]  # one block
    assert [together[0], together[63]] == alone


def test_line_breaks_and_labels_of_lines():
    texts = [Text(3, "a\u2028b\\\n", (1,), -0.5, 2), Text(4, "c", (2,), -1.0)]
    assert encode_lines(texts, "txt").decode() == "a\\u2028b\\\\\\n\nc\n"
    lines = encode_lines(texts, "jsonl").decode().splitlines()
    first = {"seed": 3, "label": 2, "text": "a\u2028b\\\n", "log_probability": -0.5}
    assert [json.loads(line) for line in lines] == [
        first,
        {"seed": 4, "text": "c", "log_probability": -1.0},
    ]


# ------------------------------------------------------------------------ the command


def run(capsys, *words):
    status = cli.main(["sample", *map(str, words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_writes_lines(chain, folder, capsys, tmp_path):
    path, expected = folder / "chain", chain.texts([1, 2, 3, 9], pattern="[a-d]+", temperature=0.8)
    given = ("--seeds", "1-3,9", "--pattern", "[a-d]+", "--temperature", 0.8)
    status, out, _ = run(capsys, path, *given)
    assert (status, out) == (0, "".join(text.text + "\n" for text in expected))
    for ending in ("txt", "jsonl"):
        status, out, _ = run(capsys, path, *given, "--out", tmp_path / f"x.{ending}")
        assert status == 0
        assert "4 texts of chain" in out
    assert (tmp_path / "x.txt").read_text().splitlines() == [text.text for text in expected]
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert rows == [text.to_json() for text in expected]
    (tmp_path / "tokens").write_text("a\nb\n")
    status, out, _ = run(
        capsys, path, "--vocabulary", tmp_path / "tokens", "--prefix", "d", "--length", 3
    )
    assert re.fullmatch("(d[ab]{0,2}\n){64}", out)
    known = tmp_path / "known"  # as a file of lines: other words, and the empty last line
    known.write_text(f"{expected[1].text}  \r\nzzz\n", encoding="utf-8-sig")
    status, out, _ = run(capsys, path, *given, "--exclude", known)
    left = [text.text for text in expected if text.text != expected[1].text]
    assert (status, out.splitlines()) == (0, left)
    assert 1 <= len(left) < 4
    known.write_text("\n".join(text.text for text in expected))
    status, out, _ = run(capsys, path, *given, "--exclude", known)
    assert (status, out) == (0, "")
    known.write_text(f"{expected[1].text}\n")
    _, out, _ = run(capsys, path, *given, "--exclude", known, "--out", tmp_path / "z.txt")
    assert f"{len(left)} text" in out
    assert f"of chain ({4 - len(left)} excluded)" in out
    status, out, _ = run(capsys, path, *given, "--format", "jsonl")
    assert [json.loads(line) for line in out.splitlines()] == rows
    status, _, _ = run(capsys, path, "--count", 5, "--out", tmp_path / "y.txt")
    assert (tmp_path / "y.txt").read_text().splitlines() == strings(chain, range(5))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--seeds", "3-1"), "--seeds must be at most"),
        (("--seeds", "x"), "--seeds must be at most"),
        (("--seeds", "0-1000000"), "--seeds must be at most"),
        (("--seeds", "1", "--count", "2"), "--seeds takes the place of --seed and --count"),
        (("--temperature", "-1"), "`temperature` must be"),
        (("--prefix", "xyz"), "`prefix`"),
        (("--vocabulary", "/nowhere"), "--vocabulary must be a UTF-8 file"),
        (("--vocabulary", "/dev/null"), "`vocabulary`"),
        (("--exclude", "/nowhere"), "--exclude must be a UTF-8 file. Received: /nowhere"),
        (("--length", "0"), "`length` must be"),
        (("--length", "5", "--each", "/tmp/each"), "--each cannot be used"),
        (("--length", "5", "--out", "x.png"), "files that end in .txt or .jsonl"),
        (("--pattern", "a{9}"), "within `length`"),
        (("--length", "5", "--truncation", "0.5"), "--truncation cannot be used with texts"),
        (("--length", "5", "--no-metadata"), "Received: --no-metadata"),
        (("--length", "5", "--batch-size", "8"), "--batch-size cannot be used with texts"),
        (("--length", "5", "--format", "npz"), "--format of texts must be txt or jsonl"),
        (("--length", "5", "--format", "txt", "--out", "x.jsonl"), "--format txt --out x.jsonl"),
        (("--length", "5", "--seed", 2**63 - 1), "with seeds below 2**63. Received: --seed 922"),
        (("--length", "5", "--count", 10**7), "--count must be at most 1000000 texts"),
    ],
)
def test_the_command_refuses_in_one_line(folder, chain, capsys, words, reason):
    status, out, error = run(capsys, folder / "chain", *words)
    assert (status, out) == (2, "")
    assert reason in error
    assert error.count("\n") == 1
