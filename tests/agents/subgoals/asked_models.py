"""A model that answers as told, and a home to plan in; shared by the tests of asked plans and judges."""

import numpy as np

from scene.types import Room, Scene, SceneObject
from vl.generator import Failure, GeneratorCounts


class Scripted:
    """A generator that answers by `answer(prompt, pictures, number of the prompt)`."""

    identity = "model of a test"

    def __init__(self, answer):
        self.answer, self.counts = answer, GeneratorCounts()
        self.prompts, self.shown, self.sampling = [], [], []

    def generate(self, prompts, *, system="", max_tokens, temperature=0.0, seed=0, pictures=None):
        answers = []
        for i, prompt in enumerate(prompts):
            shown = [] if pictures is None else list(pictures[i])
            answers.append(self.answer(prompt, shown, len(self.prompts)))
            self.prompts.append(prompt)
            self.shown.append(shown)
            self.sampling.append((temperature, seed))
        self.counts.calls += len(prompts)
        self.counts.failures.update(answer.cause for answer in answers if isinstance(answer, Failure))
        return answers


def home(name="home", things=("bed", "chair", "chair"), rooms=("bedroom",)):
    """Things in the first of some rooms; the last thing is nowhere in particular."""
    box = np.array([1.0, 1, 0.5, 1, 1, 1, 0])
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
    last = len(things) - 1
    objects = [
        SceneObject(k, label, box, attributes={"color": "red"} if label == "chair" else {}, room=-1 if k == last else 0)
        for k, label in enumerate(things)
    ]
    return Scene(name, "procedural", objects, rooms=[Room(k, kind, square) for k, kind in enumerate(rooms)])


def picture(level, height=4, width=4):
    """An even grey."""
    return np.full((height, width, 3), level, np.uint8)
