"""ScanQA: questions about a scan, answered in free text (Azuma et al., CVPR 2022, arXiv:2112.10482).

A split is one JSON list, `ScanQA_v1.0_{train,val,test_w_obj,test_wo_obj}.json`, of

    {"scene_id", "question_id", "question", "answers": [...], "object_ids": [...], "object_names": [...]}

where the test splits lack answers and `test_wo_obj` objects. Metrics are those of the released `scripts/score.py`: EM@1
and EM@10 letter by letter, BLEU, METEOR, ROUGE-L and CIDEr of the first answer on PTB tokens, SPICE left out; and the
lenient match of papers on language models under its own name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from core.errors import InputError
from scene.protocols.annotations import Loaded, Placing, Row, Scenes, read_rows
from scene.protocols.exact_match import answers_given, exact_match, refined_match
from scene.protocols.metric import Metric
from scene.protocols.records import Example, Prediction
from scene.protocols.text_metrics import text_metrics

GROUPS: Final = ("place", "number", "color", "object nature", "object", "other")

_WORDS_OF_GROUP: Final = (  # the released rule: the first that occurs in the question, in this spelling
    ("Where", "place"),
    ("How many", "number"),
    ("What color", "color"),
    ("What is the color", "color"),
    ("What shape", "object nature"),
    ("What type", "object nature"),
    ("What kind", "object nature"),
    ("What is", "object"),
)


def question_type(question: str) -> str:
    """Which of GROUPS a question belongs to, by the released script's rule."""
    return next((group for words, group in _WORDS_OF_GROUP if words in question), "other")


def load(
    path: str | Path, scenes: Scenes | None = None, *, unknown_scenes: str = "error", missing_targets: str = "error"
) -> Loaded:
    """The questions of a split; those of test splits come without answers.

    Args:
        path: the split's JSON file.
        scenes: objects of the scans, with ScanNet's object ids as source ids; each question's targets are the objects
            it is about. None: no scan is at hand, and none is needed to measure answers; there are no targets.
        unknown_scenes: "error", or "skip" questions about scans that are not loaded.
        missing_targets: "error", or "skip" questions about an object that its scan lacks.

    Raises:
        MissingFileError, InputError: the file is absent, truncated or of another kind; an answer is empty; an id stands
            twice; a scan or an object is unknown; or no question is left.
    """
    out = Loaded()
    placing = None if scenes is None else Placing(scenes, out, unknown_scenes, missing_targets)
    for row in read_rows(path, "ScanQA questions", ("scene_id", "question_id", "question")):
        scene_id, name, question = row.text("scene_id"), row.id("question_id"), row.text("question")
        targets: tuple[int, ...] | None = ()
        if placing:
            about = row.ids("object_ids") if row.values.get("object_ids") is not None else []
            targets = placing.find(row, name, scene_id, list(dict.fromkeys(about)))
        if targets is None:
            continue
        boxes = placing.boxes(scene_id, targets) if placing else ()
        example = Example(
            name, scene_id, question, targets, boxes, answers=_answers(row), groups=(question_type(question),)
        )
        out.take(row, example)
    return out.checked(path)


def _answers(row: Row) -> tuple[str, ...]:
    """Those that are right; none in a test split."""
    answers = row.values.get("answers", [])
    if not isinstance(answers, list) or not all(isinstance(text, str) and text.strip() for text in answers):
        raise InputError(f"{row.where}: answers are {answers!r}, expected a list of texts that are not empty")
    return tuple(dict.fromkeys(answers))


def measure(
    examples: Sequence[Example], predictions: Mapping[str, Prediction], objects: Scenes | None = None
) -> list[Metric]:
    """The columns of the table, in its order; EM@10 where some prediction ranks several answers.

    Args:
        objects: not looked at: answers are texts.

    Raises:
        InputError: examples without right answers, or without a prediction.
    """
    said, right = answers_given(examples, predictions), [example.answers for example in examples]
    several = any(len(ranked) > 1 for ranked in said)
    return [
        exact_match(said, right, 1),
        *([exact_match(said, right, 10)] if several else []),
        refined_match(said, right),
        *text_metrics([ranked[0] for ranked in said], right),
    ]
