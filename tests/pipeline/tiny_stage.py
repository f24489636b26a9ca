"""A stage of training on the tiny data of the fixture `finished`, with a preset of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from pipeline import cli

ROOT = Path(__file__).resolve().parents[2]


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

    def call_dying(self, program: str) -> None:
        """Runs a program on the stage's command line, which kills itself before any output."""
        words = [sys.executable, "-c", program, *self.words()]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, check=False, timeout=300)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        assert not self.out.exists()


def check_goes_on(
    stage: TinyStage,
    dying: str,
    step: tuple[type, str],
    number: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> list[int]:
    """Kills a run, goes on, and expects the bytes of a run that nobody disturbed.

    Args:
        stage: The stage.
        dying: A program that runs it and kills itself.
        step: Class and name of the method that every step of the training calls.
        number: Tells which step a call of that method is, from its arguments.
        monkeypatch: Watches that method.

    Returns:
        The steps that were taken after the kill.
    """
    quiet = stage.folder / "quiet" / stage.out.name
    assert stage.call(out=quiet) == 0
    stage.call_dying(dying)
    owner, name = step
    original, seen = getattr(owner, name), []

    def watched(*given):
        seen.append(number(*given))
        return original(*given)

    monkeypatch.setattr(owner, name, watched)
    assert stage.call() == 0
    assert stage.out.read_bytes() == quiet.read_bytes()
    found, expected = (path.with_name("metrics.csv") for path in (stage.out, quiet))
    assert found.read_text() == expected.read_text()
    return seen


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a stage says when it refuses."""
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    return line
