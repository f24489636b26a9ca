"""Whose files and settings hold for an environment and a method, and in which order.

An environment may be a variant `of` another, an arm of a study is a method `of` another: all that
holds for that one holds for it too, under its own.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.sections import ENV_STAGES, STAGES, EnvConfig, MethodConfig, RunConfig
from pipeline.strict import check_name, nearest, read_yaml, require_mapping
from smac_core.errors import ConfigError

CONFIG_FOLDER = Path(__file__).resolve().parents[1] / "config"
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
SECTIONS: dict[str, type] = {"env": EnvConfig, **STAGES}
METHOD_SECTIONS = frozenset(SECTIONS) - {"env", *ENV_STAGES, "report"}

Layer = tuple[str, dict[str, Any]]
"""Where it stands, for errors, and what is laid over a section."""


def overlay_path(run: RunConfig, kind: str, name: str, where: object = None) -> Path:
    """Finds the file of an environment or a method.

    Args:
        run: The preset, which may name folders of its own.
        kind: env or method.
        name: The name.
        where: Where it stands, for errors.

    Returns:
        The file.

    Raises:
        ConfigError: There is none.
    """
    check_name(name, NAME, f"a file of config/{kind}", where or f"the preset's {kind}s")
    folders = _folders(run, kind)
    path = _find(folders, name)
    if path is not None:
        return path
    known = {path.stem for folder in folders for path in folder.glob("*.yaml")}
    known |= set(run.arms) if kind == "method" else set()
    raise ConfigError(f"unknown {kind}", where=where, found=name, fix=nearest(name, known))


def is_method_file(run: RunConfig, name: str) -> bool:
    """Tells whether a method file has this name."""
    return _find(_folders(run, "method"), name) is not None


def _folders(run: RunConfig, kind: str) -> list[Path]:
    # A folder is meant from where the run happens, or from the checkout.
    named = [Path(root, f) for f in run.config_folders for root in ("", CONFIG_FOLDER.parent)]
    return [folder / kind for folder in (*named, CONFIG_FOLDER)]


def _find(folders: Sequence[Path], name: str) -> Path | None:
    paths = (folder / f"{name}.yaml" for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def document(path: Path) -> Mapping[str, Any]:
    """Reads a file of an environment or a method, once as long as it stays the same.

    Args:
        path: The file.

    Returns:
        The mapping; not to be changed.

    Raises:
        ConfigError: It is no YAML mapping.
    """
    stamp = path.stat()
    return _document(path, stamp.st_mtime_ns, stamp.st_size)


@functools.lru_cache(maxsize=1024)
def _document(path: Path, changed: int, size: int) -> dict[str, Any]:
    return read_yaml(path)


def env_chain(run: RunConfig, env: str) -> tuple[str, ...]:
    """Lists the environments whose files and settings hold for one.

    Args:
        run: The preset.
        env: The environment.

    Returns:
        The one that is no variant first, the environment itself last.

    Raises:
        ConfigError: An unknown one, or a circle.
    """

    def of(name: str) -> str | None:
        path = overlay_path(run, "env", name)
        source = document(path).get("of")
        if source is not None and not isinstance(source, str):
            raise ConfigError(
                "wrong value", where=f"{path}: of", expected="an environment", found=source
            )
        if source is not None:
            overlay_path(run, "env", source, f"{path}: of")
        return source

    return _chain(env, of, "`of` of the environments")


def method_chain(run: RunConfig, method: str) -> tuple[str, ...]:
    """Lists the methods whose settings hold for one.

    Args:
        run: The preset.
        method: A method or an arm.

    Returns:
        The method that has a file first, then arms, the named one last.

    Raises:
        ConfigError: An unknown one, or a circle.
    """

    def of(name: str) -> str | None:
        if name not in run.arms:
            overlay_path(run, "method", name)
            return None
        source = run.arms[name].of
        if source not in run.arms:
            overlay_path(run, "method", source, f"arms.{name}.of")
        return source

    return _chain(method, of, "`of` of the arms")


def _chain(name: str, of: Callable[[str], str | None], what: str) -> tuple[str, ...]:
    seen = [name]
    while (source := of(seen[-1])) is not None:
        if source in seen:
            raise ConfigError(f"{what} runs in a circle", found=" -> ".join([*seen, source]))
        seen.append(source)
    return tuple(reversed(seen))


def refuse_sections(found: Mapping[str, Any], valid: Any, where: object) -> None:
    """Refuses a section that does not belong where it stands.

    Args:
        found: Sections by name.
        valid: Names that belong there.
        where: The file or key.

    Raises:
        ConfigError: The first that does not.
    """
    for key in found:
        if key not in valid:
            raise ConfigError("unknown section", where=f"{where}: {key}", fix=nearest(key, valid))


def layers(
    run: RunConfig, section: str, env: str | None, method: str | None, shared: set[str] | None
) -> Iterator[Layer]:
    """Lists what is laid over the defaults of a section, the last of which wins.

    Args:
        run: The preset.
        section: Its name.
        env: The environment; none for the report.
        method: The method or arm; none for stages that belong to an environment.
        shared: Keys of what is said for all methods that count for this one; None: all of them.

    Yields:
        The layers.

    Raises:
        ConfigError: A section that does not belong where it stands.
    """
    settings = run.settings

    def of_every_method(layer: Layer) -> Layer:
        where, overlay = layer
        return where, {k: v for k, v in overlay.items() if shared is None or k in shared}

    envs = env_chain(run, env) if env is not None else ()
    for name in envs[:1]:
        yield of_every_method(_of_env_file(run, section, name))
    methods = method_chain(run, method) if method is not None else ()
    for name in methods[:1]:
        yield from _of_method_file(run, section, name)
    yield of_every_method(_of_settings(settings, "all", section))
    for place, name in enumerate(envs):
        if place:  # a variant's change must win over what is set for the one it is a variant of
            yield of_every_method(_of_env_file(run, section, name))
        yield of_every_method(_of_settings(settings, name, section))
    for name in methods[:1]:
        for key in ("all", *envs):
            yield _of_settings(settings, f"{key}/{name}", section)
    for name in methods[1:]:
        for key in ("all", *envs):
            yield _of_settings(run.arms[name].settings, key, section, f"arms.{name}.")


def _of_settings(
    settings: Mapping[str, Mapping[str, Mapping[str, Any]]], key: str, section: str, whose: str = ""
) -> Layer:
    return f"{whose}settings.{key}.{section}", dict(settings.get(key, {}).get(section, {}))


def _of_env_file(run: RunConfig, section: str, env: str) -> Layer:
    path = overlay_path(run, "env", env)
    found = document(path)
    refuse_sections(found, {*SECTIONS, "of"} - {"report"}, path)
    return f"{path}: {section}", require_mapping(found.get(section), f"{path}: {section}")


def _of_method_file(run: RunConfig, section: str, method: str) -> Iterator[Layer]:
    path = overlay_path(run, "method", method)
    found = document(path)
    heads = {head.name for head in dataclasses.fields(MethodConfig)}
    refuse_sections(found, heads | METHOD_SECTIONS, path)
    if section == "evaluate" and found.get("agent"):
        yield f"{path}: agent", {"agent": found["agent"]}
    yield f"{path}: {section}", require_mapping(found.get(section), f"{path}: {section}")
