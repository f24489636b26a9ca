"""What every Zarr store holds: one table, from which it is written, checked and documented."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smac_core.errors import StoreError

Array = np.ndarray[Any, np.dtype[Any]]

SCHEMA_VERSION = 1
EPISODE_SOURCES = {"init": 0, "prior": 1, "posterior": 2, "scripted": 3, "expert": 4}
EPISODE_ENDS = {"no such episode": 0, "time limit": 1, "terminal state": 2, "diverged": 3}


@dataclass(frozen=True)
class ArraySpec:
    """One array of a store: where it is, its type, its dimensions, its meaning."""

    path: str
    dtype: str
    dims: tuple[str, ...]
    doc: str
    optional: bool = False
    finite: bool = True
    absent: bool = False  # may be nan throughout, where the method has no such thing


@dataclass(frozen=True)
class AttributeSpec:
    """One attribute that every store of a kind has."""

    name: str
    type: type
    doc: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """One kind of store: its attributes and, in order, its arrays, once per arm when `by_arm`."""

    doc: str
    attributes: tuple[AttributeSpec, ...]
    arrays: tuple[ArraySpec, ...]
    by_arm: bool = False


_ENV_ID = AttributeSpec("env_id", str, "environment, such as `point-robot`")
_PER_EPISODE = ("task", "repeat", "episode")

KINDS: Mapping[str, Kind] = {
    "transitions": Kind(
        "Experience in the order of its collection. `next_obs` is derived: the next row, or "
        "`meta/final_obs` at the end of an episode.",
        (
            _ENV_ID,
            AttributeSpec("env_params", dict, "parameters of the environment"),
            AttributeSpec("obs_dim", int, "length of an observation"),
            AttributeSpec("action_dim", int, "length of an action"),
            AttributeSpec(
                "reward_source",
                str,
                "who gave the rewards; with `none` there is no reward array",
                ("environment", "decoder", "none"),
            ),
        ),
        (
            ArraySpec("data/obs", "f4", ("time", "obs_dim"), "observation before the action"),
            ArraySpec("data/action", "f4", ("time", "action_dim"), "action, each entry in [-1, 1]"),
            ArraySpec(
                "data/position",
                "f4",
                ("time", "xy"),
                "position before the action (m), for figures and `encoder_updates` of GMPS",
                optional=True,
            ),
            ArraySpec("data/reward", "f4", ("time",), "reward of the step, unscaled", True),
            ArraySpec("data/terminated", "b1", ("time",), "the task ended the episode here"),
            ArraySpec("data/truncated", "b1", ("time",), "a limit of steps ended it here"),
            ArraySpec("data/task_id", "i4", ("time",), "task, an index into tasks.json"),
            ArraySpec("meta/episode_ends", "i8", ("episode",), "row after the last, cumulative"),
            ArraySpec("meta/final_obs", "f4", ("episode", "obs_dim"), "observation after the last"),
            ArraySpec("meta/episode_task_id", "i4", ("episode",), "task of the episode"),
            ArraySpec(
                "meta/episode_buffer",
                "i4",
                ("episode",),
                "task whose data the episode joins, and that label it; absent: its own",
                optional=True,
            ),
            ArraySpec(
                "meta/episode_source",
                "i1",
                ("episode",),
                "who acted: "
                + ", ".join(f"{code} {name}" for name, code in EPISODE_SOURCES.items()),
            ),
            ArraySpec("meta/episode_iteration", "i4", ("episode",), "iteration of the collection"),
            ArraySpec("meta/episode_ok", "b1", ("episode",), "false: cut, the simulator diverged"),
        ),
    ),
    "rewards": Kind(
        "One generated reward per row of a rollout store.",
        (
            _ENV_ID,
            AttributeSpec(
                "reward_source",
                str,
                "the learned decoder, or the environment for the oracle",
                ("decoder", "environment"),
            ),
            AttributeSpec("rollout_digest", str, "digest of the store whose rows these label"),
        ),
        (
            ArraySpec("data/generated_reward", "f4", ("time",), "reward, unscaled"),
            ArraySpec(
                "meta/episode_latent",
                "f4",
                ("episode", "latent_dim"),
                "z that the decoder was given; absent with true rewards",
                optional=True,
            ),
        ),
    ),
    "evaluation": Kind(
        "Meta-test of one checkpoint: a group per arm, such as `online`, `offline`, `prior`.",
        (
            _ENV_ID,
            AttributeSpec("method", str, "method, such as `smac`"),
            AttributeSpec("seed", int, "seed of the method"),
            AttributeSpec("round", int, "0 is the offline checkpoint"),
            AttributeSpec("self_supervised_steps", int, "environment steps without reward so far"),
            AttributeSpec("arms", list, "names of the arms, each of [a-z0-9_]"),
            AttributeSpec(
                "count",
                str,
                "how the meta-test counts: exactly so many episodes (arms `*_online`), or whole "
                "episodes up to so many transitions (arms `*_online_transitions`)",
                ("episodes", "transitions"),
            ),
            AttributeSpec("measures", list, "what `measure` holds, such as `forward_velocity`"),
            AttributeSpec("measure_units", list, "their units, such as `m/s`"),
        ),
        (
            ArraySpec("arms/{arm}/task_id", "i4", ("task",), "task, an index into tasks.json"),
            ArraySpec(
                "arms/{arm}/episode_return",
                "f4",
                _PER_EPISODE,
                "undiscounted sum of rewards; nan: there was no such episode",
                finite=False,
            ),
            ArraySpec(
                "arms/{arm}/episode_length",
                "i4",
                _PER_EPISODE,
                "steps; 0: there was no such episode",
            ),
            ArraySpec(
                "arms/{arm}/episode_end",
                "i1",
                _PER_EPISODE,
                "how it ended: "
                + ", ".join(f"{code} {name}" for name, code in EPISODE_ENDS.items()),
            ),
            ArraySpec(
                "arms/{arm}/measure",
                "f4",
                (*_PER_EPISODE, "measure"),
                "what the episode was physically, see `measures`; nan: there was no such episode",
                finite=False,
            ),
            ArraySpec(
                "arms/{arm}/posterior_mean",
                "f4",
                ("task", "repeat", "latent_dim"),
                "of q(z | context); nan throughout, of one dimension: the method has no posterior",
                absent=True,
            ),
            ArraySpec(
                "arms/{arm}/posterior_variance",
                "f4",
                ("task", "repeat", "latent_dim"),
                "a variance; nan throughout, as the mean",
                absent=True,
            ),
            ArraySpec(
                "arms/{arm}/posterior_kl",
                "f4",
                ("task", "repeat"),
                "from the unit normal, nats; nan without a posterior",
                finite=False,
            ),
            ArraySpec(
                "arms/{arm}/decoder_mse",
                "f4",
                ("task", "repeat"),
                "squared error of the decoded rewards; nan without a decoder",
                finite=False,
            ),
            ArraySpec(
                "arms/{arm}/start_value",
                "f4",
                ("task", "repeat"),
                "min(Q1, Q2) of the first step of the last episode, scaled rewards",
                optional=True,
                finite=False,
            ),
            ArraySpec(
                "arms/{arm}/discounted_return",
                "f4",
                ("task", "repeat"),
                "what was realised in that episode, discounted and scaled as the critic has it",
                optional=True,
                finite=False,
            ),
            ArraySpec(
                "arms/{arm}/first_path",
                "f4",
                ("task", "step", "xy"),
                "positions in the first episode, as `final_path`",
                optional=True,
                finite=False,
            ),
            ArraySpec(
                "arms/{arm}/final_path",
                "f4",
                ("task", "step", "xy"),
                "positions in the last episode, the start first (m); nan after its end",
                optional=True,
                finite=False,
            ),
        ),
        by_arm=True,
    ),
}

COMMON = (
    ("schema_version", f"{SCHEMA_VERSION}; a reader refuses any other"),
    ("kind", "a heading of this page"),
    ("arrays", "sha256 of type, shape and values of every array"),
    ("files", "sha256 of every other file of the store: a lost chunk or a flipped bit is named"),
    ("versions", "of the libraries that wrote it"),
    ("complete", "true, written last"),
    ("seal", "sha256 of all other attributes"),
)
COMMON_ATTRIBUTES = frozenset(name for name, _ in COMMON)
_FIXED = {"xy": 2}
_ARM = re.compile(r"[a-z0-9_]+")


def _check_attributes(where: Path, kind: str, attributes: Mapping[str, Any]) -> None:
    for spec in KINDS[kind].attributes:
        if spec.name not in attributes:
            raise StoreError("the store lacks an attribute", where=where, expected=spec.name)
        value = attributes[spec.name]
        if type(value) is not spec.type or (spec.choices and value not in spec.choices):
            raise StoreError(
                f"attribute {spec.name} is wrong",
                where=where,
                expected=" or ".join(spec.choices) or spec.type.__name__,
                found=repr(value),
            )
    if reserved := sorted(COMMON_ATTRIBUTES & set(attributes)):
        raise StoreError("the attribute name is taken", where=where, found=", ".join(reserved))


def layout(where: Path, kind: str, attributes: Mapping[str, Any]) -> dict[str, ArraySpec]:
    """Lists the arrays that a store of these attributes may have.

    Args:
        where: The store, for the message.
        kind: A key of KINDS.
        attributes: Attributes, without those that every store has.

    Returns:
        Specification by path, in the order of the schema.

    Raises:
        StoreError: An attribute is missing, wrong or reserved.
    """
    _check_attributes(where, kind, attributes)
    if not KINDS[kind].by_arm:
        return {spec.path: spec for spec in KINDS[kind].arrays}
    found: dict[str, ArraySpec] = {}
    for arm in attributes["arms"]:
        if not isinstance(arm, str) or not _ARM.fullmatch(arm):
            raise StoreError("bad arm name", where=where, expected="[a-z0-9_]+", found=repr(arm))
        found |= {spec.path.format(arm=arm): spec for spec in KINDS[kind].arrays}
    return found


def _check_array(where: str, spec: ArraySpec, array: Array, sizes: dict[str, int]) -> None:
    if array.dtype != np.dtype(spec.dtype):
        raise StoreError(
            "wrong type", where=where, expected=np.dtype(spec.dtype), found=array.dtype
        )
    if array.ndim != len(spec.dims):
        expected = f"[{', '.join(spec.dims)}]"
        raise StoreError("wrong shape", where=where, expected=expected, found=array.shape)
    for dim, size in zip(spec.dims, array.shape, strict=True):
        if sizes.setdefault(dim, size) != size:
            expected = f"{dim}={sizes[dim]}"
            raise StoreError("wrong length", where=where, expected=expected, found=size)
    if spec.absent and np.isnan(array).all():
        return
    if spec.finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise StoreError("a value is not finite", where=where, found=f"{array[row]} in row {row}")


def _check_episodes(where: Path, arrays: Mapping[str, Array]) -> None:
    ends = arrays["meta/episode_ends"]
    rows = len(arrays["data/obs"])
    lengths = np.diff(ends, prepend=0)
    if (lengths <= 0).any() or (int(ends[-1]) if len(ends) else 0) != rows:
        expected = f"increasing numbers up to {rows}"
        raise StoreError("meta/episode_ends is wrong", where=where, expected=expected)
    if (np.repeat(arrays["meta/episode_task_id"], lengths) != arrays["data/task_id"]).any():
        raise StoreError("data/task_id differs from meta/episode_task_id", where=where)
    if not np.isin(arrays["meta/episode_source"], list(EPISODE_SOURCES.values())).all():
        raise StoreError("meta/episode_source holds an unknown code", where=where)
    inside = arrays["data/terminated"] | arrays["data/truncated"]
    inside[ends - 1] = False
    if inside.any():
        found = f"row {int(np.argmax(inside))}"
        raise StoreError("an episode goes on after its end", where=where, found=found)


def check_content(
    where: Path, kind: str, arrays: Mapping[str, Array], attributes: Mapping[str, Any]
) -> dict[str, ArraySpec]:
    """Checks arrays and attributes against the schema.

    Args:
        where: The store, for the message.
        kind: A key of KINDS.
        arrays: Arrays by path.
        attributes: Attributes, without those that every store has.

    Returns:
        The specification of every array given, by path, in the order of the schema.

    Raises:
        StoreError: Anything differs from the schema.
    """
    allowed = layout(where, kind, attributes)
    if unknown := sorted(set(arrays) - set(allowed)):
        raise StoreError("the schema has no such array", where=where, found=", ".join(unknown))
    fixed = {dim: attributes[dim] for dim in ("obs_dim", "action_dim") if dim in attributes}
    fixed |= {"measure": len(attributes["measures"])} if "measures" in attributes else {}
    sizes: dict[str, dict[str, int]] = {}
    for path, spec in allowed.items():
        if path in arrays:
            # Arms measure different tasks: lengths agree within an arm, not between arms.
            group = sizes.setdefault(path.partition("arms/")[2].partition("/")[0], _FIXED | fixed)
            _check_array(f"{where}/{path}", spec, arrays[path], group)
        elif not spec.optional:
            raise StoreError("the store lacks an array", where=where, expected=path)
    if kind == "transitions":
        if ("data/reward" in arrays) == (attributes["reward_source"] == "none"):
            found = f"reward_source {attributes['reward_source']!r}"
            raise StoreError("data/reward contradicts reward_source", where=where, found=found)
        _check_episodes(where, arrays)
    return {path: spec for path, spec in allowed.items() if path in arrays}
