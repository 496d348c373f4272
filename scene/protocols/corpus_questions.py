"""The questions of a split of a built corpus as a benchmark of its own.

All wordings of a right answer count ("two", "2"). Groups: the kind of question, whether it depends on the viewer, and
which kinds of language it uses that no training text does (scene/heldout.py).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from scene.heldout import REASONS
from scene.protocols.annotations import VIEWS, Loaded, Placing, Row, Scenes
from scene.protocols.exact_match import answers_given, exact_match
from scene.protocols.metric import Metric
from scene.protocols.records import Example, Prediction
from scene.store import SceneStore
from scene.texts import Question, Text, sentence

KINDS: Final = ("existence", "count", "attribute", "relation", "situated")
GROUPS: Final = (
    *(f"kind {kind}" for kind in KINDS),
    *VIEWS,
    "nothing held out",
    *(f"held out: {reason}" for reason in REASONS),
)


def question_examples(texts: Iterable[Text]) -> list[Example]:
    """The questions among texts; the k-th question about a scene, from 0, has the id "scene_id|question|k".

    Targets are the objects the answer rests on; the pose of a situated question is where its asker stands and looks.
    """
    told: Counter[str] = Counter()
    found = []
    for text in texts:
        if isinstance(text, Question):
            example = Example(
                id=f"{text.scene_id}|question|{told[text.scene_id]}",
                scene_id=text.scene_id,
                text=sentence(text),
                targets=text.objects,
                answers=text.answers,
                groups=_groups(text),
                room=text.room,
                pose=(*text.position, text.yaw_rad) if text.position else (),
            )
            told[text.scene_id] += 1
            found.append(example)
    return found


def load(
    path: str | Path, scenes: Scenes | None = None, *, split: str = "test", unknown_scenes: str = "error"
) -> Loaded:
    """The questions of a split of a corpus.

    Args:
        path: folder made by build-scenes.
        scenes: objects of the split's scenes. None: no scene is at hand, and none is needed to measure answers.
        unknown_scenes: "error", or "skip" questions about scenes that are not given.

    Raises:
        MissingFileError, InputError: no such folder or split, a damaged one, a scene that is not given, or no question
            is left.
    """
    store = SceneStore(path)
    out = Loaded()
    placing = None if scenes is None else Placing(scenes, out, unknown_scenes, "error", official=False)
    for number, example in enumerate(question_examples(store.texts(split, "question"))):
        row, targets = Row(store.folder, number, {}), [str(target) for target in example.targets]
        if placing is None or placing.find(row, example.id, example.scene_id, targets) is not None:
            out.take(row, example)
    return out.checked(store.folder)


def _groups(text: Question) -> tuple[str, ...]:
    held_out = [f"held out: {reason}" for reason in text.held_out.split(",") if reason] or ["nothing held out"]
    return (f"kind {text.kind}", VIEWS[0] if text.view_dependent else VIEWS[1], *held_out)


def measure(
    examples: Sequence[Example], predictions: Mapping[str, Prediction], objects: Scenes | None = None
) -> list[Metric]:
    """EM@1, and EM@10 where some prediction ranks several answers.

    Args:
        objects: not looked at: answers are texts.

    Raises:
        InputError: an example without a prediction.
    """
    said, right = answers_given(examples, predictions), [example.answers for example in examples]
    tops = (1, 10) if any(len(ranked) > 1 for ranked in said) else (1,)
    return [exact_match(said, right, top) for top in tops]
