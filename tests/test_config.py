from ast import literal_eval
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from recmodels import models
from recmodels.config import resolve
from recmodels.data_params import REFUSED, DataParams
from recmodels.errors import ParamError
from recmodels.layers import load_layer, properties_root
from recmodels.params import Params, param
from recmodels.plain_yaml import dump_yaml
from recmodels.run_params import RunParams


@dataclass(frozen=True)
class Plain(Params):
    embedding_size: int = param(ge=1)
    n_layers: int = param(ge=1)
    reg_weight: float = param(ge=0)
    require_pow: bool = param()
    init: str = param()
    bpr_weight: float = param(ge=0)


@dataclass(frozen=True)
class Contrast(Plain):
    ssl_temp: float = param(gt=0)


MODELS: dict[str, type[Params]] = {"LightGCN": Plain, "Contrast": Contrast}
SHIPPED = {name: model.Params for name, model in models.MODELS.items()}
NAMES = {"model": "LightGCN", "dataset": "ml-100k"}


def failure(source: Any) -> list[str]:
    with pytest.raises(ParamError) as caught:
        resolve(source, MODELS)
    return str(caught.value).splitlines()


TEXTS = st.text(max_size=8) | st.sampled_from(
    ["1e-4", "1E5", ".5", "yes", "~", "010", "1:30", "2020-01-01", "<<", "\t"]
)


def test_every_layer_is_read_in_order_and_remembered(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("epochs: 5\nseed: 1\nweight_decay: 1\n")
    second.write_text("epochs: 6\nseed: 2\n")
    found = resolve([f"--config_files={first},{second}", "-m", "LightGCN", "-d", "ml-100k", "--seed=3"], MODELS)
    assert (found.run.weight_decay, found.run.epochs, found.run.seed) == (1.0, 6, 3)
    assert (found.model, found.dataset, found.params.as_values()["n_layers"]) == ("LightGCN", "ml-100k", 2)
    assert found.data.val_interval == {"rating": "[3,inf)"}
    keys = ("seq_separator", "learner", "n_layers", "val_interval", "weight_decay", "epochs", "seed")
    assert [found.origin[key] for key in keys] == [
        "RecBole's sample.yaml",
        "properties/overall.yaml",
        "properties/model/LightGCN.yaml",
        "properties/dataset/ml-100k.yaml",
        str(first),
        str(second),
        "command line",
    ]


def test_a_component_gives_a_model_the_keys_it_has_and_no_others() -> None:
    found = resolve({"model": "NCL", "dataset": "ml-100k"}, SHIPPED)
    assert found.origin["rec_loss"] == "properties/component/ranking.yaml"
    assert "rec_loss" not in resolve(NAMES, MODELS).values


def test_a_shipped_preset_is_a_configuration_file_unless_there_is_a_file_of_its_name() -> None:
    found = resolve(["--config_files=DirectAU", "--dataset=ml-100k", "--directau_gamma=2"], SHIPPED)
    assert (found.model, found.values["rec_loss"], found.values["directau_gamma"]) == ("LightGCN", "directau", 2.0)
    assert found.origin["rec_loss"] == "properties/preset/DirectAU.yaml"
    with pytest.raises(ParamError, match="shipped presets: .*; did you mean 'DirectAU'"):
        resolve(["--config_files=DirectAu", "--dataset=ml-100k"], SHIPPED)
    Path("DirectAU").write_text("model: NCL\n")
    assert resolve(["--config_files=DirectAU", "--dataset=ml-100k"], SHIPPED).model == "NCL"


@pytest.mark.parametrize("name", sorted(f.name.removesuffix(".yaml") for f in (properties_root() / "preset").iterdir()))
def test_every_shipped_preset_resolves_and_decides_its_keys(name: str) -> None:
    given = load_layer(properties_root() / "preset" / f"{name}.yaml", name).values
    model = [] if "model" in given else ["--model=NCL_OT"]  # a preset without a model is for all with an encoder
    found = resolve([f"--config_files={name}", "--dataset=ml-1m", *model], SHIPPED)
    assert {key: found.values[key] for key in given if key != "model"} == {
        k: v for k, v in given.items() if k != "model"
    }
    assert {found.origin[key] for key in given if key != "model"} == {f"properties/preset/{name}.yaml"}


def test_values_are_every_key_of_model_run_and_data() -> None:
    found = resolve(NAMES, MODELS)
    assert set(found.values) == {*Plain.keys(), *RunParams.keys(), *DataParams.keys()}
    assert set(found.origin) >= set(found.values)


def test_the_protocol_is_the_default() -> None:
    run = resolve(NAMES | {"dataset": "ml-1m-r3"}, MODELS).run
    assert run.eval_args == {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}
    assert (run.train_batch_size, run.valid_metric, run.topk) == (4096, "NDCG@10", [10, 20, 50])
    assert (run.seed, run.split_seed, run.stopping_step) == (2020, 2020, 10)
    assert resolve(NAMES | {"dataset": "ml-100k"}, MODELS).run.train_batch_size == 1024


def test_an_unknown_data_set_gets_recboles_formats() -> None:
    sample = yaml.safe_load((files("recbole") / "properties/dataset/sample.yaml").read_text(encoding="utf-8"))
    values = resolve(NAMES | {"dataset": "mine"}, MODELS).values
    assert {key: values[key] for key in sample if key not in REFUSED} == {
        key: value for key, value in sample.items() if key not in REFUSED
    }


def test_every_data_key_of_recbole_is_read_or_refused() -> None:
    root = files("recbole")
    sample = yaml.safe_load((root / "properties/dataset/sample.yaml").read_text(encoding="utf-8"))
    source = (root / "utils/argument_list.py").read_text(encoding="utf-8")
    listed = literal_eval(source.partition("dataset_arguments =")[2].strip())
    known = {*DataParams.keys(), *REFUSED}
    assert {*sample, *listed} - known == set()
    assert {*DataParams.keys()} - {*sample} == {"encoding"}


def test_every_training_key_of_recbole_is_read_or_refused() -> None:
    overall = yaml.safe_load((files("recbole") / "properties/overall.yaml").read_text(encoding="utf-8"))
    assert set(overall) - {*RunParams.keys(), *REFUSED} == {"require_pow"}  # a parameter of the models


def test_the_defaults_of_recbole_ask_for_nothing_refused() -> None:
    root = files("recbole") / "properties"
    given = [
        yaml.safe_load((root / name).read_text(encoding="utf-8")) for name in ("overall.yaml", "dataset/sample.yaml")
    ]
    defaults = given[0] | given[1]
    assert [key for key in REFUSED if key in defaults and defaults[key] not in REFUSED[key].inert] == []


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("worker", 4, ["worker: 4 is refused", "random streams"]),
        ("nproc", 2, ["nproc: 2 is refused", "one run per device"]),
        ("ip", "10.0.0.1", ["ip: '10.0.0.1' is refused"]),
        ("save_dataset", True, ["save_dataset: True is refused", "pickles run code"]),
        ("dataloaders_save_path", "x.pth", ["dataloaders_save_path: 'x.pth' is refused", "pickles run code"]),
        ("checkpoint_dir", "out", ["checkpoint_dir: 'out' is refused", "--runs_dir", "--run_dir"]),
        ("log_wandb", True, ["log_wandb: True is refused", "curves.csv"]),
        ("transform", "mask_itemseq", ["transform: 'mask_itemseq' is refused"]),
        ("valid_metric_bigger", False, ["valid_metric_bigger: False is refused", "follows from valid_metric"]),
        ("neg_sampling", {"uniform": 1}, ["neg_sampling", "is refused", "train_neg_sample_args"]),
        ("MAX_ITEM_LIST_LENGTH", 20, ["MAX_ITEM_LIST_LENGTH: 20 is refused", "sequential"]),
        ("epoch", 3, ["epoch: unknown key of LightGCN", "did you mean 'epochs'?"]),
        ("workers", 3, ["workers: unknown key of LightGCN", "did you mean 'worker'?"]),
        ("ssl_temp", 0.1, ["ssl_temp: unknown key of LightGCN; it belongs to Contrast"]),
        ("qqqq", 1, ["qqqq: unknown key of LightGCN (from"]),
        ("learning_rate", 0, ["learning_rate: must be > 0, got 0.0"]),
        ("n_layers", "three", ["n_layers: expected a whole number, got 'three' (str)"]),
    ],
)
def test_a_bad_key_is_named_with_layer_and_remedy(key: str, value: Any, parts: list[str], tmp_path: Path) -> None:
    (message,) = failure(NAMES | {key: value})
    assert [part for part in [*parts, "(from overrides)"] if part not in message] == []
    file = tmp_path / "run.yaml"
    file.write_text(dump_yaml({key: value}))
    (message,) = failure(NAMES | {"config_files": [file]})
    assert [part for part in [*parts, f"(from {file})"] if part not in message] == []


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_a_refused_key_is_accepted_while_it_asks_for_nothing(key: str) -> None:
    for value in REFUSED[key].inert:
        assert resolve(NAMES | {key: value}, MODELS) == resolve(NAMES, MODELS)


def test_problems_of_all_kinds_come_in_one_message(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: 1\na: 2\n")
    argv = ["-m", "LightGCN", "-d", "ml-100k", "junk", f"--config_files={broken},{tmp_path}/none.yaml", "--worker=1"]
    lines = failure([*argv, "--epoch=1", "--n_layers=0", "--seed=x", "--valid_metric=NDCG@11", "--load_col=3"])
    found = [line.removeprefix("  - ").partition(":")[0] for line in lines[1:]]
    assert lines[0] == "configuration: 10 problems"
    assert found[:3] == ["junk", "config_files", "config_files"]
    assert sorted(found[3:]) == ["a", "epoch", "load_col", "n_layers", "seed", "valid_metric", "worker"]
    assert f"{broken}, line 2: key 'a' appears twice" in lines[2]
    assert f"{tmp_path}/none.yaml: cannot be read" in lines[3]


def test_an_inner_key_is_traced_to_the_layer_that_set_it(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("eval_args: {mode: uni100}\n")
    (message,) = failure(NAMES | {"config_files": str(file), "eval_args": {"order": "RO"}})
    assert message.startswith("configuration: eval_args.mode: 'uni100' is refused")
    assert message.endswith(f"(from {file})")


def test_model_and_data_set_must_be_known_names() -> None:
    assert failure([]) == [
        "configuration: 2 problems",
        "  - model: no value; write --model=NAME with one of LightGCN, Contrast",
        "  - dataset: no value; write --dataset=NAME",
    ]
    (message,) = failure(["--model=lightgcn", "--dataset=x"])
    assert message == (
        "configuration: model: unknown model 'lightgcn', expected one of LightGCN, Contrast; did you mean 'LightGCN'?"
    )
    (message,) = failure(["--model=LightGCN", "--dataset=../x"])
    assert message == "configuration: dataset: expected the name of a folder, got '../x'; its parent is data_path"


def test_keys_are_still_checked_when_the_model_is_unknown() -> None:
    found = failure(["--model=X", "--dataset=x", "--ssl_temp=1", "--epoch=1", "--seed=-1"])[1:]
    assert [line.removeprefix("  - ").partition(":")[0] for line in found] == ["model", "epoch", "seed"]


def test_a_value_that_no_layer_gives_is_missing() -> None:
    (*_, line) = failure({"model": "Contrast", "dataset": "x", "embedding_size": 1, "n_layers": 1, "reg_weight": 0,
                          "require_pow": False, "init": "normal", "bpr_weight": 1})  # fmt: skip
    assert line == "configuration: ssl_temp: no value, expected a number"


def test_a_configuration_file_cannot_name_further_ones(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("config_files: other.yaml\n")
    (message,) = failure(NAMES | {"config_files": file})
    assert "config_files: a configuration file cannot name further ones" in message


def test_an_order_in_time_needs_the_time_column() -> None:
    (message,) = failure(NAMES | {"eval_args": {"order": "TO"}})
    assert message.startswith("configuration: load_col.inter: eval_args.order 'TO' needs the column 'timestamp'")
    columns = {"inter": ["user_id", "item_id", "rating", "timestamp"]}
    assert resolve(NAMES | {"eval_args": {"order": "TO"}, "load_col": columns}, MODELS).data.load_col == columns


OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "learning_rate": st.floats(1e-12, 1e3) | st.integers(1, 5),
        "weight_decay": st.floats(0, 1),
        "init": TEXTS,
        "field_separator": st.sampled_from(["\t", ",", "::", "~", "1e-4"]),
        "require_pow": st.booleans(),
        "clip_grad_norm": st.none() | st.fixed_dictionaries({"max_norm": st.floats(1e-3, 1e3)}),
        "eval_args": st.fixed_dictionaries({"split": st.just({"RS": [7, 1, 2]}), "group_by": st.just("none")}),
        "train_neg_sample_args": st.fixed_dictionaries({}, optional={"sample_num": st.integers(1, 4)}),
        "val_interval": st.none() | st.just({"rating": "(1,5];[7,inf)"}),
        "topk": st.permutations([10, 20, 30]) | st.just(10),
        "eval_batch_size": st.none() | st.integers(1, 10**9),
    },
)  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(OVERRIDES)
def test_a_dump_resolves_to_equal_values(tmp_path_factory: pytest.TempPathFactory, overrides: dict[str, Any]) -> None:
    found = resolve(NAMES | overrides, MODELS)
    file = tmp_path_factory.getbasetemp() / "config.yaml"
    file.write_text(found.dump(), encoding="utf-8")
    assert found.dump().startswith("model: LightGCN\ndataset: ml-100k\n")
    assert resolve([f"--config_files=[{dump_yaml({'x': str(file)})[3:].strip()}]"], MODELS) == found
    assert resolve(NAMES | found.values, MODELS) == found


def test_recbole_is_told_everything_but_a_null_batch_size() -> None:
    told = resolve(NAMES | {"runs_dir": "here"}, MODELS).recbole_values()
    assert (told["model"], told["dataset"], told["checkpoint_dir"]) == ("LightGCN", "ml-100k", "here")
    assert "eval_batch_size" not in told
    assert resolve(NAMES | {"eval_batch_size": 9}, MODELS).recbole_values()["eval_batch_size"] == 9
    told["eval_args"]["split"].clear()
    assert resolve(NAMES, MODELS).run.eval_args["split"] == {"RS": [0.8, 0.1, 0.1]}


def test_every_shipped_yaml_has_one_comment_per_key() -> None:
    root = properties_root()
    folders = [root / part for part in ("component", "model", "preset", "dataset")]
    shipped = [root / "overall.yaml", *(file for folder in folders for file in folder.iterdir())]
    for file in shipped:
        keys = load_layer(file, file.name).values
        lines = file.read_text(encoding="utf-8").splitlines()
        for key in keys:
            (line,) = [line for line in lines if line.startswith(f"{key}:")]
            index = lines.index(line)
            assert " # " in line or lines[index - 1].startswith("#"), f"{file.name}: {key} has no comment"


@pytest.mark.parametrize("dataset", ["ml-100k", "ml-1m", "ml-1m-r3", "gowalla"])
def test_every_shipped_data_set_resolves(dataset: str) -> None:
    found = resolve(NAMES | {"dataset": dataset}, MODELS)
    assert found.origin["load_col"] == f"properties/dataset/{dataset}.yaml"


def test_a_data_path_that_holds_the_data_set_is_absolute_and_any_other_stays(tmp_path: Path) -> None:
    Path("here/mine").mkdir(parents=True)
    found = resolve(NAMES | {"dataset": "mine", "data_path": "here/../here"}, MODELS)
    assert found.run.data_path == found.values["data_path"] == str(tmp_path / "here")
    assert f"data_path: {tmp_path / 'here'}\n" in found.dump()
    assert resolve(NAMES | {"dataset": "other", "data_path": "here"}, MODELS).run.data_path == "here"
    assert resolve(NAMES, MODELS).run.data_path == "dataset/"


def test_every_shipped_data_set_has_its_layer():
    """A clone without these files trains on other data than the documents say."""
    names = {file.name for file in (properties_root() / "dataset").iterdir()}
    assert names >= {"ml-100k.yaml", "ml-1m.yaml", "ml-1m-r3.yaml", "gowalla.yaml"}
    assert resolve(NAMES | {"dataset": "ml-100k"}, MODELS).data.val_interval == {"rating": "[3,inf)"}
