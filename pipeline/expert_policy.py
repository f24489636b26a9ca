"""The expert of an environment as others ask it: what to do in a task that it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.checkpoint import read_checkpoint
from smac_core.agent import Agent
from smac_core.envs.definition import Environment
from smac_core.errors import CheckpointError
from smac_core.smac_agent import load_agent

FIX = "pass the checkpoint that `python -m pipeline.experts` made with this tasks.json"


@dataclass(frozen=True)
class Expert:
    """A policy that is told its task.

    Args:
        agent: Policy.
        latents: ``[T, latent_dim]`` float32, what it is told of each task.
        metadata: What its checkpoint says of itself.
    """

    agent: Agent
    latents: np.ndarray
    metadata: Mapping[str, Any]

    def label(self, task: int, obs: np.ndarray) -> np.ndarray:
        """Tell what it would do.

        Args:
            task: Number of the task.
            obs: ``[N, obs_dim]`` float32.

        Returns:
            ``[N, action_dim]`` float32, mean actions.
        """
        told = np.repeat(self.latents[task][None], len(obs), axis=0)
        noise = np.zeros((len(obs), self.agent.policy.sizes[-1] // 2), dtype=np.float32)
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
    path: Path, env: Environment, parameters: np.ndarray, task_ids: Sequence[int]
) -> Expert:
    """Read an expert.

    Args:
        path: Its checkpoint.
        env: The environment that it must belong to.
        parameters: ``[T, task_dim]`` of all tasks.
        task_ids: Tasks that it must have been trained on.

    Returns:
        The expert.

    Raises:
        CheckpointError: Damaged, of another environment or algorithm, or no expert of a task.
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
    lacking = sorted(set(task_ids) - set(meta["experts_of"]))
    if lacking:
        raise CheckpointError(
            "tasks without an expert",
            where=path,
            expected=f"an expert of each of {len(task_ids)} training tasks",
            found=f"none for {len(lacking)}, task {lacking[0]} first",
            fix=FIX,
        )
    latents = told_latents(env, parameters, int(meta["latent_dim"]))
    return Expert(load_agent(checkpoint.tensors, meta), latents, meta)
