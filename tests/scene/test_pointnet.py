"""The object encoder of GPS against the padded computation with torch's own convolutions and batch norm."""

import pytest
import torch
from torch import nn

from core.errors import InputError
from scene.objects import GpsEncoder, normalise_points, object_encoder
from scene.pointops import ball_query, farthest_points, gather


class Padded(nn.Module):
    """The released layout: every slot of every ball, 1 x 1 convolutions, BatchNorm2d; names as released."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList()
        for inputs, (widths, *_) in zip((3, 128, 256), GpsEncoder.STAGES):
            stage, shared = nn.Module(), nn.Module()
            for k, (a, b) in enumerate(zip((inputs + 3, *widths), widths)):
                layer, norm = nn.Module(), nn.Module()
                layer.conv, norm.bn, layer.bn = nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b), norm
                shared.add_module(f"layer{k}", layer)
            stage.mlps = nn.ModuleList([shared])
            self.encoder.append(stage)
        self.fc = nn.Linear(768, dim)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        shape, _ = normalise_points(points)
        xyz, features = shape[..., :3].contiguous(), shape[..., 3:]
        for stage, (_, count, radius, samples) in zip(self.encoder, GpsEncoder.STAGES):
            if count:
                centres = gather(xyz, farthest_points(xyz, min(count, xyz.shape[1])))
                index = ball_query(xyz, centres, radius, samples)
                x = torch.cat([gather(xyz, index) - centres[:, :, None], gather(features, index)], -1)
                xyz = centres
            else:
                x = torch.cat([xyz, features], -1)[:, None]
            x = x.permute(0, 3, 1, 2)
            for layer in stage.mlps[0].children():
                x = layer.bn.bn(layer.conv(x)).relu()
            features = x.amax(-1).transpose(1, 2)
        return self.fc(features[:, 0])


def released_name(name: str) -> str:
    """As the table in `GpsEncoder` says."""
    if name.startswith("out."):
        return name.replace("out.", "fc.")
    _, stage, kind, k, rest = name.split(".")
    part = "conv" if kind == "layers" else "bn.bn"
    return f"encoder.{stage}.mlps.0.layer{k}.{part}.{rest}"


def pair(seed: int = 0) -> tuple[GpsEncoder, Padded]:
    """The same weights and norm statistics in both layouts."""
    torch.manual_seed(seed)
    ours, padded = object_encoder("gps", 24), Padded(24)
    for name, buffer in ours.named_buffers():
        if name.endswith("mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("var"):
            buffer.uniform_(0.5, 2)
    shapes = padded.state_dict()
    state = {released_name(name): value.clone() for name, value in ours.state_dict().items()}
    padded.load_state_dict({name: value.view(shapes[name].shape) for name, value in state.items()})
    assert isinstance(ours, GpsEncoder)
    return ours, padded


def clouds(n: int, p: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([torch.randn(n, p, 3, generator=generator), torch.rand(n, p, 3, generator=generator) * 255], -1)


@pytest.mark.parametrize("points", [1, 5, 200])
def test_evaluation_equals_the_padded_computation(points):
    ours, padded = pair()
    x = clouds(3, points)
    torch.testing.assert_close(ours.eval()(x), padded.eval()(x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.encode(x, chunk=2), padded(x), atol=1e-5, rtol=1e-4)


def test_training_equals_it_too_in_features_gradients_and_running_statistics():
    ours, padded = pair()
    x, weights = clouds(4, 120), torch.randn(4, 24, generator=torch.Generator().manual_seed(5))
    results = []
    for net in (ours.train(), padded.train()):
        features = net(x)
        (features * weights).sum().backward()
        results.append(features)
    torch.testing.assert_close(*results, atol=5e-4, rtol=1e-3)
    theirs = dict(padded.named_parameters())
    for name, value in ours.named_parameters():
        expected = theirs[released_name(name)].grad
        scale = theirs[released_name(name).replace("bias", "weight")].grad.abs().max()
        torch.testing.assert_close(value.grad / scale, expected.view(value.shape) / scale, atol=2e-3, rtol=0)
    state = padded.state_dict()
    for name, value in ours.named_buffers():
        torch.testing.assert_close(value, state[released_name(name)], atol=1e-5, rtol=1e-4)


def test_a_frozen_encoder_keeps_its_statistics_inside_a_training_model():
    ours, _ = pair()
    model = nn.ModuleDict({"encoder": ours.freeze(), "head": nn.Linear(24, 2)}).train()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    x = clouds(3, 40)
    together = model["encoder"](x)
    assert not together.requires_grad and model["head"].training
    torch.testing.assert_close(together[:1], model["encoder"](x[:1]))  # no batch statistics
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_gradients_reach_an_encoder_in_evaluation_mode():
    ours, padded = pair()
    x = clouds(2, 50)
    for net in (ours.eval(), padded.eval()):
        net(x).sum().backward()
    theirs = dict(padded.named_parameters())
    for name in ("stages.0.layers.0.weight", "stages.1.norms.2.weight", "out.weight"):
        expected = theirs[released_name(name)].grad
        torch.testing.assert_close(
            ours.get_parameter(name).grad, expected.view_as(ours.get_parameter(name)), atol=1e-3, rtol=1e-2
        )


def test_bfloat16_autocast_stays_close_in_both_modes():
    ours, _ = pair()
    x = clouds(8, 100)
    exact = ours.encode(x)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = ours.encode(x)
        ours.train()(x).float().square().mean().backward()
    assert (mixed.float() - exact).norm() < 0.03 * exact.norm()
    assert all(torch.isfinite(p.grad).all() and p.grad.dtype == torch.float32 for p in ours.parameters())


def test_permuting_objects_permutes_features_and_place_does_not_matter():
    ours, _ = pair()
    x, order = clouds(5, 60), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(ours.encode(x[order]), ours.encode(x)[order])
    # an exact shift: rounding would move points over the edges of balls
    x = x.mul(64).round().div(64)
    moved = x + torch.tensor([2.0, -1.0, 0.5, 0, 0, 0])
    torch.testing.assert_close(ours.encode(moved), ours.encode(x), atol=1e-4, rtol=1e-3)


def test_bad_points_are_refused_by_object():
    ours, _ = pair()
    x = clouds(4, 10)
    x[2, 3, 4] = torch.nan
    x[3, 0, 0] = torch.inf
    for call in (ours, ours.encode):
        with pytest.raises(InputError, match=r"object 2, 3 \(of 4\) hold NaN or infinity"):
            call(x)
        with pytest.raises(InputError, match=r"expected \(N, P, 6\)"):
            call(x[..., :5])
        assert call(x[:0]).shape == (0, 24)
    with pytest.raises(InputError, match="object_encoder='pgs'.*gps"):
        object_encoder("pgs", 8)
