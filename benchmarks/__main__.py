"""Measures everything, prints one table, and writes ``benchmarks/results.json``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import (
    capturing,
    learning,
    relabelling,
    remembering,
    rollouts,
    sampling,
    scheduling,
    starting,
    workers,
)
from benchmarks.measure import FULL, QUICK, Effort, Row
from benchmarks.table import describe_machine, format_row, header, versions
from smac_core.envs.lookup import load_environment
from smac_core.envs.registration import DEFINITIONS

RESULTS = Path(__file__).with_name("results.json")

Section = Callable[[Effort], Iterator[Row]]


def sections() -> dict[str, Section]:
    """List every name that can be measured, in the table's order.

    Returns:
        What measures it, by name.
    """
    found: dict[str, Section] = {}
    for definition in DEFINITIONS:
        name = f"rollout-{load_environment(definition).env_id}"
        found[name] = partial(rollouts.rows, definition)
    found["sawyer-workers"] = partial(workers.rows, "sawyer-workers")
    found["sample"] = partial(sampling.rows, "sample")
    for name in ("relabel", "relabel-zarr"):
        found[name] = partial(relabelling.rows, name)
    for name in ("learner-offline", "learner-online"):
        found[name] = partial(learning.rows, name)
    found["learner-operations"] = partial(capturing.operation_rows, "learner-operations")
    for name in ("learner-graph-offline", "learner-graph-online"):
        found[name] = partial(capturing.graph_rows, name)
    for stage in starting.STAGES:
        found[f"stage-start-{stage}"] = partial(starting.start_rows, f"stage-start-{stage}")
    for stage in remembering.STAGES:
        found[f"memory-{stage}"] = partial(remembering.rows, f"memory-{stage}")
    found["dag-overhead"] = partial(scheduling.rows, "dag-overhead")
    return found


def measure(names: Iterable[str], effort: Effort) -> None:
    """Measure; print every row, and write the file, as soon as there is something new.

    Args:
        names: What.
        effort: How long.
    """
    known = sections()
    document: dict[str, Any] = {
        "quick": effort.quick,
        "machine": describe_machine(),
        "versions": versions(),
        "rows": [],
    }
    print(header(), flush=True)
    for name in names:
        for row in known[name](effort):
            print(format_row(row), flush=True)
            document["rows"].append(asdict(row))
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")


def main() -> int:
    """Run the command.

    Returns:
        0, or 2 where there is no such name.
    """
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="a name or a pattern such as 'learner-*'"
    )
    parser.add_argument("--quick", action="store_true", help="check that it runs; no measurement")
    args = parser.parse_args()
    wanted = args.only or ["*"]
    names = [n for n in sections() if any(fnmatchcase(n, pattern) for pattern in wanted)]
    if not names:
        print(f"error: no such name; there are {', '.join(sections())}", file=sys.stderr)
        return 2
    measure(names, QUICK if args.quick else FULL)
    print(f"wrote {RESULTS}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
