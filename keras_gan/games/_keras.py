"""Methods of `keras.Model` that differ for a game: call, save, export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan.errors import UsageError
from keras_gan.games import _weights
from keras_gan.games._optimizer import PlayerOptimizers
from keras_gan.networks import input_names
from serving.errors import short_repr

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

_EXPORT = "export.export_bundle(gan, 'FOLDER') writes a verified SavedModel and an ONNX model"


class KerasInterface(keras.Model):
    """Base class of `Game`: what Keras and its callbacks ask of a model.

    A game's class defines `networks`, `average` and `sampled`, see `Game`.
    """

    _player_optimizers: PlayerOptimizers | None = None

    @property
    def optimizer(self) -> Any:
        """The optimizers of the players, as Keras's callbacks use them; None before `compile`."""
        return self._player_optimizers

    @optimizer.setter
    def optimizer(self, optimizer: Any) -> None:
        if optimizer is not None:  # Keras's compile sets None
            raise UsageError(
                "The players of a game have an optimizer each, which `compile` sets. "
                f"Received: optimizer={optimizer!r}"
            )
        self._player_optimizers = None

    # ---------------------------------------------------------------- calling

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self._check_inputs(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:  # pyright: ignore
        """Returns the averaged generator's output of its inputs, as `keras.Model.predict` does."""
        spec = x.element_spec if isinstance(x, tf.data.Dataset) else x
        if not hasattr(x, "__next__") and not isinstance(x, keras.utils.PyDataset):
            self._check_inputs(spec[0] if isinstance(spec, tuple) else spec)
        return super().predict(x, *args, **kwargs)

    def _check_inputs(self, inputs: Any) -> None:
        """Checks that the generator can take inputs, of which Keras reports the first layer.

        Raises:
            UsageError: another number of inputs, or other shapes.
        """
        game: Any = self
        network = game.average(game.sampled)
        names, expected = input_names(network.model), getattr(network.model, "inputs", None) or ()
        if isinstance(inputs, Mapping):
            given = [inputs[name] for name in names if name in inputs]
        else:
            given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        shaped = all(hasattr(each, "shape") for each in given)
        if shaped and not expected:
            return  # a subclassed generator
        if shaped and len(given) == len(expected):
            pairs = zip(given, expected, strict=True)
            if all(tf.TensorShape(a.shape).is_compatible_with(b.shape) for a, b in pairs):
                return
        takes = [f"{n} {tuple(t.shape)}" for n, t in zip(network.fields, expected, strict=False)]
        received = [str(tuple(x.shape)) for x in given] if shaped else [short_repr(inputs)]
        if isinstance(inputs, Mapping):
            received = [f"inputs named {', '.join(map(str, inputs))}", *received]
        others = [name for name in game.networks if name != game.sampled]
        raise UsageError(
            f"A game that is called as a model is its averaged {game.sampled}, which takes "
            f"{', '.join(takes) or 'tensors'}. Received: {', '.join(received)}. "
            "Use generate(seeds=range(16)) for samples"
            + (f", or call gan.{others[0]} for its outputs" if others else "")
        )

    # ---------------------------------------------------------------- saving

    def save(self, filepath: Any, overwrite: bool = True, zipped: Any = None, **kwargs: Any):
        """Saves the game with its optimizers, averages and counters to a `.keras` file.

        Raises:
            UsageError: another format, or an option that a `.keras` file does not have.
        """
        harmless = {"include_optimizer": True, "save_format": "keras"}
        refused = {n: value for n, value in kwargs.items() if harmless.get(n) != value}
        if refused:
            raise UsageError(
                "A game is saved whole, to a .keras file. Received: "
                f"{', '.join(f'{name}={value!r}' for name, value in refused.items())}. {_EXPORT}"
            )
        if zipped is not False and not str(filepath).endswith(".keras"):
            raise UsageError(
                "`filepath` must end in .keras. Received: "
                f"filepath={str(filepath)!r}. save_weights takes .weights.h5, and {_EXPORT}"
            )
        return super().save(filepath, overwrite=overwrite, zipped=zipped)

    def save_weights(self, filepath: Any, *args: Any, **kwargs: Any):
        _check_weights_file(filepath, (".weights.h5",))
        return super().save_weights(filepath, *args, **kwargs)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any):
        """Loads the weights of a file as `keras.Model.load_weights` does, or changes nothing.

        Raises:
            UsageError: a file that is missing, damaged, or of other networks; the last unless
                `skip_mismatch` is True.
        """
        _check_weights_file(filepath, (".weights.h5", ".keras"))
        with _weights.loading(self, filepath, partly=skip_mismatch):
            super().load_weights(filepath, skip_mismatch, **kwargs)

    def export(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        verbose: Any = None,
        input_signature: Any = None,
        **kwargs: Any,
    ):
        """Exports the averaged generator in inference mode as a plain SavedModel.

        `export.export_bundle` writes one that takes seeds and is verified, and an ONNX model.

        Raises:
            UsageError: another format, or a subclassed generator without `input_signature`.
        """
        if format != "tf_saved_model":
            raise UsageError(
                f"`format` must be 'tf_saved_model'. Received: format={format!r}. {_EXPORT}"
            )
        game: Any = self
        network = game.average(game.sampled)
        model = network.model
        if input_signature is None:
            if not getattr(model, "inputs", None):
                raise UsageError(
                    "`input_signature` is needed for a subclassed generator, such as "
                    f"[tf.TensorSpec((None, {game.latent_dim}), tf.float32)]. "
                    "Received: input_signature=None"
                )
            specs = [tf.TensorSpec(x.shape, x.dtype, x.name) for x in model.inputs]
            input_signature = [network.inputs(dict(zip(network.fields, specs, strict=True)))]
        super().export(filepath, format, verbose, input_signature, **kwargs)

    def quantize(self, mode: Any = None, config: Any = None, **kwargs: Any):
        raise UsageError(
            "A game cannot be quantized, as its networks are trained in floating point. "
            f"Received: mode={mode!r}. Use export.export_bundle(gan, 'FOLDER', precision='int8')"
        )

    def noise_states(self) -> list[Any]:
        """Returns the states of layers that draw random numbers, such as Dropout.

        Keras does not save them.
        """
        game: Any = self
        models = [getattr(self, name) for name in game.networks]
        models += [getattr(self, f"average_{name}") for name in game.averaged]
        return [
            generator.state
            for model in models
            for layer in model._flatten_layers()
            for generator in getattr(layer, "_seed_generators", ())
        ]

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        game: Any = self
        if game.data_range is not None:
            store["data_extremes"] = np.array(game.seen_values.extremes)
        for i, state in enumerate(self.noise_states()):
            store[f"noise_{i}"] = ops.convert_to_numpy(state)

    def load_own_variables(self, store: Any) -> None:
        for i, state in enumerate(self.noise_states()):
            state.assign(store[f"noise_{i}"])
        names = list(store.keys())  # of an HDF5 group, not of a dictionary
        game: Any = self
        extremes = np.asarray(store["data_extremes"]).tolist() if "data_extremes" in names else None
        game.seen_values.extremes = extremes and tuple(extremes)
        super().load_own_variables({n: store[n] for n in names if n.isdecimal()})


def _check_weights_file(filepath: Any, suffixes: tuple[str, ...]) -> None:
    if not str(filepath).endswith((*suffixes, ".weights.json")):  # the last: of several files
        raise UsageError(
            f"A file of a game's weights must end in {' or '.join(suffixes)}. "
            f"Received: filepath={str(filepath)!r}"
        )
