"""Rows ``rollout-<env>``: control steps a second with the policy in the loop, paper-size policy.

Ours: ``BatchDriver`` with the compiled policy, from an episode's key to its rows, rewards included.
Baselines: one Gymnasium environment and a torch policy; ``gymnasium.vector`` with two processes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import gymnasium
import numpy as np
import torch

from benchmarks.measure import Effort, Label, Row, Work, compare
from benchmarks.plain_envs import make_plain
from benchmarks.plain_networks import PlainPolicy
from smac_core.agent import Agent, make_agent, prior
from smac_core.config import NetworkConfig
from smac_core.envs.definition import Environment, load_environment
from smac_core.envs.episodes import BATCH, BatchDriver
from smac_core.networks import Shapes, initial_parameters, network_shapes
from smac_core.planning import plan_episodes

SIMULATORS = (1, 8, 32, 128)
THREADS = (1, 2)
PROCESSES = 2
VECTOR = f"gymnasium.vector, {PROCESSES} processes + torch"


def make_actor(env: Environment, seed: int = 0) -> tuple[Agent, PlainPolicy]:
    """Draw a paper-size policy, for both sides.

    Args:
        env: Gives the sizes.
        seed: Of the draw.

    Returns:
        The compiled agent, and the same policy as a torch module.
    """
    networks = NetworkConfig()
    shapes = network_shapes(Shapes(env.obs_dim, env.action_dim), networks)
    rng = np.random.default_rng(seed)
    names = ("policy", "encoder", "decoder")
    tensors = {name: initial_parameters(name, shapes[name], rng) for name in names}
    sizes = {name: shapes[name].sizes for name in names}
    agent = make_agent(tensors, sizes, networks.latent_dim)
    return agent, PlainPolicy(tensors["policy"], sizes["policy"])


class TorchActor:
    """The policy loop's middle: observations in, actions out, as one writes it with torch.

    Args:
        policy: π(a|s, z).
        latent: ``[N, latent_dim]``, z of each environment for the whole episode.
    """

    def __init__(self, policy: PlainPolicy, latent: torch.Tensor) -> None:
        self.policy = policy
        self.latent = latent

    @torch.inference_mode()
    def act(self, obs: np.ndarray) -> np.ndarray:
        """Draw actions.

        Args:
            obs: ``[N, obs_dim]`` float32.

        Returns:
            ``[N, action_dim]`` in [-1, 1].
        """
        mean, std = self.policy(torch.cat((torch.from_numpy(obs), self.latent), dim=1))
        action: np.ndarray = torch.tanh(mean + std * torch.randn_like(mean)).numpy()
        return action


def run_plain(env: gymnasium.Env[np.ndarray, np.ndarray], actor: TorchActor) -> int:
    """Run one episode of one environment.

    Args:
        env: With its time limit.
        actor: For one environment.

    Returns:
        Its steps.
    """
    obs, _ = env.reset()
    steps, over = 0, False
    while not over:
        obs, _, terminated, truncated, _ = env.step(actor.act(obs[None])[0])
        steps += 1
        over = terminated or truncated
    return steps


def run_vector(envs: gymnasium.vector.VectorEnv, actor: TorchActor, calls: int) -> int:
    """Step all environments of a vector a number of times.

    Args:
        envs: Whose episodes restart by themselves, at the cost of one call.
        actor: For all of them.
        calls: How many times.

    Returns:
        Steps in sum, without the calls that only restarted an episode.
    """
    obs, _ = envs.reset()
    over, steps = np.zeros(envs.num_envs, dtype=bool), 0
    for _ in range(calls):
        steps += int((~over).sum())
        obs, _, terminated, truncated, _ = envs.step(actor.act(obs))
        over = terminated | truncated
    return steps


def run_ours(driver: BatchDriver, agent: Agent, task: np.ndarray, seed: int = 0) -> int:
    """Run one episode in every simulator, from drawing its random numbers on.

    Args:
        driver: The simulators.
        agent: The policy.
        task: ``[N, task_dim]`` parameters.
        seed: Of the episodes.

    Returns:
        Steps in sum.
    """
    keys = [(seed, row + 1) for row in range(len(task))]
    latents = prior(len(task), agent.latent_dim)
    plan = plan_episodes(driver.env, keys, task, latents, resample_every_step=False)
    return int(driver.run(agent.stochastic(), plan, rewards=True).length.sum())


def _baselines(env: Environment, policy: PlainPolicy, close: ExitStack) -> dict[str, Work]:
    """Build what a user would run; ``close`` ends its processes."""
    task = env.sample_tasks(1337, PROCESSES, 0)
    latent = torch.randn(PROCESSES, NetworkConfig().latent_dim)
    plain = close.enter_context(make_plain(env, task[0]))
    envs = gymnasium.vector.AsyncVectorEnv([partial(make_plain, env, row) for row in task])
    close.callback(envs.close)
    one, all_of_them = TorchActor(policy, latent[:1]), TorchActor(policy, latent)
    return {
        "gymnasium + torch": Work(lambda: run_plain(plain, one)),
        VECTOR: Work(lambda: run_vector(envs, all_of_them, env.horizon)),
    }


def rows(definition: str, effort: Effort) -> Iterator[Row]:
    """Measure one environment at every number of simulators and threads.

    Args:
        definition: Import string of the environment.
        effort: How long.

    Yields:
        Two rows a measurement, one a baseline.
    """
    torch.set_num_threads(1)
    env = load_environment(definition)
    agent, policy = make_actor(env)
    tasks = env.sample_tasks(1337, max(SIMULATORS), 0)
    simulators = SIMULATORS[1:2] if effort.quick else SIMULATORS
    with ExitStack() as close:
        baselines = _baselines(env, policy, close)
        for threads, number in itertools.product(THREADS, simulators):
            if number < threads:
                continue
            driver = BatchDriver(env, threads, batch=min(BATCH, math.ceil(number / threads)))
            ours = Work(partial(run_ours, driver, agent, tasks[:number]))
            label = Label(
                f"rollout-{env.env_id}", f"{number} simulators", "control steps/s", threads
            )
            yield from compare(label, ours, baselines, effort)
