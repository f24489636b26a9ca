"""What a method of a preset is: its file's head, its modules and dataclasses, its rounds."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Mapping
from typing import Any

from pipeline.layers import (
    METHOD_SECTIONS,
    SECTIONS,
    document,
    env_chain,
    method_chain,
    overlay_path,
)
from pipeline.sections import STAGES, MethodConfig, RunConfig
from pipeline.strict import build, check_name, nearest
from smac_core.errors import ConfigError

MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
IMPORT = re.compile(MODULE.pattern + r":[A-Za-z_]\w*", re.ASCII)


def methods_of(run: RunConfig, env: str) -> tuple[str, ...]:
    """Lists the methods and arms that run in an environment.

    Args:
        run: The preset.
        env: The environment.

    Returns:
        Names, in the order of the preset.
    """

    def here(name: str) -> bool:
        if name in run.arms and run.arms[name].envs:
            return env in run.arms[name].envs
        return env not in run.methods_in or name in run.methods_in[env]

    return tuple(name for name in run.methods if here(name))


def section_class(run: RunConfig, stage: str, method: str) -> type[Any]:
    """Finds the dataclass of a stage's section: the stage's own, or the one a method brings.

    Args:
        run: The preset.
        stage: Name of the stage.
        method: The method.

    Returns:
        The class.

    Raises:
        ConfigError: What the method file names is no frozen dataclass.
    """
    own = method_config(run, method).sections.get(stage)
    if own is None:
        return STAGES[stage]
    path = overlay_path(run, "method", method_chain(run, method)[0])
    return import_section(own, f"{path}: sections.{stage}")


def import_section(text: str, where: str) -> type[Any]:
    """Imports the dataclass that a section is built from.

    Args:
        text: Import string.
        where: Where it stands, for errors.

    Returns:
        The class.

    Raises:
        ConfigError: There is none, or it is no frozen dataclass with defaults.
    """
    check_name(text, IMPORT, "a class (package.module:Class)", where)
    module, _, name = text.partition(":")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as fault:
        raise ConfigError(
            "no such section",
            where=where,
            expected="package.module:Class that can be imported",
            found=f"{text}, {fault}",
        ) from None
    frozen = getattr(getattr(cls, "__dataclass_params__", None), "frozen", False)
    if not (isinstance(cls, type) and frozen):
        raise ConfigError("not a section", where=where, expected="a frozen dataclass", found=text)
    try:
        cls()
    except TypeError as fault:
        raise ConfigError(
            "not a section", where=where, expected="a default for every field", found=fault
        ) from None
    return cls


def method_config(run: RunConfig, method: str) -> MethodConfig:
    """Reads the head of a method file, which an arm shares but for its label and offline phase.

    Args:
        run: The preset.
        method: The name of a file, or an arm.

    Returns:
        Label, rounds, and whose offline phase it uses.

    Raises:
        ConfigError: A fault in the file.
    """
    file, *arms = method_chain(run, method)
    config = _method_head(run, file)
    for name in arms:
        arm = run.arms[name]
        config = dataclasses.replace(config, label=arm.label or name)
        if arm.offline_of is not None:
            config = dataclasses.replace(config, offline_of=arm.offline_of)
    return config


def _method_head(run: RunConfig, method: str) -> MethodConfig:
    path = overlay_path(run, "method", method)
    head = {key: value for key, value in document(path).items() if key not in SECTIONS}
    config = build(MethodConfig, head, path)
    check_modules(config.stages, f"{path}: stages")
    for stage, text in config.sections.items():
        if stage not in METHOD_SECTIONS:
            raise ConfigError(
                "unknown stage of a method",
                where=f"{path}: sections.{stage}",
                fix=nearest(stage, STAGES),
            )
        check_name(text, IMPORT, "a class (package.module:Class)", f"{path}: sections.{stage}")
    if config.agent:
        check_name(config.agent, IMPORT, "a function (package.module:function)", f"{path}: agent")
    return config if config.label else dataclasses.replace(config, label=method)


def offline_method(run: RunConfig, method: str) -> str:
    """Finds the method whose `meta_train` checkpoint is round 0 of a method.

    Args:
        run: The preset.
        method: The method.

    Returns:
        The name of that method: itself, unless `offline_of` says otherwise.

    Raises:
        ConfigError: An unknown method, or a circle.
    """
    seen: list[str] = []
    while True:
        if method in seen:
            raise ConfigError("offline_of runs in a circle", found=" -> ".join([*seen, method]))
        seen.append(method)
        source = method_config(run, method).offline_of
        if source is None:
            return method
        method = source


def num_rounds(run: RunConfig, env: str, method: str | None = None) -> int:
    """Counts the rounds after the offline phase.

    Args:
        run: The preset.
        env: The environment.
        method: The method; one without an online phase has none.

    Returns:
        The number of the last round.

    Raises:
        ConfigError: The preset gives rounds per environment, but not for this one.
    """
    if method is not None and method_config(run, method).rounds == "none":
        return 0
    if isinstance(run.rounds, int):
        return run.rounds
    methods = method_chain(run, method) if method is not None else ()
    for place in reversed(env_chain(run, env)):
        for key in (*(f"{place}/{name}" for name in reversed(methods)), place):
            if key in run.rounds:
                return run.rounds[key]
    raise ConfigError("no number of rounds", where="rounds", expected=env)


def stage_module(run: RunConfig, stage: str, method: str | None = None) -> str:
    """Names the module that `python -m` runs for a stage.

    Args:
        run: The preset.
        stage: The stage.
        method: The method, whose file may bring a module of its own.

    Returns:
        A dotted module name.
    """
    own = method_config(run, method).stages if method is not None else {}
    return run.stages.get(stage, own.get(stage, f"pipeline.{stage}"))


def check_modules(stages: Mapping[str, str], where: str) -> None:
    """Refuses modules in place of stages that there are not.

    Args:
        stages: Module by stage.
        where: Where they stand, for errors.

    Raises:
        ConfigError: The first of them.
    """
    for stage, module in stages.items():
        if stage not in STAGES:
            raise ConfigError("unknown stage", where=f"{where}.{stage}", fix=nearest(stage, STAGES))
        check_name(module, MODULE, "a module", f"{where}.{stage}")
