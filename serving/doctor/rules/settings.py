"""Rules on settings: variables and files that change what Keras is."""

from __future__ import annotations

from collections.abc import Iterator

from serving.doctor.facts import Facts, Finding
from serving.doctor.rules._rule import rule


@rule
def keras_backend(facts: Facts) -> Iterator[Finding]:
    """Finds another backend of Keras than TensorFlow."""
    variable, file = facts.variables.get("KERAS_BACKEND"), facts.keras_json.get("backend")
    if variable and variable != "tensorflow":
        yield Finding(
            "error",
            "training",
            "keras-backend",
            f"the variable KERAS_BACKEND is {variable!r}; keras-gan needs Keras on TensorFlow",
            "unset KERAS_BACKEND, or set it to tensorflow",
        )
    elif not variable and file not in (None, "tensorflow"):
        yield Finding(
            "error",
            "training",
            "keras-backend",
            f"the backend in {facts.keras_file} is {file!r}; keras-gan needs Keras on TensorFlow",
            "set it to tensorflow there, or set KERAS_BACKEND=tensorflow",
        )


@rule
def legacy_keras(facts: Facts) -> Iterator[Finding]:
    """Finds the variable that makes `tf.keras` the former Keras 2."""
    value = facts.variables.get("TF_USE_LEGACY_KERAS", "").lower()
    if value in ("1", "true"):
        yield Finding(
            "warning",
            "training",
            "legacy-keras",
            "TF_USE_LEGACY_KERAS makes tf.keras Keras 2, whose networks keras-gan cannot train",
            "unset TF_USE_LEGACY_KERAS",
        )
