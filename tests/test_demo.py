import pytest

from recmodels.errors import ParamError
from recmodels.experiments import demo
from recmodels.experiments.demo import describe, is_success
from recmodels.experiments.run import evaluate, evaluate_untrained, train
from recmodels.experiments.session import resolve_train
from recmodels.run_params import METRICS
from tests.runs import options, write_data


def test_training_must_beat_both_controls():
    assert is_success({"popularity": 0.1, "untrained": 0.01, "trained": 0.2})
    assert not is_success({"popularity": 0.3, "untrained": 0.01, "trained": 0.2})
    assert not is_success({"popularity": 0.1, "untrained": 0.2, "trained": 0.2})
    assert "trained is NOT above both" in describe({"popularity": 0.3, "untrained": 0.01, "trained": 0.2})


@pytest.mark.parametrize("key", demo.FIXED)
def test_what_is_compared_cannot_be_changed(key):
    with pytest.raises(ParamError, match=f"{key}: fixed in the demonstration"):
        demo.demo({key: "x"})


@pytest.mark.slow
def test_the_demonstration_writes_only_its_folder_and_beats_both(tmp_path):
    scores = demo.demo({"epochs": 12, "show_progress": False}, str(tmp_path / "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert is_success(scores)


def test_every_metric_can_be_evaluated_again_and_untrained(tmp_path):
    write_data(tmp_path)
    resolved = resolve_train(options(tmp_path, model="LightGCN", epochs=1, metrics=list(METRICS)))
    folder = train(resolved, str(tmp_path / "run"))
    again = evaluate(str(folder))
    assert {name.split("@")[0] for name in again} == {metric.lower() for metric in METRICS}
    assert set(evaluate_untrained(resolved, folder)) == set(again)
