"""What is differentiated: an inner step by policy gradient, then imitation or policy gradient.

Source: baselines.md section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, vmap

from smac_core.gmps.config import GmpsConfig
from smac_core.gmps.convolution import Picture, encode
from smac_core.gmps.policy import log_prob, mean_action
from smac_core.maml.engine import Metrics, Parameters, adapt
from smac_core.maml.losses import clipped_surrogate, policy_gradient_loss

Meta = dict[str, dict[str, Tensor]]
"""``policy``: parameters; ``rates``: the inner step size of each, a number or one an element."""


class PolicyRows(NamedTuple):
    """Rows of whole episodes that one policy played in one task.

    Args:
        obs: ``[N, obs_dim]``.
        action: ``[N, action_dim]`` as it was executed.
        advantage: ``[N]`` as `smac_core.gmps.advantages` has it; 0 for padding.
        behaviour: ``[N]`` log density of the action under the policy that played.
    """

    obs: Tensor
    action: Tensor
    advantage: Tensor
    behaviour: Tensor


class ExpertRows(NamedTuple):
    """States of one task, and what its expert does there.

    Args:
        obs: ``[B, obs_dim]``.
        action: ``[B, action_dim]`` in [-1, 1].
    """

    obs: Tensor
    action: Tensor


class TaskBatch(NamedTuple):
    """Rows to adapt on, and rows to measure on."""

    inner: PolicyRows
    outer: ExpertRows | PolicyRows


@dataclass(frozen=True)
class Objective:
    """The method as pure functions of meta-parameters and rows.

    Args:
        config: Its settings.
        picture: Shape of the picture that an observation begins with; None: there is none.
        frozen: Convolutions stay as they are, and rows hold points in the place of pictures.
    """

    config: GmpsConfig
    picture: Picture | None = None
    frozen: bool = False

    def batch_loss(self, meta: Meta, batch: TaskBatch) -> tuple[Tensor, Metrics]:
        """Adapt to each task, and measure what came of it.

        Args:
            meta: The meta-parameters.
            batch: Rows of M tasks ``[M, N, …]``.

        Returns:
            Mean loss of the adapted policies, and mean metrics.
        """
        # Pictures of all tasks together: task by task under vmap takes three times as long.
        inner, outer = (self.encoded(meta, rows.obs) for rows in batch)
        batch = TaskBatch(batch.inner._replace(obs=inner), batch.outer._replace(obs=outer))
        losses, metrics = vmap(lambda task: self.task_loss(meta, task))(batch)
        return losses.mean(), {name: values.mean(0) for name, values in metrics.items()}

    def encoded(self, meta: Meta, obs: Tensor) -> Tensor:
        """Put points in the place of pictures, if rows hold any: ``[…, obs_dim]``."""
        return obs if self.frozen else encode(meta["policy"], obs, self.picture)

    def task_loss(self, meta: Meta, task: TaskBatch) -> tuple[Tensor, Metrics]:
        """Adapt to a task, and measure what came of it.

        Args:
            meta: The meta-parameters.
            task: One task's rows; their pictures are encoded.

        Returns:
            Loss of the adapted policy, and metrics.
        """
        adapted, metrics = self.adapt(meta, task.inner)
        outer = task.outer
        mean = mean_action(adapted, outer.obs)
        if isinstance(outer, ExpertRows):
            loss = (mean - outer.action).square().sum(dim=-1).mean()
        else:
            own = log_prob(adapted, outer.obs, outer.action)
            loss = self.surrogate(own, outer)
        before = mean_action(meta["policy"], outer.obs)
        shift = (mean.detach() - before.detach()).abs().mean()
        return loss, {"policy_loss": loss.detach(), "mean_shift": shift, **metrics}

    def surrogate(self, log_prob: Tensor, rows: PolicyRows) -> Tensor:
        """Measure an adapted policy by policy gradient on the episodes that it played.

        Args:
            log_prob: ``[N]`` of the rows' actions.
            rows: Its episodes.

        Returns:
            Scalar.
        """
        cfg = self.config
        if cfg.outer_clip is None:
            limits = cfg.ratio_limits
            return policy_gradient_loss(log_prob, rows.behaviour, rows.advantage, limits)
        return clipped_surrogate(log_prob, rows.behaviour, rows.advantage, cfg.outer_clip)

    def adapt(
        self, meta: Meta, rows: PolicyRows, steps: int | None = None
    ) -> tuple[Parameters, Metrics]:
        """Take the inner steps.

        Args:
            meta: The meta-parameters.
            rows: Exploration in the task; its pictures are encoded.
            steps: How many; None: as configured.

        Returns:
            The adapted policy, and metrics before the first step.
        """
        cfg = self.config

        def loss(policy: Parameters) -> tuple[Tensor, Metrics]:
            own = log_prob(policy, rows.obs, rows.action)
            gradient = policy_gradient_loss(own, rows.behaviour, rows.advantage, cfg.ratio_limits)
            drift = (own.detach() - rows.behaviour).abs().mean()
            return gradient, {"inner_policy_loss": gradient.detach(), "behaviour_drift": drift}

        steps = cfg.inner_steps if steps is None else steps
        return adapt(loss, meta["policy"], meta["rates"], steps, second_order=cfg.second_order)

    def adapt_all(self, meta: Meta, rows: PolicyRows) -> Parameters:
        """Adapt to several tasks at once, without a graph.

        Args:
            meta: The meta-parameters.
            rows: ``[G, N, …]``.

        Returns:
            Policies, stacked along the first axis.
        """
        seen = rows._replace(obs=self.encoded(meta, rows.obs))
        adapted = vmap(lambda own: self.adapt(meta, own)[0])(seen)
        return {name: tensor.detach() for name, tensor in adapted.items()}
