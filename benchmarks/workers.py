"""Rows ``sawyer-workers``: scripted control steps of Sawyer Manipulation, full scenes, by workers.

Ours: ``BatchDriver``, scripts and rewards included, with two worker processes, and with one.
Baselines: one worker (for two), and the Gymnasium environment in a loop with the same script.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np

from benchmarks.measure import Effort, Label, Row, Work, compare
from smac_core.agent import prior
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import BatchDriver, Scripted
from smac_core.envs.gym_driver import SmacEnv
from smac_core.envs.lookup import load_environment
from smac_core.planning import plan_episodes

DEFINITION = "smac_core.envs.sawyer.environment:SawyerManipulation8"
EPISODES = 16
OBJECTS = ("bottom_drawer", "top_drawer", "button", "tray", "object")
ONE, LOOP = "one worker", "Gymnasium environment in a loop"


def _tasks(env: Environment) -> np.ndarray:
    """Draw tasks with every object in the scene: the slowest to simulate."""
    tasks = env.sample_tasks(1337, 2000, 0)
    objects = [env.task_fields.index(name) for name in OBJECTS]
    full = tasks[tasks[:, objects].all(axis=1)]
    assert len(full) >= EPISODES, "not enough full scenes in the list"
    return np.ascontiguousarray(full[:EPISODES])


def _batch(workers: int, number: int) -> Work:
    """Run scripted episodes side by side."""
    env = load_environment(DEFINITION, {"workers": workers})
    driver, tasks = BatchDriver(env), _tasks(env)[:number]

    def call() -> float:
        keys = [(0, row) for row in range(number)]
        plan = plan_episodes(env, keys, tasks, prior(number, 1), resample_every_step=False)
        return float(driver.run(Scripted(env), plan, rewards=True).length.sum())

    return Work(call)


def _loop() -> Work:
    """Run one scripted episode after another through the Gymnasium interface."""
    env = load_environment(DEFINITION)
    tasks = _tasks(env)[:1]
    gym = SmacEnv(env, task=tasks[0])

    def call() -> float:
        script = env.script(np.zeros((1, env.initial_dim)), tasks)
        obs, _ = gym.reset(seed=0)
        noise = np.zeros((1, env.action_dim), dtype=np.float32)
        for _ in range(env.horizon):
            action = script(np.zeros(1, dtype=np.int64), obs[None], noise)[0]
            obs, *_ = gym.step(action.astype(np.float32))
        return float(env.horizon)

    return Work(call)


def rows(name: str, effort: Effort) -> Iterator[Row]:
    """Measure one and two workers.

    Args:
        name: Of the rows.
        effort: How long.

    Yields:
        Two rows; none where PyBullet is missing.
    """
    if find_spec("pybullet") is None:
        return
    number = 2 if effort.quick else EPISODES
    one, two = _batch(1, number), _batch(2, number)
    label = Label(name, f"{number} episodes", "control steps/s", series="workers")
    yield from compare(label, one, {LOOP: _loop()}, effort)
    two_label = Label(name, f"{number} episodes", "control steps/s", 2, series="workers")
    yield from compare(two_label, two, {ONE: one}, effort)
