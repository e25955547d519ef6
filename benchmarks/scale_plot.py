"""The picture of a step's seconds and memory over the edges."""

import io
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks.rows import Row
from recmodels.files import write_bytes

_PANELS = {"step_s": "seconds of a training step", "peak_mb": "peak memory, MB"}
_COLORS = ("#0072b2", "#d55e00", "#009e73")  # of Okabe and Ito, told apart by every eye
_HEADROOM = 0.6


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draws both quantities on logarithmic axes, with a reference of slope 1.

    Args:
        rows: as of `scale_row`.
        path: PNG to write.
    """
    panels = [key for key in _PANELS if all(row[key] is not None for row in rows)]
    figure = Figure(figsize=(4.6 * len(panels), 3.8), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_panel(axes, rows, key)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    write_bytes(path, picture.getvalue())


def _draw_panel(axes: Any, rows: Sequence[Row], key: str) -> None:
    models = list(dict.fromkeys(row["model"] for row in rows))
    for model, color in zip(models, cycle(_COLORS), strict=False):
        points = [(row["edges"], row[key]) for row in rows if row["model"] == model]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=5, color=color, label=model)
    edges = sorted({row["edges"] for row in rows})
    lowest = min(row[key] / row["edges"] for row in rows) * _HEADROOM
    axes.plot(edges, [lowest * n for n in edges], color="0.6", linewidth=0.8, linestyle="--", label="slope 1")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(edges, [_short(n) for n in edges])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("edges")
    axes.set_ylabel(_PANELS[key])
    axes.grid(which="major", alpha=0.25)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _short(n: int) -> str:
    """1,000,000 as `1 M`, 20,000 as `20 k`."""
    return f"{n / 1e6:.2g} M" if n >= 1e6 else f"{n / 1e3:.3g} k"
