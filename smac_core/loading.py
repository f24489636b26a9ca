"""What the loaders of methods that adapt by gradient ask of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from smac_core.errors import CheckpointError


def check_algorithm(metadata: Mapping[str, Any], algorithm: str, family: str, fix: str) -> None:
    """Refuse a checkpoint that another program made.

    Args:
        metadata: What the checkpoint says of itself.
        algorithm: What it must say.
        family: The methods that are of this algorithm, for the message.
        fix: What to do about it.

    Raises:
        CheckpointError: It says something else.
    """
    found = metadata.get("algorithm")
    if found != algorithm:
        raise CheckpointError(
            f"no checkpoint of {family}", expected=f"algorithm {algorithm}", found=found, fix=fix
        )


def grouped(
    tensors: Mapping[str, np.ndarray], drawn: Mapping[str, Mapping[str, np.ndarray]], fix: str
) -> dict[str, dict[str, np.ndarray]]:
    """Take meta-parameters out of a checkpoint, each of the shape that its learner began with.

    Args:
        tensors: Arrays as ``group/name``; there may be others, such as Adam's moments.
        drawn: Initial meta-parameters by group and name.
        fix: What to do about those that do not fit.

    Returns:
        The checkpoint's own by group and name.

    Raises:
        CheckpointError: One is missing, or of another shape.
    """
    groups: dict[str, dict[str, np.ndarray]] = {}
    for group, part in drawn.items():
        groups[group] = {}
        for own, array in part.items():
            name = f"{group}/{own}"
            found = tensors[name].shape if name in tensors else "none"
            if found != array.shape:
                raise CheckpointError(
                    f"{name} does not fit", expected=array.shape, found=found, fix=fix
                )
            groups[group][own] = tensors[name]
    return groups


def from_json(cls: type[Any], document: Mapping[str, Any]) -> Any:
    """Build a flat configuration from JSON, in which tuples are lists.

    Args:
        cls: The dataclass.
        document: Its fields.

    Returns:
        The configuration.
    """
    return cls(**{n: tuple(v) if isinstance(v, list) else v for n, v in document.items()})
