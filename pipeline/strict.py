"""Strict reading of configuration: YAML without duplicate keys, dataclasses without surprises.

The dataclasses are plain; pydantic checks types without coercion, and this module adds the nearest
key, the ranges, and the name of the file and section where a fault stands.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, Union

import pydantic
import yaml

from pipeline.sections import disagreement
from smac_core.errors import ConfigError

T = TypeVar("T")

_STRICT = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
_MAX_SEED = 2**32 - 1  # what numpy.random.RandomState takes; the published task lists need it
_MAX_INTEGER = 2**63 - 1
_AT_LEAST_ONE = {
    "bootstrap_samples", "context_size", "encoder", "decoder", "critic", "policy", "episodes",
    "evaluate_rounds", "hidden", "latent_dim", "latents_per_trajectory", "log_every", "num_tasks",
    "num_test", "num_train", "refresh_every", "repeats", "rows_per_task", "seeds_per_job",
    "seeds_per_learner", "tasks_per_iteration", "tasks_per_round", "train_tasks",
    "trajectories_per_task", "updates_per_graph", "action_embedding", "obs_embedding",
    "reward_embedding", "advantage_head", "inner_rows", "inner_steps", "layer_latent_dim",
    "outer_rows", "test_steps", "value", "demonstrations", "draws_per_task", "evaluate_repeats",
    "evaluate_explored", "exploration_curve", "outer_episodes", "updates_per_batch",
}  # fmt: skip
_ABOVE_ZERO = {
    "actor_learning_rate", "awac_temperature", "confidence", "critic_learning_rate",
    "learning_rate", "reward_scale", "action_std", "head_weight", "initial_rate", "initial_std",
    "max_weight", "outer_clip", "policy_learning_rate", "rate_learning_rate", "ratio_limits",
    "value_learning_rate",
}  # fmt: skip
_AT_MOST_ONE = {
    "confidence", "discount", "gae_lambda", "relabel_probability", "target_mix",
    "target_update_rate",
}  # fmt: skip
_SEEDS = {"seed", "seeds"}
_BRANCH = re.compile(r"(int|str|float|bool|none)$|.*[\[(]")


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []
        for name, _ in node.value:
            if name.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(name, deep=True)
            if key in seen:
                line = name.start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice (line {line})"
                )
            seen.append(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Reads a YAML file whose top level is a mapping.

    Args:
        path: The file.

    Returns:
        The mapping; empty for an empty file.

    Raises:
        ConfigError: The file is missing, is not YAML, or gives a key twice.
    """
    try:
        with Path(path).open(encoding="utf-8") as stream:
            document = yaml.load(stream, Loader=_Loader)
    except FileNotFoundError:
        raise ConfigError("there is no such config file", where=path) from None
    except (IsADirectoryError, NotADirectoryError, UnicodeDecodeError) as fault:
        raise ConfigError("not a config file", where=path, found=fault) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as fault:
        raise ConfigError("not valid YAML", where=path, found=fault) from None
    return require_mapping(document, path)


def require_mapping(value: object, where: object) -> dict[str, Any]:
    """Refuses anything but a mapping with text keys; nothing at all counts as an empty one.

    Args:
        value: What the file holds there.
        where: File and section.

    Returns:
        The mapping.

    Raises:
        ConfigError: It is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError("not a mapping", where=where, expected="keys: values", found=_show(value))
    return dict(value)


def deep_merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lays one mapping over another: mappings merge, anything else replaces.

    Args:
        base: What holds where the overlay is silent.
        overlay: What wins.

    Returns:
        A new mapping.
    """
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = deep_merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def retype(value: Any) -> Any:
    """Reads the numbers and truth values that are still text, as YAML would.

    Args:
        value: Text, or mappings and lists of text.

    Returns:
        The same with numbers and truth values.
    """
    if isinstance(value, Mapping):
        return {key: retype(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [retype(inner) for inner in value]
    if not isinstance(value, str):
        return value
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        return value
    return read if isinstance(read, int | float | None) else value


def nearest(found: str, valid: Iterable[str]) -> str:
    """Suggests what may have been meant.

    Args:
        found: The unknown name.
        valid: The names that exist.

    Returns:
        A clause for the `fix` of an error.
    """
    names = sorted(valid)
    close = difflib.get_close_matches(found, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"known are: {', '.join(names)}" if names else "none is known here"


def check_name(name: str, pattern: re.Pattern[str], what: str, where: object) -> str:
    """Refuses a name that could leave its folder or reach a shell as anything but a word.

    Args:
        name: The name.
        pattern: What the whole of it must match.
        what: What it names.
        where: Where it stands.

    Returns:
        The name.

    Raises:
        ConfigError: It does not match.
    """
    if not pattern.fullmatch(name):
        raise ConfigError(
            f"not a name for {what}", where=where, expected=pattern.pattern, found=_show(name)
        )
    return name


def build(cls: type[T], mapping: Mapping[str, Any], where: object) -> T:
    """Builds a frozen dataclass from a mapping, without coercion and within its ranges.

    Args:
        cls: The dataclass.
        mapping: Its fields; nested dataclasses as mappings, tuples as lists.
        where: File and section, for errors.

    Returns:
        The dataclass.

    Raises:
        ConfigError: An unknown key, a wrong type or a value out of range.
    """
    _refuse_unknown(cls, mapping, where, ())
    try:
        # Through JSON: pydantic's strict mode takes lists for tuples and mappings for dataclasses
        # from JSON only.
        text = json.dumps(mapping)
        (value,) = _adapter(cls).validate_json(f"[{text}]")
    except (TypeError, ValueError) as fault:
        if isinstance(fault, pydantic.ValidationError):
            raise _told(fault, where) from None
        raise ConfigError("a value that JSON cannot hold", where=where, found=fault) from None
    _check_ranges(value, where, ())
    return typing.cast(T, value)


def json_schema(cls: type) -> dict[str, Any]:
    """Derives the JSON schema of a dataclass.

    Args:
        cls: The dataclass.

    Returns:
        The schema, with `$schema`.
    """
    whole = _adapter(cls).json_schema()
    item = whole["prefixItems"][0]
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **item}
    return {**schema, "$defs": whole["$defs"]} if "$defs" in whole else schema


def _adapter(cls: type) -> pydantic.TypeAdapter[Any]:
    # A tuple around it: pydantic takes a config for a tuple and hands it down to the dataclasses.
    if cls not in _ADAPTERS:
        _ADAPTERS[cls] = pydantic.TypeAdapter(tuple[cls], config=_STRICT)  # type: ignore[valid-type]
    return _ADAPTERS[cls]


_ADAPTERS: dict[type, pydantic.TypeAdapter[Any]] = {}


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _dotted(where: object, location: Iterable[object]) -> str:
    path = ".".join(str(part) for part in location)
    return f"{where}.{path}" if path else str(where)


def _dataclass_of(annotation: Any) -> type | None:
    if dataclasses.is_dataclass(annotation):
        return typing.cast(type, annotation)
    if typing.get_origin(annotation) in {Union, types.UnionType}:
        return next(filter(None, map(_dataclass_of, typing.get_args(annotation))), None)
    return None


def _dataclass_by_name(annotation: Any) -> type | None:
    if typing.get_origin(annotation) is not dict:
        return None
    return _dataclass_of(typing.get_args(annotation)[1])


def _refuse_unknown(
    cls: type, mapping: Mapping[str, Any], where: object, location: tuple[str, ...]
) -> None:
    hints = typing.get_type_hints(cls)
    fields = {field.name for field in dataclasses.fields(cls)}
    for key, value in mapping.items():
        if key not in fields:
            raise ConfigError(
                "unknown key", where=_dotted(where, (*location, key)), fix=nearest(str(key), fields)
            )
        inner = _dataclass_of(hints[key])
        if inner is not None and isinstance(value, Mapping):
            _refuse_unknown(inner, value, where, (*location, key))
        by_name = _dataclass_by_name(hints[key])
        if by_name is not None and isinstance(value, Mapping):
            for name, one in value.items():
                if isinstance(one, Mapping):
                    _refuse_unknown(by_name, one, where, (*location, key, str(name)))


def _told(fault: pydantic.ValidationError, where: object) -> ConfigError:
    first = fault.errors(include_url=False)[0]
    # The first part is the place in the tuple; a union adds the name of its branch.
    location = [part for part in first["loc"][1:] if not _BRANCH.match(str(part))]
    found = first["input"]
    fix = None
    if isinstance(found, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", found):
        fix = f"YAML reads {found} as text: write it with a point, such as 1.0e-3"
    if first["type"] == "missing":
        return ConfigError("a key is missing", where=_dotted(where, location))
    message = first["msg"]
    if message.startswith("Input should be "):
        return ConfigError(
            "wrong value",
            where=_dotted(where, location),
            expected=message.removeprefix("Input should be "),
            found=_show(found),
            fix=fix,
        )
    return ConfigError(message, where=_dotted(where, location))


def _check_ranges(value: Any, where: object, location: tuple[str, ...]) -> None:
    fault = disagreement(value)
    if fault:
        raise ConfigError("values that disagree", where=_dotted(where, location), found=fault)
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        here = (*location, field.name)
        if dataclasses.is_dataclass(inner):
            _check_ranges(inner, where, here)
            continue
        numbers = inner if isinstance(inner, tuple) else (inner,)
        if isinstance(inner, Mapping) and field.name == "rounds":
            numbers = tuple(inner.values())
        for number in numbers:
            fault = _range_fault(field.name, number)
            if fault:
                raise ConfigError(
                    "value out of range", where=_dotted(where, here), expected=fault, found=number
                )


def _range_fault(name: str, number: object) -> str | None:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    # No quantity of this project is negative.
    low = 1.0 if name in _AT_LEAST_ONE else 0.0
    high = 1.0 if name in _AT_MOST_ONE else math.inf
    if isinstance(number, int):
        high = min(high, _MAX_SEED if name in _SEEDS else _MAX_INTEGER)
    if name in _ABOVE_ZERO and number <= 0:
        return "more than 0"
    if not low <= number <= high:
        return f"{low:g} to {high:g}"
    return None
