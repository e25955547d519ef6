"""Carving a valid part: the share of every user, the same for any order of rows, and files that load."""

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recmodels.data.carving import n_carved, part_names, valid_rows
from recmodels.data.loading import load_dataset
from recmodels.data.split import split
from recmodels.streams import stream
from tests.atomic import make_config
from tests.data_commands import data, frame_of, refused
from tests.runs import files_of


def members(pairs: list[tuple[str, str]], rows: np.ndarray) -> set[tuple[str, str]]:
    return {pair for pair, is_in in zip(pairs, rows, strict=True) if is_in}


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.sampled_from("abcdeé"), st.integers(0, 30).map(str)), min_size=1, unique=True),
    valid=st.sampled_from([0.05, 0.1, 0.2, 0.5, 0.9]),
    seed=st.integers(0, 99),
    shuffled=st.randoms(use_true_random=False),
)
def test_a_carving_takes_its_share_of_every_user_whatever_the_order_of_the_rows(
    pairs: list[tuple[str, str]], valid: float, seed: int, shuffled: Random
) -> None:
    chosen = members(pairs, valid_rows(frame_of(pairs), valid, stream(seed, "carve")))
    counts, taken = Counter(user for user, _ in pairs), Counter(user for user, _ in chosen)
    for user, n_train in counts.items():
        assert taken[user] == min(int(n_train * valid + 0.5), n_train - 1)
    other = sorted(pairs, key=lambda _: shuffled.random())
    assert members(other, valid_rows(frame_of(other), valid, stream(seed, "carve"))) == chosen


def test_a_carving_depends_on_the_seed_and_on_nothing_global() -> None:
    pairs = [(f"u{user}", f"i{item}") for user in range(20) for item in range(20)]
    frame = frame_of(pairs)
    state = torch.get_rng_state()
    one = valid_rows(frame, 0.1, stream(1, "carve"))
    torch.manual_seed(5)
    assert (one == valid_rows(frame, 0.1, stream(1, "carve"))).all()
    assert (one != valid_rows(frame, 0.1, stream(2, "carve"))).any()
    torch.set_rng_state(state)


def test_every_pair_of_a_user_is_carved_about_equally_often() -> None:
    frame, n_draws = frame_of([("u", str(item)) for item in range(10)]), 2000
    rows = sum(valid_rows(frame, 0.3, stream(seed, "carve")).astype(int) for seed in range(n_draws))
    # binomial with p = 0.3: a standard deviation of 20.5 around 600
    assert np.abs(rows - 0.3 * n_draws).max() < 5 * np.sqrt(n_draws * 0.3 * 0.7)


def test_a_share_is_rounded_half_up_and_leaves_one_pair() -> None:
    assert n_carved(np.array([0, 1, 2, 4, 5, 14, 15, 25]), 0.1).tolist() == [0, 0, 0, 0, 1, 1, 2, 3]
    assert n_carved(np.array([1, 2, 3]), 0.9).tolist() == [0, 1, 2]
    assert [part_names(valid) for valid in (0.1, 0.2, 0.125)] == [
        ("train90", "valid10"),
        ("train80", "valid20"),
        ("train87.5", "valid12.5"),
    ]


def make_split(root: str = "source", name: str = "toy") -> None:
    """A fixed split with a further column, blank lines and a user with a single train pair."""
    folder = Path(root, name)
    folder.mkdir(parents=True)
    header = "item_id:token\tuser_id:token\tweight:float\n"
    rows = [
        f"i{item}\tu{user}\t{user + item / 8:.3f}\n" for user in range(6) for item in range(12) if (user + item) % 5
    ]
    (folder / f"{name}.train.inter").write_text(header + "\n".join(rows) + "i99\tlone\t1e-3\n")
    tests = [f"i{item}\tu{user}\t0\n" for user in range(6) for item in range(12) if not (user + item) % 5]
    (folder / f"{name}.test.inter").write_text(header + "".join(tests))


def test_carving_elsewhere_copies_both_parts_and_divides_train(capsys: pytest.CaptureFixture[str]) -> None:
    make_split()
    before = files_of(Path("source"))
    assert data("carve", "toy", "--data_path=source", "--out=out") == 0
    assert files_of(Path("source")) == before
    texts = {path.name: path.read_text() for path in Path("out/toy").iterdir()}
    assert sorted(texts) == [f"toy.{part}.inter" for part in ("test", "train", "train90", "valid10")]
    for part in ("train", "test"):
        assert texts[f"toy.{part}.inter"].encode() == before[f"toy/toy.{part}.inter"][0]
    lines = {name: [line for line in text.splitlines() if line] for name, text in texts.items()}
    header, *train = lines["toy.train.inter"]
    assert lines["toy.train90.inter"][0] == lines["toy.valid10.inter"][0] == header
    left, valid = lines["toy.train90.inter"][1:], lines["toy.valid10.inter"][1:]
    assert left == [line for line in train if line not in valid]
    assert sorted(left + valid) == sorted(train)
    assert Counter(line.split("\t")[1] for line in valid) == {f"u{user}": 1 for user in range(6)}
    out = capsys.readouterr().out
    assert "valid    1 of 7 users have too few train pairs to give one\n" in out
    assert "dropped" not in out


def test_carving_in_place_adds_two_files(capsys: pytest.CaptureFixture[str]) -> None:
    make_split()
    before = files_of(Path())
    assert data("carve", "toy", "--data_path=source") == 0
    after = files_of(Path())
    assert set(after) - set(before) == {"source/toy/toy.train90.inter", "source/toy/toy.valid10.inter"}
    assert {name: after[name] for name in before} == before
    capsys.readouterr()
    assert "toy.train90.inter, source/toy/toy.valid10.inter: got what already" in refused(
        capsys, "carve", "toy", "--data_path=source", "--split_seed=7"
    )
    assert data("carve", "toy", "--data_path=source", "--split_seed=7", "--overwrite") == 0
    assert files_of(Path())["source/toy/toy.valid10.inter"][0] != after["source/toy/toy.valid10.inter"][0]


@pytest.mark.parametrize("command", [["carve", "toy"], ["import", "lightgcn", "toy", "--dataset=toy"]])
def test_a_seed_of_carving_has_the_bounds_of_a_runs_seed(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    for seed in (-1, 2**32, 10**23):
        expected = (
            f"argument --split_seed: got {seed}, expected a whole number from 0 to 4294967295; try recmodels data"
        )
        assert expected in refused(capsys, *command, f"--split_seed={seed}")
    assert "invalid whole number value: '1.5'" in refused(capsys, *command, "--split_seed=1.5")
    make_split()
    for seed in (0, 2**32 - 1):
        assert data("carve", "toy", "--data_path=source", f"--out=out{seed}", f"--split_seed={seed}") == 0


def test_carving_wants_a_fixed_split_of_distinct_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    make_split()
    given = ["carve", "toy", "--data_path=source", "--out=out"]
    message = refused(capsys, "carve", "tyo", "--data_path=source")
    assert "data set 'tyo': no file source/tyo/tyo.train.inter; expected tyo.train.inter and tyo.test.inter" in message
    assert "did you mean 'toy'?" in message
    assert "dataset: got 'a/b'; expected a plain folder name" in refused(capsys, "carve", "a/b")
    train, test = (Path(f"source/toy/toy.{part}.inter") for part in ("train", "test"))
    text, other = train.read_text(), test.read_text()
    test.write_text(other + text.splitlines()[1] + "\n")
    assert (
        "line 17: got user 'u0' and item 'i1', which are in train too (source/toy/toy.train.inter, line 2;"
        in refused(capsys, *given)
    )
    test.write_text(other)
    train.write_text(text + text.splitlines()[1] + "\n")
    message = refused(capsys, *given)
    assert f"line {text.count(chr(10)) + 1}: got user 'u0' and item 'i1' again, after line 2" in message
    train.write_text(text.replace("user_id", "who"))
    assert "toy.train.inter, line 1: got columns ['item_id', 'who', 'weight']; expected user_id and item_id" in refused(
        capsys, *given
    )
    train.write_text(text.replace("i99", "nan"))
    assert "got item_id 'nan'; expected a name" in refused(capsys, *given)
    train.write_text(text.replace("\ti99", ""))
    train.write_text(text.replace("i99\t", ""))
    assert "got 2 columns" in refused(capsys, *given)


def test_both_protocols_of_a_carved_split_load() -> None:
    make_split()
    assert data("carve", "toy", "--data_path=source") == 0
    sizes = []
    for parts in (["train90", "valid10", "test"], ["train", "test", "test"]):
        config = make_config(Path("source"), benchmark_filename=parts)
        splits = split(config, load_dataset(config), 1)
        sizes.append([len(part.dataset) for part in (splits.train, splits.valid, splits.test)])
    assert sizes == [[52, 6, 15], [58, 15, 15]]
