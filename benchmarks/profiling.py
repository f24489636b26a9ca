"""Where an update's time goes, before and after: ``python -m benchmarks.profiling``.

Prints, for the published update and for the learner, the share of CPU time of each operation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.learning import ANT, OFFLINE, ONLINE, PAPER, random_batch
from benchmarks.transcription import Transcription
from smac_core.learner import Batch, Learner

UPDATES = 10
# What an operation is for the reader; the first that matches counts.
KINDS = {
    "products": ("mm", "linear", "matmul", "mkldnn"),
    "bias, ReLU and their gradients": ("relu", "threshold", "add_", "sum"),
    "optimiser and targets": ("adam", "lerp", "_foreach", "copy_", "sqrt", "addcdiv", "addcmul"),
}


def shares(update: Callable[[], None]) -> list[tuple[str, float, int]]:
    """Profile some updates.

    Args:
        update: Takes one.

    Returns:
        Operation, its own CPU time of an update (ms) and how often it was called an update; the
        largest first.
    """
    for _ in range(3):
        update()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(UPDATES):
            update()
    rows = [
        (row.key, row.self_cpu_time_total / 1e3 / UPDATES, round(row.count / UPDATES))
        for row in found.key_averages()
    ]
    return sorted(rows, key=lambda row: -row[1])


def by_kind(rows: list[tuple[str, float, int]]) -> dict[str, float]:
    """Add the times up by what they are for.

    Args:
        rows: See ``shares``.

    Returns:
        Milliseconds an update by kind; "other elementwise and overhead" is what no name matches.
    """
    total = dict.fromkeys([*KINDS, "other elementwise and overhead"], 0.0)
    for name, milliseconds, _ in rows:
        kinds = (k for k, words in KINDS.items() if any(word in name.lower() for word in words))
        total[next(kinds, "other elementwise and overhead")] += milliseconds
    return total


def report(phase: str, top: int) -> Iterator[str]:
    """Compare the two updates of a phase.

    Args:
        phase: offline or online.
        top: Operations to list.

    Yields:
        Lines of text.
    """
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    config = OFFLINE if phase == "offline" else ONLINE
    learner = Learner(ANT, PAPER, config, [0], cpu)
    plain = Transcription(ANT, PAPER, config, learner.state(), cpu)
    batch = random_batch(ANT, PAPER, config, seed=0)
    alone = Batch(*(x[0] for x in batch))
    sides = {
        "published": lambda: plain.update(alone),
        "ours": lambda: learner.update(batch),
    }
    for name, update in sides.items():
        rows = shares(update)
        yield f"{phase}, {name}: {sum(row[1] for row in rows):.1f} ms an update"
        for kind, milliseconds in by_kind(rows).items():
            yield f"  {milliseconds:7.2f} ms  {kind}"
        for key, milliseconds, count in rows[:top]:
            yield f"    {milliseconds:7.2f} ms {count:5d} x  {key}"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser("python -m benchmarks.profiling", description=__doc__)
    parser.add_argument("--top", type=int, default=8, help="operations to list")
    args = parser.parse_args()
    for phase in ("offline", "online"):
        for line in report(phase, args.top):
            print(line)


if __name__ == "__main__":
    main()
