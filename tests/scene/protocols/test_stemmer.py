"""Stems of the published sample vocabulary (snowballstem.org/algorithms/english/stemmer.html) and of homes."""

import pytest

from scene.protocols.stemmer import stem

SAMPLE = """
consign-consign consigned-consign consignment-consign consistency-consist consolation-consol
consolatory-consolatori consoled-consol conspicuously-conspicu conspiracy-conspiraci constable-constabl
constancy-constanc knackeries-knackeri knavish-knavish kneaded-knead kneeling-kneel knightly-knight
knitted-knit knives-knive knocker-knocker knots-knot
"""
RULES = """
generate-generat communism-communism skies-sky dying-die news-news ties-tie cries-cri gas-gas this-this
kiwis-kiwi caresses-caress hopping-hop hoped-hope luxuriated-luxuri agreed-agre feed-feed sing-sing say-say
by-by cry-cri relational-relat vietnamization-vietnam hopefulness-hope analogy-analog quickly-quick fly-fli
formative-format adoption-adopt controlling-control rate-rate probate-probat chair's-chair shelves-shelv
cabinets-cabinet wooden-wooden rectangular-rectangular yellowish-yellowish
"""


@pytest.mark.parametrize("pair", (SAMPLE + RULES).split())
def test_a_word_has_its_published_stem(pair: str):
    word, expected = pair.split("-")
    assert stem(word) == expected
