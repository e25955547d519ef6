"""Holm's correction: a hand calculation, and what holds of every list."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmodels.reporting.corrections import holm


def test_a_hand_calculation() -> None:
    # sorted .01 .02 .03 .04 times 4 3 2 1 are .04 .06 .06 .04; none may fall below the one before
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06], rel=1e-12)
    assert holm([0.9, 0.4, 0.001]) == pytest.approx([0.9, 0.8, 0.003], rel=1e-12)
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_it_lies_between_the_p_values_and_those_of_bonferroni_and_keeps_their_order(p_values: list[float]) -> None:
    found, given_values = np.array(holm(p_values)), np.array(p_values)
    assert (found >= given_values).all()
    assert (found <= np.minimum(1, len(p_values) * given_values)).all()
    assert (np.diff(found[np.argsort(given_values, kind="stable")]) >= 0).all()


def test_the_chance_of_any_false_finding_is_bounded() -> None:
    generator = np.random.default_rng(0)
    shares = [min(holm(list(generator.random(20)))) < 0.05 for _ in range(2000)]
    assert np.mean(shares) < 0.065  # three standard errors above 0.05; without correction it is 0.64
