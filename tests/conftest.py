"""What tests of several packages share."""

from __future__ import annotations

import pytest

from smac_core.envs import rendering
from smac_core.errors import SmacError


@pytest.fixture
def graphics() -> None:
    """Skip where this machine has no way to draw; that it then says so is a test of its own."""
    try:
        rendering._open_context(rendering.choose_backend()).free()
    except SmacError as error:
        pytest.skip(str(error))
