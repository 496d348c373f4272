"""Names on maps: each text goes to the nearest place where it covers no other and stays inside the picture."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAPER = "#ffffff"
TURNS = np.arange(8) * np.pi / 4 + np.pi / 2  # directions in which a free place is looked for
Area = tuple[float, float, float, float]  # x0, y0, x1, y1 in data units


class Labels:
    """Places texts on one plot, the important first; limits and size of the plot must be final.

    Args:
        ax: its limits bound where texts may go.
    """

    def __init__(self, ax: "Axes") -> None:
        figure: Any = ax.figure
        figure.draw_without_rendering()  # fixes the scale, so that texts can be measured
        self.ax = ax
        self.taken: list[Area] = []
        self._to_data = ax.transData.inverted()
        (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
        self._limits = (x0, y0, x1, y1)

    def put(
        self,
        text: str,
        places: Iterable[Sequence[float]],
        *,
        must: bool = False,
        inside: Float[ndarray, "K 2"] | None = None,
        **style: Any,
    ) -> bool:
        """Writes `text` centred at the first of `places` (data units) where it fits; says whether it was written.

        Args:
            must: where it fits nowhere it is written at the first place that lies in the picture.
            inside: a polygon that has to hold the whole text.
            style: of matplotlib's text.
        """
        from matplotlib import patheffects

        candidates = [(float(x), float(y)) for x, y in places]
        if not candidates:
            return False
        halo = [patheffects.withStroke(linewidth=2.2, foreground=PAPER)]
        words: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 10, "path_effects": halo} | style
        label = self.ax.text(*candidates[0], text, **words)
        box = label.get_bbox_patch()
        extent = box.get_window_extent() if box is not None else label.get_window_extent()
        (x0, y0), (x1, y1) = self._to_data.transform(extent.get_points())
        wide, tall = x1 - x0, y1 - y0
        left, low, right, high = self._limits
        within = [
            (float(np.clip(x, left + 0.5 * wide, max(right - 0.5 * wide, left + 0.5 * wide))),
             float(np.clip(y, low + 0.5 * tall, max(high - 0.5 * tall, low + 0.5 * tall))))
            for x, y in candidates
        ]  # fmt: skip
        for x, y in within:
            area = (x - 0.5 * wide, y - 0.5 * tall, x + 0.5 * wide, y + 0.5 * tall)
            if self._free(area) and (inside is None or _holds(inside, area)):
                break
        else:
            if not must:
                label.remove()
                return False
            (x, y), *_ = within
            area = (x - 0.5 * wide, y - 0.5 * tall, x + 0.5 * wide, y + 0.5 * tall)
        label.set_position((x, y))
        pad = 0.12 * tall
        self.taken.append((area[0] - pad, area[1] - pad, area[2] + pad, area[3] + pad))
        return True

    def line_height(self, size_pt: float) -> float:
        """Height of a line of text in data units."""
        figure: Any = self.ax.figure
        pixels = size_pt * figure.dpi / 72
        (_, y0), (_, y1) = self._to_data.transform([(0, 0), (0, 1.35 * pixels)])
        return float(y1 - y0)

    def _free(self, area: Area) -> bool:
        return not any(area[0] < b[2] and b[0] < area[2] and area[1] < b[3] and b[1] < area[3] for b in self.taken)


def around(middle: Float[ndarray, "2"], reach: float, step: float) -> list[tuple[float, float]]:
    """`middle`, then places on growing rings around it up to `reach`."""
    rings = [
        (float(middle[0] + radius * np.cos(turn)), float(middle[1] + radius * np.sin(turn)))
        for radius in np.arange(step, reach + 0.01, step)
        for turn in TURNS
    ]
    return [(float(middle[0]), float(middle[1])), *rings]


def roomy_places(polygon: Float[ndarray, "K 2"], step_m: float = 0.25) -> list[tuple[float, float]]:
    """Places in a polygon, those farthest from its edges first; also where it has corners that point inwards."""
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    x, y = np.meshgrid(*(np.arange(a + 0.5 * step_m, b, step_m) for a, b in zip(low, high)))
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    points = points[contains(polygon, points)]
    if not len(points):
        return []
    start, end = polygon, np.roll(polygon, -1, axis=0)
    along = end - start
    share = ((points[:, None] - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12)
    nearest = start + np.clip(share, 0, 1)[..., None] * along
    room = np.linalg.norm(points[:, None] - nearest, axis=-1).min(axis=1)
    # of equally roomy places the one nearest to the middle of the polygon's box
    off = np.linalg.norm(points - 0.5 * (low + high), axis=1)
    order = np.lexsort((off, -np.round(np.minimum(room, 1.0), 2)))
    return [(float(px), float(py)) for px, py in points[order]]


def contains(polygon: Float[ndarray, "K 2"], points: Float[ndarray, "P 2"]) -> Bool[ndarray, " P"]:
    """Which points lie in a simple polygon (even-odd rule)."""
    (x0, y0), (x1, y1) = polygon.T[:, :, None], np.roll(polygon, -1, axis=0).T[:, :, None]
    x, y = np.asarray(points, float).T
    crosses = (y0 > y) != (y1 > y)
    rise = np.where(y1 == y0, 1.0, y1 - y0)
    return (crosses & (x < (x1 - x0) * (y - y0) / rise + x0)).sum(axis=0) % 2 == 1


def _holds(polygon: Float[ndarray, "K 2"], area: Area) -> bool:
    x, y = np.meshgrid(np.linspace(area[0], area[2], 5), np.linspace(area[1], area[3], 3))
    return bool(contains(polygon, np.stack([x.ravel(), y.ravel()], axis=1)).all())
