"""The distillation component: its keys, and the objective that they describe."""

from dataclasses import dataclass

from recmodels.graph import BipartiteGraph
from recmodels.objectives import Distillation, Teacher
from recmodels.params import LARGEST_TEMPERATURE, SMALLEST_TEMPERATURE, Params, param


@dataclass(frozen=True)
class DistillationParams(Params):
    """Keys of the teacher, and of the term that it teaches by."""

    distill_weight: float = param(ge=0)
    distill_penalty: float = param(ge=1e-3)  # below, rounding decides whether the regression has a solution
    distill_user_exponent: float = param(ge=0, le=4)
    distill_temperature: float = param(ge=SMALLEST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    distill_top: int | None = param(ge=1, optional=True)

    def inert_keys(self) -> set[str]:
        """Also: all keys of the teacher, where nobody is taught."""
        return super().inert_keys() | (set() if self.distill_weight else set(DistillationParams.keys()))


def distillation(p: DistillationParams, graph: BipartiteGraph, user_exponent: float) -> Distillation:
    """The objective that the parameters describe."""
    teacher = Teacher(p.distill_penalty, p.distill_user_exponent, p.distill_temperature, p.distill_top)
    return Distillation(p.distill_weight, graph, teacher, user_exponent)
