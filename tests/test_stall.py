import logging
import math

import pytest

from recmodels.training.callbacks import EpochLog
from recmodels.training.stall import StallGuard


def _epochs(guard, values, shares=None):
    for epoch, value in enumerate(values):
        terms = {"train/bpr": value} | {f"share/{name}": share for name, share in (shares or {}).items()}
        guard.on_epoch_end(None, EpochLog(epoch, terms))


def test_a_ranking_term_at_chance_is_named_once_with_the_term_that_holds_the_gradient(caplog):
    with caplog.at_level(logging.WARNING):
        _epochs(StallGuard(3), [0.6931] * 8, {"bpr": 0.02, "ssl": 0.9, "ot": 0.08})
    assert len(caplog.messages) == 1
    assert "bpr is still at ln 2 after 3 epochs: term 'ssl' has 90% of the gradient" in caplog.messages[0]


@pytest.mark.parametrize("values", [[0.6931, 0.6931, 0.68, 0.6931, 0.6931], [0.3] * 9, [0.75] * 9])
def test_a_term_that_moves_is_not_named(values, caplog):
    guard = StallGuard(3)
    with caplog.at_level(logging.WARNING):
        _epochs(guard, values)
    assert caplog.messages == []


def test_a_run_that_ends_at_chance_says_so(caplog):
    guard = StallGuard(3)
    _epochs(guard, [math.log(2)] * 2)
    with caplog.at_level(logging.WARNING):
        guard.on_fit_end(None)
    assert "the result is that of an untrained model" in caplog.text
    caplog.clear()
    _epochs(guard, [0.4])
    guard.on_fit_end(None)
    assert caplog.messages == []


def test_a_model_without_the_ranking_term_is_left_alone(caplog):
    guard = StallGuard(1)
    with caplog.at_level(logging.WARNING):
        guard.on_epoch_end(None, EpochLog(0, {"train/ot": math.log(2)}))
        guard.on_fit_end(None)
    assert caplog.messages == []


def test_a_resumed_count_goes_on(caplog):
    first, second = StallGuard(3), StallGuard(3)
    _epochs(first, [0.6931] * 2)
    second.load_state_dict(first.state_dict())
    with caplog.at_level(logging.WARNING):
        _epochs(second, [0.6931])
    assert len(caplog.messages) == 1
