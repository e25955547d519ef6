"""Keys of a run that nothing reads, by model and by the run's other values."""

from recmodels.config import Resolved
from recmodels.models import FILTERS
from recmodels.run_params import RunParams
from recmodels.training.baselines import BASELINES, FITTED, reads_negatives

# What gradient steps, epochs and guards read.
_OF_EPOCHS = frozenset(
    ("epochs", "train_batch_size", "train_batch_unit", "shuffle", "learner", "learning_rate", "weight_decay")
    + ("weight_average", "train_neg_sample_args", "clip_grad_norm", "enable_amp", "enable_scaler", "eval_step")
    + ("stopping_step", "early_stop_mode", "early_stop_min_epoch", "guard_nonfinite")
)
# What a search does not read, which ends by its own rule.
_EARLY_STOPPING = frozenset(("stopping_step", "early_stop_mode", "early_stop_min_epoch"))
# What the guards of our own loop read, and of these what belongs to one policy.
_OF_GUARDS = frozenset(
    ("guard_max_skips", "guard_max_rollbacks", "guard_lr_factor")
    + ("guard_dead_share", "guard_none_gradient", "guard_orphan", "guard_replay")
)
_OF_POLICIES = {
    "skip": frozenset(("guard_max_skips",)),
    "rollback": frozenset(("guard_max_rollbacks", "guard_lr_factor")),
}


def is_fitted(model: str) -> bool:
    """Whether a model of that name is fitted at once, without epochs."""
    return model in FITTED or model in FILTERS


def unread_by_fits(model: str) -> frozenset[str]:
    """Keys of a run that decide nothing in a model that is fitted at once, and none for the other models."""
    return _OF_EPOCHS | _OF_GUARDS if is_fitted(model) else frozenset()


def unread_keys(resolved: Resolved) -> frozenset[str]:
    """Keys of the model and of the run that nothing reads at these values, so that they decide no number."""
    return frozenset(resolved.params.inert_keys()) | _unread_of_run(resolved)


def _unread_of_run(resolved: Resolved) -> frozenset[str]:
    if is_fitted(resolved.model):
        return unread_by_fits(resolved.model)
    if resolved.model in BASELINES:
        return _OF_GUARDS if reads_negatives(resolved.model) else _OF_GUARDS | {"train_neg_sample_args"}
    of_search = _EARLY_STOPPING if resolved.params.held_out_share else frozenset[str]()
    return of_search | _unread_policies(resolved.run)


def _unread_policies(run: RunParams) -> frozenset[str]:
    """Keys of policies against what is not finite that were not chosen."""
    return frozenset().union(*(keys for policy, keys in _OF_POLICIES.items() if policy != run.guard_nonfinite))
