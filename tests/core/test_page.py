import re
import subprocess

import numpy as np
import pytest
from matplotlib.figure import Figure

from agents.episode_video import write_mp4
from core.page import figure_html, table_html, video_html, write_page


def test_the_page_holds_everything_itself_and_escapes_what_it_shows(tmp_path):
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"not really a film")
    page = write_page(
        tmp_path / "report.html",
        "Title & more",
        "lead",
        [
            ("A figure", [figure_html(figure, "a line")]),
            ("A film", [video_html(clip, "find <the chair>")]),
            ("A table", [table_html(["name", "value"], ["group", ["<b>", "1"]], numbers=[1])]),
        ],
    )
    html = page.read_text()
    assert "<b>" not in html and "find &lt;the chair&gt;" in html and "Title &amp; more" in html
    sources = re.findall(r'(?:src|href)="([^"]{0,24})', html)
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    for anchor in re.findall(r'href="#([^"]+)"', html):
        assert f'id="{anchor}"' in html


@pytest.mark.browser
def test_a_video_plays_in_a_browser(tmp_path, chromium):
    shades = [np.full((48, 64, 3), value, dtype=np.uint8) for value in range(0, 250, 25)]
    clip = write_mp4(tmp_path / "clip.mp4", shades, 5)
    page = write_page(tmp_path / "report.html", "Title", "lead", [("Film", [video_html(clip, "shades")])])
    script = (
        "<script>const v = document.querySelector('video');"
        "v.onloadeddata = () => { document.title = `${v.videoWidth}x${v.videoHeight} ${v.duration}` }</script>"
    )
    page.write_text(page.read_text().replace("</body>", script + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    shown = subprocess.run(
        [chromium, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", "--dump-dom",
         page.as_uri()], capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip
    assert "<title>64x48 2</title>" in shown, re.findall("<title>.*?</title>", shown)
