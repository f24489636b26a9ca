"""The parent's side of the worker processes: who runs which slot, and what if a worker dies.

A keeper has a journal of every running episode: its task and its actions. PyBullet repeats an
episode bit for bit, so a worker that takes over replays the journals and nothing is lost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from smac_core.envs.sawyer import tasks as k
from smac_core.envs.sawyer import worker as w
from smac_core.envs.sawyer.scene import load_bullet
from smac_core.envs.sawyer.urdf import all_files
from smac_core.errors import SimulationError

SCENES = 56  # kept by all workers together: the 50 training tasks fit, in about 1.6 GiB
PATIENCE = 120.0  # s without an answer until a worker counts as dead
DEATHS = 3  # of a worker on one message, before the fault is taken to be in the message


def require_bullet() -> None:
    """Refuse to go on where PyBullet is missing, without importing it.

    Raises:
        SmacError: It is not installed.
    """
    if find_spec("pybullet") is None:
        load_bullet()


class Worker:
    """One worker process.

    Args:
        folder: Where the URDF files lie.
        limit: How many scenes it may keep.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, "-m", w.__name__, str(theirs.fileno()), str(folder), str(limit)]
        self.process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # PyBullet's greeting
            start_new_session=True,  # Ctrl-C is for the parent; without it the worker ends, too
        )
        theirs.close()
        self.connection = Connection(ours.detach())

    def receive(self) -> bytes:
        """Wait for an answer.

        Returns:
            Its bytes.

        Raises:
            EOFError: The worker is dead, or does not answer.
        """
        if not self.connection.poll(PATIENCE):
            raise EOFError
        return self.connection.recv_bytes()

    def stop(self) -> None:
        """End the process and wait for it; it may be dead already."""
        self.connection.close()
        self.process.kill()
        self.process.wait()


class Keeper:
    """One worker process, and the journal of the episodes that run in its slots.

    Keepers know nothing of each other: threads that drive different ones never wait for each other.

    Args:
        folder: Where the URDF files lie.
        limit: How many scenes the worker may keep.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self.worker = Worker(folder, limit)
        self.replaced = 0
        self._tasks: dict[int, np.ndarray] = {}
        self._actions: dict[int, list[np.ndarray]] = {}
        self._slots = 0
        self._unused: list[int] = []
        self._lock = threading.RLock()  # a batch may be forgotten, and released, in mid-call

    @property
    def booked(self) -> int:
        """How many slots are in use."""
        return self._slots - len(self._unused)

    def book(self, num: int) -> np.ndarray:
        """Reserve slots.

        Args:
            num: How many.

        Returns:
            ``[num]`` their numbers.
        """
        with self._lock:
            more = range(self._slots, self._slots + max(0, num - len(self._unused)))
            self._slots += len(more)
            self._unused = sorted([*self._unused, *more])
            booked, self._unused = self._unused[:num], self._unused[num:]
            return np.array(booked)

    def release(self, slots: np.ndarray) -> None:
        """Give slots back.

        Args:
            slots: ``[N]``.
        """
        with self._lock:
            for slot in slots:
                self._tasks.pop(int(slot), None)
            self._unused += [int(slot) for slot in slots]

    def reset(self, slots: np.ndarray, tasks: np.ndarray) -> np.ndarray:
        """Begin episodes.

        Args:
            slots: ``[N]``.
            tasks: ``[N, 11]``.

        Returns:
            ``[N, 15]`` states.
        """
        with self._lock:
            for slot in slots:
                self._tasks.pop(int(slot), None)  # a worker that dies now has nothing to replay
            states = self._ask(w.RESET, slots, tasks)
            for slot, task in zip(slots, tasks, strict=True):
                self._tasks[int(slot)], self._actions[int(slot)] = task.copy(), []
            return states

    def step(self, slots: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Advance episodes by one control step.

        Args:
            slots: ``[N]``.
            actions: ``[N, 4]``.

        Returns:
            ``[N, 15]`` states.
        """
        with self._lock:
            states = self._ask(w.STEP, slots, actions)
            for slot, action in zip(slots, actions, strict=True):
                self._actions[int(slot)].append(action.copy())
            return states

    def draw(self, slot: int) -> bytes:
        """Draw the scene of a slot.

        Args:
            slot: Which; it must have been reset.

        Returns:
            The picture's bytes.
        """
        with self._lock:
            return self._exchange(w.DRAW + np.float64(slot).tobytes())

    def _ask(self, kind: bytes, slots: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Send rows, and return a state for each."""
        table = np.column_stack([slots, rows]).astype(np.float64)
        return np.frombuffer(self._exchange(kind + table.tobytes())).reshape(-1, k.STATE_DIM)

    def _exchange(self, message: bytes) -> bytes:
        """Send a message and wait for its answer, from as many workers as that takes."""
        self._send(message)
        for _ in range(DEATHS):
            try:
                return _checked(self.worker.receive())
            except (EOFError, OSError):
                self._replace()
                self._send(message)
        raise SimulationError(
            "a simulator's worker dies again and again",
            where="sawyer-manipulation",
            expected="an answer",
            found=f"{DEATHS} dead workers in a row",
            fix="look for a lack of memory; each scene takes about 30 MiB",
        )

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # dead: waiting for its answer will show that
            self.worker.connection.send_bytes(message)

    def _replace(self) -> None:
        """Start a worker in place of a dead one, and redo its running episodes."""
        self.worker.stop()
        self.worker = worker = Worker(self._folder, self._limit)
        self.replaced += 1
        try:
            if self._tasks:
                rows = [[slot, *task] for slot, task in self._tasks.items()]
                worker.connection.send_bytes(w.RESET + np.array(rows).tobytes())
                _checked(worker.receive())
            journals = {slot: self._actions[slot] for slot in self._tasks}
            for step in range(max(map(len, journals.values()), default=0)):
                rows = [[slot, *acts[step]] for slot, acts in journals.items() if step < len(acts)]
                worker.connection.send_bytes(w.STEP + np.array(rows, np.float64).tobytes())
                _checked(worker.receive())
        except (EOFError, OSError):
            return  # dead again; the next wait for its answer shows that


class Crew:
    """The worker processes of an environment, each with its keeper.

    Args:
        num: How many workers; results do not depend on it.
    """

    def __init__(self, num: int) -> None:
        require_bullet()
        self.folder = Path(tempfile.mkdtemp(prefix="sawyer-"))
        for name, text in all_files().items():
            (self.folder / name).write_text(text)
        self.keepers = [Keeper(self.folder, -(-SCENES // num)) for _ in range(num)]
        self._finalizer = weakref.finalize(self, _dismiss, self.keepers, self.folder)

    @property
    def replaced(self) -> int:
        """How many workers died and were replaced."""
        return sum(keeper.replaced for keeper in self.keepers)

    def close(self) -> None:
        """End the workers; may be called again."""
        self._finalizer()

    def least_busy(self) -> Keeper:
        """Return the keeper with the fewest slots in use, the first of several."""
        return min(self.keepers, key=lambda keeper: keeper.booked)


def _checked(reply: bytes) -> bytes:
    """Return what a worker said, unless it is a fault."""
    if reply[:1] == w.FAULT:
        raise SimulationError(reply[1:].decode())
    return reply[1:]


def _dismiss(keepers: list[Keeper], folder: Path) -> None:
    for keeper in keepers:
        keeper.worker.stop()
    shutil.rmtree(folder, ignore_errors=True)
