"""Pictures: places on axes are true to the figures, in PNG and in SVG, and names are shown as they are."""

import json
import math
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread

from recmodels.reporting import pictures
from recmodels.reporting.html_page import Drawing, html_page, legend
from recmodels.reporting.pictures import (
    BASE_COLOR,
    FOUND_COLOR,
    PLAIN_COLOR,
    Curve,
    Interval,
    colors_of,
    draw_curves,
    draw_intervals,
    draw_plan,
    draw_sweep,
    nice_ticks,
    swept_places,
    swept_ticks,
)
from recmodels.reporting.svg import curves_svg, intervals_svg, sweep_svg

WEIRD = '<b>_a & $x$</b> "quoted"'
INTERVALS = [
    Interval("equal", 0.0, -0.02, 0.02, "not told apart", False),
    Interval(WEIRD, -0.05, -0.06, -0.04, "worse", True),
    Interval("up", 0.1, 0.05, 0.15, "better", True),
]
CURVES = [
    Curve("base", (0.0, 1.0, 2.0), (0.1, 0.3, 0.2), is_base=True),
    Curve(WEIRD, (0.0, 2.0), (0.15, 0.25)),
    Curve(WEIRD, (0.0, 2.0), (0.16, 0.26)),
]


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(tag))


def test_a_forest_plot_is_true_to_its_figures() -> None:
    dots = elements(intervals_svg(INTERVALS, "difference"), "circle")
    x = [float(dot.attrib["cx"]) for dot in dots]
    assert (x[2] - x[0]) / (x[0] - x[1]) == pytest.approx(2, rel=0.02)
    assert [dot.attrib["fill"] for dot in dots] == [PLAIN_COLOR, FOUND_COLOR, FOUND_COLOR]
    texts = [text.text for text in elements(intervals_svg(INTERVALS, "difference"), "text")]
    assert {WEIRD, "worse", "difference", "0"} <= set(texts)
    told = [title.text for title in elements(intervals_svg(INTERVALS, "difference"), "title")]
    assert told[1] == f"{WEIRD}: -0.05000 [-0.06000, -0.04000], worse"


def test_curves_have_a_color_a_name_and_the_base_is_black_and_last() -> None:
    groups = elements(curves_svg(CURVES, "epoch", "valid"), "g")
    assert [group.attrib["data-name"] for group in groups] == [WEIRD, WEIRD, "base"]
    lines = [group.findall("path")[0].attrib["stroke"] for group in groups]
    assert lines[0] == lines[1] != lines[2]
    assert lines[2] == BASE_COLOR
    assert colors_of(CURVES) == {"base": BASE_COLOR, WEIRD: lines[0]}
    heights = [float(dot.attrib["cy"]) for dot in groups[2].findall("circle")]
    assert (heights[0] - heights[1]) / (heights[0] - heights[2]) == pytest.approx(2, rel=0.01)
    assert [text.text for text in elements(curves_svg(CURVES, "epoch", "valid"), "text")][:3] == ["0", "1", "2"]


@given(st.sets(st.floats(1e-9, 1e9), min_size=2, max_size=20), st.booleans())
def test_values_of_a_key_keep_their_order_on_the_axis(positive: set[float], has_zero: bool) -> None:
    values = sorted(positive | ({0.0} if has_zero else set()))
    places = swept_places(values)
    assert len(places) == len(values)
    assert all(one <= other for one, other in zip(places, places[1:], strict=False))
    if max(positive) / min(positive) >= 20:
        assert places[has_zero:] == tuple(map(math.log10, sorted(positive)))


def test_zero_lies_one_step_left_of_the_smallest_weight_and_near_texts_are_left_out() -> None:
    assert swept_places((0.0, 0.01, 0.1, 1.0)) == pytest.approx((-3, -2, -1, 0))
    assert swept_places((-1.0, 100.0)) == (-1.0, 100.0)
    assert [text for _, text in swept_ticks((0.0001, 0.01, 0.011, 1.0))] == ["0.0001", "0.01", "1"]


@given(st.floats(-1e4, 1e4), st.floats(1e-4, 1e4))
def test_ticks_are_round_equidistant_and_inside(low: float, width: float) -> None:
    high = low + width
    ticks = nice_ticks(low, high)
    steps = np.diff(ticks)
    assert 1 <= len(ticks) <= 8
    assert low - 1e-6 * width <= ticks[0] <= ticks[-1] <= high + 1e-6 * width
    assert np.allclose(steps, steps[:1], rtol=1e-4, atol=1e-9)


def test_a_sweep_has_a_dot_and_a_bar_for_each_value_at_its_place() -> None:
    svg = sweep_svg(Curve("ndcg@10", (0.0, 0.01, 1.0), (0.1, 0.2, 0.3), (0.0, 0.05, 0.1)), "ot_weight", "test")
    x = [float(dot.attrib["cx"]) for dot in elements(svg, "circle")]
    assert x[2] - x[1] == pytest.approx(x[1] - x[0], abs=0.2)
    (group,) = elements(svg, "g")
    assert len(group.findall("path")) == 1 + 3
    assert "ndcg@10: 0.2 at 0.01" in [title.text for title in elements(svg, "title")]


def test_pictures_are_drawn_and_as_high_as_they_have_lines() -> None:
    draw_intervals(INTERVALS, "difference", Path("few.png"))
    draw_intervals(INTERVALS * 5, "difference", Path("many.png"))
    draw_curves(CURVES, "valid", Path("curves.png"))
    draw_sweep(Curve("ndcg@10", (0.0, 0.01, 1.0), (0.1, 0.2, 0.3), (0.0, 0.1, 0.1)), "a_$key$", Path("sweep.png"))
    few, many, curves, sweep = (imread(f"{name}.png") for name in ("few", "many", "curves", "sweep"))
    assert many.shape[0] > 2 * few.shape[0]
    assert min(picture[..., :3].min() for picture in (few, many, curves, sweep)) < 0.2
    orange = [int(FOUND_COLOR[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    assert np.isclose(few[..., :3], orange, atol=0.01).all(-1).sum() > 100


def test_a_plan_is_dark_where_its_mass_is() -> None:
    draw_plan(np.eye(4) / 4, ["a", "b", "c", "d"], ["e", "f", "g", "h"], Path("plan.png"))
    picture = imread("plan.png")[..., :3].sum(-1)
    rows, columns = np.nonzero(picture < 0.1)
    assert len(rows) > 1000
    assert np.corrcoef(rows, columns)[0, 1] > 0.5
    with pytest.raises(ValueError, match=r"plan: got \(4, 4\), expected \(1, 2\) as there are names"):
        draw_plan(np.eye(4), ["a"], ["b", "c"], Path("none.png"))
    assert not Path("none.png").exists()


def test_the_legend_and_the_captions_of_a_page_are_escaped() -> None:
    drawing = Drawing(WEIRD, curves_svg(CURVES, WEIRD, WEIRD), legend(CURVES), WEIRD)
    page = html_page(WEIRD, [WEIRD], {}, [drawing], [WEIRD])
    assert "<b>" not in page
    assert page.count("<button data-name=") == 2


def test_every_curve_is_in_the_legend_in_letters_that_the_font_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(pictures, "save_png", lambda figure, path: drawn.append(figure))
    draw_curves([CURVES[0]._replace(name=name) for name in ("_hidden", "a，b", "_hidden")], "valid", tmp_path / "x.png")
    assert [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()] == ["_hidden", "a,b"]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js to run the script of the page")
def test_the_page_sorts_numbers_with_thousands_by_their_value() -> None:
    line = next(line for line in html_page("t", {}, {}, [], []).splitlines() if line.startswith("const number = "))
    cells = ["1,141,357", "< .001", ".25 ± .01", "+.0012 [+.1, +.2]", "-0.5 %"]
    script = f"{line} console.log(JSON.stringify({json.dumps(cells)}.map(text => number({{textContent: text}}))))"
    found = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)  # noqa: S607
    assert json.loads(found.stdout) == [1141357, 0.001, 0.25, 0.0012, -0.5]
