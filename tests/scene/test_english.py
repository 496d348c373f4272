"""Number and article."""

from scene.english import counted, is_countable, is_plural, listed, number, plural, with_article
from scene.query import Noun


def test_articles_agree_with_the_next_word():
    assert with_article("armchair") == "an armchair" and with_article("red armchair") == "a red armchair"
    assert with_article(Noun("bed", "orange")) == "an orange bed" and with_article("utensil") == "a utensil"
    assert (
        with_article("keys") == "some keys" and with_article(Noun("toilet paper", "white")) == "some white toilet paper"
    )


def test_plurals_take_the_last_word():
    singular = [
        "chair",
        "bookshelf",
        "box",
        "bench",
        "dish",
        "battery",
        "tray",
        "butter knife",
        "potato",
        "tv",
        "person",
    ]
    several = ["chairs", "bookshelves", "boxes", "benches", "dishes", "batteries", "trays", "butter knives", "potatoes"]
    assert [plural(word) for word in singular] == [*several, "tvs", "people"]
    assert plural("keys") == "keys" and plural("bread") == "bread"


def test_pairs_and_masses_are_not_counted():
    assert is_plural("keys") and is_plural("car keys") and not is_plural("dress") and not is_plural("")
    assert not is_countable("keys") and not is_countable("bread") and is_countable("chair")
    assert (
        counted("chair", 1) == "a chair" and counted("chair", 2) == "two chairs" and counted("bread", 3) == "some bread"
    )


def test_numbers_are_words_up_to_twelve():
    assert [number(k) for k in (0, 1, 12, 13)] == ["zero", "one", "twelve", "13"]


def test_lists_end_in_and():
    assert listed(["a"]) == "a" and listed(["a", "b"]) == "a and b" and listed(["a", "b", "c"]) == "a, b and c"
