"""What every stage does around its work: resolve the config, refuse early, leave a manifest."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import EnvConfig, resolved
from pipeline.dag import code_digest
from pipeline.files import lock, require_writable
from pipeline.manifest import write_manifest
from smac_core.envs.definition import Environment, load_environment


@dataclass(frozen=True)
class StageRun:
    """One run of a stage.

    Args:
        stage: Its name.
        args: The parsed command line.
        env_config: The environment's section.
        section: The stage's own section, a dataclass of pipeline.sections.
        env: The environment.
        started: ``time.monotonic()`` at the start.
    """

    stage: str
    args: argparse.Namespace
    env_config: EnvConfig
    section: Any
    env: Environment
    started: float = field(default_factory=time.monotonic)

    @property
    def seed(self) -> int | None:
        """Seed of the method, or None for a stage of the environment."""
        seed: int | None = getattr(self.args, "seed", None)
        return seed

    @property
    def code_digest(self) -> str:
        """Digest of all code that this stage reaches."""
        return code_digest(f"pipeline.{self.stage}", (self.env_config.definition.split(":")[0],))

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


def begin(stage: str, args: argparse.Namespace) -> StageRun:
    """Resolve the configuration and check that the output can be written.

    Args:
        stage: Name of the stage.
        args: The parsed command line.

    Returns:
        The run.

    Raises:
        ConfigError: A fault in the configuration.
        OutputError: The output folder cannot be written, or another process writes there.
    """
    env_config, section = resolved(stage, args.config, args.env, getattr(args, "method", None))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    require_writable(args.out.parent)
    env = load_environment(env_config.definition, env_config.params)
    return StageRun(stage, args, env_config, section, env)


__all__ = ["StageRun", "begin", "lock"]
