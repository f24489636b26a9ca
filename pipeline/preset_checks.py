"""What a preset's settings, arms and choice of methods must keep to."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from pipeline.layers import (
    METHOD_SECTIONS,
    NAME,
    SECTIONS,
    is_method_file,
    method_chain,
    overlay_path,
    refuse_sections,
)
from pipeline.methods import methods_of, offline_method, section_class
from pipeline.sections import RunConfig
from pipeline.strict import build, check_name, deep_merge, nearest
from smac_core.errors import ConfigError


def check_settings(
    run: RunConfig, key: str, sections: Mapping[str, Mapping[str, Any]], where: str
) -> None:
    """Refuses settings that nothing would take up, or that their section refuses.

    Args:
        run: The preset.
        key: Whom they are for: all, an environment, a method in all, or in one environment.
        sections: Overlay by section.
        where: Where they stand, for errors.

    Raises:
        ConfigError: The first fault found.
    """
    env, _, method = key.partition("/")
    if env != "all":
        overlay_path(run, "env", env, where)
    if method in run.arms:
        raise ConfigError(
            "settings of an arm", where=where, fix=f"put them under arms.{method}.settings.{env}"
        )
    if "/" in key:
        overlay_path(run, "method", method, where)
    valid = set(SECTIONS) - (set() if key == "all" else {"report"})
    _check_sections(run, sections, METHOD_SECTIONS if "/" in key else valid, method, where)


def _check_sections(
    run: RunConfig,
    sections: Mapping[str, Mapping[str, Any]],
    valid: Collection[str],
    method: str,
    where: str,
) -> None:
    refuse_sections(sections, valid, where)
    for section, overlay in sections.items():
        # Also where no environment of this run takes it up: a fault must not wait for its turn.
        cls = section_class(run, section, method) if method else SECTIONS[section]
        build(cls, deep_merge(dataclasses.asdict(cls()), overlay), f"{where}.{section}")


def check_arm(run: RunConfig, name: str, where: str) -> None:
    """Refuses an arm whose name is taken, or whose settings have no effect.

    Args:
        run: The preset.
        name: The arm.
        where: Where it stands, for errors.

    Raises:
        ConfigError: The first fault found.
    """
    arm = run.arms[name]
    check_name(name, NAME, "an arm", where)
    if is_method_file(run, name):
        raise ConfigError("an arm with the name of a method", where=where, fix="rename the arm")
    method_chain(run, name)
    for env in arm.envs:
        overlay_path(run, "env", env, f"{where}.envs")
    if arm.offline_of is not None and arm.offline_of not in run.arms:
        overlay_path(run, "method", arm.offline_of, f"{where}.offline_of")
    for key, sections in arm.settings.items():
        if key != "all":
            overlay_path(run, "env", key, f"{where}.settings.{key}")
        _check_sections(run, sections, METHOD_SECTIONS, name, f"{where}.settings.{key}")
        source = offline_method(run, name)
        if "meta_train" in sections and source != name:
            raise ConfigError(
                f"settings without effect: round 0 is that of {source}",
                where=f"{where}.settings.{key}.meta_train",
                fix=f"put them where the offline phase of {source} is set, or drop offline_of",
            )


def check_methods_in(run: RunConfig, where: str) -> None:
    """Refuses methods of an environment that the run lacks, and environments without a method.

    Args:
        run: The preset.
        where: Where they stand, for errors.

    Raises:
        ConfigError: The first fault found.
    """
    for env, names in run.methods_in.items():
        overlay_path(run, "env", env, where)
        for name in names:
            if name not in run.methods:
                raise ConfigError(
                    "not a method of this run",
                    where=f"{where}.{env}",
                    found=name,
                    fix=nearest(name, run.methods),
                )
    for env in run.envs:
        if not methods_of(run, env):
            raise ConfigError("no method runs here", where=f"{where}.{env}", found=env)
