"""Small presets, and what is said of bad ones."""

from __future__ import annotations

import pytest

from pipeline import config as cf
from smac_core.errors import ConfigError


def preset(**changes):
    return {"envs": ["point-robot"], "methods": ["smac"], **changes}


def fault_of(act):
    """Returns the message of the ConfigError, empty when there is none; others pass through."""
    try:
        act()
    except ConfigError as fault:
        return str(fault)
    return ""


def refused(mapping):
    """Returns the message of the ConfigError, which must be one line."""
    with pytest.raises(ConfigError) as caught:
        cf.load_run(mapping)
    assert "\n" not in str(caught.value)
    return str(caught.value)
