"""The configuration of Guided Meta-Policy Search; defaults are its released code's for the ant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class GmpsNetworkConfig:
    """A Gaussian policy: ReLU layers, a linear mean, one learned log-std for all states."""

    policy: tuple[int, ...] = (100, 100)
    bias_dim: int = 4  # of the learned vector beside the observation; 0: none
    initial_std: float = 1.0
    obs_mean: tuple[float, ...] = ()  # the first layer is drawn as for observations less this,
    obs_spread: tuple[float, ...] = ()  # over this; empty: for observations as they are
    convolution: bool = False  # before the layers, for pictures; the inner step leaves it alone
    encoder_updates: int = 0  # that fit convolutions, which then stay; 0: all learn together


@dataclass(frozen=True)
class GmpsConfig:
    """The inner step, what is measured after it, and the data of both."""

    outer: Literal["imitation", "policy-gradient"] = "imitation"  # policy-gradient: MAML-PG
    inner_steps: int = 1
    test_steps: int | None = None  # the same at meta-test; None: as many as in training
    second_order: bool = True
    discount: float = 0.99
    gae_lambda: float = 1.0
    baseline: Literal["linear", "time", "none"] = "linear"  # time: of the step alone
    baseline_ridge: float = 1e-5
    rates: Literal["element", "scalar", "fixed"] = "element"  # how many step sizes are learned
    initial_rate: float = 0.5  # inner step size, learned from there with its sign
    ratio_limits: tuple[float, float] | None = (0.5, 2.0)  # of the importance ratio; None: none
    learning_rate: float = 1e-3  # of everything that is meta-learned
    exploration_episodes: int = 50  # a task and on-policy batch, for one inner step
    draws_per_task: int = 1  # how many such sets of episodes, each adapted to on its own
    outer_episodes: int = 2  # policy-gradient: of each adapted policy
    outer_clip: float | None = None  # policy-gradient: of the ratio, as in PPO; None: ratio_limits
    updates_per_batch: int = 500
    num_tasks: int | None = None  # inner steps behind one update; None: those of the whole batch
    outer_rows: int = 256  # imitation: demonstration rows of a task and update
    aggregate_every: int = 0  # iterations between visits that the expert labels; 0: none
    device: Literal["auto", "cpu", "cuda"] = "cpu"  # rollouts stand between few and small updates
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
