"""Rows ``rollout-<env>``: control steps a second with the policy in the loop, paper-size policy.

Ours: ``BatchDriver`` with the compiled policy, from an episode's key to its rows, rewards included.
Baselines, each with z drawn again at every step, as the released code does and we do:

- ``gymnasium.make`` + torch: what a user runs. The environment in the wrappers that ``make`` adds,
  and the policy called as the released code calls it: z drawn by ``torch.distributions`` and kept
  in NumPy, one observation to torch, a module with autograd on (the release has no ``no_grad``),
  one distribution object for the action and one for its noise, the action back to NumPy; rows in
  lists, arrays at the end. The release keeps more books than this.
- ``gymnasium.vector``: two worker processes with such environments, one policy call for both.
- lean (rows ``rollout-<env>-lean``): nothing that can be left out. No wrapper but the time limit,
  inference mode, no distribution objects.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from torch.distributions import Independent, Normal

from benchmarks.measure import Effort, Label, Row, Work, compare
from benchmarks.plain_envs import make_lean, make_plain
from benchmarks.plain_networks import PlainPolicy
from smac_core.agent import Agent, make_agent, prior
from smac_core.config import NetworkConfig
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import BatchDriver
from smac_core.envs.lookup import load_environment
from smac_core.networks import Shapes, initial_parameters, network_shapes
from smac_core.planning import plan_episodes

SIMULATORS = (1, 8, 32, 128)
THREADS = (1, 2)
PROCESSES = 2
PLAIN = "gymnasium.make + torch"
VECTOR = f"gymnasium.vector, {PROCESSES} processes + torch"
LEAN = "bare environment + lean torch"


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


class TanhNormal:
    """The distribution of an action, as the released code builds it.

    Args:
        mean: ``[N, action_dim]``.
        std: ``[N, action_dim]``.
    """

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        self.mean, self.std = mean, std
        self.normal = Independent(Normal(mean, std), 1)

    def sample(self) -> torch.Tensor:
        """Draw actions ``[N, action_dim]``."""
        unit = Independent(Normal(torch.zeros(self.mean.size()), torch.ones(self.std.size())), 1)
        noise = unit.sample()  # type: ignore[no-untyped-call]
        return torch.tanh(self.mean + self.std * noise).detach()


class TorchActor:
    """The policy loop's middle: observations in, actions out, as the released code has it.

    Args:
        policy: π(a|s, z).
        num: How many environments.
    """

    def __init__(self, policy: PlainPolicy, num: int) -> None:
        self.policy = policy
        shape = (num, NetworkConfig().latent_dim)
        self.posterior = Normal(torch.zeros(shape), torch.ones(shape))

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Draw z, then actions.

        Args:
            obs: ``[N, obs_dim]``.

        Returns:
            ``[N, action_dim]`` in [-1, 1].
        """
        z = self.posterior.sample().numpy()  # type: ignore[no-untyped-call]
        rows = torch.cat((torch.from_numpy(obs).float(), torch.from_numpy(z)), dim=1)
        action: np.ndarray = TanhNormal(*self.policy(rows)).sample().numpy()
        return action


class LeanActor(TorchActor):
    """The same with nothing that can be left out."""

    @torch.inference_mode()
    def act(self, obs: np.ndarray) -> np.ndarray:
        """Draw z, then actions; see ``TorchActor``."""
        z = torch.randn_like(self.posterior.mean)
        mean, std = self.policy(torch.cat((torch.from_numpy(obs), z), dim=1))
        action: np.ndarray = torch.tanh(mean + std * torch.randn_like(mean)).numpy()
        return action


def run_plain(env: gymnasium.Env[np.ndarray, np.ndarray], actor: TorchActor) -> int:
    """Run one episode of one environment and keep its rows.

    Args:
        env: With its time limit.
        actor: For one environment.

    Returns:
        Its steps.
    """
    obs, _ = env.reset()
    rows: tuple[list[Any], ...] = ([], [], [], [])
    over = False
    while not over:
        action = actor.act(obs[None])[0]
        after, reward, terminated, truncated, _ = env.step(action)
        for kept, value in zip(rows, (obs, action, reward, terminated), strict=True):
            kept.append(value)
        obs, over = after, terminated or truncated
    observations, *_ = map(np.array, rows)
    return len(observations)


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
    plan = plan_episodes(driver.env, keys, task, latents, resample_every_step=True)
    return int(driver.run(agent.stochastic(), plan, rewards=True).length.sum())


def _baselines(env: Environment, policy: PlainPolicy, close: ExitStack) -> dict[str, Work]:
    """Build what a user would run; ``close`` ends its processes."""
    task = env.sample_tasks(1337, PROCESSES, 0)
    lean, plain = (close.enter_context(make(env, task[0])) for make in (make_lean, make_plain))
    envs = gymnasium.vector.AsyncVectorEnv([partial(make_plain, env, row) for row in task])
    close.callback(envs.close)
    one, both, leanest = TorchActor(policy, 1), TorchActor(policy, PROCESSES), LeanActor(policy, 1)
    return {
        PLAIN: Work(lambda: run_plain(plain, one)),
        VECTOR: Work(lambda: run_vector(envs, both, env.horizon)),
        LEAN: Work(lambda: run_plain(lean, leanest)),
    }


def rows(definition: str, effort: Effort) -> Iterator[Row]:
    """Measure one environment at every number of simulators and threads.

    Args:
        definition: Import string of the environment.
        effort: How long.

    Yields:
        Three rows a measurement, one a baseline.
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
            driver = BatchDriver(env, threads, batch=min(env.batch, math.ceil(number / threads)))
            ours = Work(partial(run_ours, driver, agent, tasks[:number]))
            label = Label(
                f"rollout-{env.env_id}",
                f"{number} simulators",
                "control steps/s",
                threads,
                series="simulators",
                count=number,
            )
            for row in compare(label, ours, baselines, effort):
                lean = row.against == LEAN
                yield replace(row, name=f"{row.name}-lean") if lean else row
