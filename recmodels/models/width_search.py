"""The search for widths: its keys, and how they become a table that searches."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recmodels.graph import BipartiteGraph
from recmodels.params import LARGEST_RATE, LARGEST_TEMPERATURE, SMALLEST_TEMPERATURE, Params, param
from recmodels.tables.candidates import Candidates
from recmodels.tables.frequency import all_most_frequent_first
from recmodels.tables.gates import Decay
from recmodels.tables.picker import BucketLogits, Picker, PickerNetwork, TwinPicker
from recmodels.tables.search import GateSchedule, SearchTable, SideSearch

# AdaE's pivot between rare and frequent: the count that four fifths of the nodes exceed.
_PIVOT = 0.8
_OF_NETWORKS = {"adae_picker_embedding", "adae_picker_hidden", "adae_bucket_width"}


@dataclass(frozen=True)
class SearchParams(Params):
    """Keys that only the search for widths reads."""

    adae_picker: str = param(choices=("network", "logits", "twin"))
    adae_picker_embedding: bool = param()
    adae_picker_hidden: int = param(ge=1)
    adae_picker_optimizer: str = param(choices=("adam", "sgd"))
    adae_picker_lr: float = param(gt=0, le=LARGEST_RATE)
    adae_bucket_width: int = param(ge=1)
    adae_every: int = param(ge=1)
    adae_holdout: float = param(gt=0, lt=1)
    adae_unrolled: bool = param()
    adae_gates: str = param(choices=("soft", "hard", "none"))
    adae_temperature: float = param(ge=SMALLEST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    adae_temperature_end: float = param(ge=SMALLEST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    adae_random: float = param(ge=0, le=1)
    adae_random_end: float = param(ge=0, le=1)
    adae_decay: float = param(ge=0)
    adae_warmup: int = param(ge=0)
    adae_keep_length: bool = param()
    adae_budget_rate: float = param(ge=0)
    adae_memory: float = param(ge=0)
    adae_diversity: float = param(ge=0)
    adae_stable_epochs: int = param(ge=0)
    adae_stable_share: float = param(ge=0, le=1)

    @property
    def gate_schedule(self) -> GateSchedule:
        """How gates are made over the steps."""
        return GateSchedule(
            self.adae_gates,
            Decay(self.adae_temperature, self.adae_temperature_end, self.adae_decay),
            Decay(self.adae_random, self.adae_random_end, self.adae_decay),
            self.adae_warmup,
        )

    def search_keys(self) -> set[str]:
        """What a search with these values reads."""
        unread = _OF_NETWORKS if self.adae_picker == "logits" else set()
        return set(SearchParams.keys()) - unread - (set() if self.adae_stable_epochs else {"adae_stable_share"})

    def search_problems(self) -> list[str]:
        """Schedules that would rise, and a picker that cannot read what it is given."""
        found = [
            f"{key}_end: must be at most {key}, {getattr(self, key):g}, from which it falls, got {end:g}"
            for key in ("adae_temperature", "adae_random")
            if (end := getattr(self, f"{key}_end")) > getattr(self, key)
        ]
        if self.adae_picker == "logits" and self.adae_picker_embedding:
            found.append("adae_picker_embedding: adae_picker: logits reads no embeddings; choose network or twin")
        return found


def search_table(
    p: SearchParams,
    graph: BipartiteGraph,
    ranks: Tensor,
    make_candidates: Callable[[int, Tensor], Candidates],
    budget: int | None,
    generator: torch.Generator,
) -> SearchTable:
    """The table that the parameters describe.

    Args:
        p: keys of the search.
        graph: gives sides and counts.
        ranks: (N,) frequency classes within the sides.
        make_candidates: from the number of the side, and its node ids.
        budget: parameters of the final table, or None.
        generator: of the pickers' start.
    """

    def side(number: int, nodes: Tensor) -> SideSearch:
        candidates = make_candidates(number, nodes)
        picker = _picker(p, graph.degrees[nodes], ranks[nodes], candidates, generator)
        return SideSearch(candidates, picker, ranks[nodes])

    users, items = (side(number, nodes) for number, nodes in enumerate(graph.sides))
    return SearchTable(users, items, p.gate_schedule, budget, all_most_frequent_first(graph))


def _picker(
    p: SearchParams, counts: Tensor, buckets: Tensor, candidates: Candidates, generator: torch.Generator
) -> Picker:
    n_buckets, n_candidates = int(buckets.max()) + 1, len(candidates.dims)
    if p.adae_picker == "logits":
        return BucketLogits(n_buckets, n_candidates)
    width = candidates.aligned if p.adae_picker_embedding else 0

    def network() -> PickerNetwork:
        return PickerNetwork(n_buckets, n_candidates, p.adae_bucket_width, p.adae_picker_hidden, width, generator)

    if p.adae_picker == "network":
        return network()
    real = counts[1:]  # without the padding
    pivot = int(real.sort(descending=True).values[int(_PIVOT * len(real))]) if len(real) else 1
    return TwinPicker(network(), network(), counts, pivot)
