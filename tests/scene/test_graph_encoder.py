"""Message passing along the relations of a batch of scenes."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from core.errors import InputError
from scene.graph_encoder import GraphEncoder

D, R, ONE_WAY = 8, 5, (2, 4, 0)


def encoder(layers: int = 2) -> GraphEncoder:
    torch.manual_seed(0)
    return GraphEncoder(D, layers, heads=2, relations=R, one_way=ONE_WAY).eval()


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two scenes of 4 and 2 objects and some edges in each."""
    x = torch.randn(2, 4, D, generator=torch.Generator().manual_seed(1))
    valid = torch.tensor([[True] * 4, [True, True, False, False]])
    edges = torch.tensor([[0, 0, 1, 2], [0, 1, 3, 4], [0, 0, 1, 3], [1, 1, 0, 0]])
    return x, valid, edges


def slow_messages(net: GraphEncoder, x: torch.Tensor, edges: list[list[int]]) -> torch.Tensor:
    """The first layer's messages of one scene of x (N, D), written out edge by edge from the equation."""
    conv = net.layers[0].conv
    heads = conv.heads
    q, k, v = conv.query_key_value(x).chunk(3, -1)
    incoming: dict[int, list[tuple[int, int]]] = {}
    for subject, other, relation in edges:
        incoming.setdefault(subject, []).append((other, relation))
        if relation in ONE_WAY:
            incoming.setdefault(other, []).append((subject, R + ONE_WAY.index(relation)))
    heard = torch.zeros_like(x)
    for i, links in incoming.items():
        for h in range(heads):
            part = slice(h * D // heads, (h + 1) * D // heads)
            logits = torch.stack(
                [q[i, part] @ (k[j, part] + conv.relation_key.weight[r, part]) / (D / heads) ** 0.5 for j, r in links]
            )
            for weight, (j, r) in zip(logits.softmax(0), links):
                gate, shift = conv.relation_gate.weight[r, part], conv.relation_shift.weight[r, part]
                heard[i, part] += weight * (v[j, part] * (1 + gate) + shift)
    return conv.out(heard)


def test_messages_follow_the_equation():
    net, (x, valid, edges) = encoder(layers=1), batch()
    layer = net.layers[0]
    for scene, count in ((0, 4), (1, 2)):
        own = x[scene, :count]
        rows = edges[edges[:, 0] == scene][:, 1:].tolist()
        expected = own + slow_messages(net, layer.norm(own), rows)
        expected = expected + layer.feed_forward(expected)
        torch.testing.assert_close(net(x, valid, edges)[scene, :count], expected)


def test_permuting_objects_permutes_features():
    net, (x, valid, edges) = encoder(), batch()
    order = torch.tensor([2, 0, 3, 1])  # the new slot k holds the old slot order[k]
    place = order.argsort()
    x, valid, edges = x[:1], valid[:1], edges[:3]
    moved = torch.stack([edges[:, 0], place[edges[:, 1]], place[edges[:, 2]], edges[:, 3]], 1)
    torch.testing.assert_close(net(x[:, order], valid, moved), net(x, valid, edges)[:, order])


def test_the_order_of_edges_and_other_scenes_do_not_matter():
    net, (x, valid, edges) = encoder(), batch()
    whole = net(x, valid, edges)
    torch.testing.assert_close(net(x, valid, edges.flip(0)), whole)
    alone = edges[3:] - torch.tensor([1, 0, 0, 0])
    torch.testing.assert_close(net(x[1:, :2], valid[1:, :2], alone)[0], whole[1, :2])


def test_objects_without_edges_get_their_own_transform_and_padding_stays():
    net, (x, valid, edges) = encoder(), batch()
    whole, none = net(x, valid, edges), net(x, valid, edges[:0])
    torch.testing.assert_close(whole[0, 2], none[0, 2])  # slot 2 has no edge
    own = x[0, 2]
    for layer in net.layers:
        own = own + layer.feed_forward(own)
    torch.testing.assert_close(none[0, 2], own)
    assert torch.equal(whole[1, 2:], x[1, 2:])


def test_the_subject_hears_its_object_and_of_a_one_way_relation_the_object_its_subject():
    net, (x, valid, _) = encoder(layers=1), batch()
    none = net(x, valid, torch.zeros(0, 4, dtype=torch.int64))
    heard = {r: (net(x, valid, torch.tensor([[0, 0, 1, r]])) - none)[0].abs().amax(-1) > 1e-3 for r in range(R)}
    for relation, who in heard.items():
        assert who.tolist() == [True, relation in ONE_WAY, False, False]


def test_the_relation_matters():
    net, (x, valid, _) = encoder(layers=1), batch()
    one, other = (net(x, valid, torch.tensor([[0, 0, 1, relation]])) for relation in (1, 3))
    assert (one - other)[0, 0].abs().max() > 1e-3


def test_which_neighbour_a_relation_leads_to_can_be_told():
    """With one query for all, exchanging the relations of two equally heard neighbours changes the message."""
    net, (x, valid, _) = encoder(layers=1), batch()
    conv = net.layers[0].conv
    with torch.no_grad():
        conv.query_key_value.weight[:D] = 0  # every neighbour is heard alike
    one, other = (net(x, valid, torch.tensor([[0, 0, 1, a], [0, 0, 2, b]])) for a, b in ((2, 3), (3, 2)))
    assert (one - other)[0, 0].abs().max() > 1e-3


def test_every_parameter_gets_a_gradient_also_in_a_batch_without_edges():
    net, (x, valid, edges) = encoder().train(), batch()
    for rows in (edges, edges[:0]):
        net.zero_grad()
        net(x, valid, rows).square().mean().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_bfloat16_autocast_stays_close_to_float32():
    net, (x, valid, edges) = encoder(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net(x, valid, edges)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, net(x, valid, edges), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("row", [[2, 0, 1, 0], [0, 4, 1, 0], [0, 0, 1, R], [1, 0, 2, 0], [0, -1, 1, 0]])
def test_edges_to_padding_or_beyond_the_batch_are_refused(row):
    net, (x, valid, _) = encoder(), batch()
    with pytest.raises(InputError, match="leads outside 2 scenes of"):
        net(x, valid, torch.tensor([row]))


def test_wrong_shapes_and_widths_are_refused():
    net, (x, valid, edges) = encoder(), batch()
    with pytest.raises(InputError, match=r"expected \(E, 4\)"):
        net(x, valid, edges[:, :3])
    with pytest.raises(InputError, match="does not split"):
        GraphEncoder(10, 1, heads=4)


def test_torch_geometric_is_imported_only_by_a_model_that_has_graph_layers():
    code = (
        "import sys; from scene.graph_encoder import GraphEncoder; GraphEncoder(8, 0, 2); "
        "assert 'torch_geometric' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert isinstance(encoder().layers[0].conv, nn.Module) and "torch_geometric" in sys.modules
