"""What the configuration of a run resolves to, asked for once: modules, code, sections, folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, TypeVar

from pipeline import config as cf
from pipeline.imports import code_digest

T = TypeVar("T")

# What the report reads follows these.
RESOLVING = tuple(
    f"pipeline.{name}"
    for name in ("config", "methods", "preset_checks", "layers", "resolved_run", "dag")
)


class ResolvedRun:
    """Remembers what it was asked about one run, whose answers never change.

    Args:
        run: The preset.
    """

    def __init__(self, run: cf.RunConfig) -> None:
        self.run = run
        self._answers: dict[tuple[Any, ...], Any] = {}

    def _folder(self, env: str, method: str, seed: object) -> str:
        return f"{self.run.results}/{env}/{method}/seed{seed}"

    def _module(self, stage: str, env: str | None, method: str | None) -> str:
        return self._once(cf.stage_module, self.run, stage, method)

    def _section(self, stage: str, env: str | None, method: str | None) -> str:
        if env is None:
            cf.stage_config(self.run, "report")  # it reads the run; this checks its section
            return cf.to_json(self.run)
        return self._once(cf.section_json, self.run, stage, env, method)

    def _digest(self, stage: str, env: str | None, method: str | None) -> str:
        module = self._module(stage, env, method)
        if env is None:
            return self._once(code_digest, module, RESOLVING)
        named = [self._once(cf.env_config, self.run, env).definition]
        named += cf.plug_ins(self._once(cf.stage_config, self.run, stage, env, method))
        roots = tuple(sorted({name.partition(":")[0] for name in named}))
        return self._once(code_digest, module, roots)

    def _once(self, function: Callable[..., T], *arguments: Any) -> T:
        # Snakemake asks for every job, hundreds of times the same; a run's answer never changes.
        key = (function, *(id(a) if a is self.run else a for a in arguments))
        if key not in self._answers:
            self._answers[key] = function(*arguments)
        answer: T = self._answers[key]
        return answer


def manifest_of(path: str) -> str:
    """Names the manifest that a stage writes beside its output.

    Args:
        path: The output.

    Returns:
        The path of the manifest.
    """
    return str(PurePosixPath(path).parent / "manifest.json")
