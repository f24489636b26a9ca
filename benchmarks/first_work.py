"""Runs a stage up to its first work and prints when that began, as ``time.monotonic()``.

First work is the first episode, posterior, label or update: modules are imported, compiled code is
loaded, inputs are read and checked. ``python -m benchmarks.first_work <stage> <its command line>``.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from typing import NoReturn

LEARNERS = ("meta_train", "finetune")


def _stop(*_args: object, **_options: object) -> NoReturn:
    print(time.monotonic(), flush=True)
    os._exit(0)  # the stage must not go on, and leaves its outputs as they are


def main(stage: str, words: list[str]) -> None:
    """Run a stage until it first acts, infers, decodes or learns.

    Args:
        stage: A stage that acts or learns.
        words: Its command line.

    Raises:
        RuntimeError: It came to its end without any of that.
    """
    module = importlib.import_module(f"pipeline.{stage}")
    if stage in LEARNERS:
        vars(importlib.import_module("pipeline.phase"))["train"] = _stop
    else:
        agent = importlib.import_module("smac_core.agent").Agent
        driver = importlib.import_module("smac_core.envs.episodes").BatchDriver
        agent.infer = agent.decode = driver.run = _stop
    module.run(module.make_parser().parse_args(words))
    raise RuntimeError(f"{stage} finished without work")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
