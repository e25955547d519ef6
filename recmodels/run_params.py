"""Parameters of training, evaluation, guards and files, shared by all models."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recmodels.params import LARGEST_RATE, Params, nearest, param

METRICS = (
    "Recall",
    "NDCG",
    "MRR",
    "Hit",
    "MAP",
    "Precision",
    "ItemCoverage",
    "AveragePopularity",
    "ShannonEntropy",
    "GiniIndex",
    "TailPercentage",
)
LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop")
LARGEST_SEED = 2**32 - 1  # numpy takes no larger one
LARGEST_DECAY = 1e6  # times the largest learning rate, as AdamW has it, still a float32
_DICTS_OF_EVALUATION = ("split", "order", "group_by", "mode")
_RANKING_REASON = "sampled or labeled metrics do not rank models consistently; use full"


@dataclass(frozen=True)
class RunParams(Params):
    """How a run is seeded, trained, evaluated, guarded and stored. Values: `properties/overall.yaml`."""

    seed: int = param(ge=0, le=LARGEST_SEED, doc="seed of everything but the split")
    split_seed: int = param(ge=0, le=LARGEST_SEED, doc="seed of the split")
    reproducibility: bool = param(doc="deterministic kernels")
    use_gpu: bool = param(doc="whether to use a GPU when there is one")
    gpu_id: str = param(doc="one device, empty for the CPU")
    state: str = param(choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), doc="log level")
    show_progress: bool = param(doc="progress bar of every epoch")
    data_path: str = param(doc="folder of the data sets")
    runs_dir: str = param(doc="folder of the run folders")

    epochs: int = param(ge=1, doc="largest number of epochs")
    train_batch_size: int = param(ge=1, doc="interactions or users a batch")
    train_batch_unit: Literal["interactions", "users"] = param(doc="what train_batch_size counts")
    shuffle: bool = param(doc="whether training data are shuffled every epoch")
    learner: str = param(doc="optimizer")
    learning_rate: float = param(gt=0, le=LARGEST_RATE, doc="step size of the optimizer")
    weight_decay: float = param(ge=0, le=LARGEST_DECAY, doc="L2 penalty inside the optimizer")
    weight_average: float = param(ge=0, lt=1, doc="decay of the running average of the weights")
    train_neg_sample_args: dict[str, Any] = param(doc="negative sampling of training")
    clip_grad_norm: dict[str, Any] | None = param(doc="max_norm and norm_type, or null")
    enable_amp: bool = param(doc="mixed precision")
    enable_scaler: bool = param(doc="gradient scaling of mixed precision")
    loss_decimal_place: int = param(ge=0, doc="decimals of the logged losses")

    eval_step: int = param(ge=1, doc="epochs between validations")
    stopping_step: int = param(ge=1, doc="patience in validations")
    early_stop_mode: Literal["recbole", "strict"] = param(doc="stop after patience + 1 or patience validations")
    early_stop_min_epoch: int = param(ge=0, doc="first 0-based epoch that may stop")
    eval_args: dict[str, Any] = param(doc="split, order, group_by, mode")
    repeatable: bool = param(doc="whether items of the training set may be recommended again")
    metrics: list[str] = param(choices=METRICS, doc="top-k ranking metrics")
    topk: list[int] = param(ge=1, doc="lengths of the recommendation lists")
    valid_metric: str = param(doc="metric@k of model selection")
    eval_batch_bytes: int = param(ge=1, doc="bytes of scores in one evaluation batch")
    eval_batch_size: int | None = param(ge=1, doc="scores in one evaluation batch; null follows eval_batch_bytes")
    metric_decimal_place: int = param(ge=0, doc="decimals of the logged metrics")

    guard_nonfinite: Literal["raise", "skip", "rollback"] = param(doc="what a NaN or infinite loss or gradient does")
    guard_max_skips: int = param(ge=0, doc="skipped batches before giving up")
    guard_max_rollbacks: int = param(ge=0, doc="rollbacks before giving up")
    guard_lr_factor: float = param(gt=0, lt=1, doc="factor of the learning rate at a rollback")
    guard_replay: bool = param(doc="whether a failed batch is replayed to name the module")
    guard_dead_share: float = param(ge=0, lt=1, doc="gradient share below which a term counts as dead")
    guard_none_gradient: Literal["raise", "warn", "ignore"] = param(doc="what a parameter without gradient does")
    guard_orphan: Literal["raise", "warn", "ignore"] = param(doc="what a leaf outside the optimizer does")

    @classmethod
    def normalized(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """One form for what RecBole lets users write in several: single values, numbers as ids, letter case."""
        found = dict(values)
        for key, single in (("metrics", str), ("topk", int)):
            if isinstance(found.get(key), single) and not isinstance(found[key], bool):
                found[key] = [found[key]]
        if isinstance(found.get("metrics"), (list, tuple)):
            found["metrics"] = [_metric_name(name) for name in found["metrics"]]
        if isinstance(found.get("valid_metric"), str):
            name, at, k = found["valid_metric"].partition("@")
            found["valid_metric"] = f"{_metric_name(name)}{at}{k}"
        if type(found.get("gpu_id")) is int:
            found["gpu_id"] = str(found["gpu_id"])
        for key, change in (("state", str.upper), ("learner", str.lower)):
            if isinstance(found.get(key), str):
                found[key] = change(found[key])
        return found

    def problems(self) -> list[str]:
        """Checks inside the mappings, and `valid_metric` against `metrics` and `topk`."""
        given = [(check, getattr(self, name, None)) for name, check in _CHECKS.items()]
        found = [text for check, value in given if value is not None for text in check(value)]
        return found + _valid_metric_problems(self.valid_metric, self.metrics, self.topk)


def _metric_name(name: Any) -> Any:
    """RecBole's spelling of a metric, whatever the letter case."""
    folded = {metric.lower(): metric for metric in METRICS}
    return folded.get(name.lower(), name) if isinstance(name, str) else name


def _one_of(where: str, value: Any, choices: tuple[Any, ...]) -> list[str]:
    """A problem unless the value is among the choices."""
    if value in choices:
        return []
    near = nearest(value, [choice for choice in choices if isinstance(choice, str)])
    return [f"{where}: must be one of {', '.join(map(repr, choices))}, got {value!r}{near}"]


def _unknown(where: str, value: Mapping[str, Any], known: tuple[str, ...]) -> list[str]:
    """A problem for every key of a mapping that is not known."""
    return [f"{where}.{key}: unknown key{nearest(key, known)}" for key in value if key not in known]


def _is_positive(value: Any, allow_infinite: bool = False) -> bool:
    """Whether a value is a number above 0."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and value > 0 and (allow_infinite or math.isfinite(value))


def _valid_metric_problems(valid_metric: str, metrics: list[str], topk: list[int]) -> list[str]:
    name, _, k = valid_metric.partition("@")
    known = [f"{metric}@{length}" for metric in metrics for length in topk]
    if valid_metric in known:
        return []
    expected = f"valid_metric: expected metric@k with a metric of {metrics} and a k of {topk}, got {valid_metric!r}"
    lengths = [length for length in topk if k.isdecimal()]
    if name in metrics and lengths:
        return [f"{expected}; did you mean '{name}@{min(lengths, key=lambda length: abs(length - int(k)))}'?"]
    return [expected + nearest(valid_metric, known)]


def _learner_problems(learner: str) -> list[str]:
    if learner == "sparse_adam":
        return ["learner: 'sparse_adam' is refused: gradients of propagated embeddings are dense; use 'adam'"]
    return _one_of("learner", learner, LEARNERS)


def _gpu_problems(gpu_id: str) -> list[str]:
    if re.fullmatch("[0-9]{0,3}", gpu_id):
        return []
    hint = "; a run uses one device, start one run per device instead" if "," in gpu_id else ""
    return [f"gpu_id: expected one device, a number like '0', or '' for the CPU, got {gpu_id!r}{hint}"]


def _clip_problems(value: dict[str, Any]) -> list[str]:
    found = _unknown("clip_grad_norm", value, ("max_norm", "norm_type"))
    if not _is_positive(value.get("max_norm")):
        found.append(f"clip_grad_norm.max_norm: expected a number > 0, got {value.get('max_norm')!r}")
    if not _is_positive(value.get("norm_type", 2), allow_infinite=True):
        found.append(f"clip_grad_norm.norm_type: expected a number > 0 or .inf, got {value['norm_type']!r}")
    return found


def _negative_problems(value: dict[str, Any]) -> list[str]:
    where = "train_neg_sample_args"
    found = _unknown(where, value, ("distribution", "sample_num", "alpha", "dynamic", "candidate_num"))
    found += _one_of(f"{where}.distribution", value.get("distribution"), ("uniform", "popularity"))
    number = value.get("sample_num")
    if type(number) is not int or number < 1:
        found.append(f"{where}.sample_num: expected a whole number >= 1, got {number!r}")
    if not _is_positive(value.get("alpha", 1.0)):
        found.append(f"{where}.alpha: expected a number > 0, got {value['alpha']!r}")
    if value.get("dynamic", False) is not False or value.get("candidate_num", 0) != 0:
        found.append(
            f"{where}.dynamic: dynamic negatives are refused: they draw from the model being trained and break paired "
            "runs; set dynamic: false and candidate_num: 0"
        )
    return found


def _evaluation_problems(value: dict[str, Any]) -> list[str]:
    where = "eval_args"
    found = _unknown(where, value, _DICTS_OF_EVALUATION)
    found += _one_of(f"{where}.order", value.get("order"), ("RO", "TO"))
    found += _one_of(f"{where}.group_by", value.get("group_by"), ("user", "none", None))
    return found + _split_problems(value) + _mode_problems(value.get("mode"))


def _split_problems(value: Mapping[str, Any]) -> list[str]:
    where, split = "eval_args.split", value.get("split")
    if not isinstance(split, dict) or len(split) != 1:
        return [f"{where}: expected one of {{RS: [train, valid, test]}}, {{LS: mode}}, {{TS: ratios}}, got {split!r}"]
    ((kind, rule),) = split.items()
    found = _one_of(where, kind, ("RS", "LS", "TS"))
    if kind in ("RS", "TS") and not (isinstance(rule, list) and len(rule) == 3 and all(map(_is_positive, rule))):
        found.append(f"{where}: {kind} needs three positive ratios [train, valid, test], got {rule!r}")
    if kind == "LS" and rule != "valid_and_test":
        found.append(f"{where}: LS must be 'valid_and_test', got {rule!r}: model selection and the report need both")
    if kind in ("LS", "TS") and value.get("group_by") != "user":
        found.append(
            f"eval_args.group_by: {kind} splits each user's history; set 'user', got {value.get('group_by')!r}"
        )
    if kind == "TS" and value.get("order") != "TO":
        # RecBole cuts each user's history in its present order, so only a sorted one is cut by time
        found.append(f"eval_args.order: TS needs 'TO', got {value.get('order')!r}")
    return found


def _mode_problems(mode: Any) -> list[str]:
    where = "eval_args.mode"
    modes = mode if isinstance(mode, dict) else {"valid": mode, "test": mode}
    found = _unknown(where, modes, ("valid", "test"))
    for value in dict.fromkeys(map(str, modes.values())):
        if re.fullmatch(r"(uni|pop)\d*|labeled", value):
            found.append(f"{where}: {value!r} is refused: {_RANKING_REASON}")
        elif value != "full":
            found.append(f"{where}: must be 'full', got {value!r}")
    return found


_CHECKS: dict[str, Callable[[Any], list[str]]] = {
    "gpu_id": _gpu_problems,
    "learner": _learner_problems,
    "clip_grad_norm": _clip_problems,
    "train_neg_sample_args": _negative_problems,
    "eval_args": _evaluation_problems,
}
