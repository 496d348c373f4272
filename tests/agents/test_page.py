import re

from matplotlib.figure import Figure

from agents.page import figure_html, table_html, video_html, write_page


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
