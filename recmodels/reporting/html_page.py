"""One self-contained page: tables that can be sorted, pictures that say what is under the pointer, no network."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import pandas as pd

from recmodels.reporting.pictures import Curve, colors_of

_STYLE = """\
body{font:15px/1.5 system-ui,sans-serif;color:#1a1a1a;max-width:1180px;margin:2em auto;padding:0 1em}
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em}p{max-width:52em}.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
th{cursor:pointer;position:sticky;top:0;background:#fff;white-space:nowrap}th.number,td.number{text-align:right}
td:not(:first-child):not(:last-child),td.number{white-space:nowrap}
td:last-child:not(.number){min-width:16em}tr.on td{background:#fff3d6}
th[aria-sort=ascending]::after{content:" ▲"}
th[aria-sort=descending]::after{content:" ▼"}svg{width:100%;max-width:900px;font-size:11px;display:block}
.grid{stroke:#e4e4e4}.axis{fill:none;stroke:#555}.run.on>path{stroke-width:4}.run.off{display:none}
.faded .run:not(.on){opacity:.15}.legend button{border:0;background:none;font:inherit;font-size:13px;cursor:pointer}
.legend button.off{opacity:.35}.legend i{display:inline-block;width:1em;height:.7em;margin-right:.3em}
code,pre{background:#f5f5f5;padding:.1em .3em}li{overflow-wrap:anywhere}
"""
_SCRIPT = """\
const all = (root, what) => [...root.querySelectorAll(what)];
const number = cell => parseFloat(cell.textContent.replace(/^[<\\s]+/, "").replace(/,(?=\\d{3})/g, ""));
for (const head of all(document, "th")) head.onclick = () => {
  const table = head.closest("table"), place = head.cellIndex, body = table.tBodies[0];
  const down = head.getAttribute("aria-sort") === "ascending", numeric = head.classList.contains("number");
  all(table, "th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const compare = (one, other) => {
    const [a, b] = [one.cells[place], other.cells[place]];
    if (!numeric) return (down ? -1 : 1) * a.textContent.localeCompare(b.textContent);
    const [x, y] = [number(a), number(b)];
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
    return down ? y - x : x - y;
  };
  [...body.rows].sort(compare).forEach(row => body.append(row));
};
const mark = (name, on) => {
  all(document, "[data-name]").filter(one => one.dataset.name === name).forEach(one => one.classList.toggle("on", on));
  all(document, "svg").forEach(svg => svg.classList.toggle("faded", on && !!svg.querySelector(".run.on")));
};
for (const one of all(document, "[data-name]")) {
  one.onmouseenter = () => mark(one.dataset.name, true);
  one.onmouseleave = () => mark(one.dataset.name, false);
}
for (const button of all(document, ".legend button")) button.onclick = () => {
  const off = button.classList.toggle("off"), figure = button.closest("figure");
  all(figure, ".run").filter(run => run.dataset.name === button.dataset.name)
    .forEach(run => run.classList.toggle("off", off));
};
"""


class Drawing(NamedTuple):
    """A picture of the page.

    Attributes:
        title: heading.
        svg: as of `svg`.
        legend: as of `legend`, or nothing.
        caption: how to read it.
    """

    title: str
    svg: str
    legend: str
    caption: str


def html_page(
    title: str,
    paragraphs: Sequence[str],
    tables: Mapping[str, pd.DataFrame],
    drawings: Sequence[Drawing],
    notes: Sequence[str],
) -> str:
    """The page.

    Args:
        title: heading.
        paragraphs: of text.
        tables: heading to cells of text; the first column names what its row is about. A column is sorted by number
            where most of its cells begin with one.
        drawings: below the tables.
        notes: a list at the end.
    """
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(text)}</p>" for text in paragraphs)]
    parts += [f"<h2>{escape(name)}</h2>{_table(frame)}" for name, frame in tables.items()]
    parts += [_figure(drawing) for drawing in drawings]
    if notes:
        parts.append(f"<h2>Notes</h2><ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>")
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n<script>{_SCRIPT}</script>\n'
        "</body></html>\n"
    )


def legend(curves: Sequence[Curve]) -> str:
    """A button for each name, which shows and hides its curves."""
    return "".join(
        f'<button data-name="{escape(name)}"><i style="background:{color}"></i>{escape(name)}</button>'
        for name, color in colors_of(curves).items()
    )


def _figure(drawing: Drawing) -> str:
    buttons = f'<div class="legend">{drawing.legend}</div>' if drawing.legend else ""
    caption = f"<figcaption>{escape(drawing.caption)}</figcaption>"
    return f"<h2>{escape(drawing.title)}</h2><figure>{drawing.svg}{buttons}{caption}</figure>"


def _table(frame: pd.DataFrame) -> str:
    marks = [' class="number"' if _is_numeric(frame[name]) else "" for name in frame.columns]
    heads = "".join(f"<th{mark}>{escape(str(name))}</th>" for name, mark in zip(frame.columns, marks, strict=True))
    rows = []
    for cells in frame.itertuples(index=False):
        found = "".join(f"<td{mark}>{escape(cell)}</td>" for cell, mark in zip(cells, marks, strict=True))
        rows.append(f'<tr data-name="{escape(cells[0])}">{found}</tr>')
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _is_numeric(cells: pd.Series) -> bool:
    """Whether most cells that are not empty begin with a number."""
    given = cells[~cells.isin(("", "–"))]
    return bool(len(given)) and bool(given.str.match(r"[-+<]?\s*\d*\.?\d").mean() > 0.5)
