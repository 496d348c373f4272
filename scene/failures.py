"""Pictures of what a grounding model got wrong: the sentence, a map with what was meant and what was chosen, and both.

What is meant is blue, what was chosen orange, what is both green; other things of the class have a dashed gray outline.
Every one of them carries its name, and the words say the same as the colours. Things of the room that are not marked
are named where there is place. Where the scene can be drawn, a picture of each of the two stands beside the map
(scene/crops.py).
"""

import io
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from core.errors import InputError
from core.page import image_html
from scene.crops import ObjectViews
from scene.draw import (
    AROUND_M,
    FAINT,
    FONT_PT,
    INK,
    LABEL_SIZE_M,
    MARGIN_M,
    PAPER,
    UNLABELLED,
    Window,
    draw_map,
    map_limits,
    window_around,
)
from scene.english import plural
from scene.geometry import footprint
from scene.labels import Area, Labels
from scene.parse import readings
from scene.support import room_of_objects
from scene.types import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEANT, CHOSEN, BOTH, OTHER = "#1257c4", "#d9540b", "#1b7a3d", "#5b6575"
DPI: Final = 120
WIDTH_IN: Final = 10.4
MAP_IN: Final = (3.4, 6.4)  # least and most height of the map
FOOT_IN: Final = 0.95  # below the map: metres, and where the viewer looks
PICTURE_PX: Final = 300
SENTENCE_PT: Final = 14.0
SENTENCE_CHARACTERS: Final = 78  # of a line
SENTENCE_LINES: Final = 4  # longer ones end in dots
PER_SCENE: Final = 2  # of a sheet's pictures, at most


@dataclass(frozen=True)
class Failure:
    """One wrong answer."""

    scene_id: str
    sentence: str
    targets: tuple[int, ...]  # object ids; none when nothing is meant
    predictions: tuple[int, ...]  # none when the model says that nothing is
    margin: float = 0.0  # by how much the wrong answer won, in whatever the model scores
    kind: str = ""  # of the sentence
    room: int = -1  # which the sentence is about, in homes that are spoken of room by room


def draw_failure(
    scene: Scene,
    target: int | Collection[int],
    prediction: int | Collection[int],
    distractors: Collection[int] | None,
    sentence: str,
    *,
    room: int = -1,
    studio: ObjectViews | None = None,
) -> bytes:
    """The picture of one wrong answer, as PNG.

    Args:
        target: id of what was meant; several, or none.
        prediction: id of what was chosen; several, or none.
        distractors: ids of the others that could have been meant; None = all of the class, in the room if there is one.
        room: the room to show; -1 = that of the target, or everything in a scene without rooms.
        studio: takes the pictures beside the map, where many failures are of one scene; None = one is made here.

    Raises:
        InputError: an id that the scene does not have, or a scene without objects.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    targets, predictions = _ids(target), _ids(prediction)
    wrong = [i for i in (*targets, *predictions, *(distractors or ())) if not 0 <= i < len(scene.objects)]
    if wrong:
        raise InputError(f"scene {scene.id} has objects 0..{len(scene.objects) - 1}, there is no object {wrong[0]}")
    if not scene.objects:
        raise InputError(f"scene {scene.id} has no objects to draw")
    room = _room(scene, room, (*targets, *predictions))
    understood = [reading.query for reading in readings(sentence, scene.labels)[:1]]
    if distractors is None:
        named = [item.id for item in scene.objects if [item.label] == [query.noun.label for query in understood]]
        others = same_class(scene, targets or named or predictions, room)
    else:
        others = list(distractors)
    others = [i for i in others if i not in targets and i not in predictions]
    window = _window(scene, room, (*targets, *predictions, *others))
    lines = _lines(sentence)
    pictures = _pictures(scene, targets, predictions, studio)

    wide, tall = window[1] - window[0]
    map_width = WIDTH_IN * (0.68 if pictures else 0.96)
    height = float(np.clip((map_width - 0.5) * tall / wide, *MAP_IN)) + FOOT_IN + 0.1
    head = 0.34 + 0.29 * len(lines) + 0.3
    figure = Figure(figsize=(WIDTH_IN, height + head), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    total = height + head
    for row, line in enumerate(lines):
        y = 1 - (0.30 + 0.29 * row) / total
        figure.text(0.02, y, line, fontsize=SENTENCE_PT, color=INK, va="center", fontweight="bold")
    _key(figure, 1 - (0.34 + 0.29 * len(lines)) / total, scene, targets, predictions, others)
    ax = figure.add_axes((0.06, FOOT_IN / total, map_width / WIDTH_IN - 0.06, (height - FOOT_IN - 0.1) / total))
    said = {noun.label for query in understood for noun in query.nouns()}
    _draw_map(ax, scene, room, window, targets, predictions, others, said)
    side = min(0.29 * WIDTH_IN, (height - 0.4) / 2 - 0.3)
    for row, picture in enumerate(pictures):
        bottom = (height + 0.1 - (row + 1) * (side + 0.34)) / total
        frame = figure.add_axes((1 - 0.015 - side / WIDTH_IN, bottom, side / WIDTH_IN, side / total))
        _draw_picture(frame, *picture)
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor="white")
    return file.getvalue()


def worst(failures: Iterable[Failure], count: int = 12) -> list[Failure]:
    """Those that won by the most; at most PER_SCENE of a scene, and the kinds of sentences in turn."""
    ordered = sorted(failures, key=lambda f: (-f.margin, f.scene_id, f.sentence))
    of_scene: dict[str, int] = {}
    of_kind: dict[str, int] = {}
    kept: list[tuple[int, int, Failure]] = []
    for place, failure in enumerate(ordered):
        of_scene[failure.scene_id] = of_scene.get(failure.scene_id, 0) + 1
        if of_scene[failure.scene_id] <= PER_SCENE:
            of_kind[failure.kind] = of_kind.get(failure.kind, 0) + 1
            kept.append((of_kind[failure.kind], place, failure))
    return [failure for *_, failure in sorted(kept, key=lambda item: item[:2])[:count]]


def failures_html(failures: Sequence[Failure], load: Callable[[str], Scene]) -> list[str]:
    """Pictures of failures as blocks for a card of core/page.py, one scene in memory at a time.

    Args:
        load: the scene of an id.
    """
    if not failures:
        return ["<p>No sentence was answered wrongly.</p>"]
    pictures: dict[int, bytes] = {}
    for scene_id in dict.fromkeys(failure.scene_id for failure in failures):
        scene = load(scene_id)
        studio = _studio(scene)
        for index, item in enumerate(failures):
            if item.scene_id == scene_id:
                pictures[index] = draw_failure(
                    scene, item.targets, item.predictions, None, item.sentence, room=item.room, studio=studio
                )
    blocks = []
    for index, item in enumerate(failures):
        caption = ", ".join(filter(None, [item.scene_id, f"kind {item.kind}" if item.kind else "", _won(item)]))
        blocks.append(image_html(pictures[index], f"wrong answer to: {item.sentence}", caption, width=900))
    return blocks


def same_class(scene: Scene, ids: Collection[int], room: int = -1) -> list[int]:
    """Ids of all things of the classes of `ids`, of one room where `room` says which."""
    labels = {scene.objects[i].label for i in ids}
    rooms = room_of_objects(scene)
    return [item.id for item in scene.objects if item.label in labels and (room < 0 or rooms[item.id] == room)]


def _won(item: Failure) -> str:
    return f"wrong by {item.margin:.2g}" if item.margin else ""


def _ids(value: int | Collection[int]) -> tuple[int, ...]:
    return (int(value),) if isinstance(value, int | np.integer) else tuple(int(i) for i in value)


def _lines(sentence: str) -> list[str]:
    lines = textwrap.wrap(f"“{sentence.strip()}”", SENTENCE_CHARACTERS) or ["“”"]
    if len(lines) > SENTENCE_LINES:
        lines = [*lines[: SENTENCE_LINES - 1], lines[SENTENCE_LINES - 1][: SENTENCE_CHARACTERS - 2] + " …”"]
    return [line.replace("$", r"\$") for line in lines]  # no formulas


def _room(scene: Scene, room: int, ids: Sequence[int]) -> int:
    """The room to show: the one asked for, or that of the first of `ids`."""
    if room >= 0 or not scene.rooms or not ids:
        return room if room < len(scene.rooms) else -1
    return int(room_of_objects(scene)[ids[0]])


def _window(scene: Scene, room: int, ids: Sequence[int]) -> Window:
    """The room and everything marked, whole."""
    if not scene.rooms and ids:
        (low, high), (lowest, highest) = window_around(scene, ids), map_limits(scene)
        return np.maximum(low - AROUND_M, lowest), np.minimum(high + AROUND_M, highest)  # a scan: the neighbourhood
    low, high = map_limits(scene)
    if room >= 0:
        polygon = np.asarray(scene.rooms[room].polygon, dtype=float)
        corners = np.concatenate([polygon, *(footprint(scene.boxes[[i]])[0] for i in ids)])
        low, high = corners.min(axis=0) - MARGIN_M, corners.max(axis=0) + MARGIN_M
    return low, high


def _name(scene: Scene, i: int) -> str:
    item = scene.objects[i]
    return " ".join(filter(None, [item.attributes.get("color", ""), item.label]))


def _draw_map(
    ax: "Axes",
    scene: Scene,
    room: int,
    window: Window,
    targets: Sequence[int],
    predictions: Sequence[int],
    others: Sequence[int],
    said: Collection[str],
) -> None:
    """The map with outlines, and names on everything marked; the rest is named where there is place.

    Args:
        said: classes that the sentence names: theirs come before other names, small things included.
    """
    from matplotlib.patches import Polygon

    rooms = room_of_objects(scene)
    marked = {*targets, *predictions, *others}
    drawn = [item for item in scene.objects if item.id in marked or room < 0 or rooms[item.id] in (room, -1)]
    draw_map(ax, scene, labels=False, window=window, objects={item.id for item in drawn})
    ax.set_xlabel("metres", fontsize=FONT_PT, color=FAINT), ax.set_ylabel("")
    ax.set_anchor("NW")
    corners = footprint(scene.boxes)
    marks = dict.fromkeys(targets, ("meant: ", MEANT)) | dict.fromkeys(predictions, ("chosen: ", CHOSEN))
    marks |= {i: ("both: ", BOTH) for i in targets if i in predictions} | dict.fromkeys(others, ("", OTHER))
    for i, (_, color) in marks.items():
        dashed: Any = (0, (3, 1.6)) if color == OTHER else "-"
        for width, ink, style in ((5.4, PAPER, "-"), (2.0 if color == OTHER else 3.2, color, dashed)):
            ax.add_patch(
                Polygon(corners[i], closed=True, fill=False, edgecolor=ink, linewidth=width, linestyle=style, zorder=8)
            )
    texts = Labels(ax)
    step = 0.5 * texts.line_height(FONT_PT)
    areas = {i: (*corners[i].min(axis=0), *corners[i].max(axis=0)) for i in marks}
    written: list[Area] = []

    def put(i: int, text: str, size_pt: float, **style: Any) -> None:
        """Beside its thing where it does not fit on it, off the other marked things."""
        texts.taken = [*written, *(area for k, area in areas.items() if k != i)]
        length = 0.78 * step * len(text) * size_pt / FONT_PT
        if texts.put(text, _beside(corners[i], length, step), fontsize=size_pt, **style):
            x0, y0, x1, y1 = texts.taken[-1]
            written.append((x0 - 0.5 * step, y0, x1 + 0.5 * step, y1))  # two words in a row need a space

    for i, (word, color) in marks.items():
        size_pt = FONT_PT + (0.0 if color == OTHER else 1.0)
        put(i, word + _name(scene, i), size_pt, must=True, color=color, fontweight="bold")
    for item in sorted(drawn, key=lambda item: (item.label not in said, -float(item.box[3] * item.box[4]))):
        inside = bool((item.box[:2] > window[0]).all() and (item.box[:2] < window[1]).all())
        large = max(item.box[3:5]) >= LABEL_SIZE_M and item.label not in UNLABELLED
        if item.id not in marks and inside and (large or item.label in said):
            put(item.id, _name(scene, item.id), FONT_PT, color=INK if item.label in said else FAINT)


def _beside(corners: Float[ndarray, "4 2"], length: float, step: float) -> list[tuple[float, float]]:
    """Places for the middle of a text: on its thing if that is wider than the text, then around it, ever farther."""
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    x, y = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
    places = [(x, y)] if x1 - x0 > length and y1 - y0 > 2 * step else []
    for away in (1.2 * step, 3.2 * step, 5.4 * step):
        side = 0.5 * length + away
        for shift in (0.0, 0.3 * length, -0.3 * length):
            places += [(x + shift, y1 + away), (x + shift, y0 - away)]
        places += [(x1 + side, y), (x0 - side, y)]
    return places


def _key(
    figure: Any, y: float, scene: Scene, targets: Sequence[int], predictions: Sequence[int], others: Sequence[int]
) -> None:
    """A line under the sentence that says what the colours mean."""
    from matplotlib.patches import Patch

    labels = sorted({scene.objects[i].label for i in others})
    labels = labels if len(others) == 1 else [plural(label) for label in labels]
    both = any(i in predictions for i in targets)
    shown: list[tuple[str, str, Any]] = [
        (MEANT if targets else PAPER, "meant" if targets else "nothing is meant", "-"),
        (CHOSEN if predictions else PAPER, "chosen" if predictions else "nothing was chosen", "-"),
        *([(BOTH, "meant and chosen", "-")] if both else []),
        *([(OTHER, f"other {' and '.join(labels)}: {len(others)}", (0, (3, 1.6)))] if others else []),
    ]
    handles = [
        Patch(facecolor="none", edgecolor=ink, linewidth=2, linestyle=style, label=text) for ink, text, style in shown
    ]
    place = {"loc": "upper left", "bbox_to_anchor": (0.012, y + 0.02), "ncol": 4, "frameon": False}
    figure.legend(handles=handles, fontsize=9.5, handlelength=1.4, columnspacing=1.6, **place)


def _studio(scene: Scene) -> ObjectViews | None:
    """Whoever takes pictures of its objects; None where the scene has nothing to draw."""
    try:
        return ObjectViews(scene, views=1, size=PICTURE_PX)
    except InputError:
        return None


def _pictures(
    scene: Scene, targets: Sequence[int], predictions: Sequence[int], studio: ObjectViews | None
) -> list[tuple[str, str, UInt8[ndarray, "H W 3"], Bool[ndarray, "H W"]]]:
    """One thing that was meant and one that was chosen, wrong ones first: title, colour, picture, where it is in it."""
    studio = studio or _studio(scene)
    if studio is None:
        return []
    found = []
    for word, color, ids, right in (("meant", MEANT, targets, predictions), ("chosen", CHOSEN, predictions, targets)):
        for i in sorted(ids, key=lambda i: i in right)[:1]:
            rgb, instance, hidden = studio.look(i)
            found.append((f"{word}{' (hidden)' if hidden else ''}: {_name(scene, i)}", color, rgb[0], instance[0] == i))
    return found


def _draw_picture(ax: "Axes", title: str, color: str, rgb: UInt8[ndarray, "H W 3"], own: Bool[ndarray, "H W"]) -> None:
    """A picture in the colour of its role, the thing outlined."""
    height, width = own.shape
    ax.imshow(rgb, interpolation="lanczos", extent=(0, width, height, 0))
    if own.any() and not own.all():
        where = (np.arange(-1, width + 1) + 0.5, np.arange(-1, height + 1) + 0.5)
        for ink, size in ((PAPER, 3.2), (color, 1.6)):
            ax.contour(*where, np.pad(own.astype(float), 1), levels=[0.5], colors=[ink], linewidths=size)
    ax.set_xlim(0, width), ax.set_ylim(height, 0)
    ax.set_xticks([]), ax.set_yticks([])
    ax.set_title(title, fontsize=9.5, color=color, fontweight="bold", loc="left", pad=4)
    for edge in ax.spines.values():
        edge.set(edgecolor=color, linewidth=2.4)
