"""Does a grounder keep its answer when the scene is turned? python -m benchmarks.turned_scenes SCENES MODEL [MODEL ...]

Test homes are turned about the vertical while the viewer stays. A sentence that names no side ("the mug on the table")
means the same object as before: shown is how often the model keeps its answer, right or wrong, and how often it is
right. A sentence that does name a side is asked with the viewer turned along, which has to change nothing. Several
models are seeds of one arm: means over them, with Student's t intervals.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from core.intervals import t_interval
from scene.answering import turns
from scene.batch import object_set
from scene.geometry import rotate_scene
from scene.grounder import Grounder
from scene.model_folder import model_folder
from scene.proposed import StoreObjects
from scene.protocols.corpus_split import load
from scene.protocols.records import Example
from scene.relations import Viewpoint
from scene.store import SceneStore

ANGLES_DEG: Final = (0, 30, 90, 180, 270)
FREE, VIEWED = "view-independent", "view-dependent"

Answers = dict[tuple[str, int], list[tuple[bool, bool]]]  # group, angle -> (kept, right) of each sentence


def answers(grounder: Grounder, store: SceneStore, examples: Sequence[Example], seed: int = 0) -> Answers:
    """What becomes of the answers to sentences with one target."""
    found: Answers = {(group, angle): [] for group in (FREE, VIEWED) for angle in ANGLES_DEG}
    for turn in turns(examples, store.load):
        for group in (FREE, VIEWED):
            asked = [example for example in turn.examples if group in example.groups and len(example.targets) == 1]
            if not asked:
                continue
            before: list[int] = []
            for angle in ANGLES_DEG:
                yaw = math.radians(angle)
                viewer = Viewpoint(Viewpoint().yaw_rad + yaw) if group == VIEWED else None
                turned = rotate_scene(turn.scene, yaw)
                objects = object_set(turned, grounder.model.config.points, seed=seed, room=turn.room, viewpoint=viewer)
                best = objects.ids[grounder.score(objects, [example.text for example in asked]).argmax(1)].tolist()
                before = before or best
                found[group, angle] += [
                    (now == then, now == example.targets[0]) for now, then, example in zip(best, before, asked)
                ]
    return found


def said(values: Sequence[float]) -> str:
    """Mean over models in percent, with the interval where there are several."""
    low, high = t_interval([100 * value for value in values])
    return f"{100 * np.mean(values):.1f}" + ("" if math.isnan(low) else f" ({low:.1f} to {high:.1f})")


def table(models: Sequence[Answers]) -> list[str]:
    """Markdown: one line an angle."""
    lines = [
        "| turned by | no side named: same % | no side named: right % | side named, viewer turned, too: same % |",
        "|---|---|---|---|",
    ]
    for angle in ANGLES_DEG:
        kept, right = (
            said([float(np.mean([row[column] for row in found[FREE, angle]])) for found in models]) for column in (0, 1)
        )
        viewed = said([float(np.mean([row[0] for row in found[VIEWED, angle]])) for found in models])
        lines.append(f"| {angle} degrees | {kept} | {right} | {viewed} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder made by build-scenes")
    parser.add_argument("models", nargs="+", help="grounders, or the runs that trained them: the seeds of one arm")
    args = parser.parse_args()
    store = SceneStore(args.scenes, cache=2)
    examples = load(args.scenes, StoreObjects(SceneStore(args.scenes, cache=2, points=False)))
    models = [answers(Grounder.from_pretrained(model_folder(model)), store, examples) for model in args.models]
    count = len(models[0][FREE, 0]), len(models[0][VIEWED, 0])
    print(f"{count[0]:,} sentences that name no side, {count[1]:,} that name one; {len(models)} model(s)\n")
    print("\n".join(table(models)))


if __name__ == "__main__":
    main()
