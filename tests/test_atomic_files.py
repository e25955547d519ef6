"""Quotes and byte order marks in atomic files: no row vanishes and no column hides."""

import codecs
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recmodels.data.atomic_files import check_file
from recmodels.data.loading import load_dataset
from recmodels.errors import DataError
from tests import atomic as data
from tests.atomic import PAIRS, atomic, make_config, raw_pairs, write

root = data.root


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('"u2\ti3', r"toy\.inter, line 3: got a quote that is not closed in its line .*expected 2 columns"),
        ('u2\t"i3', "line 3: got a quote that is not closed in its line"),
        ('"u2\t""', "line 3: got a quote that is not closed"),
        ('"u2\ti3"', "line 3: got 1 columns"),
        ('"u2"\ti3\t"x"', "line 3: got 3 columns"),
    ],
)
def test_a_quote_that_swallows_or_hides_a_column_is_refused_at_its_line(root: Path, row: str, message: str) -> None:
    write(root, f"user_id:token\titem_id:token\nu1\ti1\n{row}\nu3\ti1\n")
    with pytest.raises(DataError, match=message):
        load_dataset(make_config(root))


FIELDS = st.text(alphabet='a" ', min_size=1, max_size=5)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=5))
def test_accepted_quotes_leave_as_many_rows_as_lines(root: Path, pairs: list[tuple[str, str]]) -> None:
    path = write(root, atomic(pairs))
    try:
        check_file(path, ["user_id", "item_id"])
    except DataError:
        return
    assert len(pd.read_csv(path, delimiter="\t", dtype=str, index_col=False)) == len(pairs)


def test_quotes_inside_a_value_and_whole_quoted_values_are_accepted(root: Path) -> None:
    rows = [('12" vinyl', "x"), ('"a\tb"', '"say ""hi"""'), ('c"', "y"), ("d", "x")]
    write(root, atomic(rows))
    dataset = load_dataset(make_config(root))
    assert raw_pairs(dataset, dataset) == [('12" vinyl', "x"), ("a\tb", 'say "hi"'), ('c"', "y"), ("d", "x")]


def test_quotes_mean_nothing_beside_a_separator_of_two_characters(root: Path) -> None:
    write(root, atomic([('"a', "x"), ("b", 'y"'), ("c", "x")]).replace("\t", "::"))
    dataset = load_dataset(make_config(root, field_separator="::"))
    assert raw_pairs(dataset, dataset) == [('"a', "x"), ("b", 'y"'), ("c", "x")]


def test_an_unclosed_quote_in_a_file_of_items_is_found(root: Path) -> None:
    write(root, atomic(PAIRS))
    write(root, 'item_id:token\ttitle:token_seq\ni0\t"Alien\ni1\tBrazil"\ni2\tCube\n', "toy.item")
    loaded = {"inter": ["user_id", "item_id"], "item": ["item_id", "title"]}
    with pytest.raises(DataError, match=r"toy\.item, line 2: got a quote that is not closed"):
        load_dataset(make_config(root, load_col=loaded))
    assert len(load_dataset(make_config(root, load_col={"inter": ["user_id", "item_id"]}))) == len(PAIRS)


def test_a_byte_order_mark_is_named_and_read_when_the_encoding_says_so(root: Path) -> None:
    write(root, "").write_bytes(codecs.BOM_UTF8 + atomic(PAIRS).encode())
    with pytest.raises(DataError, match=r"line 1: got a byte order mark .*Set encoding: utf-8-sig") as caught:
        load_dataset(make_config(root))
    assert str(caught.value).isprintable()
    dataset = load_dataset(make_config(root, encoding="utf_8_sig"))
    assert raw_pairs(dataset, dataset) == PAIRS
