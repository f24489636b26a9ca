"""How the configuration resolves: layers of YAML over frozen dataclasses, strictly checked.

Layers, the later over the earlier: the defaults of `pipeline.sections`, `config/env/<env>.yaml`,
`config/method/<method>.yaml`, the `settings` of the preset (for all environments, for one, for one
method in all, for one environment and method), those of an arm. Nothing else changes a
hyperparameter. A method may bring a dataclass of its own for a stage; what is set for every method
then passes it by. `pipeline.layers` lists them.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from pipeline.layers import (
    CONFIG_FOLDER,
    NAME,
    SECTIONS,
    env_chain,
    layers,
    method_chain,
)
from pipeline.methods import (
    IMPORT,
    MODULE,
    check_modules,
    import_section,
    method_config,
    methods_of,
    num_rounds,
    offline_method,
    section_class,
    stage_module,
)
from pipeline.preset_checks import check_arm, check_methods_in, check_settings
from pipeline.sections import (
    ENV_STAGES,
    STAGES,
    ArmConfig,
    CollectConfig,
    EnvConfig,
    EvaluateConfig,
    FinetuneConfig,
    MetaTrainConfig,
    MethodConfig,
    RelabelConfig,
    ReportConfig,
    RolloutConfig,
    RunConfig,
    StageConfig,
    TasksConfig,
    without_effect,
)
from pipeline.strict import (
    build,
    check_name,
    deep_merge,
    json_schema,
    nearest,
    read_yaml,
    require_mapping,
)
from smac_core.errors import ConfigError

__all__ = [
    "CONFIG_FOLDER", "ENV_STAGES", "NAME", "STAGES", "ArmConfig", "CollectConfig", "EnvConfig",
    "EvaluateConfig", "FinetuneConfig", "MetaTrainConfig", "MethodConfig", "RelabelConfig",
    "ReportConfig", "RolloutConfig", "RunConfig", "StageConfig", "TasksConfig", "declared_needs",
    "deep_merge", "env_chain", "env_config", "left_out", "load_run", "method_chain",
    "method_config", "methods_of", "num_rounds", "offline_method", "plug_ins", "preset_schema",
    "read_run", "resolved", "section_class", "section_json", "stage_config", "stage_module",
    "to_json",
]  # fmt: skip

_FOLDER = re.compile(r"[A-Za-z0-9_./-]+")


def load_run(mapping: Mapping[str, Any], where: object = "the preset") -> RunConfig:
    """Checks a preset: keys, types, names, and that its environments and methods exist.

    Args:
        mapping: The preset as YAML gives it.
        where: Its file, for errors.

    Returns:
        The run.

    Raises:
        ConfigError: The first fault found.
    """
    run = build(RunConfig, mapping, where)
    for module in run.envs_with.values():
        check_name(module, MODULE, "a module", f"{where}.envs_with")
    there = [env for env in run.envs_with if env not in run.envs and env not in left_out(run)]
    run = dataclasses.replace(run, envs=(*run.envs, *there))
    arms = [arm for arm in run.arms if arm not in run.methods]
    run = dataclasses.replace(run, methods=(*run.methods, *arms))
    check_name(run.results, _FOLDER, "a folder", f"{where}.results")
    for kind, names in (("env", run.envs), ("method", run.methods), ("seed", run.seeds)):
        if not names or len(set(names)) < len(names):
            fault = "twice the same" if names else "an empty list"
            raise ConfigError(fault, where=f"{where}.{kind}s", found=list(names) or None)
    for name in run.arms:
        check_arm(run, name, f"{where}.arms.{name}")
    for env in run.envs:
        env_chain(run, env)
        num_rounds(run, env)
    for key in run.rounds if isinstance(run.rounds, dict) else ():
        env, _, method = key.partition("/")
        env_chain(run, env)
        if "/" in key:
            method_chain(run, method)
    for method in run.methods:
        offline_method(run, method)
    check_methods_in(run, f"{where}.methods_in")
    check_modules(run.stages, f"{where}.stages")
    for key, sections in run.settings.items():
        check_settings(run, key, sections, f"{where}.settings.{key}")
    return run


def left_out(run: RunConfig) -> dict[str, str]:
    """Lists the environments of a preset that lack what they need.

    Args:
        run: The preset.

    Returns:
        Environment to the module that is not installed.
    """
    needs = run.envs_with.items()
    return {env: module for env, module in needs if find_spec(module.partition(".")[0]) is None}


def read_run(text_or_path: str) -> RunConfig:
    """Reads a preset from its file, or from the JSON text of a run.

    Args:
        text_or_path: A path, or JSON that starts with a brace.

    Returns:
        The run.

    Raises:
        ConfigError: The first fault found.
    """
    if text_or_path.startswith("{"):
        return load_run(_parse_json(text_or_path), "--config")
    return load_run(read_yaml(text_or_path), text_or_path)


def preset_schema() -> dict[str, Any]:
    """Derives the JSON schema of a preset, for editors and `snakemake.utils.validate`.

    Returns:
        The schema.
    """
    return json_schema(RunConfig)


def stage_config(
    run: RunConfig, stage: str, env: str | None = None, method: str | None = None
) -> Any:
    """Resolves one section: defaults, environment, method, settings of the preset.

    Args:
        run: The preset.
        stage: Name of the stage.
        env: The environment; none for the report.
        method: The method; none for stages that belong to an environment.

    Returns:
        The dataclass of that stage, typed Any: its class follows from the name.

    Raises:
        ConfigError: A fault in one of the files, which is named.
    """
    if stage not in STAGES:
        raise ConfigError("unknown stage", found=stage, fix=nearest(stage, STAGES))
    if stage in ENV_STAGES:
        method = None  # one dataset serves every method
    cls = STAGES[stage] if method is None else section_class(run, stage, method)
    whose = "/".join(name for name in (env, method) if name is not None)
    return _effective(_resolve(run, stage, cls, env, method), f"{stage} of {whose}")


def env_config(run: RunConfig, env: str) -> EnvConfig:
    """Resolves the environment itself.

    Args:
        run: The preset.
        env: Its name, that of its file.

    Returns:
        The environment's id, definition and parameters.

    Raises:
        ConfigError: A fault in its file, or no definition there.
    """
    config: EnvConfig = _resolve(run, "env", EnvConfig, env, None)
    return _checked_env(dataclasses.replace(config, id=env), f"config of environment {env}")


def plug_ins(section: object) -> list[str]:
    """Lists the code that a section names by import string, which its stage then reaches.

    Args:
        section: A dataclass of the configuration.

    Returns:
        Import strings.
    """
    named = [getattr(section, "agent", None)]
    named.append(getattr(getattr(section, "learner", None), "actor", None))
    return [text for text in named if isinstance(text, str) and ":" in text]


def to_json(config: Any) -> str:
    """Writes a dataclass as compact JSON with sorted keys.

    Args:
        config: A dataclass of this module.

    Returns:
        The text.
    """
    return json.dumps(dataclasses.asdict(config), sort_keys=True, separators=(",", ":"))


def section_json(run: RunConfig, stage: str, env: str, method: str | None = None) -> str:
    """Writes what `--config` takes: the resolved section of a stage and its environment.

    Args:
        run: The preset.
        stage: The stage.
        env: The environment.
        method: The method, where the stage has one.

    Returns:
        JSON text with the keys env, section and stage, class where a method brings its own,
        and what the method needs of the offline data.
    """
    document = {
        "env": dataclasses.asdict(env_config(run, env)),
        "section": dataclasses.asdict(stage_config(run, stage, env, method)),
        "stage": stage,
    }
    if method is not None:
        head = method_config(run, method)
        if stage in head.sections:
            document["class"] = head.sections[stage]
        if stage == "meta_train" and head.needs:
            document["needs"] = list(head.needs)
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def resolved(
    stage: str, text_or_path: str, env: str, method: str | None = None
) -> tuple[EnvConfig, Any]:
    """Gives a stage its configuration, from either form of `--config`.

    Args:
        stage: The stage that asks.
        text_or_path: JSON text of a resolved section, or the path of a preset.
        env: What `--env` says.
        method: What `--method` says.

    Returns:
        The environment and the stage's dataclass, typed Any: its class follows from the name.

    Raises:
        ConfigError: A fault in the configuration, or one made for another stage or environment.
    """
    if not text_or_path.startswith("{"):
        run = read_run(text_or_path)
        return env_config(run, env), stage_config(run, stage, env, method)
    document = _parse_json(text_or_path)
    for key, value in (("stage", stage), ("env.id", env)):
        outer, _, inner = key.partition(".")
        found = document.get(outer)
        if inner:
            found = found.get(inner) if isinstance(found, Mapping) else None
        if found != value:
            raise ConfigError(
                "made for something else", where=f"--config, {key}", expected=value, found=found
            )
    extra = set(document) - {"stage", "env", "section", "class", "needs"}
    if extra:
        raise ConfigError("unknown key", where=f"--config, {min(extra)}")
    section = require_mapping(document.get("section"), "--config, section")
    config = _checked_env(build(EnvConfig, document["env"], "--config, env"), "--config, env")
    cls: type[Any] = STAGES[stage]
    if "class" in document:
        cls = import_section(str(document["class"]), "--config, class")
    return config, _effective(build(cls, section, "--config, section"), "--config, section")


def declared_needs(text_or_path: str, method: str) -> tuple[str, ...]:
    """Tells what a method needs of the offline data.

    Args:
        text_or_path: JSON text of a resolved section, or the path of a preset.
        method: The method.

    Returns:
        Names of `pipeline.sections.NEEDS`.

    Raises:
        ConfigError: A fault in the configuration.
    """
    if not text_or_path.startswith("{"):
        return method_config(read_run(text_or_path), method).needs
    named = {"needs": _parse_json(text_or_path).get("needs", [])}
    return build(MethodConfig, named, "--config").needs


def _parse_json(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise ConfigError("not valid JSON", where="--config", found=fault) from None
    return require_mapping(document, "--config")


def _resolve(run: RunConfig, section: str, cls: type, env: str | None, method: str | None) -> Any:
    config = cls()
    # Which rows a phase may see is the data's affair, whatever dataclass the method brings.
    own = {field.name for field in dataclasses.fields(cls)} & {"replay"}
    shared = None if cls is SECTIONS[section] else own
    for where, overlay in layers(run, section, env, method, shared):
        if overlay:
            merged = deep_merge(dataclasses.asdict(config), overlay)
            # Checked layer by layer, so that a fault is told with the file it stands in.
            config = build(cls, merged, where)
    return config


def _effective(section: Any, where: str) -> Any:
    if fault := without_effect(section):
        raise ConfigError("settings without effect", where=where, found=fault, fix="drop them")
    return section


def _checked_env(config: EnvConfig, where: str) -> EnvConfig:
    check_name(config.id, NAME, "an environment", f"{where}.id")
    check_name(config.definition, IMPORT, "a class (package.module:Class)", f"{where}.definition")
    return config
