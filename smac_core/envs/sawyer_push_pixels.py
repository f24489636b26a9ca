"""Pushing a cube as ``sawyer_push`` does, from pictures of the table: they show the cube.

Source: baselines.md section 4.1: camera, size and crop.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import mujoco
import numpy as np

from smac_core.envs.definition import Environment
from smac_core.envs.hand import HAND, POSE
from smac_core.envs.rendering import MujocoRenderer
from smac_core.envs.sawyer_push import SawyerPush

CAMERA, SIDE = "robotview_zoomed", 84  # of the picture that is cropped
ROWS, COLUMNS = slice(0, 48), slice(10, 74)
SHAPE = (ROWS.stop, COLUMNS.stop - COLUMNS.start, 3)


class Pictures:
    """Draws states of simulators, in a thread of its own: a graphics context belongs to one.

    Args:
        model: Of the simulators; the pictures are of a simulator beside them.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model, self._data = model, mujoco.MjData(model)
        self._thread = ThreadPoolExecutor(1, "pictures")
        self._renderer: MujocoRenderer | None = None

    def draw(self, positions: np.ndarray) -> np.ndarray:
        """Draw simulators one after another.

        Args:
            positions: ``[N, nq]``.

        Returns:
            ``[N, 48, 64, 3]`` uint8; where a row is not finite, black.

        Raises:
            SmacError: This machine has neither EGL nor OSMesa.
        """
        return self._thread.submit(self._draw, positions).result()

    def _draw(self, positions: np.ndarray) -> np.ndarray:
        if self._renderer is None:
            self._renderer = MujocoRenderer(
                self._model, self._data, shadows=False, camera=CAMERA, size=(SIDE, SIDE)
            )
        out = np.zeros((len(positions), *SHAPE), dtype=np.uint8)
        nothing = np.zeros((1, 0))
        for row in np.flatnonzero(np.isfinite(positions).all(axis=1)):
            self._data.qpos[:] = positions[row]
            mujoco.mj_forward(self._model, self._data)
            out[row] = self._renderer.draw(nothing)[ROWS, COLUMNS]
        return out


class SawyerPushPixels(SawyerPush):
    """Push a cube to a hidden goal, seeing a picture and where the hand is.

    Args:
        reward: As ``SawyerPush`` takes it.
    """

    env_id = "sawyer-push-pixels"
    gym_id = "SMAC/SawyerPushPixels-v0"
    image_shape = SHAPE
    obs_dim = SHAPE[0] * SHAPE[1] * SHAPE[2] + 3
    privileged_dim = SawyerPush.obs_dim
    not_in_rows = "where the cube is, of which rows hold a picture"
    measure_units: ClassVar[Mapping[str, str]] = SawyerPush.measure_units

    def __init__(self, reward: str = "push") -> None:
        super().__init__(reward)
        self._pictures: Pictures | None = None

    def observe(self, state: np.ndarray) -> np.ndarray:
        """Observe a picture of 48 by 64 pixels in [0, 1] (9216), and where the hand is (3).

        Raises:
            SmacError: This machine has neither EGL nor OSMesa.
        """
        if self._pictures is None:
            self._pictures = Pictures(self.load_model())
        pictures = self._pictures.draw(state[:, : 2 * POSE])
        obs = np.empty((len(state), self.obs_dim), dtype=np.float32)
        obs[:, :-3] = pictures.reshape(len(state), -1)
        obs[:, :-3] /= 255.0
        obs[:, -3:] = state[:, HAND]
        return obs

    def privileged(self, state: np.ndarray) -> np.ndarray:
        """Tell the script of ``SawyerPush`` where hand and cube are, as it observes them there."""
        return super().observe(state)

    def reward_of_rows(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        next_obs: np.ndarray,
        task: np.ndarray,
        first: np.ndarray,
    ) -> np.ndarray:
        """Refuse: a picture does not say where the cube is."""
        return Environment.reward_of_rows(self, obs, action, next_obs, task, first)
