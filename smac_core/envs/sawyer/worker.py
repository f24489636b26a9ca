"""A worker process: builds scenes on demand, and steps them as the parent's messages say.

Messages are bytes: a letter, then float64 rows that begin with the number of a slot, which is a
place for one running scene. Nothing is unpickled. It ends when the parent's end of the pipe closes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from smac_core.envs.sawyer import tasks as k
from smac_core.envs.sawyer.scene import Scene
from smac_core.errors import SmacError

RESET, STEP, DRAW = b"R", b"S", b"D"
OK, FAULT = b"0", b"1"
ACTION_DIM = 4


class SceneStore:
    """Scenes in slots, and scenes that are kept for a later episode on the same objects.

    Args:
        folder: Where the URDF files lie.
        limit: How many scenes to keep; each takes about 30 MiB.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.used: dict[int, Scene] = {}
        self.free: list[Scene] = []  # the longest unused first

    def put(self, slot: int, task: np.ndarray) -> Scene:
        """Put a scene for a task into a slot, at its start.

        Args:
            slot: Which.
            task: ``[11]``.

        Returns:
            The scene.
        """
        if slot in self.used:
            self.free.append(self.used.pop(slot))
        same = [scene for scene in self.free if (scene.task == task)[: k.BEHAVIOUR].all()]
        if same:
            scene = same[-1]
            self.free.remove(scene)
        else:
            while self.free and len(self.free) + len(self.used) >= self.limit:
                self.free.pop(0).close()
            scene = Scene(self.folder, task)
        self.used[slot] = scene
        return scene


def answer(store: SceneStore, message: bytes) -> bytes:
    """Do what a message says.

    Args:
        store: The scenes.
        message: A letter and rows.

    Returns:
        States, a row a slot, or a picture.
    """
    kind, body = message[:1], np.frombuffer(message[1:], dtype=np.float64)
    if kind == DRAW:
        return store.used[int(body[0])].draw().tobytes()
    width = 1 + (len(k.FIELDS) if kind == RESET else ACTION_DIM)
    rows = body.reshape(-1, width)
    if kind == RESET:
        states = [store.put(int(row[0]), row[1:]).reset() for row in rows]
    else:
        states = [store.used[int(row[0])].step(row[1:]) for row in rows]
    return np.array(states).tobytes()


def serve(connection: Connection, store: SceneStore) -> None:
    """Answer messages until the other end closes.

    Args:
        connection: To the parent.
        store: The scenes.
    """
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        try:
            reply = OK + answer(store, message)
        except SmacError as error:
            reply = FAULT + str(error).encode()
        try:
            connection.send_bytes(reply)
        except BrokenPipeError:
            return


def main(arguments: Sequence[str]) -> None:
    """Run a worker.

    Args:
        arguments: File descriptor of the pipe, the URDF folder, how many scenes to keep.
    """
    descriptor, folder, limit = arguments
    serve(Connection(int(descriptor)), SceneStore(Path(folder), int(limit)))


if __name__ == "__main__":
    main(sys.argv[1:])
