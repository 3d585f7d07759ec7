"""A small environment of gymnasium, whose returns can be worked out by hand."""

import gymnasium
import numpy as np


class Corridor(gymnasium.Env):
    """A place on a line from -1 to 1: two actions move by 0.25, and an end ends the episode.

    The reward of a step is the new place; an episode starts at 0 for an even seed, else at 0.5.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode=None, step=0.25):
        self.render_mode, self.size = render_mode, step

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0.0 if seed % 2 == 0 else 0.5
        return self._seen(), {}

    def step(self, action):
        self.place += self.size * (1 if action else -1)
        return self._seen(), self.place, abs(self.place) >= 1, False, {}

    def render(self):
        frame = np.zeros((10, 20, 3), np.uint8)
        frame[:, round(10 + 9 * min(max(self.place, -1), 1))] = 255
        return frame

    def _seen(self):
        return np.array([self.place], np.float32)


gymnasium.register("Corridor-v0", Corridor)
gymnasium.register("Endless-v0", Corridor, kwargs={"step": 0.0})
