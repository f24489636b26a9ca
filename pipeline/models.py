"""Between checkpoints and the networks of smac_core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.checkpoint import Checkpoint, read_checkpoint
from smac_core.agent import Agent
from smac_core.config import NetworkConfig, SliceConfig
from smac_core.envs.definition import Environment
from smac_core.errors import CheckpointError
from smac_core.meta_agent import Loader, MetaAgent
from smac_core.plug_in import load_import
from smac_core.smac_agent import load_agent

FIX = "pass the checkpoint that the same environment and configuration made"
_NEEDED_OF_ALL = ("lineage", "round", "self_supervised_steps")
_NEEDED = (*_NEEDED_OF_ALL, "latent_dim", "networks", "sizes", "slices")


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
        return _slices(self.metadata["slices"])

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


def algorithm(metadata: Mapping[str, Any]) -> str:
    """Tell which learner made a checkpoint.

    Args:
        metadata: What the checkpoint says of itself.

    Returns:
        Its name; the first checkpoints, which name none, are SMAC's.
    """
    return str(metadata.get("algorithm", "smac"))


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
        "algorithm": "smac",
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
    _check_origin(checkpoint, env, current_round)
    if algorithm(checkpoint.metadata) != "smac":
        raise CheckpointError(
            "checkpoint of another algorithm",
            where=path,
            expected="smac",
            found=algorithm(checkpoint.metadata),
            fix="this stage serves SMAC's networks alone: give the method `rounds: none`",
        )
    _check_parameters(checkpoint)
    _check_finite(checkpoint)
    meta = checkpoint.metadata
    return TrainedModel(load_agent(checkpoint.tensors, meta), meta, checkpoint)


@dataclass(frozen=True)
class ActingModel:
    """A checkpoint of any method, as the evaluator sees it.

    Args:
        agent: What adapts.
        metadata: Everything the checkpoint says of itself.
    """

    agent: MetaAgent
    metadata: Mapping[str, Any]

    @property
    def slices(self) -> tuple[SliceConfig, SliceConfig]:
        """Which offline rows were replay, and which were context; all, where it does not say."""
        return _slices(self.metadata.get("slices", [{}, {}]))


def read_acting(
    path: Path, env: Environment, loader: str, *, current_round: int | None = None
) -> ActingModel:
    """Read a checkpoint of any method for acting.

    Args:
        path: The file.
        env: The environment that it must belong to.
        loader: ``agent`` of the configuration, ``package.module:function``.
        current_round: The round it must be of; None: any.

    Returns:
        The model.

    Raises:
        CheckpointError: Damaged, of another environment, method or shape, or of another round.
        ConfigError: There is no such loader.
    """
    load: Loader = load_import(loader, "agent of the method")
    checkpoint = read_checkpoint(path, env_id=env.env_id)
    _check_origin(checkpoint, env, current_round)
    meta = checkpoint.metadata
    if algorithm(meta) == "smac":
        _check_parameters(checkpoint)
    _check_finite(checkpoint)
    return ActingModel(load(checkpoint.tensors, meta, env), meta)


def _slices(documents: Sequence[Mapping[str, Any]]) -> tuple[SliceConfig, SliceConfig]:
    replay, context = (
        SliceConfig(**{**s, "sources": tuple(s.get("sources", ()))}) for s in documents
    )
    return replay, context


def _check_origin(checkpoint: Checkpoint, env: Environment, current_round: int | None) -> None:
    """Refuse a checkpoint of another program, environment or round."""
    path, meta = checkpoint.path, checkpoint.metadata
    needed = _NEEDED if algorithm(meta) == "smac" else _NEEDED_OF_ALL
    absent = [name for name in needed if name not in meta]
    if absent:
        raise CheckpointError(
            "no checkpoint of a learner", where=path, expected=", ".join(absent), fix=FIX
        )
    for name, size in (("obs_dim", env.obs_dim), ("action_dim", env.action_dim)):
        if meta.get(name) != size:
            raise CheckpointError(
                f"checkpoint of another {name}",
                where=path,
                expected=size,
                found=meta.get(name),
                fix=FIX,
            )
    if current_round is not None and meta["round"] != current_round:
        raise CheckpointError(
            "checkpoint of another round",
            where=path,
            expected=f"round {current_round}",
            found=f"round {meta['round']}",
            fix="pass the checkpoint of the round before; no round may be skipped",
        )


def _outer_widths(meta: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Compute the input and output width that each acting network must have."""
    obs, action, latent = (int(meta[f"{name}_dim"]) for name in ("obs", "action", "latent"))
    seen = obs + action + 1 + (obs if meta["networks"]["context_next_obs"] else 0)
    return {
        "policy": (obs + latent, 2 * action),
        "encoder": (seen, 2 * latent),
        "decoder": (obs + action + latent, 1),
    }


def _check_parameters(checkpoint: Checkpoint) -> None:
    """Refuse parameters that do not fit their layers, or are not finite."""
    path, meta = checkpoint.path, checkpoint.metadata
    for name, outer in _outer_widths(meta).items():
        widths = meta["sizes"].get(name, [0])
        if (widths[0], widths[-1]) != outer:
            raise CheckpointError(
                f"{name} of another shape",
                where=path,
                expected=f"{outer[0]} inputs and {outer[1]} outputs",
                found=f"{widths[0]} and {widths[-1]}",
                fix=FIX,
            )
        length = sum((i + 1) * o for i, o in pairwise(widths))
        found = checkpoint.tensors[name].shape if name in checkpoint.tensors else "none"
        if found != (length,):
            raise CheckpointError(
                f"parameters of {name} do not fit their layers",
                where=path,
                expected=f"{length} numbers",
                found=found,
                fix=FIX,
            )


def _check_finite(checkpoint: Checkpoint) -> None:
    for name, tensor in checkpoint.tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise CheckpointError(
                f"parameters of {name} are not finite",
                where=checkpoint.path,
                fix="train it again with a lower learning_rate",
            )
