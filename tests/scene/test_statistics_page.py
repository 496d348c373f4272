"""Tests of scene/statistics_page.py: the page stands alone and shows every split."""

import re
from collections import Counter

import numpy as np
import pytest

from scene.statistics import Statistics
from scene.statistics_page import expected_vocabulary, statistics_page
from tests.scene.test_statistics import counted


def test_the_page_holds_every_split_and_plot_and_fetches_nothing():
    page = statistics_page({"train": counted(range(4)), "test": counted(range(4, 6))}, "Corpus <x>")
    assert "Corpus &lt;x&gt;" in page and '<td class="">train</td>' in page and "6 scenes, 36 objects" in page
    assert page.count("data:image/png;base64,") == 8
    sources = re.findall(r'(?:src|href)="([^"]{0,12})', page)
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    assert "house ... has no floor" in page and "Test and training" in page


def test_a_given_overlap_is_shown_instead_of_the_estimate():
    page = statistics_page(
        {"train": counted(range(2)), "test": counted(range(2, 3))}, "x", {"test": {"referral": 0.123}}
    )
    assert "12.3%" in page


def test_a_corpus_of_nothing_has_a_page():
    page = statistics_page({"train": Statistics()}, "nothing")
    assert "0 scenes" in page and "data:image" not in page


def test_the_expected_vocabulary_agrees_with_drawing():
    counts = Counter({"the": 50, "red": 6, "cube": 3, "pole": 1})
    rng = np.random.default_rng(0)
    shares = np.array([0.1, 0.5, 1.0])
    drawn = [np.mean([sum(rng.random(c).min() < share for c in counts.values()) for _ in range(2000)])
             for share in shares]  # fmt: skip
    assert expected_vocabulary(counts, shares) == pytest.approx(drawn, abs=0.06)
