"""The outer level: who learns from what, penalties, stopping, resuming."""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from recmodels.data.evaluation import ItemHits
from recmodels.data.split import interactions
from recmodels.errors import ParamError
from recmodels.experiments import run
from recmodels.experiments.report import test_frequency as frequency_of_test
from recmodels.experiments.session import resolve_train
from recmodels.training.bilevel import Bilevel, Choice, mean_size, spread, table_of
from recmodels.training.callbacks import Callback, Step
from recmodels.training.size_price import expected_size
from tests.runs import Started, StopAt, options, same_state, start

SEARCH: dict[str, Any] = {
    "model": "LightGCN",
    "table": "adaptive",
    "adae_mode": "auto",
    "adae_dims": [2, 4, 16],
    "adae_warmup": 1,
    "adae_every": 1,
    "adae_picker_lr": 1.0,
}


def bilevel_of(of: Started) -> Bilevel:
    return next(c for c in of.trainer.callbacks if isinstance(c, Bilevel))


def _pickers(of: Started) -> list[torch.Tensor]:
    return [p.detach().clone() for p in table_of(of.session.model).picker_parameters()]


class Watch(Callback):
    """Compares weights and pickers before and after the outer level's turn."""

    def __init__(self, of: Started) -> None:
        self.of, self.moved_by_weights, self.moved_by_picker = of, 0, 0
        self.inner = _pickers(of)

    def on_gradients(self, step: Step) -> None:
        self.inner = _pickers(self.of)

    def on_step_end(self, step: Step) -> None:  # before the outer level, which stands behind in the list
        assert all(a.equal(b) for a, b in zip(self.inner, _pickers(self.of), strict=True))
        self.moved_by_weights += 1


def test_the_picker_moves_only_in_its_own_step_and_the_weights_only_in_theirs(tmp_path: Path) -> None:
    of = start(tmp_path, **SEARCH, epochs=2)
    watch = of.watch(Watch(of))
    before = _pickers(of)
    outer = bilevel_of(of)
    step, weights = outer.on_step_end, list(table_of(of.session.model).weights_of_candidates())

    def checked(at: Step) -> None:
        kept = [p.detach().clone() for p in weights]
        step(at)
        assert all(a.equal(b) for a, b in zip(kept, weights, strict=True))

    outer.on_step_end = checked  # type: ignore[method-assign]
    of.fit()
    assert watch.moved_by_weights > 0
    assert not any(a.equal(b) for a, b in zip(before, _pickers(of), strict=True))


def test_the_picker_rests_while_it_warms_up_and_steps_as_often_as_asked(tmp_path: Path) -> None:
    with pytest.raises(ParamError, match="adae_warmup: got 2, expected fewer than epochs, 2"):
        start(tmp_path, **SEARCH | {"adae_warmup": 2}, epochs=2)
    longer = start(tmp_path, "longer", **SEARCH | {"adae_warmup": 2, "adae_every": 2}, epochs=3).fit()
    n_batches = len(longer.session.splits.train)
    assert len(bilevel_of(longer)._losses) == n_batches // 2
    assert int(table_of(longer.session.model).step) == n_batches  # of the gates' schedule, which rests too
    never = options(tmp_path, **SEARCH | {"adae_warmup": 2, "adae_every": 99}, epochs=3)
    with pytest.raises(ParamError, match=rf"adae_every: got 99, but after the warm-up there are {n_batches} steps"):
        run.train(resolve_train(never), str(tmp_path / "never"))
    assert not (tmp_path / "never").exists()


def test_head_and_tail_count_what_is_held_out(tmp_path: Path) -> None:
    of, plain = start(tmp_path, **SEARCH), start(tmp_path, "plain", model="LightGCN")
    sessions = [(started.session, ItemHits(started.session.splits.dataset.item_num, [10])) for started in (of, plain)]
    found, whole = (frequency_of_test(session, hits) for session, hits in sessions)
    assert len(of.session.splits.train.dataset) < len(plain.session.splits.train.dataset)
    assert found["n_train"].tolist() == whole["n_train"].tolist()
    assert found["user_n_train"].tolist() == whole["user_n_train"].tolist()


def test_weights_never_see_what_is_held_out(tmp_path: Path) -> None:
    of = start(tmp_path, **SEARCH)
    held = of.session.held_out
    assert held is not None
    users, items = (torch.from_numpy(ids) for ids in interactions(of.session.splits.train))
    graph = of.session.model.graph
    assert int(graph.degrees.sum()) == 2 * len(users)
    assert not graph.has_edge(held.users, held.items + graph.n_users).any()
    assert graph.has_edge(users, items + graph.n_users).all()


@pytest.mark.parametrize("weight", [100.0, 1e-9])
def test_the_step_that_is_looked_ahead_has_the_weight_of_the_ranking_term(weight: float, tmp_path: Path) -> None:
    """A term that hardly counts moves the weights nowhere, so both orders then have one gradient."""
    of = start(tmp_path, **SEARCH, bpr_weight=weight, learner="sgd", learning_rate=0.1, epochs=2)
    found: dict[bool, torch.Tensor] = {}

    class Both(Callback):
        def on_step_end(self, step: Step) -> None:
            outer, model = bilevel_of(of), of.session.model
            batch = model.batch(next(iter(of.session.splits.train)))
            for order in (False, True):
                outer.p = dataclasses.replace(outer.p, adae_unrolled=order)
                found[order] = torch.cat([g.flatten() for g in outer._gradients(step, batch)[1]])

    of.watch(Both())
    of.fit()
    distance = float((found[True] - found[False]).norm() / found[False].norm())
    assert distance > 1e-3 if weight > 1 else distance == 0


def test_looking_ahead_as_far_as_adam_goes_is_seen(tmp_path: Path) -> None:
    found: list[float] = []
    of = start(tmp_path, **SEARCH, epochs=3)

    class Both(Callback):
        def on_step_end(self, step: Step) -> None:
            outer, gradients = bilevel_of(of), []
            for order in (False, True):
                outer.p = dataclasses.replace(outer.p, adae_unrolled=order)
                gradients.append(torch.cat([g.flatten() for g in outer._gradients(step, step.batch)[1]]))
            if step.epoch == 1:
                found.append(float((gradients[1] - gradients[0]).norm() / gradients[0].norm()))

    of.watch(Both())
    of.fit()
    assert found[0] > 0.05


def test_the_regularizer_reaches_the_candidates(tmp_path: Path) -> None:
    of = start(tmp_path, **SEARCH | {"adae_share": False}, reg_weight=0.1, bpr_weight=1e-12)
    model = of.session.model.train()
    model.on_epoch_start(0)
    interaction = next(iter(of.session.splits.train))
    model.calculate_loss(interaction).backward()
    for weight in (w for side in table_of(model).sides for w in side.candidates.weights):
        assert weight.grad.abs().sum() > 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adae_picker": "network", "adae_picker_embedding": True},
        {"adae_unrolled": True},
        {"adae_picker": "twin"},
        {"adae_budget": 0.2, "adae_budget_rate": 1.0},
    ],
)
def test_a_resumed_search_is_that_of_an_undisturbed_one(changes: dict[str, Any], tmp_path: Path, undrawn: None) -> None:
    chosen = SEARCH | changes
    whole = run.train(resolve_train(options(tmp_path, **chosen, epochs=4)), str(tmp_path / "whole"))

    cut = start(tmp_path, "cut", **chosen, epochs=4)
    cut.trainer.callbacks.append(StopAt(2))
    with pytest.raises(KeyboardInterrupt):
        cut.fit()
    run.resume(str(tmp_path / "cut"))
    weights = [torch.load(folder / "last.pt", weights_only=True)["weights"] for folder in (whole, tmp_path / "cut")]
    assert same_state(*weights)


# With a ranking term far below the penalty on size, the picker is at the narrowest width after its first epoch.
SETTLES = {"adae_picker": "logits", "bpr_weight": 1e-9, "adae_picker_lr": 20.0, "adae_memory": 1.0}
ENDS = SETTLES | {"adae_stable_epochs": 2, "adae_stable_share": 0.0}


def test_the_search_ends_when_the_choice_is_stable(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    of = start(tmp_path, **SEARCH | ENDS, epochs=9).fit()
    assert of.trainer.next_epoch == 4  # one epoch of warm-up, one that finds the widths, two that keep them
    assert "stopped after epoch 3: the widths have been stable for 2 epochs" in caplog.text
    assert of.trainer.finished


def test_a_search_cut_while_its_choice_is_stable_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    chosen = SEARCH | ENDS | {"epochs": 9}
    whole = run.train(resolve_train(options(tmp_path, **chosen)), str(tmp_path / "whole"))
    cut = start(tmp_path, "cut", **chosen)
    cut.trainer.callbacks.append(StopAt(3))  # after one of the two stable epochs
    with pytest.raises(KeyboardInterrupt):
        cut.fit()
    run.resume(str(tmp_path / "cut"))
    one, two = (torch.load(folder / "last.pt", weights_only=True) for folder in (whole, tmp_path / "cut"))
    assert one["next_epoch"] == two["next_epoch"] == 4
    assert one["ended_by"] == two["ended_by"] == "the widths have been stable for 2 epochs"
    of_one, of_two = (Choice(**state["callbacks"]["Bilevel"]["choice"]) for state in (one, two))
    assert of_one.widths.equal(of_two.widths)
    assert of_one[1:] == of_two[1:] == (0.0, 2, True)  # changed, stable epochs, has moved


def test_the_epoch_that_ends_a_search_is_validated_and_the_run_complete(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = options(tmp_path, **SEARCH | ENDS | {"eval_step": 9, "epochs": 9})
    folder = run.train(resolve_train(chosen), str(tmp_path / "run"))
    assert json.loads((folder / "result.json").read_text())["best_epoch"] == 3
    last = torch.load(folder / "last.pt", weights_only=True)
    assert (last["finished"], last["ended_by"]) == (True, "the widths have been stable for 2 epochs")


def test_a_choice_that_never_left_its_start_is_not_called_stable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    still = {"adae_picker_lr": 1e-12, "adae_stable_epochs": 1, "adae_stable_share": 0.0}
    of = start(tmp_path, **SEARCH | still, epochs=5).fit()
    assert of.trainer.next_epoch == 5
    assert "the widths never left their start: raise epochs or adae_picker_lr" in caplog.text


def test_validation_does_not_end_a_search(tmp_path: Path) -> None:
    """With a patience of one epoch and a rate far too high, a plain table stops soon."""
    impatient = {"learning_rate": 1.0, "stopping_step": 1, "early_stop_min_epoch": 0, "epochs": 20}
    assert start(tmp_path, "plain", model="LightGCN", **impatient).fit().trainer.next_epoch < 20
    assert start(tmp_path, **SEARCH | impatient).fit().trainer.next_epoch == 20


def test_epochs_without_a_step_of_the_picker_are_not_counted_as_stable_and_end_no_count(tmp_path: Path) -> None:
    """With as many steps between two of the picker as two epochs have, every other epoch has one."""
    n_batches = len(start(tmp_path, "length", **SEARCH).session.splits.train)
    of = start(tmp_path, **SEARCH | ENDS | {"adae_every": 2 * n_batches}, epochs=20).fit()
    assert of.trainer.next_epoch == 7  # after one of warm-up the second moves, the fourth and the sixth do not


def test_memory_and_diversity_pull_where_they_should(tmp_path: Path) -> None:
    """With a ranking term far below the penalties, the picker follows them alone."""
    mild = {"adae_picker": "logits", "bpr_weight": 1e-9, "adae_picker_lr": 20.0}
    small = start(tmp_path, "small", **SEARCH | mild | {"adae_memory": 1.0}, epochs=6).fit()
    assert set(table_of(small.session.model).preferred_widths().tolist()) == {2}
    wide = start(tmp_path, "wide", **SEARCH | mild, epochs=6).fit()
    assert table_of(wide.session.model).preferred_widths().float().mean() > 2


def test_the_penalty_is_memory_less_diversity_over_both_sides(tmp_path: Path) -> None:
    of = start(tmp_path, **SEARCH | {"adae_memory": 3.0, "adae_diversity": 0.5})
    table = table_of(of.session.model)
    expected = sum(
        3 * mean_size(p, sizes) - 0.5 * spread(p) for p, sizes in zip(table.probabilities(), table.sizes(), strict=True)
    )
    torch.testing.assert_close(bilevel_of(of)._penalty(of.session.model), expected)


def test_with_a_budget_the_picker_pays_a_price_until_it_keeps_within_it(tmp_path: Path) -> None:
    """With a ranking term far below the price, the picker follows it alone."""
    priced = {"bpr_weight": 1e-9, "adae_budget": 0.3, "adae_budget_rate": 1.0, "adae_picker_lr": 0.1}
    of = start(tmp_path, **SEARCH | priced, epochs=15)
    table, outer = table_of(of.session.model), bilevel_of(of)
    assert outer.price is not None
    before = float(expected_size(table.probabilities(), table.sizes()))
    of.fit()
    expected = float(expected_size(table.probabilities(), table.sizes()))
    assert outer.price.value > 0
    assert expected < 0.3 * 16 * of.session.model.graph.n_nodes < before
    rows = (tmp_path / "run" / "curves.csv").read_text().splitlines()
    last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    assert float(last["picker/price"]) > 0
    assert float(last["picker/expected"]) == pytest.approx(expected)


def test_a_search_that_ends_before_its_price_has_made_the_table_fit_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hasty = {"adae_budget": 0.3, "adae_budget_rate": 0.0, "adae_picker_lr": 1e-3}
    start(tmp_path, **SEARCH | hasty, epochs=2).fit()
    assert re.search(
        r"still expects [\d,]+ parameters, adae_budget leaves 681 for rows: .* raise epochs or adae_budget_rate",
        caplog.text,
    )


def test_the_log_says_where_the_choice_stands(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    of = start(tmp_path, **SEARCH, epochs=2)
    with caplog.at_level("INFO"):
        of.fit()
    assert "picker: mean width" in caplog.text
    rows = (tmp_path / "run" / "curves.csv").read_text().splitlines()
    assert {"picker/mean_width", "picker/parameters", "picker/changed", "picker/loss"} <= set(rows[0].split(","))


def test_size_and_spread_are_what_they_say() -> None:
    uniform, sure = torch.full((5, 4), 0.25), torch.eye(4)[[3] * 5]
    sizes = torch.tensor([2, 4, 8, 16])
    assert float(mean_size(uniform, sizes)) == pytest.approx(7.5 / 16)
    assert float(mean_size(sure, sizes)) == 1
    assert float(spread(uniform)) == pytest.approx(1)
    assert float(spread(sure)) == pytest.approx(0, abs=1e-6)
    assert float(spread(torch.eye(4)[[0, 0, 3, 3]])) == pytest.approx(math.log(2) / math.log(4))


def test_a_step_of_the_picker_clears_the_evaluation_cache(tmp_path: Path) -> None:
    of = start(tmp_path, **SEARCH | {"adae_warmup": 0}, epochs=1)
    model, seen = of.session.model, []
    forget = model.forget
    model.forget = lambda: (seen.append(model.training), forget())  # type: ignore[method-assign]
    of.fit()
    assert seen.count(True) >= len(of.session.splits.train)


@pytest.mark.parametrize("reads", [False, True])
def test_a_search_is_evaluated_again_to_the_same_metrics(reads: bool, tmp_path: Path, undrawn: None) -> None:
    chosen = SEARCH | {"adae_picker": "network", "adae_picker_embedding": reads, "adae_picker_lr": 0.003}
    folder = run.train(resolve_train(options(tmp_path, **chosen, epochs=3)), str(tmp_path / "search"))
    result = run.stored_result(folder)
    assert result is not None
    assert run.evaluate(str(folder)) == result["test"]
