"""The section of ``meta_train`` for Guided Meta-Policy Search and MAML with policy gradient."""

from __future__ import annotations

from dataclasses import dataclass, field

from smac_core.gmps.config import GmpsConfig, GmpsNetworkConfig


@dataclass(frozen=True)
class GmpsTrainConfig:
    """On-policy batches with true rewards, and the demonstrations that guide them."""

    iterations: int = 5  # on-policy batches
    demonstrations: int | None = None  # episodes of a task that are used; None: all
    evaluate_every: int = 1  # iterations between points of the learning curve; 0: none
    evaluate_repeats: int = 1  # meta-episodes of a task behind such a point
    evaluate_explored: int = 2  # exploration episodes of such a meta-episode
    networks: GmpsNetworkConfig = field(default_factory=GmpsNetworkConfig)
    learner: GmpsConfig = field(default_factory=GmpsConfig)
