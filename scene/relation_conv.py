"""Attention along the typed edges of a graph, as a torch-geometric message-passing layer.

torch-geometric takes seconds to import: this file is imported by what needs it, when it needs it.
"""

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax


class RelationConv(MessagePassing):
    """Each node hears its neighbours, in the light of the relation that links them.

    With q, k, v linear in the node features, and per relation r a key e_r, a gate g_r and a shift b_r:

        a_ij = softmax over the edges into i of q_i . (k_j + e_r) / sqrt(D / heads)
        out_i = W sum_j a_ij (v_j * (1 + g_r) + b_r)

    The gate binds a relation to the neighbour it leads to: were relations only added, "lamp left, bed right" and
    "bed left, lamp right" would sum to the same message. A node without edges gets 0.

    Sources: keys by relation after Shaw et al. (arXiv:1803.02155), composition by product after CompGCN (Vashishth et
    al., arXiv:1911.03082); the relation-specific matrices of R-GAT cost a matrix per edge and are left out.
    """

    def __init__(self, dim: int, heads: int, relations: int) -> None:
        super().__init__(aggr="add", node_dim=0)
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.relation_key = nn.Embedding(relations, dim)
        self.relation_gate = nn.Embedding(relations, dim)
        self.relation_shift = nn.Embedding(relations, dim)
        self.out = nn.Linear(dim, dim, bias=False)  # without a bias, so that no edges give 0
        for table in (self.relation_key, self.relation_gate, self.relation_shift):
            nn.init.normal_(table.weight, std=dim**-0.5)

    def forward(self, x: Tensor, edge_index: Tensor, relation: Tensor) -> Tensor:
        """Messages (N, D) for node features (N, D), edges (2, E) from row 0 to row 1, and their relations (E,)."""
        query, key, value = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).unbind(1)
        heard = self.propagate(edge_index, query=query, key=key, value=value, relation=relation, size=(len(x), len(x)))
        return self.out(heard.flatten(1))

    def message(
        self,
        query_i: Tensor,
        key_j: Tensor,
        value_j: Tensor,
        relation: Tensor,
        index: Tensor,
        size_i: int,
    ) -> Tensor:
        """Weighted messages (E, heads, D / heads) along the edges; `index` is each edge's receiver, `size_i` is N."""

        def split(table: nn.Embedding) -> Tensor:
            return table.weight.unflatten(1, (self.heads, -1))[relation].to(value_j.dtype)

        logits = (query_i * (key_j + split(self.relation_key))).sum(-1).float() / query_i.shape[-1] ** 0.5
        weight = softmax(logits, index, num_nodes=size_i)  # in float32, also under autocast
        content = torch.addcmul(value_j + split(self.relation_shift), value_j, split(self.relation_gate))
        return weight[..., None] * content
