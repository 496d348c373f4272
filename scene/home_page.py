"""One home on one page: plan, views, texts and objects; a text under the pointer marks its objects on the plan."""

import html
import io
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from core.page import image_html, page_html, text
from scene.graph import SceneGraph
from scene.relations import SYNONYMS
from scene.said import Said, pieces
from scene.types import Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SURFACES: Final = {-1: "the floor", -2: "a wall", -3: "the ceiling"}
STYLE: Final = """
.plan svg { max-width: 100%; height: auto; display: block; }
.plan [id^="object-"] path { cursor: pointer; }
.plan .shown-target path { stroke: #e0218a !important; stroke-width: 3 !important; fill-opacity: .55; }
.plan .shown-anchor path { stroke: #1f6feb !important; stroke-width: 3 !important; fill-opacity: .55; }
.target { color: #c0136f; font-weight: 600; } .anchor { color: #1f5fd0; font-weight: 600; }
.texts { list-style: none; margin: 0 0 14px; padding: 0; }
.texts li { padding: 5px 8px; border-bottom: 1px solid var(--line); border-radius: 4px; }
.texts small, h3 small { color: var(--soft); margin-left: 10px; font-weight: 400; }
h3 { font-size: 16px; margin: 14px 0 4px; }
[data-targets]:hover, [data-targets]:focus { background: #fff3f9; outline: none; }
.wide { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 24px; align-items: start; }
.wide .plan { position: sticky; top: 12px; } .wide .list { max-height: 86vh; overflow-y: auto; }
@media (max-width: 900px) { .wide { display: block; } }
main { max-width: 1320px; }
.swatch { display: inline-block; width: 13px; height: 13px; border: 1px solid #0003; border-radius: 3px;
          vertical-align: -2px; margin-right: 6px; }
"""
SCRIPT: Final = """
const plan = document.querySelector('.plan svg');
function mark(ids, role) {
  for (const id of ids) {
    const thing = document.getElementById('object-' + id);
    if (!thing) continue;
    const copy = thing.cloneNode(true);
    copy.removeAttribute('id');
    copy.setAttribute('class', 'shown shown-' + role);
    thing.parentNode.appendChild(copy);
  }
}
function clear() { document.querySelectorAll('.plan .shown').forEach(copy => copy.remove()); }
for (const row of document.querySelectorAll('[data-targets]')) {
  const show = () => {
    clear();
    mark(JSON.parse(row.dataset.anchors), 'anchor');
    mark(JSON.parse(row.dataset.targets), 'target');
  };
  row.tabIndex = 0;
  for (const name of ['mouseenter', 'focus']) row.addEventListener(name, show);
  for (const name of ['mouseleave', 'blur']) row.addEventListener(name, clear);
}
"""


def home_page(
    scene: Scene,
    graph: SceneGraph | None,
    plan: "Figure",
    views: Sequence[tuple[bytes, str]],
    texts: Sequence[Said],
    notes: Sequence[str] = (),
) -> str:
    """The page as HTML text; nothing in it is fetched from anywhere.

    Args:
        graph: for what each thing rests on; None where the scene has no objects.
        plan: a figure of `draw_map`.
        views: PNG and caption of each.
        notes: what is missing and why, one sentence each.
    """
    kinds = ", ".join(room.kind for room in scene.rooms)
    lead = f"{len(scene.objects)} objects" + (f" in {kinds}" if kinds else "") + f"; source: {scene.source}."
    about = "".join(f"<p>{text(note)}</p>" for note in notes)
    hint = '<p>Point at a sentence or a row: its <span class="target">targets</span> and '
    hint += '<span class="anchor">anchors</span> are marked on the plan.</p>'
    listing = f'<div class="list">{_texts(texts, scene)}</div>'
    sections: list[tuple[str, Sequence[str]]] = [
        ("Plan and sentences", [about, hint, f'<div class="wide"><div class="plan">{svg(plan)}</div>{listing}</div>'])
    ]
    if views:
        pictures = "".join(image_html(png, caption) for png, caption in views)
        sections.append(("Views", [f'<div class="grid two">{pictures}</div>']))
    if graph is not None:
        sections.append(("Objects", [_objects(scene, graph)]))
    page = page_html(scene.id, lead, sections, STYLE)
    return page.replace("</body>", f"<script>{SCRIPT}</script></body>")


def svg(figure: "Figure") -> str:
    """A figure as SVG that stands in an HTML page; equal figures give equal bytes."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "sightline", "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)


def _row(targets: Sequence[int], anchors: Sequence[int]) -> str:
    return f'data-targets="{json.dumps(list(targets))}" data-anchors="{json.dumps(list(anchors))}"'


def _texts(texts: Sequence[Said], scene: Scene) -> str:
    groups: dict[str, list[Said]] = {}
    for item in texts:
        groups.setdefault(item.type, []).append(item)
    parts = []
    for name, members in groups.items():
        rows = []
        for item in members:
            words = "".join(
                f'<span class="{role}">{html.escape(words)}</span>' if role else html.escape(words)
                for words, role, _ in pieces(item, scene)
            )
            answer = f" <b>{html.escape(item.answer)}</b>" if item.answer else ""
            rows.append(f"<li {_row(item.targets, item.anchors)}>{words}{answer}<small>{text(item.kind)}</small></li>")
        parts.append(f'<h3>{name}s<small>{len(members)}</small></h3><ul class="texts">{"".join(rows)}</ul>')
    return "".join(parts) or "<p>There are no sentences about this home.</p>"


def _objects(scene: Scene, graph: SceneGraph) -> str:
    from scene.draw import object_color

    rows = []
    for item in scene.objects:
        rgb = ", ".join(f"{round(255 * value)}" for value in object_color(item, scene))
        named = item.attributes.get("color", "")
        room = int(graph.room[item.id])
        parent = int(graph.support_parent[item.id])
        contact = next((edge for edge in graph.edges_of(item.id) if edge.objects == (parent,)), None)
        rests = SURFACES[parent] if parent < 0 else f"{graph.labels[parent]} {parent}"
        word = SYNONYMS[contact.relation][0] if contact is not None else "on"
        size = " x ".join(f"{value:.2f}" for value in np.asarray(item.box[3:6]))
        cells = [
            f'<td class="number">{item.id}</td><td>{text(item.label)}</td>',
            f'<td><span class="swatch" style="background: rgb({rgb})"></span>{text(named)}</td>',
            f"<td>{text(scene.rooms[room].kind) if room >= 0 else ''}</td>",
            f'<td class="number">{size}</td><td>{text(word)} {text(rests)}</td>',
        ]
        rows.append(f"<tr {_row([item.id], [parent] if parent >= 0 else [])}>{''.join(cells)}</tr>")
    head = '<th class="number">id</th><th>class</th><th>colour</th><th>room</th><th class="number">size (m)</th>'
    return f'<div class="scroll"><table><tr>{head}<th>rests</th></tr>{"".join(rows)}</table></div>'
