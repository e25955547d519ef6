"""A metric against the number of parameters."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from recmodels.files import write_bytes
from recmodels.reporting.pictures import BASE_COLOR, COLORS, DPI, Curve, new_axes
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
    picture = io.BytesIO()
    _figure(points, y_label).savefig(picture, format="png", dpi=DPI)
    write_bytes(path, picture.getvalue())


def sizes_svg(points: Sequence[Sized], y_label: str) -> str:
    """The same picture for a page; the points of one width are a line."""
    plain = sorted((point for point in points if point.is_plain), key=lambda point: point.parameters)
    groups = [("one width", plain)] * bool(plain) + [(point.name, [point]) for point in points if not point.is_plain]
    curves = []
    for name, group in groups:
        x, y, bars = zip(*((float(point.parameters), point.mean, point.deviation) for point in group), strict=True)
        curves.append(Curve(name, x, y, bars, is_base=group is plain))
    return log_curves_svg(curves, "parameters", y_label)


def _figure(points: Sequence[Sized], y_label: str) -> Figure:
    figure, axes = new_axes(9.6, 5.2)
    plain = sorted((point for point in points if point.is_plain), key=lambda point: point.parameters)
    other = [point for point in points if not point.is_plain]
    for group, color, line in ((plain, BASE_COLOR, "-"), (other, COLORS[1], "none")):
        if group:
            x, y, bars = zip(*((point.parameters, point.mean, point.deviation) for point in group), strict=True)
            axes.errorbar(x, y, yerr=bars, color=color, marker="o", markersize=4, capsize=2, linestyle=line)
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
