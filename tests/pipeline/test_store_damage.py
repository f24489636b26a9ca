"""Damaged, half-written and hostile stores are refused with one line that names the fault."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import files, schema, store
from smac_core.errors import OutputError, StoreError

quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


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
def test_a_flipped_bit_in_any_file_is_found(written: Path, seed: int, tree: Any) -> None:
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


def test_missing_truncated_and_foreign_files_are_named(written: Path, tree: Any) -> None:
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
    full_disk: Path, transitions: Any, attributes: Any, tree: Any, monkeypatch: pytest.MonkeyPatch
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
