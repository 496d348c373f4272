"""Every shape fills its box, shows its colour, and differs from the others."""

import numpy as np
import pytest

from core.errors import InputError
from scene.datasets.furnishing import SIZES, size_of
from scene.furniture import BUILDERS, build
from scene.furniture.parts import Parts
from scene.geometry import face_areas
from scene.palette import GOAL_COLORS, GOAL_LABELS, HELD_OUT_PAIRS, PALETTE, WALLS


def size(label: str) -> np.ndarray:
    return size_of(label, np.random.default_rng(0)) if label in SIZES else np.array([0.5, 0.8, 0.7])


@pytest.mark.parametrize("shape", BUILDERS)
def test_a_piece_fills_its_box_exactly(shape):
    wanted = size(shape)
    mesh = build(shape, wanted, PALETTE["blue"], np.random.default_rng(1))
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    assert np.allclose(low, [-0.5 * wanted[0], -0.5 * wanted[1], 0], atol=1e-5)
    assert np.allclose(high, [0.5 * wanted[0], 0.5 * wanted[1], wanted[2]], atol=1e-5)
    assert mesh.faces.min() == 0 and mesh.faces.max() == len(mesh.vertices) - 1 and len(mesh.faces) < 900
    assert len(mesh.face_colors) == len(mesh.faces)


@pytest.mark.parametrize("label", GOAL_LABELS)
@pytest.mark.parametrize("color", GOAL_COLORS)
def test_the_named_colour_dominates_goal_furniture(label, color):
    mesh = build(label, size(label), PALETTE[color], np.random.default_rng(2))
    area = face_areas(mesh.vertices, mesh.faces)
    unit = mesh.face_colors / np.linalg.norm(mesh.face_colors.astype(float), axis=1, keepdims=True)
    own = np.array(PALETTE[color]) / np.linalg.norm(PALETTE[color])
    assert area[(unit @ own) > 0.9].sum() > 0.5 * area.sum()


def test_the_same_seed_builds_the_same_piece():
    a, b = (build("bookshelf", size("bookshelf"), (1, 2, 3), np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(a.vertices, b.vertices) and np.array_equal(a.face_colors, b.face_colors)


def test_goal_classes_differ_in_where_their_surface_lies():
    """In boxes of one size, every class spreads its area differently over a 4 x 4 x 4 grid."""
    spread = {}
    for label in GOAL_LABELS:
        mesh = build(label, np.ones(3), (200, 0, 0), np.random.default_rng(0))
        middle = mesh.vertices[mesh.faces].mean(axis=1) + [0.5, 0.5, 0]
        cell = (middle * 4).astype(int).clip(0, 3) @ [16, 4, 1]
        share = np.bincount(cell, face_areas(mesh.vertices, mesh.faces), 64)
        spread[label] = share / share.sum()
    for a in GOAL_LABELS:
        for b in GOAL_LABELS:
            if a < b:
                assert 0.5 * np.abs(spread[a] - spread[b]).sum() > 0.2, (a, b)


def test_parts_are_closed_and_face_outward():
    for make in (
        lambda p: p.box((0, 0, 0), (1, 1, 1), (9, 9, 9)),
        lambda p: p.cushion((0, 0, 0), (1, 1, 1), (9, 9, 9), 0.1),
        lambda p: p.tube((0.5, 0.5), (0, 1), (0.5, 0.5), (9, 9, 9), sides=24),
        lambda p: p.ball((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), (9, 9, 9), sides=16, rings=9),
    ):
        parts = Parts(np.random.default_rng(0))
        make(parts)
        mesh = parts.mesh(np.ones(3))
        edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
        there, back = ({tuple(e) for e in edges.tolist()}, {tuple(e[::-1]) for e in edges.tolist()})
        assert there == back and len(there) == len(edges)  # every edge once in each direction
        a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(float) for k in range(3))
        volume = (a * np.cross(b, c)).sum() / 6
        assert 0.4 < volume <= 1.0 + 1e-6


def test_unknown_shapes_and_flat_sizes_are_refused():
    with pytest.raises(InputError, match="did you mean 'armchair'"):
        build("arm chair", np.ones(3), (0, 0, 0), np.random.default_rng(0))
    with pytest.raises(InputError, match="positive"):
        build("sofa", np.array([1, 0, 1]), (0, 0, 0), np.random.default_rng(0))


def test_palette_colours_stay_apart_when_shaded_and_from_walls():
    names = list(PALETTE)
    rgb = np.array([PALETTE[name] for name in names], float)
    apart = np.linalg.norm(rgb[:, None] - rgb[None], axis=-1) + 1e3 * np.eye(len(names))
    assert apart.min() > 45
    for name in GOAL_COLORS:
        assert names[np.linalg.norm(rgb - 0.9 * np.array(PALETTE[name]), axis=1).argmin()] == name
    goal = np.array([PALETTE[name] for name in GOAL_COLORS], float)
    assert np.linalg.norm(np.array(WALLS)[:, None] - goal[None], axis=-1).min() > 60


def test_held_out_pairs_leave_every_colour_and_class_seen():
    assert len(set(HELD_OUT_PAIRS)) == len(HELD_OUT_PAIRS) and 0.08 < len(HELD_OUT_PAIRS) / 64 < 0.13
    assert {color for color, _ in HELD_OUT_PAIRS} <= set(GOAL_COLORS) and len({c for c, _ in HELD_OUT_PAIRS}) == 7
    assert {label for _, label in HELD_OUT_PAIRS} <= set(GOAL_LABELS) and len({x for _, x in HELD_OUT_PAIRS}) == 7
