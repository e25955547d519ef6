"""P-values of many comparisons at once."""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being several: comparing them to a level bounds the chance of any false finding by it.

    The k-th smallest of m is multiplied by m - k + 1, and none becomes smaller than one before it or larger than 1.

    Args:
        p_values: in [0, 1], of any dependence.

    Returns:
        In the same order. Source: Holm 1979. Verified: test_corrections.py.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted
