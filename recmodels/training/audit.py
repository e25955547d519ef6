"""Is everything that should train connected to the loss, and does every term pull?"""

import logging
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from recmodels.errors import AuditError, ParamError
from recmodels.training.callbacks import Callback, EpochLog, Step
from recmodels.training.replay import graph_nodes

logger = logging.getLogger(__name__)

POLICIES = ("raise", "warn", "ignore")


class GradientAudit(Callback):
    """Looks at the first batch of a fit and at the first batch of every objective that becomes active later.

    It finds (1) parameters without a gradient, (2) orphans: leaf tensors that the loss depends on but no optimizer
    updates, such as parameters in a plain dict, and (3) dead terms, whose share of the gradient on the ego embeddings
    is negligible; a regularizer is meant to be weak and never dead. The picker belongs to another optimizer, and
    parameters of objectives that are not active yet have no gradient yet; neither is reported. The shares are taken
    anew at the first batch of every epoch; the extra cost is one backward pass per term. The audit belongs before
    guards that drop batches.

    Args:
        unused: policy for (1): "raise", "warn" or "ignore".
        orphan: policy for (2).
        dead: policy for (3); warns once per term.
        dead_share: in [0, 1]; a smaller share is dead.
        allow: names or patterns (`table.*`) that (1) and (2) pass over.

    Attributes:
        unused: names found by (1) in the last audit.
        orphans: names found by (2) in the last audit.
        shares: by term name, norm_i / sum of norms of the weighted terms' gradients with respect to the table.

    Raises:
        ParamError: unknown policy or `dead_share` out of range.
        AuditError: from the hooks, for a finding whose policy is "raise".
    """

    def __init__(
        self, unused: str, orphan: str, dead: str, dead_share: float, allow: Collection[str] = frozenset()
    ) -> None:
        self._policies = {"unused": unused, "orphan": orphan, "dead": dead}
        for name, policy in self._policies.items():
            if policy not in POLICIES:
                raise ParamError(f"gradient audit: {name}: got {policy!r}, expected one of {', '.join(POLICIES)}")
        if not 0 <= dead_share <= 1:
            raise ParamError(f"gradient audit: dead_share: got {dead_share}, expected 0 <= dead_share <= 1")
        self.dead_share, self.allow = dead_share, tuple(allow)
        self.unused: list[str] = []
        self.orphans: list[str] = []
        self.shares: dict[str, float] = {}
        self._seen: set[str] = set()
        self._reported: set[str] = set()
        self._is_first, self._is_due = True, False

    def on_fit_start(self, trainer: Any) -> None:
        """Forgets earlier fits."""
        self._seen, self._reported = set(), set()

    def on_epoch_start(self, trainer: Any, epoch: int) -> None:
        """Asks for new shares."""
        self._is_first = True

    def on_terms(self, step: Step) -> None:
        """Takes the shares while the graph is there."""
        is_new = not self._seen.issuperset(step.terms)
        if not (self._is_first or is_new):
            return
        self._is_due = self._is_due or is_new
        self._is_first = False
        self._seen.update(step.terms)
        self.shares = gradient_shares(step)
        passed_over = self._reported | {o.name for o in step.trainer.model.objectives if o.is_regularizer}
        dead = {name: share for name, share in self.shares.items() if share < self.dead_share}
        new = {name: share for name, share in dead.items() if name not in passed_over}
        self._reported.update(new)
        self._report({"dead": [_dead_message(name, share) for name, share in new.items()]})

    def on_gradients(self, step: Step) -> None:
        """Looks for parameters without a gradient and for orphans."""
        if not self._is_due:
            return
        self._is_due = False
        exempt = _exempt(step)
        model = step.trainer.model
        self.unused = self._kept(n for n, p in model.named_parameters() if _is_idle(p) and id(p) not in exempt)
        self.orphans = self._kept(_name(model, leaf) for leaf in orphans(step) if id(leaf) not in exempt)
        self._report(
            {
                "unused": [
                    f"parameter {name!r} got no gradient: the loss does not depend on it" for name in self.unused
                ],
                "orphan": [f"tensor {name!r} is used by the loss but no optimizer updates it" for name in self.orphans],
            }
        )

    def on_epoch_end(self, trainer: Any, log: EpochLog) -> None:
        """Adds `share/<term>` to the log."""
        log.values.update({f"share/{name}": share for name, share in self.shares.items()})

    def _kept(self, names: Iterator[str]) -> list[str]:
        return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in self.allow)]

    def _report(self, findings: dict[str, list[str]]) -> None:
        fatal = [message for key in findings if self._policies[key] == "raise" for message in findings[key]]
        for message in (m for key in findings if self._policies[key] == "warn" for m in findings[key]):
            logger.warning(message)
        if fatal:
            raise AuditError("gradient audit: " + "; ".join(fatal))


def gradient_shares(step: Step) -> dict[str, float]:
    """Each weighted term's share of the gradient norm with respect to the table, the picker left out.

    Shares sum to 1; all are 0 when no term reaches the table. Norms are added up in float64.
    """
    model: Any = step.trainer.model
    picker = {id(p) for p in model.table.picker_parameters()}
    parameters = [p for p in model.table.parameters() if p.requires_grad and id(p) not in picker]
    weights = model.weights()
    # Scaled as for backward, lest half-precision gradients underflow and a term look dead.
    weighted = {name: step.trainer.scaler.scale(weights[name] * term) for name, term in step.terms.items()}
    norms = torch.stack([_gradient_norm(term, parameters) for term in weighted.values()])
    shares = norms / norms.sum().clamp(min=torch.finfo(norms.dtype).tiny)
    return dict(zip(weighted, shares.tolist(), strict=True))


def orphans(step: Step) -> list[Tensor]:
    """Leaf tensors below the loss that are in no parameter group of the optimizer."""
    trained = {id(p) for group in step.trainer.optimizer.param_groups for p in group["params"]}
    leaves = (getattr(node, "variable", None) for node in graph_nodes(step.loss.grad_fn))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and id(leaf) not in trained]


def _gradient_norm(term: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    total = term.new_zeros((), dtype=torch.float64)
    if not term.requires_grad:
        return total
    for gradient in torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True):
        if gradient is not None:
            total = total + torch.linalg.vector_norm(gradient.to_dense(), dtype=torch.float64).square()
    return total.sqrt()


def _exempt(step: Step) -> set[int]:
    model: Any = step.trainer.model
    waiting = [o for o in model.objectives if not o.is_active(step.epoch)]
    return {id(p) for p in (*model.table.picker_parameters(), *(p for o in waiting for p in o.parameters()))}


def _is_idle(parameter: nn.Parameter) -> bool:
    return parameter.requires_grad and parameter.grad is None


def _dead_message(name: str, share: float) -> str:
    what = f"term {name!r} is dead: share {share:.1e} of the gradient on the ego embeddings"
    return f"{what}; raise its weight or temperature"


def _name(model: nn.Module, leaf: Tensor) -> str:
    for name, value in _attributes(model):
        if value is leaf:
            return name
    return f"tensor of shape {tuple(leaf.shape)}, no attribute of the model"


def _attributes(model: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from model.named_parameters()
    for prefix, module in model.named_modules():
        for key, value in vars(module).items():
            name = f"{prefix}.{key}" if prefix else key
            yield name, value
            if isinstance(value, dict):
                yield from ((f"{name}[{inner!r}]", item) for inner, item in value.items())
            if isinstance(value, list | tuple):
                yield from ((f"{name}[{index}]", item) for index, item in enumerate(value))
