"""Checks of data: every mistake is one message with place, what was found, expected, and a remedy."""

from pathlib import Path

import numpy as np
import pytest

from recmodels.data.atomic_files import available_datasets, check_files
from recmodels.data.checks import check_interactions, check_topk
from recmodels.data.loading import data_errors, load_dataset
from recmodels.data.split import (
    raw_users,
    split,
)
from recmodels.errors import DataError, ParamError
from tests import atomic as data
from tests.atomic import PAIRS, atomic, make_config, make_splits, raw_pairs, write

root = data.root


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"toy\.inter, line 1: got an empty file; expected a header like 'user_id:token\\titem_id:token'"),
        ("user_id:token\titem_id:token\n", "got a header and no rows"),
        ("user_id:token\titem_id:token\n\n\n", "got a header and no rows"),
        ("user_id\titem_id\n1\t2\n", "line 1: got column 'user_id'; expected <name>:<type>"),
        ("user_id:token\titem_id:int\n1\t2\n", "line 1: got column 'item_id:int'"),
        ("uid:token\titem_id:token\n1\t2\n", "no field 'user_id'; got .*'uid'.*USER_ID_FIELD"),
        ("user_id:token\titem:token\n1\t2\n", "no field 'item_id'.*did you mean 'item'"),
        ("user_id:token,item_id:token\n1,2\n", "separated by a comma; expected a tab. Set field_separator: ','"),
        ("user_id:token\titem_id:token\n1\t2\n3\n", r"line 3: got 1 columns \(b'3.*expected 2"),
        ("user_id:token\titem_id:token\n1\t2\t9\n", "line 2: got 3 columns"),
        ("user_id:token\titem_id:token\n1,2\n", "line 2: got 1 columns"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line_and_what_was_expected(root: Path, text: str, message: str) -> None:
    write(root, text)
    with pytest.raises(DataError, match=message):
        load_dataset(make_config(root))


def test_undecodable_bytes_are_refused_with_their_line(root: Path) -> None:
    write(root, "").write_bytes(b"user_id:token\titem_id:token\n1\t2\n\n\xe9\t3\n")
    with pytest.raises(DataError, match=r"line 4: byte 0xe9 is not utf-8.*latin-1"):
        load_dataset(make_config(root))


def test_a_file_in_another_encoding_loads_when_the_encoding_is_named(root: Path) -> None:
    write(root, "").write_bytes(atomic([("é", "x"), ("é", "y"), ("b", "z"), ("b", "x")]).encode("latin-1"))
    assert "é" in raw_users(load_dataset(make_config(root, encoding="latin-1")))


def test_a_bad_row_far_into_a_file_is_found_at_its_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recmodels.data.atomic_files.CHUNK_BYTES", 100)
    path = write(root, atomic([*[("a", "b")] * 500, ("only",), *[("a", "b")] * 50]))  # type: ignore[list-item]
    with pytest.raises(DataError, match="line 502: got 1 columns"):
        check_files(path.parent, "toy", None, ["user_id", "item_id"])


def test_a_quoted_value_may_hold_the_separator(root: Path) -> None:
    path = write(root, 'user_id:token\titem_id:token\n1\t"a\tb"\n2\tc\n')
    check_files(path.parent, "toy", None, ["user_id", "item_id"])


def test_windows_line_ends_load_like_unix_ones(root: Path) -> None:
    write(root, "").write_bytes(atomic(PAIRS).replace("\n", "\r\n").encode())
    dataset = load_dataset(make_config(root))
    assert raw_pairs(dataset, dataset) == PAIRS


def test_a_missing_data_set_is_named_with_the_nearest_that_exists(root: Path) -> None:
    write(root, atomic(PAIRS), "gowalla.inter")
    (root / "empty").mkdir()
    assert available_datasets(root) == ["gowalla", "ml-100k"]
    with pytest.raises(DataError, match="data set 'gowala': no folder .*gowala.*did you mean 'gowalla'"):
        load_dataset(make_config(root, dataset="gowala"))
    with pytest.raises(DataError, match="did you mean 'ml-100k'"):
        load_dataset(make_config(root, dataset="ml100k"))
    with pytest.raises(DataError, match=r"no file .*empty\.inter"):
        load_dataset(make_config(root, dataset="empty"))


def test_a_fixed_split_without_its_option_is_answered_with_the_option(root: Path) -> None:
    for part in ("train90", "valid10", "test"):
        write(root, atomic(PAIRS), f"toy.{part}.inter")
    with pytest.raises(
        DataError, match="no file .*toy.inter; in that folder is a fixed split with the parts"
    ) as caught:
        load_dataset(make_config(root))
    assert "test, train90, valid10: name its train, valid and test part" in str(caught.value)
    assert str(caught.value).endswith("'--benchmark_filename=[train90,valid10,test]'")


def test_a_field_that_load_col_asks_for_must_be_in_the_file(root: Path) -> None:
    write(root, atomic(PAIRS))
    with pytest.raises(DataError, match="no field 'rating'"):
        load_dataset(make_config(root, load_col={"inter": ["user_id", "item_id", "rating"]}))
    with pytest.raises(DataError, match=r"load_col\.inter: got \['user_id'\], without 'item_id'"):
        load_dataset(make_config(root, load_col={"inter": ["user_id"]}))


def test_a_value_that_is_no_number_is_a_data_error_with_the_value(root: Path) -> None:
    write(root, "user_id:token\titem_id:token\trating:float\na\tb\t3\na\tc\tgood\n")
    with pytest.raises(DataError, match="data set 'toy'.*good"):
        load_dataset(make_config(root, load_col={"inter": ["user_id", "item_id", "rating"]}))


def test_filters_that_leave_nothing_are_named_with_the_count(root: Path) -> None:
    write(root, atomic(PAIRS))
    with pytest.raises(DataError, match=f"none of {len(PAIRS)} interactions .*user_inter_num_interval"):
        load_dataset(make_config(root, user_inter_num_interval="[99,inf)"))


def test_too_few_users_or_items_are_counted() -> None:
    names = np.array(["[PAD]", "a", "b"])
    with pytest.raises(DataError, match="2 interactions of 1 users and 2 items"):
        check_interactions(np.array([1, 1]), np.array([1, 2]), names, 4)
    with pytest.raises(DataError, match="2 interactions of 2 users and 1 items"):
        check_interactions(np.array([1, 2]), np.array([1, 1]), names, 4)


def test_a_user_with_every_item_is_named_and_one_with_all_but_one_is_accepted() -> None:
    names, items = np.array(["[PAD]", "a", "b"]), np.array([1, 2, 3, 1, 1])
    with pytest.raises(DataError, match="user 'b' has interacted with all 3 items.*user_inter_num_interval"):
        check_interactions(np.array([2, 2, 2, 1, 1]), items, names, 4)
    check_interactions(np.array([2, 2, 1, 1, 1]), np.array([1, 2, 1, 1, 3]), names, 4)


def test_a_row_without_an_item_in_a_fixed_split_is_refused(root: Path) -> None:
    for part, pairs in {"train": [("a", "x"), ("b", "")], "valid": [("a", "y")], "test": [("b", "y")]}.items():
        write(root, atomic(pairs), f"toy.{part}.inter")
    with pytest.raises(DataError, match="some without a user or an item"):
        load_dataset(make_config(root, benchmark_filename=["train", "valid", "test"]))


def test_empty_parts_are_named_with_all_counts(root: Path) -> None:
    with pytest.raises(DataError, match=r"empty part valid: got train \d+, valid 0, test 12 .*eval_args.split"):
        make_splits(root, eval_args={"split": {"LS": "test_only"}, "order": "RO", "mode": "full"})


def test_sampled_evaluation_is_refused_by_name(root: Path) -> None:
    with pytest.raises(ParamError, match="eval_args.mode.valid: got 'uni100'; expected 'full'"):
        make_splits(root, eval_args={"mode": "uni100"})


def test_an_unknown_split_is_a_data_error_that_shows_eval_args(root: Path) -> None:
    with pytest.raises(DataError, match="split of 'toy' by eval_args .*XS"):
        make_splits(root, eval_args={"split": {"XS": [1]}})


# repeats


def test_repeated_interactions_are_counted_unless_one_stays_or_repeats_are_wanted(root: Path) -> None:
    write(root, atomic([*PAIRS, *PAIRS[:3], PAIRS[1]]))
    user, item = PAIRS[1]
    message = (
        f"4 of {len(PAIRS) + 4} interactions repeat .*: user '{user}' and item '{item}' occur 3 times.*rm_dup_inter"
    )
    with pytest.raises(DataError, match=message):
        load_dataset(make_config(root))
    dataset = load_dataset(make_config(root, rm_dup_inter="first"))
    assert raw_pairs(dataset, dataset) == PAIRS
    assert len(load_dataset(make_config(root, repeatable=True))) == len(PAIRS) + 4


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([PAIRS[:60], PAIRS[58:80], PAIRS[80:]], "got 2 user-item pairs that are in both train and valid"),
        (
            [PAIRS[:60], PAIRS[60:80], PAIRS[57:58] + PAIRS[80:]],
            "got 1 user-item pairs that are in both train and test",
        ),
        ([PAIRS[:60], PAIRS[60:80], PAIRS[77:]], "got 3 user-item pairs that are in both valid and test"),
    ],
)
def test_parts_of_a_fixed_split_with_common_pairs_are_refused(
    root: Path, parts: list[list[tuple[str, str]]], message: str
) -> None:
    names = ["train", "valid", "test"]
    for name, pairs in zip(names, parts, strict=True):
        write(root, atomic(pairs), f"toy.{name}.inter")
    config = make_config(root, benchmark_filename=names)
    with pytest.raises(DataError, match=message):
        split(config, load_dataset(config), 1)
    config = make_config(root, benchmark_filename=names, repeatable=True)
    assert len(split(config, load_dataset(config), 1).train.dataset) == 60


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_file_of_a_fixed_split_that_repeats_a_pair_is_refused_unless_repeats_are_wanted(
    root: Path, place: int
) -> None:
    names, parts = ["train", "valid", "test"], [PAIRS[:60], PAIRS[60:80], PAIRS[80:]]
    parts[place] = [*parts[place], *parts[place][:2], parts[place][1]]
    for name, pairs in zip(names, parts, strict=True):
        write(root, atomic(pairs), f"toy.{name}.inter")
    config = make_config(root, benchmark_filename=names)
    user, item = parts[place][1]
    message = (
        rf"^benchmark_filename '{names[place]}': 3 of {len(parts[place])} interactions repeat a user-item pair: user "
        rf"'{user}' and item '{item}' occur 3 times; .* Remove it from the file, .*, or set repeatable: true"
    )
    with pytest.raises(DataError, match=message) as caught:
        split(config, load_dataset(config), 1)
    assert "rm_dup_inter" not in str(caught.value)  # it is refused beside a fixed split
    config = make_config(root, benchmark_filename=names, repeatable=True)
    assert len(split(config, load_dataset(config), 1)[place].dataset) == len(parts[place])


def test_one_file_may_be_valid_and_test(root: Path) -> None:
    for name, pairs in (("train", PAIRS[:90]), ("test", PAIRS[90:])):
        write(root, atomic(pairs), f"toy.{name}.inter")
    config = make_config(root, benchmark_filename=["train", "test", "test"])
    splits = split(config, load_dataset(config), 1)
    assert raw_pairs(splits.valid, splits.dataset) == raw_pairs(splits.test, splits.dataset) == PAIRS[90:]


# filters and lists


def test_a_filter_must_fit_the_kind_of_its_column(root: Path) -> None:
    write(root, "user_id:token\titem_id:token\trating:float\na\tb\t3\na\tc\t4\nd\tb\t5\nd\te\t2\n")
    load = {"inter": ["user_id", "item_id", "rating"]}
    for interval, message in (
        ({"user_id": "[3,inf)"}, r"val_interval\.user_id: got '\[3,inf\)' for a column of names; expected a list"),
        ({"rating": [3, 4]}, r"val_interval\.rating: got \[3, 4\] for a column of numbers; expected an interval"),
        (
            {"ratings": "[3,inf)"},
            r"val_interval\.ratings: .*loaded are user_id, item_id, rating; did you mean 'rating'",
        ),
    ):
        with pytest.raises(DataError, match=message):
            load_dataset(make_config(root, load_col=load, val_interval=interval))
    assert len(load_dataset(make_config(root, load_col=load, val_interval={"user_id": ["a", "d"]}))) == 4


@pytest.mark.parametrize("error", [TypeError, AttributeError, LookupError, KeyError, ValueError])
def test_what_recbole_raises_about_data_is_a_data_error_with_the_place(error: type[Exception]) -> None:
    with (
        pytest.raises(DataError, match=f"data set 'x': {error.__name__}: .*why") as caught,
        data_errors("data set 'x'"),
    ):
        raise error("why")
    assert isinstance(caught.value.__cause__, error)


def test_lists_may_be_as_long_as_there_are_items() -> None:
    check_topk([2, 5], n_items=6)
    with pytest.raises(ParamError, match=r"topk: got 6 in \[6, 2\]; expected at most 5, the number of items"):
        check_topk([6, 2], n_items=6)
