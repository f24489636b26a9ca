"""A small environment whose episodes end and diverge on command, and agents with random weights."""

from __future__ import annotations

import numpy as np

from smac_core.agent import Agent, make_agent
from smac_core.config import NetworkConfig
from smac_core.envs.definition import Environment
from smac_core.networks import Shapes, initial_parameters, network_shapes

PLACE, STEPS, LAST_STEP, DIVERGE_AT = range(4)


class StairPhysics:
    """State rows are (place, steps taken, last_step, diverge_at); an action climbs or descends."""

    def __init__(self, num: int) -> None:
        self.state = np.zeros((num, 4))
        self.previous = np.zeros((num, 4))
        self.ok = np.ones(num, dtype=bool)

    def reset(self, initial: np.ndarray, tasks: np.ndarray) -> None:
        self.state[:, PLACE] = initial[:, 0]
        self.state[:, STEPS] = 0.0
        self.state[:, LAST_STEP:] = tasks
        self.previous[:] = self.state
        self.ok[:] = np.isfinite(self.state).all(axis=1)

    def step(self, action: np.ndarray, active: np.ndarray) -> None:
        self.previous[:] = self.state
        self.state[active, PLACE] += action[active, 0]
        self.state[active, STEPS] += 1.0
        lost = active & (self.state[:, STEPS] == self.state[:, DIVERGE_AT])
        self.state[lost, PLACE] = np.nan
        self.ok[:] = np.isfinite(self.state).all(axis=1)


class Stairs(Environment):
    """Terminates after ``last_step`` steps and diverges in step ``diverge_at``; 0 is never."""

    env_id = "stairs"
    gym_id = "SMAC/Stairs-v0"
    obs_dim = 2
    action_dim = 1
    initial_dim = 1
    horizon = 6
    control_seconds = 0.5
    task_fields = ("last_step", "diverge_at")
    task_low = (0.0, 0.0)
    task_high = (9.0, 9.0)

    def __init__(self, bad: str = "") -> None:
        self.bad = bad  # what this copy gets wrong: "start", "observation" or "reward"
        self.reward_calls = 0

    def sample_tasks(self, seed: int, num_train: int, num_test: int) -> np.ndarray:
        steps = np.random.default_rng(seed).integers(1, 7, num_train + num_test)
        return np.stack([steps, np.zeros(len(steps))], axis=1).astype(np.float64)

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        start = rng.uniform(-1.0, 1.0, 1)
        return np.full(1, np.nan) if self.bad == "start" else start

    def make_physics(self, num: int) -> StairPhysics:
        return StairPhysics(num)

    def observe(self, state: np.ndarray) -> np.ndarray:
        obs = state[:, :2].astype(np.float32)
        if self.bad == "observation":
            obs[state[:, STEPS] == 3, 0] = np.inf
        return obs

    def reward(
        self, before: np.ndarray, action: np.ndarray, after: np.ndarray, task: np.ndarray
    ) -> np.ndarray:
        self.reward_calls += 1
        if self.bad == "reward":
            return np.full(len(after), np.nan)
        return 10.0 * task[:, 0] + after[:, STEPS]

    def terminated(self, state: np.ndarray) -> np.ndarray:
        return (state[:, LAST_STEP] > 0) & (state[:, STEPS] >= state[:, LAST_STEP])

    def position(self, state: np.ndarray) -> np.ndarray:
        return state[:, :2].copy()


def stair_tasks(*rows: tuple[float, float]) -> np.ndarray:
    """Tasks as (last_step, diverge_at)."""
    return np.array(rows, dtype=np.float64)


def random_agent(
    obs_dim: int, action_dim: int, seed: int = 0, *, latent_dim: int = 3, **options: bool
) -> Agent:
    """An agent whose weights are large enough for its latent to matter."""
    config = NetworkConfig(
        encoder=(8, 8),
        decoder=(8,),
        critic=(8,),
        policy=(8, 8),
        latent_dim=latent_dim,
        context_next_obs=options.get("context_next_obs", False),
    )
    shapes = network_shapes(Shapes(obs_dim, action_dim), config)
    rng = np.random.default_rng(seed)
    tensors = {
        name: initial_parameters(name, shapes[name], rng)
        + rng.normal(0.0, 0.5, shapes[name].num_parameters).astype(np.float32)
        for name in ("policy", "encoder", "decoder")
    }
    sizes = {name: shapes[name].sizes for name in tensors}
    return make_agent(tensors, sizes, latent_dim, **options)
