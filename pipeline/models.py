"""Between checkpoints and the networks of smac_core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.checkpoint import Checkpoint, read_checkpoint
from smac_core.agent import Agent, make_agent
from smac_core.config import NetworkConfig, SliceConfig
from smac_core.envs.definition import Environment
from smac_core.errors import CheckpointError

FIX = "pass the checkpoint that the same environment and configuration made"


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint as the acting side sees it.

    Args:
        agent: Policy, encoder and decoder.
        metadata: Everything the checkpoint says of itself.
        checkpoint: The file's content.
    """

    agent: Agent
    metadata: Mapping[str, Any]
    checkpoint: Checkpoint

    @property
    def round(self) -> int:
        """Self-supervised rounds so far."""
        return int(self.metadata["round"])

    @property
    def slices(self) -> tuple[SliceConfig, SliceConfig]:
        """Which offline rows were replay, and which were context."""
        replay, context = (dict(s) for s in self.metadata["slices"])
        return (
            SliceConfig(**{**replay, "sources": tuple(replay["sources"])}),
            SliceConfig(**{**context, "sources": tuple(context["sources"])}),
        )

    @property
    def networks(self) -> NetworkConfig:
        """Widths of the networks."""
        return network_config(self.metadata["networks"])


def network_config(document: Mapping[str, Any]) -> NetworkConfig:
    """Rebuild the network widths from JSON.

    Args:
        document: As ``asdict`` and JSON left it.

    Returns:
        The configuration.
    """
    widths: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
    }
    return NetworkConfig(**widths)


def checkpoint_metadata(
    env: Environment, networks: NetworkConfig, sizes: Mapping[str, tuple[int, ...]]
) -> dict[str, object]:
    """Describe what a checkpoint's arrays mean.

    Args:
        env: The environment.
        networks: Hidden widths.
        sizes: All layer widths of each network.

    Returns:
        JSON metadata.
    """
    return {
        "env_id": env.env_id,
        "obs_dim": env.obs_dim,
        "action_dim": env.action_dim,
        "latent_dim": networks.latent_dim,
        "networks": asdict(networks),
        "sizes": {name: list(widths) for name, widths in sizes.items()},
    }


def read_model(path: Path, env: Environment, *, current_round: int | None = None) -> TrainedModel:
    """Read a checkpoint for acting.

    Args:
        path: The file.
        env: The environment that it must belong to.
        current_round: The round it must be of; None: any.

    Returns:
        The model.

    Raises:
        CheckpointError: Damaged, of another environment or shape, or of another round.
    """
    checkpoint = read_checkpoint(path, env_id=env.env_id)
    meta = checkpoint.metadata
    for name, size in (("obs_dim", env.obs_dim), ("action_dim", env.action_dim)):
        if meta.get(name) != size:
            raise CheckpointError(
                f"checkpoint of another {name}",
                where=path,
                expected=size,
                found=meta.get(name),
                fix=FIX,
            )
    if current_round is not None and meta.get("round") != current_round:
        raise CheckpointError(
            "checkpoint of another round",
            where=path,
            expected=f"round {current_round}",
            found=f"round {meta.get('round')}",
            fix="pass the checkpoint of the round before; no round may be skipped",
        )
    for name in ("policy", "encoder", "decoder"):
        widths = meta.get("sizes", {}).get(name, [])
        length = sum((i + 1) * o for i, o in pairwise(widths))
        tensor = checkpoint.tensors.get(name, np.zeros(0, np.float32))
        if tensor.shape != (length,) or not length:
            raise CheckpointError(
                f"parameters of {name} do not fit their layers",
                where=path,
                expected=f"{length} numbers",
                found=tensor.shape,
                fix=FIX,
            )
        if not np.isfinite(tensor).all():
            raise CheckpointError(
                f"parameters of {name} are not finite",
                where=path,
                fix="train it again with a lower learning_rate",
            )
    agent = make_agent(
        checkpoint.tensors,
        meta["sizes"],
        int(meta["latent_dim"]),
        context_next_obs=bool(meta["networks"]["context_next_obs"]),
        softplus_is_std=meta.get("posterior_variance") == "std",
    )
    return TrainedModel(agent, meta, checkpoint)
