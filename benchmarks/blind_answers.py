"""What SQA3D's questions give away without the scene: python -m benchmarks.blind_answers --data FOLDER --out FOLDER

The baselines of scene/blind_answers.py on the test split, each learnt from the other half of that split's scenes (67
scans, dealt into halves by a seed), because train and val need not be at hand: a small part of what published models
learn from. Accuracy in percent, with 95 % intervals over scenes; and how many questions a head cannot answer that knows
the answers of the other half alone.
"""

import argparse
import os
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.verdict import judged
from core.errors import InputError
from core.files import atomic_write
from scene.answers import AnswerVocabulary
from scene.blind_answers import BLIND, cross_validated, deal
from scene.protocols import sqa3d
from scene.protocols.exact_match import answers_given, exact_match, refined_match
from scene.protocols.records import Example

SEED: Final = 0
FOLDS: Final = 2


def table(examples: list[Example]) -> str:
    """Rows of baselines, columns of question types, as Markdown."""
    scenes = np.array([example.scene_id for example in examples])
    members = {group: np.array([group in example.groups for example in examples]) for group in sqa3d.GROUPS}
    heads = " | ".join(f"{group} ({int(chosen.sum())})" for group, chosen in members.items())
    lines = [f"| baseline | EM@1 | interval | EM@10 | refined | {heads} |", "|---" * (5 + len(members)) + "|"]
    right = [example.answers for example in examples]
    for name, fit in BLIND.items():
        said = answers_given(examples, cross_validated(examples, fit, folds=FOLDS, seed=SEED))
        exact = exact_match(said, right, 1)
        low, high = exact.interval(scenes)
        further = [exact_match(said, right, 10).value(), refined_match(said, right).value()]
        figures = [*further, *(exact.value(chosen) for chosen in members.values())]
        cells = " | ".join(f"{figure:.1f}" for figure in figures)
        lines.append(f"| {name} | {exact.value():.1f} | {low:.1f} to {high:.1f} | {cells} |")
    return "\n".join(lines)


def out_of_reach(examples: list[Example]) -> float:
    """Share of the questions none of whose right answers is right for any question of the other half."""
    fold = deal(examples, folds=FOLDS, seed=SEED)
    unknown = 0
    for number in range(FOLDS):
        others = AnswerVocabulary.of(e.answers for e in examples if fold[e.scene_id] != number)
        unknown += others.unknown(e.answers for e in examples if fold[e.scene_id] == number)
    return unknown / len(examples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("SIGHTLINE_DATA", ""), help="folder with sqa3d/ in it")
    parser.add_argument("--out", default="", help="folder to write blind_answers.md to; left out: print alone")
    args = parser.parse_args()
    if not args.data:
        raise InputError("give --data FOLDER or set SIGHTLINE_DATA to a folder with sqa3d/ in it")
    examples = sqa3d.load(Path(args.data) / "sqa3d")
    page = (
        "# SQA3D without the scene\n\n"
        f"`python -m benchmarks.blind_answers`, {date.today():%d %B %Y}, seed {SEED}. {len(examples)} questions of the "
        f"test split of {len({e.scene_id for e in examples})} scans; learnt from the other half of its scans.\n\n"
        f"{table(examples)}\n\n"
        f"{100 * out_of_reach(examples):.1f} % of the questions have an answer that the other half has not.\n"
    )
    print(page)
    if args.out:
        atomic_write(Path(args.out) / "blind_answers.md", page)


if __name__ == "__main__":
    judged(main)
