"""Numpy and scipy arrays as tensors and plain data, so that checkpoints hold them without pickles."""

from typing import Any

import numpy as np
import scipy.sparse
import torch

_SPARSE = {name: getattr(scipy.sparse, f"{name}_matrix") for name in ("csr", "csc", "lil", "coo")}


def to_plain(value: Any) -> dict[str, Any]:  # noqa: ANN401
    """A dictionary of tensors and plain data.

    Args:
        value: a numpy array or matrix, a scipy sparse matrix, a tensor, or a scalar of Python's.

    Raises:
        TypeError: anything else.
    """
    if isinstance(value, torch.Tensor):
        return {"kind": "tensor", "data": value}
    if isinstance(value, np.ndarray):
        return {"kind": "array", "data": torch.from_numpy(np.ascontiguousarray(value))}
    if scipy.sparse.issparse(value):
        rows = value.tocsr()
        parts = {name: torch.from_numpy(getattr(rows, name)) for name in ("data", "indices", "indptr")}
        return {"kind": value.format, "shape": [int(size) for size in rows.shape], **parts}
    if isinstance(value, bool | int | float | str):
        return {"kind": "scalar", "data": value}
    raise TypeError(f"expected an array, a sparse matrix, a tensor or a scalar, got {type(value).__name__}")


def from_plain(state: dict[str, Any], device: torch.device) -> Any:  # noqa: ANN401
    """What `to_plain` was given; a tensor on `device`, a matrix as an array."""
    kind = state["kind"]
    if kind == "tensor":
        return state["data"].to(device)
    if kind == "array":
        return state["data"].cpu().numpy()
    if kind == "scalar":
        return state["data"]
    data, indices, indptr = (state[name].cpu().numpy() for name in ("data", "indices", "indptr"))
    return _SPARSE[kind](scipy.sparse.csr_matrix((data, indices, indptr), shape=tuple(state["shape"])))
