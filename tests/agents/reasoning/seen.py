"""Pictures of homes written down by hand: what they show, without drawing anything."""

import numpy as np

from agents.reasoning.question_views import Thing, View


def thing(id, label, color="", column=0.5, *, clear=None, sure=True, distance_m=2.0, width=10):
    """A thing 10 pixels wide and high whose middle is at `column` of 64 pixels."""
    left = round(64 * column) - width // 2
    clear = bool(color) if clear is None else clear
    box = (left, 20, left + width, 30)
    return Thing(id, label, color, clear, sure, width * 10, 1.0 if sure else 0.1, box, column, distance_m, distance_m)


def view(*things, name="home-00"):
    """A picture of 64 x 64 pixels."""
    return View(name, name.partition("-")[0], np.zeros((64, 64, 3), np.uint8), list(things))


def told(asked):
    """Words and answers, without the pictures' places."""
    return {one.sample.prompt.replace("<picture> ", ""): one.sample.answer for one in asked}
