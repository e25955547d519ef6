"""Ablation files: what they mean, and that everything wrong with one is said at once."""

import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recmodels.ablation.ablation_file import CONTROL_STEP, load_ablation
from recmodels.ablation.grid import expand
from recmodels.ablation.points import Point
from recmodels.commands import ablate as ablate_command
from recmodels.errors import ParamError
from recmodels.experiments.session import PARAMS, resolve_train
from recmodels.layers import properties_root

GOOD = """\
base: {model: LightGCN, n_layers: 3, config_files: [mine.yaml]}
points:
  plain: {}
  softmax: {rec_loss: softmax, reported: {Recall@10: 0.2057, ndcg@10: 1}, note: of a diary}
  control: {control_of: softmax}
  second: {control_of: softmax}
  three: {n_layers: 1, seeds: [5, 7]}
grid:
  reg_weight: [0, 1e-4]
  temps: {rec_temperature: [0.1, 0.2], rec_loss: [softmax, bsl]}
seeds: 2
"""


def load(text: str, given: dict[str, Any] | None = None, n_seeds: int | None = None) -> dict[str, Point]:
    Path("mine.yaml").write_text("model: NCL\nreg_weight: 0.5\nn_layers: 2\n")
    Path("points.yaml").write_text(text)
    name, points = load_ablation("points.yaml", given or {}, n_seeds)
    assert name == "points"
    return {point.name: point for point in points}


def problems(text: str, given: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(ParamError) as caught:
        load(text, given)
    message = str(caught.value)
    if "\n" not in message:
        return [message.removeprefix("points.yaml: ")]
    head, *found = message.split("\n  - ")
    assert head == f"points.yaml: {len(found)} problems"
    return found


def test_points_lie_over_base_and_base_over_its_presets() -> None:
    points = load(GOOD, {"epochs": 7})
    values = {name: point.resolved.values for name, point in points.items()}
    assert {point.resolved.model for point in points.values()} == {"LightGCN"}
    assert {point["epochs"] for point in values.values()} == {7}
    assert [values["plain"][key] for key in ("n_layers", "reg_weight", "rec_loss")] == [3, 0.5, "bpr"]
    assert [values["softmax"][key] for key in ("n_layers", "rec_loss")] == [3, "softmax"]
    assert values["three"]["n_layers"] == 1
    assert points["softmax"].reported == {"recall@10": 0.2057, "ndcg@10": 1.0}
    assert [points[name].note for name in ("softmax", "plain")] == ["of a diary", ""]


def test_a_grid_is_every_combination_under_a_name_of_keys_and_values() -> None:
    points = load(GOOD)
    assert list(points)[5:] == [
        "reg_weight=0",
        "reg_weight=0.0001",
        "temps:rec_temperature=0.1,rec_loss=softmax",
        "temps:rec_temperature=0.1,rec_loss=bsl",
        "temps:rec_temperature=0.2,rec_loss=softmax",
        "temps:rec_temperature=0.2,rec_loss=bsl",
    ]
    last = points["temps:rec_temperature=0.2,rec_loss=bsl"].resolved.values
    assert (last["rec_temperature"], last["rec_loss"], last["reg_weight"]) == (0.2, "bsl", 0.5)


VALUES = st.one_of(st.booleans(), st.none(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
AXES = st.dictionaries(st.text("abc", min_size=1), st.lists(VALUES, min_size=1, max_size=4), min_size=1, max_size=3)


@given(AXES)
@example({"a": ["", ":"]})
@example({"a": ["x,b=y", "x"], "b": ["z", "y,b=z"]})
@settings(max_examples=200, deadline=None)
def test_a_grid_has_the_product_of_its_lists_or_names_what_is_there_twice(axes: dict[str, list[Any]]) -> None:
    points, found = expand(axes)
    if found:
        assert not points
        known = ("is there twice", "have one name", "unknown key of any model")
        assert all(any(words in text for words in known) for text in found)
        assert any(words in text for words in known[:2] for text in found)
        return
    n_points = 1
    for values in axes.values():
        n_points *= len(values)
    assert len(points) == n_points
    assert all(list(overrides) == list(axes) for overrides in points.values())


def test_seeds_are_a_list_or_a_count_from_2020_and_the_command_counts_from_their_first() -> None:
    seeds = {name: point.seeds for name, point in load(GOOD).items()}
    assert (seeds["plain"], seeds["three"]) == ((2020, 2021), (5, 7))
    again = {name: point.seeds for name, point in load(GOOD, n_seeds=3).items()}
    assert (again["plain"], again["three"]) == ((2020, 2021, 2022), (5, 6, 7))
    assert load("base: {model: NCL}\npoints: {a: {}}")["a"].seeds == (2020,)


def test_a_control_has_the_values_of_its_point_and_seeds_that_nobody_else_has() -> None:
    points = load(GOOD)
    assert points["control"].resolved == points["second"].resolved == points["softmax"].resolved
    assert points["control"].seeds == (2020 + CONTROL_STEP, 2021 + CONTROL_STEP)
    assert points["second"].seeds == (2020 + 2 * CONTROL_STEP, 2021 + 2 * CONTROL_STEP)
    assert (points["control"].control_of, points["softmax"].control_of) == ("softmax", None)
    assert set(points["control"].seeds) < set(load(GOOD, n_seeds=5)["control"].seeds)  # more seeds keep what was run
    seeds = f"[1, {1 + CONTROL_STEP}]"
    text = f"base: {{model: NCL}}\npoints: {{a: {{}}, b: {{control_of: a}}}}\nseeds: {seeds}"
    assert problems(text) == [f"point b: seeds: {1 + CONTROL_STEP} is also a seed of a"]


def test_of_another_model_base_gives_what_that_model_has() -> None:
    text = "base: {model: NCL_OT, ot_weight: 0.5, n_layers: 1, epochs: 3}\npoints: {full: {}, plain: {model: LightGCN}}"
    points = load(text)
    assert points["plain"].resolved == resolve_train({"model": "LightGCN", "n_layers": 1, "epochs": 3})
    assert points["full"].resolved.values["ot_weight"] == 0.5
    assert load(text, {"ot_epsilon": 0.1})["plain"].resolved == points["plain"].resolved
    misspelled = "base: {model: NCL_OT, ot_weigth: 0.5}\npoints: {plain: {model: LightGCN}}"
    assert problems(misspelled) == ["ot_weigth: unknown key of NCL_OT; did you mean 'ot_weight'? (from base)"]


def test_every_error_of_a_file_is_told_at_once_with_its_point_and_key() -> None:
    text = """\
base: {model: LightGCN, epochs: 0, epchs: 3, seed: 4}
pionts: {}
points:
  soft: {rec_los: softmax, rec_temperature: -1, reported: {recal@10: 0.2, ndcg@10: error, recall@20: .nan}, note: 3}
  layers: {n_layers: three, dataset: ml-1m, seed: 3, topk: [5], use_gpu: false, config_files: a, learning_rate: 1}
  aa: {control_of: sofd, n_layers: 2, seeds: 2}
  bb: {control_of: aa}
  other: {model: NCLL, reported: 0.2, seeds: []}
  nothing:
  n_layers=2: {n_layers: 2}
grid:
  n_layers: [2, 3]
  reg: {reg_weight: [], reg_weigth: 1, n_layers: [1, 1]}
  temps: {rec_temperature: [0.1, 0.0], rec_loss: [softmax, bsl]}
  none: {}
  huge: {seed: [1, 2]}
seeds: [1, 1, -2, x, true]
"""
    models = ", ".join(PARAMS)
    data = "runs on different data or splits cannot be compared; put it into base, or make a file for each value"
    seeds, wrong_seed = (
        "belongs to seeds, such as seeds: 3, or seeds: [2020, 2021]",
        "whole numbers from 0 to 4294967295",
    )
    assert problems(text, {"learning_rate": 0.1, "seed": 3, "config_files": "b"}) == [
        "pionts: unknown, expected base, points, grid, seeds; did you mean 'points'?",
        "seed: a point is run with several seeds; write --seeds=N, or seeds: in the file (from command line)",
        "config_files: belongs to base, in the file (from command line)",
        "point nothing: expected overrides such as {n_layers: 3}, or {}, got None",
        "grid reg: reg_weight: expected a list of at least one value, got []",
        "grid reg: reg_weigth: expected a list of at least one value, got 1",
        "grid reg: n_layers: the value 1 is there twice; keep one",
        "grid reg: reg_weigth: unknown key of any model; did you mean 'reg_weight'?",
        "grid none: no keys; write at least one with a list of values",
        "grid: n_layers=2 is also a name in points",
        "seeds: 1 is there twice; keep one",
        *(f"seeds: expected {wrong_seed}, got {value}" for value in ("-2", "'x'", "True")),
        f"base: seed: {seeds}",
        "epchs: unknown key of LightGCN; did you mean 'epochs'? (from base)",
        "epochs: must be >= 1, got 0 (from base)",
        "point soft: rec_los: unknown key of LightGCN; did you mean 'rec_loss'?",
        "point soft: rec_temperature: must be >= 1e-06, got -1.0",
        f"point layers: dataset: {data}",
        f"point layers: seed: {seeds}",
        "point layers: topk: runs measured differently cannot be compared; put it into base",
        "point layers: use_gpu: it decides no result; put it into base",
        "point layers: config_files: belongs to base",
        "point layers: learning_rate: also given on the command line, as 0.1; keep one",
        "point layers: n_layers: expected a whole number, got 'three' (str)",
        f"point other: model: unknown model 'NCLL', expected one of {models}; did you mean 'NCL'?",
        "point temps:rec_temperature=0.0,rec_loss=softmax: rec_temperature: must be >= 1e-06, got 0.0",
        f"point huge:seed=1: seed: {seeds}",
        "point soft: reported: recal@10: expected metric@k; did you mean 'recall@10'?",
        "point soft: reported: ndcg@10: expected a number, got 'error'; what is no number is a note",
        "point soft: reported: recall@20: expected a number, got nan; what is no number is a note",
        "point soft: note: expected a text, got 3; put it in quotes",
        "point aa: control_of: expected the name of another point that is no control, got 'sofd'; did you mean 'soft'?",
        "point aa: control_of: a control has the values of its point; leave out n_layers, seeds",
        "point bb: control_of: expected the name of another point that is no control, got 'aa'",
        "point other: reported: expected metrics with figures, such as {recall@10: 0.2}, got 0.2",
        f"point other: seeds: expected a count from 1 to 1000, or a list of {wrong_seed}, got []",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("points: {a: {}}", "base: expected overrides such as {model: LightGCN}, got None"),
        ("base: [1]\npoints: {a: {}}", "base: expected overrides such as {model: LightGCN}, got [1]"),
        ("base: {epochs: 3}\npoints: {a: {}}", "model: no value; write --model=NAME with one of "),
        ("base: {model: NLC}\npoints: {a: {}}", "model: unknown model 'NLC', expected one of "),
        ("base: {model: NCL, dataset: a/b}\npoints: {a: {}}", "dataset: expected the name of a folder, got 'a/b'"),
        ("base: {model: NCL, config_files: NLC}\npoints: {a: {}}", "config_files: NLC: cannot be read: "),
        ("base: {model: NCL}", "no points; write points: {NAME: {KEY: VALUE}}, or grid: {KEY: [VALUES]}"),
        ("base: {model: NCL}\npoints: {}", "no points; write points: "),
        ("base: {model: NCL}\npoints: [a, b]", "points: expected names with overrides, got list"),
        (
            "base: {model: NCL}\ngrid: {}",
            "grid: expected keys with lists of values, such as {n_layers: [2, 3]}, got {}",
        ),
        ("base: {model: NCL}\ngrid: {n_layers: []}", "grid: n_layers: expected a list of at least one value, got []"),
        ("base: {model: NCL}\npoints: {a: {}}\nseeds: 0", "seeds: expected a count from 1 to 1000, or a list of "),
        ("base: {model: NCL}\npoints:\n  a: {}\n  a: {n_layers: 1}", "line 4: key 'a' appears twice"),
    ],
)
def test_a_file_that_makes_no_points_is_refused(text: str, message: str) -> None:
    (found,) = problems(text)
    assert found.startswith(message)


def test_a_name_that_is_there_twice_hides_no_other_problem() -> None:
    text = (
        "base: {model: NCL, epochs: 0}\npoints:\n  a: {}\n  b: {n_layer: 1}\n  a: {n_layers: 1}\n"
        "  b: {ssl_temp: -1}\ngrid: {n_layers: []}\n"
    )
    assert problems(text) == [
        "line 5: key 'a' appears twice",
        "line 6: key 'b' appears twice",
        "grid: n_layers: expected a list of at least one value, got []",
        "epochs: must be >= 1, got 0 (from base)",
        "point b: n_layer: unknown key of NCL; did you mean 'n_layers'?",
    ]


def test_a_grid_with_a_problem_hides_none_of_its_keys_and_values() -> None:
    text = (
        "base: {model: LightGCN}\npoints: {same: {n_layers: 2}}\n"
        "grid: {n_layrs: [1, 2], reg_weight: [0, -3], n_layers: [2, 2], '': [1], epochs: [2020-01-01],\n"
        "  ssl_weight: [0.1], ot_centers: [7], seed: [1], model: [NCLL]}\n"
    )
    assert problems(text) == [
        "grid: n_layers: the value 2 is there twice; keep one",
        "grid: a key has no name; write one before its colon",
        "grid: n_layrs: unknown key of any model; did you mean 'n_layers'?",
        "grid: reg_weight: must be >= 0, got -3.0",
        "grid: epochs: expected a whole number, got '2020-01-01' (str)",
        "grid: seed: belongs to seeds, such as seeds: 3, or seeds: [2020, 2021]",
        "grid: model: unknown model 'NCLL'; did you mean 'NCL'?",
    ]


def test_a_base_with_a_problem_hides_no_points_that_are_the_same() -> None:
    text = (
        "base: {model: LightGCN, stoping_step: 3, epochs: 0}\n"
        "points: {a: {}, b: {n_layers: 2}, c: {n_layers: 2}, d: {epochs: 3}}\n"
    )
    found = problems(text)
    assert [text.partition(":")[0] for text in found] == ["stoping_step", "epochs", "point c"]
    assert "has the same values as b" in found[-1]


def test_reported_figures_are_shares_of_metrics_that_exist_once() -> None:
    text = "base: {model: LightGCN}\npoints:\n  a: {reported: {Recall@10: .1, recall@10: .2, mrr@0: .1, hit@10: 57.3,"
    text += f" recall@010: .1, map@x: .1, hit@20: {10**400}, ShannonEntropy@5: -3,"
    assert problems(text + " map@10: -1, AveragePopularity@10: 230}}\n") == [
        "point a: reported: recall@10: is there twice, in other letters; keep one",
        "point a: reported: mrr@0: expected metric@k; did you mean 'mrr@10'?",
        "point a: reported: recall@010: expected metric@k; did you mean 'recall@10'?",
        "point a: reported: map@x: expected metric@k; did you mean 'map@10'?",
        "point a: reported: hit@10: expected a figure from 0 to 1, got 57.3; a percentage is divided by 100",
        f"point a: reported: hit@20: expected a figure from 0 to 1, got 1{'0' * 19}; a percentage is divided by 100",
        "point a: reported: ShannonEntropy@5: expected a figure of at least 0, got -3",
        "point a: reported: map@10: expected a figure from 0 to 1, got -1; a percentage is divided by 100",
    ]


def test_odd_names_keys_and_seeds_hide_no_other_problem() -> None:
    text = """\
base: {model: LightGCN}
points:
  1: {}
  "": {n_layers: 1}
  plain: {seeds: [2020, 3020]}
  again: {control_of: plain}
  late: {seeds: [4294967296], n_layers: 4}
  typo: {n_layer: 3}
"""
    found = problems(text)
    assert len(found) == 5, found
    for expected in (
        "line 3: a key must be a string, got 1; put it into quotes",
        "points: a point has no name; write one before its colon",
        "point again: seeds: 3020 is also a seed of plain",
        "point late: seeds: expected whole numbers from 0 to 4294967295, got 4294967296",
        "point typo: n_layer: ",
    ):
        assert any(text.startswith(expected) for text in found), (expected, found)


def test_seeds_end_where_those_of_a_run_do() -> None:
    text = "base: {model: NCL}\npoints: {a: {}}\nseeds: [4294967295]"
    assert load(text)["a"].seeds == (4294967295,)
    with pytest.raises(ParamError, match="point a: seeds: expected at most 4294967295, got 4294967296"):
        load(text, n_seeds=2)


def test_two_points_of_the_same_values_are_refused_by_their_names() -> None:
    text = "base: {model: LightGCN}\npoints: {a: {}, b: {rec_loss: bpr}, c: {n_layers: 1}}\ngrid: {n_layers: [1]}"
    advice = "leave one out, or make it a control of other seeds with control_of"
    assert problems(text) == [
        f"point b: has the same values as a; {advice}: a",
        f"point n_layers=1: has the same values as c; {advice}: c",
    ]


def test_a_grid_that_nobody_means_is_refused_before_it_is_expanded() -> None:
    axes = {key: list(range(100)) for key in "abcd"}
    points, found = expand(axes)
    assert (points, found[0]) == ({}, "grid: makes 100000000 points, expected at most 1000")


def test_the_examples_of_the_readme_and_of_the_help_are_valid(checkout: Path) -> None:
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("# my_points.yaml\n")[2].partition("```")[0]
    helped = ablate_command.run(["--help"])
    for text in (shown, helped[helped.index("  base:") : helped.index("\n\nThe hash")]):
        points = load(textwrap.dedent(text))
        assert list(points)[:3] == ["bpr", "softmax", "again"]
        assert list(points)[-1] == "n_layers=4,reg_weight=0.0001"
        assert points["again"].seeds == (3020, 3021, 3022)
        assert points["softmax"].reported == {"recall@10": 0.2057}


def test_shipped_ablations_are_valid_and_found_by_name() -> None:
    names = [file.name.removesuffix(".yaml") for file in (properties_root() / "ablation").iterdir()]
    assert "losses" in names
    for name in names:
        assert len(load_ablation(name, {})[1]) > 1
    with pytest.raises(ParamError, match=r"^lossse: cannot be read: .*; shipped ablations: .*; did you mean 'losses'"):
        load_ablation("lossse", {})


def test_what_no_training_of_a_model_can_do_is_a_problem_of_the_file(tmp_path: Path) -> None:
    text = """\
base: {model: LightGCN, weight_average: 0.9, train_batch_unit: users}
points: {fine: {}, ease: {model: EASE}, sampled: {rec_loss: sampled_softmax}, odd: {model: [1]}}
"""
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ParamError) as caught:
        load_ablation(str(tmp_path / "a.yaml"), {}, 100_000_000_000)
    for part in (
        "point ease: weight_average: got 0.9, expected 0.0",
        "point ease: train_batch_unit: got 'users', expected 'interactions'",
        "point sampled: train_batch_unit: got 'users' beside rec_loss 'sampled_softmax'",
        "point odd: model: expected the name of one, got [1]",
        "--seeds: expected a count from 1 to 1000",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("base", ["{model: [1]}", "{model: LightGCN, config_files: 3}"])
def test_a_base_of_odd_values_is_refused_in_words(tmp_path: Path, base: str) -> None:
    (tmp_path / "a.yaml").write_text(f"base: {base}\npoints: {{a: {{}}}}\n")
    with pytest.raises(ParamError, match="expected the name of one|config_files: expected paths"):
        load_ablation(str(tmp_path / "a.yaml"), {})
