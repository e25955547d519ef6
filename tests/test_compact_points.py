"""Points of an ablation that are made from finished runs of other points."""

from pathlib import Path
from typing import Any

import pytest

from recmodels.ablation.ablate import Work, ablate, failed_trials
from recmodels.ablation.ablation_file import load_ablation
from recmodels.ablation.compact_points import Draft, compact_of, with_sources
from recmodels.ablation.points import Compact, Plan, Source, finished_runs, make_plan
from recmodels.ablation.report import write_report
from recmodels.ablation.table import write_table
from recmodels.config import Resolved
from recmodels.errors import ParamError
from recmodels.experiments.run import restore, restore_last
from recmodels.plain_yaml import dump_yaml
from recmodels.tables import AdaptiveTable
from recmodels.tables.pruned import PrunedTable, largest_entries
from recmodels.tuning.trial import train_or_resume
from tests.runs import options

POINTS = """\
points:
  small: {compact_of: search, epochs: 2}
  plain: {}
  search:
    {table: adaptive, adae_mode: auto, adae_dims: [2, 4, 16], adae_warmup: 0, adae_picker_lr: 5.0, adae_budget: 0.4}
  pruned: {compact_of: plain, prune: 0.25}
seeds: 2
"""
WRITTEN = "compact_of: expected the name of a point that is trained as written"


def plan_of(root: Path, points: str = POINTS, given: dict[str, Any] | None = None) -> Plan:
    base = options(root, model="LightGCN", epochs=3)
    Path("points.yaml").write_text(dump_yaml({"base": base}) + points)
    return make_plan(*load_ablation("points.yaml", given or {}))


def done(plan: Plan, runner: Any = train_or_resume) -> list[str]:  # noqa: ANN401
    lines: list[str] = []
    ablate(Work(plan, failed_trials(plan), runner, poll_seconds=0.01), 1, lines.append)
    return lines


@pytest.mark.usefixtures("undrawn")
def test_each_seed_has_the_widths_that_its_own_search_found_and_the_entries_of_its_own_table(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    done(plan)
    runs = {(run.point, run.seed): plan.folders()[run.key] for run in plan.runs}
    assert {run.point: len(found) for run, found in ((r, finished_runs(plan)[r.point]) for r in plan.runs)} == {
        "small": 2, "plain": 2, "search": 2, "pruned": 2
    }  # fmt: skip
    for seed in (2020, 2021):
        small, search = restore(str(runs["small", seed])), restore_last(str(runs["search", seed])).model.table
        assert isinstance(small.model.table, AdaptiveTable)
        assert small.model.table.widths.long().equal(search.preferred_widths())
        assert (small.resolved.run.epochs, small.resolved.run.seed, small.held_out) == (2, seed, None)
        pruned, plain = restore(str(runs["pruned", seed])).model.table, restore(str(runs["plain", seed])).model.table()
        assert isinstance(pruned, PrunedTable)
        assert (pruned() != 0).equal(largest_entries(plain.detach(), int(0.25 * plain.numel())))
    assert done(plan) == ["8 runs of 4 points in " + f"{plan.folder}: 8 finished before (skipped), 0 to do"]


@pytest.mark.usefixtures("undrawn")
def test_the_report_says_what_they_are_made_from_and_how_large_they_are(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, POINTS.replace("seeds: 2", "seeds: 1"))
    done(plan)
    assert "| the widths found by search, trained from scratch |" in write_table(plan)
    write_report(plan, tmp_path / "report", "plain")
    page = (tmp_path / "report" / "report.md").read_text()
    sizes = page.partition("Size and frequency")[2]
    row, *_ = [line for line in sizes.splitlines() if line.startswith("| pruned ")]
    n_entries = restore(str(plan.folders()[plan.runs[1].key])).model.table().numel()
    n_stored = n_entries // 4 + -(-n_entries // 32)  # and a bit for every entry
    assert [f"{n_stored:,}", "0.28"] == [cell.strip() for cell in row.split("|")[2:4]]


def test_a_point_whose_source_has_failed_fails_with_its_name_and_is_tried_again_with_it(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, POINTS.replace("seeds: 2", "seeds: 1"))

    def fails(resolved: Resolved, folder: Path) -> None:
        if resolved.params.held_out_share:
            raise ValueError("no luck")
        train_or_resume(resolved, folder)

    lines = done(plan, fails)
    assert any("search, seed 2020 failed: ValueError: no luck" in line for line in lines)
    assert any("small, seed 2020 failed: UserError: search, seed 2020, which it is made from, has" in x for x in lines)
    assert len(finished_runs(plan)["pruned"]) == 1
    done(plan)
    assert len(finished_runs(plan)["small"]) == 1


def test_a_key_follows_from_that_of_the_source_and_from_what_is_changed(tmp_path: Path) -> None:
    def keys(points: str, given: dict[str, Any] | None = None) -> dict[str, str]:
        return {run.point: run.key for run in plan_of(tmp_path, points, given).runs if run.seed == 2020}

    first = keys(POINTS)
    assert len(set(first.values())) == 4
    assert keys(POINTS.replace("prune: 0.25", "prune: 0.5"))["pruned"] != first["pruned"]
    assert keys(POINTS.replace("epochs: 2", "epochs: 1"))["small"] != first["small"]
    other = keys(POINTS.replace("adae_budget: 0.4", "adae_budget: 0.5"))
    assert (other["small"] == first["small"], other["pruned"] == first["pruned"]) == (False, True)
    assert keys(POINTS, {"n_layers": 1})["pruned"] != first["pruned"]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("{compact_of: serch}", f"{WRITTEN}, got 'serch'; did you mean 'search'?"),
        ("{compact_of: small}", f"{WRITTEN}, got 'small'"),
        ("{compact_of: [plain]}", f"{WRITTEN}, got ['plain']"),
        ("{compact_of: plain}", "compact_of: plain searches no widths (table: adaptive, adae_mode: auto); or give"),
        ("{compact_of: search, prune: 0.5}", "prune: only a plain table is pruned, that of search is 'adaptive'"),
        ("{compact_of: plain, prune: 1.5}", "prune: expected a share between 0 and 1, both excluded, got 1.5"),
        ("{compact_of: plain, prune: a}", "prune: expected a share between 0 and 1, both excluded, got 'a'"),
        ("{n_layers: 1, prune: 0.5}", "prune: belongs to compact_of, the point with the table that is pruned; give it"),
        ("{compact_of: search, seeds: 3, table: plain}", "compact_of: the other point decides seeds, table; leave"),
        ("{compact_of: search, epochs: 0}", "epochs: must be >= 1, got 0"),
        ("{compact_of: search, epochs: 2}", "is made from search as small is; leave one out"),
        ("{compact_of: search, epochs: 2, n_layers: 2}", "is made from search as small is; leave one out"),
        ("{compact_of: plain, prune: 0.5, embedding_size: 32}", "compact_of: the other point decides embedding_size"),
        ("{compact_of: plain, prune: 0.5, init: normal}", "compact_of: the other point decides init; leave them out"),
        ("{compact_of: search, adae_budget: 0.2}", "compact_of: the other point decides adae_budget; leave them out"),
        ("{control_of: small}", "control_of: expected the name of another point that is no control, got 'small'"),
    ],
)
def test_what_cannot_be_made_is_refused_before_the_first_run(point: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ParamError) as caught:
        plan_of(tmp_path, POINTS.replace("seeds: 2", f"  odd: {point}\nseeds: 2"))
    assert f"point odd: {message}" in str(caught.value)
    assert str(caught.value).count("point odd") == 1


def test_what_a_run_is_made_from_is_plain_data(tmp_path: Path) -> None:
    runs = {run.point: run for run in plan_of(tmp_path).runs if run.seed == 2021}
    compact = Compact("search", None, {"epochs": 2})
    assert runs["small"].source == Source(runs["search"].key, "search, seed 2021", compact)
    assert runs["search"].source is None
    drafts = {"a": Draft({"x": 1, "y": 2}, {}, False), "b": Draft({"y": 3}, {"compact_of": "a", "prune": 1 / 4}, False)}
    assert with_sources(drafts)["b"].overrides == {"x": 1, "y": 3}
    assert compact_of(drafts["b"]) == Compact("a", 0.25, {"y": 3})


def test_a_mistake_in_the_source_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(ParamError) as caught:
        plan_of(tmp_path, POINTS.replace("adae_budget: 0.4", "adae_budgt: 0.4"))
    assert str(caught.value).count("adae_budgt") == 1
