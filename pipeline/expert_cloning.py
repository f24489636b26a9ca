"""An expert that can be asked about a state alone, cloned from a script that remembers its episode.

The network is told its task. It sees where the script comes to when its actions are disturbed, and
learns what the script would do there. Nothing reads a reward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from pipeline.cli import Progress
from pipeline.collection import Collection
from pipeline.expert_policy import told_latents
from pipeline.sections import CloningConfig, ExpertsConfig
from pipeline.training import single_thread
from smac_core.agent import Posteriors
from smac_core.envs.episodes import Adaptive, BatchDriver
from smac_core.errors import ConfigError
from smac_core.losses import action_distribution
from smac_core.networks import (
    MlpShape,
    Shapes,
    forward,
    initial_parameters,
    network_shapes,
    view_mlp,
)
from smac_core.parameters import ParameterGroup
from smac_core.planning import flat_rows, generator, plan_episodes

CLONE = 0x63  # keeps these draws apart from the streams of smac_core.planning
FINAL_RATE = 0.05  # of the first learning rate, to which it falls linearly


@dataclass(frozen=True)
class Shown:
    """What the script would do, where its disturbed actions led.

    Args:
        inputs: ``[N, obs_dim + latent_dim]`` float32, observation and what tells the task.
        action: ``[N, action_dim]`` float32 of the undisturbed script.
    """

    inputs: np.ndarray
    action: np.ndarray


def watch(collection: Collection, cloning: CloningConfig) -> Shown:
    """Let the script run in every training task, with disturbed actions.

    Args:
        collection: Environment, configuration and tasks.
        cloning: How many episodes, and how disturbed.

    Returns:
        Its states and undisturbed actions.

    Raises:
        ConfigError: The network has no room for what it is told, or there is no script that it
            could follow.
    """
    env, config, tasks = collection.env, collection.config, collection.tasks
    task_id = np.repeat(np.asarray(tasks.train, dtype=np.int64), cloning.episodes)
    width = env.latent_of_task(tasks.parameters).shape[1]
    if width > config.networks.latent_dim:
        raise ConfigError(
            "the policy cannot be told its task",
            where=f"experts of {env.env_id}",
            expected=f"networks.latent_dim of at least {width}",
            found=config.networks.latent_dim,
            fix="raise experts.networks.latent_dim",
        )
    if env.privileged_dim:
        raise ConfigError(
            "the script reads what observations do not show, so no network can be its clone",
            where=f"experts of {env.env_id}",
            fix="drop experts.cloning: such a script can be asked without it",
        )
    told = told_latents(env, tasks.parameters, config.networks.latent_dim)[task_id]
    plan = plan_episodes(
        env,
        [(config.seed, CLONE, int(task), place, 1) for place, task in enumerate(task_id)],
        tasks.parameters[task_id],
        Posteriors(told, np.zeros_like(told)),
        resample_every_step=False,
    )
    plan = replace(plan, rows=np.arange(len(task_id)))
    script = env.script(plan.initial, plan.task)
    meant = np.zeros((*plan.noise.shape[:2], env.action_dim), dtype=np.float32)
    step = np.zeros(len(task_id), dtype=np.int64)

    def act(rows: np.ndarray, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        action = script(rows, obs, np.zeros_like(noise))
        meant[rows, step[rows]] = action
        step[rows] += 1
        disturbed: np.ndarray = np.clip(action + cloning.noise * noise, -1.0, 1.0)
        return disturbed.astype(np.float32)

    episodes = BatchDriver(env).run(Adaptive(act), plan, rewards=False)
    mask = flat_rows(episodes)
    latent = np.repeat(told, episodes.length, axis=0)
    return Shown(np.concatenate([episodes.obs[mask], latent], axis=1), meant[mask])


def fit(
    shown: Shown, shape: MlpShape, cloning: CloningConfig, seed: int
) -> tuple[np.ndarray, list[float]]:
    """Fit the policy's mean action by squared error.

    Args:
        shown: States and actions.
        shape: Layer widths of the policy.
        cloning: Hyperparameters.
        seed: Of parameters and rows.

    Returns:
        Flat parameters ``[num_parameters]``, and the mean loss of every tenth of the updates.
    """
    first = initial_parameters("policy", shape, np.random.default_rng([seed, CLONE]))
    group = ParameterGroup(
        {"policy": shape}, [{"policy": first}], cloning.learning_rate, torch.device("cpu")
    )
    inputs, action = (torch.from_numpy(a) for a in (shown.inputs, shown.action))
    rng = generator((seed, CLONE, 0, 1))
    losses = np.zeros(cloning.updates)
    with Progress("updates of the clone", cloning.updates) as progress:
        for update in range(cloning.updates):
            left = 1.0 - update / cloning.updates
            group.learning_rate = cloning.learning_rate * max(left, FINAL_RATE)
            rows = torch.from_numpy(rng.integers(0, len(inputs), cloning.rows))
            out = action_distribution(forward(group.networks["policy"], inputs[rows][None]))
            loss = (torch.tanh(out.mean[0]) - action[rows]).square().sum(dim=-1).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            group.step()
            losses[update] = loss.item()
            progress.advance(1)
    flat = group.parameters_of("policy", 0)
    _set_spread(flat, shape, cloning.noise)
    return flat, [float(part.mean()) for part in np.array_split(losses, 10) if len(part)]


def _set_spread(flat: np.ndarray, shape: MlpShape, spread: float) -> None:
    """Let the policy's samples spread everywhere as what it was cloned from, before the tanh."""
    net = view_mlp(torch.from_numpy(flat), shape)
    log_std = slice(shape.sizes[-1] // 2, None)
    net.weights[-1][..., log_std] = 0.0
    net.biases[-1][..., log_std] = float(np.log(max(spread, 1e-6)))


def clone(collection: Collection) -> tuple[dict[str, np.ndarray], list[dict[str, float]], int]:
    """Clone the script.

    Args:
        collection: Environment, configuration and tasks.

    Returns:
        Flat parameters by network, of which encoder and decoder know nothing; rows of metrics; and
        the environment steps that were watched.
    """
    env, config = collection.env, collection.config
    assert isinstance(config, ExpertsConfig)
    assert config.cloning is not None
    single_thread(config.learner.matmul_precision)
    shown = watch(collection, config.cloning)
    layers = network_shapes(Shapes(env.obs_dim, env.action_dim), config.networks)
    rng = np.random.default_rng([config.seed, CLONE, 1])
    tensors = {n: initial_parameters(n, layers[n], rng) for n in ("encoder", "decoder")}
    flat, losses = fit(shown, layers["policy"], config.cloning, config.seed)
    steps = len(shown.action)
    rows = [
        {"iteration": float(n), "environment_steps": float(steps), "cloning_loss": loss}
        for n, loss in enumerate(losses)
    ]
    return {"policy": flat, **tensors}, rows, steps
