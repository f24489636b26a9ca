"""Meta-batches: what is drawn, from where, and that an update's number names the draw."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from kernels.random import fill_normal
from smac_core.config import LearnerConfig, PearlConfig
from smac_core.dataset import Dataset, Transitions, build_dataset
from smac_core.learner import Batch
from smac_core.sampler import ACTION, LATENT, NEXT_ACTION, NEXT_LATENT, HostSampler

NUM_TASKS, PER_TASK = 3, 8
CONFIG = LearnerConfig(num_tasks=4, rows_per_task=6, context_size=5)


def numbered_dataset() -> Dataset:
    """Every value of row i is i, so that a batch tells where it came from."""
    num = NUM_TASKS * PER_TASK
    numbers = np.arange(num, dtype=np.float32)
    wide = np.repeat(numbers[:, None], 2, axis=1)
    rows = Transitions(
        obs=wide,
        action=wide[:, :1].copy(),
        reward=numbers,
        next_obs=wide + 0.5,
        terminated=(numbers % 2).astype(np.float32),
        task_id=np.arange(num) // PER_TASK,
        source=np.zeros(num, dtype=np.int64),
    )
    of_task = [np.flatnonzero(rows.task_id == t) for t in range(NUM_TASKS)]
    # The first half of a task's rows is replay, the last three are context.
    return build_dataset(rows, [10, 11, 12], [r[:4] for r in of_task], [r[-3:] for r in of_task])


def make_sampler(seed: int = 0, config: LearnerConfig | PearlConfig = CONFIG) -> HostSampler:
    return HostSampler([numbered_dataset()], config, 5, [seed])


def only(batch: Batch) -> Batch:
    """The batch of the one seed."""
    return Batch(*(tensor[0] for tensor in batch))


def snapshot(sampler: HostSampler, update: int) -> list[np.ndarray]:
    return [t[0].numpy().copy() for t in sampler.draw(update)]


def test_shapes_of_a_batch() -> None:
    batch = only(make_sampler().draw(0))
    assert batch.obs.shape == batch.next_obs.shape == (4, 6, 2)
    assert batch.action.shape == (4, 6, 1)
    assert batch.reward.shape == batch.terminated.shape == (4, 6)
    assert batch.context.shape == (4, 5, 4)
    assert batch.latent_noise.shape == batch.next_latent_noise.shape == (4, 5)
    assert batch.action_noise.shape == batch.next_action_noise.shape == (24, 1)
    assert batch.task.dtype == torch.int64
    assert all(t.dtype == torch.float32 for t in batch[1:])


def test_only_rows_of_the_drawn_task_come_up() -> None:
    sampler = make_sampler()
    replay, context, tasks = Counter[int](), Counter[int](), Counter[int]()
    for update in range(300):
        batch = only(sampler.draw(update))
        for place, slot in enumerate(batch.task.tolist()):
            tasks[slot] += 1
            rows = batch.reward[place].int().tolist()
            bag = batch.context[place, :, -1].int().tolist()
            assert all(slot * PER_TASK <= row < slot * PER_TASK + 4 for row in rows)
            assert all((slot + 1) * PER_TASK - 3 <= row < (slot + 1) * PER_TASK for row in bag)
            replay.update(rows)
            context.update(bag)
        # One row's values stay together.
        torch.testing.assert_close(batch.obs[..., 0], batch.reward)
        torch.testing.assert_close(batch.action[..., 0], batch.reward)
        torch.testing.assert_close(batch.next_obs[..., 1], batch.reward + 0.5)
        torch.testing.assert_close(batch.terminated, batch.reward % 2)
    # Uniform: 1200 tasks, 7200 replay rows and 6000 context rows, within five standard deviations.
    assert all(abs(tasks[slot] - 400) < 5 * 400**0.5 for slot in range(NUM_TASKS))
    assert len(replay) == 12
    assert all(abs(count - 600) < 250 for count in replay.values())
    assert len(context) == 9
    assert all(abs(count - 667) < 300 for count in context.values())


def test_tasks_and_rows_are_drawn_with_replacement() -> None:
    sampler = make_sampler()
    repeated = 0
    for update in range(20):
        batch = only(sampler.draw(update))
        repeated += len(set(batch.task.tolist())) < CONFIG.num_tasks
        assert len(set(batch.reward[0].tolist())) <= 4 < CONFIG.rows_per_task
    assert repeated == 20  # four places, three tasks


def test_an_update_number_names_its_batch() -> None:
    sampler, other = make_sampler(), make_sampler()
    kept = [snapshot(sampler, update) for update in range(5)]
    assert all(np.array_equal(a, b) for a, b in zip(kept[3], snapshot(other, 3), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(kept[0], snapshot(sampler, 0), strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(kept[1][1:], kept[2][1:], strict=True))
    different = snapshot(make_sampler(seed=1), 3)
    assert not np.array_equal(kept[3][1], different[1])
    assert not np.array_equal(kept[3][7], different[7])


def test_noises_are_streams_of_their_own() -> None:
    sampler = make_sampler()
    batch = only(sampler.draw(7))
    assert len({LATENT, NEXT_LATENT, ACTION, NEXT_ACTION, 0, 1, 2}) == 7
    for purpose, noise in (
        (LATENT, batch.latent_noise),
        (NEXT_LATENT, batch.next_latent_noise),
        (ACTION, batch.action_noise),
        (NEXT_ACTION, batch.next_action_noise),
    ):
        expected = np.empty(noise.numel(), dtype=np.float32)
        fill_normal(sampler.keys[0], 7, purpose, expected)
        np.testing.assert_array_equal(noise.numpy().ravel(), expected)
    assert not torch.equal(batch.latent_noise, batch.next_latent_noise)
    assert not torch.equal(batch.action_noise, batch.next_action_noise)


def test_other_batch_sizes_keep_the_other_draws() -> None:
    # The context is purpose 2 and knows nothing of the number of replay rows.
    wide = make_sampler(config=PearlConfig(num_tasks=4, rows_per_task=50, context_size=5))
    np.testing.assert_array_equal(snapshot(make_sampler(), 2)[6], snapshot(wide, 2)[6])
