"""Points of an ablation file whose runs are made from those of another point, as `recmodels compact` makes them."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from recmodels.ablation.points import Compact
from recmodels.config import Resolved
from recmodels.experiments.compact import decided_keys
from recmodels.params import nearest


class Draft(NamedTuple):
    """A point before it is checked.

    Attributes:
        overrides: flat names to plain data.
        more: what else the file says about it, see `OF_A_POINT`.
        is_combined: whether the grid made it.
    """

    overrides: dict[str, Any]
    more: dict[str, Any]
    is_combined: bool


def is_trained_as_written(draft: Draft) -> bool:
    """Whether a point is neither a control of another one nor made from it."""
    return not {"control_of", "compact_of"} & draft.more.keys()


def with_sources(drafts: Mapping[str, Draft]) -> dict[str, Draft]:
    """The points, those that are made from another one with its overrides below their own."""
    found = {}
    for name, draft in drafts.items():
        source = drafts.get(str(draft.more.get("compact_of")), draft)
        found[name] = draft._replace(overrides={**source.overrides, **draft.overrides})
    return found


def compact_of(draft: Draft) -> Compact | None:
    """What the runs of a point without problems are made from."""
    if "compact_of" not in draft.more:
        return None
    prune = draft.more.get("prune")
    return Compact(draft.more["compact_of"], None if prune is None else float(prune), draft.overrides)


def compact_problems(name: str, drafts: Mapping[str, Draft], resolved: Mapping[str, Resolved]) -> Iterator[str]:
    """What is wrong with a point as one that is made from another one."""
    overrides, more, _ = drafts[name]
    of, prune = more.get("compact_of"), more.get("prune")
    if prune is not None and (isinstance(prune, bool) or not isinstance(prune, (int, float)) or not 0 < prune < 1):
        yield f"prune: expected a share between 0 and 1, both excluded, got {prune!r}"
    if "compact_of" not in more:
        if "prune" in more:
            yield "prune: belongs to compact_of, the point with the table that is pruned; give it"
        return
    others = [other for other, draft in drafts.items() if is_trained_as_written(draft)]
    if of not in others:
        hint = nearest(str(of), others)
        yield f"compact_of: expected the name of a point that is trained as written, got {of!r}{hint}"
    elif of in resolved:
        yield from _source_problems(of, resolved[of], prune)
    superfluous = [key for key in ("control_of", "seeds") if key in more] + decided_keys(overrides, prune is not None)
    if superfluous:
        yield f"compact_of: the other point decides {', '.join(superfluous)}; leave them out"


def _source_problems(of: str, source: Resolved, prune: Any) -> Iterator[str]:
    """What of a source cannot be made smaller."""
    if prune is None and not source.params.held_out_share:
        yield (
            f"compact_of: {of} searches no widths (table: adaptive, adae_mode: auto); or give prune: SHARE, if its "
            "table is plain"
        )
    if prune is not None and source.values.get("table") != "plain":
        yield f"prune: only a plain table is pruned, that of {of} is {source.values.get('table')!r}"
