"""Generated words and sentences, beside language models, at several temperatures.

    apt-get install wamerican
    keras-gan train words --run runs/words
    keras-gan train words-resnet --run runs/words-resnet
    keras-gan train oracle --run runs/oracle
    taskset -c 0 python benchmarks/text.py --words runs/words runs/words-resnet --oracle runs/oracle

Words: shares of generated words in the held-out and in the training half of the dictionary, and of
different ones; then, of the words outside the training half (`sample --exclude` leaves the others
out), the shares of those in the held-out half and of different ones. Beside them, the same of an
interpolated Kneser-Ney model of 4-grams of the training half, and of as many words of that half.

Oracle: the quality of sentences, their negative log-likelihood by the oracle (NLL_oracle), and the
diversity of the generator, that of held-out sentences by the generator (NLL_gen), both in nats for
each token. Lower is better for both. A temperature trades one for the other, so the averaged
generator after both stages is compared with that of the first stage, maximum likelihood, along the
whole curve (Caccia et al., 2018, https://arxiv.org/abs/1811.02549): the last line is the largest
difference of NLL_oracle at equal NLL_gen, over temperatures up to 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan import SequenceGAN, latents
from keras_gan import run as runs
from keras_gan.datasets import oracle, words
from keras_gan.environment import processor
from keras_gan.errors import UsageError
from keras_gan.layers import find_sampler
from keras_gan.metrics.kneser_ney import KneserNey

TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5)
OF_WORDS = (0.5, 0.7, 1.0)
_BATCH = 250


def words_of(ids: np.ndarray, tokens: Sequence[str]) -> list[str]:
    """Returns the words of token ids `(count, length)`."""
    return ["".join(tokens[int(i)] for i in row).partition("\0")[0] for row in ids.tolist()]


def shares(found: list[str], seen: set[str], unseen: set[str]) -> str:
    """Returns one row of the table of words."""
    count = len(found)
    new = [word for word in found if word not in seen]
    held_out = sum(word in unseen for word in new)
    values = (
        held_out / count,
        1 - len(new) / count,
        len({*found}) / count,
        held_out / max(1, len(new)),
        len({*new}) / max(1, len(new)),
    )
    return "".join(f"{100 * value:11.1f} %" for value in values)


def compare_words(paths: Sequence[str], count: int) -> None:
    """Prints the table of words."""
    data = words.open()
    tokens = ["\0", *data.spec.samples.meta["vocabulary"][1:]]
    trained, held_out = (np.asarray(data.arrays(name)[0]) for name in ("train", "held_out"))
    seen, unseen = ({*words_of(ids, tokens)} for ids in (trained, held_out))
    titles = ("held out", "training", "different", "of new", "new, diff.")
    print(f"{'words':<34}" + "".join(f"{title:>13}" for title in titles))
    for path in paths:
        gan = runs.Run.open(path).load()
        name = f"{path.rstrip('/').rpartition('/')[2]}"
        temperatures = OF_WORDS if isinstance(gan, SequenceGAN) else (None,)
        for value in temperatures:
            options: dict[str, Any] = {} if value is None else {"temperature": value}
            ids = gan.generate(range(count), batch_size=_BATCH, **options).argmax(-1)
            label = name if value is None else f"{name}, temperature {value:g}"
            print(f"{label:<34}{shares(words_of(ids, tokens), seen, unseen)}", flush=True)
    model = KneserNey(trained, len(tokens), 0)
    ids = model.sample(np.random.default_rng(0), count, trained.shape[1])
    print(f"{'Kneser-Ney, 4-grams':<34}{shares(words_of(ids, tokens), seen, unseen)}")
    rows = np.random.default_rng(0).permutation(len(trained))[:count]
    print(f"{'training half':<34}{shares(words_of(trained[rows], tokens), seen, unseen)}")


# ------------------------------------------------------------------------ oracle


def nll_gen(model: Any, ids: np.ndarray, temperature: float) -> float:
    """Returns NLL_gen of sentences under a generator at a temperature."""
    layer, total = find_sampler(model), 0.0
    if layer is None:
        raise UsageError(f"A generator must sample texts. Received: {model.name!r}")
    for start in range(0, len(ids), _BATCH):
        part = tf.constant(ids[start : start + _BATCH], tf.int32)
        logits = layer.token_logits(part) / temperature
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(part, logits)
        total += float(tf.reduce_sum(losses))
    return total / ids.size


def sentences(model: Any, count: int, temperature: float) -> np.ndarray:
    """Returns the token ids of the sentences of seeds 0, 1, ..., at a temperature."""
    layer, found = find_sampler(model), []
    if layer is None:
        raise UsageError(f"A generator must sample texts. Received: {model.name!r}")
    for start in range(0, count, _BATCH):
        seeds = np.arange(start, min(start + _BATCH, count))
        noise = latents.latents_from_seeds(seeds, layer.length * layer.vocabulary)
        value = tf.fill((len(seeds),), float(temperature))
        found.append(np.asarray(layer(noise, temperature=value)).argmax(-1))
    return np.concatenate(found)


def curve(model: Any, source: Any, count: int) -> np.ndarray:
    """Returns NLL_oracle and NLL_gen at each temperature, `(temperatures, 2)`."""
    known = oracle.of_field(source.spec.samples)
    if known is None:
        raise UsageError("The data must be drawn from an oracle. Received: other data")
    held_out = np.asarray(source.arrays("held_out")[0])[:count]
    return np.array(
        [
            (float(known.nll(sentences(model, count, t)).mean()), nll_gen(model, held_out, t))
            for t in TEMPERATURES
        ]
    )


def largest_excess(second: np.ndarray, first: np.ndarray) -> float:
    """Returns the largest NLL_oracle of one curve over another at equal NLL_gen.

    Args:
        second: NLL_oracle and NLL_gen by temperature, ascending, `(temperatures, 2)`.
        first: those of the curve to compare with.
    """
    rows = [i for i, value in enumerate(TEMPERATURES) if value <= 1]
    (quality, diversity), (other, others) = second[rows].T, first[rows].T
    common = (diversity >= others.min()) & (diversity <= others.max())
    order = np.argsort(others)
    expected = np.interp(diversity[common], others[order], other[order])
    return float(np.max(quality[common] - expected)) if common.any() else float("nan")


def compare_oracle(path: str, count: int) -> None:
    """Prints the curves of a run of the recipe oracle."""
    run = runs.Run.open(path)
    gan = run.load()
    data = {name: value for name, value in run.record["data"].items() if name != "source"}
    source = oracle.open(**data)
    known = oracle.of_field(source.spec.samples)
    held_out = np.asarray(source.arrays("held_out")[0])[:count]
    if known is not None:
        print(f"NLL_oracle of held-out sentences: {known.nll(held_out).mean():.3f}")
    second = curve(gan.average("generator").model, source, count)
    first = curve(gan.first_generator, source, count)
    titles = f"{'first stage: oracle':>21}{'gen':>9}{'both stages: oracle':>23}{'gen':>9}"
    print(f"{'temperature':<13}{titles}")
    for value, a, b in zip(TEMPERATURES, first, second, strict=True):
        print(f"{value:<13g}{a[0]:21.3f}{a[1]:9.3f}{b[0]:23.3f}{b[1]:9.3f}")
    excess = largest_excess(second, first)
    print(f"NLL_oracle of both stages over the first at equal NLL_gen: {excess:+.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--words", nargs="*", default=[], metavar="RUN", help="runs of words")
    parser.add_argument("--oracle", metavar="RUN", help="run of the recipe oracle")
    parser.add_argument("--count", type=int, default=2000, help="texts of each row")
    options = parser.parse_args()
    print(processor())
    if options.words:
        compare_words(options.words, options.count)
    if options.oracle:
        compare_oracle(options.oracle, options.count)


if __name__ == "__main__":
    main()
