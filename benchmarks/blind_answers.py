"""What questions give away without the scene: python -m benchmarks.blind_answers --data FOLDER --corpus FOLDER

The baselines of scene/blind_answers.py on two sets of questions. On SQA3D's test split each is learnt from the other
half of that split's scans (dealt into halves by a seed), because train and val need not be at hand: a small part of
what published models learn from. On a corpus of build-scenes they learn from train and answer test. EM in percent with
95 % intervals over scenes; and how many questions a head cannot answer that knows the learnt answers alone.

The corpus of results/blind_answers.md: sightline build-scenes train_homes=120 val_homes=5 test_homes=40 questions=40
train_referrals=2 eval_referrals=2 multi=0 zero=0 captions=false points=0
"""

import argparse
import os
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.verdict import judged
from core.errors import InputError
from core.files import atomic_write
from scene.answers import AnswerVocabulary
from scene.blind_answers import BLIND, Answerer, cross_validated, deal
from scene.protocols import corpus_questions, sqa3d
from scene.protocols.exact_match import answers_given, exact_match
from scene.protocols.records import Example, Prediction

SEED: Final = 0
FOLDS: Final = 2

Fit = Callable[[Sequence[Example]], Answerer]


def table(examples: Sequence[Example], groups: Sequence[str], answer: Callable[[Fit], dict[str, Prediction]]) -> str:
    """Rows of baselines, columns of groups of questions, as Markdown.

    Args:
        answer: what a baseline says to the examples.
    """
    scenes = np.array([example.scene_id for example in examples])
    members = {group: np.array([group in example.groups for example in examples]) for group in groups}
    heads = " | ".join(f"{group} ({int(chosen.sum())})" for group, chosen in members.items())
    lines = [f"| baseline | EM@1 | interval | EM@10 | {heads} |", "|---" * (4 + len(members)) + "|"]
    right = [example.answers for example in examples]
    for name, fit in BLIND.items():
        said = answers_given(examples, answer(fit))
        exact, ten = exact_match(said, right, 1), exact_match(said, right, 10)
        low, high = exact.interval(scenes)
        cells = " | ".join(f"{exact.value(chosen):.1f}" for chosen in members.values())
        lines.append(f"| {name} | {exact.value():.1f} | {low:.1f} to {high:.1f} | {ten.value():.1f} | {cells} |")
    return "\n".join(lines)


def out_of_reach(train: Sequence[Example], asked: Sequence[Example]) -> int:
    """How many questions have no right answer that is right for any training question."""
    return AnswerVocabulary.of(e.answers for e in train).unknown(e.answers for e in asked)


def on_sqa3d(folder: Path) -> str:
    """The section on SQA3D's test split."""
    examples = sqa3d.load(folder)
    fold = deal(examples, folds=FOLDS, seed=SEED)
    halves = [[example for example in examples if fold[example.scene_id] == k] for k in range(FOLDS)]
    unknown = sum(out_of_reach(others, mine) for others, mine in zip(halves, reversed(halves)))
    rows = table(examples, sqa3d.GROUPS, lambda fit: cross_validated(examples, fit, folds=FOLDS, seed=SEED))
    return (
        f"## SQA3D, test split\n\n{len(examples)} questions about {len(fold)} scans, learnt from the other half of "
        f"them.\n\n{rows}\n\n{100 * unknown / len(examples):.1f} % of the questions have an answer that the other half "
        "has not.\n"
    )


def on_corpus(folder: Path) -> str:
    """The section on a corpus."""
    train, test = (corpus_questions.load(folder, split=split) for split in ("train", "test"))
    rows = table(test, corpus_questions.GROUPS, lambda fit: fit(train).predict(test))
    return (
        f"## Own corpus, test split\n\n{len(test)} questions about {len({e.scene_id for e in test})} homes, learnt "
        f"from {len(train)} about {len({e.scene_id for e in train})}.\n\n{rows}\n\n"
        f"{100 * out_of_reach(train, test) / len(test):.1f} % of the questions have an answer that training has not.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("SIGHTLINE_DATA", ""), help="folder with sqa3d/ in it")
    parser.add_argument("--corpus", default="", help="folder made by build-scenes, with questions")
    parser.add_argument("--out", default="", help="folder to write blind_answers.md to; left out: print alone")
    args = parser.parse_args()
    if not args.data and not args.corpus:
        raise InputError("give --data FOLDER (or set SIGHTLINE_DATA) with sqa3d/ in it, or --corpus FOLDER")
    head = f"# Questions without the scene\n\n`python -m benchmarks.blind_answers`, {date.today()}, seed {SEED}.\n"
    sections = [on_sqa3d(Path(args.data) / "sqa3d")] if args.data else []
    sections += [on_corpus(Path(args.corpus))] if args.corpus else []
    page = "\n".join([head, *sections])
    print(page)
    if args.out:
        atomic_write(Path(args.out) / "blind_answers.md", page)


if __name__ == "__main__":
    judged(main)
