"""Tiles hold every entry once, row by row, and are no more than a row has entries."""

import pytest
import torch

from recmodels import tiling
from recmodels.tiling import Tile, Tiling
from tests.conftest import random_graph


def entries_of(tile: Tile) -> list[int]:
    return torch.arange(10_000)[tile.entries].tolist()


@pytest.mark.parametrize("tile_nodes", [1, 5, 13, 100])
def test_every_entry_is_in_one_tile_with_its_row_and_column(tile_nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "TILE_NODES", tile_nodes)
    graph = random_graph(31, 47, density=0.5)
    rows = torch.repeat_interleave(torch.arange(graph.n_nodes), graph.degrees)
    seen: list[int] = []
    for side, tiles in Tiling(graph.indptr, graph.indices, graph.n_users).sides:
        n_rows, n_sources = side.stop - side.start, graph.n_nodes - (side.stop - side.start)
        n_entries = int(graph.degrees[side].sum())
        assert len(tiles) == max(1, min(-(-n_sources // tile_nodes), n_entries // n_rows))
        for tile in tiles:
            own = entries_of(tile)
            assert torch.equal(tile.indices, graph.indices[own])
            assert torch.equal(
                torch.repeat_interleave(torch.arange(side.start, side.stop), tile.indptr.diff()), rows[own]
            )
            assert tile.indptr[-1] == len(own)
            reach = tile.indices.max() - tile.indices.min() if own else 0
            assert reach < -(-n_sources // len(tiles))
            seen += own
    assert sorted(seen) == list(range(len(graph.indices)))


def test_one_tile_a_side_copies_nothing() -> None:
    graph = random_graph()
    for _, (tile,) in Tiling(graph.indptr, graph.indices, graph.n_users).sides:
        assert isinstance(tile.entries, slice)
        assert tile.indices.untyped_storage().data_ptr() == graph.indices.untyped_storage().data_ptr()


def test_a_graph_without_edges_or_sides_has_one_empty_tile_each() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    sides = Tiling(torch.zeros(6, dtype=torch.int64), none, 2).sides
    assert [(rows, len(tiles), entries_of(tiles[0])) for rows, tiles in sides] == [
        (slice(0, 2), 1, []),
        (slice(2, 5), 1, []),
    ]
    assert [len(tiles) for _, tiles in Tiling(torch.zeros(3, dtype=torch.int64), none, 2).sides] == [1, 1]
    ((rows, tiles),) = Tiling(torch.tensor([0, 1]), torch.tensor([0]), 0).sides
    assert (rows, len(tiles)) == (slice(0, 1), 1)
