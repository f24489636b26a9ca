"""Times of a profile are told apart by what they are for."""

from __future__ import annotations

import pytest
import torch

from benchmarks.profiling import by_kind, shares


def test_kinds_share_out_all_the_time() -> None:
    rows = [("aten::mm", 2.0, 1), ("aten::addmm", 1.0, 1), ("aten::relu_", 0.5, 3)]
    rows += [("Optimizer.step#Adam.step", 0.25, 1), ("aten::tanh", 4.0, 1)]
    found = by_kind(rows)
    assert found["products"] == 3.0
    assert found["bias, ReLU and their gradients"] == 0.5
    assert found["optimiser and targets"] == 0.25
    assert found["other elementwise and overhead"] == 4.0


def test_an_update_is_profiled_operation_by_operation(capfd: pytest.CaptureFixture[str]) -> None:
    x = torch.randn(64, 64)
    rows = shares(lambda: torch.tanh(torch.mm(x, x)))
    counts = {name: count for name, _, count in rows}
    assert counts["aten::mm"] == counts["aten::tanh"] == 1
    assert all(milliseconds >= 0.0 for _, milliseconds, _ in rows)
    capfd.readouterr()  # the profiler's own lines
