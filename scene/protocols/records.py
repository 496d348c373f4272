"""What every protocol is made of: examples with their truth, and anybody's predictions for them.

A protocol is a file beside this one. It reads the benchmark's official annotation files into examples, says to which
rows of the published table each belongs, and measures predictions. No model is imported here: predictions come as data.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One sentence or question of a benchmark, with what is right."""

    id: str  # unique in its benchmark, made of the official ids: "scene0011_00|4|0"
    scene_id: str
    text: str  # what a model reads; situation and question of SQA3D as one text
    targets: tuple[int, ...] = ()  # indices into scene.objects; none for zero-target sentences and most questions
    boxes: tuple[tuple[float, ...], ...] = ()  # of the targets, 7 numbers each (core/conventions.py)
    answers: tuple[str, ...] = ()  # all that count as right; of questions
    groups: tuple[str, ...] = ()  # rows of the table it counts in, beside "overall"
    room: int = -1  # room it speaks of, in homes that are spoken of room by room
    pose: tuple[float, ...] = ()  # of situated questions, where the asker is: x, y, z in metres, yaw in radians


@dataclass(frozen=True)
class Prediction:
    """What a model said about the example of the same id."""

    id: str
    objects: tuple[int, ...] = ()  # indices into scene.objects, best first; of set protocols the whole set
    boxes: tuple[tuple[float, ...], ...] = ()  # instead of objects: 7 numbers each, best first
    scores: tuple[float, ...] = ()  # of the objects or boxes, same order; may be empty
    answers: tuple[str, ...] = ()  # best first
    pose: tuple[float, ...] = ()  # where it thinks the asker is, as in Example
