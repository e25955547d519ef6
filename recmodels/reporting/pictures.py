"""Pictures for people: learning curves, intervals of differences, a metric over a key, a transport plan."""

import io
import math
import unicodedata
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recmodels.files import write_bytes

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#6b6b6b")  # Okabe, Ito
BASE_COLOR, FOUND_COLOR, PLAIN_COLOR = "#111111", "#d55e00", "#7a7a7a"
_DPI = 120
_WIDE = 20  # largest value over smallest positive one, from which on a swept key has a logarithmic axis
_FAR, _MARGIN = 8, 0.05  # times the median reach of intervals, beyond which one is not on their axis; of the axis
_CLOSE = 0.1  # of the axis, at which texts below it touch


class Curve(NamedTuple):
    """A line of a picture.

    Attributes:
        name: curves of one name have one color and one entry of the legend.
        x: ascending.
        y: of the same length.
        errors: half lengths of bars, or nothing.
        is_base: drawn in black.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    errors: tuple[float, ...] = ()
    is_base: bool = False


class Interval(NamedTuple):
    """A difference with its 95 % interval.

    Attributes:
        name: of what is compared.
        mean: of the difference.
        low: lower end.
        high: upper end.
        verdict: in words.
        is_found: whether it counts as a difference.
    """

    name: str
    mean: float
    low: float
    high: float
    verdict: str
    is_found: bool


def colors_of(curves: Sequence[Curve]) -> dict[str, str]:
    """A color for each name; the base is black."""
    names = dict.fromkeys(curve.name for curve in curves if not curve.is_base)
    bases = {curve.name: BASE_COLOR for curve in curves if curve.is_base}
    return bases | dict(zip(names, cycle(COLORS), strict=False))


def swept_places(values: Sequence[float]) -> tuple[float, ...]:
    """Where values of a key lie on their axis: by logarithm if they are far apart, a 0 then left of the others.

    Args:
        values: ascending, all different.
    """
    positive = [value for value in values if value > 0]
    if values[0] < 0 or not positive or positive[-1] / positive[0] < _WIDE:
        return tuple(values)
    places = [math.log10(value) for value in positive]
    if len(positive) < len(values):
        places.insert(0, places[0] - (places[-1] - places[0]) / (len(places) - 1))
    return tuple(places)


def swept_ticks(values: Sequence[float]) -> list[tuple[float, str]]:
    """Places with the values there as text, without those that would touch the one before."""
    places, found = swept_places(values), list[tuple[float, str]]()
    for place, value in zip(places, values, strict=True):
        if not found or place - found[-1][0] > _CLOSE * (places[-1] - places[0]):
            found.append((place, f"{value:g}"))
    return found


def interval_range(intervals: Sequence[Interval]) -> tuple[float, float]:
    """From where to where the axis of intervals goes: 0 and all of them, but for those far beyond most.

    Args:
        intervals: at least one.
    """
    reach = sorted(max(abs(found.low), abs(found.high)) for found in intervals)
    limit = _FAR * reach[(len(reach) - 1) // 2]
    shown = [found for found in intervals if max(abs(found.low), abs(found.high)) <= limit] or intervals
    return min(0.0, *(found.low for found in shown)), max(0.0, *(found.high for found in shown))


def draw_curves(curves: Sequence[Curve], y_label: str, path: Path) -> None:
    """A metric over epochs.

    Args:
        curves: at least one.
        y_label: what is drawn.
        path: PNG to write.
    """
    figure, axes = new_axes(8.4, 4.4)
    colors = colors_of(curves)
    lines: dict[str, Line2D] = {}
    for curve in sorted(curves, key=lambda curve: curve.is_base):
        marker = "." if len(curve.x) < 20 else None
        (line,) = axes.plot(curve.x, curve.y, color=colors[curve.name], linewidth=1.3, marker=marker)
        lines.setdefault(curve.name, line)
    axes.set_xlabel("epoch")
    axes.set_ylabel(y_label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
    # Named after it is made, because a legend leaves out labels that begin with an underscore.
    legend = axes.legend(lines.values(), map(str, range(len(lines))), fontsize=8, frameon=False, **place)
    for text, name in zip(legend.get_texts(), lines, strict=True):
        text.set_parse_math(False)
        text.set_text(_drawn(name))
    save_png(figure, path)


def draw_intervals(intervals: Sequence[Interval], x_label: str, path: Path) -> None:
    """Differences to the base, the first one on top; what counts as a difference is colored.

    One far beyond the others ends in an arrow at the edge, with its figure in its name, so that theirs can be read.

    Args:
        intervals: at least one.
        x_label: what is drawn.
        path: PNG to write.
    """
    figure, axes = new_axes(8.4, 1.3 + 0.26 * len(intervals))
    low, high = interval_range(intervals)
    margin = _MARGIN * (high - low) or 1.0
    edges = low - margin, high + margin
    for place, found in enumerate(intervals):
        color = FOUND_COLOR if found.is_found else PLAIN_COLOR
        axes.plot((found.low, found.high), (place, place), color=color, linewidth=1.5, solid_capstyle="butt")
        at, marker = drawn_at(found, *edges)
        axes.plot(at, place, marker, color=color, markersize=5, clip_on=False)
    axes.set_xlim(*edges)
    axes.axvline(0, color=BASE_COLOR, linewidth=0.8)
    names = [_drawn(interval_name(found, *edges)) for found in intervals]
    axes.set_yticks(range(len(intervals)), names, fontsize=8, parse_math=False)
    axes.set_ylim(len(intervals) - 0.4, -0.6)
    axes.set_xlabel(x_label, loc="right")  # long ones have room below the names
    verdicts = axes.secondary_yaxis("right")
    verdicts.set_yticks(range(len(intervals)), [found.verdict for found in intervals], fontsize=8, parse_math=False)
    verdicts.tick_params(length=0)
    verdicts.spines["right"].set_visible(False)
    save_png(figure, path)


def _drawn(name: str) -> str:
    """A name with plain letters for full-width ones and other compatible forms, which the font lacks."""
    return unicodedata.normalize("NFKC", name)


def drawn_at(found: Interval, low: float, high: float) -> tuple[float, str]:
    """Where an interval's mean is drawn on an axis, and as what: a circle, or an arrow at the edge it is beyond."""
    if low <= found.mean <= high:
        return found.mean, "o"
    return (low, "<") if found.mean < low else (high, ">")


def interval_name(found: Interval, low: float, high: float) -> str:
    """The name of an interval, with its mean where that is beyond the axis."""
    return found.name if low <= found.mean <= high else f"{found.name} ({found.mean:+.4f})"


def draw_sweep(curve: Curve, key: str, path: Path) -> None:
    """A metric over the values of a key, with bars of one deviation over seeds.

    Args:
        curve: with its errors; at least two values.
        key: name of the axis.
        path: PNG to write.
    """
    figure, axes = new_axes(5.6, 3.8)
    places = swept_places(curve.x)
    axes.errorbar(places, curve.y, yerr=curve.errors or None, color=COLORS[0], marker="o", markersize=5, capsize=3)
    axes.set_xticks(*zip(*swept_ticks(curve.x), strict=True), fontsize=8)
    axes.set_xlabel(key, parse_math=False)
    axes.set_ylabel(f"test {curve.name}")
    save_png(figure, path)


def draw_plan(plan: np.ndarray, rows: Sequence[str], columns: Sequence[str], path: Path) -> None:
    """A transport plan as a heat map, with its marginals in the names of the axes.

    Args:
        plan: (n, m), >= 0, masses.
        rows: n names of the one side.
        columns: m names of the other side.
        path: PNG to write.

    Raises:
        ValueError: the names are not n and m.
    """
    if plan.shape != (len(rows), len(columns)):
        raise ValueError(f"plan: got {plan.shape}, expected ({len(rows)}, {len(columns)}) as there are names")
    figure, axes = new_axes(1.8 + 0.42 * len(columns), 1.4 + 0.34 * len(rows))
    image = axes.imshow(plan, cmap="magma_r", vmin=0)
    figure.colorbar(image, ax=axes, label="mass")
    axes.set_yticks(range(len(rows)), [f"{name}  {mass:.2g}" for name, mass in zip(rows, plan.sum(1), strict=True)])
    tops = [f"{name}  {mass:.2g}" for name, mass in zip(columns, plan.sum(0), strict=True)]
    axes.set_xticks(range(len(columns)), tops, rotation=60, ha="right", rotation_mode="anchor")
    axes.tick_params(labelsize=8, length=0)
    axes.grid(visible=False)
    save_png(figure, path)


def nice_ticks(low: float, high: float, n_ticks: int = 6) -> list[float]:
    """About so many round numbers from `low` to `high`.

    Args:
        low: finite.
        high: > low.
        n_ticks: >= 2.
    """
    raw = (high - low) / n_ticks
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    places = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [round(place * step, 12) for place in places]


def new_axes(width: float, height: float) -> tuple[Figure, Any]:
    """An empty figure of so many inches, and its axes in the style of all pictures."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_png(figure: Figure, path: Path) -> None:
    """Writes a picture, atomically."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DPI)
    write_bytes(path, picture.getvalue())
