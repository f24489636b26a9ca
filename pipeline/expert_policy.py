"""The expert of an environment as others ask it: what to do in a task that it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.checkpoint import read_checkpoint
from pipeline.manifest import path_digest
from smac_core.agent import Agent
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import Controller, Scripted
from smac_core.errors import CheckpointError
from smac_core.smac_agent import load_agent

FIX = "pass the checkpoint that `python -m pipeline.experts` made with this tasks.json"


@dataclass(frozen=True)
class Expert:
    """A policy that is told its task: a network, or the environment's script.

    Args:
        env: The environment.
        parameters: ``[T, task_dim]`` of all tasks.
        agent: The network; None: the script.
        latents: ``[T, latent_dim]`` float32, what the network is told of each task.
        metadata: What its checkpoint says of itself.
    """

    env: Environment
    parameters: np.ndarray
    agent: Agent | None
    latents: np.ndarray
    metadata: Mapping[str, Any]

    def controller(self, *, sample: bool) -> Controller | Scripted:
        """Give what acts in a plan whose latents are the tasks'.

        Args:
            sample: Draw the network's actions; else take their means. A script draws its own noise.

        Returns:
            What the batch driver runs.
        """
        if self.agent is None:
            return Scripted(self.env)
        return self.agent.stochastic() if sample else self.agent.deterministic()

    @property
    def privileged(self) -> bool:
        """Whether it is the script of an environment whose observations do not show enough."""
        return self.agent is None and self.env.privileged_dim > 0

    def label(self, task: int, obs: np.ndarray) -> np.ndarray:
        """Tell what it would do.

        Args:
            task: Number of the task.
            obs: ``[N, obs_dim]`` float32, or ``[N, privileged_dim]`` where it is ``privileged``.

        Returns:
            ``[N, action_dim]`` float32, mean actions.

        Raises:
            ConfigError: A script that remembers its episode cannot be asked about a state alone.
        """
        noise = np.zeros((len(obs), self.env.action_dim), dtype=np.float32)
        if self.agent is None:
            goal = np.repeat(self.parameters[task][None].astype(np.float32), len(obs), axis=0)
            action: np.ndarray = self.env.scripted_action(obs, goal, noise).astype(np.float32)
            return action
        told = np.repeat(self.latents[task][None], len(obs), axis=0)
        return self.agent.deterministic()(obs, told, noise)


def told_latents(env: Environment, parameters: np.ndarray, latent_dim: int) -> np.ndarray:
    """Scale every task's parameters and pad them to the latent's length.

    Args:
        env: The environment.
        parameters: ``[T, task_dim]``.
        latent_dim: At least as many as there are scaled parameters.

    Returns:
        ``[T, latent_dim]`` float32.
    """
    scaled = env.latent_of_task(parameters)
    padded = np.zeros((len(scaled), latent_dim), dtype=np.float32)
    padded[:, : scaled.shape[1]] = scaled
    return padded


def read_expert(
    path: Path, env: Environment, tasks: Path, parameters: np.ndarray, task_ids: Sequence[int]
) -> Expert:
    """Read an expert.

    Args:
        path: Its checkpoint.
        env: The environment that it must belong to.
        tasks: The task list, which must be what it was trained on.
        parameters: ``[T, task_dim]`` of all tasks.
        task_ids: Tasks that it must have been trained on.

    Returns:
        The expert.

    Raises:
        CheckpointError: Damaged, of another environment, algorithm or task list, or no
            expert of a task.
    """
    checkpoint = read_checkpoint(path, env_id=env.env_id)
    meta = checkpoint.metadata
    if meta.get("algorithm") != "expert":
        found = meta.get("algorithm")
        raise CheckpointError("no expert", where=path, expected="expert", found=found, fix=FIX)
    for name, size in (("obs_dim", env.obs_dim), ("action_dim", env.action_dim)):
        if meta.get(name) != size:
            found = meta.get(name)
            raise CheckpointError(
                f"expert of another {name}", where=path, expected=size, found=found, fix=FIX
            )
    if meta.get("tasks") != (digest := path_digest(tasks)):
        raise CheckpointError(
            "expert of other tasks", where=path, expected=digest, found=meta.get("tasks"), fix=FIX
        )
    lacking = sorted(set(task_ids) - set(meta["experts_of"]))
    if lacking:
        raise CheckpointError(
            "tasks without an expert",
            where=path,
            expected=f"an expert of each of {len(task_ids)} training tasks",
            found=f"none for {len(lacking)}, task {lacking[0]} first",
            fix=FIX,
        )
    scripted = meta.get("policy") == "scripted"
    width = env.latent_of_task(parameters).shape[1] if scripted else int(meta["latent_dim"])
    agent = None if scripted else load_agent(checkpoint.tensors, meta)
    return Expert(env, parameters, agent, told_latents(env, parameters, width), meta)
