import math
from typing import Any

import pytest

from recmodels.data_params import REFUSED, DataParams
from recmodels.layers import load_layer, properties_root
from recmodels.run_params import METRICS, RunParams


def run_values(**changes: Any) -> dict[str, Any]:
    values = load_layer(properties_root() / "overall.yaml", "overall").values
    return {key: value for key, value in values.items() if key in set(RunParams.keys())} | changes


def run_errors(**changes: Any) -> list[str]:
    return RunParams.read(run_values(**changes))[1]


def data_errors(**changes: Any) -> list[str]:
    values: dict[str, Any] = dict.fromkeys(DataParams.keys())
    values |= {key: key.lower() for key in values if key.endswith("_FIELD")}
    values |= {"field_separator": "\t", "seq_separator": " ", "encoding": "utf-8", "NEG_PREFIX": "neg_"}
    return DataParams.read(values | {"filter_inter_by_user_or_item": True} | changes)[1]


def test_overall_yaml_holds_every_run_key_and_the_encoding() -> None:
    values = load_layer(properties_root() / "overall.yaml", "overall").values
    assert set(values) == {*RunParams.keys(), "encoding"}
    assert RunParams.from_mapping(run_values()).as_values() == run_values()


def test_every_run_and_data_key_says_what_it_means() -> None:
    for cls in (RunParams, DataParams):
        assert all(entry.metadata["doc"] for entry in cls.__dataclass_fields__.values())


def test_recbole_spellings_are_brought_to_one_form() -> None:
    changes = {"metrics": "ndcg", "topk": 20, "valid_metric": "ndcg@20", "gpu_id": 1, "state": "info", "learner": "SGD"}
    run = RunParams.from_mapping(run_values(**changes))
    assert (run.metrics, run.topk, run.valid_metric) == (["NDCG"], [20], "NDCG@20")
    assert (run.gpu_id, run.state, run.learner) == ("1", "INFO", "sgd")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"valid_metric": "NDCG@11"}, ["valid_metric", "'NDCG@11'", "[10, 20, 50]", "'NDCG@10'"]),
        ({"valid_metric": "NDGC@10"}, ["valid_metric", "'NDGC@10'", "did you mean 'NDCG@10'"]),
        ({"valid_metric": "MAP@10"}, ["valid_metric", "'MAP@10'", "['Recall', 'NDCG', 'MRR', 'Hit', 'Precision']"]),
        ({"valid_metric": "NDCG"}, ["valid_metric", "metric@k", "'NDCG'"]),
        ({"metrics": ["AUC"]}, ["metrics", "'AUC'", ", ".join(map(repr, METRICS))]),
        ({"topk": [10, 0]}, ["topk", ">= 1", "got 0"]),
        ({"learner": "sparse_adam"}, ["learner", "sparse_adam", "dense", "'adam'"]),
        ({"learner": "adm"}, ["learner", "'adm'", "did you mean 'adam'"]),
        ({"gpu_id": "0,1"}, ["gpu_id", "'0,1'", "one device", "start one run per device"]),
        ({"gpu_id": "abc"}, ["gpu_id: expected one device, a number like '0', or '' for the CPU, got 'abc'"]),
        ({"gpu_id": "cuda:0"}, ["gpu_id", "'cuda:0'"]),
        ({"gpu_id": -1}, ["gpu_id", "got '-1'"]),
        ({"gpu_id": " 0"}, ["gpu_id", "got ' 0'"]),
        ({"state": "loud"}, ["state", "'LOUD'", "'INFO'"]),
        ({"clip_grad_norm": {"max_norm": 0}}, ["clip_grad_norm.max_norm", "> 0", "got 0"]),
        ({"clip_grad_norm": {"maxnorm": 1, "max_norm": 1}}, ["clip_grad_norm.maxnorm", "did you mean 'max_norm'"]),
        ({"clip_grad_norm": {"max_norm": 1, "norm_type": -1}}, ["clip_grad_norm.norm_type", "-1"]),
        ({"clip_grad_norm": 10}, ["clip_grad_norm", "a mapping or null", "10 (int)"]),
        ({"guard_lr_factor": 1}, ["guard_lr_factor", "< 1"]),
        ({"guard_nonfinite": "rase"}, ["guard_nonfinite", "did you mean 'raise'"]),
        ({"seed": 2**32}, ["seed", f"<= {2**32 - 1}"]),
    ],
)
def test_a_run_problem_names_key_and_remedy(changes: dict[str, Any], parts: list[str]) -> None:
    (problem,) = run_errors(**changes)
    assert [part for part in parts if part not in problem] == []


def test_every_learner_and_infinite_clip_norm_is_accepted() -> None:
    for learner in ("adam", "adamw", "sgd", "adagrad", "rmsprop"):
        assert run_errors(learner=learner, clip_grad_norm={"max_norm": 10, "norm_type": math.inf}) == []


EVAL = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"mode": "uni100"}, ["eval_args.mode", "'uni100'", "do not rank models consistently"]),
        ({"mode": {"valid": "full", "test": "pop50"}}, ["eval_args.mode", "'pop50'", "refused"]),
        ({"mode": "labeled"}, ["eval_args.mode", "'labeled'", "refused"]),
        ({"mode": "ful"}, ["eval_args.mode", "'full'", "'ful'"]),
        ({"split": {"RS": [0.8, 0.2]}}, ["eval_args.split", "three positive ratios", "[0.8, 0.2]"]),
        ({"split": {"RS": [0.8, 0.2, 0]}}, ["eval_args.split", "three positive ratios"]),
        ({"split": {"RX": [8, 1, 1]}}, ["eval_args.split", "'RX'", "'RS', 'LS', 'TS'"]),
        ({"split": {"LS": "valid_only"}}, ["eval_args.split", "'valid_and_test'", "'valid_only'"]),
        ({"split": None}, ["eval_args.split", "None"]),
        ({"split": {"LS": "valid_and_test"}, "group_by": "none"}, ["eval_args.group_by", "LS", "'user'"]),
        ({"split": {"TS": [8, 1, 1]}}, ["eval_args.order", "TS needs 'TO'"]),
        ({"order": "OR"}, ["eval_args.order", "'RO', 'TO'", "'OR'"]),
        ({"group_by": "users"}, ["eval_args.group_by", "did you mean 'user'"]),
        ({"splits": {}}, ["eval_args.splits", "did you mean 'split'"]),
    ],
)
def test_an_evaluation_problem_names_the_inner_key(changes: dict[str, Any], parts: list[str]) -> None:
    (problem,) = run_errors(eval_args=EVAL | changes)
    assert [part for part in parts if part not in problem] == []


def test_the_splits_of_the_field_are_accepted() -> None:
    for changes in (
        {"split": {"RS": [8, 1, 1]}, "group_by": None},
        {"split": {"LS": "valid_and_test"}, "order": "TO"},
        {"split": {"TS": [8, 1, 1]}, "order": "TO"},
        {"mode": {"valid": "full", "test": "full"}},
    ):
        assert run_errors(eval_args=EVAL | changes) == []


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"distribution": "popular"}, ["distribution", "did you mean 'popularity'"]),
        ({"sample_num": 0}, ["sample_num", ">= 1", "got 0"]),
        ({"alpha": 0}, ["alpha", "> 0", "got 0"]),
        ({"dynamic": True}, ["dynamic", "refused", "dynamic: false"]),
        ({"candidate_num": 5}, ["dynamic", "candidate_num: 0"]),
        ({"sample_nun": 2}, ["sample_nun", "did you mean 'sample_num'"]),
    ],
)
def test_a_negative_sampling_problem_names_the_inner_key(changes: dict[str, Any], parts: list[str]) -> None:
    good = {"distribution": "uniform", "sample_num": 1}
    assert run_errors(train_neg_sample_args=good) == []
    (problem,) = run_errors(train_neg_sample_args=good | changes)
    assert problem.startswith("train_neg_sample_args.")
    assert [part for part in parts if part not in problem] == []


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"val_interval": {"rating": 3}}, ["val_interval.rating", "'[3,inf)'", "got 3 (int)"]),
        ({"user_inter_num_interval": "5,inf"}, ["user_inter_num_interval", "'5,inf'"]),
        ({"load_col": {"inter": "user_id"}}, ["load_col.inter", "list of columns", "'user_id'"]),
        ({"encoding": "utf9"}, ["encoding: unknown encoding 'utf9'; did you mean 'utf-8'?"]),
        ({"encoding": "base64"}, ["encoding: unknown encoding 'base64'"]),
        ({"encoding": ""}, ["encoding: unknown encoding ''"]),
        ({"encoding": "x\0"}, ["encoding: unknown encoding"]),
        ({"encoding": "utf-16"}, ["encoding: 'utf-16' does not keep the bytes of ASCII", "utf-8"]),
        ({"field_separator": ""}, ["field_separator: expected a separator", "got ''"]),
        ({"field_separator": '"'}, ["field_separator", "no quote"]),
        ({"seq_separator": ""}, ["seq_separator: expected a separator", "got ''"]),
        ({"NEG_PREFIX": ""}, ["NEG_PREFIX: expected a prefix like 'neg_', got ''", "overwrite the positives"]),
        ({"NEG_PREFIX": "n", "ITEM_ID_FIELD": "ame", "USER_ID_FIELD": "name"}, ["NEG_PREFIX: got 'n'", "'name'"]),
        ({"ITEM_ID_FIELD": "user_id_field"}, ["ITEM_ID_FIELD: expected another column", "'user_id_field' for both"]),
        ({"USER_ID_FIELD": ""}, ["USER_ID_FIELD: expected the name of a column, got ''"]),
        ({"threshold": {"rating": "abc"}}, ["threshold.rating: expected a number, got 'abc' (str)"]),
        ({"threshold": {"rating": True}}, ["threshold.rating", "True (bool)"]),
        ({"threshold": {"rating": 3, "x": 4}}, ["threshold: expected one column"]),
        ({"rm_dup_inter": "frist"}, ["rm_dup_inter", "did you mean 'first'"]),
        ({"benchmark_filename": ["train", "test"]}, ["benchmark_filename", "three suffixes", "['train', 'test']"]),
        ({"benchmark_filename": ["a", "b", "c"], "val_interval": {"r": "[3,inf)"}}, ["val_interval", "unfiltered"]),
        ({"benchmark_filename": ["a", "b", "c"], "item_inter_num_interval": "[5,inf)"}, ["item_inter", "unfiltered"]),
    ],
)
def test_a_data_problem_names_key_and_expected_form(changes: dict[str, Any], parts: list[str]) -> None:
    (problem,) = data_errors(**changes)
    assert [part for part in parts if part not in problem] == []


def test_intervals_and_fixed_splits_of_recbole_are_accepted() -> None:
    assert data_errors(user_inter_num_interval="[5,inf)", val_interval={"rating": "[1,2);(3,5]", "kind": ["a"]}) == []
    assert data_errors(benchmark_filename=["train", "test", "test"], user_inter_num_interval="[0,inf)") == []


def test_run_data_and_refused_keys_are_disjoint() -> None:
    names = [*RunParams.keys(), *DataParams.keys(), *REFUSED]
    assert len(names) == len(set(names))


def test_device_numbers_encodings_and_thresholds_are_accepted() -> None:
    for gpu_id in ("", "0", "13", 2):
        assert run_errors(gpu_id=gpu_id) == []
    for encoding in ("utf-8", "UTF8", "utf-8-sig", "latin-1", "cp1252", "gbk"):
        assert data_errors(encoding=encoding) == []
    assert data_errors(threshold={"rating": 3}, field_separator="::") == []
