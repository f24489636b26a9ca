"""The section of ``meta_train`` for the methods that learn to adapt by gradient."""

from __future__ import annotations

from dataclasses import dataclass, field

from smac_core.config import SliceConfig
from smac_core.maml.config import MamlConfig, MamlNetworkConfig


@dataclass(frozen=True)
class MamlTrainConfig:
    """The offline phase of MACAW and its relatives."""

    updates: int = 1_000_000
    replay: SliceConfig = field(default_factory=SliceConfig)  # outer rows; as SMAC's
    context: SliceConfig | None = None  # inner rows; None: the same as replay
    networks: MamlNetworkConfig = field(default_factory=MamlNetworkConfig)
    learner: MamlConfig = field(default_factory=MamlConfig)
