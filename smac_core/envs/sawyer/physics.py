"""The batch of simulators that the drivers see; a worker process does the work."""

from __future__ import annotations

import weakref

import numpy as np

from smac_core.envs.sawyer import tasks as k
from smac_core.envs.sawyer.crew import Keeper
from smac_core.envs.sawyer.scene import HEIGHT, WIDTH


class SawyerPhysics:
    """Simulators in one worker process.

    Args:
        keeper: Of the worker that runs them.
        num: How many.
    """

    def __init__(self, keeper: Keeper, num: int) -> None:
        self._keeper, self._slots = keeper, keeper.book(num)
        weakref.finalize(self, keeper.release, self._slots).atexit = False
        self.state = np.zeros((num, k.STATE_DIM))
        self.previous = np.zeros((num, k.STATE_DIM))
        self.ok = np.ones(num, dtype=bool)

    def reset(self, initial: np.ndarray, tasks: np.ndarray) -> None:
        """Put every scene at its start, which is the same in every episode of a task."""
        self.state[:] = self._keeper.reset(self._slots, tasks)
        self.previous[:] = self.state
        self.ok[:] = np.isfinite(self.state).all(axis=1)

    def step(self, action: np.ndarray, active: np.ndarray) -> None:
        """Take one control step in the active scenes."""
        self.previous[:] = self.state
        if active.any():
            self.state[active] = self._keeper.step(self._slots[active], action[active])
        self.ok[:] = np.isfinite(self.state).all(axis=1)

    def picture(self) -> np.ndarray:
        """Draw the first simulator, ``[240, 320, 3]`` uint8."""
        data = np.frombuffer(self._keeper.draw(int(self._slots[0])), dtype=np.uint8)
        return data.reshape(HEIGHT, WIDTH, 3).copy()
