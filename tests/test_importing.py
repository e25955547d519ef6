"""`recmodels data`: files of the field's formats become atomic files that hold the same interactions, or nothing."""

import errno
import os
import re
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recmodels.data import ratings_files
from recmodels.data.adjacency_lists import AdjacencyLists, read_adjacency_lists
from recmodels.data.atomic_writing import Target, copy_of, table, write_dataset
from recmodels.data.importing import import_ratings
from recmodels.data.interaction_tables import Table, without_duplicates
from recmodels.data.loading import load_dataset
from recmodels.data.ratings_layout import Layout, find_layout
from recmodels.errors import DataError
from recmodels.experiments.session import prepare, resolve_train
from recmodels.files import in_the_way
from tests.atomic import make_config, raw_pairs
from tests.data_commands import data, frame_of, refused

FULL = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
RATED = "user_id:token\titem_id:token\trating:float\n"
PAIR = "user_id:token\titem_id:token\n"
# Content of a file, options, and the atomic file it becomes.
FORMATS: dict[str, tuple[bytes, list[str], str]] = {
    "ratings.dat": (
        b"1::1193::5::978300760\n1::661::3::978302109\n2::661::2::978301968\n",
        [],
        f"{FULL}1\t1193\t5\t978300760\n1\t661\t3\t978302109\n2\t661\t2\t978301968\n",
    ),
    "ratings.dat in latin-1": (
        b"1::Caf\xe9::5::1\n2::b::3::2\n",
        [],
        f"{FULL}1\tCafé\t5\t1\n2\tb\t3\t2\n",
    ),
    "ratings.csv": (
        b"userId,movieId,rating,timestamp\r\n10,31,2.5,1260759144\r\n\r\n1,031,3.0,1260759179\r\n",
        [],
        f"{FULL}10\t31\t2.5\t1260759144\n1\t031\t3.0\t1260759179\n",
    ),
    "csv below blank lines": (
        b"\n \r\nuser_id,item_id\nu1,i1\n\nu1,i2\n",
        [],
        f"{PAIR}u1\ti1\nu1\ti2\n",
    ),
    "ratings below a blank line": (b"\n1,2,3\n1,3,2\n", [], f"{RATED}1\t2\t3\n1\t3\t2\n"),
    "u.data": (
        b"196\t242\t3\t881250949\n186\t302\t3\t891717742",
        [],
        f"{FULL}196\t242\t3\t881250949\n186\t302\t3\t891717742\n",
    ),
    "csv with quotes, a mark and other columns": (
        b'\xef\xbb\xbf"time","Item ID","note","user"\n7.5,"a, b","x",ann\n8,c,"y ""z""",bob\n',
        [],
        "user_id:token\titem_id:token\ttimestamp:float\nann\ta, b\t7.5\nbob\tc\t8.0\n",
    ),
    "two columns": (b"ann b1\nbob b2\n", [], f"{PAIR}ann\tb1\nbob\tb2\n"),
    "an atomic file": (f"{PAIR}a\tx\nb\ty\n".encode(), [], f"{PAIR}a\tx\nb\ty\n"),
    "given layout": (
        b"when|who|what|much\n5|u1|i1|4\n6|u2|i2|5\n",
        ["--separator=pipe", "--header", "--columns=timestamp,user,item"],
        "user_id:token\titem_id:token\ttimestamp:float\nu1\ti1\t5\nu2\ti2\t6\n",
    ),
    "a header nobody knows above numbers": (
        b"a,b,c\n1,2,3\n4,5,6\n",
        ["--columns=item,user,-"],
        f"{PAIR}2\t1\n5\t4\n",
    ),
    "no header against the guess": (
        b"user,item\nu1,i1\n",
        ["--no_header"],
        f"{PAIR}user\titem\nu1\ti1\n",
    ),
    "blanks beside separators": (
        b"user, item, rating\n0, 4, 3\n0,5 ,2.0\n 1,4 , 3\n",
        [],
        f"{RATED}0\t4\t3\n0\t5\t2.0\n1\t4\t3\n",
    ),
    "header with hyphens": (b"User-ID;ISBN;Book-Rating\nu;0034\x58;5\n", [], f"{RATED}u\t0034X\t5\n"),
    "threshold": (
        b"1,2,3\n1,3,2.99\n2,2,4\n",
        ["--min_rating=3"],
        f"{RATED}1\t2\t3\n2\t2\t4\n",
    ),
    "first of the repeated": (b"1,2,3\n1,3,2\n1,2,4\n", ["--duplicates=first"], f"{RATED}1\t2\t3\n1\t3\t2\n"),
    "last of the repeated": (b"1,2,3\n1,3,2\n1,2,4\n", ["--duplicates=last"], f"{RATED}1\t3\t2\n1\t2\t4\n"),
    "all of the repeated": (b"1,2,3\n1,3,2\n1,2,4\n", ["--duplicates=keep"], f"{RATED}1\t2\t3\n1\t3\t2\n1\t2\t4\n"),
    "the last rating decides before the threshold": (
        b"1,2,5\n1,3,4\n1,2,1\n",
        ["--duplicates=last", "--min_rating=3"],
        f"{RATED}1\t3\t4\n",
    ),
}
GOOD = b"1,2,3,4\n1,3,5,6\n"
# Content of a file, options, and what the message must contain.
BAD: dict[str, tuple[bytes, list[str], list[str]]] = {
    "empty file": (b"", [], ["r: got an empty file; expected a line for every rating"]),
    "header only": (b"user,item\n", [], ["r: got a header and no rows"]),
    "header without items below a blank line": (b"\nuser,thing\n1,2\n", [], ["r, line 2: no column of items; got the"]),
    "too few columns below a blank line": (
        b"\nuser,item\n1,2\n1\n",
        [],
        ["r, line 4: got 1 columns ('1\\n'); expected 2"],
    ),
    "one bad byte in UTF-8": (
        "user,item\nZoë,1\nRené,2\nAnn,3\n".encode().replace(b"\xc3\xa9", b"\xe9"),
        [],
        ["r, line 3: got byte 0xe9, which is not UTF-8", "1 such lines, and 1 with letters beyond", "save the file as"],
    ),
    "an end within a character": ("u,1\nu,\u6f22".encode()[:-1], [], ["r, line 2: got byte 0xe6, which is not UTF-8"]),
    "a bad byte below a mark of UTF-8": (b"\xef\xbb\xbfu,1\nu,\xe9\nu,\xe8\n", [], ["r, line 2: got byte 0xe9"]),
    "binary file": (b"PK\3\4\0\0", [], ["r: got a binary file or UTF-16; expected plain text. Unpack it"]),
    "old line ends": (b"1,2\r1,3\r", [], ["r: got a carriage return within a line; expected lines that end in"]),
    "nothing separates": (
        b"ann\nbob\n",
        [],
        ["line 1: got 'ann', in which nothing separates columns; expected one of"],
    ),
    "other separator": (GOOD, ["--separator=tab"], ["line 1: got 1 column without a header, separated by a tab"]),
    "empty separator": (GOOD, ["--separator="], ["separator: got ''; expected characters that stand between"]),
    "too few columns": (
        b"1,2,3\n\n1,3\n",
        [],
        ["r, line 3: got 2 columns ('1,3\\n'); expected 3, separated by a comma, no header, columns user"],
    ),
    "too many columns": (b"1::2::3\n1::3::4::5\n", [], ["r, line 2: got 4 columns ('1::3::4::5\\n'); expected 3"]),
    "open quote": (b'1,2\n"1,3\n', [], ["r, line 2: got a quote that is not closed in its line"]),
    "tab beside a long separator": (b"1::2\n1::3\t4\n", [], ["r, line 2: got a tab within 2 columns"]),
    "many columns without a header": (b"a,b,c,d,e\n", [], ["line 1: got 5 columns without a header", "--columns=user"]),
    "header without items": (
        b"user,thing\n1,2\n",
        [],
        ["line 1: no column of items; got the header ['user', 'thing']; expected a name like itemid", "--columns="],
    ),
    "two columns of users": (b"user,uid,item\n1,1,2\n", [], ["several columns that look like user_id", "expected one"]),
    "unknown column": (
        GOOD,
        ["--columns=usr,item"],
        ["columns: unknown column 'usr' in 'usr,item'; expected names out of user, item", "did you mean 'user'?"],
    ),
    "column twice": (GOOD, ["--columns=user,item,item"], ["columns: got 'item' twice in"]),
    "no item column": (GOOD, ["--columns=user,rating"], ["columns: got 'user,rating'; expected both user and item"]),
    "too many names": (GOOD, ["--columns=user,item,-,-,-"], ["columns: got 5 names", "expected at most 4, as in the"]),
    "repeated but for blanks": (b"0,4,3\n0, 4,5\n", [], ["r, line 2: got user '0' and item '4' again, after line 1"]),
    "blank id": (b"1,2\n  ,3\n", [], ["r, line 2: got user_id ''; expected a name without tabs"]),
    "columns that the file has": (b"who,what,n\n1,2,3\n", [], ["no column of users", "e.g. --columns=user,item,-\n"]),
    "decimal commas": (
        b"user;item;rating\n1;2;3,5\n",
        [],
        ["r, line 2: got rating '3,5'; expected a number with a decimal point, 3.5. Replace the decimal commas"],
    ),
    "rating in words": (b"1,2,3\n1,3,good\n", [], ["r, line 2: got rating 'good'; expected a finite number"]),
    "infinite rating": (b"1,2,3\n1,3,inf\n", [], ["r, line 2: got rating 'inf'; expected a finite number"]),
    "header taken for a rating": (b"user,item,rating\n1,3,4\n", ["--no_header"], ["line 1", "add --header"]),
    "date": (
        b"1,2,3,2020-01-01\n1,3,3,2020-01-02\n",
        [],
        ["r, line 1: got timestamp '2020-01-01'; expected a finite number", "--columns=user,item,-"],
    ),
    "time left empty": (b"1,2,3,4\n1,3,3,\n", [], ["r, line 2: got timestamp ''; expected a finite number"]),
    "empty id": (b"1,2\n,3\n", [], ["r, line 2: got user_id ''; expected a name without tabs"]),
    "missing id": (b"1,2\n1,NaN\n", [], ["r, line 2: got item_id 'NaN'; expected a name"]),
    "id with a tab": (b'1,2\n1,"a\tb"\n', [], ["r, line 2: got item_id 'a\\tb'; expected a name without tabs"]),
    "id with a quote": (b'1,2\n1,"a""b"\n', [], ["r, line 2: got item_id 'a\"b'; expected a name without tabs"]),
    "nothing above the threshold": (
        GOOD,
        ["--min_rating=6"],
        ["r: got no interaction with a rating of at least 6.0, of 2; lower --min_rating"],
    ),
    "threshold without ratings": (b"1,2\n", ["--min_rating=3"], ["min_rating: got 3, but r has no column of ratings"]),
    "infinite threshold": (GOOD, ["--min_rating=inf"], ["argument --min_rating: got inf, expected a finite number"]),
    "threshold in words": (GOOD, ["--min_rating=x"], ["argument --min_rating: invalid number value: 'x'"]),
    "repeated pair": (
        b"user,item\n1,2\n1,3\n1,2\n1,3\n",
        [],
        ["r, line 4: got user '1' and item '2' again, after line 2 (rows that repeat a pair: 2)", "--duplicates=first"],
    ),
    "name with a path": (GOOD, ["--dataset=../x"], ["dataset: got '../x'; expected a plain folder name"]),
    "name of the parent": (GOOD, ["--dataset=.."], ["dataset: got '..'; expected a plain folder name"]),
    "unknown option": (GOOD, ["--mim_rating=3"], ["unknown argument '--mim_rating'; did you mean '--min_rating'?"]),
    "unknown choice": (GOOD, ["--duplicates=one"], ["argument --duplicates: invalid choice: 'one'"]),
}
TRAIN, TEST = "0 1 2 3 4\n1\n2 5 6 \n", "0 5\n3\n7 9 1\n"
LISTS: dict[str, tuple[str, str, list[str], list[str]]] = {
    "repeated item": (
        "0 1 2\n1 3 4 3\n",
        TEST,
        [],
        ["lg/train.txt, line 2: got user '1' and item '3' again, after line 2", "keep one: --duplicates=first"],
    ),
    "pair in both": (
        TRAIN,
        "7 1\n2 6\n",
        [],
        ["lg/test.txt, line 2: got user '2' and item '6', which are in train too (lg/train.txt, line 3; pairs"],
    ),
    "no test pair": (TRAIN, "0\n", [], ["lg/test.txt: got no interaction; expected in each line a user and then its"]),
    "tabs": (
        "0\t1\n1 2\n3\t4 5\n",
        TEST,
        [],
        ["lg/train.txt, line 3: got user_id '3\\t4'; expected a name without", "; ids are separated by spaces alone\n"],
    ),
    "share of 1": (TRAIN, TEST, ["--valid=1"], ["valid: got 1; expected a share above 0 and below 1"]),
    "nobody gives": (TRAIN, TEST, [], ["no user with enough train pairs to give 0.1", "some with 5 pairs or more"]),
    "seed in words": (TRAIN, TEST, ["--split_seed=x"], ["argument --split_seed: invalid whole number value: 'x'"]),
}


def write_lists(train: str = TRAIN, test: str = TEST, folder: str = "lg") -> None:
    Path(folder).mkdir()
    (Path(folder) / "train.txt").write_text(train)
    (Path(folder) / "test.txt").write_text(test)


def pairs_of(name: str, part: str, root: str = "dataset") -> list[tuple[str, str]]:
    header, *rows = Path(root, name, f"{name}.{part}.inter").read_text().splitlines()
    assert header + "\n" == PAIR
    return [(user, item) for user, item in (row.split("\t") for row in rows)]


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_ratings_becomes_the_atomic_file_that_holds_the_same(name: str) -> None:
    content, options, expected = FORMATS[name]
    Path("r").write_bytes(content)
    assert data("import", "ratings", "r", "--dataset=new", *options) == 0
    assert Path("dataset/new/new.inter").read_text(encoding="utf-8") == expected
    assert sorted(path.name for path in Path().rglob("*")) == ["dataset", "new", "new.inter", "r"]


def test_blocks_of_a_file_make_one_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"u{row % 7}\ti{row}\t{row % 5}\t{row if row < 20 else row + 0.5}" for row in range(40)]
    Path("r").write_text("\n\n".join(rows))
    monkeypatch.setattr(ratings_files, "CHUNK_BYTES", 64)
    assert data("import", "ratings", "r", "--dataset=new") == 0
    back = pd.read_csv("dataset/new/new.inter", sep="\t", dtype={"user_id:token": str, "rating:float": str})
    split_rows = [row.split("\t") for row in rows]
    assert back["user_id:token"].tolist() == [row[0] for row in split_rows]
    assert back["rating:float"].tolist() == [row[2] for row in split_rows]
    assert back["timestamp:float"].tolist() == [float(row[3]) for row in split_rows]
    Path("r").write_text("\n\n".join([*rows, rows[13]]))
    capsys.readouterr()
    assert "r, line 81: got user 'u6' and item 'i13' again, after line 27" in refused(
        capsys, "import", "ratings", "r", "--dataset=other"
    )


def test_the_summary_says_what_was_read_dropped_kept_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("ratings.dat").write_text("1::10::5::7\n1::20::2::8\n2::10::3::9\n3::30::1::9\n2::10::4::9\n")
    options = ["--dataset=new", "--data_path=my data", "--min_rating=3", "--duplicates=first"]
    assert data("import", "ratings", "ratings.dat", *options) == 0
    assert capsys.readouterr().out.splitlines() == [
        "read     5 rows of ratings.dat, separated by '::', no header, columns user, item, rating, timestamp (guessed "
        "from the first lines)",
        "dropped  1 rows that repeat a pair; 2 rows with a rating below 3",
        "dropped  1 users and 2 items of which no row is left",
        "kept     2 pairs of 2 users and 1 items, density 100.0000%",
        "wrote    my data/new/new.inter",
        "next: recmodels train --model=LightGCN --dataset=new '--data_path=my data'",
    ]


def test_the_summary_says_that_a_file_is_not_utf_8(capsys: pytest.CaptureFixture[str]) -> None:
    for content, is_said in (("Zoë,1\nRené,2\n".encode("latin-1"), True), ("Zoë,1\nRené,2\n".encode(), False)):
        Path("r").write_bytes(content)
        assert data("import", "ratings", "r", "--dataset=new", "--overwrite") == 0
        out = capsys.readouterr().out
        assert ("\nread     as latin-1, because the file is not UTF-8\n" in out) == is_said
        assert Path("dataset/new/new.inter").read_text(encoding="utf-8") == f"{PAIR}Zoë\t1\nRené\t2\n"


def test_kept_repetitions_are_counted_and_the_next_command_allows_them(capsys: pytest.CaptureFixture[str]) -> None:
    Path("r").write_text("1,2\n1,3\n1,2\n")
    assert data("import", "ratings", "r", "--dataset=new", "--duplicates=keep") == 0
    out = capsys.readouterr().out
    assert (
        "kept     2 pairs of 1 users and 2 items, density 100.0000%\nkept     1 further rows that repeat a pair" in out
    )
    assert out.endswith("--data_path=dataset --repeatable=true\n")


@pytest.mark.parametrize("mistake", BAD)
def test_a_bad_file_of_ratings_is_one_message(mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    content, options, words = BAD[mistake]
    Path("r").write_bytes(content)
    message = refused(capsys, "import", "ratings", "r", "--dataset=new", *options)
    for word in words:
        assert word in message


@pytest.mark.parametrize("mistake", LISTS)
def test_bad_adjacency_lists_are_one_message(mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    train, test, options, words = LISTS[mistake]
    write_lists(train, test)
    message = refused(capsys, "import", "lightgcn", "lg", "--dataset=new", *options)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["import", "ratings", "absent"], "absent: no such file; expected a file of ratings"),
        (["import", "ratings", "folder"], "folder: got a folder; expected a file of ratings, e.g. folder/ratings.dat"),
        (["import", "lightgcn", "absent"], "absent: got no such folder; expected a folder with LightGCN's train.txt"),
        (["import", "lightgcn", "file"], "file: got a file; expected a folder with LightGCN's train.txt"),
        (["import", "lightgcn", "folder"], "folder/train.txt: got no such file; expected a file of LightGCN's format"),
        (
            ["import", "lightgcn"],
            "the following arguments are required: DIR; try recmodels data import lightgcn --help",
        ),
        (["import", "ratngs", "file"], "unknown command 'data import ratngs'; did you mean 'import ratings'?"),
        (["crave", "new"], "unknown command 'data crave'; did you mean 'carve'?"),
    ],
)
def test_what_is_not_there_is_named(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    Path("file").write_text("1,2\n")
    assert expected in refused(capsys, *words, "--dataset=new")


def test_a_data_set_that_exists_is_replaced_only_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    Path("r").write_text("1,2\n")
    given = ["import", "ratings", "r", "--dataset=new"]
    assert data(*given) == 0
    Path("r").write_text("3,4\n")
    capsys.readouterr()
    message = refused(capsys, *given)
    assert "dataset/new/new.inter: got what already exists; expected a new data set" in message
    assert "add --overwrite" in message
    assert data(*given, "--overwrite") == 0
    assert Path("dataset/new/new.inter").read_text() == f"{PAIR}3\t4\n"


def test_parts_that_would_stay_beside_another_train_or_test_part_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["import", "lightgcn", "lg", "--dataset=new", "--overwrite"]
    write_lists()
    assert data(*given, "--valid=0.4") == data(*given, "--valid=0.2") == 0  # of one train part
    capsys.readouterr()
    (Path("lg") / "test.txt").write_text("2 9\n")
    message = refused(capsys, *given, "--valid=0.2")
    assert message.startswith("error: dataset/new/new.train60.inter, dataset/new/new.valid40.inter: got parts of the")
    assert "beside another dataset/new/new.test.inter; expected none" in message
    for part in ("train60", "valid40"):
        (Path("dataset/new") / f"new.{part}.inter").unlink()
    assert data(*given, "--valid=0.2") == 0
    assert pairs_of("new", "test") == [("2", "9")]


def test_one_existing_file_of_a_split_refuses_all(capsys: pytest.CaptureFixture[str]) -> None:
    write_lists()
    Path("dataset/new").mkdir(parents=True)
    Path("dataset/new/new.valid40.inter").write_text("mine")
    message = refused(capsys, "import", "lightgcn", "lg", "--dataset=new", "--valid=0.4")
    assert message.startswith("error: dataset/new/new.valid40.inter: got what already exists")


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_failure_while_writing_leaves_nothing_new(
    failing: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")

    write_lists()
    monkeypatch.setattr(os, "fsync", full)
    message = refused(capsys, "import", "lightgcn", "lg", "--dataset=new", "--valid=0.4")
    assert "cannot write into dataset/new: No space left on device; expected a folder that can be written" in message
    assert len(calls) == failing


def test_a_failure_while_renaming_leaves_nothing_new_and_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target(tmp_path, "new", overwrite=True)
    target.folder.mkdir()
    (target.folder / "new.b.inter").write_text("old")
    whole_replace = Path.replace

    def replace(self: Path, other: Path) -> Path:
        if other.name == "new.b.inter":
            raise KeyboardInterrupt
        return whole_replace(self, other)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(target, {part: table(frame_of([("u", "i")])) for part in ("a", "b")})
    assert {path.name: path.read_text() for path in target.folder.iterdir()} == {"new.b.inter": "old"}


def test_a_file_in_the_place_of_a_folder_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("r").write_text("1,2\n")
    write_lists()
    for words in (
        ["import", "ratings", "r", "--dataset=new", "--data_path=r"],
        ["import", "lightgcn", "lg", "--dataset=r", "--data_path=."],
        ["carve", "new", "--data_path=dataset", "--out=r"],
    ):
        assert "error: r: got a file; expected a folder, or nothing, where r" in refused(capsys, *words)
    assert in_the_way(Path("lg/deep/down")) is None
    assert in_the_way(Path("lg/test.txt/down")) == Path("lg/test.txt")


def test_the_next_command_reads_what_was_written_whatever_is_shipped_under_the_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [(user, item) for user in range(8) for item in range(12) if item not in (user, user + 1)]
    Path("r").write_text("".join(f"{user},{item}\n" for user, item in rows))
    lists = [" ".join([str(user), *(str(i) for u, i in rows if u == user)]) for user in range(8)]
    write_lists("\n".join(lists), "\n".join(f"{user} {user}" for user in range(8)))
    for name, added in (
        ("gowalla", ["--benchmark_filename=null"]),
        ("ml-1m", ["--load_col={inter: [user_id, item_id]}", "--val_interval=null"]),
        ("ml-1m-r3", []),
    ):
        for folder, command in (("whole", ["ratings", "r"]), ("parts", ["lightgcn", "lg"])):
            assert data("import", *command, f"--dataset={name}", f"--data_path={folder}") == 0
            lines = [line for line in capsys.readouterr().out.splitlines() if "recmodels train" in line]
            assert len(lines) == 1 + (folder == "parts")
            for line in lines:
                words = shlex.split(line.partition("recmodels train ")[2])
                if folder == "whole":
                    assert words[3:] == added
                splits = prepare(resolve_train([*words, "--topk=[1]", "--valid_metric=NDCG@1"])).splits
                assert len(splits.dataset.inter_feat) >= len(rows)


def test_a_file_that_may_not_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_rights(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "r")

    Path("r").write_text("1,2\n")
    monkeypatch.setattr("recmodels.data.importing.read_ratings", no_rights)
    assert "r: Permission denied; check the path" in refused(capsys, "import", "ratings", "r", "--dataset=new")


def test_an_interruption_says_that_nothing_is_half_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recmodels.commands.data.run", interrupted)
    assert data("carve", "new") == 130
    assert capsys.readouterr().err == "interrupted; no file is half-written, the same command starts again\n"


def test_a_layout_is_guessed_from_the_first_lines_and_said() -> None:
    Path("r").write_text("userId;movieId;tag\n1;2;a, b\n3;4;c\n")
    layout = find_layout(Path("r"))
    assert layout == Layout(";", True, ("user_id", "item_id", None), True)
    assert (
        layout.describe() == "separated by a semicolon, a header, columns user, item, - (guessed from the first lines)"
    )
    assert find_layout(Path("r"), "semicolon", True, "user,item") == Layout(
        ";", True, ("user_id", "item_id", None), False
    )


def test_the_imported_ratings_are_what_the_loader_reads() -> None:
    rows = [(f"u{user}", f"0{item}", (user * item) % 5 + 0.5) for user in range(8) for item in range(9) if user != item]
    Path("r").write_text("".join(f"{user}::{item}::{rating}::1\n" for user, item, rating in rows))
    path = Path("r")
    summary = import_ratings(path, find_layout(path), Target(Path("data"), "toy"), min_rating=2.5)
    kept = [(user, item) for user, item, rating in rows if rating >= 2.5]
    dataset = load_dataset(make_config(Path("data")))
    assert raw_pairs(dataset, dataset) == kept
    assert f"kept     {len(kept)} pairs of {len(set(dict(kept)))} users" in summary


def test_adjacency_lists_become_four_files(capsys: pytest.CaptureFixture[str]) -> None:
    write_lists()
    assert data("import", "lightgcn", "lg", "--dataset=new", "--valid=0.4") == 0
    train = [("0", "1"), ("0", "2"), ("0", "3"), ("0", "4"), ("2", "5"), ("2", "6")]
    assert pairs_of("new", "train") == train
    assert pairs_of("new", "test") == [("0", "5"), ("7", "9"), ("7", "1")]
    left, valid = pairs_of("new", "train60"), pairs_of("new", "valid40")
    assert sorted(left + valid) == train
    assert Counter(user for user, _ in valid) == {"0": 2, "2": 1}
    assert sorted(path.name for path in Path("dataset/new").iterdir()) == sorted(
        f"new.{part}.inter" for part in ("train", "test", "train60", "valid40")
    )
    assert capsys.readouterr().out.splitlines() == [
        "read     6 train and 3 test pairs of lg",
        "dropped  0 that repeat a pair",
        "empty    1 users without a train item, 1 without a test item",
        "kept     9 pairs of 3 users and 7 items, density 42.8571%",
        "train    6 pairs; carved into 3 and 3 for valid",
        "test     3 pairs; 1 users and 1 items of them are not in train",
        *(f"wrote    dataset/new/new.{part}.inter" for part in ("train", "test", "train60", "valid40")),
        "next, valid-picked: recmodels train --model=LightGCN --dataset=new --data_path=dataset "
        "'--benchmark_filename=[train60,valid40,test]'",
        "or, test-picked: recmodels train --model=LightGCN --dataset=new --data_path=dataset "
        "'--benchmark_filename=[train,test,test]'",
    ]


def test_adjacency_lists_need_no_valid_part(capsys: pytest.CaptureFixture[str]) -> None:
    write_lists("0 1\n1 2 3\n", "0 2\n")  # nobody has enough pairs to give a tenth
    assert data("import", "lightgcn", "lg", "--dataset=new", "--valid=0") == 0
    assert sorted(path.name for path in Path("dataset/new").iterdir()) == ["new.test.inter", "new.train.inter"]
    assert pairs_of("new", "train") == [("0", "1"), ("1", "2"), ("1", "3")]
    assert capsys.readouterr().out.splitlines()[-5:] == [
        "train    3 pairs",
        "test     1 pairs; 0 users and 0 items of them are not in train",
        *(f"wrote    dataset/new/new.{part}.inter" for part in ("train", "test")),
        "next, test-picked: recmodels train --model=LightGCN --dataset=new --data_path=dataset "
        "'--benchmark_filename=[train,test,test]'",
    ]


def test_a_repeated_item_of_a_list_is_dropped_on_request() -> None:
    write_lists("0 1 2 1\n1 3 4\n", "0 5 5\n")
    assert data("import", "lightgcn", "lg", "--dataset=new", "--valid=0.5", "--duplicates=first") == 0
    assert pairs_of("new", "train") == [("0", "1"), ("0", "2"), ("1", "3"), ("1", "4")]
    assert pairs_of("new", "test") == [("0", "5")]


def test_line_ends_and_blank_lines_of_lists_do_not_matter() -> None:
    Path("l").write_bytes(b"\xef\xbb\xbf0 1 2\r\n\r\n1  3 \r\n4\r\n")
    lists = read_adjacency_lists(Path("l"))
    assert isinstance(lists, AdjacencyLists)
    assert lists.table.frame.astype(str).to_numpy().tolist() == [["0", "1"], ["0", "2"], ["1", "3"]]
    assert lists.table.lines.tolist() == [1, 1, 3]
    assert lists.n_empty == 1


def test_lists_that_are_no_text_are_refused() -> None:
    Path("l").write_bytes(b"0 \xff\n")
    with pytest.raises(DataError, match="l: got a byte that is not UTF-8"):
        read_adjacency_lists(Path("l"))


def test_rows_are_known_by_their_lines() -> None:
    frame = frame_of([("a", "x"), ("b", "x"), ("a", "x")])
    read = Table(Path("r"), frame, np.array([2, 3, 9]))
    assert without_duplicates(read, "last").lines.tolist() == [3, 9]
    assert without_duplicates(read, "keep") is read
    with pytest.raises(DataError, match="r, line 9: got user 'a' and item 'x' again, after line 2"):
        without_duplicates(read, None)


def test_a_copy_has_the_bytes_of_its_source(tmp_path: Path) -> None:
    Path("s").write_bytes(b"\xff\r\n")
    (path,) = write_dataset(Target(tmp_path, "new"), {"": copy_of(Path("s"))})
    assert path == tmp_path / "new" / "new.inter"
    assert path.read_bytes() == b"\xff\r\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["usage: recmodels data COMMAND", "recmodels data carve gowalla"]),
        (["--help"], ["usage: recmodels data COMMAND", "recmodels data import ratings ml-1m/ratings.dat"]),
        (["import"], ["usage: recmodels data import FORMAT PATH"]),
        (["import", "-h"], ["usage: recmodels data import FORMAT PATH", "ratings.csv --dataset=ml-small"]),
        (["import", "ratings", "--help"], ["usage: recmodels data import ratings", "--min_rating", "--no_header"]),
        (["import", "lightgcn", "x", "-h"], ["usage: recmodels data import lightgcn", "--split_seed"]),
        (["carve", "--help"], ["usage: recmodels data carve", "--out"]),
    ],
)
def test_help_of_the_data_commands_is_printed(
    words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert data(*words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(word in out for word in expected)
    assert list(Path().iterdir()) == []


def test_every_data_command_of_the_documents_and_of_the_help_is_understood(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data("--help") == data("import", "--help") == 0
    texts = [(checkout / "README.md").read_text(encoding="utf-8"), capsys.readouterr().out]
    found = re.findall(r"(?<!`)recmodels (data (?:import ratings|import lightgcn|carve) [^#`\n]+)", "\n".join(texts))
    commands = [shlex.split(line)[1:] for line in found if "--" in line]
    assert len(commands) >= 8
    for words in commands:
        assert data(*words) == 2
        err = capsys.readouterr().err
        assert "no such f" in err or "no file" in err, words
