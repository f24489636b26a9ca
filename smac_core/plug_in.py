"""Import strings: how a configuration names code that is not part of this package."""

from __future__ import annotations

import importlib
from typing import Any

from smac_core.errors import ConfigError


def load_import(text: str, where: str) -> Any:
    """Find what an import string names.

    Args:
        text: ``package.module:name``.
        where: The key that holds it, for errors.

    Returns:
        The object, typed Any: only its user knows what it must be.

    Raises:
        ConfigError: It is no import string, or there is no such module or name.
    """
    module, _, name = text.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            "nothing to import",
            where=where,
            expected="package.module:name that can be imported",
            found=f"{text!r}, {error}",
            fix="correct it, install the package, or put its folder on PYTHONPATH",
        ) from error
