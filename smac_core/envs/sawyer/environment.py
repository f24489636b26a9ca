"""Sawyer Manipulation as the drivers and the stages see it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from smac_core.envs.definition import Environment, displacement
from smac_core.envs.sawyer import tasks as k
from smac_core.envs.sawyer.crew import Crew, require_bullet
from smac_core.envs.sawyer.physics import SawyerPhysics
from smac_core.envs.sawyer.pictures import show
from smac_core.envs.sawyer.skills import Script
from smac_core.envs.sawyer.tables import CONTROL_SECONDS, HAND_GOAL
from smac_core.errors import ConfigError

MAX_WORKERS = 64
PUBLISHED_SUCCESS = 0.46  # of the paper's offline data, section 6


class SawyerManipulation(Environment):
    """A scene with drawers, a button, a tray and blocks; reward 0 where achieved, else -1.

    Args:
        workers: Processes that simulate; results do not depend on it.

    Raises:
        ConfigError: Not a sensible number of workers.
        SmacError: PyBullet is not installed.
    """

    env_id = "sawyer-manipulation"
    gym_id = "SMAC/SawyerManipulation-v0"
    obs_dim = k.OBS_DIM
    action_dim = 4
    initial_dim = 1
    horizon = 50
    control_seconds = CONTROL_SECONDS
    batch = 16  # each simulator takes about 30 MiB
    task_fields = k.FIELDS
    task_low = k.LOW
    task_high = k.HIGH
    num_tasks = (50, 10)
    not_in_rows = "the scene: a step in one is none in another"
    seen_from_above = True
    measure_units: ClassVar[Mapping[str, str]] = {"goal_distance": "m", "distance": "m"}
    behaviours: ClassVar[tuple[int, ...]] = (k.HAND, k.OPEN_TOP, k.OPEN_BOTTOM)

    def __init__(self, workers: int = 1) -> None:
        if isinstance(workers, bool) or not 1 <= workers <= MAX_WORKERS:
            raise ConfigError(
                "not a number of workers",
                where=f"{self.env_id}, env.params.workers",
                expected=f"1 to {MAX_WORKERS}",
                found=workers,
            )
        require_bullet()
        self._workers = self.lanes = workers
        self._crew: Crew | None = None
        self._lock = threading.Lock()

    @property
    def crew(self) -> Crew:
        """The workers, which start when they are first asked for."""
        with self._lock:
            if self._crew is None:
                self._crew = Crew(self._workers)
            return self._crew

    def close(self) -> None:
        """End the workers; may be called again."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def sample_tasks(self, seed: int, num_train: int, num_test: int) -> np.ndarray:
        """Draw scenes and behaviours; a longer list begins with the shorter one."""
        return k.draw_tasks(seed, num_train + num_test, self.behaviours)

    def check_tasks(self, tasks: np.ndarray) -> None:
        """Refuse records of scenes that cannot be, or cannot hold their behaviour."""
        super().check_tasks(tasks)
        for number, task in enumerate(tasks):
            k.check_task(task, f"{self.env_id}, task {number}")

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the seed of a script; the scene itself starts the same in every episode."""
        return np.array([float(rng.integers(2**32))])

    def make_physics(self, num: int) -> SawyerPhysics:
        """Book simulators in the worker process with the fewest."""
        return SawyerPhysics(self.crew.least_busy(), num)

    def make_lane(self, num: int, lane: int) -> SawyerPhysics:
        """Book simulators in the lane's own worker process: lanes do not wait for each other."""
        return SawyerPhysics(self.crew.keepers[lane % self._workers], num)

    def observe(self, state: np.ndarray) -> np.ndarray:
        """Observe hand, gripper, object, lego block, drawers and button; absent ones are 0."""
        return state[:, : k.OBS_DIM].astype(np.float32)

    def reward(
        self, before: np.ndarray, action: np.ndarray, after: np.ndarray, task: np.ndarray
    ) -> np.ndarray:
        """Give 0 where the behaviour is achieved in the state after the step, else -1."""
        wanted = task[:, k.BEHAVIOUR].astype(np.int64)
        reached: np.ndarray = k.achieved(after, task)[np.arange(len(task)), wanted]
        return reached.astype(np.float64) - 1.0

    def position(self, state: np.ndarray) -> np.ndarray:
        """Return the hand's place from above."""
        return state[:, :2].copy()

    def measure(self, path: np.ndarray, length: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Measure from above how far from the hand's goal an episode ends, and how far it came."""
        moved = displacement(path, length)
        missed = path[:, 0] + moved - np.asarray(HAND_GOAL[:2])
        return np.stack([np.hypot(*missed.T), np.hypot(*moved.T)], axis=1)

    def script(self, initial: np.ndarray, task: np.ndarray) -> Script:
        """Begin scripted episodes: skills at random, without knowing the rewarded behaviour."""
        return Script(task, initial[:, 0], place=k.IN_TRAY in self.behaviours)

    def pictures(self) -> dict[str, np.ndarray]:
        """Show each behaviour, by the scripted skill that achieves it."""
        return show(self.make_physics(1), self.behaviours)

    def summarise(
        self, reward: np.ndarray, length: np.ndarray, task: np.ndarray
    ) -> dict[str, object]:
        """Count successes: in every transition, in the final step, in any step of an episode."""
        ends = np.cumsum(length)
        success = reward == 0.0
        counts = np.add.reduceat(success.astype(np.int64), ends - length)
        last, wanted = success[ends - 1], task[:, k.BEHAVIOUR].astype(np.int64)

        def rates(chosen: np.ndarray) -> dict[str, float]:
            return {
                "episodes": float(chosen.sum()),
                "per_transition": float(counts[chosen].sum() / length[chosen].sum()),
                "final_step": float(last[chosen].mean()),
                "any_step": float((counts[chosen] > 0).mean()),
            }

        return {
            "success": rates(np.ones(len(wanted), dtype=bool)) | {"published": PUBLISHED_SUCCESS},
            "success_by_behaviour": {
                k.BEHAVIOURS[b]: rates(wanted == b) for b in np.unique(wanted)
            },
            "workers_replaced": 0 if self._crew is None else self._crew.replaced,
        }


class SawyerManipulation8(SawyerManipulation):
    """The variant of the paper's Appendix B, with all eight behaviours."""

    env_id = "sawyer-manipulation-8"
    gym_id = "SMAC/SawyerManipulation8-v0"
    behaviours = tuple(range(len(k.BEHAVIOURS)))
