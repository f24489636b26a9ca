"""The meta-learner: meta-parameters, their Adam, and one update."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from smac_core.maml.config import MamlConfig, MamlNetworkConfig, needs_values
from smac_core.maml.data import Columns, MamlSampler
from smac_core.maml.engine import meta_gradient
from smac_core.maml.meta_learner import MetaLearner
from smac_core.maml.networks import initial_network
from smac_core.maml.objective import Objective, TaskBatch, TaskRows, positive
from smac_core.networks import Shapes


def initial_meta(
    shapes: Shapes, networks: MamlNetworkConfig, config: MamlConfig, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Draw the meta-parameters of one seed.

    Args:
        shapes: Sizes of the environment.
        networks: Hidden widths.
        config: Kind of rates, and where they begin.
        seed: Of the draws.

    Returns:
        Arrays by group and name, as `smac_core.maml.objective.Meta`.
    """
    rng = np.random.default_rng([seed, 0x4D])
    sizes = (shapes.obs_dim, *networks.policy, shapes.action_dim)
    policy = initial_network(rng, sizes, networks)
    meta = {"policy": policy}
    if config.inner == "awr":
        head = (networks.policy[-1] + shapes.action_dim, networks.advantage_head, 1)
        policy |= initial_network(rng, head, networks, "head")
        meta["head_weight"] = {"weight": _raw(config.head_weight, ())}
    if needs_values(config):
        meta["value"] = initial_network(rng, (shapes.obs_dim, *networks.value, 1), networks)
        meta["value_rates"] = _initial_rates(meta["value"], config)
    meta["policy_rates"] = _initial_rates(policy, config)
    return meta


def _initial_rates(
    parameters: Mapping[str, np.ndarray], config: MamlConfig
) -> dict[str, np.ndarray]:
    shape_of = {n: p.shape if config.rates == "element" else () for n, p in parameters.items()}
    return {name: _raw(config.initial_rate, shape) for name, shape in shape_of.items()}


def _raw(positive_number: float, shape: tuple[int, ...]) -> np.ndarray:
    """Invert softplus, in the form that does not overflow."""
    raw = positive_number + math.log(-math.expm1(-positive_number))
    return np.full(shape, raw, dtype=np.float32)


def to_rows(columns: Columns, device: torch.device) -> TaskRows:
    """Hand rows to torch.

    Args:
        columns: In NumPy.
        device: Where they go.

    Returns:
        The rows.
    """
    names = TaskRows._fields
    return TaskRows(*(torch.from_numpy(getattr(columns, name)).to(device) for name in names))


class MamlLearner(MetaLearner):
    """Policy, value function and learned step sizes of one seed, with their optimisers.

    Args:
        shapes: Sizes of the environment.
        networks: Hidden widths.
        config: The phase's hyperparameters.
        seed: Of the initial parameters.
        device: Where to compute.
    """

    def __init__(
        self,
        shapes: Shapes,
        networks: MamlNetworkConfig,
        config: MamlConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        arrays = initial_meta(shapes, networks, config, seed)
        rates = dict.fromkeys(arrays, config.rate_learning_rate)
        rates |= {"policy": config.policy_learning_rate, "value": config.value_learning_rate}
        super().__init__(arrays, rates, device)
        self.config = config
        self.objective = Objective(config, networks.action_std)

    def update(self, batch: TaskBatch) -> None:
        """Take one meta-gradient step on everything that is meta-learned.

        Args:
            batch: Rows of M tasks ``[M, B, …]``.

        Source: baselines.md section 2, "Outer loop"; the mean over the batch's tasks.
        """
        gradients, loss, metrics = meta_gradient(
            self.objective.task_loss, self.meta, batch, self.config.over_tasks
        )
        self.step(gradients)
        metrics |= {"loss": loss, **self._mean_rates()}
        self.metrics = {name: number.detach().reshape(1) for name, number in metrics.items()}

    def _mean_rates(self) -> dict[str, Tensor]:
        """Average the step sizes that the inner loop uses now."""
        return {
            group.removesuffix("s"): torch.stack(
                [rate.mean() for rate in positive(self.meta[group]).values()]
            ).mean()
            for group in ("policy_rates", "value_rates")
            if group in self.meta
        }


class MamlEngine:
    """Feeds a learner: one update at a time.

    Args:
        learner: What is trained.
        sampler: Draws its batches.
    """

    def __init__(self, learner: MamlLearner, sampler: MamlSampler) -> None:
        self.learner, self.sampler = learner, sampler

    def advance(self, limit: int) -> None:
        """Take one update.

        Args:
            limit: At least one.
        """
        inner, outer = self.sampler.draw(self.learner.num_updates)
        device = self.learner.device
        self.learner.update(TaskBatch(to_rows(inner, device), to_rows(outer, device)))
