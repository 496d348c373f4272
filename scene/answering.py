"""Sentences of an evaluation room by room, and what a grounder and its baselines say about them.

Every room is encoded once, however many sentences speak of it; only predictions are kept.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError
from scene.baselines import BASELINES, Asked, baseline_scores, fitting
from scene.graph import SceneGraph, build_graph, candidates
from scene.protocols.records import Example, Prediction
from scene.types import Scene

if TYPE_CHECKING:
    from scene.crops import CropScorer
    from scene.grounder import Grounder

KEPT: Final = 10  # of a ranking, best first
MEANT: Final = 0.5  # member probability from which an object is in the predicted set, as in PQ3D; without a trained
# member head the conformal threshold decides
MOST_TIED: Final = 64  # equally good choices that are averaged over; of more, so many are drawn
NAMES_NEEDED: Final = tuple(name for name in BASELINES if name != "chance")  # baselines that read labels

Alternatives = list[Prediction]
"""Predictions for one example that are equally good to whoever made them: each is as likely as the others."""


@dataclass(frozen=True)
class Turn:
    """The examples about one room, or about a scene that is not spoken of room by room."""

    scene: Scene  # its objects are what is chosen from
    room: int
    examples: tuple[Example, ...]
    true: bool = True  # the objects are the annotated ones, so that targets index them

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """Candidates: indices into scene.objects."""
        return tuple(candidates(self.scene, self.room))

    @cached_property
    def graph(self) -> SceneGraph:
        return build_graph(self.scene)


def turns(examples: Sequence[Example], load: Callable[[str], Scene], true: bool = True) -> Iterator[Turn]:
    """The examples grouped by scene and room; one scene is in memory at a time.

    Args:
        load: the scene of an id, with the objects to choose from.
    """
    by_scene: dict[str, dict[int, list[Example]]] = {}
    for example in examples:
        by_scene.setdefault(example.scene_id, {}).setdefault(example.room, []).append(example)
    for scene_id, by_room in by_scene.items():
        scene = load(scene_id)
        for room, asked in sorted(by_room.items()):
            yield Turn(scene, room, tuple(asked), true)


@dataclass(frozen=True)
class Said:
    """What a grounder says in one turn."""

    own: list[Prediction]  # one per example
    blind: list[Prediction]  # the same model reading an empty sentence
    meant: list[Float[ndarray, " N"]]  # the probability that its conformal threshold is about; none without one


def ask(grounder: "Grounder", turn: Turn, for_set: Callable[[Example], bool], seed: int) -> Said:
    """A grounder's rankings and sets.

    Args:
        for_set: whether the whole set of what is meant is wanted of an example, not the best object.
        seed: of the points that are drawn from objects.
    """
    objects = grounder.objects(turn.scene, room=turn.room, seed=seed)
    ids = np.asarray(objects.ids)
    conformal = grounder.conformal
    shares, beliefs = [], []
    for fused in grounder.read(objects, [*(example.text for example in turn.examples), ""]):
        shares.append(fused.scores.softmax(-1).cpu().numpy())
        beliefs.append(grounder.belief(fused, conformal.score if conformal else "member"))
    share, belief = np.concatenate(shares), np.concatenate(beliefs)
    least = MEANT if conformal is None or conformal.score == "member" else conformal.threshold

    def predict(example: Example, row: int) -> Prediction:
        if not for_set(example):
            order = np.argsort(-share[row], kind="stable")[:KEPT]
            return Prediction(example.id, tuple(ids[order].tolist()), scores=tuple(share[row, order].tolist()))
        order = np.argsort(-belief[row], kind="stable")
        order = order[belief[row, order] >= least]
        return Prediction(example.id, tuple(ids[order].tolist()), scores=tuple(belief[row, order].tolist()))

    return Said(
        own=[predict(example, row) for row, example in enumerate(turn.examples)],
        blind=[predict(example, len(turn.examples)) for example in turn.examples],
        meant=list(belief[:-1]) if conformal else [],
    )


def ask_questions(grounder: "Grounder", turn: Turn, seed: int) -> Said:
    """A grounder's answers to questions, best first.

    Raises:
        InputError: it has no question head, or its folder does not say what the head's outputs mean.
    """
    if grounder.model.config.answers and not grounder.answers:
        raise InputError("the grounder has a question head, but its folder has no answers.json that names the answers")
    objects = grounder.objects(turn.scene, room=turn.room, seed=seed)
    chances = grounder.answer(objects, [*(example.text for example in turn.examples), ""]).numpy()
    best = np.argsort(-chances, axis=1, kind="stable")[:, :KEPT]
    said = [tuple(grounder.answers[k] for k in row) for row in best.tolist()]
    own = [Prediction(example.id, answers=said[row]) for row, example in enumerate(turn.examples)]
    return Said(own, [Prediction(example.id, answers=said[-1]) for example in turn.examples], [])


def ask_baselines(
    turn: Turn, for_set: Callable[[Example], bool], rng: np.random.Generator, crops: "CropScorer | None" = None
) -> Mapping[str, list[Alternatives]]:
    """What each baseline says to each example.

    Of a set, chance says one object, the parser what fits the sentence, and the others all their best.
    """
    found: dict[str, list[Alternatives]] = {}
    for name in BASELINES if turn.true else ("chance",):
        rows = []
        for example in turn.examples:
            asked = Asked(turn.scene, turn.graph, example.text, turn.ids, example.targets if turn.true else ())
            scores = baseline_scores(name, asked)
            if for_set(example) and name == "symbolic parser":
                rows.append([Prediction(example.id, tuple(sorted(fitting(asked, scores))))])
            else:
                whole = for_set(example) and name != "chance"
                rows.append(_best(example, turn.ids, scores, whole, rng))
        found[name] = rows
    if crops is not None:
        table = crops.scores(turn.scene, turn.ids, [example.text for example in turn.examples]).numpy()
        found["2D embedder on crops"] = [
            _best(example, turn.ids, scores, for_set(example), rng) for example, scores in zip(turn.examples, table)
        ]
    return found


def _best(
    example: Example, ids: Sequence[int], scores: Float[ndarray, " N"], whole: bool, rng: np.random.Generator
) -> Alternatives:
    """The highest score as one set, or each of those that share it as an alternative."""
    best = [i for i, score in zip(ids, scores) if score == scores.max()]
    if whole:
        return [Prediction(example.id, tuple(best))]
    if len(best) > MOST_TIED:
        best = sorted(rng.choice(best, MOST_TIED, replace=False).tolist())
    return [Prediction(example.id, (i,)) for i in best]
