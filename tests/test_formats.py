"""A page says the same in Markdown, CSV and LaTeX: best and second marked, text escaped, links that lead somewhere."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recmodels.reporting.comparison import Comparison
from recmodels.reporting.finished import read_runs
from recmodels.reporting.formats import Page, to_csv, to_latex, to_markdown
from recmodels.reporting.notation import engine_note, latex_text, markdown_text
from recmodels.reporting.paired import Difference
from recmodels.reporting.published import Published
from recmodels.reporting.table import make_tables
from tests.finished_runs import SPLIT, write_run

COMMAND = "recmodels report runs --out=docs"
OTHERS = [Published("EASE", "Steck, 2019", {"recall@10": 0.9})]


def page(**changed: Any) -> Page:  # noqa: ANN401
    """Of the runs below `runs`."""
    tables, _ = make_tables(read_runs([Path("runs")])[0], by_split=True)
    given: dict[str, Any] = {"title": "toy", "command": COMMAND, "tables": tables, "metrics": ["recall@10", "ndcg@10"]}
    nothing: dict[str, Any] = {"published": [], "against": None, "differences": {}, "notes": []}
    return Page(**{**given, **nothing, **changed})


def write_rows(**recalls: float) -> None:
    for place, (name, recall) in enumerate(recalls.items()):
        write_run(f"runs/{name}", recall, result={"row": name}, n_layers=place)


def cells(markdown: str, column: str) -> list[str]:
    """The cells of a column of the first table."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in markdown.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return [row[head.index(column)] for row in rows]


def test_the_best_is_bold_the_second_underlined_and_equal_figures_alike() -> None:
    write_rows(a=0.2, b=0.30001, c=0.3, d=0.25, e=0.1)
    assert cells(to_markdown(page(), Path()), "R@10") == [".2000", "**.3000**", "**.3000**", "<u>.2500</u>", ".1000"]
    latex = to_latex(page(), Path())
    assert latex.count(r"\textbf{.3000}") == 2
    assert latex.count(r"\underline{.2500}") == 1


def test_where_less_is_better_the_least_is_bold() -> None:
    for name, value in (("a", 3.0), ("b", 1.0)):
        given = {"row": name, "test": {"averagepopularity@10": value}}
        write_run(f"runs/{name}", 0.2, result=given, n_layers=1 + (name == "b"))
        write_run(f"runs/{name}2", 0.2, result=given, ssl_reg=value, n_layers=9)
    found = cells(to_markdown(page(metrics=["averagepopularity@10"]), Path()), "averagepopularity@10")
    assert found.count("**1.0000**") == 2


def test_a_single_row_and_figures_of_others_are_not_marked() -> None:
    write_rows(a=0.2)
    assert cells(to_markdown(page(published=OTHERS), Path()), "R@10") == [".2000", ".9000"]
    write_run("runs/b", 0.3, result={"row": "b"}, n_layers=9)
    found = page(published=OTHERS)
    assert cells(to_markdown(found, Path()), "R@10")[-1] == ".9000"
    assert cells(to_markdown(found, Path()), "N@10")[-1] == "–"
    assert cells(to_markdown(found, Path()), "seeds")[-1] == "reported: Steck, 2019"


def test_several_seeds_show_mean_deviation_count_and_links() -> None:
    for seed, recall in ((2020, 0.2), (2021, 0.3)):
        write_run(f"runs/a b/{seed}", recall, seed=seed)
    folder = Path("docs/results")
    text = to_markdown(page(), folder)
    assert cells(text, "R@10") == [".2500 ± .0707"]
    (links,) = cells(text, "seeds")
    assert links.startswith("2: [2020](../../runs/a%20b/2020/config.yaml), [2021](")
    assert (folder / "../../runs/a b/2020/config.yaml").resolve().is_file()


def test_costs_and_hardware_are_shown_and_a_missing_one_is_a_dash() -> None:
    write_run("runs/a", 0.2)
    write_run("runs/b", 0.3, result={"hardware": {}, "peak_rss_mb": None}, n_layers=2)
    text = to_markdown(page(), Path())
    columns = ("settings", "parameters", "epochs", "s/epoch", "memory MB", "hardware")
    assert [cells(text, column) for column in columns] == [
        ["n_layers 2", "n_layers 3"], ["618,816"] * 2, ["95"] * 2, ["31.9"] * 2, ["–", "1,194"], ["B", "A"],
    ]  # fmt: skip
    assert "- hardware A: A CPU, cores 2, torch threads 1\n- hardware B: not recorded\n" in text


def test_the_page_begins_with_what_its_figures_depend_on() -> None:
    write_run("runs/a", 0.2)
    head = to_markdown(page(notes=["runs/x: unfinished"]), Path())
    assert head.startswith(
        f"# toy\n\n- data: toy\n- split: `{SPLIT * 5}`, split_seed 2020, "
        '{"RS": [0.8, 0.1, 0.1]}, order RO, group_by user, mode full, best epoch by valid NDCG@10\n'
        "- hardware A: A CPU, cores 2, torch threads 1\n- versions: torch 2.13.0\n- made by:\n\n"
        f"```bash\n{COMMAND}\n```\n\n|"
    )
    assert head.endswith("\n- not shown: runs/x: unfinished\n")


@pytest.mark.parametrize(
    ("files", "label"), [(["train90", "valid10", "test"], "valid-picked"), (["train", "test", "test"], "test-picked")]
)
def test_a_fixed_split_says_how_the_epoch_was_picked(files: list[str], label: str) -> None:
    write_run("runs/a", 0.2, benchmark_filename=files)
    assert f"split_seed 2020, fixed [{', '.join(files)}], {label}, mode full" in to_markdown(page(), Path())


@pytest.mark.parametrize(
    ("seen", "label"),
    [(1.0, "test-picked"), (0.0, "valid-picked"), (0.12345, "12.3 % of the test pairs in valid")],
)
def test_an_epoch_is_picked_on_test_where_valid_had_its_pairs_whatever_the_files_are_called(
    seen: float, label: str
) -> None:
    files = ["train", "copy", "test"] if seen else ["train", "test", "test"]
    write_run("runs/a", 0.2, result={"test_seen_in_valid": seen}, benchmark_filename=files, repeatable=True)
    assert f"fixed [{', '.join(files)}], {label}, repeatable true, mode full" in to_markdown(page(), Path())


@pytest.mark.parametrize(("seen", "told"), [(0.0, ""), (0.5, ", 50 % of the test pairs in valid")])
def test_a_random_split_says_only_where_valid_had_pairs_of_test(seen: float, told: str) -> None:
    write_run("runs/a", 0.2, result={"test_seen_in_valid": seen})
    assert f"group_by user{told}, mode full" in to_markdown(page(), Path())


def test_every_split_has_a_table_of_its_own() -> None:
    write_run("runs/a", 0.2)
    write_run("runs/b", 0.3, result={"split_sha256": "ff" * 32}, benchmark_filename=["train", "test", "test"])
    text = to_markdown(page(), Path())
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [f"Split {SPLIT}", "Split ffffffffffff, test-picked"]
    assert to_latex(page(), Path()).count(r"\begin{tabular}") == 2


def test_the_csv_holds_unrounded_figures_for_programs() -> None:
    recalls = {1: 0.2 + 1e-9, 2: 0.3}
    for seed, recall in recalls.items():
        write_run(f"runs/{seed}", recall, seed=seed)
    frame = pd.read_csv(io.StringIO(to_csv(page(published=OTHERS), Path())), dtype={"seeds": str})
    assert frame["model"].tolist() == ["NCL", "EASE"]
    assert frame["source"].tolist() == ["here", "Steck, 2019"]
    assert frame["seeds"][0] == "1 2"
    assert frame["recall@10"][0] == np.mean(list(recalls.values()))
    assert frame["recall@10 deviation"][0] == pytest.approx(np.std(list(recalls.values()), ddof=1), rel=1e-12)
    assert (frame["n_parameters"][0], frame["split_sha256"][0]) == (618816, SPLIT * 5)


def test_csv_and_latex_name_the_configuration_of_every_run() -> None:
    for seed in (1, 2):
        write_run(f"runs/a b/{seed}", 0.2, seed=seed)
    paths = ["../runs/a%20b/1/config.yaml", "../runs/a%20b/2/config.yaml"]
    frame = pd.read_csv(io.StringIO(to_csv(page(published=OTHERS), Path("tables"))))
    assert frame["configs"][0].split() == paths
    assert frame["configs"].isna().tolist() == [False, True]
    assert f"% NCL: {' '.join(paths)}" in to_latex(page(), Path("tables")).splitlines()


def test_costs_are_medians_over_the_seeds_and_not_over_the_distinct_values() -> None:
    for seed, epochs in enumerate((70, 70, 55)):
        write_run(f"runs/{seed}", 0.2, result={"epochs_run": epochs, "seconds_per_epoch": epochs / 10}, seed=seed)
    frame = pd.read_csv(io.StringIO(to_csv(page(), Path())))
    assert (frame["epochs_run"][0], frame["seconds_per_epoch"][0]) == (70, 7)
    text = to_markdown(page(), Path())
    assert (cells(text, "epochs"), cells(text, "s/epoch"), cells(text, "parameters")) == (
        ["55 to 70"],
        ["7"],
        ["618,816"],
    )


def test_latex_uses_booktabs_escapes_text_and_closes_what_it_opens() -> None:
    write_rows(**{"NCL_OT & 5% {x} \\ ~ ^ # $": 0.2, "b": 0.3})
    text = to_latex(page(published=OTHERS), Path())
    assert r"NCL\_OT \& 5\% \{x\} \textbackslash{} \textasciitilde{} \textasciicircum{} \# \$" in text
    assert r"n\_layers 0" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    columns = re.search(r"\\begin\{tabular\}\{l(p\{0\.4\\linewidth\})([lr]+)\}", text)
    assert columns is not None
    assert {len(re.split(r"(?<!\\)&", line)) for line in body} == {2 + len(columns[2])}
    assert len(body) == 3
    assert all(line.endswith(r"\\") for line in body)
    assert text.isascii()


def test_markdown_text_cannot_break_the_table() -> None:
    write_rows(**{"a|b*c<d`": 0.2, "e": 0.1})
    assert cells(to_markdown(page(), Path()), "model") == [r"a\|b\*c\<d\`", "e"]


def test_a_backslash_is_escaped_lest_it_escapes_the_escape_of_a_pipe() -> None:
    assert markdown_text(r"a\|b \n") == r"a\\\|b \\n"


def test_latex_with_letters_beyond_latin_says_that_pdflatex_does_not_know_them() -> None:
    write_rows(**{"naïve → x ≥ 2": 0.2, "b": 0.3})
    assert r"naïve $\rightarrow$ x $\geq$ 2" in to_latex(page(), Path())
    assert "pdflatex" not in to_latex(page(), Path())
    write_run("runs/c", 0.1, result={"row": "漢 α"}, n_layers=9)
    lines = to_latex(page(), Path()).splitlines()
    assert lines[:2] == [
        f"% {COMMAND}",
        "% for xelatex or lualatex and a font that has them, because pdflatex lacks α (U+03B1), 漢 (U+6F22)",
    ]
    assert any(line.startswith("漢 α & ") for line in lines)
    assert engine_note("é") == ""


def test_a_line_break_or_a_link_in_a_text_stays_in_its_cell() -> None:
    assert markdown_text("one\ntwo | three\n") == r"one two \| three"
    assert markdown_text("![p](q) [0, 1]") == r"!\[p\](q) \[0, 1\]"
    assert markdown_text("[0, 1]") == "[0, 1]"
    assert markdown_text("a] b") == r"a\] b"
    assert latex_text("one\ntwo\n") == "one two"
    assert latex_text("\n[a] b") == "{}[a] b"
    assert latex_text("[a] x | Δ < 1 > 0") == r"{}[a] x $|$ $\Delta$ $<$ 1 $>$ 0"
    assert latex_text("*a ± b × c") == r"{}*a $\pm$ b $\times$ c"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Difference(0.0012, 0.0002, 0.0022, 0.006, 0.0312), "+.0012 [+.0002, +.0022], +0.6%, p .031"),
        (Difference(-0.5, -10.25, 0.0, -0.25, 0.00001), "-.5000 [-10.2500, +.0000], -25.0%, p < .001"),
        (Difference(0.1, 0.0, 0.2, float("nan"), None), "+.1000 [+.0000, +.2000], –, no p"),
        (Difference(0.0, 0.0, 0.0, 0.0, 1.0), "+.0000 [+.0000, +.0000], +0.0%, p 1.000"),
    ],
)
def test_a_difference_is_written_with_interval_share_and_p_value(found: Difference, text: str) -> None:
    write_run("runs/a", 0.2)
    line = Comparison("b", "1, 2", {"recall@10": found})
    markdown = to_markdown(page(against="a", differences={SPLIT * 5: [line]}), Path())
    assert f"| model | seeds | R@10 |\n| --- | --- | --- |\n| b | 1, 2 | {text} |\n" in markdown
    assert "row minus `a`" in markdown
