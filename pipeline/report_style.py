"""How every figure of the report looks, and how it becomes a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

# Okabe and Ito's palette, made for every kind of colour vision; methods take it in their order.
# From the seventh on the same hues come darker, with another line and marker.
_METHODS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"),
    *("#1F2933", "#7A3803", "#00513B", "#7B3F69", "#5B4FBF", "#8A6D00", "#8A1C3C"),
)
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "h", "*", "d")
_LINES = ("-", (0, (5, 1.5)), (0, (1, 1)))
OWN, OFFLINE, FLOOR, TEXT = "#E69F00", "#7A8793", "#6B7280", "#1F2933"
WIDTH = 10.0  # inches, the width of the page's column
STYLE: Any = {  # matplotlib types its keys one by one
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": TEXT,
    "axes.edgecolor": "#9AA5B1",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#E4E7EB",
    "grid.linewidth": 0.8,
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # the same letters everywhere
    "svg.hashsalt": "smac",  # equal figures give equal bytes
}
PIXELS = 160  # per inch, of the PNG files


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Args:
        svg: The picture.
        alt: What it shows, for those who cannot see it.
    """

    svg: bytes
    alt: str


@dataclass(frozen=True)
class Video:
    """The moving picture of one environment, or why there is none.

    Args:
        webp: Animated WebP; empty: there is none.
        caption: What it shows, or why there is none.
    """

    webp: bytes
    caption: str


def colour(index: int) -> str:
    """Colour of a method.

    Args:
        index: Its place in the run.

    Returns:
        A hexadecimal colour.
    """
    return _METHODS[index % len(_METHODS)]


def marker(index: int) -> str:
    """Marker of a method.

    Args:
        index: Its place in the run.

    Returns:
        A matplotlib marker.
    """
    return _MARKERS[index % len(_MARKERS)]


def line_style(index: int) -> Any:
    """Line of a method where no marker tells it apart.

    Args:
        index: Its place in the run.

    Returns:
        A matplotlib line style: the first six are solid.
    """
    return _LINES[min(index // 6, len(_LINES) - 1)]


def styled() -> Any:
    """Give the context in which figures are made and saved."""
    return matplotlib.rc_context(STYLE)


def grid(
    count: int, columns: int, height: float, width: float = WIDTH
) -> tuple[Figure, list[Axes]]:
    """Make a figure of several panels.

    Args:
        count: Panels.
        columns: Panels a row, at most.
        height: Of a row (inches).
        width: Of the figure (inches).

    Returns:
        The figure and its panels, row by row.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for extra in axes[count:]:
        extra.remove()
    return figure, list(axes[:count])


def thousands(axes: Axes) -> None:
    """Write the numbers of the x axis with separators, and few of them.

    Args:
        axes: The panel.
    """
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]], height: float) -> None:
    """Write labels to the right of a panel, each at its height, pushed apart where they meet.

    Args:
        axes: The panel, with its final limits.
        labels: Height in data units, text and colour of each.
        height: Of the panel (inches), about.
    """
    low, high = axes.get_ylim()
    gap = 0.19 / height * (high - low)  # a line of text
    ordered = sorted(labels)
    places = [place for place, _, _ in ordered]
    for _ in range(100):
        for below in range(len(places) - 1):
            overlap = gap - (places[below + 1] - places[below])
            if overlap > 1e-9 * gap:
                places[below] -= overlap / 2
                places[below + 1] += overlap / 2
    for place, (value, text, shade) in zip(places, ordered, strict=True):
        axes.annotate(
            text,
            (1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(1.05, place),
            textcoords=("axes fraction", "data"),
            va="center",
            color=shade,
            annotation_clip=False,
            arrowprops={
                **{"arrowstyle": "-", "color": shade, "linewidth": 0.8},
                **{"relpos": (0.0, 0.5), "shrinkA": 2, "shrinkB": 0},  # points
            },
        )


def legend_below(figure: Figure, panels: Sequence[Axes], columns: int = 4) -> None:
    """Put one legend for all panels below them.

    Args:
        figure: The figure.
        panels: Whose labelled artists are listed, each label once.
        columns: Entries a row.
    """
    found: dict[str, Artist] = {}
    for axes in panels:
        for artist, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, artist)
    handles, labels = list(found.values()), list(found)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def save(figure: Figure, folder: Path, name: str, alt: str) -> Drawing:
    """Write a figure as SVG and PNG.

    Args:
        figure: The figure.
        folder: Where.
        name: Of the files, without an ending.
        alt: What the figure shows.

    Returns:
        The figure for the page.
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    (folder / f"{name}.svg").write_bytes(stream.getvalue())
    figure.set_layout_engine("none")  # the panels stay where they are; finding that cost a drawing
    figure.set_layout_engine("none")  # it stays as found: half of the time saved
    figure.savefig(folder / f"{name}.png", dpi=PIXELS, metadata={"Software": None})
    return Drawing(stream.getvalue(), alt)
