"""The videos of the report: random actions, exploration and adapted behaviour, side by side."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from pipeline import config as cf
from pipeline.models import read_acting
from pipeline.report_data import EnvResults, Results
from pipeline.report_style import Video
from smac_core.adaptation import RANDOM_EPISODE, MetaTest, act_at_random
from smac_core.envs.episodes import Episodes
from smac_core.envs.film import FilmDriver
from smac_core.envs.rendering import Image
from smac_core.errors import SmacError
from smac_core.planning import EVALUATE_TEST

_WIDE = 240  # pixels, of a scene
_HEAD = 34  # pixels of text above a scene
_MARGIN = 6  # pixels
_QUALITY = 50  # of WebP's lossy pictures; a video stays far below 1 MB
_FASTEST = 50  # ms, the shortest time that a picture is shown
_SLOWEST = 200  # ms, the longest


@dataclass(frozen=True)
class Scene:
    """One episode as pictures.

    Args:
        title: What acts.
        pictures: In the order of time.
        end: What became of it.
    """

    title: str
    pictures: list[Image]
    end: str


def make_videos(results: Results, config: cf.ReportConfig, folder: Path) -> dict[str, Video]:
    """Film every environment whose checkpoint is there, and write ``video_<env>.webp``.

    A machine that cannot draw still gets its report: the reason stands where the video would.

    Args:
        results: What was read.
        config: How many pictures a scene has; 0: no videos.
        folder: Where, beside the figures.

    Returns:
        A video or a reason by environment.
    """
    videos: dict[str, Video] = {}
    for env in results.envs if config.video_frames else ():
        if env.checkpoint is None:
            continue
        try:
            videos[env.name] = film(results, env, config.video_frames)
        except SmacError as fault:
            videos[env.name] = Video(b"", f"{env.name}: no video, because: {fault}.")
            continue
        (folder / f"video_{env.name}.webp").write_bytes(videos[env.name].webp)
    return videos


def film(results: Results, env: EnvResults, frames: int) -> Video:
    """Film one held-out task: the same episodes that the evaluation measured.

    Args:
        results: What was read.
        env: The environment.
        frames: Pictures of a whole episode, at most.

    Returns:
        The video.

    Raises:
        SmacError: The checkpoint cannot act, or this machine cannot draw.
    """
    assert env.checkpoint is not None
    name, seed, number = results.filmed(env.name)
    evaluation = cf.stage_config(results.run, "evaluate", env.name, name)
    protocol = dataclasses.replace(evaluation.adaptation, repeats=1)
    model = read_acting(env.checkpoint, env.definition, evaluation.agent, current_round=number)
    every = -(-env.definition.horizon // frames)
    last = protocol.episodes
    driver = FilmDriver(env.definition, every, {0, 1, last})
    task = env.tasks.test[0]
    key, tasks = (seed, EVALUATE_TEST), env.tasks.parameters[[task]]
    test = MetaTest(driver, model.agent, protocol, [task], tasks, key)
    try:
        test.floor(act_at_random, RANDOM_EPISODE)
        test.online()
    finally:
        driver.close()
    titles = {0: "random actions", 1: "exploration", last: "after adaptation"}
    seconds = env.definition.control_seconds
    scenes = [
        Scene(title, driver.films[run], _end(driver.episodes[run], seconds))
        for run, title in titles.items()
    ]
    duration = int(np.clip(1000 * every * seconds / 2, _FASTEST, _SLOWEST))
    label = next(m.label for m in env.methods if m.name == name)
    when = f"after round {number}" if number else "after the offline phase"
    told = ", ".join(
        f"{field.replace('_', ' ')} {value:.3g}"
        for field, value in zip(env.tasks.fields, tasks[0], strict=True)
    )
    return Video(
        encode(scenes, duration),
        f"{env.name}: {label}, seed {seed}, {when}, on held-out task {task} ({told}): random "
        f"actions, the first exploration episode, and the last episode, after adaptation; "
        f"at {1000 * every * seconds / duration:.3g} times real time.",
    )


def _end(episodes: Episodes, seconds: float) -> str:
    told = f"return {episodes.returns[0]:.0f}"  # Pillow's own font has no true minus
    if episodes.terminated[0]:
        return f"{told}, fell after {episodes.length[0] * seconds:.1f} s"
    return told if episodes.ok[0] else f"{told}, the simulator diverged"


def encode(scenes: list[Scene], duration: int) -> bytes:
    """Put scenes side by side, and make an animated WebP of them.

    Args:
        scenes: Of one length or of several; those that end early stand still, and pale.
        duration: Of a picture (ms).

    Returns:
        The file.
    """
    length = max(len(scene.pictures) for scene in scenes)
    pictures = [_compose(scenes, place) for place in range(length)]
    stream = io.BytesIO()
    pictures[0].save(
        stream,
        format="WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=[duration] * (length - 1) + [5 * duration],  # a rest before it begins again
        loop=0,
        quality=_QUALITY,
    )
    return stream.getvalue()


def _compose(scenes: list[Scene], place: int) -> Picture.Image:
    tall, wide = scenes[0].pictures[0].shape[:2]
    width, height = _WIDE, _WIDE * tall // wide
    across = (width + _MARGIN) * len(scenes) - _MARGIN
    canvas = Picture.new("RGB", (across, height + _HEAD), "white")
    draw = ImageDraw.Draw(canvas)
    for column, scene in enumerate(scenes):
        left = column * (width + _MARGIN)
        over = place >= len(scene.pictures) - 1
        picture = Picture.fromarray(scene.pictures[min(place, len(scene.pictures) - 1)])
        if place > len(scene.pictures) - 1:
            picture = Picture.blend(picture, Picture.new("RGB", picture.size, "white"), 0.55)
        canvas.paste(picture.resize((width, height)), (left, _HEAD))
        draw.text((left + 2, 0), scene.title, fill="#1F2933", font=ImageFont.load_default(14))
        if over:
            draw.text((left + 2, 17), scene.end, fill="#52606D", font=ImageFont.load_default(12))
    return canvas
