"""What a stage took, from its manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline import config as cf

GUIDANCE = ("experts", "demonstrations")  # what stands behind methods that need experts
_SEED, _ROUND = re.compile(r"seed(\d+)"), re.compile(r"round(\d+)")


@dataclass(frozen=True)
class StageTime:
    """What one run of a stage took.

    Args:
        env: Environment.
        stage: Name of the stage.
        seconds: Wall time.
        memory: Peak resident memory (MiB).
        device: Where it computed.
        method: Name of the method; empty: it belongs to the environment.
        seed: Of the method; None: it has none.
        round: 0 is the offline phase.
        updates: Gradient updates taken.
        steps: Environment steps taken for training.
    """

    env: str
    stage: str
    seconds: float
    memory: float
    device: str
    method: str = ""
    seed: int | None = None
    round: int = 0
    updates: int = 0
    steps: int = 0


def needs_experts(run: cf.RunConfig, method: str) -> bool:
    """Tell whether experts and their demonstrations stand behind a method.

    Args:
        run: The preset.
        method: The method.

    Returns:
        Whether its offline phase needs them.
    """
    offline = cf.offline_method(run, method)
    return "experts" in cf.method_config(run, offline).needs


def stage_time(env: str, place: str, manifest: Mapping[str, Any]) -> StageTime:
    """Read what a stage took.

    Args:
        env: The environment.
        place: Path of the manifest below the results, which says whose it is.
        manifest: Its fields.

    Returns:
        The record.
    """
    parts = PurePosixPath(place).parts
    seeds = [i for i, part in enumerate(parts) if _SEED.fullmatch(part)]
    rounds = [int(found[1]) for part in parts if (found := _ROUND.fullmatch(part))]
    stage = str(manifest["stage"])
    # Every step of these was with true reward, so their manifests count transitions alone.
    steps = manifest.get("transitions" if stage in GUIDANCE else "environment_steps", 0)
    return StageTime(
        env,
        stage,
        float(manifest["wall_time_s"]),
        float(manifest["peak_memory_mib"]),
        str(manifest.get("device", "cpu")),
        method=parts[seeds[0] - 1] if seeds else "",
        seed=int(parts[seeds[0]].removeprefix("seed")) if seeds else None,
        round=rounds[0] if rounds else 0,
        updates=int(manifest.get("updates", 0)),
        steps=int(steps),
    )
