"""What an environment is: array functions over a batch of simulator states, written once.

Two drivers run a definition: ``smac_core.envs.gym_driver`` for people and
``smac_core.envs.episodes`` for the stages. A user's own environment subclasses ``Environment`` and
is named in the configuration as ``my_package.my_module:MyEnvironment``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from smac_core.errors import ConfigError, TaskError

ScriptedEpisodes = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@runtime_checkable
class Physics(Protocol):
    """A batch of simulators that step together.

    Args:
        state: ``[N, state_dim]`` float64 after the last step.
        previous: ``[N, state_dim]`` float64 before it.
        ok: ``[N]`` whether the state of each simulator is finite.
    """

    state: np.ndarray
    previous: np.ndarray
    ok: np.ndarray

    def reset(self, initial: np.ndarray, tasks: np.ndarray) -> None:
        """Put simulator i into ``initial[i]`` for task ``tasks[i]``."""

    def step(self, action: np.ndarray, active: np.ndarray) -> None:
        """Advance the active simulators by one control step under ``action`` in [-1, 1]."""


class Environment(ABC):
    """One family of tasks.

    Class attributes give sizes; methods are array functions whose first axis is the simulator, and
    must treat rows independently, so that results do not depend on how a batch is split.
    """

    env_id: ClassVar[str]
    gym_id: ClassVar[str]
    obs_dim: ClassVar[int]
    action_dim: ClassVar[int]
    initial_dim: ClassVar[int]
    horizon: ClassVar[int]
    control_seconds: float
    task_fields: ClassVar[tuple[str, ...]]
    task_low: ClassVar[tuple[float, ...]]
    task_high: ClassVar[tuple[float, ...]]
    num_tasks: ClassVar[tuple[int, int]] = (100, 20)
    """Training and held-out tasks of the family's usual list."""
    seen_from_above: ClassVar[bool] = False  # whether ``position`` is (x, y); else (x, height)
    measure_units: ClassVar[Mapping[str, str]] = {"forward_velocity": "m/s", "distance": "m"}
    image_shape: ClassVar[tuple[int, int, int] | None] = None
    """Height, width and channels of a picture in [0, 1] that observations begin with, flattened."""
    privileged_dim: ClassVar[int] = 0
    """Length of what the script reads where observations do not show it; 0: it reads them."""
    batch: ClassVar[int] = 64
    """Simulators that step together: enough to hide Python, small enough for cache or memory."""
    lanes: int = 1
    """Batches that run side by side unless the driver is told otherwise."""
    dynamics_differ: ClassVar[bool] = False
    """Whether tasks differ in what follows an action, not in rewards alone."""
    not_in_rows: ClassVar[str | None] = "what the reward reads, as far as the definition says"
    """What the reward of a stored transition needs and no row holds; None: ``reward_of_rows``."""

    @abstractmethod
    def sample_tasks(self, seed: int, num_train: int, num_test: int) -> np.ndarray:
        """Draw all tasks once.

        Args:
            seed: Seed of a generator of its own.
            num_train: Training tasks, which come first.
            num_test: Held-out tasks, which follow.

        Returns:
            ``[num_train + num_test, len(task_fields)]`` float64.
        """

    @abstractmethod
    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the start of one episode.

        Args:
            rng: The episode's own generator.

        Returns:
            ``[initial_dim]`` float64, as ``Physics.reset`` takes it.
        """

    @abstractmethod
    def make_physics(self, num: int) -> Physics:
        """Build simulators that step together.

        Args:
            num: How many.

        Returns:
            The batch.
        """

    def make_lane(self, num: int, lane: int) -> Physics:
        """Build simulators that step together, beside those of other lanes.

        Args:
            num: How many.
            lane: Whose: batches of one lane never step at the same time.

        Returns:
            The batch.
        """
        return self.make_physics(num)

    @abstractmethod
    def observe(self, state: np.ndarray) -> np.ndarray:
        """Compute observations.

        Args:
            state: ``[N, state_dim]``.

        Returns:
            ``[N, obs_dim]`` float32.
        """

    @abstractmethod
    def reward(
        self, before: np.ndarray, action: np.ndarray, after: np.ndarray, task: np.ndarray
    ) -> np.ndarray:
        """Compute rewards of one control step.

        Args:
            before: ``[N, state_dim]``.
            action: ``[N, action_dim]`` in [-1, 1].
            after: ``[N, state_dim]``.
            task: ``[N, len(task_fields)]``.

        Returns:
            ``[N]`` float64, unscaled.
        """

    def reward_of_rows(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        next_obs: np.ndarray,
        task: np.ndarray,
        first: np.ndarray,
    ) -> np.ndarray:
        """Compute the rewards that a task would have given for stored transitions.

        An environment whose observations determine them overrides this and sets ``not_in_rows``
        to None.

        Args:
            obs: ``[N, obs_dim]``.
            action: ``[N, action_dim]`` in [-1, 1].
            next_obs: ``[N, obs_dim]``.
            task: ``[N, len(task_fields)]``, of any task, not that of the data alone.
            first: ``[N]`` bool, whether the step is the first of its episode.

        Returns:
            ``[N]`` float64, unscaled.

        Raises:
            ConfigError: The rows do not determine them.
        """
        raise ConfigError(
            "rewards of other tasks cannot be computed from stored transitions",
            where=f"environment {self.env_id}",
            expected="observations that determine the reward",
            found=f"missing in them: {self.not_in_rows}",
            fix="use the method borel-no-rr, or set meta_train.relabel_probability to 0",
        )

    def terminated(self, state: np.ndarray) -> np.ndarray:
        """Tell which simulators are in a terminal state; a time limit is none.

        Args:
            state: ``[N, state_dim]``.

        Returns:
            ``[N]`` bool.
        """
        return np.zeros(len(state), dtype=bool)

    @abstractmethod
    def position(self, state: np.ndarray) -> np.ndarray:
        """Where the agent is, for figures.

        Args:
            state: ``[N, state_dim]``.

        Returns:
            ``[N, 2]`` metres.
        """

    def forward(self, task: np.ndarray) -> np.ndarray:
        """Where forward is: along x, unless the task asks for another direction.

        Args:
            task: ``[N, len(task_fields)]``.

        Returns:
            ``[N, 2]`` unit vectors, in the coordinates of ``position``.
        """
        return np.tile([1.0, 0.0], (len(task), 1))

    def measure(self, path: np.ndarray, length: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Measure what episodes mean physically, which a return does not tell.

        Args:
            path: ``[N, H + 1, 2]`` positions (m), the start first; nan after the end.
            length: ``[N]`` steps, at least one.
            task: ``[N, len(task_fields)]``.

        Returns:
            ``[N, len(measure_units)]`` float64, in the order and units of ``measure_units``; here
            the mean velocity forward and the straight line from start to end along the ground.
        """
        moved = displacement(path, length)
        ahead = (moved * self.forward(task)).sum(axis=1)
        distance = np.hypot(moved[:, 0], moved[:, 1] if self.seen_from_above else 0.0)
        return np.stack([ahead / (length * self.control_seconds), distance], axis=1)

    def marks(self, task: np.ndarray) -> np.ndarray:
        """Say where pictures show a spot that the agent does not see, such as a goal.

        Args:
            task: ``[N, len(task_fields)]``.

        Returns:
            ``[N, spots, 3]`` (m); here no spot.
        """
        return np.zeros((len(task), 0, 3))

    def latent_of_task(self, task: np.ndarray) -> np.ndarray:
        """Describe tasks by numbers in [-1, 1] for a policy that is told its task.

        Args:
            task: ``[N, len(task_fields)]``.

        Returns:
            ``[N, described]``: each parameter scaled, unless the family has a better description.
        """
        low, high = np.asarray(self.task_low), np.asarray(self.task_high)
        scaled: np.ndarray = 2.0 * (task - low) / (high - low) - 1.0
        return scaled

    def privileged(self, state: np.ndarray) -> np.ndarray:
        """Tell the script what observations do not show; who learns never sees it.

        Args:
            state: ``[N, state_dim]``.

        Returns:
            ``[N, privileged_dim]`` float32; here nothing.
        """
        return np.zeros((len(state), 0), dtype=np.float32)

    def scripted_action(self, obs: np.ndarray, task: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Act by hand-written rule, for the collector ``policy: scripted``.

        Args:
            obs: ``[N, obs_dim]``; ``[N, privileged_dim]`` where that is not 0.
            task: ``[N, len(task_fields)]``.
            noise: ``[N, action_dim]`` standard normal.

        Returns:
            ``[N, action_dim]`` in [-1, 1].

        Raises:
            ConfigError: This environment has no scripted policy.
        """
        raise ConfigError(
            "no scripted policy",
            where=f"environment {self.env_id}",
            fix="set collect.policy to untrained, pearl or task-conditioned",
        )

    def script(self, initial: np.ndarray, task: np.ndarray) -> ScriptedEpisodes:
        """Begin episodes of a hand-written rule; one that remembers overrides this.

        Args:
            initial: ``[N, initial_dim]`` starts.
            task: ``[N, len(task_fields)]``.

        Returns:
            Maps the rows still running ``[M]``, what ``scripted_action`` reads of them and their
            standard normal noise ``[M, action_dim]`` to actions ``[M, action_dim]`` in [-1, 1].
        """
        told = task.astype(np.float32)
        return lambda rows, obs, noise: self.scripted_action(obs, told[rows], noise)

    def summarise(
        self, reward: np.ndarray, length: np.ndarray, task: np.ndarray
    ) -> dict[str, object]:
        """Say more of collected episodes than their returns, for the manifest.

        Args:
            reward: ``[T]`` true rewards, episode by episode.
            length: ``[N]`` steps; T in all.
            task: ``[N, len(task_fields)]``.

        Returns:
            Fields of the manifest; here none.
        """
        return {}

    def pictures(self) -> dict[str, np.ndarray]:
        """Show what the tasks are about, for the report.

        Returns:
            By name a strip ``[frames, height, width, 3]`` uint8; here none.
        """
        return {}

    def check_tasks(self, tasks: np.ndarray) -> None:
        """Refuse task parameters that this environment cannot take.

        Args:
            tasks: ``[N, len(task_fields)]``.

        Raises:
            TaskError: Wrong width, not finite, or outside the range.
        """
        width = len(self.task_fields)
        if tasks.ndim != 2 or tasks.shape[1] != width:
            raise TaskError(
                "task parameters of the wrong width",
                where=self.env_id,
                expected=f"{width} ({', '.join(self.task_fields)})",
                found=tasks.shape[1:] if tasks.ndim > 1 else tasks.shape,
                fix="make tasks.json again with `python -m pipeline.tasks`",
            )
        bad = ~np.isfinite(tasks) | (tasks < self.task_low) | (tasks > self.task_high)
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            raise TaskError(
                f"task parameter {self.task_fields[column]} out of range",
                where=f"{self.env_id}, task {row}",
                expected=f"{self.task_low[column]} to {self.task_high[column]}",
                found=tasks[row, column],
                fix="make tasks.json again with `python -m pipeline.tasks`",
            )


def displacement(path: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Subtract where episodes began from where they ended.

    Args:
        path: ``[N, H + 1, 2]`` positions (m), the start first.
        length: ``[N]`` steps.

    Returns:
        ``[N, 2]`` float64 (m).
    """
    end = path[np.arange(len(path)), length].astype(np.float64)
    moved: np.ndarray = end - path[:, 0]
    return moved


def draw_uniform(
    seed: int, num_train: int, num_test: int, usual: tuple[int, int], high: float
) -> np.ndarray:
    """Draw one parameter a task from U[0, high), as the authors drew their published lists.

    Args:
        seed: Of NumPy's legacy generator; the published lists have 1337.
        num_train: Training tasks, which come first.
        num_test: Held-out tasks.
        usual: Sizes of the published list; what fits into it is a part of it.
        high: Upper limit.

    Returns:
        ``[num_train + num_test, 1]``.

    Source: smac-reference section 7, such as ``RandomState(1337).uniform(0, 3, 130)``.
    """
    legacy = np.random.RandomState(seed)
    train, test = usual
    if num_train > train or num_test > test:
        return legacy.uniform(0.0, high, num_train + num_test)[:, None]
    drawn = legacy.uniform(0.0, high, train + test)
    return np.concatenate([drawn[:num_train], drawn[train : train + num_test]])[:, None]
