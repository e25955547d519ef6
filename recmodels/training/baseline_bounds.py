"""What RecBole's models need of their values: it checks none of them itself."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from recmodels.errors import ParamError
from recmodels.params import SMALLEST_TEMPERATURE, Params

_SIZE, _WEIGHT, _SHARE = {"ge": 1}, {"ge": 0}, {"ge": 0, "le": 1}
_DROPOUT = {"ge": 0, "lt": 1}  # 1 would leave nothing of the input
_POSITIVE = {"gt": 0}

# Model and key to the bounds of the number, or of every number of the list.
BOUNDS: dict[str, dict[str, dict[str, Any]]] = {
    "ItemKNN": {"k": _SIZE, "shrink": _WEIGHT},
    "EASE": {"reg_weight": _POSITIVE},  # RecBole's item 0 has no interaction, so 0 is always singular
    "ADMMSLIM": {"lambda1": _WEIGHT, "lambda2": _WEIGHT, "alpha": _WEIGHT, "rho": _POSITIVE, "k": _SIZE},
    "SLIMElastic": {"alpha": _WEIGHT, "l1_ratio": _SHARE},
    "NCEPLRec": {"beta": _WEIGHT, "rank": _SIZE, "reg_weight": _WEIGHT},
    "BPR": {"embedding_size": _SIZE},
    "NeuMF": {
        "mf_embedding_size": _SIZE,
        "mlp_embedding_size": _SIZE,
        "mlp_hidden_size": _SIZE,
        "dropout_prob": _DROPOUT,
    },
    "DMF": {
        "user_embedding_size": _SIZE,
        "item_embedding_size": _SIZE,
        "user_hidden_size_list": _SIZE,
        "item_hidden_size_list": _SIZE,
        "embedding_size": _SIZE,
    },
    "CDAE": {"corruption_ratio": _DROPOUT, "embedding_size": _SIZE, "reg_weight_1": _WEIGHT, "reg_weight_2": _WEIGHT},
    "MultiDAE": {"mlp_hidden_size": _SIZE, "latent_dimension": _SIZE, "dropout_prob": _DROPOUT},
    "MultiVAE": {
        "mlp_hidden_size": _SIZE,
        "latent_dimension": {"ge": 2},  # half are means, half are variances
        "dropout_prob": _DROPOUT,
        "anneal_cap": _WEIGHT,
        "total_anneal_steps": _WEIGHT,
    },
    "MacridVAE": {
        "embedding_size": _SIZE,
        "dropout_prob": _DROPOUT,
        "kfac": _SIZE,
        "std": _WEIGHT,
        "encoder_hidden_size": _SIZE,
        "tau": {"ge": SMALLEST_TEMPERATURE},
        "anneal_cap": _WEIGHT,
        "total_anneal_steps": _WEIGHT,
        "reg_weights": _WEIGHT,
    },
    "RecVAE": {
        "hidden_dimension": _SIZE,
        "latent_dimension": _SIZE,
        "dropout_prob": _DROPOUT,
        "beta": _WEIGHT,
        "gamma": _WEIGHT,
        "mixture_weights": _SHARE,
        "n_enc_epochs": _SIZE,
        "n_dec_epochs": _SIZE,
    },
    "ENMF": {"embedding_size": _SIZE, "dropout_prob": _DROPOUT, "reg_weight": _WEIGHT, "negative_weight": _WEIGHT},
    "SimpleX": {
        "embedding_size": _SIZE,
        "margin": {"ge": -1, "le": 1},
        "negative_weight": _WEIGHT,
        "gamma": _SHARE,
        "history_len": _SIZE,
        "reg_weight": _WEIGHT,
        "dropout_prob": _DROPOUT,
    },
    "NGCF": {
        "embedding_size": _SIZE,
        "hidden_size_list": _SIZE,
        "node_dropout": _DROPOUT,
        "message_dropout": _DROPOUT,
        "reg_weight": _WEIGHT,
    },
}


class Need(NamedTuple):
    """What bounds cannot say of a key.

    Attributes:
        key: that is named.
        holds: whether the parameters, with that key and perhaps others, can be used.
        text: what is expected.
    """

    key: str
    holds: Callable[[Any], bool]
    text: str


_NO_PRETRAINING = "a run starts from its seed, and files of weights are no part of it"

_NEEDS: Mapping[str, tuple[Need, ...]] = {
    "NeuMF": (
        Need("mlp_hidden_size", lambda own: len(own.mlp_hidden_size) > 0, "at least one size"),
        Need("mlp_train", lambda own: own.mf_train or own.mlp_train, "true where mf_train is false"),
        Need("use_pretrain", lambda own: not own.use_pretrain, f"false ({_NO_PRETRAINING})"),
        Need("mf_pretrain_path", lambda own: own.mf_pretrain_path is None, f"null ({_NO_PRETRAINING})"),
        Need("mlp_pretrain_path", lambda own: own.mlp_pretrain_path is None, f"null ({_NO_PRETRAINING})"),
    ),
    "DMF": (
        Need("user_hidden_size_list", lambda own: len(own.user_hidden_size_list) > 0, "at least one size"),
        Need("item_hidden_size_list", lambda own: len(own.item_hidden_size_list) > 0, "at least one size"),
        Need(
            "item_hidden_size_list",
            lambda own: own.item_hidden_size_list[-1:] == own.user_hidden_size_list[-1:],
            "the last size of user_hidden_size_list at its end",
        ),
    ),
    "MultiVAE": (Need("latent_dimension", lambda own: own.latent_dimension % 2 == 0, "an even number"),),
    "MacridVAE": (Need("reg_weights", lambda own: len(own.reg_weights) == 2, "two weights"),),
    "RecVAE": (
        Need(
            "mixture_weights",
            lambda own: len(own.mixture_weights) == 3 and any(own.mixture_weights),
            "three weights that are not all 0",
        ),
    ),
}


class BaselineParams(Params):
    """Base of the parameters of RecBole's models, whose class attribute names the model."""

    model = ""

    def problems(self) -> list[str]:
        """What the model needs beyond bounds, key by key."""
        return [
            f"{need.key}: expected {need.text}, got {getattr(self, need.key)!r}"
            for need in _NEEDS.get(self.model, ())
            if not need.holds(self)
        ]


def check_columns(matrix_type: str | None, rating_field: str, columns: Collection[str]) -> None:
    """Checks that the data have what a model reads beside users and items.

    Args:
        matrix_type: `inter_matrix_type` of the model; None for one without that key.
        rating_field: name of the column of the ratings.
        columns: those of the interactions that were loaded and are not `unused_col`.

    Raises:
        ParamError: ratings are wanted and there are none.
    """
    if matrix_type == "rating" and rating_field not in columns:
        raise ParamError(
            f"inter_matrix_type: got 'rating', which reads the column {rating_field!r} (RATING_FIELD), but the data "
            f"have {', '.join(columns)}; expected '01', or that column in load_col.inter and not in unused_col.inter"
        )
