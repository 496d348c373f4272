"""A report as one self-contained HTML file: text, tables, figures and videos, nothing fetched from anywhere."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { --ink: #1d2430; --soft: #5b6575; --line: #dfe3ea; --paper: #ffffff; --ground: #f5f6f8; --accent: #2457a7; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 32px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 21px; margin: 0 0 6px; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 24px;
          margin-top: 24px; }
p { margin: 0 0 14px; max-width: 76ch; }
.lead { color: var(--soft); margin-bottom: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 15px; margin-bottom: 14px; }
th, td { text-align: left; padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.group td { font-weight: 600; padding-top: 16px; border-bottom-color: var(--ink); }
figure { margin: 0 0 8px; }
figure img { max-width: 100%; max-height: 640px; height: auto; display: block; object-fit: contain;
             object-position: left; }
figcaption { color: var(--soft); font-size: 14px; margin-top: 6px; max-width: 80ch; }
.grid figure img { max-height: 330px; max-width: 100%; width: auto; margin: 0 auto; }
.grid { display: grid; margin-bottom: 18px; align-items: end;
        grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 18px; }
.grid.two { grid-template-columns: repeat(auto-fill, minmax(440px, 1fr)); }
video { width: 100%; border-radius: 6px; background: #000; display: block; }
code { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--ground); padding: 1px 5px;
       border-radius: 4px; overflow-wrap: anywhere; }
.hit { color: #1b7a3d; font-weight: 600; } .miss { color: #b3261e; font-weight: 600; }
nav { display: flex; flex-wrap: wrap; gap: 6px 18px; margin-top: 18px; font-size: 15px; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
"""


def text(value: object) -> str:
    """`value` with HTML's special characters escaped."""
    return html.escape(str(value))


def figure_html(figure: "Figure", alt: str, caption: str = "", dpi: int = 150) -> str:
    """A matplotlib figure embedded as PNG; the figure is closed."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", bbox_inches="tight", pad_inches=0.08)
    plt.close(figure)
    return image_html(buffer.getvalue(), alt, caption, width=int(figure.get_figwidth() * 100))


def image_html(png: bytes, alt: str, caption: str = "", width: int | None = None) -> str:
    """A PNG embedded in the page, shown at most `width` CSS pixels wide."""
    size = f' width="{width}"' if width else ""
    data = base64.b64encode(png).decode()
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f'<figure><img{size} alt="{text(alt)}" src="data:image/png;base64,{data}">{below}</figure>'


def video_html(path: Path, caption: str) -> str:
    """An H.264 file embedded so that it plays in the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><video controls loop muted playsinline preload="metadata" aria-label="{text(caption)}" '
        f'src="data:video/mp4;base64,{data}"></video><figcaption>{text(caption)}</figcaption></figure>'
    )


def table_html(header: Sequence[str], rows: Sequence[Sequence[str] | str], numbers: Sequence[int] = ()) -> str:
    """A table; a row given as one string is a group heading. `numbers` are the right-aligned columns."""
    kind = ["number" if column in numbers else "" for column in range(len(header))]
    parts = ["<tr>" + "".join(f'<th class="{k}">{text(h)}</th>' for k, h in zip(kind, header)) + "</tr>"]
    for row in rows:
        if isinstance(row, str):
            parts.append(f'<tr class="group"><td colspan="{len(header)}">{text(row)}</td></tr>')
        else:
            parts.append("<tr>" + "".join(f'<td class="{k}">{text(cell)}</td>' for k, cell in zip(kind, row)) + "</tr>")
    return f'<div class="scroll"><table>{"".join(parts)}</table></div>'


def section(title: str, *blocks: str) -> str:
    """One card of the page, reachable from the contents line."""
    return f'<section id="{_anchor(title)}"><h2>{text(title)}</h2>{"".join(blocks)}</section>'


def page_html(title: str, lead: str, sections: Sequence[tuple[str, Sequence[str]]], style: str = "") -> str:
    """The whole page: a heading, a line on what it is, links to the sections, and one card each.

    Args:
        lead: plain text.
        sections: title of a card, and its blocks of HTML.
        style: CSS rules of this page alone, after the common ones.
    """
    links = "".join(f'<a href="#{_anchor(name)}">{text(name)}</a>' for name, _ in sections)
    cards = "".join(section(name, *blocks) for name, blocks in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}{style}</style></head><body><main>"
        f'<h1>{text(title)}</h1><p class="lead">{text(lead)}</p><nav>{links}</nav>{cards}</main></body></html>'
    )


def write_page(path: Path, title: str, lead: str, sections: Sequence[tuple[str, Sequence[str]]]) -> Path:
    """Write the page atomically and return its absolute path."""
    atomic_write(path, page_html(title, lead, sections))
    return path.absolute()


def _anchor(title: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in title.lower()).strip("-")
