"""Faults in what the user gave: each becomes one line on standard error and exit code 2."""

from __future__ import annotations


class SmacError(Exception):
    """A fault in the input, told as one line: what, where, expected, found, what to do.

    Args:
        what: What is wrong, as a short clause.
        where: The file, array, key or simulator that it concerns.
        expected: What was expected there.
        found: What was found instead.
        fix: What the user can do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        fix: str | None = None,
    ) -> None:
        parts = [what]
        if where is not None:
            parts.append(f"in {where}")
        if expected is not None:
            parts.append(f"expected {expected}")
        if found is not None:
            parts.append(f"found {found}")
        line = ": ".join([parts[0], ", ".join(parts[1:])]) if len(parts) > 1 else parts[0]
        if fix is not None:
            line += f"; {fix}"
        super().__init__(" ".join(line.split()))


class ConfigError(SmacError):
    """A configuration key or value that the schema refuses."""


class StoreError(SmacError):
    """A Zarr store that is missing, half written, damaged or of another kind."""


class CheckpointError(SmacError):
    """A checkpoint that is missing, damaged, or of another environment or shape."""


class TaskError(SmacError):
    """A task list, or a task in it, that does not fit the environment."""


class SimulationError(SmacError):
    """A simulator that returned a state which is not finite, or was given an action it refuses."""


class NonFiniteError(SmacError):
    """A loss or parameter that stopped being finite during training."""


class OutputError(SmacError):
    """An output that cannot be written: no space, a read-only folder, a second writer."""
