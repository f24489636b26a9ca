"""From the import string of an environment to the environment."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from smac_core.envs.definition import Environment
from smac_core.errors import ConfigError


def find_environment(definition: str) -> type[Environment]:
    """Find the class of an environment.

    Args:
        definition: ``package.module:Class``.

    Returns:
        The class.

    Raises:
        ConfigError: The module or the class does not exist.
    """
    module_name, _, class_name = definition.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            "unknown environment definition",
            where=definition,
            expected="package.module:Class that can be imported",
            found=str(error),
            fix="correct env.definition in the config",
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Environment)):
        raise ConfigError(
            "not an environment",
            where=definition,
            expected="a subclass of smac_core.envs.definition:Environment",
            fix="correct env.definition in the config",
        )
    return cls


def load_environment(definition: str, params: Mapping[str, object] | None = None) -> Environment:
    """Build an environment from its import string.

    Args:
        definition: ``package.module:Class``.
        params: Keyword arguments of the class.

    Returns:
        The environment.

    Raises:
        ConfigError: The module, the class or a parameter does not exist.
    """
    cls = find_environment(definition)
    try:
        return cls(**dict(params or {}))
    except TypeError as error:
        raise ConfigError(
            "environment refuses its parameters",
            where=definition,
            found=str(error),
            fix="correct env.params in the config",
        ) from error
