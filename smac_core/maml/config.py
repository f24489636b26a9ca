"""The configuration of the MAML methods: frozen dataclasses whose defaults are MACAW's own values.

Where MACAW's released code does something that looks like a slip, the default is what seems meant
and a key brings the released behaviour back; docs/deviations.md lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Loss = Literal["awr", "bc", "policy-gradient"]


@dataclass(frozen=True)
class MamlNetworkConfig:
    """Widths of policy, value function and advantage head; ReLU, no normalisation."""

    policy: tuple[int, ...] = (100, 100, 100)
    value: tuple[int, ...] = (100, 100, 100)
    advantage_head: int = 32  # hidden units
    layer: Literal["weight-transform", "plain"] = "weight-transform"
    layer_latent_dim: int = 100  # of each weight-transform layer
    action_std: float = 0.2  # of the Gaussian around the mean, in training and in exploration


@dataclass(frozen=True)
class MamlConfig:
    """One meta-gradient step: the losses, the batch, the step sizes."""

    inner: Loss = "awr"
    outer: Loss = "awr"
    inner_steps: int = 1  # of value function and policy each
    test_steps: int | None = None  # the same at meta-test; None: as many as in training
    second_order: bool = True
    num_tasks: int = 5  # meta-batch size
    inner_rows: int = 256  # consecutive rows of a task
    outer_rows: int = 256  # independent rows of a task
    discount: float = 0.99
    reward_scale: float = 1.0  # in returns; advantages are standardised whatever it is
    policy_learning_rate: float = 1e-4
    value_learning_rate: float = 1e-5
    rates: Literal["tensor", "element"] = "tensor"  # how many inner step sizes are learned
    initial_rate: float = 1e-3  # inner step size; learned from there
    rate_learning_rate: float = 1e-3  # of inner step sizes and of the advantage head's weight
    head_weight: float = 0.01  # of the advantage head's loss; learned from there
    head_relu: Literal["hidden", "all"] = "hidden"  # released code: all, which cuts actions at 0
    advantage_norm: Literal["std", "none"] = "std"
    max_weight: float = 20.0  # of a row in advantage-weighted regression
    weight_clip: Literal["upper", "both"] = "upper"  # both: at least 1 / max_weight too
    bootstrap_terminal: bool = False  # released code: adds V after a terminal state too
    bootstrap_cut: bool = True  # inner value target of episodes that the data cut; released: never
    target_mix: float = 0.1  # share of adapted parameters in the outer value target
    ratio_limits: tuple[float, float] = (0.5, 2.0)  # of the policy gradient's importance ratio
    over_tasks: Literal["vmap", "loop"] = (
        "vmap"  # loop: the memory of one task, 1.1 to 5 times slower
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    log_every: int = 500  # updates between rows of metrics.csv


def needs_values(config: MamlConfig) -> bool:
    """Tell whether a method learns a value function: all but cloning alone weigh by advantages."""
    return config.inner != "bc" or config.outer != "bc"
