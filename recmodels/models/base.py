"""The one class that knows RecBole's model interface."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recmodels.errors import ParamError
from recmodels.graph import BipartiteGraph
from recmodels.kernels import gather
from recmodels.objectives.base import Objective
from recmodels.params import Params
from recmodels.records import Batch, Encoding
from recmodels.scoring import Scorer
from recmodels.streams import global_streams, stream
from recmodels.tables import Table
from recmodels.views import PropagationView


class Parts(NamedTuple):
    """What a model is made of.

    Attributes:
        table: called with nothing, gives (N, d) ego embeddings.
        encoder: the view that is scored, ego to Encoding.
        objectives: the terms of the loss.
        scorer: turns the readout into scores.
    """

    table: Table
    encoder: PropagationView
    objectives: list[Objective]
    scorer: Scorer


class GraphRecommender(GeneralRecommender):
    """A table, an encoder and a list of objectives behind RecBole's model interface.

    A named model writes `Params` and `build`; it chooses and does not compute.

    Args:
        config: RecBole's config, read through `Params` and for its field names, device and seed.
        dataset: RecBole's training part.

    Raises:
        ParamError: no objective has a weight and counts from epoch 0 on, so the first epoch would have no loss.
    """

    input_type = InputType.PAIRWISE
    Params: ClassVar[type[Params]]

    def __init__(self, config: Any, dataset: Any) -> None:  # noqa: ANN401  (RecBole's types)
        super().__init__(config, dataset)
        self.seed: int = config["seed"]
        users, items = dataset.inter_feat[self.USER_ID], dataset.inter_feat[self.ITEM_ID]
        self.graph = BipartiteGraph.from_interactions(users, items, self.n_users, self.n_items)
        self.params = self.Params.from_mapping({key: config[key] for key in set(self.Params.keys())})
        with global_streams(self.seed, "init"):  # layers we do not own draw from the global stream
            parts = self.build(self.params, self.graph)
        self.table, self.encoder, self.scorer = parts.table, parts.encoder, parts.scorer
        self.objectives = nn.ModuleList(o for o in parts.objectives if o.needed_by())
        _require_loss(type(self).__name__, parts.objectives)
        self.epoch = 0
        self._scored: Tensor | None = None
        self.register_load_state_dict_post_hook(lambda module, keys: module.forget())
        self.to(self.device)

    def build(self, p: Any, graph: BipartiteGraph) -> Parts:  # noqa: ANN401  (each model's own Params)
        """Composes the model from its parameters and the training graph."""
        raise NotImplementedError(f"{type(self).__name__} must write build(params, graph) -> Parts")

    def stream(self, name: str, epoch: int = 0) -> torch.Generator:
        """The random stream of a component in an epoch."""
        return stream(self.seed, name, epoch)

    def on_epoch_start(self, epoch: int) -> None:
        """Tells the scorer, the encoder and every needed objective that an epoch begins."""
        self.epoch = epoch
        self.scorer.on_epoch_start(epoch)
        self.encoder.on_epoch_start(epoch, self.stream("encoder", epoch))
        self.table.on_epoch_start(epoch, self.stream("gates", epoch))
        ego = self.table.settled().detach()
        for objective in self._kept_objectives():
            if objective.is_needed(epoch):
                objective.on_epoch_start(epoch, ego, self.stream(objective.name, epoch))

    def active_objectives(self) -> list[Objective]:
        """The objectives that count in the current epoch."""
        return [o for o in self._kept_objectives() if o.is_active(self.epoch)]

    def _kept_objectives(self) -> list[Objective]:
        return [o for o in self.objectives if isinstance(o, Objective)]

    def batch(self, interaction: Any) -> Batch:  # noqa: ANN401  (RecBole's Interaction)
        """RecBole's user and item ids, still on the CPU, as node ids on the model's device."""
        user, pos, neg = (interaction[key] for key in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        return Batch.of(user, pos + self.n_users, neg + self.n_users).to(self.device)

    def encode(self) -> Encoding:
        """The encoding of the whole graph under the current weights."""
        return self.scorer(self.encoder(self.table()))

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Unweighted scalar term of each active objective, by name."""
        encoding = self.encode()
        return {o.name: o(encoding, batch) for o in self.active_objectives()}

    def weights(self) -> dict[str, float]:
        """Weight of each active objective, by name."""
        return {o.name: o.weight for o in self.active_objectives()}

    def weighted_sum(self, terms: dict[str, Tensor]) -> Tensor:
        """The scalar that is differentiated."""
        weights = self.weights()
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum()

    def report(self) -> dict[str, float]:
        """Diagnostics of the active objectives, as `<objective>/<name>`."""
        return {f"{o.name}/{key}": value for o in self.active_objectives() for key, value in o.report().items()}

    def weight_parameters(self) -> Iterator[nn.Parameter]:
        """All parameters but those of the table's picker."""
        picker = {id(p) for p in self.table.picker_parameters()}
        return (p for p in self.parameters() if id(p) not in picker)

    def train(self, mode: bool = True) -> "GraphRecommender":
        """Switches the mode and drops the cached encoding, which never outlives its weights."""
        self.forget()
        return super().train(mode)

    def forget(self) -> None:
        """Drops the cached encoding: weights or widths have changed."""
        self._scored = None

    def scored(self) -> Tensor:
        """(N, d') rows whose inner products are the scores, kept between calls in evaluation mode."""
        if self.training:
            return self.encode().scored
        if self._scored is None:
            self._scored = self.encode().scored.detach()
        return self._scored

    def calculate_loss(self, interaction: Any) -> Tensor:  # noqa: ANN401
        """RecBole's training hook: the weighted sum of the active terms."""
        return self.weighted_sum(self.terms(self.batch(interaction)))

    def predict(self, interaction: Any) -> Tensor:  # noqa: ANN401
        """(B,) scores of user-item pairs."""
        user, item = interaction[self.USER_ID].to(self.device), interaction[self.ITEM_ID].to(self.device)
        rows = self.scored()
        return (gather(rows, user) * gather(rows, item + self.n_users)).sum(-1)

    def full_sort_predict(self, interaction: Any) -> Tensor:  # noqa: ANN401
        """(B * n_items,) scores of all items for each user, flat as RecBole wants them."""
        rows = self.scored()
        users = gather(rows, interaction[self.USER_ID].to(self.device))
        return (users @ rows[self.n_users :].T).flatten()


def _require_loss(model: str, objectives: Sequence[Objective]) -> None:
    """Refuses a model whose first epoch has nothing to learn from."""
    if any(o.is_active(0) for o in objectives):
        return
    got = ", ".join(f"{o.name}: weight {o.weight:g} from epoch {o.starts_at}" for o in objectives)
    raise ParamError(
        f"{model}: no term of the loss counts in epoch 0; got {got}; expected at least one with a weight above 0 from "
        "epoch 0. Raise the weight of one that starts at 0, or start one earlier"
    )
