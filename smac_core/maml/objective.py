"""What a task contributes: adapt value function and policy on its rows, measure both on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from smac_core.maml.config import Loss, MamlConfig, needs_values
from smac_core.maml.engine import InnerLoss, Metrics, Parameters
from smac_core.maml.losses import (
    effective_sample_size,
    gaussian_log_prob,
    policy_gradient_loss,
    regression_weights,
    squared_error,
    standardised,
    weighted_cloning_loss,
)
from smac_core.maml.networks import (
    adapt_network,
    layer_weights,
    policy_mean,
    predicted_advantage,
    value,
)

Meta = dict[str, Parameters]
"""All that is meta-learned: ``policy``, ``policy_rates`` and, where a method has them, ``value``,
``value_rates`` and ``head_weight``; rates and the weight before their softplus."""


class TaskRows(NamedTuple):
    """Rows of a task's episodes; tasks may lead.

    Args:
        obs: ``[N, obs_dim]``.
        action: ``[N, action_dim]``.
        discounted_return: ``[N]`` scaled return from here to the last row that there is.
        last_obs: ``[N, obs_dim]`` after that last row.
        tail_discount: ``[N]`` discount of a value at ``last_obs``; 0 where it is terminal.
        cut: ``[N]`` 1 where the data, not the episode, end there.
    """

    obs: Tensor
    action: Tensor
    discounted_return: Tensor
    last_obs: Tensor
    tail_discount: Tensor
    cut: Tensor


class TaskBatch(NamedTuple):
    """Rows to adapt on, and rows to measure on."""

    inner: TaskRows
    outer: TaskRows


class Adapted(NamedTuple):
    """Layers' weights after the inner steps; ``value`` is empty where there is no such network."""

    policy: Parameters
    value: Parameters
    metrics: Metrics


@dataclass(frozen=True)
class Objective:
    """One method as pure functions of meta-parameters and rows.

    Args:
        config: Its losses and their settings.
        action_std: Standard deviation of the policy.
    """

    config: MamlConfig
    action_std: float

    def task_loss(self, meta: Meta, task: TaskBatch) -> tuple[Tensor, Metrics]:
        """Adapt to a task, and measure what came of it.

        Args:
            meta: The meta-parameters.
            task: One task's rows.

        Returns:
            Loss of adapted policy and value function, and metrics.
        """
        adapted = self.adapt(meta, task.inner)
        loss, metrics = self._outer_policy_loss(meta, adapted, task.outer)
        metrics = {"policy_loss": loss.detach(), **adapted.metrics, **metrics}
        if adapted.value:
            fit = self._outer_value_loss(meta["value"], adapted.value, task.outer)
            metrics |= {"value_loss": fit.detach()}
            loss = loss + fit
        return loss, metrics

    def adapt(self, meta: Meta, rows: TaskRows, steps: int | None = None) -> Adapted:
        """Take the inner steps, on the value function first.

        Args:
            meta: The meta-parameters.
            rows: The task's rows.
            steps: How many of each; None: as configured.

        Returns:
            The adapted weights, and the inner losses before the first step.
        """
        cfg = self.config
        steps = cfg.inner_steps if steps is None else steps
        after: Parameters = {}
        metrics: Metrics = {}
        if needs_values(cfg):
            after, metrics = adapt_network(
                self._inner_value_loss(rows),
                meta["value"],
                positive(meta["value_rates"]),
                steps,
                second_order=cfg.second_order,
            )
        policy, own = adapt_network(
            self._inner_policy_loss(meta, after, rows),
            meta["policy"],
            positive(meta["policy_rates"]),
            steps,
            second_order=cfg.second_order,
        )
        return Adapted(policy, after, metrics | own)

    def advantage(self, weights: Mapping[str, Tensor], rows: TaskRows) -> Tensor:
        """Estimate advantages from returns: R + γ^k V(last) - V(s), without gradient.

        Args:
            weights: Of the value function.
            rows: Rows.

        Returns:
            ``[N]``.
        """
        frozen = {name: tensor.detach() for name, tensor in weights.items()}
        total = rows.discounted_return + rows.tail_discount * value(frozen, rows.last_obs)
        return total - value(frozen, rows.obs)

    def _inner_value_loss(self, rows: TaskRows) -> InnerLoss:
        tail = rows.tail_discount * rows.cut

        def loss(weights: Parameters) -> tuple[Tensor, Metrics]:
            target = rows.discounted_return
            if self.config.bootstrap_cut:
                target = target + tail * value(weights, rows.last_obs).detach()
            error = squared_error(value(weights, rows.obs), target)
            return error, {"inner_value_loss": error.detach()}

        return loss

    def _inner_policy_loss(self, meta: Meta, after: Parameters, rows: TaskRows) -> InnerLoss:
        kind = self.config.inner
        before = frozen_weights(meta["policy"])
        advantage = self.advantage(after, rows) if after else None

        def loss(weights: Parameters) -> tuple[Tensor, Metrics]:
            mean, hidden = policy_mean(weights, rows.obs)
            imitation, size = self._policy_loss(kind, mean, rows, advantage, before)
            metrics = {"inner_policy_loss": imitation.detach(), "inner_sample_size": size.detach()}
            if kind != "awr":
                return imitation, metrics
            assert advantage is not None
            predicted = predicted_advantage(
                weights, hidden, rows.action, relu_all=self.config.head_relu == "all"
            )
            error = squared_error(predicted, advantage)
            weight = softplus(meta["head_weight"]["weight"])
            metrics |= {"advantage_loss": error.detach(), "head_weight": weight.detach()}
            return imitation + weight * error, metrics

        return loss

    def _policy_loss(
        self,
        kind: Loss,
        mean: Tensor,
        rows: TaskRows,
        advantage: Tensor | None,
        before: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """One of the three losses, and the effective sample size of its rows' weights.

        ``before`` is the policy that the policy gradient's rows are taken to come from.
        """
        log_prob = gaussian_log_prob(mean, self.action_std, rows.action)
        if kind == "bc" or advantage is None:
            return weighted_cloning_loss(log_prob, None), torch.ones_like(log_prob[0])
        normed = standardised(advantage) if self.config.advantage_norm == "std" else advantage
        if kind == "awr":
            lower = self.config.weight_clip == "both"
            weight = regression_weights(normed, self.config.max_weight, lower=lower)
            return weighted_cloning_loss(log_prob, weight), effective_sample_size(weight)
        collected = gaussian_log_prob(
            policy_mean(before, rows.obs)[0], self.action_std, rows.action
        )
        limits = self.config.ratio_limits
        loss = policy_gradient_loss(log_prob, collected, normed, limits)
        return loss, torch.ones_like(log_prob[0])

    def _outer_policy_loss(
        self, meta: Meta, adapted: Adapted, rows: TaskRows
    ) -> tuple[Tensor, Metrics]:
        advantage = self.advantage(adapted.value, rows) if adapted.value else None
        before = frozen_weights(meta["policy"])
        unadapted = policy_mean(before, rows.obs)[0]
        mean, _ = policy_mean(adapted.policy, rows.obs)
        loss, size = self._policy_loss(self.config.outer, mean, rows, advantage, before)
        shift = (mean.detach() - unadapted).abs().mean()
        return loss, {"effective_sample_size": size.detach(), "mean_shift": shift}

    def _outer_value_loss(self, before: Parameters, after: Parameters, rows: TaskRows) -> Tensor:
        """Fit returns plus the value of what follows them, under parameters that mostly stay."""
        mix = self.config.target_mix
        unadapted = frozen_weights(before)
        target = {n: torch.lerp(unadapted[n], after[n].detach(), mix) for n in after}
        total = rows.discounted_return + rows.tail_discount * value(target, rows.last_obs)
        return squared_error(value(after, rows.obs), total)


def frozen_weights(parameters: Mapping[str, Tensor]) -> Parameters:
    """Compute layers' weights without gradient."""
    return layer_weights({name: tensor.detach() for name, tensor in parameters.items()})


def positive(raw: Mapping[str, Tensor]) -> Parameters:
    """Read learned positive numbers, such as step sizes: their softplus, by name."""
    return {name: softplus(number) for name, number in raw.items()}
