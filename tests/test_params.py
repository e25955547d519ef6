import math
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmodels.errors import ParamError
from recmodels.params import Params, param, suggest


@dataclass(frozen=True)
class Base(Params):
    width: int = param(ge=1, doc="d")
    rate: float = param(gt=0, lt=1)


@dataclass(frozen=True)
class Toy(Base):
    kind: Literal["hops", "bfs"] = param()
    shape: str = param(choices=("round", "square"))
    centers: int | list[int] = param(ge=1)
    others: int | str = param(ge=1, choices=("all",))
    pair: tuple[int, int] = param()
    flag: bool = param()
    note: str | None = param(optional=True)
    extra: dict[str, Any] = param()

    def problems(self) -> list[str]:
        return [f"centers: must be >= width ({self.width})"] if self.centers == 3 else []


GOOD: dict[str, Any] = {
    "width": 8,
    "rate": 0.5,
    "kind": "hops",
    "shape": "round",
    "centers": [4, 5],
    "others": "all",
    "pair": [1, 2],
    "flag": True,
    "extra": {"a": [1]},
}


def errors(**changes: Any) -> str:
    with pytest.raises(ParamError) as caught:
        Toy.from_mapping(GOOD | changes)
    return str(caught.value)


def test_values_are_read_as_annotated() -> None:
    found = Toy.from_mapping(GOOD)
    assert found == Toy(8, 0.5, "hops", "round", [4, 5], "all", (1, 2), True, None, {"a": [1]})
    assert found.as_values() == GOOD | {"note": None}
    assert Toy.from_mapping(found.as_values()) == found


def test_params_are_frozen_and_do_not_share_the_mapping() -> None:
    values = GOOD | {"extra": {"a": [1]}}
    found = Toy.from_mapping(values)
    values["extra"]["a"].append(2)
    assert found.extra == {"a": [1]}
    with pytest.raises(FrozenInstanceError):
        found.width = 3  # type: ignore[misc]


def test_keys_are_inherited_bases_first() -> None:
    assert Toy.keys()[:3] == ("width", "rate", "kind")


def test_a_params_class_holds_no_values() -> None:
    names = Toy.keys()
    assert not any(hasattr(Toy, name) for name in names)


def test_an_int_is_taken_for_a_float_and_becomes_one() -> None:
    @dataclass(frozen=True)
    class One(Params):
        x: float = param(ge=1)

    assert type(One.from_mapping({"x": 2}).x) is float


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "Toy: width: must be >= 1, got 0"),
        ({"rate": 0}, "Toy: rate: must be > 0, got 0.0"),
        ({"rate": 1}, "Toy: rate: must be < 1, got 1.0"),
        ({"centers": [4, 0]}, "Toy: centers: must be >= 1, got 0 in [4, 0]"),
        ({"rate": "abc"}, "Toy: rate: expected a number, got 'abc' (str)"),
        ({"rate": "0.5"}, "Toy: rate: expected a number, got '0.5' (str); write numbers without quotes"),
        ({"centers": ["4"]}, "Toy: centers: expected a whole number or a list, each a whole number, got ['4'] (list); "
                             "write numbers without quotes"),
        ({"rate": math.nan}, "Toy: rate: expected a number, got nan (float); it must be finite"),
        ({"rate": math.inf}, "Toy: rate: expected a number, got inf (float); it must be finite"),
        ({"rate": True}, "Toy: rate: expected a number, got True (bool)"),
        ({"rate": None}, "Toy: rate: expected a number, got None (NoneType)"),
        ({"width": True}, "Toy: width: expected a whole number, got True (bool)"),
        ({"width": 8.0}, "Toy: width: expected a whole number, got 8.0 (float)"),
        ({"flag": 1}, "Toy: flag: expected true or false, got 1 (int)"),
        ({"shape": 3}, "Toy: shape: expected a string, got 3 (int); put it in quotes"),
        ({"shape": "rond"}, "Toy: shape: must be one of 'round', 'square', got 'rond'; did you mean 'round'?"),
        ({"kind": "hop"}, "Toy: kind: expected one of 'hops', 'bfs', got 'hop' (str); did you mean 'hops'?"),
        ({"others": "al"}, "Toy: others: must be one of 'all', got 'al'; did you mean 'all'?"),
        ({"pair": [1]}, "Toy: pair: expected a list of 2 (a whole number, a whole number), got [1] (list)"),
        ({"extra": [1]}, "Toy: extra: expected a mapping, got [1] (list)"),
        ({"widht": 3}, "Toy: widht: unknown key; did you mean 'width'?"),
        ({"centers": 3}, "Toy: centers: must be >= width (8)"),
    ],
)  # fmt: skip
def test_a_problem_names_key_value_bound_and_nearest_choice(changes: dict[str, Any], message: str) -> None:
    assert errors(**changes) == message


def test_a_missing_value_is_named_with_its_meaning() -> None:
    with pytest.raises(ParamError, match=r"^Base: width: no value, expected a whole number \(d\)$"):
        Base.from_mapping({"rate": 0.5})


def test_all_problems_are_reported_at_once() -> None:
    text = errors(width=0, rate="abc", shape="rond", centers=3, widht=1)
    assert text.splitlines() == [
        "Toy: 4 problems",
        "  - widht: unknown key; did you mean 'width'?",
        "  - width: must be >= 1, got 0",
        "  - rate: expected a number, got 'abc' (str)",
        "  - shape: must be one of 'round', 'square', got 'rond'; did you mean 'round'?",
    ]  # the check on centers needs width, which is itself wrong


def test_a_cross_check_runs_although_another_value_is_wrong() -> None:
    assert errors(rate=7, centers=3).splitlines()[1:] == [
        "  - rate: must be < 1, got 7.0",
        "  - centers: must be >= width (8)",
    ]


def test_a_fault_inside_a_cross_check_is_not_hidden() -> None:
    @dataclass(frozen=True)
    class Faulty(Params):
        x: int = param()

        def problems(self) -> list[str]:
            return self.nothing_of_this_name  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        Faulty.from_mapping({"x": 1})


@given(st.integers(-5, 5), st.integers(-5, 5))
def test_a_bound_accepts_exactly_what_it_says(value: int, bound: int) -> None:
    @dataclass(frozen=True)
    class Bounded(Params):
        ge: int = param(ge=bound)
        gt: int = param(gt=bound)
        le: int = param(le=bound)
        lt: int = param(lt=bound)

    _, problems = Bounded.read(dict.fromkeys(Bounded.keys(), value))
    refused = {text.partition(":")[0] for text in problems}
    truth = {"ge": value >= bound, "gt": value > bound, "le": value <= bound, "lt": value < bound}
    assert refused == {name for name, holds in truth.items() if not holds}


def test_suggestions_ignore_case_and_stay_silent_when_nothing_is_near() -> None:
    assert suggest("lightgcn", ["NCL", "LightGCN"]) == "LightGCN"
    assert suggest("learning_rat", ["learning_rate", "epochs"]) == "learning_rate"
    assert suggest("qqqq", ["learning_rate", "epochs"]) is None
