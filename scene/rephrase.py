"""Template sentences in a language model's words, each verified to say the same.

SceneVerse (arXiv:2401.09340, supplement) has its templates rewritten by GPT-3.5 and Llama; its prompts ask for one
sentence of a random structure, or for one that keeps the target as the subject. So do these, in this project's words.
Different here: no rewrite is trusted. `verdict` reads it with a small grammar (scene/rewrite_grammar.py) and keeps it
when target, anchors, colours, relations and roles are those of the query, and nothing else is said. What is rejected is
counted by cause and stays as the template has it. Left out: the variant that adds what the target is for.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from scene.language import Referral
from scene.query import PREDICATES, Query
from scene.rewrite_grammar import Claim, Meaning, verdict
from scene.rewrite_words import Vocabulary
from vl.generator import Failure, Generator

REPHRASED_KINDS: Final = frozenset(
    {"unique", "attribute", "relation", "support", "between", "superlative", "star", "chain"}
)
"""Kinds of sentences whose meaning `meaning_of` lists whole; others stay as they are."""
SOURCE: Final = "llm"
KIND_NOT_REPHRASED: Final = "kind not rephrased"
UNCHANGED: Final = "unchanged"
REPEATED: Final = "repeated"

SYSTEM: Final = (
    "You reword short English sentences that point out one thing in a home. You answer with the new sentence alone: "
    "one line, one sentence, plain words, no quotation marks, no explanation."
)
FREE_STYLES: Final = (
    "Start with a verb that asks somebody to look for it.",
    "Start with the thing itself.",
    "Start with where it is, if the sentence says so.",
    "Ask politely.",
    "Say that it is there.",
)
SUBJECT_STYLE: Final = "Name the {target} first, as the subject of the sentence."
STYLES: Final = (*FREE_STYLES, SUBJECT_STYLE)


@dataclass
class RephraseCounts:
    """What became of the sentences; total = kept + all rejected + all failed."""

    total: int = 0
    kept: int = 0  # rewrites that took the template's place
    rejected: Counter[str] = field(default_factory=Counter)  # stayed templates, by cause (rewrite_grammar.CAUSES ...)
    failed: Counter[str] = field(default_factory=Counter)  # stayed templates, no answer, by cause of vl/generator.py

    def add(self, other: "RephraseCounts") -> None:
        """Adds the counts of another shard."""
        self.total += other.total
        self.kept += other.kept
        self.rejected.update(other.rejected)
        self.failed.update(other.failed)

    def summary(self) -> dict[str, Any]:
        """Plain numbers for result.json."""
        raw = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: dict(sorted(v.items())) if isinstance(v, Counter) else v for name, v in raw.items()}


def rephrase(
    referrals: Sequence[Referral],
    generator: Generator,
    *,
    labels: Iterable[str] = (),
    held_out: Iterable[str] = (),
    seed: int = 0,
    max_tokens: int = 64,
    temperature: float = 0.7,
) -> tuple[list[Referral], RephraseCounts]:
    """The referrals in order, those with a verified rewrite as source "llm" with its utterance, the others untouched.

    A rewrite that is the template again, or that the same scene has already, counts as rejected, too. The style asked
    for depends on the seed, the scene and the sentence alone: shards and workers do not change it.

    Args:
        labels: classes of things besides those the project knows; a rewrite that names one more is rejected as such
            (a word nobody knows is rejected in any case).
        held_out: phrases that no rewrite may have: synonyms and patterns that are kept from training texts.

    Raises:
        InputError: a template referral carries no readable query; what the generator raises.
    """
    counts = RephraseCounts(total=len(referrals))
    vocabulary, held_out = Vocabulary(labels), tuple(held_out)
    read = [(i, meaning_of(referral)) for i, referral in enumerate(referrals)]
    asked = [(i, meaning, _style(referrals[i], seed)) for i, meaning in read if meaning is not None]
    counts.rejected.update([KIND_NOT_REPHRASED] * (len(referrals) - len(asked)))
    prompts = [prompt_of(referrals[i], meaning, style) for i, meaning, style in asked]
    answers = (
        generator.generate(prompts, system=SYSTEM, max_tokens=max_tokens, temperature=temperature, seed=seed)
        if prompts
        else []
    )
    result = list(referrals)
    said = {(referral.scene_id, _bare(referral.utterance)) for referral in referrals}
    for (i, meaning, style), answer in zip(asked, answers):
        referral = referrals[i]
        if isinstance(answer, Failure):
            counts.failed[answer.cause] += 1
            continue
        cause = verdict(answer, meaning, vocabulary, target_first=style == SUBJECT_STYLE, held_out=held_out)
        key = (referral.scene_id, _bare(answer))
        if not cause and key in said:
            cause = UNCHANGED if key[1] == _bare(referral.utterance) else REPEATED
        if cause:
            counts.rejected[cause] += 1
            continue
        said.add(key)
        counts.kept += 1
        kept_back = ",".join(reason for reason in referral.held_out.split(",") if reason not in ("pattern", "synonym"))
        utterance = " ".join(answer.split())
        result[i] = replace(referral, utterance=utterance, source=SOURCE, pattern="", held_out=kept_back)
    return result, counts


def meaning_of(referral: Referral) -> Meaning | None:
    """Nouns and relations of a template sentence with their roles; None for kinds that are not rephrased.

    A new kind of query is rephrased once this lists all it says and REPHRASED_KINDS has its name. The grammar
    understands several claims about the target (a star) and claims about an anchor (a chain: its anchor is a Meaning).
    """
    if referral.source != "template" or referral.kind not in REPHRASED_KINDS or len(referral.targets) != 1:
        return None
    query = Query.from_json(referral.query)
    if any(PREDICATES[clause.predicate].surface for _, clause in query.claims()):
        return None  # on the floor, at the wall: the grammar knows things alone
    return _meaning(query)


def _meaning(query: Query) -> Meaning:
    claims = tuple(
        Claim(clause.predicate, tuple(_meaning(a) if isinstance(a, Query) else a for a in clause.anchors))
        for clause in query.clauses
    )
    return Meaning(query.noun, claims)


def prompt_of(referral: Referral, meaning: Meaning, style: str) -> str:
    """What the model is asked for one sentence."""
    lines = [f"Sentence: {referral.utterance}", f"It points out: the {meaning.target}"]
    lines += [f"What it says: {fact}" for fact in _facts(meaning)]
    names = [f'"{noun}"' for noun in dict.fromkeys(meaning.nouns)]
    lines += [
        f"Reword it. Use the exact words {' and '.join(names)}, and keep who is where.",
        "Name no other thing and add no colour, size, material, number or place. Leave nothing out.",
        style.format(target=meaning.target),
    ]
    return "\n".join(lines)


def _facts(meaning: Meaning) -> Iterator[str]:
    """Each claim as a sentence, those about anchors after the one that names them."""
    for claim in meaning.claims:
        predicate = PREDICATES[claim.predicate]
        things = [anchor if isinstance(anchor, Meaning) else Meaning(anchor) for anchor in claim.anchors]
        others = " and ".join(f"the {thing.target}" for thing in things)
        if predicate.inverse:
            yield f"{others} is {'on' if claim.predicate == 'carrying' else 'in'} the {meaning.target}"
        else:
            yield f"the {meaning.target} is {predicate.words[0]} {others}"
        for thing in things:
            yield from _facts(thing)


def _style(referral: Referral, seed: int) -> str:
    return STYLES[zlib.crc32(f"{seed}\n{referral.scene_id}\n{referral.utterance}".encode()) % len(STYLES)]


def _bare(sentence: str) -> str:
    """Without capitals, outer punctuation and doubled spaces: what makes two sentences the same to a reader."""
    return " ".join(sentence.lower().strip(" .!?").split())
