"""The game of a policy that acts in an environment, with a discriminator as its reward."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from keras_gan import (
    constraints,
    data_spec,
    losses,
    network_checks,
    random_numbers,
    rewards,
    schedules,
    terms,
)
from keras_gan.arguments import check_integer, check_number, check_probability
from keras_gan.control import distributions
from keras_gan.control.spaces import check_name
from keras_gan.control.vector import State
from keras_gan.errors import UsageError, one_line
from keras_gan.games import _acting, _pairs, _ppo, _rollout, _states
from keras_gan.games._game import Game
from keras_gan.layers import update_statistics
from keras_gan.registry import snake_case

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

EPISODES = ("restart", "absorbing", "natural")


@keras.saving.register_keras_serializable("keras_gan")
class Imitation(_acting.Acting, Game):
    """Generative adversarial imitation: a policy learns from a discriminator what an expert does.

    The discriminator distinguishes pairs of an observation and an action: an expert's from those
    of the policy. Its logits are the policy's reward. A training step is one round: the policy
    takes as many steps in copies of the environment as the batch has pairs, the discriminator is
    trained on both, and the policy and a value function are trained by PPO. So `examples` counts
    the steps in the environment.

    Everything random is a function of the seed and the step, and an environment is saved as the
    seed of its last reset and the actions since then: a resumed training goes on bit for bit.

    Args:
        policy: as of `BehaviorCloning`.
        value: built Keras model from `observation` to `value`, `(batch,)`.
        discriminator: built Keras model from `observation` and `samples`, the action, to `logits`.
        environment: name of the environment, such as `CartPole-v1`.
        reward: name or instance of a reward, see `keras_gan.rewards`.
        loss: name or instance of the discriminator's adversarial loss, see `keras_gan.losses`.
        terms: names or instances of terms of the discriminator, such as `r1`. A gradient is by
            normalized observations and by the action.
        constraint: None, or a constraint on the discriminator's weights.
        environments: copies of the environment that are stepped together, from 1 up; the batch
            must be a multiple of it.
        episodes: what follows where the environment ends an episode before its limit of steps.
            `"restart"`: a reset, and the episode goes on. `"absorbing"`: the last observation for
            ever, whose discounted rewards are the value of the end; for environments that the
            expert does not end. In both, a constant reward teaches nothing. `"natural"`: nothing,
            so that a positive reward also rewards survival.
        discount: discount of the rewards, from 0 to 1.
        smoothing: lambda of the generalized advantages, from 0 to 1.
        clip: bound of the change of an action's probability, above 0.
        epochs: passes of PPO over the steps of a round, from 1 up.
        minibatches: parts of the batch on which PPO steps, from 1 up; the batch must be a multiple
            of it.
        entropy: weight of the policy's entropy, from 0 up, or a schedule of it.
        discriminator_steps: steps of the discriminator in a round, from 1 up; the batch must
            be a multiple of it.
        replay: number of pairs of the policy from the last rounds that the discriminator is
            trained on, at least the batch; 0 for those of the present round alone.
        cloning_steps: steps of behavior cloning on the first batch before the first round.
        evaluation_episodes: number of episodes of a score, from 1 up.
        expert_return: mean return of the expert, which scores 1; by default that of the
            environment's scripted expert.
        **kwargs: the other arguments of `Game`; a policy has no augmentation.

    Raises:
        UsageError: networks that do not fit the environment, a reward that does not fit the loss,
            or an argument out of range; at `compile`, several replicas.

    Reference:
        - [Ho and Ermon, 2016](https://arxiv.org/abs/1606.03476)
        - [Schulman et al., 2017](https://arxiv.org/abs/1707.06347), for the policy's step
        - [Kostrikov et al., 2018](https://arxiv.org/abs/1809.02925), for absorbing states
    """

    players = {
        "policy": ("policy",),
        "value": ("value",),
        "discriminator": ("discriminator",),
    }
    metric_names = (
        *("d_loss", "policy_loss", "value_loss", "real_accuracy", "fake_accuracy"),
        *("real_logits", "fake_logits", "entropy", "divergence", "reward", "episode_return"),
        "cloning_loss",
    )

    def __init__(
        self,
        policy: keras.Model,
        value: keras.Model,
        discriminator: keras.Model,
        environment: str,
        reward: str | dict | rewards.Reward = "gail",
        loss: str | dict | losses.Loss = "non_saturating",
        terms: Iterable[str | dict | terms.Term] = (),
        constraint: str | dict | constraints.Constraint | None = None,
        environments: int = 8,
        episodes: Literal["restart", "absorbing", "natural"] = "restart",
        discount: float = 0.99,
        smoothing: float = 0.95,
        clip: float = 0.2,
        epochs: int = 10,
        minibatches: int = 16,
        entropy: float | schedules.Schedule = 0.0,
        discriminator_steps: int = 4,
        replay: int = 0,
        cloning_steps: int = 0,
        evaluation_episodes: int = 20,
        expert_return: float | None = None,
        **kwargs: Any,
    ):
        counts = {"environments": environments, "epochs": epochs, "minibatches": minibatches}
        counts |= {"discriminator_steps": discriminator_steps}
        counts |= {"evaluation_episodes": evaluation_episodes}
        _check_numbers(counts, replay, cloning_steps, discount, smoothing, clip, entropy)
        if expert_return is not None:
            check_number("expert_return", expert_return)
        if episodes not in EPISODES:
            raise UsageError(
                f"`episodes` must be one of {', '.join(EPISODES)}. Received: episodes={episodes!r}"
            )
        if episodes == "absorbing" and discount == 1:
            raise UsageError(
                "`discount` must be below 1 for absorbing episodes. Received: discount=1"
            )
        self.environment = check_name(environment)
        networks = {"policy": policy, "value": value, "discriminator": discriminator}
        super().__init__(networks, terms=terms, **kwargs)
        self.adversarial_loss = losses.get(loss)
        network_checks.logits(self.networks["discriminator"], self.adversarial_loss)
        self.reward = rewards.get(reward)
        _check_reward(self.reward, self.adversarial_loss)
        self.constraint = constraints.get(constraint)
        self.environments, self.episodes = int(environments), episodes
        self.discount, self.smoothing, self.clip = float(discount), float(smoothing), float(clip)
        self.epochs, self.minibatches, self.entropy = int(epochs), int(minibatches), entropy
        self.discriminator_steps, self.replay = int(discriminator_steps), int(replay)
        self.cloning_steps = int(cloning_steps)
        self.evaluation_episodes, self.expert_return = evaluation_episodes, expert_return
        self._add_state()

    def _add_state(self) -> None:
        """Creates the variables of the environment's copies and of the replayed pairs."""
        spaces = self.spaces
        restart = self.episodes == "restart"
        self.player = _rollout.Player(spaces, self.environments, self.seed, restart)
        initial = vars(State.empty(spaces, self.environments))
        self.states["environment"] = _states.create(self, "environment", initial)
        if self.replay:
            width = spaces.observation + spaces.action
            pairs = {"pairs": np.zeros((self.replay, width), np.float32)}
            self.states["replay"] = _states.create(self, "replay", pairs)

    def argument(self, name: str) -> Any:
        return self.adversarial_loss if name == "loss" else super().argument(name)

    def check_networks(self, outputs: Mapping[str, Mapping[str, Any]]) -> None:
        spaces = self.spaces
        _acting.check_policy(self.networks["policy"], outputs["policy"], spaces)
        value = outputs["value"].get("value")
        if value is None or tuple(value.shape[1:]) != ():
            raise UsageError(
                "The value function must return `value`, one number (batch,) for each observation. "
                f"Received: outputs {', '.join(outputs['value'])}"
            )
        if set(self.networks["discriminator"].fields) != {"observation", "samples"}:
            raise UsageError(
                "The discriminator must take `observation` and `samples`, the action. Received: "
                f"inputs {', '.join(self.networks['discriminator'].fields)}"
            )
        if self.augment is not None:
            raise UsageError(f"Imitation has no augmentation. Received: augment={self.augment!r}")
        for name, term in self.terms.items():
            if term.players != ("discriminator",):
                raise UsageError(
                    "`terms` of Imitation must be for the discriminator. Received: "
                    f"{name!r}, for {', '.join(term.players)}"
                )

    @classmethod
    def batch_factors(cls, options: Mapping[str, Any]) -> dict[str, int]:
        names = ("environments", "minibatches", "discriminator_steps")
        counts = {name: max(1, int(options[name])) for name in names}
        return {" and game.".join(counts): math.lcm(*counts.values())}

    @property
    def data_spec(self) -> data_spec.DataSpec:
        divisor = math.lcm(self.environments, self.minibatches, self.discriminator_steps)
        names = "the least common multiple of environments, minibatches and discriminator_steps"
        return super().data_spec.dividing(divisor, names)

    def compile(self, *given: Any, **arguments: Any) -> None:
        replicas = self.distribute_strategy.num_replicas_in_sync
        if replicas > 1:  # each would have an environment of its own
            raise UsageError(
                f"Imitation can be trained on one device only. Received: {replicas} replicas"
            )
        if arguments.get("jit_compile") is True:
            raise UsageError(
                "Imitation steps environments in Python, which XLA cannot compile. "
                "Received: jit_compile=True"
            )
        super().compile(*given, **{**arguments, "jit_compile": False})

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        self.player.error = None
        try:
            return super().fit(*args, **kwargs)
        except tf.errors.OpError:
            error = self.player.error
            if error is None:
                raise
            if isinstance(error, UsageError):
                raise error from None
            raise UsageError(
                "An environment must take every action of its space. Received: "
                f"environment={self.environment!r}, which raised {type(error).__name__}: "
                f"{one_line(error)}"
            ) from error

    # ---------------------------------------------------------------- the algorithm

    def step(self, batch: dict[str, Any]) -> None:
        """Runs one round: acting, the discriminator's steps, and those of PPO."""
        count = tf.shape(batch["samples"])[0]
        self._check_replay(batch["samples"].shape[0])
        if self.cloning_steps:
            first = tf.equal(self.iteration.value, 0)
            tf.cond(first, lambda: self._clone(batch), lambda: tf.zeros(()))
        rollout = self._act(count)
        observations, taken = rollout.flat("observations"), rollout.flat("taken")
        self._train_discriminator(batch, _pairs.joined(observations, taken))

        # Rewards by the updated discriminator, which stays as it is in the rest of the round.
        given = self._reward_of(observations, taken)
        targets = self._targets(rollout, given)
        _ppo.update(self, targets, count)

        # The statistics are frozen within a round.
        for name in self.networks:
            update_statistics(getattr(self, name), observations)
        returns = self.states["environment"]["returns"].value
        self.track(reward=given, episode_return=tf.cast(returns, "float32"))

    def _act(self, count: Any) -> _rollout.Rollout:
        """Takes `count` steps, those of all copies counted, with the live policy."""
        outputs = self.networks["policy"].output_names
        kind: Any = distributions.class_of(outputs)
        spaces, copies = self.spaces, self.environments
        noise = kind.noise((count // copies, copies, spaces.action), self.random_seed("actions"))

        def act(observations: Any, noise: Any) -> tuple[Any, Any]:
            actions = self.distribution(observations).sample(noise)
            return actions, self._taken(actions)

        return self.player.play(self.states["environment"], act, noise)

    def _taken(self, actions: Any) -> Any:
        """Returns drawn actions as the environment takes them."""
        spaces = self.spaces
        return actions if spaces.choices else tf.clip_by_value(actions, spaces.low, spaces.high)

    def _train_discriminator(self, batch: dict[str, Any], made: Any) -> None:
        """Trains the discriminator on the expert's pairs and on as many of the policy's."""
        count, steps = tf.shape(made)[0], self.discriminator_steps
        pool, known = self._replayed(made, count)
        expert = _pairs.joined(batch["observation"], batch["samples"])
        drawn = random_numbers.uniform((count,), self.random_seed("replay"))
        rows = tf.cast(drawn * tf.cast(known, tf.float32), tf.int32)
        fake = tf.gather(pool, tf.minimum(rows, known - 1)) if self.replay else made
        if not self.replay:  # rows of one step would be those of neighboring times
            fake = tf.gather(fake, tf.argsort(drawn))
        size = count // steps

        def train(i: Any) -> Any:
            part = slice(i * size, (i + 1) * size)
            _pairs.train(self, expert[part], fake[part], i)
            return (i + 1,)

        tf.while_loop(lambda i: i < steps, train, (tf.constant(0),), parallel_iterations=1)

    def _replayed(self, made: Any, count: Any) -> tuple[Any, Any]:
        """Adds pairs to those that are replayed; returns all of them, and their number."""
        if not self.replay:
            return made, count
        pairs = self.states["replay"]["pairs"]
        seen = self.examples_seen.value
        start = tf.cast(seen % self.replay, tf.int32)
        places = (start + tf.range(count)) % self.replay
        pairs.assign(tf.tensor_scatter_nd_update(pairs.value, places[:, tf.newaxis], made))
        known = tf.minimum(seen + tf.cast(count, seen.dtype), self.replay)
        return pairs.value, tf.cast(known, tf.int32)

    def _reward_of(self, observations: Any, taken: Any) -> Any:
        """Returns the rewards of pairs, `(batch,)`."""
        pairs = {"observation": observations, "samples": taken}
        return self.reward(self.networks["discriminator"](pairs, training=False)["logits"])

    def _targets(self, rollout: _rollout.Rollout, given: Any) -> _ppo.Targets:
        observations, actions = rollout.flat("observations"), rollout.flat("actions")
        # In episodes of equal length a constant in the reward changes nothing, so that the mean is
        # subtracted; in others it would change when an episode should end.
        shift = 0.0 if self.episodes == "natural" else tf.reduce_mean(given)
        scale = tf.maximum(tf.sqrt(tf.reduce_mean(tf.square(given - shift))), 1e-3)
        shape = tf.shape(rollout.terminated)
        values = tf.reshape(self.values(observations), shape)
        after = rollout.flat("following")
        ended = tf.zeros(shape)
        if self.episodes == "absorbing":
            outputs = self.networks["policy"]({"observation": after}, training=False)
            rewarded = self._reward_of(after, ops.cast(outputs["samples"], "float32"))
            ended = tf.reshape((rewarded - shift) / scale, shape) / (1.0 - self.discount)
        following = tf.reshape(self.values(after), shape)
        following = tf.where(rollout.terminated > 0, ended, following)
        scaled = tf.reshape((given - shift) / scale, shape)
        factors = (self.discount, self.smoothing)
        advantages = _rollout.advantages(rollout, scaled, values, following, *factors)
        flat = functools.partial(tf.reshape, shape=(-1,))
        return _ppo.Targets(
            observations,
            actions,
            self.distribution(observations).log_prob(actions),
            flat(_ppo.normalized(advantages)),
            flat(advantages + values),
        )

    def values(self, observations: Any, training: bool = False) -> Any:
        """Returns the values of observations, `(batch,)`."""
        found = self.networks["value"]({"observation": observations}, training=training)
        return ops.cast(found["value"], "float32")

    def _clone(self, batch: dict[str, Any]) -> Any:
        """Trains the policy by behavior cloning on parts of the first batch."""
        observations, actions = batch["observation"], batch["samples"]
        for name in self.networks:
            update_statistics(getattr(self, name), observations)
        count = tf.shape(actions)[0]
        size = count // self.minibatches

        def step(i: Any) -> Any:
            drawn = random_numbers.uniform((size,), self.random_seed("cloning", i))
            rows = tf.cast(drawn * tf.cast(count, tf.float32), tf.int32)
            rows = tf.minimum(rows, count - 1)
            _acting.clone(self, tf.gather(observations, rows), tf.gather(actions, rows))
            return (i + 1,)

        last = self.cloning_steps
        tf.while_loop(lambda i: i < last, step, (tf.constant(0),), parallel_iterations=1)
        return tf.zeros(())

    def has_values(self, metric: str) -> bool:
        return metric != "cloning_loss" or (self.cloning_steps > 0 and self.count("iteration") <= 1)

    def _check_replay(self, size: int | None) -> None:
        if self.replay and size is not None and size > self.replay:
            raise UsageError(
                f"`replay` must be 0 or at least the batch of {size} pairs. "
                f"Received: replay={self.replay}"
            )


def _check_numbers(
    counts: Mapping[str, Any],
    replay: Any,
    cloning_steps: Any,
    discount: Any,
    smoothing: Any,
    clip: Any,
    entropy: Any,
) -> None:
    """Checks the numbers of the constructor.

    Raises:
        UsageError: the first that is out of range.
    """
    for name, value in counts.items():
        check_integer(name, value)
    check_integer("replay", replay, 0)
    check_integer("cloning_steps", cloning_steps, 0)
    check_probability("discount", discount)
    check_probability("smoothing", smoothing)
    check_number("clip", clip, above=0)
    check_number("entropy", entropy, minimum=0, schedule=True)


def _check_reward(reward: rewards.Reward, loss: losses.Loss) -> None:
    """Checks that a reward reads logits as the loss means them.

    Raises:
        UsageError: it does not.
    """
    critic = isinstance(loss, losses.Wasserstein)
    if reward.unbounded is not None and reward.unbounded != critic:
        raise UsageError(
            "`reward` must be 'wgan' for the loss wasserstein, whose logits are no log-odds, and "
            "another one for other losses. Received: reward="
            f"{snake_case(type(reward).__name__)!r} with "
            f"loss={snake_case(type(loss).__name__)!r}"
        )
