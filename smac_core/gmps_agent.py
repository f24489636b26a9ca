"""GMPS and MAML-PG behind ``smac_core.meta_agent``: policy-gradient steps on what was explored.

Acting is NumPy; torch, which adaptation needs, is imported when an agent is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from smac_core.envs.definition import Environment
from smac_core.envs.episodes import Episodes
from smac_core.gmps.advantages import inner_advantages
from smac_core.gmps.config import GmpsConfig, GmpsNetworkConfig
from smac_core.inner_step_agent import InnerStepAgent, diverged
from smac_core.loading import check_algorithm, from_json, grouped
from smac_core.meta_agent import Context

if TYPE_CHECKING:
    from smac_core.gmps.objective import Meta, Objective


class PolicyGradientAgent(InnerStepAgent):
    """Explores with samples of the meta-learned policy, takes the inner steps, acts by the mean.

    Episodes after the adaptation are not learned from: another policy played them.

    Args:
        meta: The meta-learned parameters.
        objective: The method's inner step.

    Source: baselines.md section 4, "SMAC-protocol adaptation".
    """

    def __init__(self, meta: Meta, objective: Objective) -> None:
        from smac_core.gmps.learner import stacked  # noqa: PLC0415
        from smac_core.gmps.policy import acting_policies  # noqa: PLC0415

        self.meta, self.objective = meta, objective
        self._unadapted = acting_policies(stacked(meta), objective.picture)
        self.begin_task(0)

    def begin_task(self, num: int) -> None:
        """Return to the meta-learned policy."""
        one = self._unadapted
        self._weight = [np.repeat(weight, num, axis=0) for weight in one.weight]
        self._bias = [np.repeat(bias, num, axis=0) for bias in one.bias]
        self._std = np.repeat(one.std, num, axis=0)
        self._adapted = np.zeros(num, dtype=bool)
        super().begin_task(num)

    def act(
        self, rows: np.ndarray, obs: np.ndarray, noise: np.ndarray, *, explore: bool
    ) -> np.ndarray:
        """Sample the meta-learned policy while exploring; else take the mean of each row's own."""
        from smac_core.gmps.policy import ActingPolicies  # noqa: PLC0415

        if explore and not self._adapted[rows].any():
            return self._unadapted.act(np.zeros(len(rows), np.int64), obs, noise, sample=True)
        eye = self._unadapted.eye  # the inner step leaves it alone
        own = ActingPolicies(tuple(self._weight), tuple(self._bias), self._std, eye)
        if len(self._std) == 1:  # one policy serves all rows, as there is only one row
            rows = np.zeros(len(rows), np.int64)
        return own.act(rows, obs, noise, sample=explore)

    def observe_episodes(self, rows: np.ndarray, episodes: Episodes) -> None:
        """Remember what the meta-learned policy explored."""
        mine = np.flatnonzero(~self._adapted[rows])
        super().observe_episodes(rows[mine], episodes.select(mine))

    def adapt(self, rows: np.ndarray) -> None:
        """Take the inner steps on what was explored, once.

        Raises:
            NonFiniteError: The steps diverged.
        """
        super().adapt(rows[~self._adapted[rows]])

    def _adapt(self, row: int, context: Context) -> None:
        import torch  # noqa: PLC0415

        from smac_core.gmps.convolution import encode  # noqa: PLC0415
        from smac_core.gmps.objective import PolicyRows  # noqa: PLC0415
        from smac_core.gmps.policy import acting_policies, log_prob  # noqa: PLC0415

        config, policy, picture = self.objective.config, self.meta["policy"], self.objective.picture
        device = policy["log_std"].device
        if "conv0.weight" in policy:
            points = encode(policy, torch.from_numpy(context.obs).to(device), picture)
            context = replace(context, obs=points.cpu().numpy())
        obs, action, advantage = _padded(context, config)
        seen, done, gain = (
            torch.from_numpy(a.reshape(-1, *a.shape[2:])).to(device)
            for a in (obs, action, advantage)
        )
        behaviour = log_prob(policy, seen, done).detach()
        explored = PolicyRows(seen, done, gain, behaviour)
        adapted, _ = self.objective.adapt(self.meta, explored, config.test_steps)
        own = acting_policies({name: tensor[None] for name, tensor in adapted.items()}, picture)
        if not own.finite():
            raise diverged(row, context, "train with a lower initial_rate or learning_rate")
        mine = (*self._weight, *self._bias, self._std)
        for held, new in zip(mine, (*own.weight, *own.bias, own.std), strict=True):
            held[row] = new[0]
        self._adapted[row] = True


def _padded(context: Context, config: GmpsConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay episodes side by side, with their advantages; the longest gives the width."""
    numbers, which = np.unique(context.episode, return_inverse=True)
    length = np.bincount(which, minlength=len(numbers))
    shape = (len(numbers), int(length.max()))
    place = np.arange(len(which)) - np.repeat(np.cumsum(length) - length, length)

    def padded(array: np.ndarray) -> np.ndarray:
        out = np.zeros((*shape, *array.shape[1:]), dtype=np.float32)
        out[which, place] = array
        return out

    obs = padded(context.obs)
    advantage = inner_advantages(obs, padded(context.reward), length, config)
    return obs, padded(context.action), advantage


def load(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], env: Environment
) -> PolicyGradientAgent:
    """Build the agent of a checkpoint.

    Args:
        tensors: Arrays as ``group/name``.
        metadata: What the checkpoint says of itself.
        env: The environment.

    Returns:
        The agent.

    Raises:
        CheckpointError: Made by another algorithm, or for another environment's shapes.
    """
    fix = "pass the checkpoint that pipeline.gmps_train made for this environment"
    check_algorithm(metadata, "gmps", "GMPS or MAML-PG", fix)
    import torch  # noqa: PLC0415

    from smac_core.gmps.learner import initial_meta  # noqa: PLC0415
    from smac_core.gmps.objective import Objective  # noqa: PLC0415
    from smac_core.maml.meta_learner import to_groups  # noqa: PLC0415
    from smac_core.networks import Shapes  # noqa: PLC0415

    torch.set_num_threads(1)  # as every stage: two seeds side by side use two cores
    networks: GmpsNetworkConfig = from_json(GmpsNetworkConfig, metadata["networks"])
    config: GmpsConfig = from_json(GmpsConfig, metadata["learner"])
    shapes = Shapes(env.obs_dim, env.action_dim, env.image_shape)
    groups = grouped(tensors, initial_meta(shapes, networks, config, 0), fix)
    meta = to_groups(groups, torch.device("cpu"))
    frozen = networks.encoder_updates > 0
    return PolicyGradientAgent(meta, Objective(config, shapes.picture, frozen))
