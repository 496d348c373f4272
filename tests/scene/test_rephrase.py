"""Rewrites of template sentences: what is kept, what falls back, and that everything is counted."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from core.errors import InputError
from scene.datasets.procedural import HomeConfig, generate_home
from scene.graph import build_graph
from scene.language import Referral, generate_referrals, verify_referral
from scene.query import Noun, Query
from scene.rephrase import (
    KIND_NOT_REPHRASED,
    REPEATED,
    STYLES,
    SUBJECT_STYLE,
    SYSTEM,
    UNCHANGED,
    RephraseCounts,
    meaning_of,
    prompt_of,
    rephrase,
)
from scene.rewrite_grammar import CAUSES, Claim, Meaning
from tests.vl.chat_server import Answer, completion, serving
from vl.causal_lm import TransformersGenerator
from vl.endpoint import EndpointGenerator
from vl.generator import CachedGenerator, Failure, GeneratorCounts

CHAIR, BED = Noun("chair", "red"), Noun("bed")


def referral(utterance, query, kind="", **options):
    anchors = tuple(range(1, 1 + len(query.anchors)))
    return Referral("home", utterance, (0,), anchors, kind or query.kind, query=query.to_json(), **options)


LEFT = referral("the red chair left of the bed", Query(CHAIR, "left", (BED,)), view_dependent=True, n_same_class=3)
ALONE = referral("find the lamp", Query(Noun("lamp")))


class Scripted:
    """Answers each prompt by a function of its first line, the template."""

    identity = "scripted"

    def __init__(self, answer):
        self.answer, self.counts, self.prompts, self.request = answer, GeneratorCounts(), [], {}

    def generate(self, prompts, **request):
        self.prompts += prompts
        self.request = request
        return [self.answer(prompt.splitlines()[0].removeprefix("Sentence: ")) for prompt in prompts]


def balanced(counts):
    return counts.total == counts.kept + counts.rejected.total() + counts.failed.total()


@pytest.fixture(scope="module")
def homes():
    """(scene, graph, its referrals) of generated homes."""
    made = []
    for seed in range(3):
        scene = generate_home(seed, HomeConfig(rooms_max=2))
        graph = build_graph(scene)
        made.append((scene, graph, generate_referrals(scene, graph, 40, np.random.default_rng(seed))))
    return made


def test_a_good_rewrite_takes_the_place_of_the_sentence_and_of_nothing_else():
    kept, counts = rephrase([LEFT], Scripted(lambda _: "\nThe red chair sits to the left of the bed. "))
    assert kept == [replace(LEFT, utterance="The red chair sits to the left of the bed.", source="llm")]
    assert (counts.total, counts.kept) == (1, 1) and balanced(counts)


def test_what_falls_back_is_the_template_untouched_and_counted_by_cause():
    answers = {
        LEFT.utterance: "the bed left of the red chair",
        ALONE.utterance: Failure("timeout", "slow"),
        "the lamp": "The lamp",
        "it is the lamp": "Please find the lamp near the window.",
        "the red chair": "Find the lamp",
    }
    said = [LEFT, ALONE, *(replace(ALONE, utterance=text) for text in ("the lamp", "it is the lamp"))]
    said.append(referral("the red chair", Query(CHAIR)))
    kept, counts = rephrase(said, Scripted(answers.__getitem__))
    assert kept == said and counts.kept == 0 and balanced(counts)
    assert counts.failed == {"timeout": 1}
    assert counts.rejected == {"roles": 1, UNCHANGED: 1, "extra thing": 2}
    assert json.loads(json.dumps(counts.summary()))["rejected"]["extra thing"] == 2


def test_a_scene_does_not_get_one_sentence_twice():
    again = referral("the red chair that is left of the bed", Query(CHAIR, "left", (BED,)))
    elsewhere = replace(again, scene_id="another home")
    kept, counts = rephrase([LEFT, again, elsewhere], Scripted(lambda _: "The red chair sits left of the bed."))
    assert [item.source for item in kept] == ["llm", "template", "llm"] and kept[1] == again
    assert counts.rejected == {REPEATED: 1} and balanced(counts)
    taken, counts = rephrase([LEFT, again], Scripted(lambda _: again.utterance))
    assert taken == [LEFT, again] and counts.rejected == {REPEATED: 1, UNCHANGED: 1}


@pytest.mark.parametrize(
    "item",
    [
        replace(LEFT, kind="of another kind"),
        replace(LEFT, kind="zero", targets=()),
        replace(LEFT, targets=(0, 4)),
        replace(LEFT, source="human", query=""),
        replace(LEFT, source="llm"),
    ],
)
def test_kinds_that_are_not_understood_whole_are_not_even_asked_about(item):
    generator = Scripted(lambda _: "the red chair that stands left of the bed")
    kept, counts = rephrase([item, LEFT], generator)
    assert kept[0] == item and kept[1].source == "llm" and len(generator.prompts) == 1
    assert counts.rejected == {KIND_NOT_REPHRASED: 1} and balanced(counts)
    assert rephrase([item], generator)[0] == [item] and len(generator.prompts) == 1


def test_the_meaning_of_a_template_lists_nouns_and_relations():
    assert meaning_of(LEFT) == Meaning(CHAIR, (Claim("left", (BED,)),))
    assert meaning_of(ALONE) == Meaning(Noun("lamp"))
    with pytest.raises(InputError, match="not a query"):
        meaning_of(replace(LEFT, query="{}"))


def test_the_prompt_names_target_anchors_and_relation():
    prompt = prompt_of(LEFT, meaning_of(LEFT), SUBJECT_STYLE)
    assert "Sentence: the red chair left of the bed" in prompt and '"red chair" and "bed"' in prompt
    assert "the red chair is left of the bed" in prompt and prompt.endswith("the subject of the sentence.")
    on_it = referral("the table with the mug on it", Query(Noun("table"), "carrying", (Noun("mug"),)))
    assert "the mug is on the table" in prompt_of(on_it, meaning_of(on_it), "")


def test_styles_vary_with_the_sentence_and_the_seed_and_not_with_the_company(homes):
    everything = [item for _, _, referrals in homes for item in referrals]
    generator = Scripted(lambda _: "?")
    rephrase(everything, generator, seed=1, max_tokens=30, temperature=0.5)
    together = list(generator.prompts)
    assert generator.request == {"system": SYSTEM, "max_tokens": 30, "temperature": 0.5, "seed": 1}
    generator.prompts.clear()
    for item in everything:
        rephrase([item], generator, seed=1)
    assert generator.prompts == together
    heads = Counter(style.partition("{")[0] for style in STYLES for p in together if style.partition("{")[0] in p)
    assert set(heads) == {style.partition("{")[0] for style in STYLES}
    generator.prompts.clear()
    rephrase(everything, generator, seed=2)
    assert generator.prompts != together


def reworded(template):
    """What an obliging model would make of a template."""
    for start in ("find ", "it is "):
        template = template.removeprefix(start)
    return f"Could you point to {template}?" if template.startswith("the ") else f"Please look {template}."


def test_good_paraphrases_of_generated_homes_are_kept_and_still_mean_their_targets(homes):
    for scene, graph, referrals in homes:
        kept, counts = rephrase(referrals, Scripted(reworded), labels=scene.labels)
        assert counts.kept > 0.6 * len(referrals) and balanced(counts)
        for item in kept:
            assert verify_referral(item, scene, graph)
        assert len({item.utterance for item in kept}) == len(kept)


def test_sentences_of_other_referrals_never_pass(homes):
    for scene, _, referrals in homes:
        wrong = {a.utterance: b.utterance for a, b in zip(referrals, referrals[1:] + referrals[:1])}
        same = {a.utterance for a, b in zip(referrals, referrals[1:] + referrals[:1]) if a.query == b.query}
        kept, counts = rephrase(referrals, Scripted(wrong.__getitem__), labels=scene.labels)
        assert kept == referrals and counts.kept == 0
        assert counts.rejected[REPEATED] <= len(same)
        assert set(counts.rejected) <= {*CAUSES, REPEATED, KIND_NOT_REPHRASED}


def test_a_random_language_model_changes_nothing(homes, tmp_path):
    scene, _, referrals = homes[0]
    words = sorted({word for item in referrals for word in item.utterance.split()})
    vocabulary = {word: k for k, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(vocabulary), **sizes, eos_token_id=1)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    generator = TransformersGenerator(tmp_path)
    kept, counts = rephrase(referrals, generator, max_tokens=40, temperature=1.0)
    assert kept == referrals and counts.kept == 0 and balanced(counts)
    assert counts.failed == generator.counts.failures and counts.rejected.total() > 0
    assert rephrase(referrals, generator, max_tokens=40, temperature=1.0) == (kept, counts)


def test_a_misbehaving_endpoint_costs_sentences_and_a_second_run_makes_them_good(homes, tmp_path):
    _, _, referrals = homes[0]
    moods = [Answer(b"", 500), Answer(b"{"), Answer(b"slow down", 429), Answer(b"x", length=9), completion("")]
    well = []

    def answer(request, number):
        k = next(k for k, item in enumerate(referrals) if f"Sentence: {item.utterance}\n" in request.prompt)
        if well or k % 3:
            return completion(reworded(referrals[k].utterance))
        return moods[k // 3 % len(moods)]

    with serving(answer) as chat:
        endpoint = EndpointGenerator(chat.url, "tiny", retries=1, backoff_s=0.001)
        generator = CachedGenerator(endpoint, tmp_path)
        kept, counts = rephrase(referrals, generator)
        failed = [k for k in range(len(referrals)) if k % 3 == 0]
        assert counts.failed.total() == len(failed) and balanced(counts) and counts.kept > 0
        assert set(counts.failed) == {"server error", "garbage", "rate limit", "cut off", "empty"}
        assert all(kept[k] == referrals[k] for k in failed)
        well.append(True)
        before = len(chat.requests)
        again, better = rephrase(referrals, generator)
        assert len(chat.requests) - before == len(failed)
        assert better.kept > counts.kept and not better.failed and balanced(better)
        assert [a for k, a in enumerate(again) if k % 3] == [a for k, a in enumerate(kept) if k % 3]


def test_counts_of_shards_add_up():
    total = RephraseCounts()
    for _ in range(2):
        total.add(RephraseCounts(5, 2, Counter({"roles": 2}), Counter({"timeout": 1})))
    expected = {"total": 10, "kept": 4, "rejected": {"roles": 4}, "failed": {"timeout": 2}}
    assert total.summary() == expected and balanced(total)
