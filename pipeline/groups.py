"""Which seeds share a job: a rule's outputs name its seeds, so every group of seeds is a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ONE_SEED = ("{seed}",)  # filled in by Snakemake


@dataclass(frozen=True)
class SeedGroup:
    """The seeds of one job.

    Args:
        rule: Name of the rule; the first group has that of the stage.
        seeds: As they stand in paths; the wildcard, for the rule that serves any one seed.
        methods: Pattern of the methods, and of what may follow them in a path.
        results: Folder of all results.
    """

    rule: str
    seeds: tuple[str, ...]
    methods: str
    results: str

    @property
    def run(self) -> str:
        """Folder of logs and benchmarks, which belong to a job."""
        return f"{{env}}/{{method}}/seed{'+'.join(self.seeds)}"

    def paths(self, tail: str) -> list[str]:
        """Lists an output of every seed.

        Args:
            tail: What follows the folder of the seed; may hold wildcards.

        Returns:
            Paths with wildcards.
        """
        method = f"{{method,{self.methods}}}"
        return [f"{self.results}/{{env}}/{method}/seed{seed}/{tail}" for seed in self.seeds]

    def seeds_of(self, wildcards: Any) -> Sequence[str]:
        """Lists the seeds of a job.

        Args:
            wildcards: Of the job.

        Returns:
            The seeds.
        """
        return [wildcards.seed] if self.seeds == ONE_SEED else self.seeds


def seed_groups(
    stage: str, seeds: Sequence[int], size: int, methods: Sequence[str], results: str, name: str
) -> list[SeedGroup]:
    """Divides the seeds of a run into jobs.

    Args:
        stage: The stage.
        seeds: Of the run. Groups follow their order, so that a seed added at the end leaves full
            groups as they are.
        size: Seeds of a job.
        methods: Those whose stage takes several seeds.
        results: Folder of all results.
        name: Pattern of a method's name.

    Returns:
        One group a rule; the last serves what the others leave, any method and seed.
    """
    chunks = [[str(s) for s in seeds[at : at + size]] for at in range(0, len(seeds), size)]
    chunks = [chunk for chunk in chunks if len(chunk) > 1 and methods]
    if not chunks:
        return [SeedGroup(stage, ONE_SEED, name, results)]
    together = "|".join(methods)
    groups = [
        SeedGroup(f"{stage}_{number}" if number > 1 else stage, tuple(chunk), together, results)
        for number, chunk in enumerate(chunks, start=1)
    ]
    grouped = "|".join(seed for chunk in chunks for seed in chunk)
    # Looks ahead in the path: Snakemake refuses an output that two rules can make.
    others = f"(?!(?:{together})/seed(?:{grouped})/){name}"
    return [*groups, SeedGroup(f"{stage}_one_seed", ONE_SEED, others, results)]
