"""Where an agent goes, against where the offline data are: cells visited, and what is new there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CELLS = 30  # along either axis
REACH = 3.0  # standard deviations on either side of the mean
_TAIL = 0.005  # of the offline data, at either end of an observation's dimension


@dataclass(frozen=True)
class Coverage:
    """What a set of observations covers.

    Args:
        coverage: Number of cells visited, divided by that of equally many offline rows.
        novelty: Share of observations outside the offline range in any dimension.
        offline_novelty: The same share of the offline rows themselves: above zero by construction.
    """

    coverage: float
    novelty: float
    offline_novelty: float


def coverage(offline: np.ndarray, visited: np.ndarray) -> Coverage:
    """Compare visited observations with offline ones.

    Cells are a grid over the first two principal components of the whitened offline observations;
    what lies beyond it counts to the outermost cells. A range holds 99 % of the offline rows in
    each dimension. Where one set is larger, rows of it are taken at even distances.

    Args:
        offline: ``[N, obs_dim]``.
        visited: ``[M, obs_dim]``.

    Returns:
        The numbers.
    """
    rows = min(len(offline), len(visited))
    plane = _plane(offline)
    cells = [len(np.unique(_cell(plane.place(_evenly(o, rows))))) for o in (visited, offline)]
    low, high = np.quantile(offline, [_TAIL, 1.0 - _TAIL], axis=0)
    shares = [float(((obs < low) | (obs > high)).any(axis=1).mean()) for obs in (visited, offline)]
    return Coverage(cells[0] / cells[1], *shares)


def _evenly(obs: np.ndarray, rows: int) -> np.ndarray:
    chosen: np.ndarray = obs[np.linspace(0, len(obs) - 1, rows).round().astype(np.int64)]
    return chosen


@dataclass(frozen=True)
class _Plane:
    """The plane in which the offline observations vary most, in units of their spread there."""

    mean: np.ndarray
    directions: np.ndarray

    def place(self, obs: np.ndarray) -> np.ndarray:
        placed: np.ndarray = (obs - self.mean) @ self.directions
        return placed


def _plane(offline: np.ndarray) -> _Plane:
    mean = offline.mean(axis=0, dtype=np.float64)
    spread = offline.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 0.0, spread, 1.0)
    white = (offline - mean) / scale
    variances, directions = np.linalg.eigh(white.T @ white / len(white))
    first = np.argsort(variances)[::-1][:2]
    unit = directions[:, first] / np.sqrt(np.maximum(variances[first], 1e-12))
    return _Plane(mean, unit / scale[:, None])


def _cell(placed: np.ndarray) -> np.ndarray:
    number = np.floor((placed + REACH) / (2.0 * REACH) * CELLS)
    number = np.clip(number, 0, CELLS - 1).astype(np.int64)
    cells: np.ndarray = number[:, 0] * CELLS + number[:, -1]
    return cells
