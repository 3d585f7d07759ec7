"""The game of a policy alone, which learns an expert's actions by maximum likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_gan.arguments import check_integer, check_number
from keras_gan.control.spaces import check_name
from keras_gan.games import _acting
from keras_gan.games._game import Game
from keras_gan.layers import update_statistics


@keras.saving.register_keras_serializable("keras_gan")
class BehaviorCloning(_acting.Acting, Game):
    """A policy that learns which action an expert takes, without acting in the environment.

    It is the control of `Imitation`: with few pairs a cloned policy leaves the expert's
    observations, where nothing has said what to do.

    Args:
        policy: built Keras model from `observation` `(batch, features)` to `logits` of choices, or
            `mean` and `log_std` of continuous actions; and to `samples`, the action without
            randomness. The architecture `policy` builds one.
        environment: name of the environment in which the policy is scored.
        evaluation_episodes: number of episodes of a score, from 1 up.
        expert_return: mean return of the expert, which scores 1; by default that of the
            environment's scripted expert.
        **kwargs: the other arguments of `Game`.

    Raises:
        UsageError: a policy that does not fit the environment, or an argument out of range.

    Reference:
        [Pomerleau, 1991](https://doi.org/10.1162/neco.1991.3.1.88)
    """

    metric_names = ("cloning_loss",)

    def __init__(
        self,
        policy: keras.Model,
        environment: str,
        evaluation_episodes: int = 20,
        expert_return: float | None = None,
        **kwargs: Any,
    ):
        check_integer("evaluation_episodes", evaluation_episodes)
        if expert_return is not None:
            check_number("expert_return", expert_return)
        self.environment = check_name(environment)
        super().__init__({"policy": policy}, **kwargs)
        self.evaluation_episodes, self.expert_return = evaluation_episodes, expert_return

    def check_networks(self, outputs: Mapping[str, Mapping[str, Any]]) -> None:
        _acting.check_policy(self.networks["policy"], outputs["policy"], self.spaces)

    def step(self, batch: dict[str, Any]) -> None:
        """Trains the policy on one batch of pairs."""
        update_statistics(self.policy, batch["observation"])
        _acting.clone(self, batch["observation"], batch["samples"])

    def evaluation(self, batch: dict[str, Any]) -> None:
        """Updates the mean log-likelihood of an expert's actions."""
        outputs = self.average("policy")({"observation": batch["observation"]}, training=False)
        found = _acting.log_likelihood(outputs, batch["samples"])
        self.track(cloning_loss=-found)
