"""A transport plan as SVG: a square for each pair of nodes, with its mass and cost under the pointer."""

from html import escape

from recmodels.experiments.example_plan import ExamplePlan
from recmodels.reporting.pictures import FOUND_COLOR

_CELL, _LETTER, _MARGIN = 22.0, 6.6, 8.0


def plan_svg(example: ExamplePlan) -> str:
    """Squares whose area is their mass, over the grid of all pairs.

    Args:
        example: at least one row and one column.
    """
    left, top = (_MARGIN + _LETTER * max(map(len, names)) for names in (example.rows, example.columns))
    largest = float(example.plan.max()) or 1.0
    parts = [
        f'<text x="{left - 6:.0f}" y="{top + _CELL * (n + 0.7):.0f}" text-anchor="end">{escape(name)}</text>'
        for n, name in enumerate(example.rows)
    ]
    parts += [
        f'<text transform="translate({left + _CELL * (n + 0.7):.0f} {top - 6:.0f}) rotate(-90)">{escape(name)}</text>'
        for n, name in enumerate(example.columns)
    ]
    for row, masses in enumerate(example.plan):
        for column, mass in enumerate(masses):
            told = f"{example.rows[row]} to {example.columns[column]}: "
            told += f"mass {mass:.4f}, cost {example.cost[row, column]:.3f}"
            parts.append(_square(left + _CELL * column, top + _CELL * row, float(mass) / largest, told))
    width, height = left + _CELL * len(example.columns) + _MARGIN, top + _CELL * len(example.rows) + _MARGIN
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px" role="img" '
        f'aria-label="{escape(example.title)}">{"".join(parts)}</svg>'
    )


def _square(x: float, y: float, share: float, told: str) -> str:
    side = (_CELL - 2) * share**0.5
    inset = (_CELL - side) / 2
    return (
        f'<g><title>{escape(told)}</title><rect class="grid" x="{x:.1f}" y="{y:.1f}" width="{_CELL:g}" '
        f'height="{_CELL:g}" fill="transparent"/><rect x="{x + inset:.1f}" y="{y + inset:.1f}" width="{side:.1f}" '
        f'height="{side:.1f}" fill="{FOUND_COLOR}"/></g>'
    )
