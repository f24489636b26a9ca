"""What tests of Sawyer Manipulation share; importing it needs no PyBullet."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from smac_core.agent import prior
from smac_core.envs.episodes import BatchDriver, Episodes, Scripted
from smac_core.envs.sawyer import skills
from smac_core.envs.sawyer import tasks as k
from smac_core.envs.sawyer.environment import SawyerManipulation
from smac_core.planning import plan_episodes

ALL = tuple(range(len(k.BEHAVIOURS)))
FULL = np.array([1.0, 0, 0, 1, 1, 1, 1, 1, k.FL, k.FL, k.HAND])
EMPTY = np.array([-1.0, 0, 0, 0, 0, 0, 0, 0, -1, -1, k.HAND])

needs_pybullet = pytest.mark.skipif(
    importlib.util.find_spec("pybullet") is None, reason="PyBullet is not installed"
)


def scenes(
    behaviour: int, num: int, seed: int = 0, accept: Callable[[np.ndarray], bool] | None = None
) -> np.ndarray:
    """Draw random scenes that hold a behaviour, which is asked for in each."""
    drawn = k.draw_tasks(seed, 4000, ALL)
    held = [t for t in drawn if k.feasible(t, [behaviour]) and (accept is None or accept(t))]
    chosen = np.array(held[:num])
    chosen[:, k.BEHAVIOUR] = behaviour
    assert len(chosen) == num
    return chosen


def play(
    env: SawyerManipulation, tasks: np.ndarray, only: int | None = None, **driver: int
) -> Episodes:
    """Run one scripted episode of 75 steps a task, of one skill where that is asked for."""
    if only is not None:
        env.script = partial(one_skill, only)  # type: ignore[method-assign]
    keys = [(7, 5, row) for row in range(len(tasks))]
    plan = plan_episodes(
        env, keys, tasks, prior(len(tasks), 1), resample_every_step=False, horizon=75
    )
    return BatchDriver(env, **driver).run(Scripted(env), plan, rewards=True)


def one_skill(only: int, initial: np.ndarray, task: np.ndarray) -> skills.Script:
    return skills.Script(task, initial[:, 0], place=True, only=only)
