"""RecBole's own models as baselines: the one place that asks RecBole for a model and a trainer by name."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import make_dataclass
from importlib import resources
from typing import Any, ClassVar

import torch
from recbole.data.dataloader import UserDataLoader
from recbole.data.interaction import Interaction
from recbole.data.utils import get_dataloader
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import get_model, get_trainer
from torch import nn

from recmodels.compat import RecboleConfig
from recmodels.data.split import Splits
from recmodels.errors import TrainingError
from recmodels.layers import load_layer
from recmodels.params import Params, param
from recmodels.streams import global_streams
from recmodels.training.arrays import from_plain, to_plain
from recmodels.training.baseline_bounds import BOUNDS, check_columns
from recmodels.training.baseline_unread import ReadParams
from recmodels.training.callbacks import Callback
from recmodels.training.early_stop import EarlyStop
from recmodels.training.plain_trainer import PlainTrainer

# Models that RecBole fits in their constructor, on the CPU: the parameter it makes up for its optimizer, and what
# scores need and no state dict holds.
FITTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "Pop": ("fake_loss", ("item_cnt", "max_cnt")),
    "ItemKNN": ("fake_loss", ("pred_mat",)),
    "EASE": ("dummy_param", ("interaction_matrix", "item_similarity")),
    "ADMMSLIM": ("dummy_param", ("interaction_matrix", "item_similarity", "item_means", "center_columns")),
    "SLIMElastic": ("dummy_param", ("interaction_matrix", "item_similarity")),
    "NCEPLRec": ("dummy_param", ("user_embeddings", "item_embeddings")),
}
# Models that are trained epoch by epoch and whose state dict is complete.
TRAINED = ("BPR", "NeuMF", "DMF", "CDAE", "MultiDAE", "MultiVAE", "MacridVAE", "RecVAE", "ENMF", "SimpleX", "NGCF")


class FittedAtOnce(GeneralRecommender):
    """Comes before a RecBole class that fits in its constructor: constructs it empty, and fits it when told.

    So a saved model is loaded without being fitted again. What it learned is part of its state dict, as tensors.

    Args:
        config: RecBole's config.
        dataset: RecBole's training part.
    """

    placeholder: ClassVar[str]
    arrays: ClassVar[tuple[str, ...]]

    def __init__(self, config: Any, dataset: Any) -> None:  # noqa: ANN401  (RecBole's types)
        GeneralRecommender.__init__(self, config, dataset)
        self._source = (config, dataset)
        setattr(self, self.placeholder, nn.Parameter(torch.zeros(1)))

    def fit(self) -> None:
        """Runs RecBole's constructor, and its one pass over the interactions for a model that counts them.

        Raises:
            TrainingError: RecBole raised anything but a MemoryError.
        """
        config, dataset = self._source
        try:
            super().__init__(config, dataset)
            self.calculate_loss(dataset.inter_feat)
        except MemoryError:  # the command line says what to lower
            raise
        except Exception as error:
            raise TrainingError(_why(type(self).__name__, config, "fit", error)) from error

    @property
    def n_fitted(self) -> int:
        """How many numbers `fit` found; 0 before."""
        found = {name: part["data"] for name, part in self.get_extra_state().items() if name != "interaction_matrix"}
        return sum(data.numel() for data in found.values() if isinstance(data, torch.Tensor))

    def get_extra_state(self) -> dict[str, Any]:
        """The arrays as tensors and plain data; none before the fit."""
        return {name: to_plain(getattr(self, name)) for name in self.arrays if hasattr(self, name)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_extra_state` gave."""
        for name, value in state.items():
            setattr(self, name, from_plain(value, self.device))


def _why(name: str, config: Any, work: str, error: Exception) -> str:  # noqa: ANN401
    """What RecBole raised at its work on a model, and the values that it was told."""
    keys = BASELINES[name].keys()
    told = ", ".join(f"{key}={config[key]!r}" for key in keys)
    text = " ".join(str(error).split())
    return (
        f"{name}: RecBole's {work} raised {type(error).__name__}{f' ({text})' if text else ''}; its keys: "
        f"{told or 'none'}"
    )


def baseline_class(name: str) -> type[Any]:
    """RecBole's class of that name, which loads and saves all that its scores need."""
    theirs = get_model(name)
    if name not in FITTED:
        return type(name, (_Trained, theirs), {})
    placeholder, arrays = FITTED[name]
    return type(name, (FittedAtOnce, theirs), {"placeholder": placeholder, "arrays": arrays})


class _Trained(GeneralRecommender):
    """Comes before a RecBole class that is trained: seeds its weights, and drops what it cached for other ones.

    Args:
        config: RecBole's config.
        dataset: RecBole's training part.

    Raises:
        ParamError: the data lack a column that the model reads.
        TrainingError: RecBole's constructor raised.
    """

    def __init__(self, config: Any, dataset: Any) -> None:  # noqa: ANN401
        check_columns(config["inter_matrix_type"], config["RATING_FIELD"], list(dataset.inter_feat.columns))
        try:
            with global_streams(config["seed"], "init"):
                super().__init__(config, dataset)
        except (MemoryError, RuntimeError):  # torch's shortage of memory is a RuntimeError; the command line knows both
            raise
        except Exception as error:
            raise TrainingError(_why(type(self).__name__, config, "constructor", error)) from error
        self.to(self.device)
        self.register_load_state_dict_post_hook(lambda module, keys: module.drop_caches())

    def drop_caches(self) -> None:
        """Forgets embeddings that were computed for an evaluation."""
        for name in getattr(self, "other_parameter_name", ()):
            setattr(self, name, None)


def reads_negatives(name: str) -> bool:
    """Whether a baseline is trained on drawn negatives: not where it is fitted at once, or trained on whole users."""
    return name not in FITTED and get_dataloader({"model": name, "MODEL_TYPE": None}, "train") is not UserDataLoader


def recbole_values(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a baseline's config is told: no negatives where none are read, since they would count as interactions."""
    return dict(values) if reads_negatives(name) else {**values, "train_neg_sample_args": None}


class OrderedUsers(UserDataLoader):
    """RecBole's loader of users for `shuffle: false`, which it refuses: batches in the order of the users' ids."""

    def __iter__(self) -> Iterator[Interaction]:
        """The batches of an epoch, the padding user among them as in RecBole's own."""
        return (self.collate_fn(users) for users in torch.arange(self.sample_size).split(self.step))


def with_train_loader(config: RecboleConfig, splits: Splits) -> Splits:
    """The splits with the training loader that the baseline reads: ours, or one of users, shuffled or in order.

    Args:
        config: of the baseline; for a loader of users `train_batch_size` counts users.
        splits: from `recmodels.data.split`.
    """
    if get_dataloader(config, "train") is not UserDataLoader:
        return splits
    load = UserDataLoader if config["shuffle"] else OrderedUsers
    return splits._replace(train=load(config, splits.train.dataset, None, shuffle=True))


def baseline_trainer(config: RecboleConfig, model: Any, stop: EarlyStop, callbacks: list[Callback]) -> PlainTrainer:  # noqa: ANN401
    """Trains a baseline by the epochs of RecBole's trainer for it."""
    theirs = get_trainer(model.type, type(model).__name__)
    kind = type(theirs.__name__, (PlainTrainer, theirs), {})
    trainer: PlainTrainer = kind(config, model, stop, callbacks)
    return trainer


def _params(name: str) -> type[Params]:
    """Typed parameters after RecBole's own YAML of a model: its values and what its comments say of them."""
    file = resources.files("recbole") / "properties" / "model" / f"{name}.yaml"
    comments = dict(re.findall(r"^(\w+):[^#\n]*#(.*)", file.read_text(encoding="utf-8"), re.MULTILINE))
    values = load_layer(file, f"RecBole's {name}.yaml").values
    bounds = BOUNDS.get(name, {})
    entries = [
        (key, _hint(value, comment), param(choices=_choices(value, comment), **bounds.get(key, {})))
        for key, value in values.items()
        for comment in [comments.get(key, "")]
    ]
    return make_dataclass(f"{name}Params", entries, bases=(ReadParams,), namespace={"model": name}, frozen=True)


def _hint(value: Any, comment: str) -> Any:  # noqa: ANN401
    """The type of a key: that of its value, or a wider one that the comment names."""
    if value is None:
        return str | None
    if isinstance(value, list):
        return list[_hint(value[0], comment)]  # type: ignore[misc]
    return float if type(value) is int and "(float)" in comment else type(value)


def _choices(value: Any, comment: str) -> list[str]:  # noqa: ANN401
    """The words that the comment of a string lists in brackets."""
    listed = re.search(r"\[(.*?)\]", comment) if isinstance(value, str) else None
    return re.findall(r"\w+", listed.group(1)) if listed else []


# Names to the parameters of RecBole's models that run here, in the order in which they are listed to users.
BASELINES: dict[str, type[Params]] = {name: _params(name) for name in (*FITTED, *TRAINED)}
