"""A look at the plans of a finished run: named nodes, the weights of the best epoch, the picture of the page."""

from pathlib import Path

import numpy as np
import pytest

from recmodels.ablation.ablate import Work, ablate
from recmodels.ablation.ablation_file import load_ablation
from recmodels.ablation.points import make_plan
from recmodels.ablation.report import write_report
from recmodels.errors import UserError
from recmodels.experiments.example_plan import ExamplePlan, example_plans
from recmodels.experiments.folder import BEST
from recmodels.experiments.run import train
from recmodels.experiments.session import resolve_train
from recmodels.plain_yaml import dump_yaml
from recmodels.reporting.plan_svg import plan_svg
from tests.runs import options


def test_a_run_shows_a_positive_and_a_negative_of_its_trained_weights(tmp_path: Path) -> None:
    folder = train(resolve_train(options(tmp_path, epochs=4)), str(tmp_path / "run"))
    positive, negative = example_plans(str(folder))
    assert positive.rows == positive.columns
    assert negative.rows == positive.rows
    assert "itself" in positive.title
    assert "another" in negative.title
    for found in (positive, negative):
        assert found.rows[0] == found.columns[0] == "center"
        for kind in ("item", "user"):  # by their place, and not by the ids of the data
            own = [name for name in found.rows[1:] if name.startswith(kind)]
            assert own == [f"{kind} #{n}" for n in range(1, len(own) + 1)] != []
        assert found.plan.shape == found.cost.shape == (len(found.rows), len(found.columns))
        np.testing.assert_allclose(found.plan.sum(), 1, atol=1e-4)
        assert (found.distance, found.cost.min() >= 0) == (float((found.plan * found.cost).sum()), True)
    assert positive.distance < negative.distance  # what the term asks for
    assert [again.plan.tolist() for again in example_plans(str(folder))] == [
        found.plan.tolist() for found in (positive, negative)
    ]


@pytest.mark.parametrize(
    "overrides",
    [{"model": "LightGCN"}, {"ot_weight": 0}, {"ot_share": 1}],
    ids=["no term", "no weight", "gromov alone"],
)
def test_without_wasserstein_there_is_nothing_to_look_at(tmp_path: Path, overrides: dict[str, object]) -> None:
    folder = train(resolve_train(options(tmp_path, epochs=1, **overrides)), str(tmp_path / "run"))
    assert example_plans(str(folder)) == []


def test_a_run_without_weights_is_refused(tmp_path: Path) -> None:
    folder = train(resolve_train(options(tmp_path, epochs=1)), str(tmp_path / "run"))
    (folder / BEST).unlink()
    with pytest.raises(UserError, match="has lost its"):
        example_plans(str(folder))


def test_a_picture_says_every_mass_and_escapes_names() -> None:
    example = ExamplePlan(
        "<i>", ["user <b>", "item 2"], ["item 3"], np.array([[0.5], [1.5]]), np.array([[0.75], [0.25]])
    )
    svg = plan_svg(example)
    assert "<b>" not in svg
    assert "user &lt;b&gt; to item 3: mass 0.7500, cost 0.500" in svg
    sides = [float(part.split('width="')[1].split('"')[0]) for part in svg.split("<rect")[2::2]]
    np.testing.assert_allclose((sides[1] / sides[0]) ** 2, 1 / 3, rtol=0.02)


def test_a_report_shows_the_plans_of_the_first_point_that_has_them(tmp_path: Path) -> None:
    points = "points:\n  plain: {model: LightGCN}\n  transport: {}\n"
    Path("points.yaml").write_text(dump_yaml({"base": options(tmp_path, epochs=1)}) + points)
    plan = make_plan(*load_ablation("points.yaml", {}, None))
    ablate(Work(plan), 1, lambda line: None)
    page = write_report(plan)
    text = (page.parent / "report.md").read_text()
    assert "Plan of transport, seed" in text
    assert text.count("](plan-") == 2
    assert [(page.parent / f"plan-{n}.png").is_file() for n in (1, 2)] == [True, True]
    assert page.read_text().count("<h2>Transport plan</h2>") == 2
    (next(path for path in plan.folder.iterdir() if path.name.startswith("transport")) / BEST).unlink()
    assert "Plan of" not in (write_report(plan).parent / "report.md").read_text()
