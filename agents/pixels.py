"""No trained model at all: the picture, its depth, and the words of the sentence. Learning from scratch.

The sentence is a bag of words over the vocabulary of the training sentences; words outside it share one place. The
network's first layer on it is therefore a table of word embeddings, learned with the policy.
"""

import re
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from agents.encoders import ObservationSpec
from agents.senses import Body, Note, SentenceTable, Sight
from core.errors import InputError
from envs.simulator import Simulator
from envs.state import Sensors, SimState
from scene.render import Frame

_WORD = re.compile(r"[a-z]+")


def words_of(text: str) -> list[str]:
    """The words of a sentence in lower case, numbers and punctuation left out."""
    return _WORD.findall(text.lower())


def vocabulary_of(texts: Iterable[str]) -> list[str]:
    """Every word of some sentences, in alphabetical order."""
    return sorted({word for text in texts for word in words_of(text)})


def bag_of_words(texts: Sequence[str], vocabulary: Sequence[str]) -> Float[Tensor, "S V"]:
    """How often each word comes, over the root of the sentence's length; the last column counts unknown words."""
    place = {word: index for index, word in enumerate(vocabulary)}
    bag = torch.zeros(len(texts), len(vocabulary) + 1)
    for row, text in zip(bag, texts):
        for word in words_of(text):
            row[place.get(word, len(vocabulary))] += 1
    return bag / bag.sum(1, keepdim=True).clamp(min=1).sqrt()


class PixelSenses:
    """Colour, depth, the bag of words and the body.

    Args:
        vocabulary: the words that have a place of their own.
        max_steps: length of an episode in training.

    Raises:
        InputError: no word.
    """

    def __init__(self, vocabulary: Sequence[str], sensors: Sensors, max_steps: int) -> None:
        if not vocabulary:
            raise InputError("a policy on pixels needs sentences to learn words from; this task has none")
        self.vocabulary, self.sensors, self.max_steps = list(vocabulary), sensors, max_steps
        self.table = SentenceTable(lambda texts: {"bag": bag_of_words(texts, self.vocabulary)})
        self.body: Body | None = None

    @property
    def spec(self) -> dict[str, ObservationSpec]:
        """image, depth, text, vector."""
        assert self.body is not None, "attach a simulator first"
        height, width = self.sensors.height, self.sensors.width
        return {
            "image": ObservationSpec((height, width, 3), "uint8"),
            "depth": ObservationSpec((height, width)),
            "text": ObservationSpec((len(self.vocabulary) + 1,)),
            "vector": ObservationSpec((self.body.size,)),
        }

    def attach(self, simulator: Simulator) -> None:
        """Reads the sentences that the simulator's homes offer."""
        self.table.attach(simulator)
        self.body = Body(simulator, self.max_steps)

    def carried(self, note: Note) -> Note:
        """Unchanged: nothing in it depends on the homes."""
        return note

    def begin(self, state: SimState) -> Note:
        """What the body keeps."""
        assert self.body is not None, "attach a simulator first"
        return self.body.begin(state)

    def observe(self, frame: Frame, state: SimState, note: Note) -> Sight:
        """The frame as it is, and the words."""
        assert self.body is not None, "attach a simulator first"
        vector, note = self.body.sense(state, note)
        text = self.table.columns["bag"][self.table.rows(state.text)]
        return Sight({"image": frame.rgb, "depth": frame.depth, "text": text, "vector": vector}, note)
