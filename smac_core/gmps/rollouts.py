"""On-policy episodes: many tasks at once, each by a policy of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, vmap

from smac_core.agent import Posteriors
from smac_core.envs.episodes import Adaptive, BatchDriver, Episodes
from smac_core.gmps.advantages import inner_advantages
from smac_core.gmps.convolution import encode
from smac_core.gmps.objective import Objective, PolicyRows
from smac_core.gmps.policy import ActingPolicies, log_prob
from smac_core.planning import Key, plan_episodes

ROLLOUTS = 0x67  # keeps these episodes apart from the streams of smac_core.planning


def play(
    driver: BatchDriver,
    policies: ActingPolicies,
    tasks: np.ndarray,
    keys: Sequence[Key],
    *,
    sample: bool,
) -> Episodes:
    """Play one episode a key, each by the policy of its place.

    Args:
        driver: The simulators.
        policies: As many as there are episodes, or one for all.
        tasks: ``[E, task_dim]`` parameters.
        keys: One an episode.
        sample: Draw actions from the Gaussians; else take their means.

    Returns:
        The episodes, with true rewards.
    """
    nothing = np.zeros((len(keys), 0), dtype=np.float32)
    plan = plan_episodes(
        driver.env, keys, tasks, Posteriors(nothing, nothing), resample_every_step=False
    )

    def act(rows: np.ndarray, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return policies.act(rows, obs, noise, sample=sample)

    return driver.run(Adaptive(act), plan, rewards=True)


def policy_rows(
    episodes: Episodes, groups: int, objective: Objective, played: dict[str, Tensor]
) -> PolicyRows:
    """Lay episodes out for one inner step a group.

    Args:
        episodes: ``[G · E, H]``, group by group.
        groups: G, each of as many episodes of one task.
        objective: How advantages are estimated, and what observations show.
        played: Parameters of the policies that played ``[G, …]``, or ``[1, …]``.

    Returns:
        Rows ``[G, E · H, …]`` on the device of the parameters; their pictures are encoded where
        convolutions stay as they are.
    """
    device = played["log_std"].device

    def grouped(array: np.ndarray) -> np.ndarray:
        return array.reshape(groups, -1, *array.shape[1:])

    obs, reward, length = (grouped(a) for a in (episodes.obs, episodes.reward, episodes.length))

    def to_torch(array: np.ndarray) -> Tensor:
        flat = array.reshape(groups, -1, *array.shape[3:])
        return torch.from_numpy(np.ascontiguousarray(flat)).to(device)

    seen, done = to_torch(obs), to_torch(grouped(episodes.action))
    # Convolutions are not adapted: the first policy's are everyone's.
    encoded = encode({n: p[0] for n, p in played.items()}, seen, objective.picture)
    shown = encoded.cpu().numpy().reshape(*obs.shape[:3], -1)
    config = objective.config
    advantage = [inner_advantages(*own, config) for own in zip(shown, reward, length, strict=True)]
    advantages = to_torch(np.stack(advantage))
    shared = played["log_std"].shape[0] == 1
    players = {n: p[0] if shared else p for n, p in played.items()}
    density = vmap(log_prob, in_dims=(None if shared else 0, 0, 0))
    behaviour: Tensor = density(players, encoded, done).detach()
    return PolicyRows(encoded if objective.frozen else seen, done, advantages, behaviour)
