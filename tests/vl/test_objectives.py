"""Facts about vl/objectives.py."""

import dataclasses
import json

import pytest
import torch
from torch.nn import functional as F

from core.errors import InputError
from tests.core.test_distributed import launch
from tests.vl.stand_in import SENTENCES, StandIn, make_batch, real_models
from vl.losses import LOSSES
from vl.objectives import TERMS, Objectives, matching_pairs, objective_terms, own_positives, weighted_sum

EVERYTHING = dict.fromkeys(TERMS, 1.0)
NOTHING = dict.fromkeys(TERMS, 0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(**asked) -> Objectives:
    return Objectives(**NOTHING | asked)


@pytest.fixture(scope="module")
def model() -> StandIn:
    return StandIn.create()


@pytest.fixture(scope="module")
def batch(model):
    return make_batch(model, [*SENTENCES, SENTENCES[0]])


def test_one_encoding_of_images_and_three_of_texts_serve_all_objectives(model, batch):
    model.calls.clear()
    terms = objective_terms(model, batch, Objectives(**EVERYTHING | {"mim": 0.0}), seeded())
    assert set(terms) == set(TERMS) - {"mim"}
    assert (model.calls["image"], model.calls["text"], model.calls["fuse"]) == (1, 3, 3)  # as is, hidden, causal
    tokens = int(batch.attention_mask[batch.text].sum())
    assert model.calls["words"] < 2 * tokens  # not at every position, three times
    model.calls.clear()
    objective_terms(model, batch, only(itc=1.0), seeded())
    assert (model.calls["image"], model.calls["text"], model.calls["fuse"], model.calls["words"]) == (1, 1, 0, 0)


def test_terms_follow_the_generator_and_every_weight_gets_a_gradient(batch):
    model = StandIn.create()
    objectives = Objectives(**EVERYTHING, itc_loss="sigmoid")
    first, again, other = (objective_terms(model, batch, objectives, seeded(seed), drop=0.5) for seed in (1, 1, 2))
    assert first == again
    assert all(first[name] != other[name] for name in TERMS if name != "caption")
    weighted_sum(first, objectives).backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in model.parameters())


def test_each_kind_of_model_learns_from_every_objective_it_has_heads_for():
    for name, model in real_models().items():
        single = 0.0 if name == "one-tower" else 1.0
        objectives = Objectives(**EVERYTHING | {"mim": single, "text_mlm": single}, itc_loss="sigmoid")
        batch = make_batch(model, [*SENTENCES, SENTENCES[0]])
        terms = objective_terms(model, batch, objectives, seeded(), drop=0.0 if name == "convolution" else 0.5)
        weighted_sum(terms, objectives).backward()
        assert all(torch.isfinite(term) and term > 0 for term in terms.values())
        assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_the_sum_weighs_each_term():
    terms = {"itc": torch.tensor(2.0), "mlm": torch.tensor(10.0)}
    assert weighted_sum(terms, only(itc=3.0, mlm=0.5)).item() == 11.0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("overlap", ["positive", "ignored", "negative"])
def test_contrast_is_the_loss_of_the_embeddings_of_each_image_and_its_caption(model, batch, name, overlap):
    term = objective_terms(model, batch, only(itc=1.0, itc_loss=name, overlap=overlap), seeded())["itc"]
    image = model.with_embedding(model.image_states(model.pixels(batch.images)), "image").embedding
    rows = [model.text_states(batch.input_ids[[r]], batch.attention_mask[[r]]) for r in batch.text.tolist()]
    text = torch.cat([model.with_embedding(row, "text").embedding for row in rows])
    also = {} if overlap == "negative" else {overlap: batch.positive}
    torch.testing.assert_close(term, LOSSES[name](image, text, model.logit_scale, model.logit_bias, **also))


def test_a_mismatch_is_never_a_pair_that_fits():
    positive = torch.eye(6, dtype=torch.bool)
    positive[0, 3] = positive[4, 1] = True
    likes = 50.0 * positive  # what fits is by far the most alike
    for seed in range(50):
        for similarity in (likes, None):
            images, texts, fits = matching_pairs(positive, similarity, seeded(seed))
            assert images[:12].tolist() == [*range(6), *range(6)] and texts[12:].tolist() == [*range(6)]
            assert (positive[images, texts] == fits).all() and fits.sum() == 6 and len(fits) == 18


def test_where_everything_fits_there_is_no_mismatch(model):
    positive = torch.ones(3, 3, dtype=torch.bool)
    positive[2, 0] = False
    images, texts, fits = matching_pairs(positive, None, seeded())
    assert list(zip(images.tolist(), texts.tolist())) == [(0, 0), (1, 1), (2, 2), (2, 0), (2, 0)]
    same = make_batch(model, ["a table", "a table"])
    term = objective_terms(model, same, only(itm=1.0), seeded())["itm"]
    fused = model.fuse(model.image_states(model.pixels(same.images)), texts_of(model, same))
    torch.testing.assert_close(term, -model.match_logits(fused).log_softmax(1)[:, 1].mean())


def texts_of(model, batch):
    return model.text_states(batch.input_ids, batch.attention_mask).rows(batch.text)


def test_images_that_share_a_caption_are_no_mismatch_whatever_the_mask_says(model):
    batch = make_batch(model, ["a table", "the door", "a table"])
    forgot = dataclasses.replace(batch, positive=torch.eye(3, dtype=torch.bool))
    assert own_positives(forgot).tolist() == [[True, False, True], [False, True, False], [True, False, True]]


def test_hard_mismatches_follow_the_softmax_of_the_similarity():
    similarity = torch.tensor([[9.0, 1.0, 0.0], [0.0, 9.0, 2.0], [0.5, 0.0, 9.0]])
    drawn = torch.zeros(3, 3)
    for seed in range(600):
        images, texts, _ = matching_pairs(torch.eye(3, dtype=torch.bool), similarity, seeded(seed))
        drawn[images[3:6], texts[3:6]] += 1 / 600
        assert set(images[6:].tolist()) <= {0, 1, 2}
    expected = similarity.masked_fill(torch.eye(3, dtype=torch.bool), float("-inf")).softmax(1)
    torch.testing.assert_close(drawn, expected, atol=0.07, rtol=0)


def test_matching_asks_about_every_pair_and_two_mismatches(model, batch):
    term = objective_terms(model, batch, only(itm=1.0, negatives="random"), seeded(3))["itm"]
    image, text = model.image_states(model.pixels(batch.images)), texts_of(model, batch)
    each = [
        F.cross_entropy(model.match_logits(model.fuse(image.rows([int(i)]), text.rows([int(j)]))), fit[None].long())
        for i, j, fit in zip(*matching_pairs(own_positives(batch), None, seeded(3)))
    ]
    assert len(each) == 21
    torch.testing.assert_close(term, torch.stack(each).mean())


@pytest.mark.parametrize("name", ["mlm", "text_mlm"])
def test_masked_words_cost_what_a_table_of_all_word_logits_says(model, batch, name):
    from vl.masking import WordMasker

    term = objective_terms(model, batch, only(**{name: 1.0}), seeded(5))[name]
    ids, hidden = WordMasker(model.tokenizer)(batch.input_ids, batch.attention_mask, seeded(5))
    target = batch.input_ids.masked_fill(~hidden, -100)
    states = model.text_states(ids, batch.attention_mask)
    if name == "mlm":
        image = model.image_states(model.pixels(batch.images))
        logits, target = model.vocabulary(model.fuse(image, states.rows(batch.text)).text), target[batch.text]
    else:
        logits = model.alone(states.states)
    torch.testing.assert_close(term, F.cross_entropy(logits.transpose(1, 2), target))


def test_a_caption_costs_what_reading_it_word_by_word_does(model, batch):
    term = objective_terms(model, batch, only(caption=1.0), seeded())["caption"]
    image = model.image_states(model.pixels(batch.images))
    each = []
    for b, r in enumerate(batch.text.tolist()):
        length = int(batch.attention_mask[r].sum())
        for end in range(1, length):  # the model is given the words before alone
            before = batch.input_ids[[r], :end]
            text = model.text_states(before, torch.ones_like(before), causal=True)
            states = model.fuse(image.rows([b]), text, causal=True).text
            each.append(F.cross_entropy(model.vocabulary(states[:, -1]), batch.input_ids[[r], end]))
    torch.testing.assert_close(term, torch.stack(each).mean())


def test_hidden_cells_alone_are_told_and_they_are_grey(model, batch):
    seen = []
    inner = model.image_states
    model.image_states = lambda pixels, **given: (seen.append(pixels), inner(pixels, **given))[1]
    try:
        term = objective_terms(model, batch, only(mim=1.0, mim_share=0.25), seeded())["mim"]
    finally:
        del model.image_states
    hidden = (seen[0] == 0).all(1)
    assert hidden.sum((1, 2)).tolist() == [4 * 64] * 7  # 4 of 16 squares
    difference = model.pixels_of(inner(seen[0]).states) - model.pixels(batch.images)
    torch.testing.assert_close(term, difference.abs().permute(0, 2, 3, 1)[hidden].mean())


def test_known_encodings_are_used_and_give_the_same_terms(model, batch):
    objectives = Objectives(**EVERYTHING | {"mim": 0.0})
    fresh = objective_terms(model, batch, objectives, seeded())
    image = model.image_states(model.pixels(batch.images))
    text = model.text_states(batch.input_ids, batch.attention_mask)
    model.calls.clear()
    blind = dataclasses.replace(batch, images=torch.zeros(0, 32, 32, 3, dtype=torch.uint8))
    known = objective_terms(model, blind, objectives, seeded(), image=image, text=text)
    assert model.calls["image"] == 0 and model.calls["text"] == 2
    torch.testing.assert_close(known, fresh)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (NOTHING, "at least one above 0"),
        ({"itm": -1.0}, "0 or more"),
        ({"itc": float("nan")}, "0 or more"),
        ({"itc_loss": "softmx"}, "softmax"),
        ({"overlap": "both"}, "overlap"),
        ({"negatives": "easy"}, "negatives"),
        ({"mlm_probability": 1.0}, "mlm_probability"),
        ({"mim_share": 0.0}, "mim_share"),
    ],
)
def test_objectives_that_cannot_be_asked_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        Objectives(**given)


def test_objectives_name_what_the_model_needs():
    assert Objectives().heads() == set() and not Objectives().fuses()
    assert Objectives(mim=1.0, text_mlm=1.0).heads() == {"mim_head", "text_mlm_head"}
    assert Objectives(caption=0.5).fuses()


SHARED = """
import dataclasses, json, torch
from core import distributed as d
from tests.vl.stand_in import StandIn, make_batch
from tests.vl.test_objectives import DETERMINED, REPEATED, seeded
from vl.objectives import objective_terms, weighted_sum
torch.set_num_threads(1)
with d.processes():
    model = StandIn.create()
    whole = make_batch(model, REPEATED)
    mine = slice(3 * d.rank(), 3 * d.rank() + 3)
    part = dataclasses.replace(whole, images=whole.images[mine], gain=whole.gain[mine], text=whole.text[mine])
    terms = objective_terms(model, part, DETERMINED, seeded())
    weighted_sum(terms, DETERMINED).backward()
    d.sum_gradients(model.parameters())
    told = {name: d.sum_over_ranks(term.detach()).item() for name, term in terms.items()}
    print(json.dumps([told, model.words.weight.grad.tolist(), model.patches.weight.grad[:, 0, 0].tolist()]))
d.leave()
"""
DETERMINED = only(itc=1.0, caption=2.0)  # no draws
REPEATED = [SENTENCES[i] for i in (0, 1, 2, 2, 3, 0)]


@pytest.mark.slow
def test_two_processes_have_the_terms_and_the_gradients_of_one():
    model = StandIn.create()
    terms = objective_terms(model, make_batch(model, REPEATED), DETERMINED, seeded())
    weighted_sum(terms, DETERMINED).backward()
    for out in launch(["-c", SHARED], 2):
        told, words, patches = json.loads(out)
        assert told == pytest.approx({name: term.item() for name, term in terms.items()}, rel=1e-5)
        torch.testing.assert_close(torch.tensor(words), model.words.weight.grad)
        torch.testing.assert_close(torch.tensor(patches), model.patches.weight.grad[:, 0, 0])
