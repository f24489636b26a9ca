"""One line and exit code 2 for a fault in the input; a traceback for a fault of ours."""

from __future__ import annotations

import argparse
import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli
from smac_core.errors import StoreError

ROOT = Path(__file__).parents[2]
OPTIONS = ["env", "method", "seed", "round", "tasks", "rollouts", "rewards"]
WORDS = {
    "config": "c.yaml",
    "env": "point-robot",
    "method": "smac",
    "seed": "1",
    "round": "2",
    "tasks": "tasks.json",
    "out": "out.zarr",
}


def words(**changes: str | None) -> list[str]:
    given = {name: value for name, value in (WORDS | changes).items() if value is not None}
    return [word for name, value in given.items() for word in (f"--{name}", value)]


def outcome(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    parser = cli.stage_parser("rollout", "Acts.", OPTIONS)
    with pytest.raises(SystemExit) as ended:
        cli.stage_main(lambda _: None, parser, argv)
    return int(str(ended.value.code)), capsys.readouterr().err


def raising(error: BaseException) -> Any:
    def main(_: argparse.Namespace) -> None:
        raise error

    return main


def test_options_are_parsed() -> None:
    parser = cli.stage_parser("rollout", "Acts.", OPTIONS)
    seen: list[argparse.Namespace] = []
    argv = [*words(), "--rollouts", "a", "b"]
    assert cli.run(seen.append, parser, argv) == 0
    assert vars(seen[0]) == {
        "config": "c.yaml",
        "env": "point-robot",
        "method": "smac",
        "seed": 1,
        "round": 2,
        "tasks": Path("tasks.json"),
        "rollouts": [Path("a"), Path("b")],
        "rewards": [],
        "out": Path("out.zarr"),
    }
    assert parser.parse_args([*words(), "--rewards"]).rewards == []


def test_a_config_is_taken_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    text = '{"stage": "x; $(touch y) `z`", "a": "--seed"}'
    parser = cli.stage_parser("rollout", "Acts.", OPTIONS)
    assert parser.parse_args(words(config=text)).config == text
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([*words(seed=None), "--sed", "1"], "unknown option --sed; the nearest is --seed"),
        ([*words(), "--task=t"], "unknown option --task; the nearest is --tasks"),
        ([*words(), "--outt"], "unknown option --outt; the nearest is --out"),
        ([*words(), "--xyz"], "unknown option --xyz; the nearest is --"),
        (words(seed=None), "the following arguments are required: --seed"),
        (words(seed="-1"), "argument --seed: expected a non-negative integer, found '-1'"),
        (words(seed="1.5"), "expected a non-negative integer, found '1.5'"),
        (words(seed="٣"), "expected a non-negative integer, found '٣'"),
        (words(seed=" 1"), "expected a non-negative integer, found ' 1'"),
        (words(round="x"), "argument --round: expected a non-negative integer, found 'x'"),
        ([*words(), "stray\nword"], "unrecognized arguments: stray word"),
        ([*words(), "--env"], "argument --env: expected one argument"),
    ],
)
def test_a_wrong_command_line_is_one_line(
    argv: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = outcome(argv, capsys)
    assert code == 2
    assert line in text
    assert text.startswith("error: ")
    assert text.count("\n") == 1


def test_help_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    parser = cli.stage_parser("rollout", "Acts without rewards.", OPTIONS)
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda _: None, parser, ["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "Acts without rewards." in text
    assert all(f"--{name}" in text for name in ["config", *OPTIONS, "out"])


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (StoreError("bad\nstore", where="a.zarr"), 2, "error: bad store: in a.zarr\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a.csv"),
            2,
            "error: no space left on the disk: in a.csv; free some space",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "b"), 2, "error: no permission"),
        (OSError(errno.EROFS, "Read-only"), 2, "error: the file system is read-only"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_faults_of_the_input_are_one_line(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(raising(error), argparse.ArgumentParser(), []) == code
    printed = capsys.readouterr().err
    assert printed.startswith(text)
    assert printed.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("ours"), OSError(errno.EIO, "disk"), RuntimeError()])
def test_other_faults_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        cli.run(raising(error), argparse.ArgumentParser(), [])


def test_exit_codes_of_a_process(tmp_path: Path) -> None:
    script = tmp_path / "stage.py"
    script.write_text(
        "import argparse, errno\nfrom pipeline import cli\nfrom smac_core.errors import TaskError\n"
        "def main(a):\n"
        "    if a.way == 'task': raise TaskError('bad task')\n"
        "    if a.way == 'full': open('/dev/full', 'w').write('x' * 100_000)\n"
        "    if a.way == 'bug': raise ValueError('bug')\n"
        "parser = argparse.ArgumentParser()\nparser.add_argument('way')\n"
        "cli.stage_main(main, parser)\n"
    )
    for way, code, text in (
        ("task", 2, "error: bad task\n"),
        ("full", 2, "error: no space left on the disk; free some space"),
        ("bug", 1, "Traceback"),
        ("fine", 0, ""),
    ):
        result = subprocess.run(
            [sys.executable, str(script), way],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == code, result.stderr
        assert result.stderr.startswith(text)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(cli.time, "monotonic", lambda: now[0])
    return now


def test_progress_writes_a_line_per_interval_to_a_file(clock: list[float]) -> None:
    stream = io.StringIO()
    with cli.Progress("updates", 40, stream=stream) as progress:
        for _ in range(40):
            clock[0] += 1
            progress.advance(note="loss 0.5")
    assert stream.getvalue().splitlines() == [
        "updates 10/40 10 s 1.0/s loss 0.5",
        "updates 20/40 20 s 1.0/s loss 0.5",
        "updates 30/40 30 s 1.0/s loss 0.5",
        "updates 40/40 40 s 1.0/s loss 0.5",
        "updates 40/40 40 s 1.0/s",
    ]


def test_progress_draws_a_bar_on_a_terminal(clock: list[float]) -> None:
    stream = Terminal()
    with cli.Progress("updates", 2, stream=stream) as progress:
        clock[0] += 1
        progress.update(1)
        progress.update(1)  # too soon to draw again
        clock[0] += 1
    half = "\r[###############...............] updates 1/2 1 s 1.0/s\x1b[K"
    assert stream.getvalue() == half + half.replace("1 s 1.0/s", "2 s 0.5/s") + "\n"


def test_progress_leaves_no_last_line_after_a_fault(clock: list[float]) -> None:
    stream = io.StringIO()
    with pytest.raises(RuntimeError), cli.Progress("updates", 0, stream=stream):
        raise RuntimeError
    assert stream.getvalue() == ""
