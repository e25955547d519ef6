"""Space files: what they mean, and that everything wrong with one is said at once."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recmodels.config import Resolved
from recmodels.errors import ParamError
from recmodels.experiments.session import PARAMS, resolve_train
from recmodels.layers import properties_root
from recmodels.models import MODELS
from recmodels.tuning.space import Choices, Range, Space, read_part
from recmodels.tuning.space_file import load_space

GOOD = """\
learning_rate: {low: 1e-4, high: 1e-1, log: true}
embedding_size: {low: 8, high: 32, step: 8}
reg_weight: {low: 0, high: 1}
rec_loss: [bpr, softmax]
n_layers: 3
topk: [[5, 10]]
valid_metric: NDCG@10
enqueue: [{learning_rate: 0.01, rec_loss: softmax}, {reg_weight: 1}]
"""


def load(text: str, given: dict[str, Any] | None = None, model: str = "LightGCN") -> Space:
    Path("space.yaml").write_text(text)
    return load_space("space.yaml", base(given, model), given or {})


def base(given: dict[str, Any] | None = None, model: str = "LightGCN") -> Resolved:
    return resolve_train({"model": model, "dataset": "ml-100k", **(given or {})})


def problems(text: str, given: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(ParamError) as caught:
        load(text, given)
    message = str(caught.value)
    if "\n" not in message:
        return [message.removeprefix("space.yaml: ")]
    head, *found = message.split("\n  - ")
    assert head == f"space.yaml: {len(found)} problems"
    return found


def test_lists_are_choices_mappings_ranges_and_the_rest_is_fixed() -> None:
    assert load(GOOD) == Space(
        {
            "learning_rate": Range(1e-4, 1e-1, log=True),
            "embedding_size": Range(8, 32, step=8),
            "reg_weight": Range(0.0, 1.0),
            "rec_loss": Choices(("bpr", "softmax")),
        },
        {"n_layers": 3, "topk": [5, 10], "valid_metric": "NDCG@10"},
        ({"learning_rate": 0.01, "rec_loss": "softmax"}, {"reg_weight": 1}),
    )


def own_values(model: str) -> dict[str, Any]:
    """LightGCL's own edge dropout excludes that of the preset."""
    return {"dropout": 0} if model == "LightGCL" else {}


def test_shipped_spaces_are_valid_and_found_by_the_name_of_their_model() -> None:
    names = [file.name.removesuffix(".yaml") for file in (properties_root() / "space").iterdir()]
    assert names
    for name in names:
        model, _, preset = name.partition("-")
        if model not in MODELS:  # of any model, beside the preset of its comment
            for each in MODELS:
                assert load_space(name, base({"config_files": ["softmax"], **own_values(each)}, each), {}).searched
            continue
        given = base({"config_files": [preset], **own_values(model)} if preset else {}, model)
        assert len(load_space(name, given, {}).searched) > 1
    with pytest.raises(
        ParamError, match=r"^LightGCM: cannot be read: .*; shipped spaces: LightGCL-softmax, LightGCN, .*; did you mean"
    ):
        load_space("LightGCM", base(), {})


def test_a_range_has_the_type_of_its_key() -> None:
    space = load(GOOD)
    whole = {key: part.is_whole for key, part in space.searched.items() if isinstance(part, Range)}
    assert whole == {"learning_rate": False, "embedding_size": True, "reg_weight": False}


def test_the_command_line_wins_over_fixed_values() -> None:
    assert load(GOOD, {"n_layers": 2}).fixed == {"topk": [5, 10], "valid_metric": "NDCG@10"}


def test_every_error_of_a_space_file_is_told_at_once() -> None:
    text = """\
learning_rat: [0.1, 0.2]
learning_rate: {low: 0.1, high: -0.01, log: true}
reg_weight: {low: 0, high: 1, log: true}
embedding_size: {low: 8.5, high: 16}
n_layers: [0, 1, 1]
require_pow: []
rec_loss: [bpr, sofmax]
rec_similarity: {low: 1, high: 2}
rec_temperature: {lo: 0.1, high: '1', log: 1}
agg_ego_share: {low: 0.5, high: 1.5, step: 0.25}
agg_target_exponent: {low: 0, high: 1, step: 0.3}
weight_decay: {low: 0.1, high: 1, step: 0.1, log: true}
bsl_ratio: {low: 1, high: 2, step: -1}
bpr_weight: -1
seed: [1, 2]
split_seed: {low: 1, high: 9}
data_path: [a, b]
runs_dir: [a, b]
valid_metric: [NDCG@10, Recall@10]
train_batch_size: [128, 256]
ot_weight: [1, 2]
dataset: ml-100k
epochs: 3
stopping_step: {low: 2, high: 10, step: 4}
enqueue:
  - {stopping_step: 3, epochs: 4}
  - {stopping_step: 20, learning_rte: 1}
  - {stopping_step: 2.0}
  - {rec_loss: bpl}
  - {}
  - {stopping_step: 2.0}
"""
    luck = "the best of several seeds is luck; fix it here, and repeat the winner with other seeds"
    data = "trials on different data or splits cannot be compared; fix it, or make one study for each value"
    assert problems(text, {"train_batch_size": 64}) == [
        "learning_rat: unknown key of LightGCN; did you mean 'learning_rate'?",
        f"seed: cannot be searched: {luck}",
        f"split_seed: cannot be searched: {data}",
        f"data_path: cannot be searched: {data}",
        "runs_dir: cannot be searched: it decides no result; fix it",
        "valid_metric: cannot be searched: trials measured differently cannot be compared; fix it",
        "train_batch_size: searched here and given on the command line as 64; keep one",
        f"ot_weight: unknown key of LightGCN; it belongs to {', '.join(m for m in PARAMS if has(m, 'ot_weight'))}",
        "dataset: it is the same in every trial; give it to the command, as --dataset=NAME",
        "learning_rate: low must be below high, got low 0.1 and high -0.01",
        "reg_weight: low must be > 0 where log is true, got 0",
        "embedding_size: low expected a whole number, got 8.5 (float)",
        "n_layers: the choice 1 is there twice; keep one",
        "require_pow: no choices; write at least two values, or one without brackets to fix it",
        "rec_similarity: takes a string, got the range {'low': 1, 'high': 2}; write a list of choices",
        "rec_temperature: unknown field 'lo', expected low, high, log, step; did you mean 'low'?",
        "rec_temperature: no field 'low'; a range needs low and high",
        "rec_temperature: high expected a number, got '1' (str)",
        "rec_temperature: log expected true or false, got 1 (int)",
        "agg_target_exponent: steps of 0.3 from 0 end at 0.9, got high 1",
        "weight_decay: log and step exclude each other, got log: true and step: 0.1; leave one out",
        "bsl_ratio: step must be > 0, got -1",
        "bpr_weight: must be >= 0, got -1.0",
        "n_layers: must be >= 1, got 0",
        "learning_rate: must be > 0, got -0.01",
        "rec_loss: must be one of 'bpr', 'softmax', 'sampled_softmax', 'bsl', 'slk', 'directau', got 'sofmax'; "
        "did you mean 'softmax'?",
        "agg_ego_share: must be <= 1, got 1.5",
        "enqueue, setting 1: stopping_step: must be 2 plus steps of 4, got 3; the nearest is 2",
        "enqueue, setting 1: epochs: is fixed to 3; leave it out, or give it a list of choices",
        "enqueue, setting 2: stopping_step: must be from 2 to 10, got 20; the nearest is 10",
        "enqueue, setting 2: learning_rte: is not searched; did you mean 'learning_rate'?",
        "enqueue, setting 3: stopping_step: expected a whole number, got 2.0 (float)",
        "enqueue, setting 4: rec_loss: must be one of 'bpr', 'sofmax', got 'bpl'; did you mean 'bpr'?",
        "enqueue, setting 5: is empty; leave it out",
        "enqueue, setting 6: is there twice; leave it out",
        "enqueue, setting 6: stopping_step: expected a whole number, got 2.0 (float)",
    ]


def test_a_key_that_is_there_twice_hides_no_other_problem() -> None:
    text = "n_layers: [1, 2]\nlearning_rte: [0.1, 0.2]\nn_layers: [2, 3]\nreg_weight: {low: 1, low: 2, high: 1}\n"
    assert problems(text)[:2] == ["line 3: key 'n_layers' appears twice", "line 4: key 'low' appears twice"]
    assert any("learning_rte: unknown" in text for text in problems(text))


@pytest.mark.parametrize("field", ["low", "high", "step"])
@pytest.mark.parametrize(
    ("text", "shown"), [(".inf", "inf"), ("-.inf", "-inf"), (".nan", "nan"), ("1" + "0" * 400, "1" + "0" * 400)]
)
@pytest.mark.parametrize("key", ["learning_rate", "n_layers"])
def test_the_numbers_of_a_range_are_finite(key: str, text: str, shown: str, field: str) -> None:
    numbers = {"low": "1", "high": "5", "step": "2", field: text}
    line = ", ".join(f"{name}: {number}" for name, number in numbers.items())
    assert problems(f"{key}: {{{line}}}\n") == [f"{key}: {field} expected a finite number, got {shown}"]


def test_a_range_of_more_steps_than_floats_tell_apart_is_refused() -> None:
    expected = f"learning_rate: expected at most {10**15} steps from 1e-05 to 1.0, got step 1e-30; choose a larger one"
    assert problems("learning_rate: {low: 1e-5, high: 1.0, step: 1e-30}\n") == [expected]


def has(model: str, key: str) -> bool:
    return key in PARAMS[model].keys()  # noqa: SIM118  (a method of the class)


def test_values_that_the_model_refuses_together_are_named_before_any_trial() -> None:
    learned = "rec_temperature_epochs: a learned temperature has no schedule, got 5; choose 0, or "
    text = "rec_temperature_learned: [false, true]\nrec_temperature_end: 1\nrec_temperature_epochs: {low: 0, high: 5}\n"
    where = "rec_temperature_learned True together with rec_temperature_epochs 5"
    assert problems(text) == [f"{where}: {learned}rec_temperature_learned: false"]
    text = "rec_temperature_learned: true\nrec_temperature_end: 1\nrec_temperature_epochs: [0, 5]\n"
    assert problems(text) == [f"{learned}rec_temperature_learned: false"]


def test_values_that_training_refuses_are_named_before_any_trial() -> None:
    by_users = "train_batch_unit: got 'users' beside rec_loss 'sampled_softmax'"
    text = "rec_loss: [softmax, sampled_softmax, bsl]\nlearning_rate: [0.01, 0.001]\n"
    (problem,) = problems(text, {"config_files": "softmax"})
    assert problem.startswith(by_users)
    (problem,) = problems("rec_loss: [bpr, sampled_softmax]\ntrain_batch_unit: [interactions, users]\n")
    assert problem.startswith(f"rec_loss 'sampled_softmax' together with train_batch_unit 'users': {by_users}")
    with pytest.raises(ParamError, match=r"^space.yaml: weight_average: got 0.9, expected 0.0: BPR is not trained by"):
        load("weight_average: {low: 0.0, high: 0.9}\n", model="BPR")


def test_a_setting_to_try_first_that_is_refused_as_a_whole_is_named() -> None:
    text = "table: [plain, adaptive]\nadae_mode: [fix, auto]\nadae_warmup: [0, 3]\nadae_dims: [[4, 8]]\nepochs: 3\n"
    assert len(load(text).searched) == 3
    whole = text + "enqueue: [{table: adaptive, adae_mode: auto, adae_warmup: 3}]\n"
    assert problems(whole) == ["enqueue, setting 1: adae_warmup: got 3, expected fewer than epochs, 3"]
    pair = whole.replace("[plain, adaptive]", "[adaptive, plain]")
    assert problems(pair) == [
        "adae_mode 'auto' together with adae_warmup 3: adae_warmup: got 3, expected fewer than epochs, 3"
    ]


def test_a_search_on_the_test_part_is_refused_with_the_command_that_makes_a_valid_part() -> None:
    text, given = "learning_rate: [0.01, 0.001]\n", {"val_interval": None, "data_path": "my data"}
    in_file = "benchmark_filename: [[train, {}, test]]\n"
    expected = (
        "benchmark_filename: got [train, test, test], so the best values would be picked on the test part, which a "
        "search never looks at; make a valid part out of train, and give the files that this names: "
        "recmodels data carve ml-100k '--data_path=my data'"
    )
    assert problems(text, {**given, "benchmark_filename": ["train", "test", "test"]}) == [expected]
    assert problems(text + in_file.format("test"), given) == [expected]
    assert load(text + in_file.format("valid"), given).fixed == {"benchmark_filename": ["train", "valid", "test"]}


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("slk_k: [5, 10]\nn_layers: [1, 2]\n", ["slk_k"]),
        ("rec_loss: [bpr, softmax]\nslk_k: [5, 10]\nadae_budget: {low: 0.1, high: 0.5}\n", ["slk_k", "adae_budget"]),
        ("rec_loss: [bpr, slk]\nslk_k: [5, 10]\n", []),
        ("slk_k: [5, 10]\nslk_ratio: [3, 6]\nrec_loss: slk\n", []),
        (
            "table: [plain, adaptive]\nadae_mode: [rank, auto]\nadae_budget: [null, 0.5]\n"
            "adae_budget_rate: [0.1, 0.2]\nadae_dims: [[4, 8]]\nadae_quantiles: [[0.5]]\n",
            [],
        ),
    ],
)
def test_a_searched_key_that_nothing_reads_at_any_corner_is_refused(text: str, unread: list[str]) -> None:
    if not unread:
        assert load(text).searched
        return
    found = problems(text)
    assert [problem.partition(":")[0] for problem in found] == unread
    assert found[0].startswith("slk_k: nothing reads it at any value of this space, so its values would be tried in va")


@pytest.mark.parametrize("text", ["", "n_layers: 2\n", "n_layers: [2]\n"])
def test_a_space_without_a_choice_is_refused(text: str) -> None:
    assert problems(text) == ["nothing to search: give at least one key a list of choices, or low and high"]


def test_enqueue_must_be_a_list_of_settings() -> None:
    expected = "enqueue: expected a list of settings such as [{learning_rate: 0.001}], got {'n_layers': 1}"
    assert problems("n_layers: [1, 2]\nenqueue: {n_layers: 1}\n") == [expected]


def test_no_mistake_hides_another_one() -> None:
    text = """\
learning_rate: {low: 1e-2, high: 1e-4, stap: 3, log: maybe}
n_layers: [1, 2]
epochs: 5.5
enqueue: [{n_layers: 9, reg: 3}, {}, 3]
"""
    known = "low, high, log, step"
    assert problems(text, {"epochs": 1}) == [
        f"learning_rate: unknown field 'stap', expected {known}; did you mean 'step'?",
        "learning_rate: log expected true or false, got 'maybe' (str)",
        "learning_rate: low must be below high, got low 0.01 and high 0.0001",
        "epochs: expected a whole number, got 5.5 (float)",
        "enqueue, setting 1: n_layers: must be one of 1, 2, got 9",
        "enqueue, setting 1: reg: is not searched",
        "enqueue, setting 2: is empty; leave it out",
        "enqueue, setting 3: expected keys with values such as {learning_rate: 0.001}, got 3",
    ]


def test_a_key_that_is_given_too_hides_nothing_of_its_range() -> None:
    text = "learning_rate: {low: 1e-4, high: 1e-2, log: true}\nepochs: {low: 10, high: 5}"
    assert problems(text, {"epochs": 3}) == [
        "epochs: searched here and given on the command line as 3; keep one",
        "epochs: low must be below high, got low 10 and high 5",
    ]


def test_mappings_of_a_choice_merge_over_the_shipped_ones() -> None:
    space = load("train_neg_sample_args: [{sample_num: 1}, {sample_num: 2}]\n")
    assert space.searched["train_neg_sample_args"] == Choices(({"sample_num": 1}, {"sample_num": 2}))
    assert space.labeled({"train_neg_sample_args": {"sample_num": 2}}) == {"train_neg_sample_args": '{"sample_num": 2}'}


def test_a_space_knows_how_many_settings_it_has() -> None:
    finite = {"a": Choices(("x", "y")), "b": Range(1, 7, step=2), "c": Range(0.0, 0.3, step=0.1), "d": Range(1, 3)}
    assert [part.size for part in finite.values()] == [2, 4, 4, 3]
    assert Space(finite, {}).size == 96
    assert Space(finite | {"e": Range(1e-3, 0.1, log=True)}, {}).size is None


def test_suggestions_are_values_of_the_space_and_enqueued_ones_are_kept() -> None:
    space = load(GOOD + "train_neg_sample_args: [{sample_num: 1}, {sample_num: 2}]\n")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    setting = {"learning_rate": 0.01, "reg_weight": 1, "train_neg_sample_args": {"sample_num": 2}}
    study.enqueue_trial(space.labeled(setting))
    first = space.suggest(study.ask())
    assert {key: first[key] for key in setting} == setting
    for _ in range(30):
        values = space.suggest(study.ask())
        assert [space.searched[key].problem(value) for key, value in values.items()] == [None] * 5


grids = st.tuples(st.integers(-20, 20), st.integers(1, 9), st.sampled_from((1, 0.1, 0.25)), st.integers(1, 30))


@given(grids, st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_the_nearest_number_of_a_grid_is_on_it_and_within_half_a_step(grid: tuple[Any, ...], share: float) -> None:
    start, width, unit, n_steps = grid
    low, step = start * unit, width * unit
    part, found = read_part({"low": low, "high": low + n_steps * step, "step": step})
    if found:  # the sum of floats is not the decimal end of the grid
        assert "end at" in found[0]
        return
    assert isinstance(part, Range)
    value = low + share * (part.high - low) if not part.is_whole else round(low + share * (part.high - low))
    message = part.problem(value)
    if message is not None:
        near = float(message.rpartition(" ")[2])
        assert part.problem(int(near) if part.is_whole else near) is None
        assert abs(near - value) <= step / 2 * (1 + 1e-9)
