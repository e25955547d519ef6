"""Parameters of reading and filtering a data set, and RecBole's keys that nothing here obeys."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from recmodels.params import Params, nearest, param

_INTERVAL = r"[\[(]\s*(-?inf|[-+.\deE]+)\s*,\s*(inf|[-+.\deE]+)\s*[\])]"
_ENCODINGS = ("utf-8", "utf-8-sig", "latin-1", "ascii", "cp1252")


@dataclass(frozen=True)
class DataParams(Params):
    """RecBole's data set keys under RecBole's names. Values: RecBole's `sample.yaml` and `properties/dataset/`."""

    field_separator: str = param(doc="separator of the columns of an atomic file")
    seq_separator: str = param(doc="separator inside a sequence column")
    encoding: str = param(doc="encoding of the atomic files")
    USER_ID_FIELD: str = param(doc="column of the user ids")
    ITEM_ID_FIELD: str = param(doc="column of the item ids")
    RATING_FIELD: str = param(doc="column of the ratings")
    TIME_FIELD: str = param(doc="column of the time stamps")
    LABEL_FIELD: str = param(doc="column of generated labels")
    NEG_PREFIX: str = param(doc="prefix of sampled columns")
    seq_len: dict[str, Any] | None = param(doc="sequence column: largest length")
    threshold: dict[str, Any] | None = param(doc="column: smallest value of a positive label")
    numerical_features: list[str] | None = param(doc="float columns to be embedded")
    load_col: dict[str, Any] | None = param(doc="file suffix: columns to load; null loads all")
    unload_col: dict[str, Any] | None = param(doc="file suffix: columns not to load")
    unused_col: dict[str, Any] | None = param(doc="file suffix: columns loaded for filtering only")
    additional_feat_suffix: list[str] | str | None = param(doc="further atomic files")
    rm_dup_inter: Literal["first", "last"] | None = param(doc="which of repeated interactions stays")
    val_interval: dict[str, Any] | None = param(doc="column: interval of the values to keep")
    filter_inter_by_user_or_item: bool = param(doc="whether interactions of dropped users and items go")
    user_inter_num_interval: str | None = param(doc="interval of interactions a user")
    item_inter_num_interval: str | None = param(doc="interval of interactions an item")
    alias_of_user_id: list[str] | None = param(doc="columns that share the user ids")
    alias_of_item_id: list[str] | None = param(doc="columns that share the item ids")
    preload_weight: dict[str, Any] | None = param(doc="id column: column of its vectors")
    normalize_field: list[str] | None = param(doc="float columns to normalize")
    normalize_all: bool | None = param(doc="whether all float columns are normalized")
    discretization: dict[str, Any] | None = param(doc="float column: its buckets")
    benchmark_filename: list[str] | None = param(doc="suffixes of the train, valid and test files, or null")

    def problems(self) -> list[str]:
        """Checks separators, names, thresholds, intervals, column lists, and what a fixed split makes meaningless."""
        return [text for check in _CHECKS for text in check(self)]


def _text_problems(data: DataParams) -> Iterator[str]:
    """Separators that separate nothing, and encodings that Python or the checks of files cannot read."""
    for name in ("field_separator", "seq_separator"):
        separator = getattr(data, name, " ")
        if not separator or set(separator) & set('"\r\n'):
            yield f"{name}: expected a separator like '\\t' or ',', no quote and no line break, got {separator!r}"
    encoding = getattr(data, "encoding", "utf-8")
    try:
        is_ascii = "\n\t".encode(encoding).endswith(b"\n\t")
    except (LookupError, ValueError):
        yield f"encoding: unknown encoding {encoding!r}{nearest(encoding, _ENCODINGS)}"
        return
    if not is_ascii:
        yield f"encoding: {encoding!r} does not keep the bytes of ASCII; convert the files to utf-8"


def _name_problems(data: DataParams) -> Iterator[str]:
    """Columns that would overwrite each other: sampled negatives are stored beside users and items."""
    given = {key: getattr(data, key, None) for key in ("USER_ID_FIELD", "ITEM_ID_FIELD")}
    prefix = getattr(data, "NEG_PREFIX", None)
    for key, name in given.items():
        if name == "":
            yield f"{key}: expected the name of a column, got ''"
    if given["USER_ID_FIELD"] == given["ITEM_ID_FIELD"] is not None:
        yield f"ITEM_ID_FIELD: expected another column than USER_ID_FIELD, got {given['ITEM_ID_FIELD']!r} for both"
    if prefix == "":
        yield "NEG_PREFIX: expected a prefix like 'neg_', got '': sampled negatives would overwrite the positives"
    elif prefix and f"{prefix}{given['ITEM_ID_FIELD']}" == given["USER_ID_FIELD"]:
        yield f"NEG_PREFIX: got {prefix!r}: sampled items would overwrite USER_ID_FIELD {given['USER_ID_FIELD']!r}"


def _threshold_problems(data: DataParams) -> Iterator[str]:
    """RecBole makes labels from one column, whose threshold is a number."""
    threshold = getattr(data, "threshold", None)
    if threshold is not None and len(threshold) != 1:
        yield f"threshold: expected one column and its number, got {threshold!r}"
    for column, value in (threshold or {}).items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            yield f"threshold.{column}: expected a number, got {value!r} ({type(value).__name__})"


def _interval_problems(data: DataParams) -> Iterator[str]:
    """Every interval that RecBole could not read."""
    given = {name: getattr(data, name, None) for name in ("user_inter_num_interval", "item_inter_num_interval")}
    inner = getattr(data, "val_interval", None) or {}
    given |= {f"val_interval.{column}": value for column, value in inner.items() if not isinstance(value, list)}
    for name, value in given.items():
        is_wrong = not isinstance(value, str) or not re.fullmatch(f"{_INTERVAL}(;{_INTERVAL})*", value)
        if is_wrong and not (value is None and "." not in name):
            yield f"{name}: expected an interval like '[3,inf)', got {value!r} ({type(value).__name__})"


def _column_problems(data: DataParams) -> Iterator[str]:
    """Every entry of a column selection that is no list of names."""
    for name in ("load_col", "unload_col", "unused_col"):
        for suffix, columns in (getattr(data, name, None) or {}).items():
            if columns is not None and not (isinstance(columns, list) and all(isinstance(c, str) for c in columns)):
                yield f"{name}.{suffix}: expected a list of columns, got {columns!r}"


def _fixed_split_problems(data: DataParams) -> Iterator[str]:
    """A fixed split needs three files, and RecBole skips every filter then."""
    files = getattr(data, "benchmark_filename", None)
    if files is None:
        return
    if len(files) != 3:
        yield f"benchmark_filename: expected three suffixes [train, valid, test], got {files!r}"
    reason = "a fixed split (benchmark_filename) is read unfiltered; filter the files, or set null"
    for name in ("rm_dup_inter", "val_interval"):
        if getattr(data, name, None):
            yield f"{name}: {reason}"
    for name in ("user_inter_num_interval", "item_inter_num_interval"):
        if getattr(data, name, None) not in (None, "[0,inf)"):
            yield f"{name}: {reason}"


_CHECKS: tuple[Callable[[DataParams], Iterator[str]], ...] = (
    _text_problems,
    _name_problems,
    _threshold_problems,
    _interval_problems,
    _column_problems,
    _fixed_split_problems,
)


def time_problems(eval_args: Mapping[str, Any], data: DataParams) -> list[str]:
    """An order in time needs the column of the time stamps."""
    columns = (data.load_col or {}).get("inter")
    if eval_args.get("order") != "TO" or columns is None or data.TIME_FIELD in columns:
        return []
    return [f"load_col.inter: eval_args.order 'TO' needs the column {data.TIME_FIELD!r}, got {columns!r}"]


class Refused(NamedTuple):
    """A key that RecBole knows and nothing here obeys.

    Attributes:
        inert: the values that ask for nothing and are therefore accepted.
        reason: why, and what to do instead.
    """

    inert: tuple[Any, ...]
    reason: str


_PICKLE = "pickles run code when they are read; the data set is rebuilt from its files and checked by fingerprint"
_PROCESS = "a run is one process on one device; start one run per device instead"
_SEQUENCE = "only RecBole's sequential models read it, and there is none here; leave it out"
_KNOWLEDGE = "only RecBole's knowledge-graph models read it, and there is none here; leave it out"
_RENAMED = "RecBole renamed it; use train_neg_sample_args"

REFUSED: dict[str, Refused] = {
    "worker": Refused((0,), "batches are made in the training process from per-epoch random streams; leave it at 0"),
    "nproc": Refused((1,), _PROCESS),
    "world_size": Refused((-1, 1), _PROCESS),
    "offset": Refused((0,), _PROCESS),
    "group_offset": Refused((0,), _PROCESS),
    "ip": Refused(("localhost",), _PROCESS),
    "port": Refused(("5678", 5678), _PROCESS),
    "save_dataset": Refused((False,), _PICKLE),
    "save_dataloaders": Refused((False,), _PICKLE),
    "dataset_save_path": Refused((None,), _PICKLE),
    "dataloaders_save_path": Refused((None,), _PICKLE),
    "checkpoint_dir": Refused(
        ("saved",), "checkpoints lie in the run folder; use --runs_dir, or --run_dir for one run"
    ),
    "log_wandb": Refused((False,), "nothing is sent over the network; read curves.csv of the run folder instead"),
    "wandb_project": Refused(
        ("recbole",), "nothing is sent over the network; read curves.csv of the run folder instead"
    ),
    "transform": Refused((None,), _SEQUENCE),
    "valid_metric_bigger": Refused((True,), "the direction follows from valid_metric; leave it out"),
    "neg_sampling": Refused((None,), _RENAMED),
    "training_neg_sample_num": Refused((None,), _RENAMED),
    "ITEM_LIST_LENGTH_FIELD": Refused(("item_length",), _SEQUENCE),
    "LIST_SUFFIX": Refused(("_list",), _SEQUENCE),
    "MAX_ITEM_LIST_LENGTH": Refused((50,), _SEQUENCE),
    "POSITION_FIELD": Refused(("position_id",), _SEQUENCE),
    "HEAD_ENTITY_ID_FIELD": Refused(("head_id",), _KNOWLEDGE),
    "TAIL_ENTITY_ID_FIELD": Refused(("tail_id",), _KNOWLEDGE),
    "RELATION_ID_FIELD": Refused(("relation_id",), _KNOWLEDGE),
    "ENTITY_ID_FIELD": Refused(("entity_id",), _KNOWLEDGE),
    "alias_of_entity_id": Refused((None,), _KNOWLEDGE),
    "alias_of_relation_id": Refused((None,), _KNOWLEDGE),
    "kg_reverse_r": Refused((False,), _KNOWLEDGE),
    "entity_kg_num_interval": Refused(("[0,inf)", None), _KNOWLEDGE),
    "relation_kg_num_interval": Refused(("[0,inf)", None), _KNOWLEDGE),
}
