"""Loading of atomic files into RecBole's Dataset, without downloads and without pickles."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType

from recmodels.compat import RecboleConfig, bundled_ml_100k
from recmodels.data.atomic_files import check_file, check_files
from recmodels.data.checks import check_interactions, check_repeats, check_value_filters, empty_after_filtering
from recmodels.errors import DataError


class AtomicDataset(Dataset):
    """RecBole's Dataset, read from atomic files that exist.

    Missing values are filled as RecBole documents it (padding for tokens, the mean for numbers, nothing for sequences),
    by assignment, because pandas 3 turns RecBole's chained `fillna(inplace=True)` into a change of a copy.
    """

    def _download(self) -> None:
        raise DataError(f"data set {self.dataset_name!r}: no folder {self.dataset_path}; nothing is downloaded")

    def _load_feat(self, filepath: str, source: Any) -> pd.DataFrame | None:  # noqa: ANN401  (a source or a suffix)
        frame = super()._load_feat(filepath, source)
        if frame is not None and source != FeatureSource.INTERACTION:  # those are checked before anything is loaded
            check_file(Path(filepath), [], self.config["field_separator"], self.config["encoding"])
        return frame

    def _filter_by_field_value(self) -> None:
        numbers = (FeatureType.FLOAT, FeatureType.FLOAT_SEQ)
        kinds = {field: kind in numbers for field, kind in self.field2type.items()}
        check_value_filters(self.config["val_interval"] or {}, kinds)
        super()._filter_by_field_value()

    def _data_filtering(self) -> None:
        self._n_loaded = len(self.inter_feat)
        super()._data_filtering()

    def _reset_index(self) -> None:
        if self.inter_feat.empty:
            raise empty_after_filtering(self._n_loaded)
        super()._reset_index()

    def _fill_nan(self) -> None:
        for name in self.feat_name_list:
            frame = getattr(self, name)
            for field in frame:
                frame[field] = filled(frame[field], self.field2type[field])


def filled(column: pd.Series, kind: FeatureType) -> pd.Series:
    """A column without missing values: token 0 (padding), the mean of a float, an empty sequence."""
    if kind == FeatureType.TOKEN:
        return column.fillna(0).astype(np.int64)
    if kind == FeatureType.FLOAT:
        return column.fillna(column.mean())
    empty = np.array([], dtype=np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64)
    return column.map(lambda value: empty if isinstance(value, float) else value)


def dataset_folder(data_path: str, dataset: str) -> Path:
    """`<data_path>/<dataset>`; for ml-100k the copy in the recbole wheel if that folder does not exist."""
    folder = Path(data_path) / dataset
    return bundled_ml_100k() if dataset == "ml-100k" and not folder.is_dir() else folder


def load_dataset(config: RecboleConfig) -> Dataset:
    """Reads and filters a data set; never unpickles, never downloads.

    Args:
        config: `config["data_path"]` is set to the folder that is read.

    Returns:
        RecBole's Dataset with internal ids, not split; id 0 is padding.

    Raises:
        DataError: files are absent or malformed, filtering leaves too little, or a pair occurs twice that a split could
            put into two parts (those of a fixed split are checked in `split`); see `recmodels.data.atomic_files` and
            `recmodels.data.checks`.
    """
    folder = dataset_folder(config.data_root, config["dataset"])
    config["data_path"] = str(folder)
    separator, encoding = config["field_separator"], config["encoding"]
    check_files(folder, config["dataset"], config["benchmark_filename"], _fields(config), separator, encoding)
    with data_errors(f"data set {config['dataset']!r} in {folder}"):
        dataset = AtomicDataset(config)
    users, items = (dataset.inter_feat[field].to_numpy() for field in (dataset.uid_field, dataset.iid_field))
    user_tokens, item_tokens = (dataset.field2id_token[field] for field in (dataset.uid_field, dataset.iid_field))
    check_interactions(users, items, user_tokens, dataset.item_num)
    if config["benchmark_filename"] is None and not config["repeatable"]:
        check_repeats(users, items, user_tokens, item_tokens)
    return dataset


@contextlib.contextmanager
def data_errors(where: str) -> Iterator[None]:
    """Turns what RecBole and pandas raise about the user's data or filters into a DataError."""
    try:
        yield
    except DataError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, AssertionError, NotImplementedError) as error:
        raise DataError(f"{where}: {type(error).__name__}: {error}") from error


def _fields(config: RecboleConfig) -> list[str]:
    """Fields the interaction file must have: user, item, and what load_col asks for."""
    ids: list[str] = [config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]]
    chosen: Any = (config["load_col"] or {}).get("inter", []) if config["load_col"] is not None else "*"
    if chosen == "*":
        return ids
    for field in ids:
        if field not in chosen:
            raise DataError(
                f"load_col.inter: got {chosen}, without {field!r}; expected both of {ids} and what filters use"
            )
    return list(dict.fromkeys([*ids, *chosen]))
