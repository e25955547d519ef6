"""When trainers validate, whichever loop they have."""

from pathlib import Path

import pytest

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
