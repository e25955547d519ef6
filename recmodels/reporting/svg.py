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
    is_logarithmic,
    nice_ticks,
)

_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 16.0, 12.0, 44.0
_WIDTH, _HEIGHT, _LINE = 760.0, 340.0, 20.0
_LETTER = 6.6  # width of one, about
_LONGEST = 46


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
    """Lines over an axis; each has the class `run` and the attribute `data-name`, and says its values.

    Args:
        curves: at least one, each with at least one value.
        x_label: logarithmic where the values of a curve with errors are far apart.
        y_label: what is drawn.
    """
    frame = _Frame(_LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM)
    xs = [value for curve in curves for value in curve.x]
    ys = [value for curve in curves for value in _ends(curve)]
    is_log = bool(curves[0].errors) and is_logarithmic(xs)
    x, y = _scale(xs, frame.left, frame.right, is_log), _scale(ys, frame.bottom, frame.top, False)
    ticks = sorted(set(xs)) if curves[0].errors and len(set(xs)) <= 10 else _ticks(xs)
    colors = colors_of(curves)
    parts = [_axes(frame, [(x(t), f"{t:g}") for t in ticks], [(y(t), f"{t:g}") for t in _ticks(ys)])]
    parts += [_labels(frame, x_label, y_label)]
    parts += [_curve(c, colors[c.name], x, y) for c in sorted(curves, key=lambda curve: curve.is_base)]
    return _svg(_WIDTH, _HEIGHT, parts, f"{y_label} over {x_label}")


def intervals_svg(intervals: Sequence[Interval], x_label: str) -> str:
    """A forest plot; what counts as a difference is colored, every line says its figures.

    Args:
        intervals: at least one.
        x_label: what is drawn.
    """
    longest = min(max(len(found.name) for found in intervals), _LONGEST)
    height = _TOP + _BOTTOM + _LINE * len(intervals)
    frame = _Frame(24 + _LETTER * longest, _WIDTH - _RIGHT - 130, _TOP, height - _BOTTOM)
    ends = [0.0] + [end for found in intervals for end in (found.low, found.high)]
    x = _scale(ends, frame.left, frame.right, False)
    parts = [_axes(frame, [(x(tick), f"{tick:+g}") for tick in _ticks(ends)], []), _labels(frame, x_label, "")]
    parts.append(f'<path d="M{x(0):.1f} {frame.top}V{frame.bottom}" stroke="{BASE_COLOR}"/>')
    parts += [_interval(found, frame, _TOP + _LINE * (n + 0.5), x) for n, found in enumerate(intervals)]
    return _svg(_WIDTH, height, parts, x_label)


def _ends(curve: Curve) -> list[float]:
    """Of its bars, or its values."""
    errors = curve.errors or (0.0,) * len(curve.y)
    return [value + end for value, error in zip(curve.y, errors, strict=True) for end in (-error, error)]


def _interval(found: Interval, frame: _Frame, y: float, x: Callable[[float], float]) -> str:
    color = FOUND_COLOR if found.is_found else PLAIN_COLOR
    name = found.name if len(found.name) <= _LONGEST else f"{found.name[: _LONGEST - 1]}…"
    told = f"{found.name}: {found.mean:+.5f} [{found.low:+.5f}, {found.high:+.5f}], {found.verdict}"
    return (
        f'<g class="run" data-name="{escape(found.name)}"><title>{escape(told)}</title>'
        f'<rect x="0" y="{y - _LINE / 2:.1f}" width="{_WIDTH}" height="{_LINE}" fill="transparent"/>'
        f'<text x="{frame.left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
        f'<path d="M{x(found.low):.1f} {y:.1f}H{x(found.high):.1f}" stroke="{color}" stroke-width="2"/>'
        f'<circle cx="{x(found.mean):.1f}" cy="{y:.1f}" r="4" fill="{color}"/>'
        f'<text x="{frame.right + 10:.1f}" y="{y + 4:.1f}">{escape(found.verdict)}</text></g>'
    )


def _curve(curve: Curve, color: str, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    path = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in zip(curve.x, curve.y, strict=True))
    best = max(zip(curve.y, curve.x, strict=True))
    told = f"{curve.name}: highest {best[0]:.5g} at {best[1]:g}"
    bars = [
        f'<path d="M{x(a):.1f} {y(b - error):.1f}V{y(b + error):.1f}" stroke="{color}"/>'
        for a, b, error in zip(curve.x, curve.y, curve.errors, strict=False)
    ]
    dots = [
        f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3" fill="{color}"><title>'
        f"{escape(curve.name)}: {b:.5g} at {a:g}</title></circle>"
        for a, b in zip(curve.x, curve.y, strict=True)
        if curve.errors or len(curve.x) < 20
    ]
    line = f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="1.5"/>'
    inner = "".join([f"<title>{escape(told)}</title>", line, *bars, *dots])
    return f'<g class="run" data-name="{escape(curve.name)}">{inner}</g>'


def _scale(values: Sequence[float], start: float, end: float, is_log: bool) -> Callable[[float], float]:
    """Maps values to px, with a margin around them."""
    bent = math.log10 if is_log else float
    low, high = bent(min(values)), bent(max(values))
    margin = 0.05 * (high - low) or abs(low) * 0.05 or 1.0
    low, high = low - margin, high + margin
    return lambda value: start + (bent(value) - low) / (high - low) * (end - start)


def _ticks(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return nice_ticks(low, high) if high > low else [low]


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
