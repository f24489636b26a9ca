"""The sections of `oracle-scratch`: PEARL with true rewards, round by round, from fresh weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from smac_core.config import NetworkConfig, PearlConfig, SliceConfig


@dataclass(frozen=True)
class PearlStartConfig:
    """What PEARL starts from; it takes no update on the offline data."""

    networks: NetworkConfig = field(default_factory=NetworkConfig)
    learner: PearlConfig = field(default_factory=PearlConfig)
    replay: SliceConfig = field(default_factory=SliceConfig)  # for the evaluator's offline arm
    context: SliceConfig | None = None  # None: the same rows as replay


@dataclass(frozen=True)
class PearlRoundConfig:
    """The updates that follow one round of visits with true rewards."""

    updates: int = 16000
    learner: PearlConfig = field(default_factory=PearlConfig)
