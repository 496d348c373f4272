"""Questions about pictures whose content is written down by hand."""

from agents.reasoning import questions as ask
from agents.reasoning.answers import extract
from agents.reasoning.rewards import check_samples
from tests.agents.reasoning.seen import thing, told, view

BED, LAMP = thing(0, "bed", "blue", 0.2, distance_m=1.0), thing(1, "floor lamp", "red", 0.8, distance_m=3.0)


def test_yes_needs_the_thing_and_no_that_nothing_could_be_taken_for_it():
    shown = view(BED, thing(2, "armchair", "green"), thing(3, "sofa", sure=False))
    nouns = [("bed", ""), ("bed", "blue"), ("bed", "red"), ("desk", ""), ("chair", ""), ("sofa", "")]
    assert told(ask.existence(shown, nouns)) == {
        "is there a bed in the picture?": "yes",
        "is there a blue bed in the picture?": "yes",
        "is there a red bed in the picture?": "no",
        "is there a desk in the picture?": "no",
    }  # an armchair could pass for a chair, and a few pixels of a sofa for a sofa


def test_a_count_is_asked_where_every_thing_of_the_kind_is_sure():
    chairs = [thing(k, "chair", "red", 0.2 + 0.2 * k) for k in range(3)]
    assert told(ask.count(view(*chairs), ["chair", "bed"])) == {
        "how many chairs are in the picture?": "3",
        "how many beds are in the picture?": "0",
    }
    assert told(ask.count(view(*chairs, thing(3, "chair", sure=False)), ["chair"])) == {}
    assert told(ask.count(view(*chairs, thing(3, "stool")), ["chair"])) == {}


def test_a_colour_is_asked_of_the_only_one_of_its_kind_where_the_pixels_show_it():
    asked = told(ask.color(view(BED, thing(1, "floor lamp", "red", clear=False), thing(2, "tv", "gray"))))
    assert asked == {"which color does the bed have?": "blue"}
    assert told(ask.color(view(BED, thing(1, "bed", "red")))) == {}


def test_sides_are_asked_in_both_orders_of_things_that_do_not_overlap():
    assert told(ask.left_or_right(view(BED, LAMP))) == {
        "is the bed left or right of the floor lamp?": "left",
        "is the floor lamp left or right of the bed?": "right",
    }
    assert told(ask.left_or_right(view(BED, thing(1, "tv", column=0.3)))) == {}


def test_things_of_one_kind_are_told_apart_by_their_colours_or_not_named():
    pair = thing(1, "chair", "red", 0.2), thing(2, "armchair", "green", 0.5)
    assert told(ask.left_or_right(view(BED, thing(3, "door", "white", 0.9)))) == {}  # doors are not asked about
    assert "is the red chair left or right of the floor lamp?" in told(ask.left_or_right(view(*pair, LAMP)))
    unclear = thing(2, "armchair", "green", 0.5, clear=False)
    assert told(ask.left_or_right(view(pair[0], unclear, LAMP))) == {}


def test_on_is_what_the_graph_says_where_it_can_be_noticed():
    desk = thing(0, "desk", "red", column=0.3, width=20)
    question = "is there anything on the desk?"
    assert told(ask.on_top(view(desk, thing(1, "mug", "blue", 0.3, sure=False)), [-1, 0])) == {question: "yes"}
    assert told(ask.on_top(view(desk, thing(1, "mug", "red", 0.3)), [-1, 0])) == {}  # red on red
    assert told(ask.on_top(view(desk, thing(1, "mug", "blue", 0.3, width=1)), [-1, 0])) == {}  # a few pixels
    assert told(ask.on_top(view(desk, thing(1, "mug", "blue", 0.3)), [-1, -1])) == {}  # behind it, seems to be on it
    assert told(ask.on_top(view(desk, thing(1, "mug", "blue", 0.9)), [-1, -1])) == {question: "no"}
    assert told(ask.on_top(view(thing(0, "countertop", "red")), [-1])) == {}


def test_nearer_takes_both_the_footprint_and_the_pixels():
    assert told(ask.nearer(view(BED, LAMP))) == {
        "which is nearer, the bed or the floor lamp?": "bed",
        "which is nearer, the floor lamp or the bed?": "bed",
    }
    close = thing(1, "floor lamp", "red", 0.8, distance_m=1.3)
    assert told(ask.nearer(view(BED, close))) == {}


def test_the_box_is_the_pixels_own():
    asked = list(ask.box(view(BED)))
    assert told(asked) == {"give the box of the bed as [x1, y1, x2, y2].": "[8, 20, 18, 30]"}
    assert asked[0].turn == "left"


def test_a_description_names_the_largest_things_from_left_to_right_and_each_name_once():
    small = [thing(9 + k, "mug", sure=False) for k in range(3)]
    asked = list(ask.describe(view(LAMP, BED, thing(5, "bed", BED.color, 0.4), *small)))
    names = [f"{BED.color} bed".strip(), f"{LAMP.color} floor lamp".strip()]
    assert told(asked) == {"what is in the picture?": ", ".join(names)}
    assert list(ask.describe(view(*small))) == []
    many = [thing(k, f"chair{k}", column=0.9 - 0.1 * k) for k in range(6)]
    assert told(ask.describe(view(*many))) == {"what is in the picture?": "chair3, chair2, chair1, chair0"}


def test_two_pictures_are_asked_about_in_both_orders():
    a = view(BED, thing(1, "chair", "red"), thing(2, "chair", "green"), name="home-00")
    b = view(thing(0, "bed", "blue", distance_m=3.0), thing(1, "chair", "red"), LAMP, name="home-01")
    asked = [(one.sample.pictures[0], one.sample.prompt[20:], one.sample.answer) for one in ask.two_views(a, b)]
    for words, first in (
        ("which picture shows a floor lamp, the first or the second?", "home-01.png"),
        ("which picture shows more chairs, the first or the second?", "home-00.png"),
        ("in which picture is the bed nearer, the first or the second?", "home-00.png"),
    ):
        found = {picture: answer for picture, question, answer in asked if question == words}
        assert found == {name: "first" if name == first else "second" for name in ("home-00.png", "home-01.png")}
    assert len(asked) == 6


def test_a_camera_that_turns_left_moves_things_to_the_right():
    before, after = view(thing(0, "bed", column=0.3)), view(thing(0, "bed", column=0.7), name="home-00t")
    assert [one.sample.answer for one in ask.turned(before, after, left=True)] == ["left", "right"]
    assert list(ask.turned(before, after, left=False)) == []  # the picture says otherwise: a thing cut by the edge


def test_the_worked_answer_ends_in_the_exact_one_and_every_answer_passes_its_check():
    shown, other = view(BED, LAMP), view(BED, name="home-01")
    asked = [*ask.existence(shown, [("bed", "")]), *ask.count(shown, ["bed"]), *ask.color(shown), *ask.box(shown)]
    asked += [*ask.left_or_right(shown), *ask.nearer(shown), *ask.two_views(shown, other), *ask.describe(shown)]
    samples = [one.sample for one in asked]
    check_samples(samples)
    assert [extract(sample.worked).text for sample in samples] == [sample.answer for sample in samples]
    assert all(extract(sample.worked).well_formed for sample in samples)
    assert len({sample.id for sample in samples}) == len(samples)
