"""Whichever way batches are drawn and updates are taken, the updates are the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from kernels.random import philox4x32
from smac_core.config import LearnerConfig, NetworkConfig, PearlConfig
from smac_core.dataset import Dataset, Transitions, build_dataset
from smac_core.device_sampler import DeviceSampler, philox, table_bytes
from smac_core.engine import ChunkEngine, ChunkSource, HostEngine, PrefetchSource, make_engine
from smac_core.learner import Batch, Learner
from smac_core.networks import Shapes
from smac_core.pearl import PearlLearner
from smac_core.sampler import HostSampler

CPU = torch.device("cpu")
NETWORKS = NetworkConfig(encoder=(8,), decoder=(8,), critic=(8, 8), policy=(8, 8), latent_dim=3)
CONFIG = LearnerConfig(num_tasks=3, rows_per_task=5, context_size=7, learning_rate=1e-3)
CHUNK = 4


def random_dataset(seed: int, tasks: int = 3, rows: int = 9) -> Dataset:
    rng = np.random.default_rng(seed)
    num = tasks * rows

    def normal(*dims: int) -> np.ndarray:
        return rng.normal(size=(num, *dims)).astype(np.float32)

    table = Transitions(
        obs=normal(2),
        action=np.tanh(normal(1)),
        reward=normal(),
        next_obs=normal(2),
        terminated=(normal() > 1.0).astype(np.float32),
        task_id=np.arange(num) // rows,
        source=np.zeros(num, np.int64),
    )
    of_task = [np.flatnonzero(table.task_id == t) for t in range(tasks)]
    return build_dataset(table, range(tasks), [r[:6] for r in of_task], [r[-4:] for r in of_task])


SHARED = random_dataset(0)
# Several datasets differ in everything that may differ: rows, tasks, and how many of each.
DATASETS = {
    "one seed": [SHARED],
    "a shared dataset": [SHARED, SHARED],
    "a dataset each": [SHARED, random_dataset(1, tasks=5, rows=12)],
}


def seeds_of(datasets: list[Dataset]) -> list[int]:
    return [6, 2][: len(datasets)]


def host(datasets: list[Dataset]) -> HostSampler:
    return HostSampler(datasets, CONFIG, NETWORKS.latent_dim, seeds_of(datasets))


def device_sampler(datasets: list[Dataset]) -> DeviceSampler:
    seeds = seeds_of(datasets)
    return DeviceSampler(datasets, CONFIG, NETWORKS.latent_dim, seeds, CPU, CHUNK)


SOURCES = {
    "drawn on the device": device_sampler,
    "drawn ahead": lambda datasets: PrefetchSource(host(datasets), CPU, CHUNK),
}


def test_philox_is_that_of_the_kernels() -> None:
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**32, (50, 6))
    parts = [torch.from_numpy(words[:, i]) for i in range(6)]
    found = philox(parts[:4], parts[4:])
    expected = [philox4x32(*(np.uint32(word) for word in row)) for row in words]
    assert found.tolist() == [[int(word) for word in row] for row in expected]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("first", [0, 17, 2**33 - 2])
def test_every_source_draws_the_same_batches(source: str, name: str, first: int) -> None:
    datasets = DATASETS[name]
    chunks, plain = SOURCES[source](datasets), host(datasets)
    for start in (first, first + CHUNK, 5):  # in order, and then somewhere else
        chunks.prepare(start)
        chunk = chunks.fill()
        for k in range(CHUNK):
            batch = plain.draw(start + k)
            for field in Batch._fields:
                found, expected = getattr(chunk, field)[k], getattr(batch, field)
                exact = not (field.endswith("noise") and source == "drawn on the device")
                if exact:
                    assert torch.equal(found, expected), field
                else:  # another library's logarithm: equal to rounding
                    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)


def make_learner(datasets: list[Dataset]) -> Learner:
    return Learner(Shapes(2, 1), NETWORKS, CONFIG, seeds_of(datasets), CPU)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.usefixtures("arithmetic")
def test_every_engine_takes_the_same_updates(source: str, name: str) -> None:
    datasets = DATASETS[name]
    plain, chunked = make_learner(datasets), make_learner(datasets)
    engine = HostEngine(plain, host(datasets))
    chunks = ChunkEngine(chunked, SOURCES[source](datasets), capture=False)
    for limit in (3, 10, 1, 4, 2):  # below, above and at the size of a chunk
        before = chunked.num_updates
        chunks.advance(limit)
        assert 1 <= chunked.num_updates - before <= limit
    while plain.num_updates < chunked.num_updates:
        engine.advance(99)
    for place in range(len(datasets)):
        found, expected = chunked.state(place), plain.state(place)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-3, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("source", SOURCES)
def test_new_datasets_are_drawn_from_at_once(source: str) -> None:
    chunks: ChunkSource = SOURCES[source]([SHARED])
    chunks.prepare(0)
    chunks.fill()
    other = random_dataset(3, tasks=4, rows=20)
    chunks.set_datasets([other])
    chunks.prepare(CHUNK)  # the very chunk that may have been drawn ahead
    plain = host([SHARED])
    plain.set_datasets([other])
    for k in range(CHUNK):
        assert torch.equal(chunks.fill().obs[k], plain.draw(CHUNK + k).obs)
    for sampler in (plain, chunks):
        with pytest.raises(ValueError, match="2 datasets for 1 seeds"):
            sampler.set_datasets([other, other])


@pytest.mark.usefixtures("arithmetic")
def test_pearl_learns_from_chunks_too() -> None:
    config = PearlConfig(num_tasks=3, rows_per_task=5, context_size=7)
    learners = [PearlLearner(Shapes(2, 1), NETWORKS, config, 0, CPU) for _ in range(2)]
    sampler = HostSampler([SHARED], config, NETWORKS.latent_dim, [0])
    one = HostEngine(learners[0], sampler)
    source = DeviceSampler([SHARED], config, NETWORKS.latent_dim, [0], CPU, CHUNK)
    many = ChunkEngine(learners[1], source, capture=False)
    for _ in range(CHUNK):
        one.advance(CHUNK)
    many.advance(CHUNK)
    found, expected = learners[1].state(), learners[0].state()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-3, atol=1e-6, err_msg=key)


def test_a_chunk_divides_the_interval_of_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smac_core.engine.data_fit", lambda *_: True)
    for wanted, every, expected in ((20, 500, 20), (20, 10, 10), (20, 50, 10), (7, 13, 1)):
        config = dataclasses.replace(CONFIG, updates_per_graph=wanted)
        learner = make_learner([SHARED])
        learner.device = torch.device("meta")  # anything but the CPU
        monkeypatch.setattr(
            "smac_core.engine.DeviceSampler",
            lambda *args: DeviceSampler(*args[:4], CPU, args[5]),
        )
        engine = make_engine(learner, [SHARED], config, NETWORKS.latent_dim, [6], every)
        assert isinstance(engine, ChunkEngine)
        assert engine.source.chunk == expected


def test_a_fault_of_the_drawing_thread_is_raised_where_the_chunk_is_wanted() -> None:
    sampler = host([SHARED])
    source = PrefetchSource(sampler, CPU, CHUNK)
    sampler.pools[0] = np.array([9])
    with pytest.raises(ValueError, match="no such slot"):
        source.prepare(0)
    source.set_datasets([SHARED])
    source.prepare(0)
    assert torch.equal(source.fill().obs[0], host([SHARED]).draw(0).obs)


def test_shared_rows_are_on_the_device_once() -> None:
    one = table_bytes([SHARED])
    assert table_bytes([SHARED, SHARED]) < 1.5 * one
    assert table_bytes([SHARED, random_dataset(1)]) == 2 * one
    sampler = device_sampler([SHARED, SHARED])
    assert len(sampler.tables.rows) == len(SHARED.table)


def test_the_cpu_takes_one_update_at_a_time() -> None:
    learner = make_learner([SHARED])
    engine = make_engine(learner, [SHARED], CONFIG, NETWORKS.latent_dim, [6], 500)
    assert isinstance(engine, HostEngine)
    engine.advance(50)
    assert learner.num_updates == 1


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@needs_cuda
@pytest.mark.parametrize("data_on", ["device", "host"])
def test_captured_updates_equal_the_cpus(data_on: str) -> None:
    config = dataclasses.replace(CONFIG, updates_per_graph=CHUNK, data_on=data_on)
    datasets = DATASETS["a dataset each"]
    seeds = seeds_of(datasets)
    plain = make_learner(datasets)
    learner = Learner(Shapes(2, 1), NETWORKS, config, seeds, torch.device("cuda"))
    engine = make_engine(learner, datasets, config, NETWORKS.latent_dim, seeds, 500)
    assert isinstance(engine, ChunkEngine)
    while learner.num_updates < 6 * CHUNK + 1:
        engine.advance(6 * CHUNK + 1 - learner.num_updates)
    assert engine.graph is not None
    sampler = host(datasets)
    while plain.num_updates < learner.num_updates:
        plain.update(sampler.draw(plain.num_updates))
    for place in range(len(seeds)):
        found, expected = learner.state(place), plain.state(place)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-2, atol=1e-4, err_msg=key)
    assert learner.read_metrics()[0].keys() == plain.read_metrics()[0].keys()
