"""A metric against the numbers that a model stores."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from recmodels.reporting.pictures import BASE_COLOR, COLORS, PLAIN_COLOR, Curve, new_axes, save_png
from recmodels.reporting.svg import log_curves_svg

_GAP = 0.035  # of the height, between two names
# Factors of the size: from a point to its name, and below which the names of two points are beside each other.
_ASIDE, _BESIDE = 1.05, 1.3


class Sized(NamedTuple):
    """A point of the picture.

    Attributes:
        name: beside it.
        stored: numbers of the model, >= 1.
        mean: of the metric over seeds.
        deviation: of the metric over seeds.
        is_plain: whether all nodes have one width; such points are joined by a line.
    """

    name: str
    stored: int
    mean: float
    deviation: float
    is_plain: bool


def draw_sizes(points: Sequence[Sized], y_label: str, path: Path) -> None:
    """Points over a logarithmic axis, bars of one deviation, names without overlap.

    Args:
        points: at least one.
        y_label: what is drawn.
        path: PNG to write.
    """
    save_png(_figure(points, y_label), path)


def sizes_svg(points: Sequence[Sized], y_label: str) -> str:
    """The same picture for a page; the points of one width are a line."""
    return log_curves_svg(_curves(points), "stored numbers", y_label)


def _curves(points: Sequence[Sized]) -> list[Curve]:
    """The points of one width as a line, each other one alone."""
    plain = sorted((point for point in points if point.is_plain), key=lambda point: point.stored)
    groups = [("one width", plain)] * bool(plain) + [(point.name, [point]) for point in points if not point.is_plain]
    curves = []
    for name, group in groups:
        x, y, bars = zip(*((float(point.stored), point.mean, point.deviation) for point in group), strict=True)
        curves.append(Curve(name, x, y, bars, is_base=group is plain))
    return curves


def _figure(points: Sequence[Sized], y_label: str) -> Figure:
    figure, axes = new_axes(9.6, 5.2)
    for curve in _curves(points):
        color = BASE_COLOR if curve.is_base else COLORS[1]
        axes.errorbar(curve.x, curve.y, yerr=curve.errors, color=color, marker="o", markersize=4, capsize=2)
    axes.set_xscale("log")
    axes.set_xlabel("stored numbers")
    axes.set_ylabel(y_label)
    low, high = axes.get_ylim()
    placed = name_heights(points, _GAP * (high - low))
    axes.set_ylim(min(low, *(height for _, height in placed)), max(high, *(height for _, height in placed)))
    for point, height in placed:
        line = {"arrowstyle": "-", "color": PLAIN_COLOR, "linewidth": 0.5}
        text = axes.annotate(
            point.name, (point.stored, point.mean), (point.stored * _ASIDE, height), va="center", fontsize=7,
            arrowprops=line,
        )  # fmt: skip
        text.set_parse_math(False)
    return figure


def name_heights(points: Sequence[Sized], gap: float) -> list[tuple[Sized, float]]:
    """Heights of the names: as near to those of the points as they can be, where names beside each other are apart.

    Args:
        points: any.
        gap: smallest distance of two names, in the unit of the metric.
    """
    groups: list[list[Sized]] = []
    for point in sorted(points, key=lambda point: point.stored):
        if groups and point.stored < _BESIDE * groups[-1][-1].stored:
            groups[-1].append(point)
        else:
            groups.append([point])
    placed: list[tuple[Sized, float]] = []
    for group in groups:
        ordered = sorted(group, key=lambda point: point.mean)
        steps = gap * np.arange(len(ordered))
        # The nearest heights that keep their distance are, less a step each, the nearest ones that do not fall.
        heights = isotonic_regression([point.mean for point in ordered] - steps).x + steps
        placed += zip(ordered, heights.tolist(), strict=True)
    return placed
