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
from smac_core.maml.networks import initial_network
from smac_core.maml.objective import Meta, Objective, TaskBatch, TaskRows, positive
from smac_core.networks import Shapes
from smac_core.parameters import BETA1, BETA2, EPSILON, read_scalars


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


def to_meta(arrays: Mapping[str, Mapping[str, np.ndarray]], device: torch.device) -> Meta:
    """Hand meta-parameters to torch; the tensors are copies.

    Args:
        arrays: By group and name.
        device: Where they go.

    Returns:
        The tensors.
    """
    return {
        group: {name: torch.tensor(array, device=device) for name, array in part.items()}
        for group, part in arrays.items()
    }


class MamlLearner:
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
        self.config, self.device = config, device
        self.objective = Objective(config, networks.action_std)
        self.meta = to_meta(initial_meta(shapes, networks, config, seed), device)
        self.moments = {
            kind: {
                g: {n: torch.zeros_like(p) for n, p in part.items()}
                for g, part in self.meta.items()
            }
            for kind in ("exp_avg", "exp_avg_sq")
        }
        self.num_updates = 0
        self.metrics: dict[str, Tensor] = {}

    def update(self, batch: TaskBatch) -> None:
        """Take one meta-gradient step on everything that is meta-learned.

        Args:
            batch: Rows of M tasks ``[M, B, …]``.

        Source: baselines.md section 2, "Outer loop"; the mean over the batch's tasks.
        """
        gradients, loss, metrics = meta_gradient(
            self.objective.task_loss, self.meta, batch, self.config.over_tasks
        )
        self.num_updates += 1
        for group, gradient in gradients.items():
            self._adam(group, gradient)
        metrics |= {"loss": loss, **self._mean_rates()}
        self.metrics = {name: number.detach().reshape(1) for name, number in metrics.items()}

    def _adam(self, group: str, gradient: Mapping[str, Tensor]) -> None:
        names = list(gradient)
        count = torch.tensor(float(self.num_updates), device=self.device)
        rates = {
            "policy": self.config.policy_learning_rate,
            "value": self.config.value_learning_rate,
        }
        torch._fused_adam_(  # type: ignore[attr-defined]
            [self.meta[group][n] for n in names],
            [gradient[n].contiguous() for n in names],
            [self.moments["exp_avg"][group][n] for n in names],
            [self.moments["exp_avg_sq"][group][n] for n in names],
            [],
            [count] * len(names),
            lr=rates.get(group, self.config.rate_learning_rate),
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def _mean_rates(self) -> dict[str, Tensor]:
        """Average the step sizes that the inner loop uses now."""
        return {
            group.removesuffix("s"): torch.stack(
                [rate.mean() for rate in positive(self.meta[group]).values()]
            ).mean()
            for group in ("policy_rates", "value_rates")
            if group in self.meta
        }

    def read_metrics(self) -> list[dict[str, float]]:
        """Read the last update's metrics.

        Returns:
            Of the one seed, one number a metric.

        Raises:
            NonFiniteError: A loss is not finite.
        """
        return read_scalars(self.metrics, self.num_updates)

    def state(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Copy everything that the next update depends on.

        Args:
            seed: Which of the stacked seeds: there is one.

        Returns:
            Arrays by name: parameters as ``group/name``, Adam's moments, the update count.
        """
        assert seed == 0
        out = {"num_updates": np.array([self.num_updates], dtype=np.int64)}
        parts = {"": self.meta} | {f"adam/{kind}/": held for kind, held in self.moments.items()}
        for prefix, groups in parts.items():
            for group, tensors in groups.items():
                for name, tensor in tensors.items():
                    out[f"{prefix}{group}/{name}"] = tensor.detach().cpu().numpy().copy()
        return out

    def load_state(self, state: Mapping[str, np.ndarray], seed: int = 0) -> None:
        """Restore what ``state`` copied, in place.

        Args:
            state: As returned by ``state``.
            seed: Which of the stacked seeds: there is one.

        Raises:
            KeyError: A tensor is missing.
            ValueError: A tensor has another shape.
        """
        assert seed == 0
        parts = {"": self.meta} | {f"adam/{kind}/": held for kind, held in self.moments.items()}
        for prefix, groups in parts.items():
            for group, tensors in groups.items():
                for name, tensor in tensors.items():
                    array = state[f"{prefix}{group}/{name}"]
                    if array.shape != tuple(tensor.shape):
                        raise ValueError(f"{prefix}{group}/{name}: shape {array.shape}")
                    tensor.copy_(torch.from_numpy(np.array(array)))
        self.num_updates = int(state["num_updates"][0])


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
