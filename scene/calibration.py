"""The threshold of a trained grounder, from homes it was not trained on; what it promises: core/conformal.py."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from core.progress import track
from scene.answering import turns
from scene.conformal import Conformal, calibrate
from scene.proposed import StoreObjects
from scene.protocols import corpus_split
from scene.store import SceneStore

if TYPE_CHECKING:
    from scene.grounder import Grounder

LEVEL: Final = 0.9  # stated coverage unless another is asked for


def calibrated(
    grounder: "Grounder",
    stores: Sequence[SceneStore],
    *,
    score: str,
    split: str = "val",
    level: float = LEVEL,
    seed: int = 0,
) -> Conformal | None:
    """A threshold that the targets of sentences with one target reach with probability `level`.

    None where no sentence of the split has one target: there is nothing to calibrate on.

    Args:
        stores: folders of scenes it was trained on.
        score: which probability, one of scene.conformal.SCORES: "member" where the member head was trained (sentences
            of several targets or none), "score" else.
        split: homes that no weight was fitted to. Weights that were chosen by their accuracy on the same homes make it
            a little too high; the evaluator measures what is left of the level on others.
        seed: of the points drawn from objects.
    """
    reached: list[float] = []
    homes: list[str] = []
    for store in stores:
        if not store.splits.get(split) or not store.referrals(split):
            continue
        asked = corpus_split.load(store.folder, StoreObjects(store), split=split)
        examples = [example for example in asked if len(example.targets) == 1]
        with track(len(examples), f"calibrating on {split}") as progress:
            for turn in turns(examples, store.load):
                objects = grounder.objects(turn.scene, room=turn.room, seed=seed)
                slot = {int(identity): k for k, identity in enumerate(objects.ids)}
                read = grounder.read(objects, [example.text for example in turn.examples])
                beliefs = np.concatenate([grounder.belief(fused, score) for fused in read])
                reached += [float(row[slot[example.targets[0]]]) for example, row in zip(turn.examples, beliefs)]
                homes += [example.scene_id for example in turn.examples]
                progress.advance(len(turn.examples))
    if not reached:
        return None
    return calibrate(reached, homes, level, score)
