import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recbole.evaluator.metrics as recbole_metrics
import scipy.sparse
import torch
import yaml
from recbole.data.interaction import Interaction
from recbole.evaluator import DataStruct
from recbole.model.general_recommender import BPR, LightGCN
from recbole.model.general_recommender import lightgcn as lightgcn_module
from recbole.trainer import Trainer

from recmodels import compat
from recmodels.compat import RecboleConfig, recbole_defaults
from recmodels.data.loading import load_dataset
from recmodels.data.split import split
from recmodels.errors import ParamError

CPU = torch.device("cpu")
ROWS = [(u, i) for u in range(12) for i in range(15) if (3 * u + 5 * i) % 4 != 0]


def values(tmp_path: Path, **more: object) -> dict[str, object]:
    small = {"embedding_size": 4, "n_layers": 1, "reg_weight": 0.0, "epochs": 2, "train_batch_size": 64}
    folders = {"dataset": "toy", "data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved")}
    return folders | small | {"eval_batch_bytes": 1 << 16, "show_progress": False} | more


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data" / "toy").mkdir(parents=True)
    (tmp_path / "cwd").mkdir()
    lines = ["user_id:token\titem_id:token", *(f"u{u}\ti{i}" for u, i in ROWS)]
    (tmp_path / "data" / "toy" / "toy.inter").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(sys, "argv", ["x", "--learning_rate=9", "--seed=7"])
    return tmp_path / "data"


def test_a_fresh_process_loads_neither_ray_nor_hyperopt_nor_pkg_resources_and_leaves_libraries_alone() -> None:
    code = (
        "import numpy, scipy.sparse, pandas, torch, yaml, sys, os\n"
        "loaders = torch.load, torch.save, pandas.read_csv\n"
        "before = hasattr(numpy, 'float'), hasattr(scipy.sparse.dok_matrix, '_update')\n"
        "resolvers = {k: list(v) for k, v in yaml.FullLoader.yaml_implicit_resolvers.items()}\n"
        "visible = os.environ.get('CUDA_VISIBLE_DEVICES')\n"
        "import recmodels.compat, recmodels.data.split, recmodels.data.loading, recmodels.data.evaluation\n"
        "assert not {'ray', 'hyperopt', 'pkg_resources', 'recbole.quick_start'} & set(sys.modules)\n"
        "assert before == (hasattr(numpy, 'float'), hasattr(scipy.sparse.dok_matrix, '_update'))\n"
        "assert loaders == (torch.load, torch.save, pandas.read_csv)\n"
        "assert resolvers == {k: list(v) for k, v in yaml.FullLoader.yaml_implicit_resolvers.items()}\n"
        "assert visible == os.environ.get('CUDA_VISIBLE_DEVICES')\n"
        "print('clean')"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(compat.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "clean", done.stderr


def test_applying_the_shims_twice_equals_once() -> None:
    first = recbole_metrics.np.__dict__["__getattr__"].args[0]
    compat.apply()
    assert recbole_metrics.np.__dict__["__getattr__"].args[0] is first is np
    assert recbole_metrics.np.float is float
    assert recbole_metrics.np.cumsum is np.cumsum


def test_every_recbole_module_that_names_a_removed_numpy_alias_has_the_stand_in() -> None:
    root = Path(sys.modules["recbole"].__file__).parent
    alias = re.compile(r"np\.(float|int|bool|object|str|complex|long|unicode)\b")
    unused = {"config.configurator", "trainer.hyper_tuning", "model.context_aware_recommender.ffm"}
    paths = [path for path in root.rglob("*.py") if alias.search(path.read_text(encoding="utf-8"))]
    named = {".".join(path.relative_to(root).with_suffix("").parts) for path in paths}
    assert {f"recbole.{name}" for name in named - unused} == set(compat.NUMPY_MODULES)


def test_ranking_metrics_that_need_numpy_aliases_agree_with_a_loop() -> None:
    hits, n_positive = np.array([[0, 1, 1], [1, 0, 0]]), np.array([2, 5])
    data = DataStruct()
    data.set("rec.topk", torch.tensor(np.hstack([hits, n_positive[:, None]])))
    config = {"metric_decimal_place": 17, "topk": [3]}
    gains = 1 / np.log2([2, 3, 4])
    expected = np.mean([(gains * hits[u]).sum() / gains[: min(3, n_positive[u])].sum() for u in range(2)])
    assert recbole_metrics.NDCG(config).calculate_metric(data)["ndcg@3"] == pytest.approx(expected, abs=1e-15)
    assert recbole_metrics.MRR(config).calculate_metric(data)["mrr@3"] == pytest.approx(0.75, abs=1e-15)
    average_precision = [(1 / 2 + 2 / 3) / 2, 1 / 3]
    assert recbole_metrics.MAP(config).calculate_metric(data)["map@3"] == pytest.approx(np.mean(average_precision))


def test_an_interaction_can_be_made_of_lists() -> None:
    assert Interaction({"user_id": [1, 2]})["user_id"].tolist() == [1, 2]


def test_the_updatable_matrix_holds_exactly_its_dictionary() -> None:
    cells = {(0, 3): 1.0, (2, 1): 5.0, (np.int32(1), np.int64(0)): 2.0}
    matrix = lightgcn_module.sp.dok_matrix((3, 4), dtype=np.float32)
    matrix._update(cells)
    expected = np.zeros((3, 4), dtype=np.float32)
    for (row, column), value in cells.items():
        expected[row, column] = value
    np.testing.assert_array_equal(matrix.toarray(), expected)
    assert scipy.sparse.coo_matrix(matrix).nnz == 3
    empty = lightgcn_module.sp.dok_matrix((2, 2))
    empty._update({})
    assert empty.nnz == 0


def test_recbole_light_gcn_has_the_normalized_adjacency_of_its_training_part(folder: Path) -> None:
    config = RecboleConfig(values(folder), LightGCN, CPU)
    train = split(config, load_dataset(config), 1).train.dataset
    model = LightGCN(config, train)
    dense = np.zeros((train.user_num + train.item_num,) * 2)
    for user, item in zip(train.inter_feat["user_id"], train.inter_feat["item_id"], strict=True):
        dense[user, train.user_num + item] = dense[train.user_num + item, user] = 1
    degrees = dense.sum(1) + 1e-7
    expected = dense / np.sqrt(degrees[:, None] * degrees[None])
    np.testing.assert_allclose(model.norm_adj_matrix.to_dense().numpy(), expected, atol=1e-6, rtol=0)


def test_a_checkpoint_of_recboles_trainer_loads_without_running_code(folder: Path) -> None:
    config = RecboleConfig(values(folder), BPR, CPU)
    splits = split(config, load_dataset(config), 1)
    trainer = Trainer(config, BPR(config, splits.train.dataset))
    trainer.fit(splits.train, splits.valid, show_progress=False)
    state = torch.load(trainer.saved_model_file, weights_only=True)
    assert state["config"]["model"] == "BPR"
    best = {name: weight.clone() for name, weight in state["state_dict"].items()}
    with torch.no_grad():
        trainer.model.user_embedding.weight.zero_()
    trainer.evaluate(splits.test, load_best_model=True, show_progress=False)
    torch.testing.assert_close(trainer.model.state_dict(), best, rtol=0, atol=0)
    trainer.resume_checkpoint(trainer.saved_model_file)
    assert trainer.start_epoch == state["epoch"] + 1


def test_a_pickled_object_in_a_checkpoint_is_refused_by_recboles_trainer(folder: Path, tmp_path: Path) -> None:
    config = RecboleConfig(values(folder), BPR, CPU)
    splits = split(config, load_dataset(config), 1)
    trainer = Trainer(config, BPR(config, splits.train.dataset))
    torch.save({"config": Path("x")}, tmp_path / "foreign.pth")
    with pytest.raises(Exception, match="Weights only load failed"):
        trainer.resume_checkpoint(tmp_path / "foreign.pth")


def test_counting_metrics_of_a_trained_model_agree_with_its_lists(folder: Path) -> None:
    metrics = ["ItemCoverage", "AveragePopularity", "GiniIndex", "TailPercentage", "Recall"]
    config = RecboleConfig(values(folder, metrics=metrics, topk=3, valid_metric="Recall@3"), BPR, CPU)
    splits = split(config, load_dataset(config), 1)
    trainer = Trainer(config, BPR(config, splits.train.dataset))
    trainer.eval_collector.data_collect(splits.train)
    results = [trainer.evaluate(splits.test, load_best_model=False, show_progress=False) for _ in range(2)]
    assert results[0] == results[1]
    assert 3 / 16 <= results[0]["itemcoverage@3"] <= 1


def test_a_trainer_writes_nothing_into_the_working_directory(folder: Path) -> None:
    config = RecboleConfig(values(folder), BPR, CPU)
    splits = split(config, load_dataset(config), 1)
    trainer = Trainer(config, BPR(config, splits.train.dataset))
    trainer.fit(splits.train, splits.valid, saved=False, show_progress=False)
    assert list(Path.cwd().iterdir()) == []


def test_sequences_are_read_as_recbole_reads_them_with_and_without_copy_on_write(tmp_path: Path) -> None:
    path = tmp_path / "toy.item"
    path.write_text("item_id:token\tclass:token_seq\tprice:float\na\tx y\t0.1\nb\t\t1e-3\nc\tz\t\n")
    options = {"delimiter": "\t", "usecols": ["item_id:token", "class:token_seq", "price:float"], "encoding": "utf-8"}
    options["dtype"] = {"item_id:token": str, "class:token_seq": str, "price:float": np.float64}
    expected = pd.read_csv(path, engine="python", **options)
    for copy_on_write in (False, True):
        with pd.option_context("mode.copy_on_write", copy_on_write):
            frame = compat.read_atomic(str(path), engine="python", **options)
        assert frame["class:token_seq"].tolist() == ["x y", "", "z"]
        pd.testing.assert_frame_equal(frame.drop(columns="class:token_seq"), expected.drop(columns="class:token_seq"))


def test_the_length_of_a_column_of_sequences_is_the_length_of_each() -> None:
    column = pd.Series([np.array([1, 2]), np.array([]), np.array([3])])
    assert compat.length(column).tolist() == [2, 0, 1]
    assert compat.length(pd.DataFrame({"a": [1, 2, 3]})) == 3
    assert compat.length([1, 2]) == 2


def test_defaults_are_those_of_recboles_two_files_and_each_call_gives_a_fresh_copy() -> None:
    defaults = recbole_defaults()
    assert (defaults["learning_rate"], defaults["USER_ID_FIELD"], defaults["worker"]) == (0.001, "user_id", 0)
    defaults["eval_args"]["split"]["RS"][0] = 99
    assert recbole_defaults()["eval_args"]["split"]["RS"] == [0.8, 0.1, 0.1]


def test_a_configuration_takes_only_what_it_is_given(tmp_path: Path, folder: Path) -> None:
    (Path.cwd() / "BPR.yaml").write_text(yaml.safe_dump({"learning_rate": 8}))
    before, visible = dict(vars(np)), os.environ.get("CUDA_VISIBLE_DEVICES")
    given = values(folder, note="__import__('os').getpid()", topk=[5, 3], metrics="Recall", valid_metric="recall@5")
    config = RecboleConfig(given, BPR, CPU)
    assert config["learning_rate"] == 0.001
    assert config["seed"] == 2020
    assert config["note"] == "__import__('os').getpid()"
    assert config["embedding_size"] == 4
    assert (config["topk"], config["metrics"], config["valid_metric_bigger"]) == ([5, 3], ["Recall"], True)
    assert config["data_path"] == str(folder / "toy")
    assert config["device"] == CPU
    assert (config["single_spec"], config["local_rank"], config["use_gpu"]) == (True, 0, False)
    assert config["train_neg_sample_args"]["distribution"] == "uniform"
    assert config["test_neg_sample_args"] == {"distribution": "uniform", "sample_num": "none"}
    assert config["eval_args"]["mode"] == {"valid": "full", "test": "full"}
    assert dict(vars(np)) == before
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible
    assert "BPR" in str(config.model)


def test_a_configuration_does_not_change_the_values_it_is_given(folder: Path) -> None:
    given = values(folder, train_neg_sample_args={"distribution": "popularity"}, topk=5)
    RecboleConfig(given, BPR, CPU)
    assert given["train_neg_sample_args"] == {"distribution": "popularity"}
    assert given["topk"] == 5


def test_an_unknown_metric_and_a_missing_dataset_are_named_with_the_nearest_choice(folder: Path) -> None:
    with pytest.raises(ParamError, match="unknown 'Recal'; did you mean 'recall'"):
        RecboleConfig(values(folder, metrics=["Recal"]), BPR, CPU)
    with pytest.raises(ParamError, match="dataset: got None"):
        RecboleConfig(values(folder, dataset=None), BPR, CPU)
    with pytest.raises(ParamError, match="topk must be a positive integer"):
        RecboleConfig(values(folder, topk=[0]), BPR, CPU)
