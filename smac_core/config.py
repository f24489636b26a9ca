"""The configuration of the method: frozen dataclasses whose defaults are the paper's common values.

The values are those of Tables 1-2 of the paper where the released code agrees, else the
"recommended" column that docs/deviations.md lists.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ACTORS = ("awac", "bc", "policy-gradient")  # of LearnerConfig, beside import strings


@dataclass(frozen=True)
class NetworkConfig:
    """Widths of the hidden layers; every network is a ReLU MLP without normalisation."""

    encoder: tuple[int, ...] = (200, 200, 200)  # released code, hard-coded
    decoder: tuple[int, ...] = (64, 64)
    critic: tuple[int, ...] = (300, 300, 300)
    policy: tuple[int, ...] = (300, 300, 300)
    latent_dim: int = 5
    context_next_obs: bool = False  # D12: [s, a, r, s'] contexts for dynamics tasks


@dataclass(frozen=True)
class LearnerConfig:
    """One gradient step: meta-batch sizes, loss weights, step sizes."""

    num_tasks: int = 4  # meta-batch size
    rows_per_task: int = 128  # released code offline; 256 online
    context_size: int = 64  # encoder batch of Table 1
    learning_rate: float = 3e-4
    discount: float = 0.99
    reward_scale: float = 5.0  # in the Bellman target only
    target_update_rate: float = 0.005
    kl_weight: float = 0.1  # D4: Eq. 3 has 1
    actor: str = "awac"  # awac, bc, policy-gradient, or package.module:function (ActorLoss)
    awac_temperature: float = 100.0  # the paper's lambda; softmax(A / temperature) * N
    awac_weight: float = 1.0
    policy_gradient_weight: float = 0.0  # lambda_pearl: 0 offline, 1 in the self-supervised phase
    entropy_weight: float = 0.0  # D6: the released code has no entropy term
    train_model: bool = True  # encoder and decoder; off in the self-supervised phase
    target_latent: Literal["same", "fresh"] = "same"  # D7: released code draws a second z
    target_init: Literal["independent", "copy"] = "independent"  # D8
    posterior_variance: Literal["variance", "std"] = "variance"  # D3: what softplus gives
    kl_reduction: Literal["mean", "sum"] = "mean"  # over tasks; PEARL sums
    device: Literal["auto", "cpu", "cuda"] = "auto"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    updates_per_graph: int = 20  # on a GPU: updates a captured CUDA graph
    data_on: Literal["auto", "device", "host"] = "auto"  # on a GPU: where the rows live
    log_every: int = 500  # updates between rows of metrics.csv


@dataclass(frozen=True)
class PearlConfig:
    """PEARL with true rewards, as the paper's data were made (smac-reference section 4)."""

    num_tasks: int = 4
    rows_per_task: int = 256
    context_size: int = 64
    learning_rate: float = 3e-4
    discount: float = 0.99
    reward_scale: float = 5.0
    target_update_rate: float = 0.005
    kl_weight: float = 0.1
    entropy_weight: float = 1.0
    mean_penalty: float = 1e-3
    log_std_penalty: float = 1e-3
    train_decoder: bool = True  # the rlkit variant; off in the original
    device: Literal["auto", "cpu", "cuda"] = "auto"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    updates_per_graph: int = 20  # on a GPU: updates a captured CUDA graph
    data_on: Literal["auto", "device", "host"] = "auto"  # on a GPU: where the rows live
    log_every: int = 500


@dataclass(frozen=True)
class AdaptationConfig:
    """The meta-test protocol (smac-reference section 6)."""

    episodes: int = 3
    exploration_episodes: int = 2
    repeats: int = 4
    resample_latent: Literal["episode", "step"] = "episode"  # released code: step
    count: Literal["episodes", "transitions"] = "episodes"  # released code: transitions
    min_transitions: int = 600  # with count: transitions
    context_size: int = 256  # equal for offline and online contexts in the shift measurement


@dataclass(frozen=True)
class VisitConfig:
    """One collection visit to a task: prior episodes, then posterior episodes."""

    prior_steps: int = 400
    posterior_steps: int = 600
    resample_latent: Literal["episode", "step"] = "step"  # released code: every step
    context_size: int = 256


@dataclass(frozen=True)
class SliceConfig:
    """Which rows of a task's collected data a phase sees, in collection order."""

    take: Literal["all", "first", "last"] = "all"
    rows: int = 0  # with first or last: how many transitions per task
    sources: tuple[str, ...] = field(default=())  # empty: every source
