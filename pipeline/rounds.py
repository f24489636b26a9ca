"""Where the stores of earlier rounds lie: beside that of the last one.

A round's files follow from the checkpoint of the round before, and that one from the files of its
own round: whatever changes in round k, Snakemake carries to round r through the rounds between. So
a job declares the last round alone; with 500 rounds it would else declare a thousand stores.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_ROUND = re.compile(r"round([1-9][0-9]*)")


def every_round(paths: Sequence[Path]) -> list[Path]:
    """List the stores of all rounds, where that of the last one may stand for all.

    Args:
        paths: Of every round, oldest first; or one in a folder ``round<r>``, beside which those of
            the rounds before lie.

    Returns:
        The paths, oldest first.
    """
    if len(paths) != 1:
        return list(paths)
    parts = list(paths[0].parts)
    for place in reversed(range(len(parts))):
        found = _ROUND.fullmatch(parts[place])
        if found:
            before, after = parts[:place], parts[place + 1 :]
            last = int(found[1])
            return [Path(*before, f"round{number}", *after) for number in range(1, last + 1)]
    return list(paths)
