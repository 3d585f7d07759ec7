"""Layers for text: Gumbel noise from normal numbers, and a recurrent network that samples."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops

RELAXATIONS = ("soft", "straight_through")
START = -1  # in the place of the token before the first one
FREE = -1  # in a prefix: a token that is not given
_MASKED = 1e9  # taken from the logits of a token that is not allowed
_UNROLLED = 32  # longest texts whose steps are written out one by one in the graph
_LEAST, _MOST = 1e-7, 1 - 1e-7  # of the uniform numbers

# erfc(z) = t exp(-z^2 + polynomial(t)), t = 1 / (1 + z / 2), for z >= 0, with a relative error of
# 1.2e-7 everywhere (Press et al., Numerical Recipes, 2nd edition, section 6.2).
_ERFC = (-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806)
_ERFC += (0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277)


def gumbel(normal: Any) -> Any:
    """Returns standard Gumbel numbers, -log(-log(u)), of standard normal ones, of the same shape.

    u is the normal distribution function of each number, clipped to [1e-7, 1 - 1e-7]. The large
    values decide the maximum of a sampling step, and come from u near 1. Therefore the distance to
    1 is computed, with a small relative error, from operations that all runtimes have: float32
    has no such u, and the error function of each runtime differs.

    Args:
        normal: float32 tensor.
    """
    z = ops.abs(normal) / math.sqrt(2.0)
    t = 1.0 / (1.0 + 0.5 * z)
    tail = 0.5 * t * ops.exp(_polynomial(_ERFC, t) - ops.square(z))
    tail = ops.clip(tail, _LEAST, 0.5)  # 1 - u above the median, u below it
    # -log(1 - v) = 2 atanh(w), w = v / (2 - v), as a series in w up to 1/3.
    w = tail / (2.0 - tail)
    series = _polynomial([1 / n for n in range(1, 14, 2)], ops.square(w))
    exponential = ops.where(normal > 0, 2.0 * w * series, -ops.log(tail))
    return -ops.log(exponential)


def _polynomial(coefficients: Iterable[float], x: Any) -> Any:
    value: Any = 0.0
    for coefficient in reversed([*coefficients]):
        value = value * x + coefficient
    return value


@keras.saving.register_keras_serializable("keras_gan")
class TextSampler(keras.layers.Layer):
    """Recurrent network (LSTM) that samples texts token by token, from noise that is an input.

    Token t is the argmax of logits + temperature * noise, with Gumbel noise, which is a sample of
    the softmax of logits / temperature. In inference the samples are one-hot. In training they are
    relaxed to softmax(inverse_temperature * (logits + noise)), which has a gradient; or they are
    one-hot, with that gradient (straight-through). The next step is given the argmax in all cases.

    Args:
        length: number of tokens.
        vocabulary: number of different tokens.
        width: units of the LSTM.
        embedding: length of the vector of a token.
        num_classes: number of classes of the labels; 0 for a sampler without labels.
        ends: after token 0, the end of a text, all tokens are 0.
        relaxation: of samples in training: "soft", or "straight_through", so that weights between
            0 and 1 do not give generated samples away.
        unroll: write the steps out one by one rather than as a loop; by default up to 32 tokens.
        **kwargs: arguments of `keras.layers.Layer`; it computes in float32.

    Inputs: latents `(batch, length * vocabulary)`, standard normal; optional `labels`, class ids
    `(batch,)`; in inference `temperature` `(batch,)`, from 0 up, 1 by default; `prefix`, token ids
    `(batch, length)`, -1 where the token is free; and `allowed` `(batch, vocabulary)`, 1 for tokens
    that may be chosen and 0 for others. Output: `(batch, length, vocabulary)`, weights of tokens.

    Raises:
        UsageError: an argument out of range.

    Reference:
        - [Jang et al., 2016](https://arxiv.org/abs/1611.01144)
        - [Kusner and Hernandez-Lobato, 2016](https://arxiv.org/abs/1611.04051)
    """

    def __init__(
        self,
        length: int,
        vocabulary: int,
        width: int = 64,
        embedding: int = 32,
        num_classes: int = 0,
        ends: bool = True,
        relaxation: str = "soft",
        unroll: bool | None = None,
        **kwargs: Any,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        sizes = {"length": length, "vocabulary": vocabulary, "width": width, "embedding": embedding}
        for name, value in sizes.items():
            check_integer(name, value)
        check_integer("num_classes", num_classes, 0)
        if relaxation not in RELAXATIONS:
            raise UsageError(
                f"`relaxation` must be one of {', '.join(RELAXATIONS)}. "
                f"Received: relaxation={relaxation!r}"
            )
        self.relaxation = relaxation
        self.length, self.vocabulary = int(length), int(vocabulary)
        self.width, self.embedding = int(width), int(embedding)
        self.num_classes, self.ends, self.unroll = int(num_classes), bool(ends), unroll

    def build(self, *shapes: Any, **named: Any) -> None:
        units = 4 * self.width
        make = self.add_weight
        self._table = make((self.vocabulary + 1, self.embedding), "uniform", name="embedding")
        self._classes = None
        if self.num_classes:
            self._classes = make((self.num_classes, self.embedding), "uniform", name="labels")
        self._kernel = make((self.embedding, units), "glorot_uniform", name="kernel")
        self._recurrent = make((self.width, units), "orthogonal", name="recurrent_kernel")
        self._bias = make((units,), "zeros", name="bias")
        self._out_kernel = make((self.width, self.vocabulary), "glorot_uniform", name="out_kernel")
        self._out_bias = make((self.vocabulary,), "zeros", name="out_bias")
        # Set by the game: a number of the training, not one that is learned.
        self.inverse_temperature = self.add_weight(
            (), "ones", trainable=False, name="inverse_temperature"
        )
        self.built = True

    # ---------------------------------------------------------------- one step

    def step(
        self, previous: Any, hidden: Any, cell: Any, labels: Any = None, training: bool = False
    ) -> tuple[Any, Any, Any]:
        """Returns the logits `(batch, vocabulary)` of the next token, and the new states.

        Args:
            previous: ids of the tokens before, int32 `(batch,)`; -1 at the start of a text.
            hidden: hidden state, `(batch, width)`; 0 at the start.
            cell: cell state, `(batch, width)`; 0 at the start.
            labels: class ids `(batch,)`, of a sampler with classes.
            training: compute embeddings by products, whose gradient is dense.
        """
        gates = self._inputs(previous, labels, training)
        hidden, cell = self._cell(gates, hidden, cell)
        return ops.matmul(hidden, self._out_kernel) + self._out_bias, hidden, cell

    def _inputs(self, previous: Any, labels: Any, training: bool) -> Any:
        """Returns the part of the gates that does not depend on the state."""
        rows = ops.where(previous < 0, self.vocabulary, previous)
        x = _look_up(self._table, rows, training)
        if self._classes is not None:
            own = _look_up(self._classes, ops.cast(labels, "int32"), training)
            x = x + (own if len(x.shape) == 2 else ops.expand_dims(own, 1))
        return ops.matmul(x, self._kernel) + self._bias

    def _cell(self, gates: Any, hidden: Any, cell: Any) -> tuple[Any, Any]:
        gates = gates + ops.matmul(hidden, self._recurrent)
        write, keep, new, read = ops.split(gates, 4, axis=-1)
        # The 1 makes it remember at first (Jozefowicz et al., 2015).
        cell = ops.sigmoid(keep + 1.0) * cell + ops.sigmoid(write) * ops.tanh(new)
        return ops.sigmoid(read) * ops.tanh(cell), cell

    # ---------------------------------------------------------------- sampling

    def call(
        self,
        latents: Any,
        labels: Any = None,
        temperature: Any = None,
        prefix: Any = None,
        allowed: Any = None,
        training: bool = False,
    ) -> Any:
        shape = (-1, self.length, self.vocabulary)
        noise = gumbel(ops.reshape(ops.cast(latents, "float32"), shape))
        if temperature is not None:
            noise = noise * ops.reshape(temperature, (-1, 1, 1))
        excluded = None if allowed is None else (1.0 - ops.cast(allowed, "float32")) * _MASKED

        def advance(t: Any, previous: Any, hidden: Any, cell: Any) -> tuple:
            logits, hidden, cell = self.step(previous, hidden, cell, labels, training)
            logits = logits if excluded is None else logits - excluded
            scores = logits + noise[:, t]
            token = _argmax(scores)
            if prefix is not None:
                token = ops.where(prefix[:, t] == FREE, token, ops.cast(prefix[:, t], "int32"))
            ended = previous == 0
            token = ops.where(ended, 0, token) if self.ends else token
            weights = ops.one_hot(token, self.vocabulary, dtype="float32")
            if training:
                relaxed = self._relax(scores, weights)
                weights = ops.where(ended[:, None], weights, relaxed) if self.ends else relaxed
            return weights, token, hidden, cell

        return self._repeat(advance, latents)

    def _relax(self, scores: Any, hard: Any) -> Any:
        """Returns the samples of one step in training."""
        soft = ops.softmax(self.inverse_temperature * scores)
        if self.relaxation == "soft":
            return soft
        return hard + soft - ops.stop_gradient(soft)

    def token_logits(self, ids: Any, labels: Any = None, training: bool = False) -> Any:
        """Returns the logits of each token of given texts, `(batch, length, vocabulary)`.

        Those of token t depend on the tokens before t. What follows the end of a text has logits
        that are not used in sampling.

        Args:
            ids: token ids, `(batch, length)`.
            labels: class ids `(batch,)`, of a sampler with classes.
            training: compute embeddings by products, whose gradient is dense.
        """
        ids = ops.cast(ids, "int32")
        first = ops.full_like(ids[:, :1], START)
        gates = self._inputs(ops.concatenate([first, ids[:, :-1]], 1), labels, training)

        def advance(t: Any, previous: Any, hidden: Any, cell: Any) -> tuple:
            hidden, cell = self._cell(gates[:, t], hidden, cell)
            return hidden, previous, hidden, cell

        found = self._repeat(advance, ids)
        return ops.matmul(found, self._out_kernel) + self._out_bias

    def _repeat(self, advance: Any, like: Any) -> Any:
        """Returns the outputs of all steps, `(batch, length, ...)`."""
        count = ops.shape(like)[0]
        carry: Any = tf.fill((count,), START), *(tf.zeros((count, self.width)) for _ in range(2))
        unroll = self.length <= _UNROLLED if self.unroll is None else self.unroll
        if unroll:
            outputs = []
            for t in range(self.length):
                output, *carry = advance(t, *carry)
                outputs.append(output)
            return ops.stack(outputs, axis=1)
        outputs = tf.TensorArray(tf.float32, self.length)

        def body(t: Any, outputs: Any, *carry: Any) -> tuple:
            output, *after = advance(t, *carry)
            return t + 1, outputs.write(t, output), *after

        limit = {"maximum_iterations": self.length}
        found = tf.while_loop(lambda t, *_: t < self.length, body, (0, outputs, *carry), **limit)
        steps = found[1].stack()
        return tf.transpose(tf.ensure_shape(steps, (self.length, None, steps.shape[-1])), (1, 0, 2))

    def compute_output_shape(self, *shapes: Any, **named: Any) -> tuple:
        return (None, self.length, self.vocabulary)

    def get_config(self) -> dict[str, Any]:
        names = ("length", "vocabulary", "width", "embedding", "num_classes", "ends")
        names += ("relaxation", "unroll")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("keras_gan")
class TextStep(TextSampler):
    """One step of a `TextSampler`, with the same arguments and weights.

    Inputs: `previous`, ids of the tokens before, int32 `(batch,)`, -1 at the start; `hidden` and
    `cell`, the states `(batch, width)`, 0 at the start; `noise`, standard normal
    `(batch, vocabulary)`; `temperature` `(batch,)`; `mask` `(batch, vocabulary)`, 0 for tokens that
    may not be chosen; optional `labels` `(batch,)`. Outputs by name: `token`, int32 `(batch,)`;
    `next_hidden` and `next_cell`; `log_probability`, that of the token without temperature and
    mask, in nats.
    """

    def call(
        self,
        previous: Any,
        hidden: Any,
        cell: Any,
        noise: Any,
        temperature: Any,
        allowed: Any,
        labels: Any = None,
    ) -> dict[str, Any]:
        logits, hidden, cell = self.step(previous, hidden, cell, labels)
        scaled = gumbel(noise) * ops.expand_dims(temperature, 1)
        token = _argmax(logits - (1.0 - allowed) * _MASKED + scaled)
        chosen = ops.one_hot(token, self.vocabulary, dtype="float32")
        log_probability = ops.sum(ops.log_softmax(logits) * chosen, axis=1)
        return {
            "token": token,
            "next_hidden": hidden,
            "next_cell": cell,
            "log_probability": log_probability,
        }

    def compute_output_spec(self, previous: Any, *others: Any, **named: Any) -> dict[str, Any]:
        batch = previous.shape[0]
        state = keras.KerasTensor((batch, self.width), "float32")
        return {
            "token": keras.KerasTensor((batch,), "int32"),
            "next_hidden": state,
            "next_cell": keras.KerasTensor((batch, self.width), "float32"),
            "log_probability": keras.KerasTensor((batch,), "float32"),
        }


def step_model(sampler: TextSampler) -> keras.Model:
    """Returns the step of a sampler as a model, from inputs by name to outputs by name."""
    step = TextStep(**{**sampler.get_config(), "name": "step", "dtype": "float32"})
    step.build()
    step.set_weights(sampler.get_weights())
    inputs = [
        keras.Input((), dtype="int32", name="previous"),
        keras.Input((sampler.width,), name="hidden"),
        keras.Input((sampler.width,), name="cell"),
        keras.Input((sampler.vocabulary,), name="noise"),
        keras.Input((), name="temperature"),
        keras.Input((sampler.vocabulary,), name="mask"),
    ]
    if sampler.num_classes:
        inputs.append(keras.Input((), dtype="int32", name="labels"))
    return keras.Model(inputs, step(*inputs), name="step")


def _look_up(table: Any, ids: Any, training: bool) -> Any:
    if training:
        return ops.matmul(ops.one_hot(ids, table.shape[0], dtype="float32"), table)
    return ops.take(table, ids, axis=0)


def _argmax(values: Any) -> Any:
    # Not Keras's argmax, whose handling of -0 adds operations to each step.
    return tf.argmax(values, axis=-1, output_type=tf.int32)


def find_sampler(model: keras.Model) -> TextSampler | None:
    """Returns the layer that samples the texts of a generator; `None` of other networks."""
    every: Iterable[Any] = model._flatten_layers()
    return next((layer for layer in every if isinstance(layer, TextSampler)), None)


def with_controls(model: keras.Model) -> keras.Model:
    """Returns a generator of text that also takes temperature, prefix and mask.

    Args:
        model: a Functional generator whose only layer is a `TextSampler`; any other model, of
            which the sampler alone would be something else, is returned as it is.
    """
    layer = find_sampler(model)
    names = [tensor.name for tensor in getattr(model, "inputs", None) or ()]
    if layer is None or names not in (["latents"], ["latents", "labels"]):
        return model
    others = [x for x in model.layers if not isinstance(x, keras.layers.InputLayer | TextSampler)]
    if others or len(model.outputs) != 1 or model.outputs[0] is not layer.output:
        return model
    own = [keras.Input(x.shape[1:], dtype=x.dtype, name=x.name) for x in model.inputs]
    temperature = keras.Input((), name="temperature")
    prefix = keras.Input((layer.length,), dtype="int32", name="prefix")
    mask = keras.Input((layer.vocabulary,), name="mask")
    samples = layer(*own, temperature=temperature, prefix=prefix, allowed=mask)
    return keras.Model([*own, temperature, prefix, mask], samples, name=model.name)
