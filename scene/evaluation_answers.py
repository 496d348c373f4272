"""Everybody's answers to the examples of an evaluation: the grounder's, the baselines', and the conformal sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from core.progress import track
from scene.answering import Alternatives, ask, ask_baselines, ask_questions, turns
from scene.conformal import Conformal, Coverage, measure
from scene.protocols.predictions import boxes_of
from scene.protocols.records import Example, Prediction
from scene.protocols.registry import Protocol
from scene.types import Scene

if TYPE_CHECKING:
    from scene.crops import CropScorer
    from scene.grounder import Grounder

NO_SENTENCE: Final = "no sentence"  # the same model reading an empty sentence


@dataclass
class Heard:
    """What everybody said."""

    own: dict[str, Prediction] = field(default_factory=dict)  # by example id, in the order of the examples
    others: dict[str, Mapping[str, Alternatives]] = field(default_factory=dict)  # by name of the baseline
    meant: dict[str, np.ndarray] = field(default_factory=dict)  # of the calibrated grounder: probabilities
    ids: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of `meant`: which objects they are of
    objects: dict[str, Sequence[Any]] = field(default_factory=dict)  # of proposals: what there is to choose from


def listen(
    protocol: Protocol,
    examples: Sequence[Example],
    load: Callable[[str], Scene],
    grounder: "Grounder | None" = None,
    *,
    given: bool = True,
    baselines: bool = True,
    crops: "CropScorer | None" = None,
    seed: int = 0,
) -> Heard:
    """Asks the grounder and the baselines, scene by scene.

    Args:
        load: the scene of an id, with the objects to choose from.
        given: these are the annotated objects; else predictions are boxes, and `objects` says what there was.
        baselines: ask them, too; of questions there are none that look at scenes.
        crops: a 2D embedder on pictures of the objects.
        seed: of the points drawn from objects.
    """
    heard = Heard()
    choose = protocol.kind != "answers"
    baselines = baselines and choose
    if grounder is None and given and not baselines:
        return heard
    rng = np.random.default_rng(seed)
    own: dict[str, Prediction] = {}
    blind: dict[str, Alternatives] = {}
    others: dict[str, dict[str, Alternatives]] = {}
    with track(len(examples), "sentences") as progress:
        for turn in turns(examples, load, true=given):
            if not given:
                heard.objects[turn.scene.id] = turn.scene.objects
            if baselines:
                for name, options in ask_baselines(turn, protocol.asks_for_set, rng, crops).items():
                    found = {e.id: boxed(option, turn.scene, given) for e, option in zip(turn.examples, options)}
                    others.setdefault(name, {}).update(found)
            if grounder is not None:
                said = (
                    ask(grounder, turn, protocol.asks_for_set, seed) if choose else ask_questions(grounder, turn, seed)
                )
                own |= {p.id: boxed([p], turn.scene, given)[0] for p in said.own}
                blind |= {p.id: boxed([p], turn.scene, given) for p in said.blind}
                if given and said.meant:
                    heard.meant |= {e.id: row for e, row in zip(turn.examples, said.meant)}
                    heard.ids |= dict.fromkeys((e.id for e in turn.examples), turn.ids)
            progress.advance(len(turn.examples))
    heard.others |= others
    if own:
        heard.own = {example.id: own[example.id] for example in examples}
        heard.others[NO_SENTENCE] = blind
    return heard


def boxed(options: Alternatives, scene: Scene, given: bool) -> Alternatives:
    """Predictions among proposals that are not the annotated objects say boxes, which is what they are measured by."""
    if given or not any(option.objects for option in options):
        return options
    return [
        Prediction(o.id, boxes=tuple(map(tuple, boxes_of(o, scene.objects).tolist())), scores=o.scores) for o in options
    ]


def coverage_of(
    conformal: Conformal, examples: Sequence[Example], heard: Heard, *, seed: int, resamples: int
) -> Coverage | None:
    """Whether the sets hold the target of sentences that have one, as those they were calibrated on, and how many are
    empty of sentences that mean nothing; None where no sentence has one target."""
    asked = [e for e in examples if len(e.targets) <= 1]
    if not any(example.targets for example in asked):
        return None
    slots = [[ids.index(t) if t in ids else -1 for t in e.targets] for e in asked for ids in [heard.ids[e.id]]]
    probabilities = [heard.meant[example.id] for example in asked]
    homes = [example.scene_id for example in asked]
    return measure(conformal, probabilities, slots, homes, seed=seed, resamples=resamples)
