"""The Gymnasium driver: one simulator of a definition behind ``gymnasium.Env``, for people.

The stages use ``smac_core.envs.episodes``; both run the same definition, and from the same start
under the same actions they give the same numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, SupportsFloat

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box

from smac_core.envs.definition import Environment
from smac_core.envs.lookup import load_environment
from smac_core.envs.rendering import Renderer, make_renderer
from smac_core.errors import ConfigError, SimulationError, TaskError

Floats = npt.NDArray[np.float32]
TASK_OPTIONS = ("task", "task_id")
PUBLISHED_SEED = 1337  # of the authors' lists


class SmacEnv(gymnasium.Env[Floats, Floats]):
    """One task family as a Gymnasium environment; its time limit is Gymnasium's TimeLimit.

    Args:
        definition: The environment, or its import string ``package.module:Class``.
        params: Keyword arguments of the definition, where it is an import string.
        task: Parameters of the task of every episode; None: a new task each reset.
        tasks: ``[T, task_dim]`` what ``task_id`` indexes; None: the list that the stage ``tasks``
            draws by default, training tasks first.
        render_mode: ``rgb_array`` or None.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    options: ClassVar[tuple[str, ...]] = TASK_OPTIONS

    def __init__(
        self,
        definition: Environment | str,
        params: Mapping[str, object] | None = None,
        task: npt.ArrayLike | None = None,
        tasks: npt.ArrayLike | None = None,
        render_mode: str | None = None,
    ) -> None:
        if isinstance(definition, str):
            definition = load_environment(definition, params)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(
                "unknown render mode",
                where=definition.env_id,
                expected="rgb_array or None",
                found=render_mode,
                fix="pass render_mode='rgb_array'",
            )
        self.definition = definition
        self.render_mode = render_mode
        self.metadata = self.metadata | {"render_fps": round(1.0 / definition.control_seconds)}
        # Finite bounds: an observation is any finite float32, and never nan or inf.
        limit = np.finfo(np.float32).max
        self.observation_space = Box(-limit, limit, (definition.obs_dim,), np.float32)
        self.action_space = Box(-1.0, 1.0, (definition.action_dim,), np.float32)
        self._fixed = None if task is None else self._checked(np.asarray(task)[None])
        self._tasks = None if tasks is None else np.asarray(tasks, dtype=np.float64)
        self._physics = definition.make_physics(1)
        self._active = np.ones(1, dtype=bool)
        self._obs: Floats | None = None
        self._over = False
        self._renderer: Renderer | None = None
        self.task = np.zeros((1, len(definition.task_fields)))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds ``np_random``, from which start and task are drawn, in this order.
            options: ``task``: its parameters; or ``task_id``: its number in the task list.

        Returns:
            The observation ``[obs_dim]``, and the task in ``info``.

        Raises:
            SimulationError: The start state is not finite.
            TaskError: The task does not exist or does not fit.
        """
        super().reset(seed=seed)
        self._obs, self._over = None, False
        initial = self.definition.initial_state(self.np_random)[None]
        self.task = self._choose_task(options or {})
        self._physics.reset(initial, self.task)
        obs = self._observe()
        if obs is None:
            raise SimulationError(
                "observation is not finite at the start of an episode",
                where=self.definition.env_id,
                expected="finite numbers",
                fix="check the environment's initial_state and task parameters",
            )
        self._obs = obs
        return obs.copy(), self._info(diverged=False)

    def step(self, action: Floats) -> tuple[Floats, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take one control step.

        Args:
            action: ``[action_dim]`` in [-1, 1]; Gymnasium's wrapper ClipAction makes any action so.

        Returns:
            Observation, unscaled reward, terminated, False, and ``info``. Where the simulator
            diverges, ``info["diverged"]`` is true, the episode is over, and the observation is the
            last finite one.

        Raises:
            ResetNeeded: There is no episode to continue.
            SimulationError: The action is not finite, outside the space or of the wrong shape, the
                episode is over, or the reward is not finite.
        """
        if self._obs is None:
            raise ResetNeeded("call reset before step")
        taken = self._checked_action(action)
        self._physics.step(taken, self._active)
        obs = self._observe()
        if obs is None:
            self._over = True
            return self._obs.copy(), 0.0, True, False, self._info(diverged=True)
        physics = self._physics
        reward = float(self.definition.reward(physics.previous, taken, physics.state, self.task)[0])
        if not np.isfinite(reward):
            raise SimulationError("reward is not finite", where=self.definition.env_id)
        self._obs = obs
        self._over = bool(self.definition.terminated(physics.state)[0])
        return obs.copy(), reward, self._over, False, self._info(diverged=False)

    def render(self) -> npt.NDArray[np.uint8] | None:  # type: ignore[override]
        """Draw the simulator.

        Returns:
            ``[height, width, 3]`` for ``rgb_array``, else None.

        Raises:
            ResetNeeded: There is nothing to draw yet.
        """
        if self.render_mode is None:
            return None
        if self._obs is None:
            raise ResetNeeded("call reset before render")
        if self._renderer is None:
            self._renderer = make_renderer(self.definition, self._physics)
        return self._renderer.draw(self.task)

    def close(self) -> None:
        """Free the renderer; may be called again."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _observe(self) -> Floats | None:
        """Return a fresh observation, or None where the simulator is not finite."""
        if not self._physics.ok[0]:
            return None
        obs = np.array(self.definition.observe(self._physics.state)[0], dtype=np.float32)
        return obs if np.isfinite(obs).all() else None

    def _info(self, *, diverged: bool) -> dict[str, Any]:
        return {"task": self.task[0].copy(), "diverged": diverged}

    def _checked_action(self, action: npt.ArrayLike) -> Floats:
        taken = np.asarray(action, dtype=np.float32)
        expected = self.action_space.shape
        if taken.shape != expected or not (np.abs(taken) <= 1.0).all():
            raise SimulationError(
                "action refused",
                where=self.definition.env_id,
                expected=f"numbers in [-1, 1] of shape {expected}",
                found=f"shape {taken.shape}" if taken.shape != expected else taken,
                fix="clip it, such as by gymnasium.wrappers.ClipAction",
            )
        if self._over:
            raise SimulationError(
                "step after the end of an episode",
                where=self.definition.env_id,
                fix="call reset first",
            )
        return taken[None]

    def _choose_task(self, options: Mapping[str, Any]) -> npt.NDArray[np.float64]:
        unknown = sorted(set(options) - set(TASK_OPTIONS))
        if unknown or len(options) > 1:
            raise TaskError(
                "options of reset refused",
                where=self.definition.env_id,
                expected="at most one of task, task_id",
                found=", ".join(sorted(options)),
            )
        if "task" in options:
            return self._checked(np.asarray(options["task"])[None])
        if "task_id" in options:
            return self._listed(options["task_id"])
        if self._fixed is not None:
            return self._fixed.copy()
        # The family's own law of tasks, with a seed from the episode's generator.
        seed = int(self.np_random.integers(2**32))
        return self._checked(self.definition.sample_tasks(seed, 1, 0))

    def _listed(self, task_id: object) -> npt.NDArray[np.float64]:
        if self._tasks is None:
            self._tasks = self.definition.sample_tasks(PUBLISHED_SEED, *self.definition.num_tasks)
        number = len(self._tasks)
        if isinstance(task_id, bool) or not isinstance(task_id, int | np.integer):
            raise TaskError("task_id is not an integer", found=repr(task_id))
        if not 0 <= task_id < number:
            raise TaskError(
                "no such task",
                where=self.definition.env_id,
                expected=f"task_id 0 to {number - 1}",
                found=task_id,
            )
        return self._checked(self._tasks[task_id][None])

    def _checked(self, task: npt.ArrayLike) -> npt.NDArray[np.float64]:
        parameters = np.array(task, dtype=np.float64)
        self.definition.check_tasks(parameters)
        return parameters
