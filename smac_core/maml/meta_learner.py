"""Meta-parameters with their Adam: what every learner of the MAML engine keeps between updates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from smac_core.parameters import adam, read_scalars

Groups = dict[str, dict[str, Tensor]]


def to_groups(arrays: Mapping[str, Mapping[str, np.ndarray]], device: torch.device) -> Groups:
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


class MetaLearner:
    """Meta-parameters in groups, one step size a group.

    Args:
        arrays: Initial meta-parameters by group and name.
        learning_rates: By group.
        device: Where to compute.
    """

    def __init__(
        self,
        arrays: Mapping[str, Mapping[str, np.ndarray]],
        learning_rates: Mapping[str, float],
        device: torch.device,
    ) -> None:
        self.device, self.learning_rates = device, learning_rates
        self.meta = to_groups(arrays, device)
        self.moments = {
            kind: {
                g: {n: torch.zeros_like(p) for n, p in part.items()}
                for g, part in self.meta.items()
            }
            for kind in ("exp_avg", "exp_avg_sq")
        }
        self.num_updates = 0
        self.metrics: dict[str, Tensor] = {}

    def step(self, gradients: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take one step of Adam on every group.

        Args:
            gradients: Shaped like the meta-parameters.
        """
        self.num_updates += 1
        for group, gradient in gradients.items():
            self._adam(group, gradient)

    def _adam(self, group: str, gradient: Mapping[str, Tensor]) -> None:
        names = list(gradient)
        count = torch.tensor(float(self.num_updates), device=self.device)
        first, second = (
            [self.moments[kind][group][n] for n in names] for kind in ("exp_avg", "exp_avg_sq")
        )
        adam(
            [self.meta[group][n] for n in names],
            [gradient[n].contiguous() for n in names],
            (first, second),
            [count] * len(names),
            self.learning_rates[group],
        )

    def read_metrics(self) -> list[dict[str, float]]:
        """Read the last update's metrics.

        Returns:
            Of the one seed, one number a metric.

        Raises:
            NonFiniteError: A loss is not finite.
        """
        return read_scalars(self.metrics, self.num_updates)

    def _parts(self) -> dict[str, Groups]:
        return {"": self.meta} | {f"adam/{kind}/": held for kind, held in self.moments.items()}

    def state(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Copy everything that the next update depends on.

        Args:
            seed: Which of the stacked seeds: there is one.

        Returns:
            Arrays by name: parameters as ``group/name``, Adam's moments, the update count.
        """
        assert seed == 0
        out = {"num_updates": np.array([self.num_updates], dtype=np.int64)}
        for prefix, groups in self._parts().items():
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
        for prefix, groups in self._parts().items():
            for group, tensors in groups.items():
                for name, tensor in tensors.items():
                    array = state[f"{prefix}{group}/{name}"]
                    if array.shape != tuple(tensor.shape):
                        raise ValueError(f"{prefix}{group}/{name}: shape {array.shape}")
                    tensor.copy_(torch.from_numpy(np.array(array)))
        self.num_updates = int(state["num_updates"][0])
