"""Episodes that several tests of environments play, and what makes one of them diverge."""

from __future__ import annotations

import numpy as np

from smac_core.agent import prior
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import BatchDriver, Controller, Plan
from smac_core.planning import plan_episodes


def make_plan(env: Environment, num: int, seed: int = 0) -> Plan:
    """Plan an episode of each of the first training tasks."""
    keys = [(seed, 3, row) for row in range(num)]
    tasks = env.sample_tasks(1337, num, 0)
    return plan_episodes(env, keys, tasks, prior(num, 2), resample_every_step=False)


def sabotaged(driver: BatchDriver, controller: Controller, fault: float) -> Controller:
    """Act as the controller does, but break the second of three MuJoCo simulators at step 5."""
    calls = 0

    def act(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
        nonlocal calls
        if calls == 5:
            driver._pools[0][3].data[1].qvel[-1] = fault  # type: ignore[attr-defined]
        calls += 1
        return controller(obs, latent, noise)

    return act
