"""What hangs on or is set into walls; these face +x and their back is at -x."""

from scene.furniture.parts import Color, Parts, tone
from scene.palette import DARK_WOOD, METAL, SKY, TRIM

Size = tuple[float, float, float]


def _frame(p: Parts, size: Size, width: float, color: Color) -> None:
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    for side in (-1, 1):
        low, high = sorted((side * hy, side * (hy - width)))
        p.box((-hx, low, 0), (hx, high, z), color)
    p.box((-hx, -hy + width, 0), (hx, hy - width, width), tone(color, 0.95))
    p.box((-hx, -hy + width, z - width), (hx, hy - width, z), tone(color, 0.95))


def picture(p: Parts, size: Size, color: Color) -> None:
    """A dark frame, a pale mount and a painting in the colour."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    _frame(p, size, 0.03, DARK_WOOD)
    p.box((-hx, -hy + 0.03, 0.03), (0.2 * hx, hy - 0.03, z - 0.03), (238, 234, 224))
    p.box((0.2 * hx, -0.8 * hy, 0.1 * z), (0.5 * hx, 0.8 * hy, 0.9 * z), color)
    p.box((0.5 * hx, -0.8 * hy, 0.1 * z), (0.7 * hx, 0.8 * hy, 0.36 * z), tone(color, 0.7))
    p.ball((0.55 * hx, 0.35 * hy, 0.66 * z), (0.2 * hx, 0.1 * y, 0.1 * z), tone(color, 1.55), sides=8, rings=3)


def mirror(p: Parts, size: Size, color: Color) -> None:
    """A framed pane of pale blue grey."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    _frame(p, size, 0.045, color)
    p.box((-hx, -hy + 0.045, 0.045), (0.3 * hx, hy - 0.045, z - 0.045), (190, 206, 214))


def wall_clock(p: Parts, size: Size, color: Color) -> None:
    """A round face in a coloured rim, with hands."""
    x, y, z = size
    for depth, radius, shade in ((0.7, 0.5, color), (0.8, 0.4, (246, 244, 238))):
        _disc(p, x, y, z, depth, radius, shade)
    front = -0.5 * x + 0.8 * x
    p.box((front, -0.02 * y, 0.5 * z), (0.5 * x, 0.02 * y, 0.82 * z), (28, 28, 32))
    p.box((front, -0.02 * y, 0.48 * z), (0.5 * x, 0.26 * y, 0.53 * z), (28, 28, 32))


def _disc(p: Parts, x: float, y: float, z: float, depth: float, radius: float, color: Color) -> None:
    """A flat cylinder whose axis is x, from the back to `depth` of the thickness."""
    lying = Parts(p.rng)
    lying.tube((0, 0), (0, 1), (radius, radius), color, sides=20)
    mesh = lying.mesh((2 * radius, 2 * radius, 1.0))  # type: ignore[arg-type]
    across, along = mesh.vertices[:, :2], mesh.vertices[:, 2]
    vertices = mesh.vertices.astype(float).copy()
    vertices[:, 0] = -0.5 * x + depth * x * along
    vertices[:, 1] = across[:, 0] * y
    vertices[:, 2] = 0.5 * z + across[:, 1] * z
    p.add(vertices, mesh.faces, color)


def shelf(p: Parts, size: Size, color: Color) -> None:
    """A board on two brackets."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.box((-hx, -hy, z - 0.03), (hx, hy, z), color)
    for side in (-1, 1):
        at = side * 0.7 * hy
        p.box((-hx, at - 0.015, 0), (-hx + 0.02, at + 0.015, z - 0.03), METAL)
        p.box((-hx + 0.02, at - 0.015, z - 0.06), (0.6 * hx, at + 0.015, z - 0.03), METAL)


def curtain(p: Parts, size: Size, color: Color) -> None:
    """Hanging cloth in folds."""
    x, y, z = size
    folds = max(3, round(y / 0.09))
    width = y / folds
    for k in range(folds):
        low = -0.5 * y + k * width
        shade = tone(color, 1.06 if k % 2 else 0.88)
        p.tube((0, low + 0.5 * width), (0, z), (0.5, 0.46), shade, sides=6, squash=(x, 1.15 * width))


def curtain_rod(p: Parts, size: Size, color: Color) -> None:
    """A thin bar with knobs at its ends."""
    x, y, z = size
    p.box((-0.3 * x, -0.5 * y, 0.25 * z), (0.3 * x, 0.5 * y, 0.75 * z), color)
    for side in (-1, 1):
        p.ball((0, side * (0.5 * y - 0.5 * z), 0.5 * z), (0.5 * x, 0.5 * z, 0.5 * z), color, sides=8, rings=3)


def window(p: Parts, size: Size, color: Color) -> None:
    """A frame with a cross bar and panes of sky."""
    x, y, z = size
    hy = 0.5 * y
    _frame(p, size, 0.06, color)
    p.box((-0.15 * x, -hy + 0.06, 0.06), (0.15 * x, hy - 0.06, z - 0.06), SKY)
    p.box((-0.25 * x, -0.02, 0.06), (0.25 * x, 0.02, z - 0.06), color)
    p.box((-0.25 * x, -hy + 0.06, 0.55 * z), (0.25 * x, hy - 0.06, 0.55 * z + 0.04), color)


def open_door(p: Parts, size: Size, color: Color) -> None:
    """The frame of a passage: two jambs and a head, nothing between."""
    x, y, z = size
    hx, hy, jamb = 0.5 * x, 0.5 * y, 0.05
    for side in (-1, 1):
        low, high = sorted((side * hy, side * (hy - jamb)))
        p.box((-hx, low, 0), (hx, high, z), color)
    p.box((-hx, -hy + jamb, z - jamb), (hx, hy - jamb, z), color)


def closed_door(p: Parts, size: Size, color: Color) -> None:
    """A frame around a leaf with two panels and a handle on both sides."""
    x, y, z = size
    hy = 0.5 * y
    open_door(p, size, TRIM)
    p.box((-0.3 * x, -hy + 0.05, 0.005), (0.3 * x, hy - 0.05, z - 0.05), color)
    for low, high in ((0.1, 0.45), (0.53, 0.92)):
        p.box((-0.36 * x, -hy + 0.17, low * z), (0.36 * x, hy - 0.17, high * z), tone(color, 0.88))
    p.box((-0.5 * x, -hy + 0.1, 0.47 * z), (0.5 * x, -hy + 0.14, 0.5 * z), METAL)
