"""The split into train, valid and test, its fingerprint, and the loaders over its parts."""

import copy
import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from recbole.data.dataloader import AbstractDataLoader, FullSortEvalDataLoader
from recbole.data.dataset import Dataset
from recbole.data.utils import create_samplers

from recmodels.compat import RecboleConfig
from recmodels.data.checks import check_overlap, check_parts, check_repeats
from recmodels.data.loading import data_errors
from recmodels.data.triples import LOADERS, NegativeItems, TripleLoader
from recmodels.errors import ParamError
from recmodels.streams import global_streams, stream_seed

PARTS = ("train", "valid", "test")


class Splits(NamedTuple):
    """A data set split three ways.

    Attributes:
        train: loader of triples; `train.dataset` is what a model is built from.
        valid: loader of the users with valid interactions, each ranked against all items but those of train.
        test: the same for test, without the items of train and valid.
        sha256: hex fingerprint of the three parts in raw ids.
        dataset: the whole data set with internal ids.
    """

    train: TripleLoader
    valid: FullSortEvalDataLoader
    test: FullSortEvalDataLoader
    sha256: str
    dataset: Dataset


def split(config: RecboleConfig, dataset: Dataset, split_seed: int) -> Splits:
    """Splits with RecBole's own `Dataset.build` under the stream (split_seed, "split").

    Args:
        config: `eval_args` or `benchmark_filename` decide the split; `config["eval_batch_size"]` is set from
            `eval_batch_bytes` unless `eval_batch_size` was given.
        dataset: from `load_dataset`; not changed, so it can be split again.
        split_seed: seeds the split only; global random state is left as it was.

    Raises:
        DataError: a part is empty, parts of a fixed split overlap or repeat a pair, or `eval_args` does not fit the
            data.
        ParamError: evaluation is not over all items.
    """
    _refuse_sampled_evaluation(config)
    whole = _independent(dataset)
    with data_errors(f"split of {config['dataset']!r} by eval_args {config['eval_args']}"):
        with global_streams(split_seed, "split"):
            parts = whole.build()
        check_parts({name: len(part) for name, part in zip(PARTS, parts, strict=True)}, config["benchmark_filename"])
        samplers = create_samplers(config, whole, parts)
    if config["benchmark_filename"] is not None and not config["repeatable"]:
        for part, file in zip(parts, config["benchmark_filename"], strict=True):
            check_repeats(*interactions(part), raw_users(part), raw_items(part), file)
        check_overlap(dict(zip(PARTS, map(_pair_codes, parts), strict=True)), config["benchmark_filename"])
    _set_eval_batch_size(config, whole.item_num)
    sha256 = fingerprint(parts)
    negatives = samplers[0]
    # Where items may be met again only the row's own positive is no negative, which RecBole's sampler knows.
    if negatives is not None and not config["repeatable"]:
        negatives = NegativeItems(negatives, parts[0])
    make_train = LOADERS[config["train_batch_unit"] or "interactions"]  # RecBole's own configurations lack the key
    train = make_train(config, parts[0], negatives, shuffle=bool(config["shuffle"]))
    valid, test = (FullSortEvalDataLoader(config, parts[i], samplers[i], shuffle=False) for i in (1, 2))
    return Splits(train, valid, test, sha256, whole)


def fingerprint(parts: Sequence[Dataset]) -> str:
    """SHA-256 (hex) over the (user, item) pairs of each part in raw ids.

    The same for any order of rows inside a part, any internal ids and any Python hash seed; differs when one
    interaction moves, appears or disappears. A repeated pair counts as often as it occurs.
    """
    digest = hashlib.sha256()
    pairs = [interactions(part) for part in parts]
    ranks = [
        _name_ranks(np.concatenate([p[side] for p in pairs]), names, digest)
        for side, names in enumerate((raw_users(parts[0]), raw_items(parts[0])))
    ]
    for users, items in pairs:
        codes = np.sort(ranks[0][users] * len(ranks[1]) + ranks[1][items])
        digest.update(f"{len(codes)}\n".encode() + codes.astype("<i8").tobytes())
    return digest.hexdigest()


def interactions(part: AbstractDataLoader | Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(users, items) of a part: two (E,) int64 arrays of internal ids, in the part's order."""
    dataset = part.dataset if isinstance(part, AbstractDataLoader) else part
    users, items = (np.asarray(dataset.inter_feat[f], dtype=np.int64) for f in (dataset.uid_field, dataset.iid_field))
    return users, items


def seen_in_valid(splits: Splits) -> float:
    """Share of the test interactions whose pair is in valid too: 1 where the epoch is picked on test, else mostly 0."""
    valid, test = (_pair_codes(part.dataset) for part in (splits.valid, splits.test))
    return float(np.isin(test, valid).mean())


def raw_users(dataset: Dataset) -> np.ndarray:
    """(n_users,) names of the users by internal id; name 0 is the padding."""
    return dataset.field2id_token[dataset.uid_field]


def raw_items(dataset: Dataset) -> np.ndarray:
    """(n_items,) names of the items by internal id; name 0 is the padding."""
    return dataset.field2id_token[dataset.iid_field]


def eval_users_per_batch(n_items: int, byte_budget: int, itemsize: int = 4) -> int:
    """How many users are scored at once so that their scores take at most `byte_budget`, at least one.

    Args:
        n_items: scores per user, padding included.
        byte_budget: bytes for the score matrix alone; RecBole's evaluation holds about twice that.
        itemsize: bytes per score.
    """
    return max(1, byte_budget // (n_items * itemsize))


def reseed_loader(loader: AbstractDataLoader, seed: int, epoch: int) -> None:
    """Starts the loader's order at the stream (seed, "order", epoch); negatives come from numpy's global stream."""
    loader.generator.manual_seed(stream_seed(seed, "order", epoch))


def _pair_codes(part: Dataset) -> np.ndarray:
    """(E,) one number per user-item pair, the same in every part of a data set."""
    users, items = interactions(part)
    return users * part.item_num + items


def _refuse_sampled_evaluation(config: RecboleConfig) -> None:
    for part, mode in config["eval_args"]["mode"].items():
        if mode != "full":
            raise ParamError(f"eval_args.mode.{part}: got {mode!r}; expected 'full': sampled metrics are not supported")


def _set_eval_batch_size(config: RecboleConfig, n_items: int) -> None:
    """RecBole counts scores, not users; its own default scores one user at a time on a few thousand items."""
    if "eval_batch_size" not in config.explicit and config["eval_batch_bytes"] is not None:
        config["eval_batch_size"] = eval_users_per_batch(n_items, config["eval_batch_bytes"]) * n_items


def _independent(dataset: Dataset) -> Dataset:
    """A copy whose tables of fields can change; `build` replaces the features themselves."""
    twin = copy.copy(dataset)
    for name in ("field2type", "field2source", "field2id_token", "field2token_id", "field2seqlen"):
        setattr(twin, name, copy.copy(getattr(dataset, name)))
    return twin


def _name_ranks(ids: np.ndarray, names: np.ndarray, digest: "hashlib._Hash") -> np.ndarray:
    """Rank of each id that occurs among the sorted names; writes those names to the digest."""
    used = np.unique(ids)
    order = used[np.argsort(names[used])]
    digest.update(json.dumps(names[order].tolist()).encode() + b"\n")
    ranks = np.zeros(len(names), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return ranks
