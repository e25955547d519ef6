"""When trainers validate and what counts as a result, whichever loop they have."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.model.general_recommender import Pop

from recmodels.errors import TrainingError
from recmodels.experiments.run import stored_result, train
from recmodels.experiments.session import prepare, resolve_train
from recmodels.experiments.trainers import trainer_of
from recmodels.training.validation import ValidatingTrainer
from tests.runs import Recorder, options

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.parametrize("model", ["LightGCN", "BPR"])
def test_every_loop_validates_every_eval_step_epochs_and_after_the_last(tmp_path: Path, model: str) -> None:
    session = prepare(resolve_train(options(tmp_path, model=model, epochs=5, eval_step=2)))
    (tmp_path / "run").mkdir()
    trainer = trainer_of(session, tmp_path / "run")
    assert isinstance(trainer, ValidatingTrainer)
    recorder = Recorder()
    trainer.callbacks.append(recorder)
    trainer.fit(session.splits.train, session.splits.valid)
    validated = [log.epoch for log in recorder.logs if "valid/ndcg@10" in log.values]
    assert validated == [1, 3, 4] == [epoch for epoch, _ in trainer.early_stop.history]
    assert all(log.values["valid_seconds"] > 0 for log in recorder.logs if log.epoch in validated)


FITTED_NOTHING = r"^{0}: valid scores of its fit are NaN or infinite.*{1}.*; expected values nearer to the defaults$"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model": "EASE", "reg_weight": 1e39}, FITTED_NOTHING.format("EASE", r"reg_weight=1e\+39")),
        ({"model": "ADMMSLIM", "rho": 1e39}, FITTED_NOTHING.format("ADMMSLIM", r"rho=1e\+39")),
        (
            {"model": "ChebyCF", "ideal_rank": 8, "degree_power": 50},
            FITTED_NOTHING.format("ChebyCF", r"degree_power=50\.0"),
        ),
        (
            {"model": "BPR", "learner": "sgd", "learning_rate": 1e30, "epochs": 1, "train_batch_size": 100_000},
            r"^BPR: no epoch has a finite valid NDCG@10: scores overflow; lower learning_rate$",
        ),
    ],
)
def test_scores_that_are_not_finite_are_no_result(overrides: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message):
        train(resolve_train(options(tmp_path, **overrides)), "run")
    assert stored_result(Path("run")) is None
    assert not Path("run", "checkpoint.pt").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("model", ["LightGCN", "BPR", "Pop", "GFCF"])
def test_one_score_that_is_not_finite_leaves_no_metrics(
    model: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = prepare(resolve_train(options(tmp_path, model=model, **{"ideal_rank": 8} if model == "GFCF" else {})))
    (tmp_path / "run").mkdir()
    trainer, valid = trainer_of(session, tmp_path / "run"), session.splits.valid
    users, used = valid.uid_list, valid.uid2history_item
    unmet = next(item for item in range(1, session.model.n_items) if item not in set(used[users[0]].tolist()))
    scored = torch.rand(len(users), session.model.n_items, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(session.model, "full_sort_predict", lambda interaction: scored.clone().flatten())
    scored[:, 0] = value  # of the padding item, which is not ranked
    assert all(map(math.isfinite, trainer.evaluate(valid).values()))
    scored[0, unmet] = value
    assert all(map(math.isnan, trainer.evaluate(valid).values()))


def test_a_test_part_without_finite_scores_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict, calls = Pop.full_sort_predict, list[int]()

    def ruined_at_last(model: Pop, interaction: Any) -> torch.Tensor:  # noqa: ANN401
        calls.append(1)
        return predict(model, interaction) / (len(calls) == 1)

    monkeypatch.setattr(Pop, "full_sort_predict", ruined_at_last)
    with pytest.raises(TrainingError, match="^Pop: test scores of its fit are NaN or infinite.*; got no keys; "):
        train(resolve_train(options(tmp_path, model="Pop")), "run")
    assert stored_result(Path("run")) is None
