"""Metrics of texts: n-gram models, BLEU, the oracle, likelihoods, words, copies."""

import math

import keras
import numpy as np
import pytest
from sacrebleu.metrics import BLEU

import keras_gan
from keras_gan import UsageError, datasets, metrics
from keras_gan.datasets.oracle import of_field
from keras_gan.metrics import bleu_scores
from keras_gan.metrics.generators import likelihood_of
from keras_gan.metrics.kneser_ney import KneserNey
from keras_gan.metrics.ngram_features import hashed_ngrams
from keras_gan.metrics.texts import counted
from keras_gan.spec import Field, Spec

LETTERS = ("", "a", "b", "c")


def one_hot(rows, size=4):
    return np.eye(size, dtype=np.float32)[np.array(rows)]


def source_of(train, held_out, vocabulary=LETTERS):
    spec = Spec(
        fields={
            "samples": Field(
                "text", (len(train[0]), len(vocabulary)), meta={"vocabulary": vocabulary}
            )
        }
    )
    splits = {
        "train": datasets.Split(np.array(train, np.uint8)),
        "held_out": datasets.Split(np.array(held_out, np.uint8)),
    }
    return datasets.Source(spec, splits, "texts of a test")


def evaluated(generated, train, held_out, *names, vocabulary=LETTERS, **options):
    data = source_of(train, held_out, vocabulary)
    made = one_hot(generated, len(vocabulary))
    options = {"count": len(generated), "real_count": len(held_out), **options}
    return metrics.evaluate(made, data, metrics=names or None, cache=False, **options)


# Kneser-Ney ------------------------------------------------------------------------------------


def test_kneser_ney_by_hand():
    """Two texts, `1 2` and `1`, whose bigrams with start and end are (s 1) twice, 1 2, 2 0, 1 0."""
    model = KneserNey(np.array([[1, 2, 0], [1, 0, 0]]), size=3, end=0, order=2)
    # Three bigrams occur once and one twice: D2 = 3 / (3 + 2). Before 0 are two different tokens,
    # before 1 and 2 one each: D1 = 2 / (2 + 2), p(0) = 1.5 / 4 + 0.5 * 3 / 4 / 3 = 0.5, others
    # 0.25.
    p = model.probabilities(np.array([[1, 2, 0], [1, 0, 0], [1, 1, 2], [2, 2, 2]]))
    first = 1.4 / 2 + 0.6 / 2 * 0.25
    after_1 = {0: 0.4 / 2 + 0.6 * 0.5, 1: 0.6 * 0.25, 2: 0.4 / 2 + 0.6 * 0.25}
    np.testing.assert_allclose(p[0], [first, after_1[2], 0.4 + 0.6 * 0.5])
    np.testing.assert_allclose(p[1, :2], [first, after_1[0]])
    np.testing.assert_allclose(p[2], [first, after_1[1], after_1[2]])
    np.testing.assert_allclose(p[3], [0.6 / 2 * 0.25, 0.6 * 0.25, 0.6 * 0.25])
    assert sum(after_1.values()) == pytest.approx(1)
    expected = -(math.log(first) + math.log(after_1[2]) + math.log(0.7)) / 3
    assert model.nll(np.array([[1, 2, 0]])) == pytest.approx(expected)
    # Tokens after the end do not count.
    expected = -(math.log(first) + math.log(after_1[0])) / 2
    assert model.nll(np.array([[1, 0, 0]])) == pytest.approx(expected)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("end", [0, None])
def test_the_probabilities_of_every_context_sum_to_1(order, end):
    rng = np.random.default_rng(0)
    model = KneserNey(rng.integers(5, size=(40, 6)) % 4, size=4, end=end, order=order)
    for _ in range(20):
        context = rng.integers(4, size=5)
        rows = np.stack([[*context, token] for token in range(4)])
        assert model.probabilities(rows)[:, -1].sum() == pytest.approx(1, abs=1e-12)


def test_samples_of_the_model_follow_its_probabilities():
    rng = np.random.default_rng(0)
    model = KneserNey(rng.integers(3, size=(30, 3)) % 3, size=3, end=0, order=3)
    count = 30_000
    drawn = model.sample(np.random.default_rng(1), count, 3)
    texts, counts = np.unique(drawn, axis=0, return_counts=True)
    p = model.probabilities(texts)
    expected = np.where(counted(texts, 0), p, 1).prod(axis=1)
    assert expected.sum() == pytest.approx(1, abs=1e-9)  # every possible text is drawn
    np.testing.assert_allclose(counts / count, expected, atol=0.009)
    ended = np.cumsum(drawn == 0, axis=1) > 0
    assert (drawn[ended] == 0).all()
    np.testing.assert_array_equal(drawn, model.sample(np.random.default_rng(1), count, 3))


def test_a_model_refuses_what_it_cannot_hold():
    with pytest.raises(UsageError, match=r"64 bits hold.*1 texts, size=5000, order=6"):
        KneserNey(np.zeros((1, 3), int), 5000, order=6)
    with pytest.raises(UsageError, match=r"needs texts.*0 texts"):
        KneserNey(np.zeros((0, 3), int), 5)
    with pytest.raises(UsageError, match=r"`order` must be an integer of at least 1"):
        KneserNey(np.zeros((1, 3), int), 5, order=0)


# BLEU ------------------------------------------------------------------------------------------


def test_bleu_by_hand():
    # 2 of 3 words and 1 of 2 pairs match; the lengths are equal.
    assert bleu_scores.bleu([(1, 2, 3)], [(1, 2, 4)], (2,))[2] == pytest.approx(math.sqrt(1 / 3))
    # A repeated word matches as often as in one reference: 2 of 4, and 1 of 3 pairs.
    found = bleu_scores.bleu([(1, 1, 1, 1)], [(1, 1, 2, 2), (1, 2, 2, 2)], (1, 2))
    assert found[1] == pytest.approx(0.5)
    assert found[2] == pytest.approx(math.sqrt(0.5 / 3))
    # Without a match of pairs 0.1 of 2 counts; the shorter of two references is as near.
    assert bleu_scores.bleu([(1, 3, 2)], [(1, 2), (1, 2, 4, 4)], (2,))[2] == pytest.approx(
        math.sqrt(2 / 3 * 0.05)
    )
    # Half as long as the reference: exp(1 - 4 / 2).
    assert bleu_scores.bleu([(1, 2)], [(1, 2, 3, 4)], (2,))[2] == pytest.approx(math.exp(-1))


def test_bleu_is_that_of_sacrebleu():
    rng = np.random.default_rng(0)
    texts = [tuple(rng.integers(8, size=rng.integers(1, 9)).tolist()) for _ in range(30)]
    lines = [" ".join(map(str, text)) for text in texts]
    for order in (2, 4):
        scorer = BLEU(
            max_ngram_order=order,
            smooth_method="floor",
            smooth_value=0.1,
            effective_order=True,
            tokenize="none",
        )
        against = [scorer.sentence_score(line, lines[20:]).score for line in lines[:20]]
        found = bleu_scores.bleu(texts[:20], texts[20:], (order,))[order]
        assert found == pytest.approx(np.mean(against) / 100)
        own = [
            scorer.sentence_score(line, lines[:row] + lines[row + 1 :]).score
            for row, line in enumerate(lines)
        ]
        assert bleu_scores.bleu(texts, None, (order,))[order] == pytest.approx(np.mean(own) / 100)


def test_self_bleu_of_equal_texts_is_1():
    result = evaluated([[1, 2, 3, 1]] * 4, [[1, 2, 0, 0]] * 2, [[3, 1, 0, 0]] * 4, "self_bleu")
    assert result.values["self_bleu_2"] == pytest.approx(1)
    assert result.values["self_bleu_5"] == pytest.approx(1)
    assert result.protocol["self_bleu"]["tokens"] == "characters"


def test_bleu_without_its_package_is_left_out_and_refused(monkeypatch):
    data = [[1, 2, 0], [2, 1, 0], [3, 1, 0], [1, 3, 3]]

    def missing():
        raise UsageError("BLEU needs the package sacrebleu. Received: none")

    monkeypatch.setattr(bleu_scores, "_formula", missing)
    result = evaluated(data, data, [[3, 3, 3], [2, 2, 2]])
    assert "bleu_2" not in result.values
    assert "unique_texts" in result.values
    with pytest.raises(UsageError, match=r"bleu needs the package sacrebleu \(pip install 'keras"):
        evaluated(data, data, [[3, 3, 3], [2, 2, 2]], "bleu")


# Values by hand --------------------------------------------------------------------------------

TRAIN = [[1, 2, 0, 0], [2, 1, 0, 0], [3, 3, 3, 0], [1, 0, 0, 0]]  # ab ba ccc a
HELD_OUT = [[2, 2, 0, 0], [3, 1, 2, 0]]  # bb cab


def test_words_copies_and_unique_texts_by_hand():
    generated = [[1, 2, 0, 3], [1, 2, 0, 0], [2, 2, 0, 0], [3, 3, 1, 1], [3, 1, 2, 0]]
    # ab ab bb ccaa cab: what follows the end does not count.
    result = evaluated(generated, TRAIN, HELD_OUT, "real_words", "copies", "unique_texts")
    assert result.values == {
        "real_words": pytest.approx(4 / 5),
        "real_words_held_out": pytest.approx(2 / 5),
        "real_words_training": pytest.approx(2 / 5),
        "unique_texts": pytest.approx(4 / 5),
        "copies": pytest.approx(2 / 5),
        "copies_of_held_out": pytest.approx(2 / 5),
    }
    assert result.protocol["copies"] == {"training_texts": 4, "held_out_texts": 2}


def test_all_held_out_texts_count_where_fewer_are_compared():
    generated = [[2, 2, 0, 0], [3, 1, 2, 0], [1, 1, 1, 1], [2, 2, 2, 2]]
    held_out = [*HELD_OUT, [1, 1, 1, 1], [2, 3, 2, 3]]
    result = evaluated(generated, TRAIN, held_out, "copies", "real_words", real_count=2)
    assert result.values["copies_of_held_out"] == pytest.approx(3 / 4)
    assert result.values["real_words_held_out"] == pytest.approx(3 / 4)


def test_unique_ngrams_by_hand():
    generated = [[1, 2, 1, 2], [1, 2, 3, 0]]  # ab ba ab, ab bc: 3 of 5 pairs, 3 of 3 triples
    result = evaluated(generated, TRAIN, HELD_OUT, "unique_ngrams")
    assert result.values["unique_2_grams"] == pytest.approx(3 / 5)
    assert result.values["unique_3_grams"] == pytest.approx(1)
    real = result.protocol["unique_ngrams"]["of_real_texts"]
    assert real["unique_2_grams"] == pytest.approx(1)  # bb, ca ab


def test_the_n_gram_models_are_fitted_to_either_set():
    generated = [[1, 2, 0, 0], [2, 2, 3, 0]]
    result = evaluated(generated, TRAIN, HELD_OUT, "ngram_nll", "reverse_ngram_nll")
    of_training = KneserNey(np.array(TRAIN), 4, 0)
    of_generated = KneserNey(np.array(generated), 4, 0)
    assert result.values["ngram_nll"] == pytest.approx(of_training.nll(np.array(generated)))
    assert result.values["reverse_ngram_nll"] == pytest.approx(of_generated.nll(np.array(HELD_OUT)))
    protocol = result.protocol["ngram_nll"]
    assert protocol["of_real_texts"] == pytest.approx(of_training.nll(np.array(HELD_OUT)))
    assert (protocol["order"], protocol["training_texts"]) == (4, 4)


def test_soft_samples_are_read_as_their_most_probable_tokens():
    hard = one_hot([[1, 2, 0, 0], [2, 2, 3, 0]])
    soft = 0.6 * hard + 0.1
    data = source_of(TRAIN, HELD_OUT)
    names = ["ngram_nll", "reverse_ngram_nll", "unique_texts"]
    found = [
        metrics.evaluate(made.astype(np.float32), data, metrics=names, cache=False).values
        for made in (hard, soft)
    ]
    assert found[0] == found[1]


def test_a_generator_that_repeats_one_text_is_found():
    rng = np.random.default_rng(0)
    good = rng.choice(3, p=[0.2, 0.5, 0.3], size=(300, 16)) + 1
    train, held_out, generated = good[:100].tolist(), good[100:200].tolist(), good[200:]
    repeated = np.repeat(generated[:1], 100, axis=0)
    names = ("reverse_ngram_nll", "unique_texts", "self_bleu")
    varied, same = (evaluated(made, train, held_out, *names) for made in (generated, repeated))
    assert same.values["reverse_ngram_nll"] > varied.values["reverse_ngram_nll"] + 0.3
    assert same.values["unique_texts"] == pytest.approx(0.01)
    assert same.values["self_bleu_4"] > varied.values["self_bleu_4"]


# Evaluation ------------------------------------------------------------------------------------


def test_texts_are_evaluated_beside_training_texts_and_an_n_gram_model():
    data = datasets.open("oracle", vocabulary=20, length=6, count=400, held_out_count=100)
    generated = data.values(data.arrays("train")[0][::4])
    result = metrics.evaluate(generated, data, cache=False)
    assert {*result.controls} == {"training", "ngrams"}
    assert result.protocol["controls"]["ngrams"]["source"].startswith("a Kneser-Ney model of 4-")
    oracle = of_field(data.spec.samples)
    held_out = oracle.nll(data.arrays("held_out")[0]).mean()
    assert result.protocol["nll_oracle"]["of_real_texts"] == pytest.approx(held_out)
    assert result.controls["training"]["nll_oracle"] < result.controls["ngrams"]["nll_oracle"]
    assert "nll_gen" not in result.values
    assert "real_words" not in result.values


def test_metrics_that_do_not_apply_say_why():
    with pytest.raises(UsageError, match=r"nll_oracle needs texts of the data set oracle\. Rec"):
        evaluated(TRAIN, TRAIN, HELD_OUT, "nll_oracle")
    with pytest.raises(UsageError, match=r"nll_gen needs .*`token_logits`.* without a likelihood"):
        evaluated(TRAIN, TRAIN, HELD_OUT, "nll_gen")
    words = ("", "the", "cat", "sat")
    with pytest.raises(UsageError, match=r"real_words needs texts of characters\. .*of whole w"):
        evaluated(TRAIN, TRAIN, HELD_OUT, "real_words", vocabulary=words)
    with pytest.raises(UsageError, match=r"'ngrams' takes texts\. Received: samples of kind 'po"):
        metrics.open_features("ngrams", Spec("points", (2,)))


@keras.saving.register_keras_serializable("test_metrics_text")
class Unigrams(keras.layers.Layer):
    """Samples whose tokens are independent of each other, with known probabilities."""

    probabilities = np.array([0.1, 0.4, 0.3, 0.2], np.float32)

    def call(self, latents):
        return keras.ops.softmax(keras.ops.reshape(latents, (-1, 4, 4)))

    def token_logits(self, ids, labels=None):
        logits = keras.ops.log(self.probabilities)
        return keras.ops.zeros((*ids.shape, 4)) + logits


def test_the_likelihood_of_held_out_texts_by_the_generator():
    latents = keras.Input((16,), name="latents")
    generator = keras.Model(latents, Unigrams(name="samples")(latents))
    samples = keras.Input((4, 4), name="samples")
    logits = keras.layers.Dense(1, name="logits")(keras.layers.Flatten()(samples))
    gan = keras_gan.GAN(generator, keras.Model(samples, logits))
    result = metrics.evaluate(
        gan, source_of(TRAIN, HELD_OUT), count=10, metrics=["nll_gen", "unique_texts"], cache=False
    )
    # bb and cab with their ends: b b end, c a b end.
    expected = -np.log([0.3, 0.3, 0.1, 0.2, 0.4, 0.3, 0.1]).mean()
    assert result.values["nll_gen"] == pytest.approx(expected, rel=1e-6)
    assert result.controls["training"]["unique_texts"] > 0
    assert "nll_gen" not in result.controls["training"]


def test_the_likelihood_by_class():
    class OfClass(keras.layers.Layer):
        def call(self, x):
            return x

        def token_logits(self, ids, labels=None):
            return keras.ops.one_hot(labels, 4)[:, None] + keras.ops.zeros((*ids.shape, 4))

    latents = keras.Input((4,), name="latents")
    of_class = likelihood_of(keras.Model(latents, OfClass()(latents)), conditional=True)
    found = of_class(np.zeros((2, 3), np.int64), np.array([1, 3]))
    assert found.argmax(axis=-1).tolist() == [[1] * 3, [3] * 3]
    with pytest.raises(UsageError, match=r"needs data with labels\. Received: data without"):
        of_class(np.zeros((2, 3), np.int64), None)
    assert likelihood_of(keras.Model(latents, keras.layers.Dense(2)(latents))) is None


def test_a_comparison_during_training_is_chosen_by_the_reverse_likelihood():
    data = source_of(TRAIN, HELD_OUT)
    held_out = data.values(data.arrays("held_out")[0])
    training = lambda: np.array(TRAIN)  # noqa: E731
    compare = metrics.Comparison(held_out, spec=data.spec, training=training)
    assert compare.metric == "reverse_ngram_nll"
    assert compare.names == ("reverse_ngram_nll", "ngram_nll", "unique_texts")
    generated = one_hot([[1, 2, 0, 0], [2, 2, 3, 0]])
    whole = evaluated([[1, 2, 0, 0], [2, 2, 3, 0]], TRAIN, HELD_OUT, *compare.names)
    assert compare(generated) == pytest.approx(whole.values)
    alone = metrics.Comparison(held_out, spec=data.spec)
    assert alone.names == ("reverse_ngram_nll", "unique_texts")


def test_features_of_texts_are_shares_of_ngrams():
    samples = one_hot([[1, 2, 3, 0], [1, 2, 3, 0], [3, 3, 3, 3]])
    features, classes = hashed_ngrams(samples)
    assert classes is None
    assert features.shape == (3, 256)
    np.testing.assert_allclose(features.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(features[0], features[1])
    assert sorted(features[2][features[2] > 0].round(6)) == [
        pytest.approx(n / 9, abs=1e-6) for n in (2, 3, 4)
    ]
