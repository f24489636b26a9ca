"""The stage `meta_train` of GMPS and MAML-PG on the tiny data of the fixture `finished`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pipeline import gmps_train
from tests.pipeline.tiny_stage import TinyStage

TINY = """
envs: [point-robot]
methods: [gmps, maml-pg]
rounds: 0
settings:
  point-robot:
    demonstrations: {{episodes: 2}}
    evaluate:
      train_tasks: 3
      exploration_curve: [4]
      adaptation: {{repeats: 2, context_size: 8}}
  point-robot/gmps: &tiny
    meta_train:
      iterations: 3
      demonstrations: {shown}
      networks: {{policy: [8, 8]}}
      learner:
        exploration_episodes: 2
        updates_per_batch: 2
        outer_rows: 5
        aggregate_every: {aggregate}
        initial_rate: {rate}
  point-robot/maml-pg:
    meta_train:
      iterations: 3
      networks: {{policy: [8, 8]}}
      learner: {{exploration_episodes: 2, updates_per_batch: 2, initial_rate: 0.1}}
"""


class GmpsStage(TinyStage):
    """GMPS and MAML-PG."""

    module, template, method = gmps_train, TINY, "gmps"
    defaults: ClassVar = {"shown": 2, "aggregate": 2, "rate": 0.1}

    def data(self, method: str) -> Path:
        return self.finished.path("demonstrations" if method == "gmps" else "collect")
