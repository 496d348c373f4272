"""Pictures for people: a home from above, and outlines with names over a rendered view. Needs matplotlib."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int32, UInt8
from numpy import ndarray

from core.errors import InputError
from scene.arrows import Arrow, draw_arrows
from scene.geometry import footprint
from scene.labels import Labels, around, contains, roomy_places
from scene.occupancy import Occupancy
from scene.palette import PALETTE
from scene.types import Door, Scene, SceneObject

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scene.graph import SceneGraph

Window = tuple[Float[ndarray, "2"], Float[ndarray, "2"]]  # lower left, upper right; metres
MARGIN_M = 0.35  # around a map
AROUND_M = 0.7  # around the things that a part of a map is about
WALL_M = 0.12  # drawn thickness of outer walls
INK, WALL, PAPER, FAINT = "#22252b", "#3b3f47", "#ffffff", "#6b6f78"
ACCENT, PATH = "#e0218a", "#1f6feb"  # highlighted things; where an agent walked
FLOORS: Final = ("#f3ead9", "#e6eee2", "#e4ebf3", "#f3e5e3", "#ece6f2", "#eef0e0")  # one tint per room in turn
WINDOW = "#9ecbe8"
OPENINGS: Final = frozenset({"door", "doorway", "window"})
UNLABELLED: Final = OPENINGS | {"curtain rod", "rug"}
HIGH_M = 1.5  # what hangs higher is drawn as an outline, so that it hides nothing
LABEL_SIZE_M = 0.4  # smaller things carry no label unless highlighted
FLAT_M = 0.15  # thinner things, such as pictures, hang on walls: they are named last and in gray
CUT_M = 2.0  # points of a scan above this height over its floor are not drawn
POINT_CELL_M = 0.02  # of the picture of a scan's points, at least
FONT_PT = 8.0
SUPPORT_RELATIONS: Final = frozenset({"supported by", "embedded into", "placed in", "inside"})


def object_color(item: SceneObject, scene: Scene) -> tuple[float, float, float]:
    """An object's rgb in 0..1: its named colour, else the mean of its faces or points, else gray."""
    rgb: Any = PALETTE.get(item.attributes.get("color", ""))
    if rgb is None and scene.mesh is not None and (scene.mesh.face_instance == item.id).any():
        rgb = scene.mesh.face_colors[scene.mesh.face_instance == item.id].mean(axis=0)
    if rgb is None and scene.colors is not None and scene.instance is not None and (scene.instance == item.id).any():
        rgb = scene.colors[scene.instance == item.id].mean(axis=0)
    red, green, blue = np.asarray(PALETTE["gray"] if rgb is None else rgb, dtype=float) / 255
    return float(red), float(green), float(blue)


def draw_map(
    ax: "Axes",
    scene: Scene,
    *,
    occupancy: Occupancy | None = None,
    graph: "SceneGraph | None" = None,
    path: Float[ndarray, "T 2"] | None = None,
    highlight: Collection[int] | Mapping[int, str] = (),
    labels: bool = True,
    viewer: bool = True,
    objects: Collection[int] | None = None,
    arrows: Collection[Arrow] = (),
    window: Window | None = None,
) -> "Axes":
    """Draws a home from above: floors, walls, door gaps, and things as footprints in their own colours.

    Args:
        ax: its limits, aspect and axis labels are set; x and y are world metres.
        occupancy: shades the floor where an agent may stand.
        graph: lines from things to what they rest on, and between neighbours.
        path: world xy of an agent, from its start (ring) to its end (dot).
        highlight: object ids to outline strongly and, with labels, always name; a mapping gives each its colour.
        labels: names things of at least 0.4 m and the rooms.
        viewer: an arrow below the home for the direction in which left, right, front and behind are meant.
        objects: ids of the things to draw and name; left out: all.
        arrows: relations to draw (scene/arrows.py), with their words where `labels`.
        window: the part of the home to show, its lower left and upper right corner; left out: `map_limits`.

    A scene without rooms shows its points from above, below a cut at CUT_M, and things as outlines. The patch of each
    thing carries the group id "object-<id>", which an SVG file keeps.

    Raises:
        InputError: nothing to draw, or a highlighted id that the scene does not have.
    """
    from matplotlib.patches import Polygon

    unknown = [k for k in highlight if not 0 <= k < len(scene.objects)]
    if unknown:
        raise InputError(f"scene {scene.id} has objects 0..{len(scene.objects) - 1}; cannot highlight {unknown}")
    window = window or map_limits(scene)
    _draw_shell(ax, scene)
    scanned = not scene.rooms and _draw_points(ax, scene)
    if occupancy is not None:
        _draw_free(ax, occupancy)
    corners = footprint(scene.boxes) if scene.objects else np.zeros((0, 4, 2))
    drawn = [item for item in scene.objects if objects is None or item.id in objects]
    order = sorted(drawn, key=lambda item: item.box[2] + item.box[5] / 2)  # small things on top of big ones
    for rank, item in enumerate(order):
        if item.label in OPENINGS and scene.doors and item.label != "window":
            unseen = {"facecolor": "none", "edgecolor": "none", "zorder": 4, "gid": f"object-{item.id}"}
            ax.add_patch(Polygon(corners[item.id], closed=True, **unseen))
            continue  # drawn with the walls
        high = item.box[2] - item.box[5] / 2 > HIGH_M and item.label != "window"
        color = WINDOW if item.label == "window" else object_color(item, scene)
        patch = Polygon(
            corners[item.id], closed=True, zorder=4 + 0.01 * rank, facecolor="none" if high or scanned else color,
            edgecolor=color if high else INK, linewidth=1.2 if high else 0.7, linestyle=(0, (2, 1.5)) if high else "-",
            gid=f"object-{item.id}",
        )  # fmt: skip
        ax.add_patch(patch)
    for k in highlight:
        outline = highlight[k] if isinstance(highlight, Mapping) else ACCENT
        for width, color in ((5.0, PAPER), (2.6, outline)):
            ax.add_patch(Polygon(corners[k], closed=True, fill=False, edgecolor=color, linewidth=width, zorder=8))
    if graph is not None:
        _draw_graph(ax, scene, graph, highlight)
    if path is not None and len(path):
        path = np.asarray(path, dtype=float)
        ax.plot(path[:, 0], path[:, 1], color=PAPER, linewidth=4.0, zorder=9, solid_capstyle="round")
        ax.plot(path[:, 0], path[:, 1], color=PATH, linewidth=2.0, zorder=9.1, solid_capstyle="round")
        ax.plot(*path[0], "o", markersize=8, markerfacecolor=PAPER, markeredgecolor=PATH, markeredgewidth=2, zorder=9.2)
        ax.plot(*path[-1], "o", markersize=8, markerfacecolor=PATH, markeredgecolor=PAPER, zorder=9.2)

    _frame(ax, window)
    if viewer:
        _draw_viewer(ax, graph.viewpoint.yaw_rad if graph is not None else np.pi / 2)
    if arrows or labels:
        texts = Labels(ax)
        (low, high), middle = window, scene.boxes[:, :2]
        drawn = [item for item in drawn if (middle[item.id] > low).all() and (middle[item.id] < high).all()]
        chosen = [item for item in drawn if item.id in highlight] if labels else []
        outlines = highlight if isinstance(highlight, Mapping) else dict.fromkeys(highlight, ACCENT)
        _name_things(texts, scene, chosen, outlines)
        draw_arrows(ax, scene, arrows, texts)
        if labels:
            _name_things(texts, scene, [item for item in drawn if item.id not in highlight], {})
            _name_rooms(texts, scene, drawn)
    return ax


def draw_view_boxes(
    ax: "Axes",
    rgb: UInt8[ndarray, "H W 3"],
    instance: Int32[ndarray, "H W"],
    scene: Scene,
    *,
    names: Mapping[int, str] | None = None,
    min_pixels: int | None = None,
) -> "Axes":
    """Shows a rendered view with an outline and a name over each object seen.

    Args:
        names: text per object id; only these are outlined. Default: colour and label of everything seen but doors and
            windows.
        min_pixels: things with fewer pixels are left out; default 0.4 % of the picture.
    """
    height, width = instance.shape
    ax.imshow(rgb, interpolation="nearest", extent=(0, width, height, 0))
    ax.set_xticks([]), ax.set_yticks([])
    least = max(2, round(0.004 * height * width)) if min_pixels is None else min_pixels
    ids, counts = np.unique(instance[instance >= 0], return_counts=True)
    placed: list[tuple[float, float, float, float]] = []
    for k in ids[np.argsort(-counts, kind="stable")]:
        item = scene.objects[k]
        if (instance == k).sum() < least or (k not in names if names is not None else item.label in OPENINGS):
            continue
        mask = np.pad((instance == k).astype(float), 1)
        color = ACCENT if names is not None else object_color(item, scene)
        where = (np.arange(-1, width + 1) + 0.5, np.arange(-1, height + 1) + 0.5)
        ax.contour(*where, mask, levels=[0.5], colors=[PAPER], linewidths=2.2)
        ax.contour(*where, mask, levels=[0.5], colors=[color], linewidths=1.1)
        text = (
            names[int(k)] if names is not None else " ".join(filter(None, [item.attributes.get("color"), item.label]))
        )
        half = 0.5 * len(text) * 0.6 * FONT_PT * width / max(_width_pt(ax), 1.0)
        tall = 1.6 * FONT_PT * width / max(_width_pt(ax), 1.0)
        spots = [_spot(instance == k, share) for share in (0.12, 0.3, 0.5, 0.7, 0.88)]
        spots = [
            (float(np.clip(x, half, max(width - half, half))), float(np.clip(y, 0.5 * tall, height - 0.5 * tall)))
            for x, y in spots
        ]
        free = [
            (x, y) for x, y in spots if not any(abs(x - a) < half + b and abs(y - c) < 0.9 * d for a, b, c, d in placed)
        ]
        x, y = (free or spots)[0]
        placed.append((x, half, y, tall))
        plate = {"boxstyle": "round,pad=0.15", "facecolor": PAPER, "alpha": 0.82, "edgecolor": "none"}
        ax.text(x, y, text, ha="center", va="center", fontsize=FONT_PT, color=INK, zorder=5, bbox=plate)
    ax.set_xlim(0, width), ax.set_ylim(height, 0)
    return ax


def _spot(mask: Bool[ndarray, "H W"], share: float) -> tuple[float, float]:
    """x and y in a mask: the row below `share` of its pixels, and the middle of that row's pixels."""
    rows = np.nonzero(mask)[0]
    row = int(rows[int(share * (len(rows) - 1))])
    return float(np.median(np.flatnonzero(mask[row]))) + 0.5, row + 0.5


def _width_pt(ax: "Axes") -> float:
    """Width of the axes in points."""
    return ax.get_window_extent().width * 72 / ax.figure.dpi


def _offset(polygon: Float[ndarray, "K 2"], by_m: float) -> Float[ndarray, "K 2"]:
    """A counter-clockwise polygon grown outwards by `by_m`, corners kept sharp."""
    edge = np.roll(polygon, -1, axis=0) - polygon
    edge = edge / np.maximum(np.linalg.norm(edge, axis=1, keepdims=True), 1e-9)
    outward = np.stack([edge[:, 1], -edge[:, 0]], axis=1)
    before = np.roll(outward, 1, axis=0)
    miter = outward + before
    return polygon + by_m * 2 * miter / np.maximum((miter**2).sum(axis=1, keepdims=True), 0.2)


def _door_corners(door: Door, grow_m: float) -> Float[ndarray, "4 2"]:
    """A door's footprint, grown across its wall."""
    box = np.array(door.box, dtype=float)
    box[3 + int(box[4] < box[3])] += grow_m
    return footprint(box[None])[0]


def _draw_shell(ax: "Axes", scene: Scene) -> None:
    """Walls, floors, and doors: gaps where open, bars where closed."""
    from matplotlib.patches import Polygon

    for room in scene.rooms:
        ax.add_patch(Polygon(_offset(np.asarray(room.polygon), WALL_M), facecolor=WALL, edgecolor="none", zorder=1))
    for number, room in enumerate(scene.rooms):
        tint = FLOORS[number % len(FLOORS)]
        ax.add_patch(Polygon(room.polygon, facecolor=tint, edgecolor=WALL, linewidth=1.2, zorder=2))
    for door in scene.doors:
        if door.open:
            ax.add_patch(Polygon(_door_corners(door, 0.1), facecolor=FLOORS[0], edgecolor="none", zorder=2.5))
        else:
            ax.add_patch(Polygon(_door_corners(door, 0.0), facecolor="#a9805a", edgecolor=INK, linewidth=0.7, zorder=3))


def _draw_points(ax: "Axes", scene: Scene) -> bool:
    """The scan from above: of each cell the colour of its highest point below the cut. False without points."""
    points = scene.points
    if points is None or not len(points):
        return False
    floor = float(np.percentile(points[:, 2], 1))
    kept = points[:, 2] < floor + CUT_M  # no ceiling
    points = points[kept]
    colors = np.full((len(points), 3), 170, np.uint8) if scene.colors is None else scene.colors[kept]
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    spacing = float(np.sqrt(np.prod(high - low) / max(len(points), 1)))
    cell = max(POINT_CELL_M, 1.5 * spacing, float(max(high - low)) / 800)
    column, row = ((points[:, :2] - low) / cell).astype(int).T
    width, height = int(column.max()) + 1, int(row.max()) + 1
    order = np.argsort(points[:, 2], kind="stable")  # the highest is written last
    picture = np.zeros((height, width, 4), np.uint8)
    picture[row[order], column[order], :3] = colors[order]
    picture[row, column, 3] = 150  # pale, so that outlines and names stand out
    extent = (low[0], low[0] + width * cell, low[1], low[1] + height * cell)
    ax.imshow(picture, origin="lower", extent=extent, zorder=1, interpolation="nearest")
    return True


def _draw_free(ax: "Axes", grid: Occupancy) -> None:
    """Shades the free cells."""
    height, width = grid.free.shape
    shade = np.zeros((height, width, 4))
    shade[grid.free] = (0.18, 0.62, 0.42, 0.22)
    (x, y), cell = grid.origin, grid.cell_m
    ax.imshow(shade, origin="lower", extent=(x, x + width * cell, y, y + height * cell), zorder=3, interpolation="none")


def _draw_graph(ax: "Axes", scene: Scene, graph: "SceneGraph", highlight: Collection[int]) -> None:
    """Support as dark lines with a dot on the thing held, neighbours as thin dotted lines; between highlighted: all."""
    for edge in graph.edges:
        relation = str(edge.relation.value)
        for other in edge.objects:
            if other < 0 or not {graph.labels[edge.subject], graph.labels[other]}.isdisjoint(UNLABELLED):
                continue
            a, b = scene.objects[edge.subject].box[:2], scene.objects[other].box[:2]
            if relation in SUPPORT_RELATIONS:
                ax.plot([a[0], b[0]], [a[1], b[1]], color=INK, linewidth=1.0, zorder=7)
                ax.plot(*a, "o", markersize=3.2, color=INK, zorder=7)
            elif relation in ("next to", "besides", "adjacent to") and edge.subject < other:
                ax.plot([a[0], b[0]], [a[1], b[1]], color=PATH, linewidth=0.9, linestyle=":", zorder=6.5)
            elif edge.subject in highlight and other in highlight:
                arrow = {"arrowstyle": "-|>", "color": ACCENT, "linewidth": 1.4, "connectionstyle": "arc3,rad=0.18"}
                ax.annotate("", xy=tuple(b), xytext=tuple(a), arrowprops=arrow, zorder=8.5)


def map_limits(scene: Scene) -> Window:
    """Lower left and upper right corner of a map: all rooms and things, a scan's points, and a margin; metres.

    Raises:
        InputError: the scene has neither rooms nor objects.
    """
    points = [np.asarray(room.polygon, dtype=float) for room in scene.rooms]
    if scene.objects:
        points.append(footprint(scene.boxes).reshape(-1, 2))
    if not points:
        raise InputError(f"scene {scene.id} has neither rooms nor objects to draw")
    if not scene.rooms and scene.points is not None and len(scene.points):
        points.append(np.asarray(scene.points[:, :2], dtype=float))
    every = np.concatenate(points)
    return every.min(axis=0) - MARGIN_M, every.max(axis=0) + MARGIN_M


def window_around(scene: Scene, ids: Collection[int]) -> Window:
    """The part of a map that shows these things whole, with their surroundings."""
    corners = footprint(scene.boxes[sorted(ids)]).reshape(-1, 2)
    low, high = map_limits(scene)
    return np.maximum(corners.min(axis=0) - AROUND_M, low), np.minimum(corners.max(axis=0) + AROUND_M, high)


def _frame(ax: "Axes", window: Window) -> None:
    """Limits of the map, equal axes in metres."""
    (x0, y0), (x1, y1) = window
    ax.set_aspect("equal")
    ax.set_xlim(x0, x1), ax.set_ylim(y0, y1)
    ax.set_xlabel("x (m)", fontsize=9), ax.set_ylabel("y (m)", fontsize=9)
    ax.tick_params(labelsize=FONT_PT, length=3, color=WALL)
    ax.xaxis.set_major_locator(_whole_metres(x1 - x0 - 2 * MARGIN_M))
    ax.yaxis.set_major_locator(_whole_metres(y1 - y0 - 2 * MARGIN_M))
    for side in ax.spines.values():
        side.set_visible(False)


def _whole_metres(extent_m: float) -> Any:
    from matplotlib.ticker import MultipleLocator

    return MultipleLocator(1.0 if extent_m <= 12 else 2.0 if extent_m <= 24 else 5.0)


def _draw_viewer(ax: "Axes", yaw_rad: float) -> None:
    """An arrow beside the map: where the viewer of "left of" and "behind" looks."""
    direction = 14 * np.array([np.cos(yaw_rad), np.sin(yaw_rad)])  # points on paper
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.4}
    middle = np.array([10.0, -46.0])
    tip, tail = tuple(middle + 0.5 * direction), tuple(middle - 0.5 * direction)
    ax.annotate("", xy=tip, xytext=tail, xycoords=_corner(ax), textcoords=_corner(ax), arrowprops=arrow)
    ax.annotate("viewer looks this way", xy=(24, -46), xycoords=_corner(ax), fontsize=FONT_PT, color=INK, va="center")


def _corner(ax: "Axes") -> Any:
    """Coordinates for annotate: points right of and above the lower left corner of the axes."""
    from matplotlib.transforms import Affine2D

    def transform(renderer: Any) -> Any:
        box = ax.get_window_extent(renderer)
        return Affine2D().scale(renderer.points_to_pixels(1.0)).translate(box.x0, box.y0)

    return transform


def _name_things(labels: Labels, scene: Scene, drawn: list[SceneObject], highlight: Mapping[int, str]) -> None:
    """Names on things, the large first: within their rooms and along their longer sides where that helps.

    Args:
        highlight: id -> colour of the things that are named whatever their size.
    """
    step = 0.5 * labels.line_height(FONT_PT)
    polygons = [np.asarray(room.polygon, dtype=float) for room in scene.rooms]

    def hangs(item: SceneObject) -> bool:
        return min(item.box[3:5]) < FLAT_M

    for item in sorted(drawn, key=lambda item: (hangs(item), -float(item.box[3] * item.box[4]))):
        chosen = item.id in highlight
        high = item.box[2] - item.box[5] / 2 > HIGH_M
        if not chosen and (max(item.box[3:5]) < LABEL_SIZE_M or high or item.label in UNLABELLED):
            continue
        small = hangs(item) and not chosen
        length = 0.9 * step * len(item.label)  # about
        wide, deep = np.ptp(footprint(item.box[None])[0], axis=0)
        style: dict[str, Any] = {
            "fontsize": FONT_PT,
            "color": highlight[item.id] if chosen else FAINT if small else INK,
            "fontweight": "bold" if chosen else "normal",
            "rotation": 90 if not small and wide < length < deep else 0,
        }
        reach = 0.5 * float(max(item.box[3:5])) + 0.15
        here = [room for room in polygons if contains(room, item.box[None, :2])[0]]
        aside = around(item.box[:2], max(reach, 0.5 * length), 0.5 * step)
        if small or not here or not labels.put(item.label, aside, inside=here[0], **style):
            labels.put(item.label, around(item.box[:2], reach, step), must=chosen, **style)


def _name_rooms(labels: Labels, scene: Scene, drawn: list[SceneObject]) -> None:
    """Names of rooms where floor shows."""
    if drawn:
        extent = footprint(scene.boxes)
        labels.taken += [
            (*extent[item.id].min(axis=0), *extent[item.id].max(axis=0)) for item in drawn if item.label != "rug"
        ]
    (x0, x1), (y0, y1) = labels.ax.get_xlim(), labels.ax.get_ylim()
    for room in scene.rooms:
        polygon = np.asarray(room.polygon, dtype=float)
        places = [(x, y) for x, y in roomy_places(polygon) if x0 < x < x1 and y0 < y < y1]
        style: dict[str, Any] = {"fontsize": FONT_PT, "color": FAINT, "fontweight": "bold"}
        labels.put(room.kind.upper(), places, inside=polygon, **style)
