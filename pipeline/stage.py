"""What every stage does around its work: resolve the config, refuse early, leave a manifest.

The loop over the seeds of one job stands here and nowhere else: a stage's work is that of one seed.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.config import EnvConfig, declared_needs, plug_ins, resolved
from pipeline.files import lock, require_writable
from pipeline.imports import code_digest
from pipeline.manifest import path_digest, write_manifest
from pipeline.needs import check_needs
from pipeline.rounds import every_round
from pipeline.task_list import read_tasks
from smac_core.envs.definition import Environment
from smac_core.envs.lookup import load_environment
from smac_core.errors import ConfigError

_ONE_A_SEED = ("out", "checkpoint", "rollout")
_EVERY_ROUND = ("rollouts", "rewards")


@dataclass(frozen=True)
class StageRun:
    """One run of a stage, for one seed.

    Args:
        stage: Its name.
        args: The parsed command line.
        env_config: The environment's section.
        section: The stage's own section, a dataclass of pipeline.sections.
        env: The environment.
        started: ``time.monotonic()`` at the start.
        module: What runs in place of the stage's own module; empty: that one.
    """

    stage: str
    args: argparse.Namespace
    env_config: EnvConfig
    section: Any
    env: Environment
    started: float = field(default_factory=time.monotonic)
    module: str = ""

    @property
    def seed(self) -> int | None:
        """Seed of the method, or None for a stage of the environment."""
        seed: int | None = getattr(self.args, "seed", None)
        return seed

    @property
    def code_digest(self) -> str:
        """Digest of all code that this stage reaches."""
        named = [self.env_config.definition, *plug_ins(self.section)]
        roots = tuple(sorted({name.partition(":")[0] for name in named}))
        return _digest(self.module or f"pipeline.{self.stage}", roots)

    def key(self, inputs: Mapping[str, Path]) -> dict[str, object]:
        """Gather everything that the result depends on, to name the state of a killed run.

        Args:
            inputs: Files and stores read, by name.

        Returns:
            Configuration, seed, and digests of the code and of the inputs.
        """
        return {
            "env": asdict(self.env_config),
            "section": asdict(self.section),
            "seed": self.seed,
            "code": self.code_digest,
            "inputs": {name: path_digest(path) for name, path in inputs.items()},
        }

    def finish(
        self,
        inputs: Mapping[str, Path],
        outputs: Mapping[str, Path],
        extra: Mapping[str, object] | None = None,
        manifest: Path | None = None,
    ) -> None:
        """Write the manifest beside the outputs.

        Args:
            inputs: Files and stores read, by name.
            outputs: Files and stores written, by name.
            extra: More fields.
            manifest: Where; None: ``manifest.json`` beside ``--out``.
        """
        write_manifest(
            manifest or self.args.out.parent / "manifest.json",
            stage=self.stage,
            config={"env": asdict(self.env_config), "section": asdict(self.section)},
            seed=self.seed,
            code_digest=self.code_digest,
            inputs=inputs,
            outputs=outputs,
            started=self.started,
            extra=extra,
        )


@functools.cache
def _digest(module: str, roots: tuple[str, ...]) -> str:
    # Once a process: its code does not change while it runs, and every seed's manifest asks.
    return code_digest(module, roots)


def begin(stage: str, args: argparse.Namespace, module: str = "") -> StageRun:
    """Resolve the configuration and check that the output can be written.

    Args:
        stage: Name of the stage.
        args: The parsed command line.
        module: What runs in place of the stage's own module; empty: that one.

    Returns:
        The run.

    Raises:
        ConfigError: A fault in the configuration.
        OutputError: The output folder cannot be written, or another process writes there.
        StoreError: The offline data lack what the method needs.
    """
    env_config, section = resolved(stage, args.config, args.env, getattr(args, "method", None))
    require_writable(args.out.parent)
    env = load_environment(env_config.definition, env_config.params)
    if stage == "meta_train":
        needs = declared_needs(args.config, args.method)
        check_needs(args.method, needs, args.transitions, read_tasks(args.tasks, env).train)
    return StageRun(stage, args, env_config, section, env, module=module)


def split_seeds(args: argparse.Namespace) -> list[argparse.Namespace]:
    """Divide the command line of several seeds into one for each.

    Args:
        args: Parsed with ``many_seeds``: per-seed options hold lists, all of the first seed first.

    Returns:
        Per seed what a job of that seed alone is given.

    Raises:
        ConfigError: A seed is given twice, or paths do not go round.
    """
    seeds = list(args.seed)
    if len(set(seeds)) < len(seeds):
        raise ConfigError("twice the same seed", where="--seed", found=seeds)
    given = {n: getattr(args, n) for n in (*_ONE_A_SEED, *_EVERY_ROUND) if hasattr(args, n)}
    for name, paths in given.items():
        if len(paths) % len(seeds) or (name in _ONE_A_SEED and len(paths) != len(seeds)):
            raise ConfigError(
                "paths that do not go round the seeds",
                where=f"--{name}",
                expected="one a seed" if name in _ONE_A_SEED else "as many for each seed",
                found=f"{len(paths)} paths for {len(seeds)} seeds",
            )
    return [
        argparse.Namespace(
            **{**vars(args), "seed": seed, **_share_of(given, place, len(seeds))},
        )
        for place, seed in enumerate(seeds)
    ]


def _share_of(given: Mapping[str, list[Path]], place: int, num_seeds: int) -> dict[str, Any]:
    """Pick the paths of one seed."""
    shares: dict[str, Any] = {}
    for name, paths in given.items():
        size = len(paths) // num_seeds
        share = paths[place * size : (place + 1) * size]
        shares[name] = share[0] if name in _ONE_A_SEED else every_round(share)
    return shares


@contextmanager
def begin_seeds(stage: str, args: argparse.Namespace, module: str = "") -> Iterator[list[StageRun]]:
    """Begin a job of one or several seeds, and hold their output folders.

    Args:
        stage: Name of the stage.
        args: The command line, parsed with ``many_seeds``.
        module: What runs in place of the stage's own module; empty: that one.

    Yields:
        One run a seed.

    Raises:
        ConfigError: A fault in the configuration or the command line.
        OutputError: An output folder cannot be written, or another process writes there.
    """
    first, *others = split_seeds(args)
    run = begin(stage, first, module)
    for other in others:
        require_writable(other.out.parent)
    with ExitStack() as held:
        for one in (first, *others):
            held.enter_context(lock(one.out.parent))
        yield [run, *(replace(run, args=other) for other in others)]


def for_each_seed(
    stage: str,
    args: argparse.Namespace,
    work: Callable[[StageRun], None],
    module: str = "",
) -> None:
    """Do a stage's work for every seed of the job, one after another.

    Args:
        stage: Name of the stage.
        args: The command line, parsed with ``many_seeds``.
        work: Reads, computes and writes what belongs to one seed, as if it were alone.
        module: The module that stands in for the stage's own; empty: that one.
    """
    with begin_seeds(stage, args, module) as runs:
        for run in one_by_one(runs):
            work(run)


def one_by_one(runs: Sequence[StageRun]) -> Iterator[StageRun]:
    """Give each run its turn.

    Args:
        runs: Of one job.

    Yields:
        The runs; each starts when it is asked for, not when the job did.
    """
    for place, run in enumerate(runs):
        yield replace(run, started=time.monotonic()) if place else run


__all__ = [
    "StageRun",
    "begin",
    "begin_seeds",
    "for_each_seed",
    "lock",
    "one_by_one",
    "split_seeds",
]
