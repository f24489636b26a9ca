"""What the Snakefile asks: a stage's module, code, section, and the files between rounds.

Light on purpose: Snakemake imports it at every start, so no NumPy, torch, numba or Zarr.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Iterable
from typing import Any, Literal

from pipeline import config as cf
from pipeline.groups import SeedGroup, seed_groups
from pipeline.imports import code_digest, declares, import_closure
from pipeline.resolved_run import RESOLVING, ResolvedRun, manifest_of
from smac_core.errors import ConfigError

__all__ = ["RESOLVING", "Plan", "code_digest", "import_closure"]

METHOD_STAGES = tuple(s for s in cf.STAGES if s not in {*cf.ENV_STAGES, "report"})
_LEARNERS = {"collect", "meta_train", "finetune"}
_STORE = {"rollout": "transitions.zarr", "relabel": "rewards.zarr", "evaluate": "returns.zarr"}


class Plan(ResolvedRun):
    """Answers the Snakefile's questions about one run; most answers are functions of wildcards.

    Args:
        run: The preset.
        shared_files: Whether every job sees all files of the run. Else a job declares the stores
            of all earlier rounds, for Snakemake to bring them.
    """

    def __init__(self, run: cf.RunConfig, *, shared_files: bool = True) -> None:
        super().__init__(run)
        self._shared_files = shared_files

    def check(self) -> None:
        """Resolves every section and finds every module of the run, so that faults come first.

        Raises:
            ConfigError: The first fault found.
        """
        self._section("report", None, None)
        self._digest("report", None, None)
        for env in self.run.envs:
            pairs = [(stage, None) for stage in cf.ENV_STAGES]
            methods = cf.methods_of(self.run, env)
            for stage, method in [*pairs, *itertools.product(METHOD_STAGES, methods)]:
                self._section(stage, env, method)
                self._digest(stage, env, method)
            for method in methods:
                self._check_rewards(env, method)

    def groups(self, stage: str) -> list[SeedGroup]:
        """Divides the seeds of a stage into jobs, one rule a group.

        Args:
            stage: A stage of a method.

        Returns:
            The groups. A stage that was swapped in has one job a seed, unless its module says
            `MANY_SEEDS = True`.
        """
        run = self.run
        size = run.seeds_per_learner if stage in _LEARNERS else run.seeds_per_job
        names = dict.fromkeys(name for m in run.methods for name in (m, cf.offline_method(run, m)))
        able = [m for m in names if declares(cf.stage_module(run, stage, m), "MANY_SEEDS")]
        return seed_groups(stage, run.seeds, size, able, run.results, cf.NAME.pattern)

    def notice(self) -> str | None:
        """Says which seeds are made together.

        Returns:
            One line; None where every seed has its own jobs.
        """
        shared: dict[str, list[str]] = {}
        for stage in METHOD_STAGES:
            for group in self.groups(stage):
                if len(group.seeds) > 1:
                    shared.setdefault(" and ".join(group.seeds), []).append(stage)
        parts = [f"seeds {seeds} of {', '.join(stages)}" for seeds, stages in shared.items()]
        told = f"These share a job: {'; '.join(parts)}. Asking for a file of one makes the others'."
        return told if parts else None

    def params(self, stage: str, group: SeedGroup | None = None) -> dict[str, Callable[[Any], str]]:
        """Makes the `params` of a rule: `module`, `job`, and what makes it run again.

        Args:
            stage: The stage.
            group: The seeds of a job; None: the stage has none.

        Returns:
            Functions of the wildcards: `module` to run, `job` the options that say which job it
            is, `code` the digest of all code it reaches, `cfg` its section as JSON (the report's is
            the whole run).
        """

        def of(answer: Callable[[str, str | None, str | None], str]) -> Callable[[Any], str]:
            return lambda wildcards: answer(
                stage, getattr(wildcards, "env", None), _method(stage, wildcards)
            )

        return {
            "module": of(self._module),
            "code": of(self._digest),
            "cfg": of(self._section),
            "job": lambda wildcards: self._job(wildcards, group),
        }

    def gpu(self, stage: str) -> Callable[[Any], int | None]:
        """Counts the GPUs that a job asks for.

        Args:
            stage: One of the stages that learn.

        Returns:
            Function of the wildcards; None, no such resource, for a job that needs none.
        """

        def count(wildcards: Any) -> int | None:
            method = _method(stage, wildcards)
            section = self._once(cf.stage_config, self.run, stage, wildcards.env, method)
            learns = getattr(section, "policy", "pearl") in {"pearl", "task-conditioned"}
            learner = getattr(section, "learner", None)  # a method's own section may have none
            device = getattr(learner, "device", "cpu")
            return 1 if self.run.gpu and learns and device != "cpu" else None

        return count

    def checkpoint(
        self, when: Literal["offline", "before", "after"], group: SeedGroup
    ) -> Callable[[Any], list[str]]:
        """Finds the checkpoint of every seed of a job.

        Args:
            when: That of the offline phase, or the one before or after the round.
            group: The seeds.

        Returns:
            Function of the wildcards.
        """

        def paths(wildcards: Any) -> list[str]:
            number = 0 if when == "offline" else int(wildcards.round) - (when == "before")
            method = wildcards.method
            if number == 0:
                method = self._once(cf.offline_method, self.run, method)
            phase = "meta_train" if number == 0 else f"round{number}/finetune"
            return [
                f"{self._folder(wildcards.env, method, seed)}/{phase}/checkpoint.safetensors"
                for seed in group.seeds_of(wildcards)
            ]

        return paths

    def offline_data(self, wildcards: Any) -> str:
        """Finds the store that a method learns from before it acts.

        Args:
            wildcards: Of the job.

        Returns:
            The experts' demonstrations for a method that needs them, else the collected data.
        """
        stage = "demonstrations" if self._guided(wildcards.method) else "collect"
        return f"{self.run.results}/{wildcards.env}/{stage}/transitions.zarr"

    def expert(self, wildcards: Any) -> list[str]:
        """Finds the expert that a method may ask while it trains.

        Args:
            wildcards: Of the job.

        Returns:
            Its checkpoint, for a method that needs experts; it lies where that method looks.
        """
        if not self._guided(wildcards.method):
            return []
        return [f"{self.run.results}/{wildcards.env}/experts/checkpoint.safetensors"]

    def _guided(self, method: str) -> bool:
        offline = self._once(cf.offline_method, self.run, method)
        return "experts" in self._once(cf.method_config, self.run, offline).needs

    def members(self, group: SeedGroup) -> Callable[[Any], list[str]]:
        """Finds the offline checkpoints that label together.

        Args:
            group: The seeds of the job.

        Returns:
            Function of the wildcards: those of all seeds of the run where `relabel` asks for an
            ensemble, else none.
        """

        def paths(wildcards: Any) -> list[str]:
            env, method = wildcards.env, wildcards.method
            section = self._once(cf.stage_config, self.run, "relabel", env, method)
            if getattr(section, "ensemble", "none") == "none":
                return []
            offline = self._once(cf.offline_method, self.run, method)
            folders = [self._folder(env, offline, seed) for seed in self.run.seeds]
            return [f"{folder}/meta_train/checkpoint.safetensors" for folder in folders]

        return paths

    @staticmethod
    def member_option(wildcards: Any, input: Any) -> str:
        """Writes the option that names them; a stage that was swapped in may not know it.

        Args:
            wildcards: Of the job.
            input: Its files.

        Returns:
            Words of the command line; none without an ensemble.
        """
        members = [input.members] if isinstance(input.members, str) else list(input.members)
        return shlex.join(["--members", *members]) if members else ""

    def last_store(
        self, stage: str, when: Literal["before", "with"], group: SeedGroup
    ) -> Callable[[Any], list[str]]:
        """Finds the store of the last round that a job reads; `pipeline.rounds` finds the others.

        Args:
            stage: Rollout or relabel.
            when: That of the round before this one, or of this one.
            group: The seeds.

        Returns:
            Function of the wildcards: one path a seed; none before the first round.
        """

        def paths(wildcards: Any) -> list[str]:
            last = int(wildcards.round) - (when == "before")
            return self._stores(stage, group, wildcards, range(max(last, 1), last + 1))

        return paths

    def carried(
        self, when: Literal["before", "with"], group: SeedGroup
    ) -> Callable[[Any], list[str]]:
        """Lists the stores of rounds before the last that a job reads, where it must be told.

        Args:
            when: Whether the last is the round before this one, or this one.
            group: The seeds.

        Returns:
            Function of the wildcards. None where all jobs share the files: those stores were there
            when the checkpoint was made that the job also reads.
        """

        def paths(wildcards: Any) -> list[str]:
            last = 0 if self._shared_files else int(wildcards.round) - (when == "before")
            return [
                path
                for stage in ("rollout", "relabel")
                for path in self._stores(stage, group, wildcards, range(1, last))
            ]

        return paths

    def _stores(
        self, stage: str, group: SeedGroup, wildcards: Any, rounds: Iterable[int]
    ) -> list[str]:
        folders = [
            self._folder(wildcards.env, wildcards.method, seed)
            for seed in group.seeds_of(wildcards)
        ]
        return [f"{at}/round{r}/{stage}/{_STORE[stage]}" for at in folders for r in rounds]

    def evaluated_as(self, env: str, method: str, number: int) -> str:
        """Finds under which method a checkpoint is evaluated.

        Args:
            env: The environment.
            method: The method.
            number: The round.

        Returns:
            The method itself, or the one whose offline checkpoint is its round 0, if the meta-test
            of the two is the same: then so are the numbers.
        """
        offline = self._once(cf.offline_method, self.run, method)
        if number or offline == method:
            return method
        tests = [
            (self._module("evaluate", env, name), self._section("evaluate", env, name))
            for name in (method, offline)
        ]
        return offline if tests[0] == tests[1] else method

    def evaluated_rounds(self, env: str, method: str) -> list[int]:
        """Lists the rounds that are evaluated: the first, the last, and every n-th.

        Args:
            env: The environment.
            method: The method.

        Returns:
            Numbers of the rounds in rising order.
        """
        last = cf.num_rounds(self.run, env, method)
        every = 1 if self.run.evaluate_rounds == "all" else self.run.evaluate_rounds
        return sorted({*range(0, last + 1, every), last})

    def filmed(self, env: str) -> tuple[str, int, int]:
        """Chooses whose behaviour the video of an environment shows.

        Args:
            env: The environment.

        Returns:
            Method, seed and round: the first method with a self-supervised phase, if there is one,
            the first seed, the last round.
        """
        methods = cf.methods_of(self.run, env)
        rounds = {method: cf.num_rounds(self.run, env, method) for method in methods}
        method = next((m for m in rounds if rounds[m] > 0), methods[0])
        return method, self.run.seeds[0], rounds[method]

    def filmed_checkpoint(self, env: str) -> str:
        """Finds the checkpoint that the video of an environment shows.

        Args:
            env: The environment.

        Returns:
            The path.
        """
        method, seed, number = self.filmed(env)
        if number == 0:
            method = cf.offline_method(self.run, method)
        phase = "meta_train" if number == 0 else f"round{number}/finetune"
        return f"{self._folder(env, method, seed)}/{phase}/checkpoint.safetensors"

    def report_inputs(self) -> list[str]:
        """Lists what the report reads: tasks, datasets, evaluations, metrics, and their manifests.

        A video needs the checkpoint that it shows as well.

        Returns:
            Paths.
        """
        paths: list[str] = []
        for env in self.run.envs:
            root = f"{self.run.results}/{env}"
            paths += [f"{root}/tasks.json"]
            paths += [f"{root}/collect/{name}" for name in ("transitions.zarr", "metrics.csv")]
            if any(map(self._guided, cf.methods_of(self.run, env))):
                paths += [f"{root}/{name}/manifest.json" for name in ("experts", "demonstrations")]
            for method in cf.methods_of(self.run, env):
                for seed in self.run.seeds:
                    paths += self._run_outputs(env, method, seed)
            if cf.stage_config(self.run, "report").video_frames:
                paths.append(self.filmed_checkpoint(env))
        stores = [path for path in paths if path.endswith(".zarr")]
        return list(dict.fromkeys([*paths, *map(manifest_of, stores)]))

    def _run_outputs(self, env: str, method: str, seed: int) -> list[str]:
        folder = self._folder(env, method, seed)
        offline = self._folder(env, cf.offline_method(self.run, method), seed)
        last = cf.num_rounds(self.run, env, method)
        return [
            f"{offline}/meta_train/metrics.csv",
            *(f"{folder}/round{r}/finetune/metrics.csv" for r in range(1, last + 1)),
            *(
                f"{self._folder(env, self.evaluated_as(env, method, r), seed)}"
                f"/round{r}/evaluate/{_STORE['evaluate']}"
                for r in self.evaluated_rounds(env, method)
            ),
        ]

    def _job(self, wildcards: Any, group: SeedGroup | None) -> str:
        given = {
            "env": [wildcards.env] if hasattr(wildcards, "env") else [],
            "method": [wildcards.method] if group else [],
            "seed": group.seeds_of(wildcards) if group else [],
            "round": [wildcards.round] if hasattr(wildcards, "round") else [],
        }
        return " ".join(f"--{name} {shlex.join(words)}" for name, words in given.items() if words)

    def _check_rewards(self, env: str, method: str) -> None:
        rollout = cf.stage_config(self.run, "rollout", env, method)
        relabel = cf.stage_config(self.run, "relabel", env, method)
        wanted = getattr(relabel, "rewards", "decoder")  # a method may bring its own sections
        if wanted == "environment" and not getattr(rollout, "record_rewards", True):
            raise ConfigError(
                "the environment's rewards are to be copied, but no rollout records them",
                where=f"{env}, {method}",
                fix="set rollout.record_rewards: true, or relabel.rewards: decoder",
            )


def _method(stage: str, wildcards: Any) -> str | None:
    return None if stage in cf.ENV_STAGES else getattr(wildcards, "method", None)
