"""What a run needs in memory: data, split and an untrained model."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recmodels.compat import RecboleConfig
from recmodels.config import COMMAND_LINE, POINT, Resolved, resolve
from recmodels.data.checks import check_topk
from recmodels.data.hold_out import HeldOut, hold_out
from recmodels.data.loading import load_dataset
from recmodels.data.split import Splits, interactions, split
from recmodels.errors import ParamError
from recmodels.experiments.folder import CONFIG, existing_run_folder
from recmodels.experiments.unread import is_fitted, unread_keys
from recmodels.models import FILTERS, MODELS
from recmodels.params import raise_all
from recmodels.streams import stream
from recmodels.training.baselines import BASELINES, FITTED, baseline_class, recbole_values, with_train_loader

DEFAULTS = {"model": "NCL_OT", "dataset": "ml-100k"}
PARAMS = {name: model.Params for name, model in (MODELS | FILTERS).items()} | BASELINES
# Keys that decide no number: paths, progress, logging, device.
NO_NUMBER = frozenset(
    ("data_path", "runs_dir", "show_progress", "state", "use_gpu", "gpu_id", "guard_replay", "guard_dead_share")
    + ("metric_decimal_place", "loss_decimal_place", "eval_batch_bytes", "eval_batch_size")
)

_UNREAD_HINT = "; what reads it was not chosen, see its line in properties/ (say table, rec_loss, or a weight)"
_TYPED = (COMMAND_LINE, POINT)  # layers whose keys somebody wants for this one run
_LONGEST_TEXT = 200  # of a value in an identity
_SWITCHES = {"table", "distill_weight"}  # unread where they switch nothing on, which is worth saying
# Ranking losses that are others when a batch holds all interactions of its users, and why.
_NOT_BY_USERS = {
    "sampled_softmax": "whose correction needs a batch drawn from the interactions",
    "directau": "whose uniformity of users would be that of the many copies of each, at distance 0",
}


@dataclass(frozen=True)
class Session:
    """Data, split and model of one run.

    Attributes:
        resolved: the resolved layers.
        config: RecBole's view of them.
        splits: the three loaders and the fingerprint of the split.
        model: built from the training part, untrained: a GraphRecommender, a GraphFilter, or one of RecBole's own.
        held_out: training interactions that are not in `splits.train`, for the search for widths; None without one.
    """

    resolved: Resolved
    config: RecboleConfig
    splits: Splits
    model: Any
    held_out: HeldOut | None = None

    def training_interactions(self) -> tuple[np.ndarray, np.ndarray]:
        """Users and items, int64 ids, of all of training, those that a search holds out included."""
        users, items = interactions(self.splits.train)
        if self.held_out is None:
            return users, items
        held = self.held_out
        return np.concatenate([users, held.users.numpy()]), np.concatenate([items, held.items.numpy()])

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with: model, data, and every value that decides a number."""
        return identity_of(self.resolved, self.splits.sha256)

    @property
    def unread(self) -> dict[str, Any]:
        """What an identity of an earlier checkout may hold besides: the values that nothing reads."""
        return {CONFIG: _plain(self.resolved, unread_keys(self.resolved) - NO_NUMBER)}


def identity_of(resolved: Resolved, split_sha256: str) -> dict[str, Any]:
    """What runs of equal numbers have in common: model, data, and every value that decides a number."""
    names = {"model": resolved.model, "dataset": resolved.dataset, "split_sha256": split_sha256}
    return names | {CONFIG: deciding_values(resolved)}


def deciding_values(resolved: Resolved) -> dict[str, Any]:
    """The resolved values that decide a number, as plain data.

    Left out are paths, progress, logging and device, and what nothing reads at these values, so that a run keeps its
    identity when a later version has more choices.
    """
    return _plain(resolved, resolved.values.keys() - NO_NUMBER - unread_keys(resolved))


def values_sha256(config: Mapping[str, Any]) -> str:
    """SHA-256 of the content of a `config.yaml`, without what decides no number: another one was edited."""
    kept = {key: value for key, value in config.items() if key not in NO_NUMBER}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _plain(resolved: Resolved, keys: Set[str]) -> dict[str, Any]:
    """Values as they are stored."""
    values = {key: _short(value) for key, value in resolved.values.items() if key in keys}
    return dict(json.loads(json.dumps(values)))


def _short(value: Any) -> Any:  # noqa: ANN401
    """A mask or the widths of all nodes by their hash, since every checkpoint has the identity."""
    is_long = isinstance(value, str) and len(value) > _LONGEST_TEXT
    return f"sha256 {hashlib.sha256(value.encode()).hexdigest()}" if is_long else value


def remarks(resolved: Resolved) -> list[str]:
    """What is allowed and can hardly be meant, such as a key of a command line, or of a point, that nothing reads."""
    found = resolved.params.remarks(resolved.run.epochs)
    inert = unread_keys(resolved)
    inert -= _SWITCHES
    unread = sorted(key for key, layer in resolved.origin.items() if layer in _TYPED and key in inert)
    if unread:
        hint = f"{_UNREAD_HINT}; {resolved.model} has no epochs" if is_fitted(resolved.model) else _UNREAD_HINT
        found.append(f"given, but nothing reads it at these values: {', '.join(unread)}{hint}")
    return found


def prepare(resolved: Resolved) -> Session:
    """Loads and splits the data and builds the untrained model; writes nothing.

    Raises:
        ParamError: the GPU that was asked for does not exist, a list of topk is longer than the items, the data are too
            small for a value, no objective has a weight, or a guard is set that the model's training does not know.
        DataError: the data set is absent or malformed.
    """
    raise_all("configuration", training_problems(resolved))
    _make_deterministic(resolved.run.reproducibility)
    model_class, config, splits = _load(resolved)
    if resolved.model in BASELINES:
        splits = with_train_loader(config, splits)
    held_out = None
    if resolved.params.held_out_share:
        generator = stream(resolved.run.seed, "held_out")
        splits, held_out = hold_out(config, splits, resolved.params.held_out_share, generator)
    return Session(resolved, config, splits, model_class(config, splits.train.dataset), held_out)


def check_steps(session: Session) -> None:
    """Refuses a search that ends before its picker is due.

    Raises:
        ParamError: it does.
    """
    if session.held_out is None:
        return
    values, n_batches = session.resolved.values, len(session.splits.train)
    every, n_epochs = values["adae_every"], session.resolved.run.epochs - values["adae_warmup"]
    if n_epochs * n_batches < every:
        raise ParamError(
            f"adae_every: got {every}, but after the warm-up there are {n_epochs * n_batches} steps ({n_epochs} epochs "
            f"of {n_batches}), so the picker would take none; lower it, or raise epochs"
        )


def size_of(splits: Splits) -> tuple[int, int]:
    """Users and items, with their padding rows."""
    return splits.dataset.user_num, splits.dataset.item_num


def load_splits(resolved: Resolved) -> Splits:
    """The data of a configuration, loaded and split; builds no model.

    Raises:
        UserError: as `prepare`, as far as the data and what their size allows are concerned.
    """
    return _load(resolved)[2]


def _load(resolved: Resolved) -> tuple[Any, RecboleConfig, Splits]:
    """The class of the model, RecBole's view of the configuration, and the data."""
    run, name = resolved.run, resolved.model
    is_baseline = name in BASELINES
    model_class: Any = baseline_class(name) if is_baseline else (MODELS | FILTERS)[name]
    told = resolved.recbole_values()
    device = _device(run.use_gpu and name not in FITTED, run.gpu_id)
    config = RecboleConfig(recbole_values(name, told) if is_baseline else told, model_class, device)
    splits = split(config, load_dataset(config), run.split_seed)
    check_topk(run.topk, splits.dataset.item_num)
    raise_all("configuration", resolved.params.limit_problems(*size_of(splits)))
    return model_class, config, splits


def resolve_train(given: Sequence[str] | Mapping[str, Any]) -> Resolved:
    """The configuration of a new run from a command line or overrides; see `recmodels.config.resolve`."""
    return resolve(given, PARAMS, DEFAULTS)


def resolve_run(run_dir: str) -> Resolved:
    """The configuration that a run folder was made with.

    Raises:
        CheckpointError: it is not a run folder.
        ParamError: its `config.yaml` no longer resolves, say because another version wrote it.
    """
    folder = existing_run_folder(run_dir)
    return resolve({"config_files": [str(folder / CONFIG)]}, PARAMS)


def training_problems(resolved: Resolved) -> list[str]:
    """Keys of the run that the model's training cannot do, told without data."""
    if resolved.model in MODELS:
        problems, loss = list[str](), resolved.values.get("rec_loss") if resolved.values.get("bpr_weight") else None
        if resolved.run.train_batch_unit == "users" and loss in _NOT_BY_USERS:
            problems.append(
                f"train_batch_unit: got 'users' beside rec_loss {loss!r}, {_NOT_BY_USERS[loss]}; choose "
                "'interactions', or rec_loss: softmax, which is cheap by users"
            )
        warm_up = resolved.values.get("adae_warmup", 0)
        if resolved.params.held_out_share and warm_up >= resolved.run.epochs:
            problems.append(f"adae_warmup: got {warm_up}, expected fewer than epochs, {resolved.run.epochs}")
        return problems
    expected = {"guard_nonfinite": "raise", "weight_average": 0.0, "train_batch_unit": "interactions"}
    return [
        f"{key}: got {got!r}, expected {want!r}: {resolved.model} is not trained by the loop that has this; that loop "
        f"trains {', '.join(MODELS)}"
        for key, want in expected.items()
        if (got := getattr(resolved.run, key)) != want
    ]


def _make_deterministic(wanted: bool) -> None:
    """Deterministic kernels where torch has them."""
    if wanted:  # cuBLAS reads it once, at the first use of the GPU, and is not deterministic without it
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    # Otherwise torch fills every new tensor before it is written; nothing here reads memory it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _device(use_gpu: bool, gpu_id: str) -> torch.device:
    """The CPU unless a GPU is wanted and there is one."""
    if not use_gpu or not gpu_id or not torch.cuda.is_available():
        return torch.device("cpu")
    if int(gpu_id) >= torch.cuda.device_count():
        raise ParamError(f"gpu_id: got {gpu_id}, expected 0 to {torch.cuda.device_count() - 1}, or '' for the CPU")
    return torch.device("cuda", int(gpu_id))
