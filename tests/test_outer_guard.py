"""What happens when the step of a second level is not finite."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recmodels.errors import NonFiniteError
from recmodels.training.bilevel import table_of
from recmodels.training.callbacks import Callback, Step
from tests.runs import Started, start
from tests.test_bilevel import SEARCH, bilevel_of


class Broken(Callback):
    """Lets the outer loss be NaN once, in the second step of an epoch."""

    def __init__(self, of: Started, epoch: int) -> None:
        self.outer, self.epoch = bilevel_of(of), epoch
        self.penalty = self.outer._penalty

    def on_gradients(self, step: Step) -> None:
        is_due = step.epoch == self.epoch and step.index == 1
        broken = lambda model: self.penalty(model) * torch.nan  # noqa: E731
        self.outer._penalty = broken if is_due else self.penalty  # type: ignore[method-assign]
        self.epoch = -1 if is_due else self.epoch


def _broken(root: Path, **options: Any) -> Started:
    of = start(root, **SEARCH | options, epochs=4)
    of.watch(Broken(of, 2))
    return of


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, "at the first failure"), ({"guard_nonfinite": "skip", "guard_max_skips": 0}, "after 0 dropped batches")],
)
def test_the_run_stops_with_a_diagnosis_and_the_picker_has_not_moved(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    of = _broken(tmp_path, **options)
    with pytest.raises(NonFiniteError, match=r"epoch 2, batch 1: non-finite outer loss \(nan\).*no step was.*" + words):
        of.fit()
    report = json.loads((tmp_path / "run" / "diagnosis-1.json").read_text(encoding="utf-8"))
    assert report["stage"] == "outer level"
    assert all(bool(p.isfinite().all()) for p in table_of(of.session.model).picker_parameters())


def test_a_step_is_dropped_and_the_run_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    of = _broken(tmp_path, guard_nonfinite="skip", guard_max_skips=1)
    of.fit()
    n_batches = len(of.session.splits.train)
    table = table_of(of.session.model)
    assert (int(table.step), int(table.picker_step)) == (3 * n_batches, 3 * n_batches - 1)
    assert "step of the outer level dropped (1 of 1)" in caplog.text


def test_a_rollback_undoes_the_steps_of_the_picker_and_lowers_its_rate(tmp_path: Path) -> None:
    of = _broken(tmp_path, guard_nonfinite="rollback", guard_lr_factor=0.5, adae_budget=0.2, adae_budget_rate=0.1)
    seen: list[tuple[int, int, float]] = []
    prices: list[float] = []

    class Look(Callback):
        def on_epoch_start(self, trainer: object, epoch: int) -> None:
            state = bilevel_of(of).optimizer.state_dict()
            steps = max((int(s["step"]) for s in state["state"].values()), default=0)
            seen.append((epoch, steps, state["param_groups"][0]["lr"]))
            price = bilevel_of(of).price
            assert price is not None
            prices.append(price.value)

    of.trainer.callbacks.append(Look())
    of.fit()
    n = len(of.session.splits.train)
    assert seen == [(0, 0, 1.0), (1, 0, 1.0), (2, n, 1.0), (2, n, 0.5), (3, 2 * n, 0.5)]
    assert prices[0] == prices[1] == 0 < prices[2] == prices[3] != prices[4]
