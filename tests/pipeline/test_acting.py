"""The stages that act: rollouts without rewards, labels from offline data, every arm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline import evaluate
from pipeline.derived import next_obs
from pipeline.evaluate import final_return
from pipeline.manifest import read_manifest
from pipeline.schema import EPISODE_ENDS, EPISODE_SOURCES
from pipeline.store import read_store
from smac_core.arms import DIVERGED, NO_EPISODE, TERMINATED, TIME_LIMIT, Arm
from smac_core.dataset import context_features
from smac_core.envs.point_robot import PointRobot
from smac_core.planning import LABEL, generator

HORIZON = 20


def read_agent(path: Path):
    from pipeline.models import read_model

    return read_model(path, PointRobot()).agent


def test_of_images_no_coverage_is_measured(monkeypatch):
    monkeypatch.setattr(evaluate, "coverage", None)  # calling it would fail
    monkeypatch.setattr(PointRobot, "image_shape", (2, 2, 3))
    images = np.zeros((4, 12), np.float32)
    assert evaluate._coverage(PointRobot(), images, images) == {}


def test_rollouts_have_no_reward(finished):
    found = finished.transitions(finished.path("rollout"))
    assert "data/reward" not in found.arrays
    assert found.attributes["reward_source"] == "none"
    assert not (finished.path("rollout") / "data/reward").exists()
    arrays = found.arrays
    # Two visits of 40 prior steps and 40 posterior steps, whose first episode has no context.
    codes = [EPISODE_SOURCES[n] for n in ("prior", "prior", "prior", "posterior")]
    assert arrays["meta/episode_source"].tolist() == codes * 2
    assert (arrays["meta/episode_iteration"] == 1).all()
    assert len(arrays["data/obs"]) == 2 * 80
    manifest = read_manifest(finished.path("rollout").with_name("manifest.json"))
    assert manifest["environment_steps"] == 160
    visited = arrays["meta/episode_task_id"].reshape(2, 4)
    assert visited.tolist() == [[task] * 4 for task in manifest["visited_tasks"]]
    assert set(manifest["visited_tasks"]) <= {0, 1, 2, 3}


def test_an_evaluation_judges_critic_decoder_and_exploration(finished):
    path = finished.path("evaluate", 1)
    arrays = read_store(path, "evaluation").arrays
    judged = {name.split("/")[1] for name in arrays if name.endswith("/start_value")}
    acted = {name.split("/")[1] for name in arrays} - {"test_nothing", "test_random"}
    assert judged == acted  # a floor is no policy that the critic could value
    for arm in judged:
        found = [arrays[f"arms/{arm}/{name}"] for name in ("start_value", "discounted_return")]
        assert all(np.isfinite(part).all() and part.shape[1] == 2 for part in found)
        assert (found[1] < 0).all()  # every reward of point-robot is negative
    manifest = read_manifest(path.with_name("manifest.json"))
    assert manifest["exploration_decoder_mse"] > 0
    assert 0 < manifest["coverage"] <= 2
    assert 0 <= manifest["novelty"] <= 1


def test_rollouts_never_ask_for_a_reward(finished, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a reward was computed")

    monkeypatch.setattr(PointRobot, "reward", refuse)
    out = tmp_path / "transitions.zarr"
    assert finished.call("rollout", changes={"out": out}) == 0
    with pytest.raises(AssertionError, match="a reward was computed"):
        finished.call("rollout", method="oracle", changes={"out": out})


def test_the_oracles_rollouts_carry_the_true_reward(finished):
    found = finished.transitions(finished.path("rollout", method="oracle"))
    goals = np.array(json.loads(finished.path("tasks").read_text())["parameters"])
    distance = np.linalg.norm(next_obs(found) - goals[found.arrays["data/task_id"]], axis=1)
    np.testing.assert_allclose(found.arrays["data/reward"], -distance, atol=1e-6)
    assert found.attributes["reward_source"] == "environment"
    labels = read_store(finished.path("relabel", method="oracle"), "rewards")
    np.testing.assert_array_equal(
        labels.arrays["data/generated_reward"], found.arrays["data/reward"]
    )
    assert labels.attributes["reward_source"] == "environment"
    assert "meta/episode_latent" not in labels.arrays


def test_the_oracle_explores_as_smac_does_in_round_one(finished):
    smac = finished.transitions(finished.path("rollout")).arrays
    oracle = finished.transitions(finished.path("rollout", method="oracle")).arrays
    assert {name for name in oracle if name not in smac} == {"data/reward"}
    for name, array in smac.items():
        np.testing.assert_array_equal(array, oracle[name])


def test_context_of_exploration_grows_with_the_rounds(finished, tmp_path):
    out = tmp_path / "transitions.zarr"
    config = finished.section("rollout", context="offline")
    assert finished.call("rollout", 2, changes={"config": config, "out": out}) == 0
    offline = finished.transitions(out).arrays
    growing = finished.transitions(finished.path("rollout", 2)).arrays
    informed = np.repeat(growing["meta/episode_source"] == EPISODE_SOURCES["posterior"], HORIZON)
    np.testing.assert_array_equal(growing["data/obs"][~informed], offline["data/obs"][~informed])
    assert (growing["data/action"][informed] != offline["data/action"][informed]).any()


def test_labels_are_the_decoders_under_the_stored_latents(finished):
    rollout = finished.transitions(finished.path("rollout", 2))
    labels = read_store(finished.path("relabel", 2), "rewards")
    assert labels.attributes["rollout_digest"] == rollout.digest
    agent = read_agent(finished.path("meta_train"))
    arrays = rollout.arrays
    episode = np.repeat(np.arange(8), np.diff(arrays["meta/episode_ends"], prepend=0))
    latent = labels.arrays["meta/episode_latent"]
    again = agent.decode(arrays["data/obs"], arrays["data/action"], latent, episode)
    np.testing.assert_array_equal(again, labels.arrays["data/generated_reward"])
    assert len(np.unique(latent, axis=0)) == 8  # an own context and an own draw an episode


def relabelled(finished, out: Path, **changes) -> dict[str, np.ndarray]:
    assert finished.call("relabel", changes=changes | {"out": out}) == 0
    return read_store(out, "rewards").arrays


def test_the_latents_of_labels_come_from_offline_data_alone(finished, tmp_path):
    before = read_store(finished.path("relabel"), "rewards").arrays
    path = finished.path("rollout")
    arrays = finished.transitions(path).arrays
    obs, action = arrays["data/obs"].copy(), arrays["data/action"].copy()
    obs[20:], action[20:] = obs[20:] + 1.0, -action[20:]
    online = finished.rewrite(path, tmp_path / "online.zarr", data__obs=obs, data__action=action)
    after = relabelled(finished, tmp_path / "a" / "rewards.zarr", rollout=online)
    np.testing.assert_array_equal(after["meta/episode_latent"], before["meta/episode_latent"])
    changed = after["data/generated_reward"] != before["data/generated_reward"]
    assert not changed[:20].any()
    assert changed[20:].any()
    collect = finished.path("collect")
    reward = finished.transitions(collect).arrays["data/reward"] - 1.0
    offline = finished.rewrite(collect, tmp_path / "offline.zarr", data__reward=reward)
    after = relabelled(finished, tmp_path / "b" / "rewards.zarr", transitions=offline)
    assert (after["meta/episode_latent"] != before["meta/episode_latent"]).all()


def test_labels_under_the_mean_have_no_noise(finished, tmp_path):
    config = finished.section("relabel", latent="mean")
    found = relabelled(finished, tmp_path / "rewards.zarr", config=config)
    agent = read_agent(finished.path("meta_train"))
    offline = finished.transitions(finished.path("collect"))
    tasks = finished.transitions(finished.path("rollout")).arrays["meta/episode_task_id"]
    for episode, task in enumerate(tasks):
        rows = np.flatnonzero(offline.arrays["data/task_id"] == task)
        rows = rows[generator((0, LABEL, 1, episode)).integers(0, len(rows), 8)]
        parts = (offline.arrays[f"data/{name}"][rows] for name in ("obs", "action", "reward"))
        mean = agent.infer([context_features(*parts, None)]).mean[0]
        np.testing.assert_array_equal(found["meta/episode_latent"][episode], mean)


def test_labels_can_be_kept_to_the_rewards_of_the_offline_data(finished, tmp_path):
    collect, out = finished.path("collect"), tmp_path / "seen" / "rewards.zarr"
    free = read_store(finished.path("relabel"), "rewards").arrays["data/generated_reward"]
    reward = finished.transitions(collect).arrays["data/reward"]
    tasks = np.asarray(json.loads(finished.path("tasks").read_text())["train"])
    seen = reward[np.isin(finished.transitions(collect).arrays["data/task_id"], tasks)]
    config = finished.section("relabel", reward_range="seen")
    kept = relabelled(finished, out, config=config)["data/generated_reward"]
    assert (free < seen.min()).any() or (free > seen.max()).any()
    np.testing.assert_array_equal(kept, np.clip(free, seen.min(), seen.max()))


def test_an_ensemble_labels_by_the_mean_or_the_lowest_of_its_decoders(finished, tmp_path):
    own, other = finished.path("meta_train"), tmp_path / "other" / "checkpoint.safetensors"
    changes = {"seed": 1, "out": other}
    assert finished.call("meta_train", changes=changes) == 0
    given = {"members": [own, other]}
    labels = {}
    for kind in ("none", "mean", "lowest"):
        changes = given | {"config": finished.section("relabel", ensemble=kind)}
        out = tmp_path / kind / "rewards.zarr"
        labels[kind] = relabelled(finished, out, **changes)["data/generated_reward"]
    changes = {"checkpoint": other, "config": finished.section("relabel")}
    alone = relabelled(finished, tmp_path / "alone" / "rewards.zarr", **changes)
    pair = np.stack([labels["none"], alone["data/generated_reward"]]).astype(np.float64)
    assert (pair[0] != pair[1]).any()
    np.testing.assert_array_equal(labels["lowest"], pair.min(axis=0))
    np.testing.assert_array_equal(labels["mean"], pair.mean(axis=0).astype(np.float32))
    manifest = json.loads((tmp_path / "mean" / "manifest.json").read_text())
    assert {"member0", "member1"} <= set(manifest["inputs"])


def test_an_ensemble_of_one_is_refused(copied, refused):
    changes = {"config": copied.section("relabel", ensemble="mean")}
    line = refused("relabel", changes=changes | {"members": [copied.path("meta_train")]})
    assert "an ensemble of one" in line
    assert "run several seeds" in line


def arms(path: Path) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, object]]:
    found = read_store(path, "evaluation", env_id="point-robot")
    out: dict[str, dict[str, np.ndarray]] = {}
    for name, array in found.arrays.items():
        _, arm, field = name.split("/")
        out.setdefault(arm, {})[field] = array
    return out, found.attributes


TRAIN = ["train_matched", "train_offline", "train_online", "train_online_transitions"]
TEST = ["test_online", "test_online_transitions", "test_prior"]


def test_evaluation_has_every_arm(finished):
    floors = ["test_nothing", "test_random"]
    found, attributes = arms(finished.path("evaluate", 0))
    assert sorted(found) == sorted([*TEST, *floors, *TRAIN])
    assert attributes["arms"] == sorted(found)
    assert attributes["self_supervised_steps"] == 0
    found, attributes = arms(finished.path("evaluate", 1))
    assert sorted(found) == sorted([*TEST, *TRAIN])
    assert (attributes["method"], attributes["seed"], attributes["round"]) == ("smac", 0, 1)
    assert attributes["self_supervised_steps"] == 160


def test_arms_have_their_shapes(finished):
    found, _ = arms(finished.path("evaluate", 0))
    for name, arm in found.items():
        tasks = [4, 5] if name.startswith("test") else [0, 1, 2]
        episodes = 3 if "online" in name else 1
        num = len(tasks)
        assert arm["task_id"].tolist() == tasks
        assert arm["episode_return"].shape == (num, 2, episodes)
        assert (arm["episode_length"] == HORIZON).all()
        assert arm["posterior_mean"].shape == arm["posterior_variance"].shape == (num, 2, 5)
        assert arm["posterior_kl"].shape == arm["decoder_mse"].shape == (num, 2)
        assert arm["final_path"].shape == (num, HORIZON + 1, 2)
        assert (arm["episode_return"] < 0).all()  # minus a distance
        informed = name not in {"test_prior", "test_nothing", "test_random"}
        assert (arm["posterior_kl"] > 0).all() == informed
    assert (found["test_nothing"]["final_path"] == 0).all()
    np.testing.assert_allclose(found["test_nothing"]["episode_return"], -HORIZON, rtol=1e-6)


def test_both_counts_are_stored_and_one_is_the_headline(finished, tmp_path):
    out = tmp_path / "returns.zarr"
    for count, arm in (("episodes", "test_online"), ("transitions", "test_online_transitions")):
        adaptation = {"count": count, "min_transitions": 70}
        config = finished.section("evaluate", adaptation=adaptation, save_paths=False)
        assert finished.call("evaluate", changes={"config": config, "out": out}) == 0
        found, attributes = arms(out)
        assert attributes["count"] == count
        assert found["test_online"]["episode_return"].shape == (2, 2, 3)
        assert found["test_online_transitions"]["episode_return"].shape == (2, 2, 4)  # 4 x 20 >= 70
        said = read_manifest(tmp_path / "manifest.json")["test_return"]
        assert said == pytest.approx(found[arm]["episode_return"][:, :, -1].mean(), rel=1e-6)
    assert all("final_path" not in arm for arm in found.values())


def test_the_headline_is_the_last_episode_played():
    filler = {name: np.zeros(0) for name in Arm.__dataclass_fields__}
    returns = np.array([[[1.0, 2.0, np.nan], [1.0, 5.0, 3.0]]], dtype=np.float32)
    length = np.array([[[2, 2, 0], [1, 1, 1]]], dtype=np.int32)
    played = Arm(**filler | {"episode_return": returns, "episode_length": length})
    assert final_return(played) == 2.5
    assert list(EPISODE_ENDS.values()) == [NO_EPISODE, TIME_LIMIT, TERMINATED, DIVERGED]
