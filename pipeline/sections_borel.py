"""The section of BOReL's `meta_train`; the Snakefile reads it, so it reaches no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from smac_core.borel.config import BeliefConfig, HyperSacConfig
from smac_core.config import SliceConfig


@dataclass(frozen=True)
class BorelLearnerConfig:
    """Where and how precisely to compute, and how often to tell."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    log_every: int = 500  # updates between rows of metrics.csv


def _paper_slice() -> SliceConfig:
    return SliceConfig(take="last", rows=1200)  # C.2; that of the environment's file comes first


@dataclass(frozen=True)
class BorelTrainConfig:
    """The offline phase: first the belief, then SAC on what it believes."""

    updates: int = 1_000_000  # of the policy, after belief.updates; released code, HalfCheetah
    replay: SliceConfig = field(default_factory=_paper_slice)
    episodes: int = 3  # a trajectory, as many as at meta-test; released code: 2
    relabel_probability: float = 0.63  # of foreign episodes; 0: borel-no-rr
    belief: BeliefConfig = field(default_factory=BeliefConfig)
    sac: HyperSacConfig = field(default_factory=HyperSacConfig)
    learner: BorelLearnerConfig = field(default_factory=BorelLearnerConfig)
