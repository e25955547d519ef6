"""Paired differences: the resamples are those of a loop, intervals cover what they promise, wrong pairs are refused."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, ttest_rel

from recmodels.errors import CheckpointError, ParamError, UserError
from recmodels.experiments.folder import USERS, write_arrays
from recmodels.reporting.comparison import Comparison, compare_rows
from recmodels.reporting.corrections import holm
from recmodels.reporting.finished import read_runs
from recmodels.reporting.paired import Difference, bootstrap_means, degrees_of_freedom, paired_difference
from recmodels.reporting.table import Table, make_tables
from recmodels.reporting.user_metrics import per_user
from tests.finished_runs import write_run

N_USERS, N_RESAMPLES, N_TRIALS = 120, 300, 400


def simulated(generator: np.random.Generator, n_seeds: int, spread: tuple[float, float, float]) -> np.ndarray:
    """Differences of mean 0 with effects of seeds, of users, and of single cells."""
    of_seeds, of_users, of_cells = spread
    seeds = of_seeds * generator.standard_normal((n_seeds, 1))
    users = of_users * generator.standard_normal((1, N_USERS))
    return seeds + users + of_cells * generator.standard_normal((n_seeds, N_USERS))


def differences(
    n_seeds: int, spread: tuple[float, float, float], shift: float = 0.0, n_trials: int = N_TRIALS
) -> list[Difference]:
    """Of many simulated experiments."""
    generator = np.random.default_rng(0)
    zeros = np.zeros((n_seeds, N_USERS))
    return [
        paired_difference(simulated(generator, n_seeds, spread) + shift, zeros, N_RESAMPLES, generator)
        for _ in range(n_trials)
    ]


def coverage(found: list[Difference], truth: float = 0.0) -> float:
    return float(np.mean([difference.low <= truth <= difference.high for difference in found]))


def test_the_resamples_are_those_of_a_loop() -> None:
    values = np.random.default_rng(1).random((3, 7))
    found = bootstrap_means(values, 150, np.random.default_rng(2))
    generator = np.random.default_rng(2)
    rows = [np.repeat(range(3), counts) for counts in generator.multinomial(2, [1 / 3] * 3, size=150)]
    for start in (0, 100):
        columns = generator.integers(7, size=(min(100, 150 - start), 7))
        for place, drawn in enumerate(columns, start=start):
            cells = [values[row, column] for row in rows[place] for column in drawn]
            assert found[place] == pytest.approx(sum(cells) / len(cells), rel=1e-12)


def test_one_row_is_an_ordinary_bootstrap_of_its_columns() -> None:
    values = np.random.default_rng(1).random((1, 400))
    found = bootstrap_means(values, 4000, np.random.default_rng(2))
    assert found.std() == pytest.approx(values.std() / math.sqrt(400), rel=0.05)


def test_rows_that_differ_have_the_variance_of_a_mean_of_rows() -> None:
    values = np.repeat(np.array([[0.1], [0.4], [0.2]]), 50, axis=1)
    found = bootstrap_means(values, 20000, np.random.default_rng(2))
    assert found.std() == pytest.approx(np.std([0.1, 0.4, 0.2], ddof=1) / math.sqrt(3), rel=0.02)


@given(st.integers(1, 6), st.integers(2, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_degrees_of_freedom_lie_between_those_of_the_parts(n_rows: int, n_columns: int, seed: int) -> None:
    found = degrees_of_freedom(np.random.default_rng(seed).standard_normal((n_rows, n_columns)))
    smallest = min(size - 1 for size in (n_rows, n_columns) if size > 1)
    assert smallest * (1 - 1e-9) <= found <= (n_rows + n_columns - 2) * (1 + 1e-9)


@pytest.mark.parametrize("spread", [(0.0, 1.0, 0.3), (1.0, 1.0, 0.3), (0.5, 0.0, 0.3)])
def test_the_interval_of_three_seeds_covers_the_truth_in_95_percent(spread: tuple[float, float, float]) -> None:
    # 400 trials: the standard error of a share of 0.95 is 0.011
    assert 0.93 <= coverage(differences(3, spread)) <= 1


@pytest.mark.parametrize("spread", [(1.0, 0.0, 1.0), (1.0, 3.0, 1.0)])
def test_small_p_values_of_three_seeds_are_as_rare_as_they_say(spread: tuple[float, float, float]) -> None:
    """Where seeds differ as much as users do, so that a spread of seeds that is small by chance would mislead."""
    found = [float(difference.p_value or 0) for difference in differences(3, spread, n_trials=2000)]
    assert np.mean(np.array(found) < 0.0025) < 0.007  # the standard error of a share of 0.0025 is 0.0011
    corrected = [min(holm(found[start : start + 20])) for start in range(0, 2000, 20)]
    assert np.mean(np.array(corrected) < 0.05) <= 0.12  # of 100 families; 0.05 has a standard error of 0.022


def test_noise_of_single_cells_makes_the_interval_wider_and_never_too_narrow() -> None:
    for n_seeds in (2, 5):
        assert coverage(differences(n_seeds, (0.0, 0.0, 1.0))) >= 0.95


def test_one_seed_covers_other_users_and_has_no_p_value() -> None:
    found = differences(1, (0.0, 1.0, 0.5))
    assert 0.92 <= coverage(found) <= 0.98
    assert {difference.p_value for difference in found} == {None}


def test_a_planted_difference_is_found() -> None:
    found = differences(3, (0.02, 1.0, 0.3), shift=0.5)
    assert 0.93 <= coverage(found, truth=0.5) <= 1
    assert np.mean([difference.low > 0 for difference in found]) > 0.95
    assert np.mean([difference.p_value is not None and difference.p_value < 0.05 for difference in found]) > 0.95


@pytest.mark.parametrize("spread", [(0.0, 1.0, 0.1), (0.5, 0.0, 0.1)])
def test_p_values_of_no_difference_are_uniform(spread: tuple[float, float, float]) -> None:
    # the largest distance between the distributions has a standard error of about 0.02 in 2000 trials
    p_values = [difference.p_value for difference in differences(4, spread, n_trials=2000)]
    assert kstest(p_values, "uniform").statistic < 0.04


def test_the_p_value_is_below_a_twentieth_exactly_if_the_interval_excludes_zero() -> None:
    for difference in differences(3, (0.1, 1.0, 0.3), shift=0.2):
        assert difference.p_value is not None
        assert (difference.p_value < 0.05) == (difference.low > 0 or difference.high < 0)


def test_where_only_seeds_differ_it_is_the_paired_t_test_over_seeds() -> None:
    effects = np.array([0.30, 0.10, 0.35, 0.22])
    values = np.repeat(effects[:, None], 50, axis=1)
    found = paired_difference(values, np.zeros_like(values), 20000, np.random.default_rng(0))
    expected = ttest_rel(effects, np.zeros(4))
    interval = expected.confidence_interval()
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.1)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=0.03)


def test_a_difference_changes_sign_with_the_order() -> None:
    one, two = np.random.default_rng(0).random((2, 3, 40))
    forth, back = (paired_difference(*pair, 500, np.random.default_rng(3)) for pair in ((one, two), (two, one)))
    assert (forth.mean, forth.low, forth.high) == pytest.approx((-back.mean, -back.high, -back.low), rel=1e-9)
    assert forth.relative == pytest.approx(one.mean() / two.mean() - 1, rel=1e-9)


def test_equal_groups_differ_by_nothing() -> None:
    values = np.random.default_rng(0).random((2, 30))
    assert paired_difference(values, values, 50, np.random.default_rng(0)) == Difference(0.0, 0.0, 0.0, 0.0, 1.0)
    zeros = np.zeros((2, 30))
    assert math.isnan(paired_difference(values, zeros, 50, np.random.default_rng(0)).relative)


def two_rows(seeds: range, other_seeds: range, shift: float = 0.1) -> Table:
    """A row `base` and a row `better`, whose users are `shift` above."""
    generator = np.random.default_rng(0)
    for seed in sorted({*seeds, *other_seeds}):
        users = 0.4 * generator.random(80)
        for name, wanted, added in (("base", seeds, 0.0), ("better", other_seeds, shift)):
            if seed in wanted:
                given = users + added + 0.01 * generator.random(80)
                write_run(f"runs/{name}/{seed}", given.mean(), given, {"row": name}, seed=seed, n_layers=len(name))
    (table,), _ = make_tables(read_runs([Path("runs")])[0])
    return table


def test_rows_are_compared_over_the_seeds_they_share() -> None:
    (line,) = compare_rows(two_rows(range(3), range(1, 4)), "base", ["recall@10", "ndcg@10", "mrr@10"])
    assert isinstance(line, Comparison)
    assert (line.label, line.seeds, list(line.by_metric)) == ("better", "1, 2", ["recall@10", "ndcg@10"])
    found = line.by_metric["recall@10"]
    assert 0.09 < found.low < 0.1 < found.high < 0.11
    assert found.p_value is not None
    assert line.by_metric["ndcg@10"].mean == pytest.approx(2 * found.mean)


def test_users_are_paired_by_name_not_by_place() -> None:
    table = two_rows(range(2), range(2))
    before = compare_rows(table, "base", ["recall@10"])
    path = Path("runs/better/1") / USERS
    with np.load(path) as stored:
        write_arrays(path, {name: stored[name][::-1] for name in stored.files})
    assert compare_rows(table, "base", ["recall@10"]) == before


def test_four_seeds_of_a_row_are_controlled_half_against_half() -> None:
    lines = compare_rows(two_rows(range(4), range(3)), "base", ["recall@10"])
    assert [(line.label, line.seeds) for line in lines] == [
        ("better", "0, 1, 2"),
        ("control: base", "0, 2 against 1, 3"),
    ]
    control = lines[1].by_metric["recall@10"]
    assert control.low <= 0 <= control.high
    assert control.p_value is not None
    assert control.p_value > 0.05


def test_a_name_that_no_row_has_is_refused_with_the_nearest() -> None:
    table = two_rows(range(1), range(1))
    with pytest.raises(ParamError, match="no rows are named 'bas'.*expected one of 'base', 'better"):
        compare_rows(table, "bas", ["recall@10"])


def test_rows_without_a_common_seed_are_refused() -> None:
    with pytest.raises(ParamError, match=r"'better' has seeds \(2, 3\), 'base' \(0, 1\)"):
        compare_rows(two_rows(range(2), range(2, 4)), "base", ["recall@10"])


def other_users(path: Path) -> None:
    with np.load(path) as stored:
        write_arrays(path, {name: stored[name][1:] for name in stored.files})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_users, "got 79 users, of which 79 are expected; expected the 80 users"),
        (Path.unlink, "absent; a comparison of runs pairs their users"),
        (lambda path: path.write_bytes(path.read_bytes()[:400]), "damaged or no file of per-user metrics"),
        (lambda path: path.write_bytes(b"no archive"), "damaged or no file of per-user metrics"),
        (lambda path: write_arrays(path, {"user": np.array(["u0"])}), "got recall@10, which no test_users.npz"),
    ],
)
def test_per_user_metrics_that_do_not_fit_are_refused(spoil, words: str) -> None:  # noqa: ANN001
    table = two_rows(range(2), range(2))
    spoil(Path("runs/base/1") / USERS)
    with pytest.raises(UserError, match=words) as error:
        compare_rows(table, "base", ["recall@10"])
    assert isinstance(error.value, CheckpointError)


def test_per_user_metrics_are_read_in_the_order_of_the_names() -> None:
    folder = write_run("run", 0.55, np.arange(12) / 10)
    assert per_user(folder)["user"].tolist()[:3] == ["u0", "u1", "u10"]
    assert per_user(folder)["recall@10"].tolist()[:3] == pytest.approx([0.0, 0.1, 1.0])
