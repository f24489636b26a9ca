"""The command line of every stage: shared options, one error boundary, progress lines."""

from __future__ import annotations

import argparse
import difflib
import gc
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from pipeline import files
from smac_core.errors import SmacError

_INTERRUPTED = 130  # what a shell reports for Ctrl-C: 128 + SIGINT


def count(text: str) -> int:
    """Parses a non-negative integer, for seeds and rounds.

    Args:
        text: What stands on the command line.

    Returns:
        The number.

    Raises:
        ArgumentTypeError: Not a non-negative integer in decimal digits.
    """
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected a non-negative integer, found {text!r}")
    return int(text)


# Every option that stages share, once: its type, whether it takes several, its help.
_OPTIONS: dict[str, tuple[Callable[[str], Any], str | None, str]] = {
    "config": (str, None, "path of a preset, or the resolved section as JSON"),
    "env": (str, None, "environment, such as point-robot"),
    "method": (str, None, "method, such as smac"),
    "seed": (count, None, "seed of the method"),
    "round": (count, None, "self-supervised round; 0 is the offline checkpoint"),
    "tasks": (Path, None, "tasks.json"),
    "transitions": (Path, None, "store of the offline transitions"),
    "checkpoint": (Path, None, "checkpoint to start from"),
    "members": (Path, "*", "offline checkpoints of all seeds, where an ensemble labels"),
    "rollout": (Path, None, "store of this round's rollouts"),
    "rollouts": (Path, "*", "stores of the rollouts of every round so far, or the last one's"),
    "rewards": (Path, "*", "stores of their rewards, in the same order"),
    "results": (Path, None, "folder of all results"),
    "out": (Path, None, "output; manifest.json goes beside it"),
}
_ALWAYS = ("config", "out")
_PER_SEED = ("seed", "checkpoint", "rollout", "out")


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a fault with one line that names the nearest option."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses, after every word that looks like an option was looked up.

        Args:
            args: Words of the command line; those of the process when None.
            namespace: As argparse.

        Returns:
            As argparse.
        """
        words = sys.argv[1:] if args is None else list(args)
        for word in words[: words.index("--") if "--" in words else None]:
            name = word.partition("=")[0]
            # Before argparse, which would rather complain of the option that the typo left out.
            if name.startswith("--") and name not in self._option_string_actions:
                self.error(f"unknown option {name}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Prints one line and ends with exit code 2.

        Args:
            message: What argparse found.
        """
        unknown = [word for word in message.split() if word.startswith("--")]
        known = list(self._option_string_actions)
        if unknown and message.startswith("unknown option"):
            near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.0)
            message += f"; the nearest is {near[0]}"
        self.exit(2, f"error: {self.prog}: {' '.join(message.split())}\n")


def stage_parser(
    stage: str, description: str, options: Iterable[str], *, many_seeds: bool = False
) -> Parser:
    """Builds the parser of a stage from the shared options; --config and --out are always there.

    Args:
        stage: Name of the stage.
        description: One sentence for --help.
        options: Names of the shared options, without dashes.
        many_seeds: Whether one call may serve several seeds: --seed, --checkpoint, --rollout and
            --out then take one value a seed, and give lists, which `pipeline.stage` divides.

    Returns:
        The parser; a stage may add its own arguments.
    """
    parser = Parser(f"python -m pipeline.{stage}", description=description)
    for name in (*_ALWAYS[:1], *options, *_ALWAYS[1:]):
        kind, many, text = _OPTIONS[name]
        if many_seeds and name in _PER_SEED:
            parser.add_argument(
                f"--{name}", type=kind, nargs="+", required=True, help=f"{text}; one a seed"
            )
            continue
        # Options that take several may be absent: round 1 has no rollouts before it.
        default: list[Path] | None = [] if many else None
        parser.add_argument(
            f"--{name}", type=kind, nargs=many, required=not many, default=default, help=text
        )
    return parser


def _fail(message: object) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def run(
    main: Callable[[argparse.Namespace], None],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None = None,
) -> int:
    """Runs a command; a fault in the input becomes one line on standard error.

    Args:
        main: The command.
        parser: Its options.
        argv: Words of the command line; those of the process when None.

    Returns:
        0, 2 after a fault in the input or a full or forbidden disk, 130 after Ctrl-C. Any other
        exception passes through: Python prints its traceback and exits 1.
    """
    try:
        main(parser.parse_args(argv))
    except SmacError as error:
        return _fail(error)
    except OSError as error:
        told = files.output_error(error)
        if told is None:
            raise
        return _fail(told)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    return 0


def stage_main(
    main: Callable[[argparse.Namespace], None],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Runs a command and ends the process with its exit code.

    Args:
        main: The command.
        parser: Its options.
        argv: Words of the command line; those of the process when None.

    Raises:
        SystemExit: Always.
    """
    code = run(main, parser, argv)
    # Python looks through all objects once more as it ends, to find garbage: after torch and numba
    # were imported that takes as long as importing them. Nobody needs what it would find.
    gc.freeze()
    raise SystemExit(code)


class Progress:
    """Tells how far a stage is: a bar on a terminal, else one line per interval.

    Args:
        label: What is being counted, such as "updates".
        total: How many there will be.
        interval: Time between lines when standard error is not a terminal, s.
        stream: Where to write; standard error when None.
    """

    _REDRAW = 0.1  # s
    _WIDTH = 30  # characters of the bar

    def __init__(
        self, label: str, total: int, *, interval: float = 10.0, stream: TextIO | None = None
    ) -> None:
        self._label = label
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._bar = self._stream.isatty()
        self._interval = self._REDRAW if self._bar else interval
        self._done = 0
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Writes the last line, and leaves the bar's line to what comes next."""
        if kind is None:
            self._write("")
        if self._bar:
            self._stream.write("\n")

    def update(self, done: int, note: str = "") -> None:
        """Sets how many are done.

        Args:
            done: Since the start.
            note: A few words to add, such as the last loss.
        """
        self._done = done
        if time.monotonic() - self._told >= self._interval:
            self._write(note)

    def advance(self, number: int = 1, note: str = "") -> None:
        """Adds to how many are done.

        Args:
            number: Done since the last call.
            note: A few words to add.
        """
        self.update(self._done + number, note)

    def _write(self, note: str) -> None:
        self._told = time.monotonic()
        elapsed = self._told - self._started
        rate = self._done / elapsed if elapsed > 0 else 0.0
        text = f"{self._label} {self._done}/{self._total} {elapsed:.0f} s {rate:.1f}/s {note}"
        if self._bar:
            filled = self._WIDTH * self._done // max(1, self._total)
            bar = "#" * filled + "." * (self._WIDTH - filled)
            # \x1b[K clears what a longer line left behind.
            self._stream.write(f"\r[{bar}] {text.rstrip()}\x1b[K")
        else:
            self._stream.write(text.rstrip() + "\n")
        self._stream.flush()
