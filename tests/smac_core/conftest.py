"""Fixtures that several tests share."""

from __future__ import annotations

from functools import partial

import pytest

from smac_core.dense import run_network
from tests.smac_core.stairs import Stairs


@pytest.fixture
def stairs() -> Stairs:
    return Stairs()


@pytest.fixture(params=["as the CPU", "as a GPU"])
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two ways through a network; both run on this machine."""
    if request.param == "as a GPU":
        batched = partial(run_network, batched=True)
        monkeypatch.setattr("smac_core.networks.run_network", batched)
    return str(request.param)
