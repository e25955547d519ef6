"""RecBole's own models as ordinary runs: on our split, with our evaluation, saved without pickles."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints
from unittest.mock import Mock

import numpy as np
import pytest
import scipy.sparse
import torch
from recbole.data.dataloader import UserDataLoader
from recbole.data.interaction import Interaction
from recbole.model.general_recommender import BPR, EASE, ItemKNN
from recbole.trainer import RecVAETrainer

from recmodels.data.split import interactions
from recmodels.errors import NonFiniteError, ParamError, TrainingError
from recmodels.experiments.run import evaluate, evaluate_unsaved, resume, stored_result, train
from recmodels.experiments.session import Session, prepare, resolve_train
from recmodels.experiments.trainers import trainer_of
from recmodels.models import FILTERS, MODELS
from recmodels.training import checkpoint
from recmodels.training.arrays import from_plain, to_plain
from recmodels.training.baseline_bounds import BOUNDS
from recmodels.training.baselines import BASELINES, FITTED, TRAINED, FittedAtOnce
from recmodels.training.plain_trainer import PlainTrainer
from tests.runs import MEASURED, files_of, options, python
from tests.worlds import scores, session

# Seconds of a run on ml-100k; the others take less than five.
SLOW = {"ADMMSLIM", "SLIMElastic", "NeuMF", "DMF", "MacridVAE", "RecVAE", "SimpleX", "NGCF", "ENMF"}
SMALL = {"NCEPLRec": {"rank": 8}}  # the planted data have 60 users
pytestmark = pytest.mark.usefixtures("undrawn")


def each(names: Any) -> Any:  # noqa: ANN401
    return pytest.mark.parametrize("name", names)


def small(root: Path, name: str, **overrides: Any) -> Session:  # noqa: ANN401
    return session(root, model=name, **SMALL.get(name, {}) | overrides)


def fitted(root: Path, name: str, **overrides: Any) -> Session:  # noqa: ANN401
    of = small(root, name, **overrides)
    of.model.fit()
    return of


def counts(of: Session) -> np.ndarray:
    """R, (n_users, n_items) float64, by plain counting."""
    matrix = np.zeros((of.splits.dataset.user_num, of.splits.dataset.item_num))
    np.add.at(matrix, interactions(of.splits.train), 1)
    return matrix


def pair_scores(model: Any) -> torch.Tensor:  # noqa: ANN401
    """Scores of all pairs; NeuMF has no shorter way than pair by pair."""
    if type(model).__name__ != "NeuMF":
        return scores(model)
    pairs = torch.cartesian_prod(torch.arange(model.n_users), torch.arange(model.n_items))
    return model.predict(Interaction({model.USER_ID: pairs[:, 0], model.ITEM_ID: pairs[:, 1]})).detach()


def unmeasured(folder: Path) -> dict[str, Any]:
    found = stored_result(folder)
    assert found is not None
    return {key: value for key, value in found.items() if key not in MEASURED}


def test_the_baselines_are_not_our_models() -> None:
    assert list(BASELINES) == [*FITTED, *TRAINED]
    assert not set(BASELINES) & set(MODELS | FILTERS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in BASELINES]
)
def test_it_runs_on_ml_100k_and_a_new_session_evaluates_it_identically(name: str, tmp_path: Path) -> None:
    folder = train(resolve_train({"model": name, "dataset": "ml-100k", "epochs": 2, "show_progress": False}), "run")
    result = stored_result(folder)
    assert result is not None
    assert evaluate(str(folder)) == result["test"]
    assert result["epochs_run"] == (1 if name in FITTED else 2)
    assert result["n_parameters"] > 1
    assert ({"curves.csv", "curves.png"} <= set(files_of(folder))) == (name in TRAINED)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # RecBole's log/, saved/, log_tensorboard/


@pytest.mark.slow
def test_a_new_process_evaluates_it_identically(tmp_path: Path) -> None:
    train(resolve_train({"model": "EASE", "dataset": "ml-100k", "show_progress": False}), "run")
    done = python(["-c", "from recmodels.cli import main; raise SystemExit(main(['evaluate', 'run']))"], tmp_path)
    result = stored_result(Path("run"))
    assert result is not None
    assert json.loads(done.stdout) == result["test"], done.stderr


def test_ease_is_its_closed_form(tmp_path: Path) -> None:
    of = fitted(tmp_path, "EASE", reg_weight=20.0)
    matrix = counts(of)
    inverse = np.linalg.inv(matrix.T @ matrix + 20 * np.eye(matrix.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    assert isinstance(of.model, EASE)
    np.testing.assert_allclose(scores(of.model).numpy(), matrix @ weights, atol=1e-4)


def test_itemknn_is_its_cosines(tmp_path: Path) -> None:
    of = fitted(tmp_path, "ItemKNN", k=81)
    matrix = counts(of)
    norms = np.linalg.norm(matrix, axis=0)
    cosines = matrix.T @ matrix / (np.outer(norms, norms) + 1e-6)
    np.fill_diagonal(cosines, 0)
    np.testing.assert_allclose(scores(of.model).numpy(), matrix @ cosines, atol=1e-5)


@pytest.mark.parametrize("size", [64, 50_000])
def test_popularity_counts_every_interaction_whatever_the_batch(size: int, tmp_path: Path) -> None:
    of = fitted(tmp_path, "Pop", train_batch_size=size)
    frequency = counts(of).sum(0)
    assert torch.equal(scores(of.model), torch.from_numpy(frequency / frequency.max()).expand(len(counts(of)), -1))


@each(FITTED)
def test_a_model_is_constructed_empty_and_its_state_holds_tensors_only(name: str, tmp_path: Path) -> None:
    empty, full = small(tmp_path, name).model, fitted(tmp_path, name).model
    assert isinstance(empty, FittedAtOnce)
    assert empty.n_fitted == 0
    assert full.n_fitted > 0
    checkpoint.save("state.pt", {"weights": full.state_dict()})
    empty.load_state_dict(checkpoint.load("state.pt", None)["weights"])
    torch.manual_seed(0)
    want = scores(full)
    torch.manual_seed(0)  # ADMMSLIM breaks ties by the global stream
    assert torch.equal(scores(empty), want)


@each(TRAINED)
def test_a_state_dict_restores_the_scores_and_drops_what_was_cached(name: str, tmp_path: Path) -> None:
    one, other = small(tmp_path, name).model.eval(), small(tmp_path, name).model.eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    want = pair_scores(one)
    assert not torch.equal(pair_scores(other), want)
    other.load_state_dict(one.state_dict())
    assert torch.equal(pair_scores(other), want)


@each(["BPR", "MultiVAE", "RecVAE"])
def test_a_run_follows_its_seed_only(name: str, tmp_path: Path) -> None:
    results = []
    for place, seed in enumerate((3, 3, 4)):
        torch.manual_seed(place)
        np.random.seed(place)
        results.append(unmeasured(train(resolve_train(options(tmp_path, model=name, seed=seed)), f"run{place}")))
    assert results[0] == results[1]
    assert results[0]["test"] != results[2]["test"]


def test_users_are_what_autoencoders_are_trained_on_and_triples_the_others(tmp_path: Path) -> None:
    assert isinstance(small(tmp_path, "RecVAE").splits.train, UserDataLoader)
    assert not isinstance(small(tmp_path, "BPR").splits.train, UserDataLoader)
    (tmp_path / "run").mkdir()
    trainer = trainer_of(small(tmp_path, "RecVAE"), tmp_path / "run")
    assert isinstance(trainer, PlainTrainer)
    assert isinstance(trainer, RecVAETrainer)


def test_the_split_is_that_of_our_models(tmp_path: Path) -> None:
    shas = {session(tmp_path, model=name).splits.sha256 for name in ("LightGCN", "EASE", "BPR", "MultiVAE")}
    assert len(shas) == 1


def test_training_stops_on_valid_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    resolved = resolve_train(
        options(tmp_path, model="BPR", epochs=60, learning_rate=0.2, stopping_step=2, early_stop_mode="strict")
    )
    folder = train(resolved, "run")
    result = stored_result(folder)
    assert result is not None
    assert result["epochs_run"] == result["best_epoch"] + 3 < 60
    best = checkpoint.load(folder / "checkpoint.pt", None)
    assert (best["epoch"], best["valid"]) == (result["best_epoch"], result["best_valid"])
    lines = (folder / "curves.csv").read_text().splitlines()
    column = lines[0].split(",").index("valid/ndcg@10")
    valid = [float(line.split(",")[column]) for line in lines[1:]]
    assert max(valid) == valid[result["best_epoch"]] == result["best_valid"]["ndcg@10"]


def test_an_interrupted_run_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = resolve_train(options(tmp_path, model="BPR", epochs=4))
    undisturbed = train(resolved, "undisturbed")
    check = BPR.calculate_loss
    calls: list[int] = []

    def interrupted(model: BPR, interaction: Any) -> torch.Tensor:  # noqa: ANN401
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return check(model, interaction)

    with monkeypatch.context() as patch:
        patch.setattr(BPR, "calculate_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(resolved, "run")
    assert stored_result(Path("run")) is None
    assert unmeasured(resume("run")) == unmeasured(undisturbed)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BPR, "calculate_loss", lambda model, batch: model.user_embedding.weight.sum() / 0)
    with pytest.raises(NonFiniteError, match=r"epoch 0: BPR: the loss is -?inf; lower the learning rate"):
        train(resolve_train(options(tmp_path, model="BPR")), "run")


def test_a_model_can_be_tested_without_a_folder_of_its_own(tmp_path: Path) -> None:
    resolved = resolve_train(options(tmp_path, model="Pop"))
    folder = train(resolved, "run")
    before = files_of(folder)
    assert evaluate_unsaved(resolved, folder) == evaluate(str(folder))
    assert files_of(folder) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model": "EASI"}, "unknown model 'EASI', expected one of .*did you mean 'EASE'"),
        ({"model": "SASRec"}, "unknown model 'SASRec', expected one of "),
        ({"model": "EASE", "reg_wieght": 1.0}, "reg_wieght: unknown key of EASE; did you mean 'reg_weight'"),
        ({"model": "EASE", "reg_weight": "much"}, r"reg_weight: expected a number, got 'much' \(str\)"),
        ({"model": "ItemKNN", "k": 2.5}, r"k: expected a whole number, got 2.5 \(float\)"),
        (
            {"model": "ItemKNN", "knn_method": "users"},
            r"must be one of 'item', 'user', got 'users'; did you mean 'user'",
        ),
        ({"model": "CDAE", "loss_type": "CE"}, r"loss_type: must be one of 'BCE', 'MSE', got 'CE'"),
        ({"model": "MultiVAE", "mlp_hidden_size": [6.5]}, r"mlp_hidden_size: expected a list, each a whole number"),
        ({"model": "Pop", "n_layers": 2}, "n_layers: unknown key of Pop; it belongs to"),
        ({"model": "BPR", "k": 3}, "k: unknown key of BPR; it belongs to ItemKNN, ADMMSLIM"),
    ],
)
def test_what_recbole_would_take_silently_is_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamError, match=message):
        resolve_train({"dataset": "ml-100k", **overrides})


@each(BASELINES)
def test_every_number_has_a_bound(name: str) -> None:
    hints, entries = get_type_hints(BASELINES[name]), fields(BASELINES[name])
    numbers = {entry.name for entry in entries if {int, float} & {hints[entry.name], *get_args(hints[entry.name])}}
    assert {entry.name for entry in entries if entry.metadata["bounds"]} == numbers == set(BOUNDS.get(name, {}))


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("EASE", "reg_weight", 0, "must be > 0, got 0.0"),
        ("EASE", "reg_weight", -5, "must be > 0, got -5.0"),
        ("NCEPLRec", "rank", 0, "must be >= 1, got 0"),
        ("SLIMElastic", "alpha", -1, "must be >= 0, got -1.0"),
        ("BPR", "embedding_size", -1, "must be >= 1, got -1"),
        ("BPR", "embedding_size", 0, "must be >= 1, got 0"),
        ("MultiVAE", "dropout_prob", 2, "must be < 1, got 2.0"),
        ("MultiVAE", "mlp_hidden_size", [8, 0], r"must be >= 1, got 0 in \[8, 0\]"),
        ("MultiVAE", "latent_dimension", 7, "expected an even number, got 7"),
        ("NGCF", "message_dropout", 1.5, "must be < 1, got 1.5"),
        ("NeuMF", "mlp_hidden_size", [], r"expected at least one size, got \[\]"),
        ("DMF", "user_hidden_size_list", [], r"expected at least one size, got \[\]"),
        ("DMF", "item_hidden_size_list", [8], r"expected the last size of user_hidden_size_list at its end, got \[8\]"),
        ("MacridVAE", "reg_weights", [0.1], r"expected two weights, got \[0.1\]"),
        ("RecVAE", "mixture_weights", [1], r"expected three weights that are not all 0, got \[1.0\]"),
        ("RecVAE", "mixture_weights", [0, 0, 0], r"expected three weights that are not all 0, got \[0.0, 0.0, 0.0\]"),
        ("ItemKNN", "k", 0, "must be >= 1, got 0"),
        ("ItemKNN", "k", -3, "must be >= 1, got -3"),
        ("NeuMF", "use_pretrain", True, r"expected false \(a run starts from its seed, .*\), got True"),
        ("NeuMF", "mf_pretrain_path", "mf.pth", r"expected null \(.*\), got 'mf.pth'"),
        ("NeuMF", "mlp_pretrain_path", "mlp.pth", r"expected null \(.*\), got 'mlp.pth'"),
        ("MultiVAE", "learning_rate", 1e38, r"must be <= 1e\+30, got 1e\+38"),
        ("BPR", "weight_decay", 1e39, r"must be <= 1000000.0, got 1e\+39"),
    ],
)
def test_a_value_that_recbole_cannot_use_is_refused_before_data_are_loaded(
    name: str,
    key: str,
    value: Any,
    message: str,  # noqa: ANN401
) -> None:
    with pytest.raises(ParamError, match=f"{key}: {message}"):
        resolve_train({"model": name, "dataset": "nowhere", key: value})


def test_neumf_needs_one_of_its_parts() -> None:
    with pytest.raises(ParamError, match="mlp_train: expected true where mf_train is false, got False"):
        resolve_train({"model": "NeuMF", "dataset": "nowhere", "mf_train": False, "mlp_train": False})


RATED = [f"u{user}\ti{item}\t{1 + (user + item) % 5}" for user in range(12) for item in range(60) if (user + item) % 3]


def rated(root: Path, **overrides: Any) -> Session:  # noqa: ANN401
    """DMF on interactions with ratings, which it is to read."""
    folder = root / "data" / "planted"
    folder.mkdir(parents=True)
    (folder / "planted.inter").write_text("\n".join(["user_id:token\titem_id:token\trating:float", *RATED]) + "\n")
    return session(root, model="DMF", inter_matrix_type="rating", **overrides)


def test_dmf_reads_ratings(tmp_path: Path) -> None:
    of = rated(tmp_path, load_col={"inter": ["user_id", "item_id", "rating"]})
    found = of.model.interaction_matrix.toarray()
    assert set(found.flatten()) == {0, 1, 2, 3, 4, 5}
    assert ((found > 0) == (counts(of) > 0)).all()


@pytest.mark.parametrize(
    "overrides", [{}, {"load_col": None, "unused_col": {"inter": ["rating"]}}], ids=["not loaded", "dropped"]
)
def test_ratings_that_the_data_do_not_have_are_missed_before_there_is_a_run(
    overrides: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(
        ParamError, match="^inter_matrix_type: got 'rating', .* the data have user_id, item_id; expected"
    ):
        rated(tmp_path, **overrides)


@pytest.mark.parametrize(
    ("raised", "seen", "text"),
    [
        (
            ValueError("two\nlines"),
            TrainingError,
            r"BPR: RecBole's constructor raised ValueError \(two lines\); its keys: ",
        ),
        (RuntimeError("can't allocate memory"), RuntimeError, "can't allocate memory"),
        (MemoryError("all taken"), MemoryError, "all taken"),
    ],
)
def test_what_a_constructor_raises_is_one_error_but_for_memory(
    raised: Exception, seen: type[Exception], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BPR, "__init__", Mock(side_effect=raised))
    with pytest.raises(seen, match=f"^{text}"):
        train(resolve_train(options(tmp_path, model="BPR")), "run")
    assert not Path("run").exists()


@each(["LightGCN", "BPR"])
@pytest.mark.parametrize("learner", ["adam", "adamw", "sgd"])
def test_a_step_with_the_largest_rate_and_decay_can_be_taken(name: str, learner: str, tmp_path: Path) -> None:
    resolved = resolve_train(
        options(tmp_path, model=name, epochs=1, learner=learner, learning_rate=1e30, weight_decay=1e6)
    )
    with pytest.raises(TrainingError):  # the weights that it leaves are another matter
        train(resolved, "run")


def test_a_singular_matrix_is_one_error(tmp_path: Path) -> None:
    found = r"^EASE: RecBole's fit raised LinAlgError \(Singular matrix\); its keys: reg_weight=1e-60$"
    with pytest.raises(TrainingError, match=found):  # 0 in float32
        train(resolve_train(options(tmp_path, model="EASE", reg_weight=1e-60)), "run")


def test_what_recbole_raises_in_the_pass_over_the_interactions_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:  # noqa: ANN401
        raise ValueError("two\nlines")

    monkeypatch.setattr(ItemKNN, "calculate_loss", broken)
    found = r"^ItemKNN: RecBole's fit raised ValueError \(two lines\); its keys: k=100, shrink=0.0, knn_method='item'$"
    with pytest.raises(TrainingError, match=found):
        small(tmp_path, "ItemKNN").model.fit()


def test_memory_that_is_missing_for_a_fit_stays_a_memory_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:  # noqa: ANN401
        raise MemoryError

    monkeypatch.setattr(EASE, "calculate_loss", full)
    with pytest.raises(MemoryError):
        small(tmp_path, "EASE").model.fit()


@each(["EASE", "BPR"])
def test_a_guard_that_needs_our_loop_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ParamError, match="guard_nonfinite: got 'rollback', expected 'raise'"):
        small(tmp_path, name, guard_nonfinite="rollback")


def test_keys_keep_their_types_and_a_whole_number_is_a_number(tmp_path: Path) -> None:
    resolved = resolve_train({"model": "EASE", "dataset": "ml-100k", "reg_weight": 500})
    assert resolved.values["reg_weight"] == 500.0
    assert prepare(resolve_train(options(tmp_path, model="EASE", reg_weight=3))).config["reg_weight"] == 3.0
    assert resolve_train({"model": "EASE", "dataset": "ml-100k"}).origin["reg_weight"] == "RecBole's EASE.yaml"


@pytest.mark.parametrize("kind", ["csr", "csc", "lil", "coo"])
def test_sparse_matrices_survive_as_tensors(kind: str) -> None:
    matrix = scipy.sparse.random(7, 9, 0.4, format=kind, dtype=np.float32, rng=np.random.default_rng(0))
    again = from_plain(to_plain(scipy.sparse.coo_matrix(matrix).asformat(kind)), torch.device("cpu"))
    assert again.format == kind
    assert again.dtype == np.float32
    assert (again.toarray() == matrix.toarray()).all()


@pytest.mark.parametrize("value", [np.arange(6.0).reshape(2, 3), np.asmatrix(np.eye(2)), torch.arange(3), True, 0.5])
def test_arrays_tensors_and_scalars_survive_as_tensors(value: Any) -> None:  # noqa: ANN401
    again = from_plain(to_plain(value), torch.device("cpu"))
    assert isinstance(again, torch.Tensor) == isinstance(value, torch.Tensor)
    assert np.array_equal(np.asarray(again), np.asarray(value))


def test_objects_are_no_state() -> None:
    with pytest.raises(TypeError, match="expected an array, a sparse matrix, a tensor or a scalar, got dict"):
        to_plain({})
