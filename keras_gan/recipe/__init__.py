"""Recipes: the complete description of a training in one YAML file.

Every key is checked before anything else happens. The options of a data set, a network, a game, a
loss, a term or an optimizer are the arguments of the function or class that takes them: an argument
that is added there is an option of the recipe.
"""

from keras_gan.recipe.checking import check_batches, check_data, parse
from keras_gan.recipe.games import depends_on_length, game_classes, supplied_arguments
from keras_gan.recipe.optimizers import make_optimizer
from keras_gan.recipe.reading import complete, load, names, parse_data
from keras_gan.recipe.scheduling import resolve
from keras_gan.recipe.sections import (
    CollapseGuardSection,
    DataSection,
    EquilibriumSection,
    EvaluationSection,
    GameSection,
    NetworkSection,
    OptimizerSection,
    Recipe,
    SamplesSection,
    TrainingSection,
)

__all__ = [
    "CollapseGuardSection",
    "DataSection",
    "EquilibriumSection",
    "EvaluationSection",
    "GameSection",
    "NetworkSection",
    "OptimizerSection",
    "Recipe",
    "SamplesSection",
    "TrainingSection",
    "check_batches",
    "check_data",
    "complete",
    "depends_on_length",
    "game_classes",
    "load",
    "make_optimizer",
    "names",
    "parse",
    "parse_data",
    "resolve",
    "supplied_arguments",
]
