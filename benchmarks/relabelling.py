"""Rows ``relabel`` (decoder over rows in memory) and ``relabel-zarr`` (store in, store out).

Ours: ``kernels.relabel`` and ``pipeline.store``. Baselines, in torch on one CPU thread:

- an episode at a time: what a user runs. The module on [s, a, z] with z repeated, back to NumPy.
- one transition at a time: what the released code does, while it acts.
- large batches: the ideal. Inference mode, in chunks that stay in the cache.

Around them, for stores: Zarr's own reading and writing, nothing checked.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import nn

from benchmarks.measure import Effort, Label, Row, Work, compare
from benchmarks.plain_networks import plain_mlp
from kernels.relabel import decode_rewards
from pipeline.store import read_store, write_store
from smac_core.config import NetworkConfig
from smac_core.networks import Shapes, initial_parameters, network_shapes

ANT = Shapes(27, 8)  # with z: the 40 inputs of the paper's decoder
EPISODE = 200  # steps
CHUNK = 4096  # rows; the fastest for torch of 512, 1024, ... 65536


class Labels:
    """Rows to label, and both ways to do it.

    Args:
        num: How many rows.
        shapes: Sizes of the environment.
    """

    def __init__(self, num: int, shapes: Shapes = ANT) -> None:
        rng = np.random.default_rng(0)
        networks = NetworkConfig()
        shape = network_shapes(shapes, networks)["decoder"]
        self.params = initial_parameters("decoder", shape, rng)
        self.sizes = np.asarray(shape.sizes, dtype=np.int64)
        self.plain: nn.Sequential = plain_mlp(self.params, shape.sizes)
        self.obs = rng.standard_normal((num, shapes.obs_dim), dtype=np.float32)
        self.action = rng.uniform(-1.0, 1.0, (num, shapes.action_dim)).astype(np.float32)
        self.episode = np.arange(num) // EPISODE
        episodes = int(self.episode[-1]) + 1
        self.latent = rng.standard_normal((episodes, networks.latent_dim), dtype=np.float32)
        self.out = np.empty(num, dtype=np.float32)

    def ours(self, threads: int = 1) -> int:
        """Label every row with the kernel.

        Args:
            threads: How many.

        Returns:
            Number of rows.
        """
        decode_rewards(
            self.params,
            self.sizes,
            self.obs,
            self.action,
            self.latent,
            self.episode,
            self.out,
            threads,
        )
        return len(self.out)

    def by_rows(self, length: int, limit: int) -> int:
        """Label rows with torch, some at a time, as they come and go in NumPy.

        Args:
            length: How many at a time; they belong to one episode.
            limit: Label so many only; the rest would take as long each.

        Returns:
            Number of rows labelled.
        """
        done = min(limit, len(self.out))
        for start in range(0, done, length):
            part = slice(start, min(start + length, done))
            obs, action = torch.from_numpy(self.obs[part]), torch.from_numpy(self.action[part])
            z = torch.from_numpy(self.latent[self.episode[start]]).repeat(len(obs), 1)
            predicted = self.plain(torch.cat((obs, action, z), dim=1))
            self.out[part] = predicted.detach().numpy()[:, 0]
        return done

    @torch.inference_mode()
    def torch(self) -> int:
        """Label every row with torch in large batches.

        Returns:
            Number of rows.
        """
        obs, action, latent = (torch.from_numpy(x) for x in (self.obs, self.action, self.latent))
        episode, out = torch.from_numpy(self.episode), torch.from_numpy(self.out)
        for start in range(0, len(out), CHUNK):
            part = slice(start, start + CHUNK)
            x = torch.cat((obs[part], action[part], latent[episode[part]]), dim=1)
            out[part] = self.plain(x).squeeze(1)
        return len(out)


def write_rollout(path: Path, labels: Labels) -> None:
    """Write the rows as the stage ``rollout`` writes them.

    Args:
        path: Where.
        labels: The rows; their number is a multiple of an episode's length.
    """
    num, episodes = len(labels.out), len(labels.latent)
    ends = np.arange(1, episodes + 1, dtype=np.int64) * EPISODE
    truncated = np.zeros(num, dtype=bool)
    truncated[ends - 1] = True
    task = np.arange(episodes, dtype=np.int32) % 100
    arrays = {
        "data/obs": labels.obs,
        "data/action": labels.action,
        "data/terminated": np.zeros(num, dtype=bool),
        "data/truncated": truncated,
        "data/task_id": np.repeat(task, EPISODE),
        "meta/episode_ends": ends,
        "meta/final_obs": labels.obs[ends - 1],
        "meta/episode_task_id": task,
        "meta/episode_source": np.ones(episodes, dtype=np.int8),
        "meta/episode_iteration": np.ones(episodes, dtype=np.int32),
        "meta/episode_ok": np.ones(episodes, dtype=bool),
    }
    attributes = {
        "env_id": "ant-dir",
        "env_params": {},
        "obs_dim": labels.obs.shape[1],
        "action_dim": labels.action.shape[1],
        "reward_source": "none",
    }
    write_store(path, "transitions", arrays, attributes)


def store_to_store(rollout: Path, out: Path, labels: Labels) -> int:
    """Read a checked store, label it, write a checked store.

    Args:
        rollout: What to label.
        out: The labels.
        labels: Decoder and latents.

    Returns:
        Number of rows.
    """
    store = read_store(rollout, "transitions")
    reward = np.empty(len(store.arrays["data/obs"]), dtype=np.float32)
    rows = (store.arrays["data/obs"], store.arrays["data/action"])
    decode_rewards(labels.params, labels.sizes, *rows, labels.latent, labels.episode, reward)
    write_store(
        out,
        "rewards",
        {"data/generated_reward": reward, "meta/episode_latent": labels.latent},
        {"env_id": "ant-dir", "reward_source": "decoder", "rollout_digest": store.digest},
    )
    return len(reward)


@torch.inference_mode()
def plain_store_to_store(rollout: Path, out: Path, labels: Labels, chunk: int = CHUNK) -> int:
    """Do the same with torch and Zarr alone: no checks, no digests, no fsync, default chunks.

    Args:
        rollout: What to label.
        out: The labels.
        labels: Decoder and latents.
        chunk: Rows at a time.

    Returns:
        Number of rows.
    """
    group = zarr.open_group(rollout, mode="r")
    names = ("data/obs", "data/action", "meta/episode_ends")
    obs, action, ends = (torch.from_numpy(np.asarray(group[name][:])) for name in names)  # type: ignore[index]
    episode = torch.repeat_interleave(torch.diff(ends, prepend=torch.zeros(1, dtype=torch.int64)))
    latent, reward = torch.from_numpy(labels.latent), torch.empty(len(obs))
    for start in range(0, len(obs), chunk):
        part = slice(start, start + chunk)
        x = torch.cat((obs[part], action[part], latent[episode[part]]), dim=1)
        reward[part] = labels.plain(x).squeeze(1)
    written = zarr.open_group(out, mode="w")
    written.create_array("data/generated_reward", data=reward.numpy())
    written.create_array("meta/episode_latent", data=labels.latent)
    return len(reward)


def _memory_rows(effort: Effort) -> Iterator[Row]:
    for num in (20_000,) if effort.quick else (1_000, 20_000, 1_000_000):
        labels = Labels(num)
        for threads in (1, 2):
            label = Label(
                "relabel", f"{num:,} rows of 40", "rows/s", threads, series="rows", count=num
            )
            ours = Work(partial(labels.ours, threads))
            baselines = {
                "torch, an episode at a time": Work(partial(labels.by_rows, EPISODE, num)),
                "torch, a transition at a time": Work(partial(labels.by_rows, 1, EPISODE)),
                "torch, large batches": Work(labels.torch),
            }
            yield from compare(label, ours, baselines, effort)


def _store_rows(effort: Effort) -> Iterator[Row]:
    for num in (20_000,) if effort.quick else (2_000, 20_000, 500_000):
        labels = Labels(num)
        with tempfile.TemporaryDirectory() as folder:
            rollout = Path(folder, "rollout.zarr")
            write_rollout(rollout, labels)
            outs = Path(folder, "ours.zarr"), Path(folder, "plain.zarr")
            yield from compare(
                Label("relabel-zarr", f"{num:,} rows of 40", "rows/s", series="rows", count=num),
                Work(partial(store_to_store, rollout, outs[0], labels)),
                {
                    "zarr + torch, an episode at a time": Work(
                        partial(plain_store_to_store, rollout, outs[1], labels, EPISODE)
                    ),
                    "zarr + torch, large batches": Work(
                        partial(plain_store_to_store, rollout, outs[1], labels)
                    ),
                },
                effort,
            )
            shutil.rmtree(rollout)


def rows(name: str, effort: Effort) -> Iterator[Row]:
    """Measure labelling at several sizes.

    Args:
        name: ``relabel`` or ``relabel-zarr``.
        effort: How long.

    Yields:
        One row a size and number of threads.
    """
    torch.set_num_threads(1)
    yield from (_memory_rows if name == "relabel" else _store_rows)(effort)
