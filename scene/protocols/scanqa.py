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
from scene.protocols.exact_match import answers_given, exact_match, refined_match
from scene.protocols.metric import Metric
from scene.protocols.question_files import Row, checked, objects_of, rows_of
from scene.protocols.records import Example, Prediction
from scene.protocols.text_metrics import text_metrics
from scene.types import SceneObject

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


def load(path: str | Path, scenes: Mapping[str, Sequence[SceneObject]] | None = None) -> list[Example]:
    """The questions of a split; those of test splits come without answers.

    Args:
        path: the split's JSON file.
        scenes: objects of the scans; then each question's `targets` are the objects it is about. Left out: none.

    Raises:
        MissingFileError: not there. InputError: truncated, other columns, an empty answer, two questions of one id, or
            a scan or an object that is not among `scenes`.
    """
    return checked([_example(row, scenes) for row in rows_of(path, "ScanQA questions")], path)


def _example(row: Row, scenes: Mapping[str, Sequence[SceneObject]] | None) -> Example:
    scene_id, question = row.get("scene_id", str), row.get("question", str)
    answers = row.get("answers", list) if "answers" in row.values else []
    if any(not isinstance(answer, str) or not answer.strip() for answer in answers):
        raise InputError(f"{row.where}: the answers are {answers!r}, expected texts that are not empty")
    known = objects_of(scene_id, scenes, row.where)
    targets: list[int] = []
    if known is not None and row.values.get("object_ids") is not None:
        for number in row.get("object_ids", list):
            if str(number) not in known:
                raise InputError(f"{row.where} is about object {number!r}, which scene {scene_id!r} lacks")
            targets.append(known[str(number)])
    return Example(
        id=row.get("question_id", str),
        scene_id=scene_id,
        text=question,
        targets=tuple(dict.fromkeys(targets)),
        answers=tuple(dict.fromkeys(answers)),
        groups=(question_type(question),),
    )


def measure(
    examples: Sequence[Example],
    predictions: Mapping[str, Prediction],
    objects: Mapping[str, Sequence[SceneObject]] | None = None,
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
