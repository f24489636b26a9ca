"""Fixtures that several tests share."""

from __future__ import annotations

import pytest

from tests.smac_core.stairs import Stairs


@pytest.fixture
def stairs() -> Stairs:
    return Stairs()
