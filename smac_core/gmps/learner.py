"""The meta-learner: a policy, its inner step sizes, and one update of both."""

from __future__ import annotations

import numpy as np
import torch
from torch.func import grad_and_value

from smac_core.gmps.config import GmpsConfig, GmpsNetworkConfig
from smac_core.gmps.objective import Meta, Objective, TaskBatch
from smac_core.gmps.policy import initial_policy
from smac_core.maml.meta_learner import MetaLearner
from smac_core.networks import Shapes


def initial_meta(
    shapes: Shapes, networks: GmpsNetworkConfig, config: GmpsConfig, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Draw the meta-parameters of one seed.

    Args:
        shapes: Sizes of the environment.
        networks: Widths.
        config: How many step sizes there are, and where they begin.
        seed: Of the draws.

    Returns:
        Arrays by group and name, as `smac_core.gmps.objective.Meta`.
    """
    policy = initial_policy(np.random.default_rng([seed, 0x67]), shapes, networks)
    rates = {
        name: np.full(array.shape if config.rates == "element" else (), config.initial_rate)
        for name, array in policy.items()
        if not name.startswith("conv")  # without a rate they are not adapted
    }
    return {"policy": policy, "rates": {n: rate.astype(np.float32) for n, rate in rates.items()}}


class GmpsLearner(MetaLearner):
    """Policy and inner step sizes of one seed, with their optimiser.

    Args:
        shapes: Sizes of the environment.
        networks: Widths.
        config: Hyperparameters.
        seed: Of the initial parameters.
        device: Where to compute.
    """

    def __init__(
        self,
        shapes: Shapes,
        networks: GmpsNetworkConfig,
        config: GmpsConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        own = 0.0 if config.rates == "fixed" else config.learning_rate
        rates = {"policy": config.learning_rate, "rates": own}
        super().__init__(initial_meta(shapes, networks, config, seed), rates, device)
        self.config = config
        self.objective = Objective(config, shapes.picture, frozen=networks.encoder_updates > 0)

    def update(self, batch: TaskBatch) -> None:
        """Take one meta-gradient step on policy and step sizes.

        Args:
            batch: Rows of M tasks ``[M, N, …]``.

        Source: baselines.md section 4, "Outer loss".
        """
        measured = grad_and_value(self.objective.batch_loss, has_aux=True)
        gradients, (loss, metrics) = measured(self.meta, batch)
        self.step(gradients)
        rate = torch.cat([rate.flatten() for rate in self.meta["rates"].values()]).mean()
        std = self.meta["policy"]["log_std"].exp().mean()
        metrics |= {"loss": loss, "policy_rate": rate, "policy_std": std}
        self.metrics = {name: number.detach().reshape(1) for name, number in metrics.items()}


def stacked(meta: Meta) -> dict[str, torch.Tensor]:
    """Give the un-adapted policy the leading axis of a set of one.

    Args:
        meta: The meta-parameters.

    Returns:
        Parameters ``[1, …]``.
    """
    return {name: tensor[None] for name, tensor in meta["policy"].items()}
