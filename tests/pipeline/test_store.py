"""A store is read as it was written, or refused with one line that names the damage."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
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

from pipeline import files, schema, store
from smac_core.errors import OutputError, StoreError

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
    }
    return arrays, attributes


@pytest.fixture
def written(tmp_path: Path, transitions: Callable[..., Arrays], attributes: Any) -> Path:
    store.write_store(tmp_path / "a.zarr", "transitions", transitions(), attributes())
    return tmp_path / "a.zarr"


def tree(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def edit_root(path: Path, *, seal: bool = True, **changes: Any) -> None:
    """Changes attributes as a writer would who knows the format."""
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"] |= changes
    if seal:
        document["attributes"] = files.seal(document["attributes"])
    files.write_json(path / "zarr.json", document)


def edit_array(path: Path, name: str, **changes: Any) -> None:
    """Changes an array's metadata and every digest that would tell."""
    document = json.loads((path / name / "zarr.json").read_text()) | changes
    files.write_json(path / name / "zarr.json", document)
    root = json.loads((path / "zarr.json").read_text())["attributes"]
    root["files"][f"{name}/zarr.json"] = files.sha256_file(path / name / "zarr.json")
    edit_root(path, files=root["files"])


def refused(path: Path, match: str, kind: str = "transitions", **options: Any) -> str:
    with pytest.raises(StoreError, match=match) as caught:
        store.read_store(path, kind, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
        store.episode_returns(read)


def test_equal_content_gives_equal_files(tmp_path: Path, transitions: Any, attributes: Any) -> None:
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
    assert store.next_obs(empty).shape == (0, 2)
    assert store.episode_returns(empty).shape == (0,)
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
    np.testing.assert_array_equal(store.next_obs(read), rows)
    np.testing.assert_allclose(store.episode_returns(read), returns, rtol=1e-12)
    assert store.episode_returns(read).dtype == np.float64


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


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    text = refused(tmp_path / "a.zarr", "there is no such store")
    assert text.endswith(f"snakemake --cores all --forcerun {tmp_path / 'a.zarr'}")
    (tmp_path / "b.zarr").touch()
    refused(tmp_path / "b.zarr", "there is no such store")


def test_wrong_kind_environment_and_version(written: Path) -> None:
    refused(written, "expected rewards, found transitions", "rewards")
    refused(written, "expected ant-dir, found point-robot", env_id="ant-dir")
    edit_root(written, schema_version=2)
    refused(written, "expected version 1, found version 2")
    edit_root(written, schema_version=1, kind="models")
    refused(written, "unknown kind of store: .*'models'")
    with pytest.raises(StoreError, match="unknown kind"):
        store.check_store(written)


def test_a_half_written_store_is_refused(written: Path) -> None:
    edit_root(written, complete=False)
    refused(written, "half written")
    (written / "zarr.json").unlink()
    refused(written, "half written")
    shutil.rmtree(written)
    written.mkdir()
    refused(written, "half written")


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_in_any_file_is_found(written: Path, seed: int) -> None:
    rng = random.Random(seed)
    for name, whole in tree(written).items():
        changed = bytearray(whole)
        changed[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        (written / name).write_bytes(changed)
        text = refused(written, "damaged|changed|half written|another schema|unknown kind")
        assert name == "zarr.json" or name in text
        (written / name).write_bytes(whole)
    store.check_store(written)


def test_every_byte_of_the_attributes_counts(written: Path) -> None:
    path = written / "zarr.json"
    whole = path.read_bytes()
    rng = random.Random(0)
    for position in rng.sample(range(len(whole)), 500):
        changed = bytearray(whole)
        changed[position] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(StoreError):
            store.recorded_digest(written)


def test_missing_truncated_and_foreign_files_are_named(written: Path) -> None:
    for name, whole in tree(written).items():
        if name == "zarr.json":
            continue
        (written / name).unlink()
        assert name in refused(written, "missing")
        (written / name).write_bytes(whole[: len(whole) // 2])
        assert name in refused(written, "the file is damaged")
        (written / name).write_bytes(whole)
    (written / "data" / "obs" / "c" / "9").mkdir()
    (written / "data" / "obs" / "c" / "9" / "0").touch()
    assert "data/obs/c/9/0" in refused(written, "does not belong")


def test_what_snakemake_leaves_in_a_folder_is_ignored(written: Path) -> None:
    (written / ".snakemake_timestamp").touch()
    store.check_store(written)


def test_a_chunk_forgotten_by_its_writer_is_found(written: Path) -> None:
    (written / "data" / "obs" / "c" / "0" / "0").unlink()
    root = json.loads((written / "zarr.json").read_text())["attributes"]
    del root["files"]["data/obs/c/0/0"]
    edit_root(written, files=root["files"])
    refused(written, "chunks are missing: .*data/obs, expected 1 chunks, found 0")


def test_values_that_differ_from_their_digest_are_found(written: Path) -> None:
    root = json.loads((written / "zarr.json").read_text())["attributes"]
    edit_root(written, arrays=root["arrays"] | {"data/obs": "0" * 64})
    refused(written, "the values are damaged: .*data/obs")


class Bomb:
    """Pickles into a call that leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.trace),))


def test_pickled_objects_are_never_loaded(written: Path, tmp_path: Path) -> None:
    import pickle

    trace = tmp_path / "trace"
    chunk = written / "data" / "obs" / "c" / "0" / "0"
    chunk.write_bytes(pickle.dumps([Bomb(trace)] * 16))
    root = json.loads((written / "zarr.json").read_text())["attributes"]
    edit_root(written, files=root["files"] | {"data/obs/c/0/0": files.sha256_file(chunk)})
    pickled = [{"name": "numcodecs.pickle", "configuration": {"protocol": 5}}]
    for changes, text in (
        ({"codecs": pickled}, "the codec is not allowed: .*numcodecs.pickle"),
        ({"codecs": None}, "the codec is not allowed"),
        ({"codecs": pickled, "data_type": "object"}, "the data type is not allowed: .*'object'"),
        ({"data_type": {"name": "null_terminated_bytes"}}, "the data type is not allowed"),
        ({"storage_transformers": [{"name": "x"}]}, "the codec is not allowed"),
    ):
        before = (written / "data" / "obs" / "zarr.json").read_bytes()
        edit_array(written, "data/obs", **changes)
        refused(written, text)
        (written / "data" / "obs" / "zarr.json").write_bytes(before)
    assert not trace.exists()


def test_a_version_2_store_with_pickles_is_never_opened(written: Path, tmp_path: Path) -> None:
    import pickle

    folder = written / "data" / "obs"
    chunk = pickle.dumps(Bomb(tmp_path / "trace"))
    shutil.rmtree(folder)
    folder.mkdir()
    metadata = {
        "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": None,
        "order": "C", "compressor": None, "filters": [{"id": "pickle", "protocol": 5}],
    }  # fmt: skip
    (folder / "0").write_bytes(chunk)
    root = json.loads((written / "zarr.json").read_text())["attributes"]
    recorded = {n: d for n, d in root["files"].items() if not n.startswith("data/obs/")}
    recorded["data/obs/0"] = files.sha256_file(folder / "0")
    (folder / "zarray").write_text(json.dumps(metadata))
    (folder / "zarray").rename(folder / ".zarray")
    edit_root(written, files=recorded)
    refused(written, "there is no such file: .*data/obs/zarr.json")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [10**12, 2]},
        {"shape": [-1, 2]},
        {"shape": [8]},
        {"shape": "8"},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**12, 2]}}},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0, 2]}}},
        {"chunk_grid": {"name": "other"}},
        {"chunk_key_encoding": {"name": "other"}},
        {"codecs": []},
        {"codecs": ["bytes"]},
        {"codecs": [{"name": "crc32c"}]},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}]},
        {"fill_value": "x"},
        {"dimension_names": ["a"]},
        {"node_type": "group"},
        {"zarr_format": 4},
        {"data_type": "int64"},
        {"data_type": []},
    ],
)
def test_impossible_metadata_is_refused(written: Path, changes: dict[str, Any]) -> None:
    edit_array(written, "data/obs", **changes)
    refused(written, "damaged|not allowed|unexpected chunks|chunks are missing")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@quick
@given(data=st.data())
def test_forged_attributes_give_one_line(written: Path, data: st.DataObject) -> None:
    whole = (written / "zarr.json").read_bytes()
    names = [*sorted(schema.COMMON_ATTRIBUTES - {"seal", "versions"}), "env_id", "reward_source"]
    edit_root(written, **{data.draw(st.sampled_from(names)): data.draw(json_values)})
    # Anything but a StoreError fails here; a value may also happen to be a right one.
    with contextlib.suppress(StoreError):
        read = store.read_store(written, "transitions")
        assert isinstance(read.attributes["env_id"], str)
    (written / "zarr.json").write_bytes(whole)


@pytest.mark.parametrize("document", [[], {}, {"attributes": []}, {"attributes": {"complete": 1}}])
def test_a_root_of_another_shape_is_refused(written: Path, document: Any) -> None:
    files.write_json(written / "zarr.json", document)
    refused(written, "changed|half written")


def test_a_full_disk_leaves_the_old_store(
    full_disk: Path, transitions: Any, attributes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = full_disk / "a.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(files, "_sync", lambda _: None)  # the disk holds a small store
        store.write_store(path, "transitions", transitions((2,)), attributes())
    before = tree(path)
    with pytest.raises(OutputError, match="no space left on the disk"):
        store.write_store(path, "transitions", transitions((5000,) * 20), attributes())
    assert tree(path) == before
    assert [entry.name for entry in full_disk.iterdir()] == ["a.zarr"]


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
