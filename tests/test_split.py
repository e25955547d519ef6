"""The split, its fingerprint and the loaders over its parts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recmodels.data.loading import load_dataset
from recmodels.data.split import (
    Splits,
    eval_users_per_batch,
    fingerprint,
    interactions,
    reseed_loader,
    seen_in_valid,
    split,
)
from recmodels.errors import DataError
from recmodels.streams import global_streams
from tests import atomic as data
from tests.atomic import PAIRS, atomic, make_config, make_splits, raw_pairs, write

root = data.root


def test_a_fixed_split_is_kept_row_by_row(root: Path) -> None:
    files = {"train": PAIRS[:100], "valid": PAIRS[100:115], "test": PAIRS[115:]}
    for part, pairs in files.items():
        write(root, atomic(pairs), f"toy.{part}.inter")
    config = make_config(root, benchmark_filename=list(files))
    splits = split(config, load_dataset(config), 1)
    for part, pairs in files.items():
        assert sorted(raw_pairs(getattr(splits, part), splits.dataset)) == sorted(pairs)


def test_benchmark_filename_must_name_three_files(root: Path) -> None:
    write(root, atomic(PAIRS))
    with pytest.raises(DataError, match=r"benchmark_filename: got \['train', 'test'\]; expected three"):
        load_dataset(make_config(root, benchmark_filename=["train", "test"]))


def test_the_parts_are_disjoint_and_together_the_data_set(root: Path) -> None:
    splits = make_splits(root)
    parts = [raw_pairs(part, splits.dataset) for part in (splits.train, splits.valid, splits.test)]
    assert sorted(sum(parts, [])) == sorted(PAIRS)


def test_the_split_depends_on_its_seed_only(root: Path) -> None:
    torch.manual_seed(1)
    first = make_splits(root, split_seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert make_splits(root, split_seed=5, seed=99).sha256 == first.sha256
    assert torch.equal(torch.get_rng_state(), state)
    assert make_splits(root, split_seed=6).sha256 != first.sha256


def test_one_data_set_can_be_split_twice(root: Path) -> None:
    write(root, atomic(PAIRS))
    config = make_config(root)
    dataset = load_dataset(config)
    hashes = [split(config, dataset, seed).sha256 for seed in (1, 2, 1)]
    assert hashes[0] == hashes[2] != hashes[1]
    assert "neg_item_id" not in dataset.field2type


def parts_of(root: Path, files: list[list[tuple[str, str]]], **more: object) -> str:
    for part, pairs in zip(("a", "b", "c"), files, strict=True):
        write(root, atomic(pairs), f"toy.{part}.inter")
    config = make_config(root, benchmark_filename=["a", "b", "c"], **more)
    return split(config, load_dataset(config), 1).sha256


def test_what_test_shares_with_valid_is_counted_whatever_the_files_are_called(root: Path) -> None:
    for valid, expected in (
        (PAIRS[100:115], 0.0),
        (PAIRS[:114:-1], 1.0),
        (PAIRS[115:118] + PAIRS[100:103], 3 / len(PAIRS[115:])),
    ):
        for part, pairs in zip(("a", "b", "c"), (PAIRS[:100], valid, PAIRS[115:]), strict=True):
            write(root, atomic(pairs), f"toy.{part}.inter")
        config = make_config(root, benchmark_filename=["a", "b", "c"], repeatable=True)
        assert seen_in_valid(split(config, load_dataset(config), 1)) == expected


def test_the_fingerprint_ignores_order_inside_a_part_and_internal_ids(root: Path) -> None:
    files = [PAIRS[:100], PAIRS[100:115], PAIRS[115:]]
    assert parts_of(root, files) == parts_of(root, [pairs[::-1] for pairs in files])


def test_the_fingerprint_changes_when_one_interaction_moves_repeats_or_is_renamed(root: Path) -> None:
    files = [PAIRS[:100], PAIRS[100:115], PAIRS[115:]]
    moved = [PAIRS[:99], PAIRS[99:115], PAIRS[115:]]
    swapped = [files[0], files[2], files[1]]
    repeated = [[*PAIRS[:100], PAIRS[0]], *files[1:]]
    renamed = [[*PAIRS[:99], (PAIRS[99][0], "new")], *files[1:]]
    hashes = [parts_of(root, files, repeatable=True) for files in (files, moved, swapped, repeated, renamed)]
    assert len(set(hashes)) == 5


def test_the_fingerprint_is_that_of_a_process_with_another_hash_seed(root: Path) -> None:
    here = parts_of(root, [PAIRS[:100], PAIRS[100:115], PAIRS[115:]])
    code = (
        "import sys, torch\n"
        "from recbole.model.general_recommender import BPR\n"
        "from recmodels.compat import RecboleConfig\n"
        "from recmodels.data.loading import load_dataset\n"
        "from recmodels.data.split import split\n"
        "values = {'dataset': 'toy', 'data_path': sys.argv[1], 'benchmark_filename': ['a', 'b', 'c']}\n"
        "config = RecboleConfig(values, BPR, torch.device('cpu'))\n"
        "print(split(config, load_dataset(config), 1).sha256)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", code, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == here


def test_evaluation_masks_exactly_what_earlier_parts_hold(root: Path) -> None:
    splits = make_splits(root)
    pairs = [set(zip(*interactions(part), strict=True)) for part in (splits.train, splits.valid, splits.test)]
    for loader, seen, positive in ((splits.valid, pairs[0], pairs[1]), (splits.test, pairs[0] | pairs[1], pairs[2])):
        found_seen, found_positive = set(), set()
        for users, (rows, history), positive_rows, positive_items in loader:
            ids = users["user_id"]
            found_seen |= set(zip(ids[rows].tolist(), history.tolist(), strict=True))
            found_positive |= set(zip(ids[positive_rows].tolist(), positive_items.tolist(), strict=True))
        users_here = {user for user, _ in positive}
        assert found_positive == positive
        assert found_seen == {pair for pair in seen if pair[0] in users_here}


def test_negatives_are_never_interactions_of_train(root: Path) -> None:
    splits = make_splits(root)
    seen = set(zip(*interactions(splits.train), strict=True))
    for batch in splits.train:
        assert not seen & set(zip(batch["user_id"].tolist(), batch["neg_item_id"].tolist(), strict=True))
        assert batch["neg_item_id"].min() >= 1


def order_of(splits: Splits, seed: int, epoch: int) -> list[list[int]]:
    reseed_loader(splits.train, seed, epoch)
    with global_streams(seed, "negatives", epoch):
        batches = [torch.stack([b[k] for k in ("user_id", "item_id", "neg_item_id")]) for b in splits.train]
    return torch.cat(batches, 1).tolist()


def test_a_reseeded_loader_repeats_its_epoch_whatever_came_before(root: Path) -> None:
    splits = make_splits(root, train_batch_size=16)
    first = order_of(splits, 3, 4)
    order_of(splits, 3, 5)
    assert order_of(splits, 3, 4) == first == order_of(make_splits(root, train_batch_size=16), 3, 4)
    assert order_of(splits, 3, 5) != first != order_of(splits, 4, 4)
    assert sorted(zip(*first[:2], strict=True)) == sorted(zip(*interactions(splits.train), strict=True))


@settings(deadline=None)
@given(st.integers(1, 10**7), st.integers(0, 10**10), st.sampled_from([2, 4, 8]))
def test_scores_of_a_batch_fill_the_budget_and_stay_within_it_unless_one_user_exceeds_it(
    n_items: int, budget: int, itemsize: int
) -> None:
    users = eval_users_per_batch(n_items, budget, itemsize)
    assert users == 1 or users * n_items * itemsize <= budget
    assert (users + 1) * n_items * itemsize > budget


def test_users_per_evaluation_batch_come_from_the_byte_budget_unless_scores_are_counted(root: Path) -> None:
    n_items = 16
    assert make_splits(root, eval_batch_bytes=5 * n_items * 4 + 3).valid.step == 5
    assert make_splits(root, eval_batch_bytes=10**6, eval_batch_size=2 * n_items).test.step == 2
    assert make_splits(root, eval_batch_bytes=1).test.step == 1


def test_the_fingerprint_of_the_parts_is_the_one_of_the_splits(root: Path) -> None:
    splits = make_splits(root)
    assert fingerprint([splits.train.dataset, splits.valid.dataset, splits.test.dataset]) == splits.sha256
    assert len(bytes.fromhex(splits.sha256)) == 32
