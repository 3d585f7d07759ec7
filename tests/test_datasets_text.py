"""Data sets of texts: files and folders of text, words of a dictionary, and the oracle."""

import re
import shutil

import numpy as np
import pytest

from keras_gan import UsageError, datasets
from keras_gan.__main__ import main
from keras_gan.datasets import fortunes, words
from keras_gan.datasets.oracle import Oracle, of_field
from serving import kinds
from serving.kinds import text

needs_words = pytest.mark.skipif(
    not any((words.ROOT / name).is_file() for name in words.FILES),
    reason="needs Debian's wamerican",
)
needs_bible = pytest.mark.skipif(shutil.which("bible") is None, reason="needs Debian's bible-kjv")
needs_fortunes = pytest.mark.skipif(
    not fortunes.ROOT.is_dir(), reason="needs Debian's fortunes-min"
)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def strings(source, split="train"):
    ids, _ = source.arrays(split)
    return sorted(text.string_of(row, source.spec.samples.meta) for row in ids)


# Files -----------------------------------------------------------------------------------------


def test_lines_of_any_system_become_ids(tmp_path):
    content = "\ufeffab\r\n\r\n ba \rcab\tc\nab\n".encode()
    source = datasets.open(str(write(tmp_path / "x.txt", content)), held_out=0)
    assert source.spec.kind == "text"
    assert source.spec.samples.meta["vocabulary"] == ("", " ", "a", "b", "c")
    ids, _ = source.arrays("train")
    assert ids.dtype == np.uint8
    assert ids.tolist() == [[2, 3, 0, 0, 0], [3, 2, 0, 0, 0], [4, 2, 3, 1, 4], [2, 3, 0, 0, 0]]
    assert "4 lines of 4 lines" in source.description
    assert "length 5 chosen: 100% fit" in source.description
    assert "equal to an earlier one, never separated by the split: 1" in source.description


def test_batches_are_one_hot(tmp_path):
    source = datasets.open(write(tmp_path / "x.txt", "ab\nba\nc\n"), held_out=0)
    batch = next(iter(source.dataset("train", 3, shuffle=False))).numpy()
    assert batch.dtype == np.float32
    assert batch.shape == (3, 2, 4)
    assert batch[2].tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    np.testing.assert_array_equal(source.values(source.arrays("train")[0]), batch)


def test_ids_above_8_bits_are_one_hot(tmp_path):
    letters = "".join(chr(0x4E00 + i) for i in range(300))
    source = datasets.open(write(tmp_path / "x.txt", f"{letters}\nab\n"), length=300, held_out=0)
    assert source.arrays("train")[0].dtype == np.uint16
    batch = next(iter(source.dataset("train", 2, shuffle=False))).numpy()
    assert batch.shape == (2, 300, 303)
    np.testing.assert_array_equal(batch[0].argmax(-1), source.arrays("train")[0][0])


def test_words_and_punctuation(tmp_path):
    path = write(tmp_path / "x.txt", "It's so, so good.\nSo it is.\nit's\nit's\n")
    source = datasets.open(path, unit="words", lowercase=True, held_out=0)
    assert source.spec.samples.meta["vocabulary"] == ("", "<unk>", "it's", "so", ".")
    assert source.spec.shape == (6, 5)
    assert strings(source) == ["it's", "it's", "it's so <unk> so <unk> .", "so <unk> <unk> ."]
    assert "5 tokens, which are 66.7% of the words" in source.description  # 8 of 12


def test_a_vocabulary_that_is_cut_keeps_the_most_frequent(tmp_path):
    source = datasets.open(write(tmp_path / "x.txt", "aab\naac\naad\n"), vocabulary=4, held_out=0)
    assert source.spec.samples.meta["vocabulary"] == ("", "\ufffd", "a", "b")
    assert strings(source) == ["aab", "aa\ufffd", "aa\ufffd"]
    assert "77.8% of the characters" in source.description
    whole = datasets.open(tmp_path / "x.txt", vocabulary=5, held_out=0)
    assert whole.spec.samples.meta["vocabulary"] == ("", "a", "b", "c", "d")
    # The replacement character of a text is the token of those left out, once.
    path = write(tmp_path / "y.txt", "a\ufffd\ufffd\nabc\n")
    source = datasets.open(path, vocabulary=4, held_out=0)
    assert source.spec.samples.meta["vocabulary"] == ("", "\ufffd", "a", "b")
    assert sorted(strings(source)) == ["ab\ufffd", "a\ufffd\ufffd"]


@pytest.mark.parametrize(("longer", "kept"), [("cut", ["a", "ab", "abc"]), ("drop", ["a", "ab"])])
def test_longer_lines(tmp_path, longer, kept):
    path = write(tmp_path / "x.txt", "a\nab\nabcd\n")
    source = datasets.open(path, length=3, longer=longer, held_out=0)
    assert strings(source) == kept
    assert f"longer lines {'cut' if longer == 'cut' else 'left out'}: 1" in source.description


def test_the_length_fits_95_percent(tmp_path):
    lines = [f"{i:02d}" for i in range(96)] + ["x" * 40] * 4
    source = datasets.open(write(tmp_path / "x.txt", "\n".join(lines)))
    assert source.spec.shape[0] == 2
    assert "length 2 chosen: 96% fit; longer lines cut: 4" in source.description


def test_equal_lines_are_never_in_both_splits(tmp_path):
    lines = [f"line {i % 40}" for i in range(200)]
    source = datasets.open(write(tmp_path / "x.txt", "\n".join(lines)), held_out=0.3)
    train, held_out = strings(source), strings(source, "held_out")
    assert len(train) + len(held_out) == 200
    assert not {*train} & {*held_out}
    assert "never separated by the split: 160" in source.description


def test_documents_are_divided_into_windows_and_held_out_whole(tmp_path):
    documents = [chr(ord("a") + i) * 10 for i in range(20)]
    path = write(tmp_path / "x.txt", "\r\n \r\n\n".join(d[:5] + "\n" + d[5:] for d in documents))
    source = datasets.open(path, by="document", length=4, held_out=0.2)
    assert "windows of 20 documents" in source.description
    train, held_out = strings(source), strings(source, "held_out")
    assert len(train) == 3 * 16
    assert len(held_out) == 3 * 4
    assert not {row[0] for row in train if row[0] != " "} & {row[0] for row in held_out}
    assert "aaaa" in train + held_out
    assert "a aa" in train + held_out


def test_each_file_of_a_folder_is_a_document_of_its_class(tmp_path):
    for name in ("poems/1", "poems/2", "prose/1", "prose/2"):
        write(tmp_path / f"{name}.txt", f"{name}\n\nsecond\n")
    source = datasets.open(str(tmp_path), by="document", length=20, held_out=0)
    assert source.spec.class_names == ("poems", "prose")
    assert strings(source) == [f"{n} second" for n in ("poems/1", "poems/2", "prose/1", "prose/2")]
    assert source.labels().tolist() == [0, 0, 1, 1]
    lines = datasets.open(tmp_path, labels=False, held_out=0)
    assert lines.spec.num_classes == 0
    assert lines.count() == 8


def test_a_folder_with_splits_of_its_own(tmp_path):
    write(tmp_path / "train/x.txt", "a\nb\nc\n")
    write(tmp_path / "test/x.txt", "c\nd\n")
    source = datasets.open(tmp_path)
    assert strings(source) == ["a", "b", "c"]
    assert strings(source, "held_out") == ["d"]  # c is trained on
    with pytest.raises(UsageError, match=r"`held_out` must not be given for texts with held-out"):
        datasets.open(tmp_path, held_out=0.1)


def test_labels_before_a_tab(tmp_path):
    path = write(tmp_path / "x.txt", "neg\tso bad\n\npos\tvery good\nneg\tno\n")
    source = datasets.open(path, labels="tab", held_out=0)
    assert source.spec.class_names == ("neg", "pos")
    assert source.labels().tolist() == [0, 1, 0]
    assert strings(source) == ["no", "so bad", "very good"]
    write(path, "neg\tso bad\nvery good\n")
    with pytest.raises(UsageError, match=r"a label, a tab and a text\. Received: .* line 2: 'very"):
        datasets.open(path, labels="tab")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", {}, r"must not be empty\. Received: .*x\.txt"),
        (b" \n\n", {}, r"must not be empty"),
        (b"only one\n", {}, r"at least 2 different lines\. Received: text: .* with 1$"),
        (b"same\nsame\n", {}, r"at least 2 different lines\. Received: .* with 2$"),
        (b"ab\ncaf\xe9\n", {}, r"must be UTF-8 .*x\.txt with the byte 0xe9 at offset 6$"),
        (b"ab\nc\0d\n", {}, r"must not hold NUL bytes.* one at offset 4$"),
        (b"a\nb\n", {"unit": "bytes"}, r"`unit` must be 'characters' or 'words'\. .*unit='bytes'"),
        (b"a\nb\n", {"by": "page"}, r"`by` must be 'line' or 'document'\. Received: by='page'"),
        (b"a\nb\n", {"longer": "keep"}, r"`longer` must be 'cut' or 'drop'\. .*longer='keep'"),
        (b"a\nb\n", {"length": 0}, r"`length` must be an integer of at least 1\. .*length=0"),
        (b"a\nb\n", {"vocabulary": 2}, r"`vocabulary` must be an integer of at least 3\. .*=2"),
        (b"a\nb\n", {"labels": "json"}, r"`labels` must be true, false or 'tab'\. .*'json'"),
        (b"a\nb\n", {"labels": "tab", "by": "document"}, r"by line\. Received: by='document'"),
        (b"aa\nbb\n", {"length": 1, "longer": "drop"}, r"leave some texts .*length=1, 2 lines"),
        (b"aa\nbb\n", {"by": "document"}, r"at least 2 different documents.* with 1$"),
    ],
)
def test_bad_texts_are_refused(tmp_path, content, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        datasets.open(write(tmp_path / "x.txt", content), **options)
    assert "\n" not in str(caught.value)


def test_thousands_of_distinct_characters_are_refused(tmp_path):
    letters = [chr(0x4E00 + i) for i in range(10_000)]
    path = write(tmp_path / "x.txt", "\n".join(letters))
    with pytest.raises(UsageError, match=r"vocabulary: 1000 .*10\.0% of the text.* 10,000 dist"):
        datasets.open(path)
    assert datasets.open(path, vocabulary=1000).spec.shape == (1, 1000)


def test_a_folder_of_texts_is_known_by_its_files(tmp_path):
    write(tmp_path / "a.txt", "a\nb\n")
    assert datasets.name_of(datasets.find(str(tmp_path))[0]) == "text"
    write(tmp_path / "b.png", b"")
    write(tmp_path / "c.png", b"")
    assert datasets.name_of(datasets.find(str(tmp_path))[0]) == "folder"
    with pytest.raises(UsageError, match=r"must hold \.txt files\. Received: none in .* 1 \.md"):
        datasets.open("text", path=write(tmp_path / "d/x.md", "a").parent)
    with pytest.raises(UsageError, match=r"must exist\. Received: path='no/such'"):
        datasets.open("text", path="no/such")


# Words -----------------------------------------------------------------------------------------


@needs_words
def test_half_of_the_dictionary_is_held_out():
    source = datasets.open("words")
    assert source.spec.shape == (12, 27)
    train, held_out = strings(source), strings(source, "held_out")
    assert abs(len(train) - len(held_out)) <= 1
    assert not {*train} & {*held_out}
    assert {"house", "music", "zebra"} <= {*train, *held_out}
    assert all(re.fullmatch("[a-z]{1,12}", word) for word in train)
    again = datasets.open("words", data_seed=1)
    assert strings(again) != train
    assert len(strings(datasets.open("words", held_out=0.1))) > 1.7 * len(train)


def test_words_of_a_folder(tmp_path):
    write(tmp_path / "words", "Adam\nab\nb\nc's\ncd\nde\nefghi\n")
    source = datasets.open("words", root=tmp_path, length=4)
    assert sorted(strings(source) + strings(source, "held_out")) == ["ab", "b", "cd", "de"]
    with pytest.raises(UsageError, match=r"apt install wamerican.*no american-english or words"):
        datasets.open("words", root=tmp_path / "none")
    write(tmp_path / "words", "ab\nb\ncd\n")
    with pytest.raises(UsageError, match=r"at least 4 words of up to 2 letters.* with 3$"):
        datasets.open("words", root=tmp_path, length=2)
    for bad in (0, 1, 1.5):
        with pytest.raises(UsageError, match=rf"`held_out` must be .*held_out={bad}"):
            datasets.open("words", root=tmp_path, held_out=bad)


# Verses and fortunes ---------------------------------------------------------------------------


@needs_bible
def test_verses_are_words_in_lower_case():
    source = datasets.open("verses", vocabulary=500)
    assert source.spec.shape == (20, 500)
    assert "of 31,102 verses" in source.description
    every = strings(source) + strings(source, "held_out")
    assert "and god said , let there be light : and there was light ." in every
    assert not {*strings(source)} & {*strings(source, "held_out")}


def test_verses_without_their_package(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"apt install bible-kjv\)\. Received: no bible on the P"):
        datasets.open("verses")
    program = write(tmp_path / "bible", "#!/bin/sh\necho no data >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(UsageError, match=r"apt install bible-kjv-text\)\. .*bible: no data"):
        datasets.open("verses")


@needs_fortunes
def test_fortunes_of_the_package():
    source = datasets.open("fortunes", files=["fortunes"], length=128)
    assert "431 fortunes" in source.description or "432 fortunes" in source.description
    assert not any(row == "%" or "\x08" in row for row in strings(source))


def test_fortunes_of_a_folder(tmp_path):
    content = "Be\nbold.\n\t-- A\n%\n_\x08B_\x08e good.\n%\nBe last.\n%\n"
    write(tmp_path / "mine", content)
    write(tmp_path / "mine.dat", b"\0")
    write(tmp_path / "README", "no index, no fortunes")
    source = datasets.open("fortunes", root=tmp_path, held_out=0, length=20)
    assert strings(source) == ["Be bold. -- A", "Be good.", "Be last."]
    with pytest.raises(UsageError, match=r"must be names of mine\. Received: files=\['other'\]"):
        datasets.open("fortunes", root=tmp_path, files=["other"])
    with pytest.raises(UsageError, match=r"apt install fortunes-min\)\. Received: no fortunes in"):
        datasets.open("fortunes", root=tmp_path / "none")


# Recipes ---------------------------------------------------------------------------------------


def test_texts_take_the_place_of_a_recipes_texts(tmp_path):
    file = str(write(tmp_path / "x.txt", "a\nb\n"))
    section = {"source": "verses", "unit": "words", "length": 9, "held_out": 0.2}
    expected = {"source": "text", "unit": "words", "length": 9, "path": file}
    assert datasets.with_folder(section, file) == expected
    own = {"source": "text", "path": "old.txt", "by": "document"}
    assert datasets.with_folder(own, file) == {**own, "path": file}
    assert datasets.with_folder({"source": "audio", "path": "x"}, file) == {"source": file}
    assert datasets.with_folder({"source": "verses"}, "words") == {"source": "words"}


def test_a_training_of_texts_without_a_recipe_says_which_there_are(tmp_path, capsys):
    file = write(tmp_path / "x.txt", "\n".join(f"line {i}" for i in range(80)))
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--data", str(file), "--run", str(tmp_path / "run")])
    line = capsys.readouterr().err
    assert "chooses a recipe for pictures only; name one for other data" in line
    assert "texts" in line
    assert "Received: text of shape (7, 16)" in line


# Oracle ----------------------------------------------------------------------------------------


def test_the_likelihood_of_a_tiny_oracle_by_hand():
    oracle = Oracle(vocabulary=3, seed=5, hidden=2)
    embedding, kernel, bias, out, out_bias = oracle.weights

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    x, h, c, total = np.zeros(2), np.zeros(2), np.zeros(2), 0.0
    sentence = [2, 0, 1, 1]
    for token in sentence:
        gates = [
            sum(x[k] * kernel[k, j] for k in range(2))
            + sum(h[k] * kernel[2 + k, j] for k in range(2))
            + bias[j]
            for j in range(8)
        ]
        i, f, o, g = (np.array(gates[n : n + 2]) for n in (0, 2, 4, 6))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        logits = h @ out + out_bias
        total -= np.log(np.exp(logits[token]) / np.exp(logits).sum())
        x = embedding[token]
    assert oracle.nll(np.array([sentence, sentence]))[1] == pytest.approx(total / 4, rel=1e-12)


def test_an_oracle_is_a_distribution_that_its_samples_follow():
    oracle = Oracle(vocabulary=3, seed=1, hidden=2)
    every = np.array([[a, b] for a in range(3) for b in range(3)])
    probabilities = np.exp(-2 * oracle.nll(every))
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    drawn = oracle.sample(np.random.default_rng(0), 20_000, 2)
    shares = np.bincount(3 * drawn[:, 0].astype(int) + drawn[:, 1], minlength=9) / 20_000
    np.testing.assert_allclose(shares, probabilities, atol=0.012)


def test_sentences_follow_the_data_seed_and_are_more_likely_than_random_ones():
    def opened(**options):
        return datasets.open("oracle", vocabulary=50, count=300, held_out_count=100, **options)

    source = opened()
    oracle = of_field(source.spec.samples)
    assert source.spec.shape == (20, 50)
    assert source.spec.samples.meta["oracle"] == 0
    train, _ = source.arrays("train")
    held_out, _ = source.arrays("held_out")
    np.testing.assert_array_equal(train, opened().arrays("train")[0])
    assert not np.array_equal(train, opened(data_seed=1).arrays("train")[0])
    # Sentences are drawn from the same distribution in both splits.
    assert oracle.nll(train).mean() == pytest.approx(oracle.nll(held_out).mean(), abs=0.15)
    noise = np.random.default_rng(0).integers(50, size=(300, 20))
    assert oracle.nll(noise).mean() > oracle.nll(train).mean() + 2
    with pytest.raises(UsageError, match=r"at most 5000\. Received: vocabulary=5001"):
        datasets.open("oracle", vocabulary=5001)
    assert of_field(kinds_field()) is None


def kinds_field():
    return datasets.from_arrays(np.array([[0, 1], [1, 0]]), kind="text", held_out=0).spec.samples


# Tokens ----------------------------------------------------------------------------------------


def test_a_text_ends_before_the_first_end_token():
    meta = {"vocabulary": ["", "a", "b"]}
    assert text.string_of(np.array([1, 2, 0, 1]), meta) == "ab"
    assert text.string_of(np.array([0, 1]), meta) == ""
    words_meta = {"vocabulary": ["", "<unk>", "the", "end", "."]}
    assert text.string_of(np.array([2, 3, 4, 0, 0]), words_meta) == "the end ."
    assert text.ids_of("the end.", words_meta).tolist() == [2, 3, 4]
    assert text.ids_of("<unk>", words_meta).tolist() == [1]
    assert text.string_of(np.array([1, 0]), {"vocabulary": ["x", "y"]}) == "yx"


def test_a_text_that_is_sent_is_filled_up_with_the_end_token():
    kind, meta = kinds.get("text"), {"vocabulary": ["", "a", "b"]}
    assert kind.decode(b"ba\n", "txt", (4, 3), meta).argmax(-1).tolist() == [2, 1, 0, 0]
    assert kind.decode(b'{"text": ""}', "jsonl", (2,), meta).tolist() == [0, 0]
    assert kind.encode(np.array([2, 0, 1]), "txt", meta) == b"b\n"
    with pytest.raises(UsageError, match=r"must have the shape \(2, 3\).*shape=\(3, 3\)"):
        kind.decode(b"aba", "txt", (2, 3), meta)
    # Without an end token a text has to have the whole length.
    with pytest.raises(UsageError, match=r"must have the shape \(4, 2\)"):
        kind.decode(b"a", "txt", (4, 2), {"vocabulary": ["a", "b"]})


def test_the_seed_of_an_oracle_is_an_integer():
    with pytest.raises(UsageError, match=r"`oracle` must be an integer from 0\. .*oracle='x'"):
        kinds.get("text").check((4, 2), {"oracle": "x"})
