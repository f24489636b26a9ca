"""A store is read as it was written; what does not follow the schema is not written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import derived, schema, store
from smac_core.errors import StoreError

ROOT = Path(__file__).parents[2]
Arrays = dict[str, np.ndarray]
quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def rewards() -> tuple[Arrays, dict[str, Any]]:
    arrays = {
        "data/generated_reward": np.arange(8, dtype=np.float32),
        "meta/episode_latent": np.zeros((3, 5), dtype=np.float32),
    }
    return arrays, {"env_id": "point-robot", "reward_source": "decoder", "rollout_digest": "00"}


def evaluation() -> tuple[Arrays, dict[str, Any]]:
    arrays: Arrays = {}
    for arm, tasks in (("online", 4), ("prior", 2)):
        group = f"arms/{arm}/"
        arrays[group + "task_id"] = np.arange(tasks, dtype=np.int32)
        arrays[group + "episode_return"] = np.full((tasks, 2, 3), np.nan, dtype=np.float32)
        arrays[group + "episode_length"] = np.zeros((tasks, 2, 3), dtype=np.int32)
        arrays[group + "episode_end"] = np.zeros((tasks, 2, 3), dtype=np.int8)
        arrays[group + "measure"] = np.full((tasks, 2, 3, 2), np.nan, dtype=np.float32)
        arrays[group + "posterior_mean"] = np.zeros((tasks, 2, 5), dtype=np.float32)
        arrays[group + "posterior_variance"] = np.ones((tasks, 2, 5), dtype=np.float32)
        arrays[group + "posterior_kl"] = np.zeros((tasks, 2), dtype=np.float32)
        arrays[group + "decoder_mse"] = np.full((tasks, 2), np.nan, dtype=np.float32)
    arrays["arms/online/final_path"] = np.zeros((4, 21, 2), dtype=np.float32)
    attributes = {
        "env_id": "point-robot",
        "method": "smac",
        "seed": 0,
        "round": 1,
        "self_supervised_steps": 5000,
        "arms": ["online", "prior"],
        "count": "episodes",
        "measures": ["goal_distance", "distance"],
        "measure_units": ["m", "m"],
    }
    return arrays, attributes


def test_transitions_come_back(tmp_path: Path, transitions: Any, attributes: Any) -> None:
    arrays = transitions()
    digest = store.write_store(tmp_path / "a.zarr", "transitions", arrays, attributes(note="more"))
    read = store.read_store(tmp_path / "a.zarr", "transitions", env_id="point-robot")
    assert list(read.arrays) == [spec.path for spec in store.KINDS["transitions"].arrays]
    for name, array in arrays.items():
        assert read.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(read.arrays[name], array)
        assert read.arrays[name].flags.writeable
    assert read.attributes == attributes(note="more")
    assert read.digest == digest == store.recorded_digest(tmp_path / "a.zarr")
    assert read.array_digests == store.recorded_array_digests(tmp_path / "a.zarr")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


def test_other_kinds_come_back(tmp_path: Path) -> None:
    for kind, (arrays, attributes) in (("rewards", rewards()), ("evaluation", evaluation())):
        store.write_store(tmp_path / kind, kind, arrays, attributes)
        store.check_store(tmp_path / kind)
        read = store.read_store(tmp_path / kind, kind)
        assert set(read.arrays) == set(arrays)
        assert all(np.array_equal(read.arrays[n], arrays[n], equal_nan=True) for n in arrays)


def test_a_store_without_rewards_has_no_reward_array(
    written: Path, transitions: Any, attributes: Any
) -> None:
    arrays = transitions()
    del arrays["data/reward"]
    store.write_store(written, "transitions", arrays, attributes(reward_source="none"))
    assert not (written / "data" / "reward").exists()
    read = store.read_store(written, "transitions")
    with pytest.raises(StoreError, match="the store has no rewards"):
        derived.episode_returns(read)


def test_equal_content_gives_equal_files(
    tmp_path: Path, transitions: Any, attributes: Any, tree: Any
) -> None:
    big = transitions((5000,) * 40)
    for name in ("a", "b"):
        store.write_store(tmp_path / name, "transitions", big, attributes())
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_digest_is_of_the_content_alone(
    tmp_path: Path, transitions: Any, attributes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> str:
        return store.write_store(tmp_path / "a", "transitions", arrays, attributes())

    arrays = transitions()
    first = write()
    monkeypatch.setattr(store, "versions", lambda: {"numpy": "9"})
    monkeypatch.setattr(store, "BloscCodec", lambda **_: zarr.codecs.BloscCodec(cname="lz4"))
    assert write() == first
    assert store.read_store(tmp_path / "a", "transitions").digest == first
    arrays["data/obs"][0, 0] += 1
    assert write() != first


def test_array_digest_tells_type_shape_and_value() -> None:
    array = np.arange(6, dtype=np.float32)
    others = [array.astype(np.int32), array.reshape(2, 3), array + 1]
    assert len({store.array_digest(other) for other in [array, *others]}) == 4
    big_endian = array.astype(">f4")
    assert store.array_digest(big_endian) == store.array_digest(array)
    columns = np.asfortranarray(array.reshape(2, 3))
    assert store.array_digest(columns) == store.array_digest(array.reshape(2, 3))


def test_zarr_alone_opens_a_store(written: Path, transitions: Any) -> None:
    group = zarr.open_group(str(written), mode="r")
    assert group.attrs["env_id"] == "point-robot"
    assert group.attrs["complete"] is True
    assert group.attrs["schema_version"] == store.SCHEMA_VERSION
    assert {"numpy", "zarr", "mujoco", "gymnasium"} <= set(group.attrs["versions"])
    obs = group["data/obs"]
    np.testing.assert_array_equal(obs[...], transitions()["data/obs"])
    assert obs.metadata.dimension_names == ("time", "obs_dim")
    assert np.isnan(obs.fill_value)
    codecs = [codec.to_dict() for codec in obs.metadata.codecs]
    assert [codec["name"] for codec in codecs] == ["bytes", "blosc", "crc32c"]
    assert codecs[1]["configuration"] | {"cname": "zstd", "clevel": 5} == codecs[1]["configuration"]
    assert codecs[1]["configuration"]["shuffle"] == "bitshuffle"


def test_chunks_hold_a_megabyte_and_zeros_are_written(
    tmp_path: Path, transitions: Any, attributes: Any
) -> None:
    arrays = transitions((100_000,) * 3)
    arrays["data/reward"][:] = 0
    store.write_store(tmp_path / "a", "transitions", arrays, attributes())
    chunks = {name: len(list((tmp_path / "a" / name / "c").iterdir())) for name in arrays}
    # 300 000 rows x 2 columns x 4 bytes = 2.4 MB; 1.2 MB for one column; 0.3 MB for a flag.
    assert chunks["data/obs"] == 3
    assert chunks["data/reward"] == 2
    assert chunks["data/terminated"] == 1


def test_empty_and_wide_stores(tmp_path: Path, transitions: Any, attributes: Any) -> None:
    store.write_store(tmp_path / "a", "transitions", transitions(()), attributes())
    empty = store.read_store(tmp_path / "a", "transitions")
    assert derived.next_obs(empty).shape == (0, 2)
    assert derived.episode_returns(empty).shape == (0,)
    wide = transitions((2,), obs_dim=300_000)  # one row is more than a chunk
    store.write_store(tmp_path / "b", "transitions", wide, attributes(obs_dim=300_000))
    np.testing.assert_array_equal(
        store.read_store(tmp_path / "b", "transitions").arrays["data/obs"], wide["data/obs"]
    )


@quick
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_next_obs_and_returns_follow_the_episodes(
    lengths: list[int], transitions: Any, attributes: Any
) -> None:
    arrays = transitions(tuple(lengths))
    read = store.Store(Path("a"), "transitions", arrays, attributes(), {}, "")
    rows, returns = [], []
    for episode, end in enumerate(arrays["meta/episode_ends"]):
        span = range(end - lengths[episode], end)
        rows += [arrays["data/obs"][row] for row in span[1:]]
        rows.append(arrays["meta/final_obs"][episode])
        returns.append(sum(float(arrays["data/reward"][row]) for row in span))
    np.testing.assert_array_equal(derived.next_obs(read), rows)
    np.testing.assert_allclose(derived.episode_returns(read), returns, rtol=1e-12)
    assert derived.episode_returns(read).dtype == np.float64


def broken(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], None]:
    def apply(arrays: Arrays) -> None:
        arrays[name] = change(arrays[name].copy())

    return apply


def put(index: Any, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def apply(array: np.ndarray) -> np.ndarray:
        array[index] = value
        return array

    return apply


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (broken("data/obs", lambda a: a.astype("f8")), "data/obs, expected float32, found float64"),
        (broken("data/obs", lambda a: a.astype(object)), "found object"),
        (broken("data/obs", lambda a: a[:-1]), "expected time=7, found 8"),
        (broken("data/obs", lambda a: a[:, :1]), "expected obs_dim=2, found 1"),
        (broken("data/reward", lambda a: a[:, None]), r"expected \[time\], found \(8, 1\)"),
        (broken("data/reward", put(3, np.nan)), "data/reward, found nan in row 3"),
        (broken("meta/final_obs", put((1, 0), np.inf)), "not finite: in .*final_obs"),
        (broken("meta/episode_ends", put(-1, 9)), "episode_ends is wrong"),
        (broken("meta/episode_ends", put(0, 0)), "episode_ends is wrong"),
        (broken("meta/episode_ends", put(1, 3)), "episode_ends is wrong"),
        (broken("meta/episode_source", put(0, 9)), "unknown code"),
        (broken("data/task_id", put(0, 7)), "data/task_id differs"),
        (broken("data/terminated", put(1, True)), "goes on after its end: .*row 1"),
        (lambda arrays: arrays.pop("data/action"), "lacks an array: .*data/action"),
        (lambda arrays: arrays.pop("data/reward"), "contradicts reward_source"),
        (lambda arrays: arrays.update(x=np.zeros(1)), "no such array: .*found x"),
    ],
)
def test_wrong_arrays_are_not_written(
    tmp_path: Path, transitions: Any, attributes: Any, change: Any, text: str
) -> None:
    arrays = transitions()
    change(arrays)
    with pytest.raises(StoreError, match=text):
        store.write_store(tmp_path / "a", "transitions", arrays, attributes())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"env_id": 3}, "attribute env_id is wrong: .*expected str, found 3"),
        ({"obs_dim": True}, "attribute obs_dim is wrong: .*expected int, found True"),
        ({"obs_dim": 3}, "expected obs_dim=3, found 2"),
        ({"reward_source": "oracle"}, "expected environment or decoder or none"),
        ({"reward_source": "none"}, "contradicts reward_source"),
        ({"complete": True}, "the attribute name is taken: .*complete"),
        ({"note": {1, 2}}, "an attribute is no JSON"),
        ({"note": float("nan")}, "an attribute is no JSON"),
    ],
)
def test_wrong_attributes_are_not_written(
    tmp_path: Path, transitions: Any, attributes: Any, change: dict[str, Any], text: str
) -> None:
    with pytest.raises(StoreError, match=text):
        store.write_store(tmp_path / "a", "transitions", transitions(), attributes(**change))
    assert not list(tmp_path.iterdir())


def test_a_missing_attribute_is_named(tmp_path: Path, transitions: Any, attributes: Any) -> None:
    lacking = attributes()
    del lacking["env_params"]
    with pytest.raises(StoreError, match=r"lacks an attribute: .*expected env_params"):
        store.write_store(tmp_path / "a", "transitions", transitions(), lacking)


@pytest.mark.parametrize("arms", [["../x"], ["A"], [""], [3], ["online"], []])
def test_arms_are_names_and_cover_the_arrays(tmp_path: Path, arms: list[Any]) -> None:
    arrays, attributes = evaluation()
    with pytest.raises(StoreError, match=r"bad arm name|no such array"):
        store.write_store(tmp_path / "a", "evaluation", arrays, attributes | {"arms": arms})
    del arrays["arms/prior/posterior_kl"]
    with pytest.raises(StoreError, match="expected arms/prior/posterior_kl"):
        store.write_store(tmp_path / "a", "evaluation", arrays, attributes)


def test_documentation_is_generated() -> None:
    assert (ROOT / "docs" / "data.md").read_text() == store.markdown()
    command = [sys.executable, "-m", "pipeline.store"]
    docs = subprocess.run([*command, "--docs"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    assert docs.stdout.decode() == store.markdown()
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode != 0


def test_every_array_is_documented() -> None:
    text = store.markdown()
    dims = {dim for kind in store.KINDS.values() for spec in kind.arrays for dim in spec.dims}
    for kind in store.KINDS.values():
        for spec in kind.arrays:
            assert f"| `{spec.path}` | {spec.dtype} |" in text
    for dim in dims - {"obs_dim", "action_dim", "xy"}:
        assert f"| `{dim}` |" in text
    for name in schema.COMMON_ATTRIBUTES:
        assert f"| `{name}` |" in text


def test_files_are_read_without_torch() -> None:
    code = (
        "import sys, pipeline.verify, pipeline.manifest, pipeline.cli\n"
        "assert not {'torch', 'numba', 'mujoco', 'gymnasium'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
