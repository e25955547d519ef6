"""The training loop through real runs: numbers of an epoch, optimizer, schedule, randomness."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recmodels.data.split import interactions
from recmodels.experiments import run
from recmodels.experiments.session import resolve_train
from recmodels.run_params import LEARNERS
from recmodels.training import checkpoint
from recmodels.training.callbacks import Callback, Step
from tests.runs import Recorder, Started, files_of, options, same_state, start

pytestmark = pytest.mark.usefixtures("undrawn")
# Only keys of LightGCN may stand beside it.
PLAIN: dict[str, Any] = dict.fromkeys(
    ["num_clusters", "warm_up_step", "m_step", "ot_centers", "ot_iters", "ot_negatives_per_center"]
)


def recorded(root: Path, name: str = "run", **overrides: Any) -> tuple[Started, Recorder]:  # noqa: ANN401
    started = start(root, name, **overrides)
    recorder = started.watch(Recorder())
    return started.fit(), recorder


def test_an_epochs_values_are_means_over_its_batches_of_unweighted_terms(tmp_path: Path) -> None:
    started, recorder = recorded(tmp_path, epochs=2)
    weights = {name: objective.weight for name, objective in objectives(started).items()}
    assert set(weights) == {"bpr", "reg", "ssl", "proto", "ot"}
    for log in recorder.logs:
        steps = [step for step in recorder.steps if step[0] == log.epoch]
        assert len(steps) > 1
        for name in steps[0][2]:
            by_hand = math.fsum(terms[name] for _, _, terms, _, _ in steps) / len(steps)
            assert log.values[f"train/{name}"] == pytest.approx(by_hand, rel=1e-6)
        for _, _, terms, loss, _ in steps:
            assert loss == pytest.approx(math.fsum(weights[name] * value for name, value in terms.items()), rel=1e-5)
        assert log.values["train/loss"] == pytest.approx(math.fsum(step[3] for step in steps) / len(steps), rel=1e-6)
        assert log.values["gradient_norm"] == pytest.approx(math.fsum(s[4] for s in steps) / len(steps), rel=1e-5)


def test_a_batch_larger_than_the_data_is_one_step_and_curves_do_not_depend_on_the_weight(tmp_path: Path) -> None:
    one, light = recorded(tmp_path, "light", epochs=1, train_batch_size=100_000, ot_weight=0.1)
    _, heavy = recorded(tmp_path, "heavy", epochs=1, train_batch_size=100_000, ot_weight=10)
    assert len(light.steps) == len(heavy.steps) == 1
    assert light.batches[0].shape[1] == len(one.session.splits.train.dataset)
    assert light.logs[0].values["train/ot"] == heavy.logs[0].values["train/ot"]
    difference = heavy.logs[0].values["train/loss"] - light.logs[0].values["train/loss"]
    assert difference == pytest.approx(9.9 * light.logs[0].values["train/ot"], rel=1e-5)


def objectives(started: Started) -> dict[str, Any]:
    return {str(objective.name): objective for objective in started.session.model.objectives}


def norm_of_first_gradient(root: Path) -> float:
    return recorded(root, "probe", epochs=1, train_batch_size=100_000)[1].steps[0][4]


def moved(root: Path, name: str, norm: float, **overrides: Any) -> tuple[torch.Tensor, float]:  # noqa: ANN401
    """Change of the table after one SGD step of size 1 from a gradient of the given norm, and the norm in the log."""
    overrides = {"epochs": 1, "train_batch_size": 100_000, "learner": "sgd", "learning_rate": 1.0} | overrides
    started = start(root, name, **overrides)
    before = started.session.model.table().detach().clone()
    factor = norm / norm_of_first_gradient(root)
    for objective in objectives(started).values():
        objective.weight *= factor
    recorder = started.watch(Recorder())
    started.fit()
    return started.session.model.table().detach() - before, recorder.logs[0].values["gradient_norm"]


@pytest.mark.parametrize("scaler", [False, True])
def test_clipping_acts_on_the_true_gradient_only_above_its_limit(tmp_path: Path, scaler: bool) -> None:
    clip = {"max_norm": 10, "norm_type": 2}
    free, norm = moved(tmp_path, "free", 20.0)
    clipped, logged = moved(tmp_path, "clipped", 20.0, clip_grad_norm=clip, enable_scaler=scaler)
    assert norm == pytest.approx(20.0, rel=1e-4)
    assert logged == pytest.approx(20.0, rel=1e-4)
    assert torch.linalg.vector_norm(free).item() == pytest.approx(20.0, rel=1e-4)
    torch.testing.assert_close(clipped, free / 2, rtol=1e-4, atol=1e-6)
    small, _ = moved(tmp_path, "small", 5.0)
    untouched, _ = moved(tmp_path, "untouched", 5.0, clip_grad_norm=clip)
    assert torch.equal(small, untouched)


@pytest.mark.parametrize("scaler", [False, True])
def test_mixed_precision_on_the_cpu_trains_with_finite_terms(tmp_path: Path, scaler: bool) -> None:
    shared = {"epochs": 2, "ot_weight": 0.1, "ot_view_b": "gat:1"}  # attention is what autocast narrows
    full, plain = recorded(tmp_path, "full", **shared)
    half, mixed = recorded(tmp_path, "half", **shared, enable_amp=True, enable_scaler=scaler)
    assert all(math.isfinite(value) for log in mixed.logs for value in log.values.values())
    assert len(mixed.steps) == len(plain.steps)
    for log, other in zip(mixed.logs, plain.logs, strict=True):
        assert log.values["train/bpr"] == pytest.approx(other.values["train/bpr"], rel=0.02)
        assert log.values["train/ot"] == pytest.approx(other.values["train/ot"], rel=0.1)
    assert not same_state(mixed.weights[-1], plain.weights[-1])  # autocast was on
    assert {p.dtype for p in half.session.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("learner", LEARNERS)
def test_every_learner_lowers_the_ranking_loss(tmp_path: Path, learner: str) -> None:
    rate = {"sgd": 20.0, "adagrad": 0.05}.get(learner, 0.01)
    started, recorder = recorded(tmp_path, model="LightGCN", epochs=6, learner=learner, learning_rate=rate)
    assert type(started.trainer.optimizer).__name__.lower() == learner
    assert recorder.logs[-1].values["train/bpr"] < 0.97 * recorder.logs[0].values["train/bpr"]


def test_validation_runs_every_eval_step_epochs_and_at_the_last(tmp_path: Path) -> None:
    started, recorder = recorded(tmp_path, epochs=5, eval_step=2)
    validated = [log.epoch for log in recorder.logs if "valid/ndcg@10" in log.values]
    assert validated == [1, 3, 4]
    assert [epoch for epoch, _ in started.trainer.early_stop.history] == [1, 3, 4]
    assert not any(log.is_best for log in recorder.logs if log.epoch not in validated)


@pytest.mark.parametrize(("mode", "stops"), [("strict", 3), ("recbole", 4)])
def test_fit_stops_where_the_rule_says_and_keeps_the_best_epoch(tmp_path: Path, mode: str, stops: int) -> None:
    started = start(tmp_path, epochs=9, stopping_step=2, early_stop_mode=mode)
    recorder, scores = started.watch(Recorder()), iter([0.1, 0.2, *[0.15] * 9])
    started.trainer.evaluate = lambda *_, **__: {"ndcg@10": next(scores)}  # type: ignore[method-assign]
    started.fit()
    assert [log.epoch for log in recorder.logs] == list(range(stops + 1))
    assert (started.trainer.early_stop.best_epoch, started.trainer.finished) == (1, True)
    best = checkpoint.load(tmp_path / "run" / "checkpoint.pt", None)
    assert (best["epoch"], best["valid"]) == (1, {"ndcg@10": 0.2})
    assert same_state(best["weights"], recorder.weights[1])


def test_several_negatives_repeat_the_positives_and_avoid_what_the_user_has(tmp_path: Path) -> None:
    arguments = {"distribution": "uniform", "sample_num": 2}
    started, recorder = recorded(tmp_path, epochs=1, train_neg_sample_args=arguments)
    users, items = interactions(started.session.splits.train)
    n_users = started.session.model.n_users
    known = set(zip(users.tolist(), (items + n_users).tolist(), strict=True))
    triples = [row for batch in recorder.batches for row in batch.T.tolist()]
    assert len(triples) == 2 * len(known)
    assert {(user, pos) for user, pos, _ in triples} == known
    assert known.isdisjoint((user, neg) for user, _, neg in triples)


def test_popularity_negatives_are_more_popular_than_uniform_ones(tmp_path: Path) -> None:
    def mean_degree(name: str, distribution: str) -> float:
        started, recorder = recorded(
            tmp_path, name, epochs=4, train_neg_sample_args={"distribution": distribution, "alpha": 3.0}
        )
        degrees = torch.bincount(torch.as_tensor(interactions(started.session.splits.train)[1]))
        negatives = torch.cat([batch[2] for batch in recorder.batches]) - started.session.model.n_users
        return degrees[negatives].double().mean().item()

    assert mean_degree("popular", "popularity") > 1.1 * mean_degree("uniform", "uniform")


class Draws(Callback):
    """Batches and drawn subgraphs by epoch."""

    def __init__(self, started: Started) -> None:
        self.seen: dict[int, list[torch.Tensor]] = {}
        for objective in started.session.model.objectives:
            if objective.name == "ot":
                objective.sampler = self._spy(objective.sampler)
        self._epoch = 0

    def _spy(self, sampler: Any) -> Any:  # noqa: ANN401
        class Spy:
            graph = sampler.graph

            def __call__(inner, centers: torch.Tensor, generator: torch.Generator) -> Any:  # noqa: ANN401, N805
                drawn = sampler(centers, generator)
                self.seen.setdefault(started_epoch(), []).extend([drawn.nodes, drawn.mask])
                return drawn

        started_epoch: Callable[[], int] = lambda: self._epoch  # noqa: E731
        return Spy()

    def on_epoch_start(self, trainer: Any, epoch: int) -> None:  # noqa: ANN401
        self._epoch = epoch

    def on_terms(self, step: Step) -> None:
        self.seen.setdefault(step.epoch, []).append(step.batch.triples)


def draws(started: Started) -> dict[int, list[torch.Tensor]]:
    watched = started.watch(Draws(started))
    started.fit()
    return watched.seen


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) > 0 and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_order_negatives_and_subgraphs_of_an_epoch_do_not_depend_on_where_the_run_began(tmp_path: Path) -> None:
    whole = draws(start(tmp_path, "whole", epochs=4))
    start(tmp_path, "first", epochs=2).fit()
    second = start(tmp_path, "second", epochs=4)
    state = checkpoint.load(tmp_path / "first" / "last.pt", None)  # of another number of epochs
    second.trainer.load_state_dict(state | {"finished": False})
    later = draws(second)
    assert sorted(later) == [2, 3]
    assert all(equal(whole[epoch], later[epoch]) for epoch in (2, 3))
    assert not equal(whole[2], whole[3])


def test_switching_transport_off_changes_neither_batches_nor_negatives(tmp_path: Path) -> None:
    _, on = recorded(tmp_path, "on", ot_weight=0.1)
    off, without = recorded(tmp_path, "off", ot_weight=0)
    assert "ot" not in {objective.name for objective in off.session.model.objectives}
    assert equal(on.batches, without.batches)
    assert not same_state(on.weights[-1], without.weights[-1])


def test_objectives_switch_on_in_their_epoch(tmp_path: Path) -> None:
    _, recorder = recorded(tmp_path, epochs=4, warm_up_step=1, ot_starts_at=3)
    for name, first in (("bpr", 0), ("ssl", 0), ("proto", 1), ("ot", 3)):
        assert [log.epoch for log in recorder.logs if f"train/{name}" in log.values] == list(range(first, 4))


def test_prototypes_are_clustered_at_their_first_epoch_and_at_multiples_of_m_step(tmp_path: Path) -> None:
    _, recorder = recorded(tmp_path, epochs=6, warm_up_step=1, m_step=2)
    centroids = [weights["objectives.3.user_centroids"] for weights in recorder.weights]
    assert not centroids[0].any()
    changed = [epoch for epoch in range(1, 6) if not torch.equal(centroids[epoch], centroids[epoch - 1])]
    assert changed == [1, 2, 4]


def test_a_validation_is_that_of_the_epochs_own_weights(tmp_path: Path) -> None:
    _, recorder = recorded(tmp_path, epochs=3)
    fresh = start(tmp_path, "fresh", epochs=3)
    for log, weights in zip(recorder.logs, recorder.weights, strict=True):
        fresh.session.model.load_state_dict(weights)
        again = fresh.trainer.evaluate(fresh.session.splits.valid)
        assert {f"valid/{name}": value for name, value in again.items()} == {
            name: value for name, value in log.values.items() if name.startswith("valid/")
        }
    assert len({log.values["valid/ndcg@50"] for log in recorder.logs}) == 3


def test_a_run_writes_nothing_outside_its_folder(tmp_path: Path) -> None:
    resolved = resolve_train(options(tmp_path))
    before = files_of(tmp_path)
    folder = run.train(resolved)
    after = files_of(tmp_path)
    inside = {name for name in after if (tmp_path / name).is_relative_to(folder)}
    assert {name: after[name] for name in after.keys() - inside} == before
    assert folder.parent == tmp_path / "runs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "runs"]
