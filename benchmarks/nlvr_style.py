"""Self-made pictures and sentences in the style of NLVR: python -m benchmarks.nlvr_style OUT --count 20000 --seed 0

Writes, for the splits train and val, files of the corpus' form: OUT/<split>.json (a JSON object a line), its pictures
OUT/<split>_images.zip (<split>-<sentence>-<position>-<order of the boxes>.png), and for pretraining
OUT/pairs-<split>.jsonl, each picture with one to three true sentences: {"image": name, "caption": text}.

A sentence comes with two pictures, true of one and false of the other: whoever reads the sentences alone is right half
of the time. The two are the same picture but for one change (benchmarks.nlvr_pictures.changed), one time in four
unrelated. A sentence that people might answer in two ways, because a number in it may be meant exactly or as at least
so many, is left out where the answers differ. No sentence or picture of the corpus is in here.
"""

import argparse
import json
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from benchmarks.nlvr_pictures import ORDERS, Kind, Picture, changed, draw_picture, png
from benchmarks.nlvr_sentences import CONSTRUCTIONS, Construction, Statement, draw
from core.errors import InputError

TOWERS: Final = 0.6  # of the pictures
UNRELATED: Final = 0.25  # of the pairs of pictures
VALIDATION: Final = 0.05  # of `count`, beside it
OF_KIND: Final[dict[Kind, list[Construction]]] = {
    kind: [one for one in CONSTRUCTIONS if kind in one.kinds] for kind in ("scatter", "tower")
}


@dataclass(frozen=True)
class Pair:
    """A sentence with a picture that fits it and one that does not."""

    statement: Statement
    fits: Picture
    fails: Picture


def told_apart(statement: Statement, first: Picture, second: Picture) -> bool | None:
    """True: the first picture fits and the second does not. False: the reverse. None: neither, or it depends on how a
    number is meant."""
    fits = statement.true_of(first)
    if statement.true_of(second) == fits:
        return None
    exact = statement.exactly()
    return fits if exact.true_of(first) == fits != exact.true_of(second) else None


def draw_pair(rng: Random) -> Pair:
    """A sentence of a construction at random and two pictures that it tells apart."""
    kind: Kind = "tower" if rng.random() < TOWERS else "scatter"
    construction = rng.choice(OF_KIND[kind])
    unrelated = rng.random() < UNRELATED
    while True:
        first = draw_picture(rng, kind)
        for _ in range(20):
            second = draw_picture(rng, kind) if unrelated else changed(first, rng)
            statement = draw(construction, kind, rng)
            fits = told_apart(statement, first, second)
            if fits is not None:
                return Pair(statement, first, second) if fits else Pair(statement, second, first)


def true_sentence(picture: Picture, rng: Random) -> str:
    """A sentence that is true of a picture and not of another one at random."""
    while True:
        other = draw_picture(rng, picture.kind)  # may well be the same picture: towers are few
        for _ in range(20):
            statement = draw(rng.choice(OF_KIND[picture.kind]), picture.kind, rng)
            if told_apart(statement, picture, other):
                return statement.text


def caption(sentences: list[str]) -> str:
    """Sentences one after the other, each with its point."""
    return " ".join(f"{sentence.rstrip('.')}." for sentence in sentences)


def write_split(folder: Path, split: str, count: int, seed: int, permutations: int) -> None:
    """One split of `count` examples, two a sentence.

    Args:
        permutations: orders of the boxes painted per example, 1 to 6; the corpus has 6.
    """
    rng = Random(f"{seed} {split}")
    with (
        (folder / f"{split}.json").open("w") as examples,
        (folder / f"pairs-{split}.jsonl").open("w") as pairs,
        zipfile.ZipFile(folder / f"{split}_images.zip", "w", zipfile.ZIP_STORED) as images,
    ):
        for number in range(count // 2):
            pair = draw_pair(rng)
            labelled = [(pair.fits, True), (pair.fails, False)]
            rng.shuffle(labelled)
            for position, (picture, fits) in enumerate(labelled):
                identifier = f"{number}-{position}"
                row: dict[str, Any] = {
                    "sentence": pair.statement.text,
                    "label": "true" if fits else "false",
                    "identifier": identifier,
                    "directory": str(number // 500),
                    "evals": {},
                    "structured_rep": picture.structured_rep(),
                }
                examples.write(json.dumps(row) + "\n")
                names = [f"{split}-{identifier}-{order}.png" for order in range(permutations)]
                for name, order in zip(names, ORDERS):
                    images.writestr(name, png(picture, order))
                sentences = [pair.statement.text] if fits else []
                while len(sentences) < rng.randint(1, 3):
                    sentences.append(true_sentence(picture, rng))
                pairs.write(json.dumps({"image": rng.choice(names), "caption": caption(sentences)}) + "\n")


def make(folder: Path, count: int, seed: int, permutations: int = 1) -> None:
    """Both splits.

    Raises:
        InputError: an odd count or one below 2, permutations outside 1..6, or files are there already.
    """
    if count < 2 or count % 2 or not 1 <= permutations <= len(ORDERS):
        raise InputError(
            f"count={count} should be even (two pictures a sentence) and permutations={permutations} in 1..6"
        )
    if (folder / "train.json").exists():
        raise InputError(f"{folder} holds a train.json already; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_split(folder, "train", count, seed, permutations)
    write_split(folder, "val", max(2, 2 * round(count * VALIDATION / 2)), seed, permutations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the files")
    parser.add_argument("--count", type=int, default=20_000, help="training examples; a twentieth more for validation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--permutations", type=int, default=1, help="orders of the boxes painted per example, 1 to 6")
    args = parser.parse_args()
    started = time.perf_counter()
    try:
        make(args.out, args.count, args.seed, args.permutations)
    except InputError as error:
        sys.exit(f"nlvr_style: {error}")
    print(f"{args.count} training examples in {args.out}, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
