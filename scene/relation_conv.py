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
        query, key, value = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).unbind(1)  # (N, heads, C)
        key_of, gate_of, shift_of = (
            table.weight.unflatten(1, (self.heads, -1)).to(value.dtype)  # (R, heads, C)
            for table in (self.relation_key, self.relation_gate, self.relation_shift)
        )
        sender, receiver = edge_index
        # per node and relation instead of per edge, since edges are many
        liked = torch.einsum("nhc,rhc->nrh", query, key_of)[receiver, relation]  # (E, heads)
        logits = ((query[receiver] * key[sender]).sum(-1) + liked).float() / query.shape[-1] ** 0.5
        weight = softmax(logits, receiver, num_nodes=len(x)).to(value.dtype)  # in float32, also under autocast
        heard = self.propagate(
            edge_index, value=value, gate=gate_of[relation], weight=weight[..., None], size=(len(x), len(x))
        )
        share = weight.new_zeros(len(x) * len(shift_of), self.heads)
        share = share.index_add(0, receiver * len(shift_of) + relation, weight).unflatten(0, (len(x), -1))
        heard = heard + torch.einsum("nrh,rhc->nhc", share, shift_of)
        return self.out(heard.flatten(1))

    def message(self, value_j: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
        """Weighted values (E, heads, C) along the edges, in the light of their relations."""
        return weight * torch.addcmul(value_j, value_j, gate)
