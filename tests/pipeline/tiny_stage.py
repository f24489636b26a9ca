"""A stage of training on the tiny data of the fixture `finished`, with a preset of its own."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from pipeline import cli


class TinyStage:
    """Calls a module in place of ``meta_train``; a subclass says which, and its preset.

    Args:
        finished: The tiny run.
        folder: Where preset and outputs go.
        settings: What replaces the defaults of the preset's template.
    """

    module: ClassVar[ModuleType]
    template: ClassVar[str]
    defaults: ClassVar[dict[str, Any]]
    method: ClassVar[str]

    def __init__(self, finished, folder: Path, **settings) -> None:
        self.finished, self.folder = finished, folder
        self.preset = folder / "preset.yaml"
        self.preset.write_text(self.template.format(**self.defaults | settings))

    @property
    def out(self) -> Path:
        return self.folder / "out" / "checkpoint.safetensors"

    def data(self, method: str) -> Path:
        """What a method learns from."""
        return self.finished.path("collect")

    def words(self, method: str | None = None, **changes) -> list[str]:
        """The command line; `changes` replace options."""
        method = method or self.method
        given = {
            "config": self.preset,
            "env": "point-robot",
            "method": method,
            "seed": 0,
            "tasks": self.finished.path("tasks"),
            "transitions": self.data(method),
            "out": self.out,
        } | changes
        words = []
        for name, value in given.items():
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        return words

    def call(self, method: str | None = None, **changes) -> int:
        """Runs the stage and returns its exit code."""
        return cli.run(self.module.run, self.module.make_parser(), self.words(method, **changes))
