import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recmodels import layers
from recmodels.errors import ParamError
from recmodels.layers import Layer, merge, parse_argv, take_option
from recmodels.plain_yaml import dump_yaml, load_yaml, read_yaml


def argv_failure(*argv: str) -> str:
    with pytest.raises(ParamError) as caught:
        parse_argv(argv)
    return str(caught.value)


# --- YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("1.", 1.0),
        ("-2.5e+3", -2500.0),
        ("7", 7),
        ("+7", 7),
        ("010", 10),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("True", True),
        ("yes", True),
        ("~", None),
        ("null", None),
        ("hop:0", "hop:0"),
        ("'1e-4'", "1e-4"),
        ("{a: [1, .5]}", {"a": [1, 0.5]}),
        ("{<<: {a: 1}, a: 2}", {"a": 2}),
    ],
)
def test_yaml_numbers_follow_version_1_2_and_dates_stay_strings(text: str, value: Any) -> None:
    found = load_yaml(text, "here")
    assert (found, type(found)) == (value, type(value))


def test_of_a_key_that_is_there_twice_the_first_counts_and_the_other_is_told() -> None:
    text = "b:\n  c: 1\n  c: 2\na: 3\na: 4\na: 5\n"
    told = ["line 3: key 'c' appears twice", "line 5: key 'a' appears twice", "line 6: key 'a' appears twice"]
    assert read_yaml(text, "here") == ({"b": {"c": 1}, "a": 3}, told)


def test_yaml_knows_infinity() -> None:
    assert load_yaml("[.inf, -.inf]", "here") == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "file.yaml, line 3: key 'a' appears twice"),
        ("a: 1\nb: {c: 1, c: 1}", "file.yaml, line 2: key 'c' appears twice"),
        (
            "a: {c: 1, c: 1}\na: 1",
            "file.yaml: 2 problems\n  - line 1: key 'c' appears twice\n  - line 2: key 'a' appears twice",
        ),
        ("a: 1\nb: !!python/object:os.system x", "file.yaml, line 2: tags are refused, write plain data"),
        ("a: !!str 5", "file.yaml, line 1: tags are refused, write plain data"),
        ("a: 1\n2: b", "file.yaml, line 2: a key must be a string, got 2; put it into quotes"),
        ("a: &x [10, *x]", "file.yaml, line 1: the alias *x is refused, write the value again"),
        ("a: &x\n  b: *x", "file.yaml, line 2: the alias *x is refused, write the value again"),
        ("a: &x 1\nb: *x", "file.yaml, line 2: the alias *x is refused, write the value again"),
        ("a: " + "[" * 1000 + "]" * 1000, "file.yaml: brackets are nested too deeply"),
        ("a: 1\nb: [", "file.yaml, line 2: expected the node content, but found '<stream end>'"),
    ],
)
def test_a_yaml_error_names_file_line_and_reason(text: str, message: str) -> None:
    with pytest.raises(ParamError) as caught:
        load_yaml(text, "file.yaml")
    assert str(caught.value) == message


TEXTS = st.text(max_size=8) | st.sampled_from(
    ["1e-4", "1E5", ".5", "yes", "~", "010", "1:30", "2020-01-01", "<<", "\t"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
DATA = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


@settings(deadline=None)
@given(st.dictionaries(TEXTS, DATA, max_size=4))
def test_what_is_dumped_is_read_back_equal(values: dict[str, Any]) -> None:
    found = load_yaml(dump_yaml(values), "dump")
    assert repr(found) == repr(values)  # repr also tells 1 from 1.0 and from True


# --- argv


def test_argv_forms_give_flat_names_and_typed_values() -> None:
    argv = ["-m", "NCL", "--dataset=2020", "--seed", "7", "--rate=1e-4", "--note=a=b", "--low", "-1", "--topk=[5, 10]"]
    assert parse_argv(argv) == {
        "model": "NCL",
        "dataset": "2020",
        "seed": 7,
        "rate": 1e-4,
        "note": "a=b",
        "low": -1,
        "topk": [5, 10],
    }


@pytest.mark.parametrize("text", ["a.yaml,b c.yaml", '["a.yaml", "b c.yaml"]'])
def test_config_files_are_split_at_commas(text: str) -> None:
    assert parse_argv([f"--config_files={text}"]) == {"config_files": ["a.yaml", "b c.yaml"]}


def test_config_files_without_comma_are_split_at_spaces() -> None:
    assert parse_argv(["--config_files", "a.yaml b.yaml"]) == {"config_files": ["a.yaml", "b.yaml"]}


def test_a_key_may_be_repeated_with_the_same_value_only() -> None:
    assert parse_argv(["--seed=1", "--seed", "1"]) == {"seed": 1}
    assert argv_failure("--seed=1", "--seed=2") == "command line: seed: given twice, as 1 and 2; keep one"


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["junk"], ["junk: unexpected argument", "--key=value"]),
        (["-seed=3"], ["-seed=3: unexpected argument", "--seed=3"]),
        (["--seed"], ["seed: no value", "--seed=VALUE"]),
        (["--show_progress", "--seed=1"], ["show_progress: no value", "--show_progress=true"]),
        (["--seed="], ["seed: no value", "--seed=null"]),
        (["--topk=[1"], ["topk: '[1', line 1: "]),
        (["--=3"], ["--=3: unexpected argument"]),
    ],
)
def test_a_bad_argument_is_named_with_what_to_write(argv: list[str], parts: list[str]) -> None:
    message = argv_failure(*argv)
    assert [part for part in parts if part not in message] == []


def test_all_bad_arguments_are_reported_at_once() -> None:
    assert argv_failure("junk", "--seed=", "--x=[").splitlines()[0] == "command line: 3 problems"


# --- merging


def test_later_layers_win_and_only_three_mappings_merge() -> None:
    low = {"a": 1, "eval_args": {"split": {"RS": [1]}, "order": "RO"}, "load_col": {"inter": ["u"]}}
    high = {"a": 2, "eval_args": {"split": {"LS": "x"}}, "load_col": {"user": ["u"]}, "clip_grad_norm": {"max_norm": 1}}
    values, origin = merge([Layer("low", low), Layer("high", high)])
    assert values == {
        "a": 2,
        "eval_args": {"split": {"LS": "x"}, "order": "RO"},
        "load_col": {"user": ["u"]},
        "clip_grad_norm": {"max_norm": 1},
    }
    assert (origin["eval_args.split"], origin["eval_args.order"], origin["a"]) == ("high", "low", "high")
    assert low["eval_args"] == {"split": {"RS": [1]}, "order": "RO"}  # layers are not edited


def test_null_switches_a_merged_mapping_off() -> None:
    layers_ = [Layer("low", {"clip_grad_norm": {"max_norm": 1}}), Layer("high", {"clip_grad_norm": None})]
    assert merge(layers_)[0] == {"clip_grad_norm": None}


def test_a_package_without_properties_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Path:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(layers, "files", absent)
    with pytest.raises(ParamError, match="recmodels.properties is missing: install the package"):
        layers.properties_root()


def test_an_option_is_taken_off_the_command_line():
    assert take_option(["--epochs=3", "--resume=runs/a"], "resume") == ("runs/a", ["--epochs=3"])
    assert take_option(["--resume", "runs/a", "--epochs=3"], "resume") == ("runs/a", ["--epochs=3"])
    assert take_option(["--run_dir=2024"], "run_dir") == ("2024", [])
    assert take_option(["--epochs=3"], "resume") == (None, ["--epochs=3"])


@pytest.mark.parametrize("argv", [["--resume"], ["--resume="], ["--resume", "--epochs=3"]])
def test_an_option_without_a_value_is_refused(argv):
    with pytest.raises(ParamError, match=r"resume: no value; write --resume=FOLDER"):
        take_option(argv, "resume")


def test_an_option_given_twice_is_refused():
    with pytest.raises(ParamError, match="resume: given 2 times"):
        take_option(["--resume=a", "--resume=b"], "resume")


def test_intervals_and_paths_with_spaces_need_no_inner_quotes(tmp_path):
    assert parse_argv(["--user_inter_num_interval=[5,inf)"]) == {"user_inter_num_interval": "[5,inf)"}
    file = tmp_path / "my settings.yaml"
    file.write_text("epochs: 3\n")
    assert parse_argv([f"--config_files={file}"]) == {"config_files": [str(file)]}
    assert parse_argv(["--config_files=a.yaml b.yaml"]) == {"config_files": ["a.yaml", "b.yaml"]}


def test_a_number_that_python_does_not_read_is_a_parameter_error() -> None:
    with pytest.raises(ParamError, match="^file.yaml: Exceeds the limit .* digits"):
        load_yaml("a: " + "9" * 5000, "file.yaml")
    assert load_yaml("a: " + "9" * 4000, "file.yaml") == {"a": 10**4000 - 1}
