"""The report of an ablation: planted differences are found, equal groups are not, and every file says the same."""

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recmodels import cli
from recmodels.ablation.ablate import Work, ablate
from recmodels.ablation.ablation_file import load_ablation
from recmodels.ablation.evidence import Evidence, Line, base_point, weigh
from recmodels.ablation.findings import paragraph
from recmodels.ablation.grid_study import GridStudy
from recmodels.ablation.points import Plan, make_plan
from recmodels.ablation.report import write_report
from recmodels.ablation.sweeps import sweeps
from recmodels.config import Resolved
from recmodels.errors import CheckpointError, ParamError
from recmodels.experiments.folder import CONFIG, FREQUENCY, RESULT, USERS, write_arrays
from recmodels.experiments.session import resolve_train
from recmodels.files import write_text
from recmodels.plain_yaml import dump_yaml
from recmodels.reporting.by_frequency import by_frequency
from recmodels.reporting.pictures import Curve
from recmodels.reporting.size_picture import Sized, name_heights
from recmodels.training.curves import to_csv
from tests.runs import options

N_USERS, SPLIT = 300, "6111c3a5b042" * 5
POINTS = """\
points:
  plain: {note: 'a | b & <i>'}
  slow: {learning_rate: 0.0002, reported: {recall@10: 0.25, ndcg@50: 0.3}}
  same: {reg_weight: 0.0003}
  '<b>bold</b> | 5% & $x_1$': {reg_weight: 0.0004}
  deep: {n_layers: 4}
  aa: {control_of: plain}
"""


def plant(resolved: Resolved, folder: Path, shift: float = 0.0, share: float = 0.3) -> None:
    """Leaves what a finished run leaves; users are alike in all runs, seeds differ, and a slow one is worse.

    Args:
        resolved: configuration; a learning rate of 0.0002 costs 0.05, four layers cost all of their runs.
        folder: of the run.
        shift: of the metric in runs of a control.
        share: of transport in the gradient.
    """
    values, seed = resolved.values, resolved.run.seed
    if values["n_layers"] == 4:
        raise ValueError("no such <depth>")
    noise = np.random.default_rng([seed, *(int(1e6 * values[key]) for key in ("reg_weight", "learning_rate"))])
    worth = -0.05 * (values["learning_rate"] == 0.0002) + shift * (seed >= 3020) + 0.001 * noise.standard_normal()
    users = np.random.default_rng(0).random(N_USERS) + worth + 0.02 * noise.standard_normal(N_USERS)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / CONFIG, resolved.dump())
    names = np.array([f"u{place}" for place in range(N_USERS)])
    write_arrays(folder / USERS, {"user": names, "recall@10": users / 2, "ndcg@10": users})
    score = float(users.mean())
    shares = {"share/bpr": 1 - share, "share/ot": share, "share/ssl": 2e-5, "share/reg": 1e-6}
    rows = [
        {"epoch": n, "valid/ndcg@10": score - 0.1 / (n + 1), **shares, "ot/marginal_error": 0.02, "is_best": True}
        for n in range(4)
    ]
    write_text(folder / "curves.csv", to_csv(rows))
    frequency = {"user": names, "user_n_train": np.arange(N_USERS), "n_train": np.arange(50), "n_test": np.full(50, 4)}
    write_arrays(folder / FREQUENCY, frequency | {"hits@10": np.arange(50) // 25 + 1})
    parameters = 100 * values["embedding_size"]
    result = {
        "model": resolved.model,
        "n_parameters": parameters,
        "dataset": resolved.dataset,
        "seed": seed,
        "best_epoch": 3,
    }
    test = {"recall@10": score / 2, "ndcg@10": score}
    write_text(
        folder / RESULT, json.dumps(result | {"split_sha256": SPLIT, "test": test, "best_valid": {"ndcg@10": score}})
    )


def plan_of(root: Path, points: str = POINTS, n_seeds: int | None = 3, **given: Any) -> Plan:  # noqa: ANN401
    """Of a file of points on planted data under `root`, and what is given on the command line."""
    Path("points.yaml").write_text(dump_yaml({"base": options(root, model="LightGCN")}) + points)
    return make_plan(*load_ablation("points.yaml", given, n_seeds))


def make(root: Path, points: str = POINTS, n_seeds: int | None = 3, **changes: Any) -> Plan:  # noqa: ANN401
    """A plan whose runs are finished, by `plant` with its changes, but for those that it refuses."""
    plan = plan_of(root, points, n_seeds)
    GridStudy(plan)
    for run in plan.runs:
        with suppress(ValueError):
            plant(resolve_train(run.values), plan.folders()[run.key], **changes)
    return plan


def by_name(evidence: Evidence) -> Mapping[str, Line]:
    return {line.name: line for line in evidence.lines}


class Page(HTMLParser):
    """Reads a page, and fails where a tag is closed that was not opened last."""

    VOID = frozenset(("meta",))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.cells: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        self.open += [] if tag in self.VOID else [tag]
        self.cells += [[]] if tag == "tr" else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1].append(data)


def test_a_planted_difference_is_found_and_equal_groups_are_equal(tmp_path: Path) -> None:
    evidence = weigh(make(tmp_path))
    lines = by_name(evidence)
    assert {name: line.verdict for name, line in lines.items()} == {
        "aa": "control: equal",
        "plain": "base",
        "slow": "worse",
        "same": "not told apart",
        "<b>bold</b> | 5% & $x_1$": "not told apart",
        "deep": "no result",
    }
    assert list(lines)[:2] == ["aa", "plain"]
    assert (evidence.base, evidence.metric, lines["aa"].against) == ("plain", "ndcg@10", "plain")
    slow = lines["slow"].differences["ndcg@10"]
    assert slow.low <= -0.05 <= slow.high
    turned = by_name(weigh(evidence.plan, "slow"))
    assert turned["plain"].verdict == "better"
    assert turned["plain"].differences["ndcg@10"].mean == pytest.approx(-slow.mean, rel=1e-9)
    assert turned["aa"].against == "plain"


def test_p_values_are_corrected_over_the_points_and_not_over_controls(tmp_path: Path) -> None:
    lines = by_name(weigh(make(tmp_path)))
    tested = ["slow", "same", "<b>bold</b> | 5% & $x_1$"]
    for metric in ("ndcg@10", "recall@10"):
        raw = sorted(lines[name].differences[metric].p_value or 0 for name in tested)
        expected = [3 * raw[0], max(3 * raw[0], 2 * raw[1]), max(3 * raw[0], 2 * raw[1], raw[2])]
        found = sorted(lines[name].adjusted[metric] or 0 for name in tested)
        assert found == pytest.approx([min(value, 1) for value in expected], rel=1e-12)
        assert lines["aa"].adjusted[metric] == lines["aa"].differences[metric].p_value


def test_a_control_that_differs_is_said_not_to_be_equal(tmp_path: Path) -> None:
    evidence = weigh(make(tmp_path, "points: {plain: {}, aa: {control_of: plain}}\n", shift=0.03))
    assert by_name(evidence)["aa"].verdict == "control: NOT equal"
    assert "The control aa of plain does NOT come out equal, so chance is underestimated" in paragraph(evidence)


def test_without_a_control_four_seeds_of_the_base_are_halved(tmp_path: Path) -> None:
    plan = make(tmp_path, "points: {plain: {}, same: {reg_weight: 0.0003}}\n", n_seeds=4)
    first, *_ = weigh(plan).lines
    assert (first.name, first.verdict, first.is_control) == ("plain: half of its seeds", "control: equal", True)
    assert [run.result["seed"] for run in first.runs] == [2020, 2022]
    assert "The control plain: half of its seeds of plain comes out equal" in paragraph(weigh(plan))
    assert "8 of 8 runs of 2 points on planted are finished." in paragraph(weigh(plan))


def test_without_a_control_fewer_seeds_of_the_base_are_one_pair_that_is_shown_and_not_judged(tmp_path: Path) -> None:
    evidence = weigh(make(tmp_path, "points: {plain: {}, same: {reg_weight: 0.0003}}\n", n_seeds=3))
    first, *_ = evidence.lines
    assert (first.name, first.verdict, first.n_paired) == ("plain: half of its seeds", "control: one seed", 1)
    assert "plain: half of its seeds of plain differs by nothing but one seed, so smaller" in paragraph(evidence)
    assert "There is no control" in paragraph(weigh(plan_of(tmp_path, "points: {other: {n_layers: 1}}\n")))


def test_points_of_one_seed_beside_a_base_of_several_are_told_how_far_its_seeds_reach(tmp_path: Path) -> None:
    evidence = weigh(make(tmp_path, "points: {plain: {seeds: 3}, deep: {n_layers: 3, seeds: 1}}\n", n_seeds=None))
    values = sorted(run.result["test"]["ndcg@10"] for run in by_name(evidence)["plain"].runs)
    low, high = (f"{value:.4f}".removeprefix("0") for value in (values[0], values[-1]))
    assert f"and another seed moves the metric too (the base's own from {low} to {high})." in paragraph(evidence)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ("{plain: {}, deep: {n_layers: 3}}", "There is no control; add a point {control_of: plain}."),
        ("{plain: {}, aa: {control_of: plain}}", "No control has a result that can be compared (aa)."),
    ],
)
def test_a_control_that_is_absent_is_told_from_one_that_has_failed(points: str, words: str, tmp_path: Path) -> None:
    plan = make(tmp_path, f"points: {points}\n", n_seeds=1)
    for run in plan.runs:
        if run.point == "aa":
            shutil.rmtree(plan.folders()[run.key])
    assert words in paragraph(weigh(plan))


def test_one_seed_has_an_interval_and_no_p_value(tmp_path: Path) -> None:
    evidence = weigh(make(tmp_path, n_seeds=1))
    lines = by_name(evidence)
    slow = lines["slow"].differences["ndcg@10"]
    assert slow.low < slow.mean < slow.high < 0
    assert (slow.p_value, lines["slow"].adjusted["ndcg@10"]) == (None, None)
    assert (lines["slow"].verdict, lines["aa"].verdict) == ("one seed, not judged", "control: one seed")
    text = paragraph(evidence)
    assert "Holm" not in text
    assert "3 points of one seed are not judged: the intervals are for other users of that seed alone" in text
    assert "control aa of plain differs by nothing but one seed, so smaller differences of one seed are chance" in text
    write_report(evidence.plan)
    figures = pd.read_csv(
        evidence.plan.folder / "report" / "report.csv", index_col="point", float_precision="round_trip"
    )
    assert figures["ndcg@10 p_value"].isna().all()
    assert figures["test ndcg@10 deviation"].isna().all()
    assert figures.loc["slow", "ndcg@10 high"] == slow.high


def test_terms_below_the_limit_are_dead_but_for_regularizers(tmp_path: Path) -> None:
    evidence = weigh(make(tmp_path, share=0.004))
    lines = by_name(evidence)
    assert lines["plain"].shares == {"bpr": 0.996, "ot": 0.004, "ssl": 2e-5, "reg": 1e-6}
    assert [list(lines[name].dead) for name in ("plain", "deep")] == [["ssl"], []]
    assert lines["plain"].marginal_error == 0.02
    assert "Dead terms: ssl at 5 points. Transport has less than 1% of the gradient at 5 of 5" in paragraph(evidence)
    assert "No term is dead." in paragraph(weigh(plan_of(tmp_path, guard_dead_share=0)))


def test_the_paragraph_counts_what_differs(tmp_path: Path) -> None:
    text = paragraph(weigh(make(tmp_path)))
    assert text.startswith("15 of 18 runs of 6 points on planted are finished. By test ndcg@10 against plain, after ")
    assert (
        "Holm's correction over 3 tests, 0 better, 1 worse (slow), 2 not told apart from it. The control aa of" in text
    )
    assert text.endswith("Dead terms: ssl at 5 points. Without a result: deep.")


def test_seeds_that_the_base_has_not_are_no_part_of_a_difference(tmp_path: Path) -> None:
    plan = make(tmp_path, "points: {plain: {}, same: {reg_weight: 0.0003, seeds: [2021, 2022, 2050]}}\n", n_seeds=None)
    (line,) = [line for line in weigh(plan, "plain").lines if line.name == "same"]
    assert (len(line.runs), line.n_paired, line.verdict) == (3, 0, "not compared: no finished seed in common")
    plan = make(
        tmp_path, "points: {plain: {seeds: 3}, same: {reg_weight: 0.0003, seeds: [2021, 2022, 2050]}}\n", n_seeds=None
    )
    evidence = weigh(plan)
    _, base, line = evidence.lines
    pairs = [[run.result["test"]["ndcg@10"] for run in runs] for runs in (line.runs[:2], base.runs[1:])]
    assert line.differences["ndcg@10"].mean == pytest.approx(np.mean(pairs[0]) - np.mean(pairs[1]), rel=1e-9)
    assert "| same | not told apart | 3 of 3, 2 paired |" in (write_report(plan).parent / "report.md").read_text()


def test_an_ablation_of_which_nothing_is_finished_has_a_report_all_the_same(tmp_path: Path) -> None:
    plan = make(tmp_path, "points: {deep: {n_layers: 4}}\n")
    text = (write_report(plan).parent / "report.md").read_text()
    assert "0 of 3 runs of 1 point on planted are finished. No point can be compared with deep; --base=" in text
    assert "| deep | no result | 0 of 3 | 3 waiting |" in text


def test_runs_without_metrics_of_each_user_are_not_compared_and_the_rest_is(tmp_path: Path) -> None:
    plan = make(tmp_path)
    for path in plan.folder.glob("same-*"):
        (path / USERS).unlink()
        (path / "curves.csv").unlink()
    lines = by_name(weigh(plan))
    assert re.fullmatch(r"not compared: .*test_users\.npz: absent; .*", lines["same"].verdict)
    assert (lines["same"].shares, lines["slow"].verdict) == ({}, "worse")
    assert write_report(plan).is_file()


def test_a_sweep_is_of_points_that_differ_in_one_number(tmp_path: Path) -> None:
    more = "  wide: {reg_weight: 0.5, n_layers: 1}\n  flat: {n_layers: 1}\n  loss: {rec_loss: softmax}\n"
    evidence = weigh(make(tmp_path, POINTS + more))
    found = sweeps(evidence)
    assert list(found) == ["reg_weight"]
    curve = found["reg_weight"]
    assert isinstance(curve, Curve)
    base = evidence.plan.points[0].resolved.values["reg_weight"]
    assert curve.x == tuple(sorted((base, 0.0003, 0.0004)))
    means = dict(zip(curve.x, curve.y, strict=True))
    for name, value in (("plain", base), ("same", 0.0003)):
        runs = by_name(evidence)[name].runs
        assert means[value] == pytest.approx(np.mean([run.result["test"]["ndcg@10"] for run in runs]), rel=1e-14)


def test_every_file_holds_the_figures_and_shows_names_as_they_are(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    ablate(Work(plan, runner=plant), 1, lambda line: None)
    page = write_report(plan)
    assert page == plan.folder / "report" / "report.html"
    names = {path.name for path in page.parent.iterdir()}
    assert names == {
        *(f"report.{ending}" for ending in ("md", "csv", "tex", "html")),
        *("curves.png", "differences.png", "sweep-reg_weight.png"),
    }
    markdown = (page.parent / "report.md").read_text()
    assert set(re.findall(r"]\((.*?)\)", markdown)) == {name for name in names if name.endswith("png")}
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert rows[2].startswith("| aa | control: equal | 3 of 3 | .")
    assert rows[6].startswith(r"| \<b>bold\</b> \| 5% & $x_1$ | not told apart | 3 of 3 | .")
    assert "| .2500 |" in rows[4]
    assert "3 failed |" in rows[7]
    assert "- deep, seed 2022 failed: ValueError: no such \\<depth>\n" in markdown
    latex = (page.parent / "report.tex").read_text()
    assert r"$<$b$>$bold$<$/b$>$ $|$ 5\% \& \$x\_1\$ & not told apart" in latex
    assert r"$\Delta$ ndcg@10" in latex
    assert latex.count(r"\begin{tabular}") == 2
    figures = pd.read_csv(page.parent / "report.csv", index_col="point", float_precision="round_trip")
    slow = by_name(weigh(plan))["slow"]
    assert figures.loc["slow", "test ndcg@10"] == pytest.approx(
        np.mean([run.result["test"]["ndcg@10"] for run in slow.runs]), rel=1e-14
    )
    assert list(figures.loc["slow", ["reported recall@10", "reported ndcg@50"]]) == [0.25, 0.3]
    assert figures.loc["slow", "ndcg@10 p_value_holm"] == slow.adjusted["ndcg@10"]
    before = {path: path.read_bytes() for path in page.parent.iterdir()}
    write_report(plan)
    assert {path: path.read_bytes() for path in page.parent.iterdir()} == before


def test_points_of_several_sizes_have_a_table_and_a_picture_of_them(tmp_path: Path) -> None:
    more = "  small: {embedding_size: 4}\n  mixed: {table: adaptive, adae_dims: [2, 4], embedding_size: 8}\n"
    page = write_report(make(tmp_path, POINTS + more))
    markdown = (page.parent / "report.md").read_text()
    rows = markdown.partition("## Size and frequency")[2].partition("## Training")[0].splitlines()
    cells = {row.split(" | ")[0].removeprefix("| "): row.split(" | ")[1:] for row in rows if row.startswith("| ")}
    assert cells["point"][:2] == ["stored numbers", "of the base"]
    assert cells["plain"][:2] == ["1,600", "1.00"]
    assert cells["small"][:2] == ["400", "0.25"]
    assert cells["point"][3:] == [
        "head users ndcg@10", "tail users ndcg@10", "head items recall@10", "tail items recall@10 |"
    ]  # fmt: skip
    assert cells["small"][5] == ".5000 ± .0000"  # items 40 to 49 have two hits of four each
    assert cells["small"][6].startswith(f"{(25 * 1 + 15 * 2) / 160:.4f}".removeprefix("0"))
    assert "(sizes.png)" in markdown
    raw = pd.read_csv(page.parent / "sizes.csv", index_col="point", float_precision="round_trip")
    assert len(raw) == len(cells) - 2  # the header and its line
    assert raw.loc["small", "stored"] == 400
    for name in ("aa", "plain", "small", "mixed"):
        shown = cells[name][2].partition(" ")[0]
        assert f"{raw.loc[name, 'test ndcg@10']:.4f}".removeprefix("0") == shown
        assert 0 <= raw.loc[name, "tail users ndcg@10"] <= 1
        assert 0 <= raw.loc[name, "test recall@10"] <= 1
    assert Page(page.read_text()).open == []
    assert "Quality against size" in page.read_text()


def test_a_run_without_counts_has_no_results_by_frequency_and_others_have_them(tmp_path: Path) -> None:
    plan = make(tmp_path)
    folder = next(iter(plan.folders().values()))
    found = by_frequency(folder, "ndcg@10")
    with np.load(folder / USERS) as users:
        values = users["ndcg@10"]
    assert found["head users"] == pytest.approx(values[-60:].mean())
    assert found["tail users"] == pytest.approx(values[:-60].mean())
    (folder / FREQUENCY).write_bytes(b"no zip")
    with pytest.raises(CheckpointError, match="damaged"):
        by_frequency(folder, "ndcg@10")
    (folder / FREQUENCY).unlink()
    assert by_frequency(folder, "ndcg@10") == {}


def test_names_of_points_of_about_one_size_do_not_overlap() -> None:
    points = [
        Sized(name, n, mean, 0.0, False) for name, n, mean in (("a", 100, 0.2), ("b", 110, 0.201), ("c", 900, 0.2))
    ]
    heights = {point.name: height for point, height in name_heights(points, 0.01)}
    assert heights == {"a": pytest.approx(0.1955), "b": pytest.approx(0.2055), "c": 0.2}


def test_the_page_is_well_formed_and_needs_no_network(tmp_path: Path) -> None:
    text = write_report(make(tmp_path)).read_text()
    page = Page(text)
    assert page.open == []
    assert not re.search(r"https?:|//\w|@import|url\(", text)
    assert {"src", "href"} & {name for name, _ in page.attributes} == set()
    assert "<b>" not in text
    assert "<depth>" not in text
    named = [value for name, value in page.attributes if name == "data-name"]
    assert named.count("<b>bold</b> | 5% & $x_1$") == 2 + 1 + 3 + 1  # rows, interval, curves, legend
    assert page.cells[0][:3] == ["point", "verdict", "seeds"]
    assert page.cells[1][:2] == ["aa", "control: equal"]
    assert len(page.cells) == 1 + 6 + 1 + 5


def test_a_base_that_is_no_point_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    plan = make(tmp_path, "points: {plain: {}, same: {reg_weight: 0.0003}, aa: {control_of: plain}}\n", n_seeds=1)
    assert base_point(plan.points, None).name == "plain"
    assert base_point(plan.points, "same").name == "same"
    for name in ("plan", "aa"):
        with pytest.raises(
            ParamError, match=f"--base: got '{name}', expected a point that is no control.*: plain, same"
        ):
            base_point(plan.points, name)


def test_the_command_writes_a_report_without_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("points.yaml").write_text(dump_yaml({"base": options(tmp_path, model="LightGCN")}) + POINTS)
    words = ["ablate", "points.yaml", "--seeds=3", "--report"]
    assert cli.main(words) == 2
    assert f"--report: no runs in {tmp_path}/runs/points-planted; leave it out to run them" in capsys.readouterr().err
    assert cli.main(["ablate", "points.yaml", "--base=slo"]) == 2
    assert "did you mean 'slow'?" in capsys.readouterr().err
    assert not Path("runs").exists()
    plan = make(tmp_path)
    assert cli.main([*words, "--out=there", "--base=slow"]) == 0
    assert capsys.readouterr().out.startswith("wrote there/report.html, and beside it ")
    assert "against slow" in Path("there/report.md").read_text()
    assert not (plan.folder / "report").exists()
