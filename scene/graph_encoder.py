"""The scene-graph encoder: objects hear from the objects their relations lead to.

An optional part of the grounding model in front of its spatial transformer: that one sees distances and angles, this
one what the graph has made of them (who rests on whom, what stands between). Not part of GPS.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from core.errors import InputError
from scene.edges import RELATIONS
from scene.relation_edges import ONE_WAY


class GraphEncoder(nn.Module):
    """Pre-norm layers of attention along typed edges and a feed-forward network.

    Along an edge the subject hears its object; where the graph has no edge back, the object hears its subject, too, by
    an inverse relation. An object without edges gets its feed-forward networks alone.
    """

    inverse: Int64[Tensor, " R"]  # the relation that the other end hears, -1 = none

    def __init__(
        self,
        dim: int,
        layers: int,
        heads: int,
        relations: int = len(RELATIONS),
        one_way: Sequence[int] = ONE_WAY,
        dropout: float = 0.1,
    ) -> None:
        """
        Args:
            relations: size of the vocabulary that relation ids index.
            one_way: ids of those whose edges have none back.

        Raises:
            InputError: `dim` does not split over `heads`.
        """
        super().__init__()
        if dim % heads:
            raise InputError(f"dim={dim} does not split over heads={heads}")
        self.relations = relations
        inverse = torch.full((relations,), -1)
        inverse[list(one_way)] = torch.arange(relations, relations + len(one_way))
        self.register_buffer("inverse", inverse, persistent=False)
        total = relations + len(one_way)
        self.layers = nn.ModuleList(_Layer(dim, heads, total, dropout) for _ in range(layers))

    def forward(
        self, x: Float[Tensor, "B N D"], valid: Bool[Tensor, "B N"], edges: Int64[Tensor, "E 4"]
    ) -> Float[Tensor, "B N D"]:
        """Features of the objects of B scenes after hearing their neighbours; padding stays as it is.

        Args:
            edges: scene of the batch, subject slot, object slot, relation id (`scene.relation_edges.batch_edges`).

        Raises:
            InputError: edges of another shape; on the CPU also edges to padding or with unknown numbers (elsewhere
                looking would wait for the device).
        """
        if edges.ndim != 2 or edges.shape[1] != 4:
            raise InputError(
                f"edges have shape {tuple(edges.shape)}, expected (E, 4): scene, subject, object, relation"
            )
        if edges.device.type == "cpu":
            _check(edges, valid, self.relations)
        number = torch.full(valid.shape, -1, dtype=torch.int64, device=x.device)
        number[valid] = torch.arange(int(valid.sum()), device=x.device)  # nodes: the objects without padding
        scene, subject, other, relation = edges.unbind(1)
        subject, other = number[scene, subject], number[scene, other]
        inverse = self.inverse[relation]
        back = inverse >= 0
        sender_receiver = torch.stack([torch.cat([other, subject[back]]), torch.cat([subject, other[back]])])
        relation = torch.cat([relation, inverse[back]])
        nodes = x[valid]
        for layer in self.layers:
            nodes = layer(nodes, sender_receiver, relation)
        return x.masked_scatter(valid[..., None], nodes.to(x.dtype))


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, relations: int, dropout: float) -> None:
        from scene.relation_conv import RelationConv  # takes seconds: only models with such a layer pay them

        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.conv = RelationConv(dim, heads, relations)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor, edge_index: Tensor, relation: Tensor) -> Tensor:
        x = x + self.dropout(self.conv(self.norm(x), edge_index, relation))
        return x + self.feed_forward(x)


def _check(edges: Tensor, valid: Tensor, relations: int) -> None:
    limits = torch.tensor([len(valid), valid.shape[1], valid.shape[1], relations])
    if not len(edges):
        return
    outside = ((edges < 0) | (edges >= limits)).any(1)
    if not outside.any():
        outside = ~(valid[edges[:, 0], edges[:, 1]] & valid[edges[:, 0], edges[:, 2]])
    if outside.any():
        row = edges[outside][0].tolist()
        raise InputError(
            f"edge {row} (scene, subject, object, relation) leads outside {len(valid)} scenes of "
            f"{valid.sum(1).tolist()} objects and {relations} relations; it belongs to another batch"
        )
