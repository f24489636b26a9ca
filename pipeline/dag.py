"""What the Snakefile asks: a stage's module, code, section, and the files between rounds.

Light on purpose: Snakemake imports it at every start, so no NumPy, torch, numba or Zarr.
"""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from pipeline import config as cf
from pipeline.imports import code_digest, import_closure
from pipeline.strict import deep_merge, read_yaml, retype
from smac_core.errors import ConfigError

__all__ = ["Plan", "code_digest", "import_closure", "job_environment", "load_preset"]

T = TypeVar("T")

METHOD_STAGES = tuple(s for s in cf.STAGES if s not in {*cf.ENV_STAGES, "report"})
_LEARNERS = {"collect", "meta_train", "finetune"}
_STORE = {"rollout": "transitions.zarr", "relabel": "rewards.zarr", "evaluate": "returns.zarr"}


class Plan:
    """Answers the Snakefile's questions about one run; most answers are functions of wildcards.

    Args:
        run: The preset.
    """

    def __init__(self, run: cf.RunConfig) -> None:
        self.run = run
        self._answers: dict[tuple[Any, ...], Any] = {}

    def check(self) -> None:
        """Resolves every section and finds every module of the run, so that faults come first.

        Raises:
            ConfigError: The first fault found.
        """
        self._section("report", None, None)
        self._digest("report", None, None)
        for env in self.run.envs:
            pairs = [(stage, None) for stage in cf.ENV_STAGES]
            for stage, method in [*pairs, *itertools.product(METHOD_STAGES, self.run.methods)]:
                self._section(stage, env, method)
                self._digest(stage, env, method)
            for method in self.run.methods:
                self._check_rewards(env, method)

    def params(self, stage: str) -> dict[str, Callable[[Any], str]]:
        """Makes the `params` of a rule: `module`, `job`, and what makes it run again.

        Args:
            stage: The stage.

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
            "job": self._job,
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
            learns = getattr(section, "policy", "pearl") == "pearl"
            return 1 if self.run.gpu and learns and section.learner.device != "cpu" else None

        return count

    def checkpoint(self, when: Literal["offline", "before", "after"]) -> Callable[[Any], str]:
        """Finds a checkpoint of a run.

        Args:
            when: That of the offline phase, or the one before or after the round.

        Returns:
            Function of the wildcards env, method, seed and round.
        """

        def path(wildcards: Any) -> str:
            number = 0 if when == "offline" else int(wildcards.round) - (when == "before")
            method = wildcards.method
            if number == 0:
                method = self._once(cf.offline_method, self.run, method)
            folder = self._folder(wildcards.env, method, wildcards.seed)
            phase = "meta_train" if number == 0 else f"round{number}/finetune"
            return f"{folder}/{phase}/checkpoint.safetensors"

        return path

    def stores(
        self, stage: str, when: Literal["before", "with"] = "with"
    ) -> Callable[[Any], list[str]]:
        """Lists the stores of a stage, round by round.

        Args:
            stage: Rollout or relabel.
            when: Up to the round before this one, or with this one.

        Returns:
            Function of the wildcards env, method, seed and round.
        """

        def paths(wildcards: Any) -> list[str]:
            folder = self._folder(wildcards.env, wildcards.method, wildcards.seed)
            last = int(wildcards.round) - (when == "before")
            return [f"{folder}/round{r}/{stage}/{_STORE[stage]}" for r in range(1, last + 1)]

        return paths

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

    def report_inputs(self) -> list[str]:
        """Lists what the report reads: tasks, datasets, evaluations, metrics, and their manifests.

        Returns:
            Paths.
        """
        paths: list[str] = []
        for env in self.run.envs:
            root = f"{self.run.results}/{env}"
            paths += [f"{root}/tasks.json"]
            paths += [f"{root}/collect/{name}" for name in ("transitions.zarr", "metrics.csv")]
            for method in self.run.methods:
                for seed in self.run.seeds:
                    paths += self._run_outputs(env, method, seed)
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
                f"{folder}/round{r}/evaluate/{_STORE['evaluate']}"
                for r in self.evaluated_rounds(env, method)
            ),
        ]

    def _folder(self, env: str, method: str, seed: object) -> str:
        return f"{self.run.results}/{env}/{method}/seed{seed}"

    def _job(self, wildcards: Any) -> str:
        names = [name for name in ("env", "method", "seed", "round") if hasattr(wildcards, name)]
        return " ".join(f"--{name} {shlex.quote(getattr(wildcards, name))}" for name in names)

    def _module(self, stage: str, env: str | None, method: str | None) -> str:
        return self._once(cf.stage_module, self.run, stage, method)

    def _section(self, stage: str, env: str | None, method: str | None) -> str:
        if env is None:
            cf.stage_config(self.run, stage)  # the report reads the run; this checks its section
            return cf.to_json(self.run)
        return self._once(cf.section_json, self.run, stage, env, method)

    def _digest(self, stage: str, env: str | None, method: str | None) -> str:
        module = self._module(stage, env, method)
        if env is None:
            return self._once(code_digest, module, ("pipeline.config", "pipeline.dag"))
        definition = self._once(cf.env_config, self.run, env).definition.partition(":")[0]
        return self._once(code_digest, module, (definition,))

    def _once(self, function: Callable[..., T], *arguments: Any) -> T:
        # Snakemake asks for every job, hundreds of times the same; a run's answer never changes.
        key = (function, *(id(a) if a is self.run else a for a in arguments))
        if key not in self._answers:
            self._answers[key] = function(*arguments)
        answer: T = self._answers[key]
        return answer

    def _check_rewards(self, env: str, method: str) -> None:
        rollout = cf.stage_config(self.run, "rollout", env, method)
        relabel = cf.stage_config(self.run, "relabel", env, method)
        if relabel.rewards == "environment" and not rollout.record_rewards:
            raise ConfigError(
                "the environment's rewards are to be copied, but no rollout records them",
                where=f"{env}, {method}",
                fix="set rollout.record_rewards: true, or relabel.rewards: decoder",
            )


def load_preset(
    files: Sequence[Path], merged: Mapping[str, Any], command_line: Mapping[str, Any]
) -> cf.RunConfig:
    """Checks what Snakemake made of its config files and of `--config`.

    Args:
        files: The config files, read again here: Snakemake lets a key stand twice.
        merged: The whole as Snakemake has it.
        command_line: What `--config` gave, where Snakemake leaves the numbers in lists as text.

    Returns:
        The run.

    Raises:
        ConfigError: The first fault found.
    """
    for file in files:
        read_yaml(file)
    names = [os.path.relpath(file) for file in files] + ["--config"] * bool(command_line)
    return cf.load_run(deep_merge(merged, retype(command_line)), " + ".join(names))


def job_environment(root: object, environment: Mapping[str, str]) -> dict[str, str]:
    """Makes every job find this checkout, this Python, and one core.

    Args:
        root: Folder of the Snakefile.
        environment: The variables that Snakemake was started with.

    Returns:
        The variables to set.
    """
    # Safe path: a folder `pipeline` where the run happens must not hide ours. It comes last.
    folders = [str(root), environment.get("PYTHONPATH", ""), os.getcwd()]
    programs = [os.path.dirname(sys.executable), environment.get("PATH", "")]
    one = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {
        "PATH": os.pathsep.join(filter(None, programs)),
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
        "PYTHONSAFEPATH": "1",
        **dict.fromkeys(one, "1"),  # two jobs side by side use two cores
    }


def manifest_of(path: str) -> str:
    """Names the manifest that a stage writes beside its output.

    Args:
        path: The output.

    Returns:
        The path of the manifest.
    """
    return str(PurePosixPath(path).parent / "manifest.json")


def _method(stage: str, wildcards: Any) -> str | None:
    return None if stage in cf.ENV_STAGES else getattr(wildcards, "method", None)
