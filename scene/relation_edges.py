"""A room's scene graph as numbers for a network: pairs of candidate slots with a relation each.

A relation with several objects (between, aligned) becomes one pair per object. What an object has to floor, walls and
ceiling is left out, since these are no candidates; so is everything outside the room. Directions are those of the
graph's viewer: build the graph with the viewpoint that the objects' coordinates are given in (scene/batch.py).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from core.errors import InputError
from scene.edges import CODE, RELATIONS
from scene.graph import SceneGraph
from scene.relations import FAMILIES, Relation
from scene.types import Scene

MIRRORED: Final[dict[int, int]] = {
    CODE[Relation.LEFT_OF]: CODE[Relation.RIGHT_OF],
    CODE[Relation.RIGHT_OF]: CODE[Relation.LEFT_OF],
}
"""Relation ids that change places in a mirror that exchanges left and right; all others stay."""
ONE_WAY: Final = tuple(CODE[relation] for relation in (*FAMILIES["contact"], Relation.BETWEEN))
"""Relation ids that a graph states from one end alone; of every other it has the edge back, with its converse."""


def edges_of_room(scene: Scene, graph: SceneGraph, ids: Sequence[int] | Int64[Tensor, " N"]) -> Int64[Tensor, "E 3"]:
    """Rows of subject slot, object slot and relation id (index into list(Relation)), in the graph's order.

    Args:
        ids: the candidates, indices into scene.objects; slot k is ids[k] (`ObjectSet.ids`).

    Raises:
        InputError: the graph is of another scene, or `ids` name an object twice or one that is not there.
    """
    chosen = np.asarray(ids, dtype=np.int64).reshape(-1)
    count = len(graph.labels)
    if graph.scene_id != scene.id or count != len(scene.objects):
        raise InputError(
            f"the graph is of scene {graph.scene_id} with {count} objects, but the room of scene {scene.id} with "
            f"{len(scene.objects)}; build it again with scene.graph.build_graph()"
        )
    if len(np.unique(chosen)) != len(chosen) or ((chosen < 0) | (chosen >= count)).any():
        raise InputError(f"candidates {chosen.tolist()} of scene {scene.id}: expected different ids in 0..{count - 1}")
    slot = np.full(count, -1, dtype=np.int64)
    slot[chosen] = np.arange(len(chosen))
    table = graph.table
    edge = np.repeat(np.arange(len(table)), np.diff(table.start))  # of every object: the edge it belongs to
    subject = slot[table.subject[edge]]
    other = np.where(table.objects >= 0, slot[np.maximum(table.objects, 0)], -1)  # below 0: floor, wall, ceiling
    rows = np.stack([subject, other, table.relation[edge].astype(np.int64)], 1)
    return torch.from_numpy(rows[(subject >= 0) & (other >= 0)])


def mirrored_edges(edges: Int64[Tensor, "E C"]) -> Int64[Tensor, "E C"]:
    """The edges as a mirror shows them: the relation id, in the last column, left for right."""
    table = torch.arange(len(RELATIONS), device=edges.device)
    for relation, other in MIRRORED.items():
        table[relation] = other
    return torch.cat([edges[:, :-1], table[edges[:, -1:]]], 1)


def batch_edges(rooms: Sequence[Int64[Tensor, "_ 3"]]) -> Int64[Tensor, "E 4"]:
    """The edges of the scenes of a batch in one list, each with its scene's index in front (`SceneBatch.edges`)."""
    if not rooms:
        return torch.zeros(0, 4, dtype=torch.int64)
    numbers = torch.repeat_interleave(torch.tensor([len(edges) for edges in rooms]))
    return torch.cat([numbers[:, None].to(rooms[0].device), torch.cat(list(rooms))], 1)
