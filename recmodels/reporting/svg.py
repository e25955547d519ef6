"""The same pictures as SVG inside a page: small, with a text under the pointer, without any script or network."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from recmodels.reporting.pictures import (
    BASE_COLOR,
    FOUND_COLOR,
    PLAIN_COLOR,
    Curve,
    Interval,
    colors_of,
    drawn_at,
    interval_name,
    interval_range,
    nice_ticks,
    swept_places,
    swept_ticks,
)

_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 16.0, 12.0, 44.0
_WIDTH, _HEIGHT, _LINE = 760.0, 340.0, 20.0
_LETTER = 6.6  # width of one, about
_LONGEST = 46
_FEW = 20  # values of a line that are drawn as dots too


class _Frame(NamedTuple):
    """Where a picture has its axes.

    Attributes:
        left: x of the vertical axis, px.
        right: x of the right end.
        top: y of the upper end.
        bottom: y of the horizontal axis.
    """

    left: float
    right: float
    top: float
    bottom: float


def curves_svg(curves: Sequence[Curve], x_label: str, y_label: str) -> str:
    """Lines over a numeric axis; each says its highest value, and its name is the attribute `data-name`.

    Args:
        curves: at least one, each with at least one value.
        x_label: what is across.
        y_label: what is drawn.
    """
    return _lines([(curve, curve.x) for curve in curves], [], x_label, y_label)


def log_curves_svg(curves: Sequence[Curve], x_label: str, y_label: str) -> str:
    """Lines, or single points with bars, over a logarithmic axis.

    Args:
        curves: at least one, each x > 0.
        x_label: what is across.
        y_label: what is drawn.
    """
    values = [x for curve in curves for x in curve.x]
    powers = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    round_ones = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    ticks = [(math.log10(x), f"{x:,.0f}") for x in round_ones if min(values) <= x <= max(values)]
    return _lines([(curve, [math.log10(x) for x in curve.x]) for curve in curves], ticks, x_label, y_label)


def sweep_svg(curve: Curve, key: str, y_label: str) -> str:
    """A metric over the values of a key, with bars; each value says its figure.

    Args:
        curve: with its errors; at least two values.
        key: name of the axis.
        y_label: what is drawn.
    """
    return _lines([(curve, swept_places(curve.x))], swept_ticks(curve.x), key, y_label)


def _lines(
    curves: Sequence[tuple[Curve, Sequence[float]]], ticks: Sequence[tuple[float, str]], x_label: str, y_label: str
) -> str:
    """Curves with the places of their values, and texts below places; without any, round numbers."""
    frame = _Frame(_LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM)
    xs, ys = [place for _, places in curves for place in places], [end for curve, _ in curves for end in _ends(curve)]
    x, y = _scale(xs, frame.left, frame.right), _scale(ys, frame.bottom, frame.top)
    below = [(x(place), text) for place, text in ticks or [(tick, f"{tick:g}") for tick in _ticks(xs)]]
    colors = colors_of([curve for curve, _ in curves])
    parts = [_axes(frame, below, [(y(tick), f"{tick:g}") for tick in _ticks(ys)]), _labels(frame, x_label, y_label)]
    ordered = sorted(curves, key=lambda entry: entry[0].is_base)
    parts += [_curve(curve, [x(place) for place in places], colors[curve.name], y) for curve, places in ordered]
    return _svg(_WIDTH, _HEIGHT, parts, f"{y_label} over {x_label}")


def intervals_svg(intervals: Sequence[Interval], x_label: str) -> str:
    """A forest plot; what counts as a difference is colored, every line says its figures.

    Args:
        intervals: at least one.
        x_label: what is drawn.
    """
    ends = interval_range(intervals)
    longest = min(max(len(interval_name(found, *ends)) for found in intervals), _LONGEST)
    height = _TOP + _BOTTOM + _LINE * len(intervals)
    frame = _Frame(24 + _LETTER * longest, _WIDTH - _RIGHT - 130, _TOP, height - _BOTTOM)
    x = _scale(ends, frame.left, frame.right)
    parts = [
        _axes(frame, [(x(tick), f"{tick:+g}" if tick else "0") for tick in _ticks(ends)], []),
        _labels(frame, x_label, ""),
    ]
    parts.append(f'<path d="M{x(0):.1f} {frame.top}V{frame.bottom}" stroke="{BASE_COLOR}"/>')
    parts += [_interval(found, frame, _TOP + _LINE * (n + 0.5), x, ends) for n, found in enumerate(intervals)]
    return _svg(_WIDTH, height, parts, x_label)


def _ends(curve: Curve) -> list[float]:
    """Of its bars, or its values."""
    errors = curve.errors or (0.0,) * len(curve.y)
    return [value + end for value, error in zip(curve.y, errors, strict=True) for end in (-error, error)]


def _interval(found: Interval, frame: _Frame, y: float, x: Callable[[float], float], ends: tuple[float, float]) -> str:
    """A line with its name and verdict; what is beyond the axis ends in an arrow at its edge."""
    color = FOUND_COLOR if found.is_found else PLAIN_COLOR
    named = interval_name(found, *ends)
    name = named if len(named) <= _LONGEST else f"{named[: _LONGEST - 1]}…"
    text = f"{found.name}: {found.mean:+.5f} [{found.low:+.5f}, {found.high:+.5f}], {found.verdict}"
    left, right = (min(max(x(end), frame.left), frame.right) for end in (found.low, found.high))
    _, marker = drawn_at(found, *ends)
    dot = f'<circle cx="{x(found.mean):.1f}" cy="{y:.1f}" r="4" fill="{color}"/>'
    if marker != "o":
        edge, tip = (frame.left + 8, -8) if marker == "<" else (frame.right - 8, 8)
        dot = f'<path d="M{edge:.1f} {y - 4:.1f}v8l{tip} -4z" fill="{color}"/>'
    return (
        f'<g class="run" data-name="{escape(found.name)}"><title>{escape(text)}</title>'
        f'<rect x="0" y="{y - _LINE / 2:.1f}" width="{_WIDTH}" height="{_LINE}" fill="transparent"/>'
        f'<text x="{frame.left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
        f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" stroke="{color}" stroke-width="2"/>{dot}'
        f'<text x="{frame.right + 10:.1f}" y="{y + 4:.1f}">{escape(found.verdict)}</text></g>'
    )


def _curve(curve: Curve, places: Sequence[float], color: str, y: Callable[[float], float]) -> str:
    """One line, the x of its values in px."""
    best = max(zip(curve.y, curve.x, strict=True))
    parts = [f"<title>{escape(curve.name)}: highest {best[0]:.5g} at {best[1]:g}</title>"]
    path = "L".join(f"{px:.1f} {y(value):.1f}" for px, value in zip(places, curve.y, strict=True))
    parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
    for px, value, error in zip(places, curve.y, curve.errors, strict=False):
        parts.append(f'<path d="M{px:.1f} {y(value - error):.1f}V{y(value + error):.1f}" stroke="{color}"/>')
    if curve.errors or len(curve.x) < _FEW:
        parts += [
            f'<circle cx="{px:.1f}" cy="{y(value):.1f}" r="3" fill="{color}">'
            f"<title>{escape(curve.name)}: {value:.5g} at {at:g}</title></circle>"
            for px, at, value in zip(places, curve.x, curve.y, strict=True)
        ]
    return f'<g class="run" data-name="{escape(curve.name)}">{"".join(parts)}</g>'


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    """Maps values to px, with a margin around them."""
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or abs(low) * 0.05 or 1.0
    low, high = low - margin, high + margin
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers; whole ones between whole ones, such as epochs."""
    low, high = min(values), max(values)
    found = nice_ticks(low, high) if high > low else [low]
    is_whole = all(float(value).is_integer() for value in values)
    return [tick for tick in found if not is_whole or tick.is_integer()]


def _axes(frame: _Frame, horizontal: Sequence[tuple[float, str]], vertical: Sequence[tuple[float, str]]) -> str:
    """Grid and figures along both axes."""
    parts = [
        f'<path class="grid" d="M{px:.1f} {frame.top}V{frame.bottom}"/>'
        f'<text x="{px:.1f}" y="{frame.bottom + 16}" text-anchor="middle">{escape(text)}</text>'
        for px, text in horizontal
    ] + [
        f'<path class="grid" d="M{frame.left} {py:.1f}H{frame.right}"/>'
        f'<text x="{frame.left - 6}" y="{py + 4:.1f}" text-anchor="end">{escape(text)}</text>'
        for py, text in vertical
    ]
    axis = f'<path class="axis" d="M{frame.left} {frame.top}V{frame.bottom}H{frame.right}"/>'
    return "".join(parts) + axis


def _labels(frame: _Frame, x_label: str, y_label: str) -> str:
    middle = (frame.left + frame.right) / 2
    below = f'<text x="{middle:.1f}" y="{frame.bottom + 36}" text-anchor="middle">{escape(x_label)}</text>'
    beside = f'<text transform="translate(14 {(frame.top + frame.bottom) / 2:.1f}) rotate(-90)" text-anchor="middle">'
    return below + (f"{beside}{escape(y_label)}</text>" if y_label else "")


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
