"""What RecBole's models do not read of their own keys, at which other values."""

from collections.abc import Callable, Mapping
from typing import Any

from recmodels.training.baseline_bounds import BaselineParams

# Model and key to whether nothing reads the key of these parameters.
_UNREAD: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "DMF": {"embedding_size": lambda own: True},  # it reads user_embedding_size and item_embedding_size
    "NeuMF": {
        "mf_pretrain_path": lambda own: not own.use_pretrain,
        "mlp_pretrain_path": lambda own: not own.use_pretrain,
    },
    "RecVAE": {"beta": lambda own: own.gamma != 0},  # the weight of the KL loss is gamma's, or beta where that is 0
}


class ReadParams(BaselineParams):
    """Base of the parameters of RecBole's models, with what they do not read."""

    def inert_keys(self) -> set[str]:
        """Keys that RecBole's code does not read at these values."""
        rules = _UNREAD.get(self.model, {})
        return super().inert_keys() | {key for key, is_unread in rules.items() if is_unread(self)}
