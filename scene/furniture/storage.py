"""Tables and things with doors, drawers and shelves."""

from scene.furniture.parts import Color, Parts, tone
from scene.palette import DARK_WOOD, METAL, WOOD

Size = tuple[float, float, float]

_SPINES = ((168, 150, 122), (122, 104, 92), (196, 184, 160), (104, 112, 116), (150, 128, 118), (136, 140, 126))


def table(p: Parts, size: Size, color: Color) -> None:
    """A dining table: a thick top, an apron, four square legs."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.cushion((-hx, -hy, z - 0.05), (hx, hy, z), color, 0.012)
    p.box((-hx + 0.07, -hy + 0.07, z - 0.13), (hx - 0.07, hy - 0.07, z - 0.05), tone(color, 0.8))
    for sx in (-1, 1):
        for sy in (-1, 1):
            (x0, x1), (y0, y1) = (
                sorted((sx * (hx - 0.04), sx * (hx - 0.11))),
                sorted((sy * (hy - 0.04), sy * (hy - 0.11))),
            )
            p.box((x0, y0, 0), (x1, y1, z - 0.05), tone(color, 0.88))


def desk(p: Parts, size: Size, color: Color) -> None:
    """A writing desk: drawers on one side, a panel on the other, a modesty panel behind."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.box((-hx, -hy, z - 0.035), (hx, hy, z), color)
    p.box((-hx + 0.02, hy - 0.4, 0.05), (hx - 0.05, hy - 0.02, z - 0.035), tone(color, 0.86))
    for k in range(3):
        low = 0.08 + k * (z - 0.13) / 3
        p.box((hx - 0.055, hy - 0.38, low), (hx - 0.03, hy - 0.04, low + (z - 0.2) / 3), tone(color, 1.12))
        p.box((hx - 0.03, hy - 0.25, low + 0.09), (hx - 0.015, hy - 0.17, low + 0.11), METAL)
    p.box((-hx + 0.02, -hy + 0.02, 0), (hx - 0.05, -hy + 0.06, z - 0.035), tone(color, 0.86))
    p.box((-hx + 0.03, -hy + 0.06, 0.35), (-hx + 0.05, hy - 0.4, z - 0.035), tone(color, 0.75))
    p.box((-hx + 0.05, hy - 0.38, 0), (hx - 0.08, hy - 0.04, 0.05), DARK_WOOD)


def coffee_table(p: Parts, size: Size, color: Color) -> None:
    """Low, with a lower shelf and thin legs."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.cushion((-hx, -hy, z - 0.045), (hx, hy, z), color, 0.015)
    p.legs((hx - 0.06, hy - 0.06), z - 0.045, 0.028, DARK_WOOD)
    p.box((-hx + 0.06, -hy + 0.06, 0.28 * z), (hx - 0.06, hy - 0.06, 0.28 * z + 0.025), tone(color, 0.85))


def countertop(p: Parts, size: Size, color: Color) -> None:
    """A kitchen counter: cupboard doors under a paler slab."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.box((-hx, -hy, z - 0.05), (hx, hy, z), tone(color, 1.35))
    p.box((-hx, -hy, 0.1), (hx - 0.03, hy, z - 0.05), color)
    p.box((-hx, -hy + 0.01, 0), (hx - 0.1, hy - 0.01, 0.1), DARK_WOOD)
    _doors(p, hx - 0.03, hy, (0.12, z - 0.08), max(2, round(y / 0.5)), color)


def _doors(p: Parts, front: float, hy: float, z: tuple[float, float], count: int, color: Color) -> None:
    width = 2 * hy / count
    for k in range(count):
        low = -hy + k * width
        p.box((front - 0.005, low + 0.012, z[0]), (front + 0.018, low + width - 0.012, z[1]), tone(color, 1.1))
        knob = low + (width - 0.07 if k % 2 == 0 else 0.05)
        middle = 0.5 * (z[0] + z[1])
        p.box((front + 0.018, knob, middle - 0.07), (front + 0.03, knob + 0.02, middle + 0.07), METAL)


def bookshelf(p: Parts, size: Size, color: Color) -> None:
    """Open shelves between uprights, partly filled with books of dull colours."""
    x, y, z = size
    hx, hy, board = 0.5 * x, 0.5 * y, 0.035
    for side in (-1, 1):
        low, high = sorted((side * hy, side * (hy - board)))
        p.box((-hx, low, 0), (hx, high, z), color)
    p.box((-hx, -hy + board, 0.02), (-hx + 0.02, hy - board, z - 0.01), tone(color, 0.75))
    for low in shelf_heights(size):
        p.box((-hx + 0.01, -hy + board, low - board), (hx - 0.005, hy - board, low), color)
    p.box((-hx, -hy + board, z - board), (hx, hy - board, z), color)
    heights = [*shelf_heights(size), z - board]
    for low, high in zip(heights[:-1], heights[1:], strict=True):
        if high - low < 0.16:
            continue
        at, end = -hy + board + 0.02, hy - board - 0.02
        at += p.rng.uniform(0.0, 0.25) * (end - at)
        stop = at + p.rng.uniform(0.3, 0.65) * (end - at)
        while at < stop:
            thick, tall = p.rng.uniform(0.03, 0.07), p.rng.uniform(0.55, 0.8) * (high - low - board)
            spine = _SPINES[int(p.rng.integers(len(_SPINES)))]
            p.box((-hx + 0.03, at, low), (0.45 * hx, min(at + thick, end), low + tall), spine)
            at += thick + 0.004


def shelf_heights(size: Size) -> list[float]:
    """Heights (metres above the floor) of the upper faces of a bookshelf's boards, the top of the case left out."""
    count = max(2, round(size[2] / 0.38))
    return [0.08 + k * (size[2] - 0.08) / count for k in range(count)]


def wardrobe(p: Parts, size: Size, color: Color) -> None:
    """A tall closed cupboard with two or three doors, a plinth and a cornice."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.box((-hx + 0.01, -hy + 0.02, 0.08), (hx - 0.05, hy - 0.02, z - 0.06), tone(color, 0.85))
    p.box((-hx + 0.03, -hy + 0.04, 0), (hx - 0.08, hy - 0.04, 0.08), tone(color, 0.5))
    p.box((-hx, -hy, z - 0.06), (hx, hy, z), tone(color, 0.7))
    _doors(p, hx - 0.05, hy - 0.02, (0.1, z - 0.08), 3 if y > 1.5 else 2, color)


def cabinet(p: Parts, size: Size, color: Color) -> None:
    """A sideboard with two doors on short legs."""
    x, y, z = size
    hx, hy, foot = 0.5 * x, 0.5 * y, 0.14 * z
    p.legs((hx - 0.06, hy - 0.06), foot, 0.03, WOOD)
    p.box((-hx, -hy, z - 0.03), (hx, hy, z), tone(color, 0.8))
    p.box((-hx + 0.01, -hy + 0.01, foot), (hx - 0.04, hy - 0.01, z - 0.03), color)
    _doors(p, hx - 0.04, hy - 0.01, (foot + 0.02, z - 0.05), max(2, round(y / 0.55)), color)


def dresser(p: Parts, size: Size, color: Color) -> None:
    """A chest of drawers in two columns."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.box((-hx, -hy, z - 0.035), (hx, hy, z), tone(color, 0.85))
    p.box((-hx + 0.01, -hy + 0.015, 0.06), (hx - 0.04, hy - 0.015, z - 0.035), tone(color, 0.9))
    p.box((-hx + 0.03, -hy + 0.03, 0), (hx - 0.07, hy - 0.03, 0.06), DARK_WOOD)
    columns, rows = (2 if y > 0.8 else 1), max(2, round(z / 0.27))
    for c in range(columns):
        for r in range(rows):
            y0, y1 = -hy + 0.03 + c * (y - 0.06) / columns, -hy + 0.03 + (c + 1) * (y - 0.06) / columns
            z0, z1 = 0.08 + r * (z - 0.13) / rows, 0.08 + (r + 1) * (z - 0.13) / rows
            p.box((hx - 0.045, y0 + 0.01, z0 + 0.01), (hx - 0.022, y1 - 0.01, z1 - 0.01), tone(color, 1.1))
            y_mid, z_mid = 0.5 * (y0 + y1), 0.5 * (z0 + z1)
            p.box((hx - 0.022, y_mid - 0.05, z_mid - 0.01), (hx - 0.008, y_mid + 0.05, z_mid + 0.01), METAL)


def nightstand(p: Parts, size: Size, color: Color) -> None:
    """A small box with one drawer over an open shelf, on legs."""
    x, y, z = size
    hx, hy, foot = 0.5 * x, 0.5 * y, 0.2 * z
    p.legs((hx - 0.04, hy - 0.04), foot, 0.022, WOOD)
    p.box((-hx, -hy, z - 0.03), (hx, hy, z), color)
    p.box((-hx + 0.01, -hy + 0.01, 0.62 * z), (hx - 0.03, hy - 0.01, z - 0.03), tone(color, 0.9))
    p.box((hx - 0.03, -hy + 0.03, 0.66 * z), (hx - 0.012, hy - 0.03, z - 0.05), tone(color, 1.14))
    p.box((hx - 0.012, -0.03, 0.78 * z), (hx, 0.03, 0.82 * z), METAL)
    p.box((-hx + 0.01, -hy + 0.01, foot), (hx - 0.02, hy - 0.01, foot + 0.03), tone(color, 0.9))
    for side in (-1, 1):
        low, high = sorted((side * (hy - 0.01), side * (hy - 0.035)))
        p.box((-hx + 0.01, low, foot), (hx - 0.02, high, z - 0.03), tone(color, 0.9))
    p.box((-hx + 0.01, -hy + 0.03, foot), (-hx + 0.025, hy - 0.03, z - 0.03), tone(color, 0.75))


def tv_stand(p: Parts, size: Size, color: Color) -> None:
    """A long low bench with an open middle."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.box((-hx, -hy, z - 0.035), (hx, hy, z), color)
    p.box((-hx, -hy, 0.05), (hx, hy, 0.085), color)
    p.box((-hx + 0.04, -hy + 0.05, 0), (hx - 0.06, hy - 0.05, 0.05), DARK_WOOD)
    for low, high in ((-hy, -0.33 * hy), (0.33 * hy, hy)):
        p.box((-hx, low, 0.085), (hx - 0.02, high, z - 0.035), tone(color, 0.9))
        p.box((hx - 0.02, low + 0.02, 0.1), (hx - 0.004, high - 0.02, z - 0.05), tone(color, 1.1))
    p.box((-hx, -0.33 * hy, 0.085), (-hx + 0.02, 0.33 * hy, z - 0.035), tone(color, 0.5))


def fridge(p: Parts, size: Size, color: Color) -> None:
    """A tall box with a small door over a large one and long handles."""
    x, y, z = size
    hx, hy, split = 0.5 * x, 0.5 * y, 0.66 * z
    p.box((-hx, -hy + 0.005, 0.05), (hx - 0.06, hy - 0.005, z), tone(color, 0.88))
    p.box((-hx + 0.05, -hy + 0.03, 0), (hx - 0.1, hy - 0.03, 0.05), (52, 52, 56))
    p.cushion((hx - 0.06, -hy, 0.07), (hx - 0.02, hy, split - 0.008), color, 0.01)
    p.cushion((hx - 0.06, -hy, split + 0.008), (hx - 0.02, hy, z - 0.005), color, 0.01)
    for low, high in ((split - 0.5, split - 0.08), (split + 0.08, split + 0.34)):
        p.box((hx - 0.02, -hy + 0.05, low), (hx, -hy + 0.08, high), METAL)
