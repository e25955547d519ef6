"""A metric against the number of parameters."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from recmodels.reporting.pictures import BASE_COLOR, COLORS, Curve, new_axes, save_png
from recmodels.reporting.svg import log_curves_svg

_GAP = 0.035  # of the height, between two names


class Sized(NamedTuple):
    """A point of the picture.

    Attributes:
        name: beside it.
        parameters: of the model, >= 1.
        mean: of the metric over seeds.
        deviation: of the metric over seeds.
        is_plain: whether all nodes have one width; such points are joined by a line.
    """

    name: str
    parameters: int
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
    return log_curves_svg(_curves(points), "parameters", y_label)


def _curves(points: Sequence[Sized]) -> list[Curve]:
    """The points of one width as a line, each other one alone."""
    plain = sorted((point for point in points if point.is_plain), key=lambda point: point.parameters)
    groups = [("one width", plain)] * bool(plain) + [(point.name, [point]) for point in points if not point.is_plain]
    curves = []
    for name, group in groups:
        x, y, bars = zip(*((float(point.parameters), point.mean, point.deviation) for point in group), strict=True)
        curves.append(Curve(name, x, y, bars, is_base=group is plain))
    return curves


def _figure(points: Sequence[Sized], y_label: str) -> Figure:
    figure, axes = new_axes(9.6, 5.2)
    for curve in _curves(points):
        color = BASE_COLOR if curve.is_base else COLORS[1]
        axes.errorbar(curve.x, curve.y, yerr=curve.errors, color=color, marker="o", markersize=4, capsize=2)
    axes.set_xscale("log")
    axes.set_xlabel("parameters")
    axes.set_ylabel(y_label)
    low, high = axes.get_ylim()
    for point, height in name_heights(points, _GAP * (high - low)):
        place = (point.parameters, height)
        text = axes.annotate(point.name, place, (7, 0), textcoords="offset points", va="center", fontsize=7)
        text.set_parse_math(False)
    return figure


def name_heights(points: Sequence[Sized], gap: float) -> list[tuple[Sized, float]]:
    """Heights of the names: those of the points, moved up where names of about the same size would overlap.

    Args:
        points: any.
        gap: smallest distance of two names, in the unit of the metric.
    """
    placed: list[tuple[Sized, float]] = []
    for point in sorted(points, key=lambda point: point.mean):
        near = [height for other, height in placed if 0.5 < other.parameters / point.parameters < 2]
        placed.append((point, max([point.mean, *(height + gap for height in near)])))
    return placed
