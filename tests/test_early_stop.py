import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recbole.utils import early_stopping

from recmodels.errors import ParamError
from recmodels.training.early_stop import EarlyStop

SCORES = st.lists(st.sampled_from([0.1, 0.15, 0.2, 0.3, math.nan]), max_size=30)


def stop_epoch(rule, scores):
    return next((epoch for epoch, score in enumerate(scores) if rule.update(epoch, score)[1]), None)


def recbole_rule(scores, patience, bigger):
    """Epochs that are best, and the epoch that stops, by RecBole's own function, called as its trainer does."""
    best, waited, best_epochs = (-math.inf if bigger else math.inf), 0, []
    for epoch, score in enumerate(scores):
        best, waited, stop, update = early_stopping(score, best, waited, patience, bigger)
        best_epochs += [epoch] if update else []
        if stop:
            return best_epochs, epoch
    return best_epochs, None


@pytest.mark.parametrize(("mode", "stops"), [("strict", 3), ("recbole", 4)])
def test_published_example_stops_where_each_rule_says(mode, stops):
    rule = EarlyStop(mode, patience=2)
    assert stop_epoch(rule, [0.1, 0.2, 0.15, 0.15, 0.15, 0.15]) == stops
    assert (rule.best_epoch, rule.best_score) == (1, 0.2)
    assert rule.history == list(enumerate([0.1, 0.2, 0.15, 0.15, 0.15][: stops + 1]))


@given(scores=SCORES, patience=st.integers(0, 4), bigger=st.booleans())
def test_mode_recbole_is_recboles_rule(scores, patience, bigger):
    rule, best_epochs, stopped = EarlyStop("recbole", patience, bigger=bigger), [], None
    for epoch, score in enumerate(scores):
        is_best, stop = rule.update(epoch, score)
        best_epochs += [epoch] if is_best else []
        if stop:
            stopped = epoch
            break
    assert (best_epochs, stopped) == recbole_rule(scores, patience, bigger)


@given(scores=SCORES, patience=st.integers(1, 4))
def test_strict_is_recbole_with_one_less_patience(scores, patience):
    assert stop_epoch(EarlyStop("strict", patience), scores) == stop_epoch(EarlyStop("recbole", patience - 1), scores)


@pytest.mark.parametrize("mode", ["strict", "recbole"])
def test_a_tie_is_best_and_resets_the_counter(mode):
    rule = EarlyStop(mode, patience=2)
    assert [rule.update(epoch, score) for epoch, score in enumerate([0.2, 0.1, 0.2])][-1] == (True, False)
    assert (rule.counter, rule.best_epoch) == (0, 2)


@pytest.mark.parametrize("bigger", [True, False])
def test_nan_and_the_worst_infinity_never_improve_not_even_first(bigger):
    worst = -math.inf if bigger else math.inf
    rule = EarlyStop("strict", patience=9, bigger=bigger)
    assert [rule.update(epoch, bad) for epoch, bad in enumerate([math.nan, worst])] == [(False, False)] * 2
    assert (rule.best_score, rule.best_epoch, rule.counter) == (None, None, 2)
    assert rule.update(2, 0.5) == (True, False)
    assert rule.update(3, math.nan) == (False, False)
    assert (rule.best_score, rule.best_epoch, rule.counter) == (0.5, 2, 1)


def test_all_nan_stops_without_a_best_epoch():
    rule = EarlyStop("strict", patience=2)
    assert stop_epoch(rule, [math.nan] * 5) == 1
    assert rule.best_epoch is None


def test_a_smaller_score_is_better_when_asked():
    rule = EarlyStop("strict", patience=2, bigger=False)
    assert stop_epoch(rule, [0.3, 0.1, 0.2, 0.2]) == 3
    assert rule.best_score == 0.1


def test_min_epoch_defers_the_stop_keeps_the_best_and_says_so(caplog):
    rule = EarlyStop("strict", patience=2, min_epoch=5)
    with caplog.at_level(logging.INFO):
        assert stop_epoch(rule, [0.1, 0.2, *[0.15] * 9]) == 5
    assert (rule.best_epoch, rule.best_score) == (1, 0.2)
    assert [r.getMessage() for r in caplog.records] == [
        "early stop at epoch 3 deferred to epoch 5; the best stays epoch 1 with 0.2"
    ]


@given(scores=SCORES, cut=st.integers(0, 30), mode=st.sampled_from(["strict", "recbole"]))
def test_a_resumed_rule_decides_as_an_undisturbed_one(scores, cut, mode):
    whole, first, second = (EarlyStop(mode, patience=3) for _ in range(3))
    decisions = [whole.update(epoch, score) for epoch, score in enumerate(scores)]
    halves = [first.update(epoch, score) for epoch, score in enumerate(scores[:cut])]
    second.load_state_dict(first.state_dict())
    halves += [second.update(epoch, score) for epoch, score in enumerate(scores[cut:], start=cut)]
    assert halves == decisions
    assert repr(second.state_dict()) == repr(whole.state_dict())


def test_a_state_is_a_copy():
    rule = EarlyStop("strict", patience=3)
    state = rule.state_dict()
    rule.update(0, 0.5)
    assert state == {"best_score": None, "best_epoch": None, "counter": 0, "history": []}


def test_wrong_settings_name_what_was_expected():
    with pytest.raises(ParamError, match="mode: got 'strct', expected one of recbole, strict"):
        EarlyStop("strct", patience=2)
    with pytest.raises(ParamError, match="patience in mode strict: got 0, expected >= 1"):
        EarlyStop("strict", patience=0)
