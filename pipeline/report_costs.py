"""What every method cost: gradient updates, environment steps, offline rows, seconds, memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import config as cf
from pipeline.report_data import EnvResults, Results
from pipeline.report_times import GUIDANCE, StageTime, needs_experts

COLLECTION = "collect"
_TRAINING = ("meta_train", "rollout", "relabel", "finetune")
_ALL = (*_TRAINING, "evaluate")


@dataclass(frozen=True)
class Cost:
    """What one stage of one method and seed took, all rounds together; or a sum of stages.

    Args:
        env: Environment.
        method: Name of the method; empty: of the collection, which all share.
        seed: The seed; empty for the collection.
        stage: Name of the stage; ``training``: all but evaluate; ``total``: all.
        jobs: Runs of the stage that left a record.
        updates: Gradient updates.
        rewarded_steps: Environment steps whose true reward was seen.
        unrewarded_steps: Environment steps without it.
        offline_rows: Offline transitions that the updates are drawn from, at most.
        seconds: Wall time.
        memory: Peak resident memory (MiB).
        of: Whose record this is, where the offline phase belongs to another method.
    """

    env: str
    method: str
    seed: int | str
    stage: str
    jobs: int = 0
    updates: int = 0
    rewarded_steps: int = 0
    unrewarded_steps: int = 0
    offline_rows: int = 0
    seconds: float = 0.0
    memory: float = 0.0
    of: str = ""


def costs(results: Results) -> list[Cost]:
    """Add up what every method cost.

    Args:
        results: What was read.

    Returns:
        Per environment the collection, experts and their demonstrations, then per method and seed
        its stages, and their sums; a stage without any record is left out.
    """
    out = []
    for env in results.envs:
        mine = [t for t in results.times if t.env == env.name]
        out += [_collection(env, t) for t in mine if t.stage == COLLECTION]
        out += [_guidance(t) for t in mine if t.stage in GUIDANCE]
        for method in env.methods:
            for seed in results.run.seeds:
                stages = [
                    cost
                    for stage in _ALL
                    if (cost := _stage(results, env, method.name, seed, stage, mine)) is not None
                ]
                training = [cost for cost in stages if cost.stage in _TRAINING]
                out += stages
                out += [_sum("training", training)] if training else []
                out += [_sum("total", stages)] if stages else []
    return out


def _collection(env: EnvResults, time: StageTime) -> Cost:
    steps = int((env.collection or {}).get("transitions", 0)) or sum(_sources(env, ()))
    counted = env.collection_metrics.get("update", np.zeros(0)).tolist()
    return Cost(
        *(env.name, "", "", COLLECTION, 1),
        updates=int(max(counted[-1:], default=0)),
        rewarded_steps=steps,
        seconds=time.seconds,
        memory=time.memory,
    )


def _guidance(time: StageTime) -> Cost:
    return Cost(
        *(time.env, "", "", time.stage, 1),
        updates=time.updates,
        rewarded_steps=time.steps,
        seconds=time.seconds,
        memory=time.memory,
    )


def _sources(env: EnvResults, names: tuple[str, ...]) -> list[int]:
    sources = (env.collection or {}).get("sources") or {}
    return [int(row["transitions"]) for name, row in sources.items() if not names or name in names]


def _stage(
    results: Results, env: EnvResults, method: str, seed: int, stage: str, times: list[StageTime]
) -> Cost | None:
    owner = cf.offline_method(results.run, method) if stage == "meta_train" else method
    # A round 0 that two methods share was evaluated once, and counts for each.
    owners = {owner, cf.offline_method(results.run, method)} if stage == "evaluate" else {owner}
    found = [
        time
        for time in times
        if time.stage == stage
        and time.seed == seed
        and (time.method == method or (time.method in owners and time.round == 0))
    ]
    if stage == "evaluate" and any(t.method == method and t.round == 0 for t in found):
        found = [t for t in found if t.method == method]
    if not found:
        return None
    steps, updates = (sum(getattr(time, name) for time in found) for name in ("steps", "updates"))
    # Who steps in the offline phase already, learns on-policy from the environment's rewards.
    seen = stage == "meta_train" or _rewarded(results, env.name, method)
    rewarded = steps > 0 and seen
    return Cost(
        *(env.name, method, seed, stage, len(found)),
        updates=updates,
        rewarded_steps=steps if rewarded else 0,
        unrewarded_steps=0 if rewarded else steps,
        # A phase without updates, such as that of PEARL from scratch, learns from no row.
        offline_rows=_offline_rows(results, env, owner) if stage == "meta_train" and updates else 0,
        seconds=sum(time.seconds for time in found),
        memory=max(time.memory for time in found),
        of=owner if owner != method else "",
    )


def _rewarded(results: Results, env: str, method: str) -> bool:
    """Tell whether the self-supervised phase sees true rewards."""
    section = cf.stage_config(results.run, "relabel", env, method)
    return getattr(section, "rewards", "decoder") == "environment"


def _offline_rows(results: Results, env: EnvResults, method: str) -> int:
    """Count the rows of the replay slice, from its settings and the record of the collection."""
    section: Any = cf.stage_config(results.run, "meta_train", env.name, method)
    replay = getattr(section, "replay", None)
    if replay is None:  # it learns on-policy, with demonstrations where it needs experts
        shown = [t.steps for t in results.times if (t.env, t.stage) == (env.name, GUIDANCE[1])]
        return sum(shown) if needs_experts(results.run, method) else 0
    every = sum(_sources(env, tuple(getattr(replay, "sources", ()))))
    rows = getattr(replay, "rows", 0)
    if getattr(replay, "take", "all") == "all" or not rows:
        return every
    return min(rows * len(env.tasks.train), every)


def _sum(stage: str, parts: list[Cost]) -> Cost:
    added = {
        name: sum(getattr(part, name) for part in parts)
        for name in ("jobs", "updates", "rewarded_steps", "unrewarded_steps", "seconds")
    }
    largest = {
        name: max(getattr(part, name) for part in parts) for name in ("offline_rows", "memory")
    }
    return dataclasses.replace(parts[0], stage=stage, of="", **added, **largest)


def cost_rows(found: list[Cost]) -> Iterator[tuple[object, ...]]:
    """List what every method cost.

    Args:
        found: The costs.

    Yields:
        The head, then the rows.
    """
    yield (
        *("environment", "method", "seed", "stage", "jobs", "gradient_updates"),
        *("steps_with_true_reward", "steps_without_reward", "offline_rows"),
        *("wall_seconds", "peak_memory_mib", "recorded_by"),
    )
    for cost in found:
        fields = dataclasses.astuple(cost)
        yield (*fields[:9], round(cost.seconds, 3), *fields[10:])
