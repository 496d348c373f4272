"""Facts about agents/reasoning/vlm.py, families.py and small_vlm.py, on models of random weights made here."""

import numpy as np
import pytest
import torch

from agents.reasoning.families import FAMILIES
from agents.reasoning.small_vlm import PRESETS, SmallVLMConfig, make_model, make_tokenizer
from agents.reasoning.vlm import VLM, next_position, without_pictures
from core.errors import InputError, MissingFileError
from tests.agents.reasoning.tiny_vlm import ANSWERS, FAMILY_NAMES, PROMPTS, TEXTS, some_pictures, tiny_vlm
from tests.vl.tiny_image_text import save_llava, save_qwen

CLOSE = 2e-5  # logits have a standard deviation of about 1, floats of 32 bits


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def vlm(request):
    return tiny_vlm(request.param)


@pytest.fixture(scope="module")
def llava():
    return tiny_vlm()


@pytest.fixture(scope="module")
def llava_folder(llava, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava") / "model"
    llava.save_pretrained(folder)
    return folder


@torch.no_grad()
def answer_logits(vlm, prompts, responses):
    """Logits of each response token and of what follows the last, (B, T+1, V)."""
    return vlm.model(**vlm.forward_inputs(prompts, responses)).logits[:, prompts.input_ids.shape[1] - 1 :]


def largest_gap(one, other, mask):
    """Where tokens count; what follows the last is left out."""
    return float((one - other)[:, :-1][mask].abs().max())


def gap_to_rows_alone(vlm, pictures, prompts, responses):
    """How far the logits of any row in the batch are from those of the row by itself."""
    together, gaps = answer_logits(vlm, prompts, responses), []
    for row in range(len(PROMPTS)):
        own = responses.rows([row])
        alone = answer_logits(vlm, vlm.encode([PROMPTS[row]], [pictures[row]]), own)
        gaps.append(largest_gap(alone, together[[row]], own.mask))
    return max(gaps)


def test_a_row_alone_equals_the_row_padded_among_others(vlm):
    pictures = some_pictures()
    prompts, responses = vlm.encode(PROMPTS, pictures), vlm.encode_answers(ANSWERS)
    assert (prompts.attention_mask == 0).any(1).sum() >= 2  # rows of several lengths
    assert gap_to_rows_alone(vlm, pictures, prompts, responses) < CLOSE


def test_rows_keep_their_pictures_when_they_are_shuffled_and_repeated(vlm):
    pictures = some_pictures()
    prompts, responses = vlm.encode(PROMPTS, pictures), vlm.encode_answers(ANSWERS)
    straight = answer_logits(vlm, prompts, responses)
    order = [2, 0, 3, 1, 1, 0]
    moved = answer_logits(vlm, prompts.rows(order), responses.rows(order))
    assert largest_gap(moved, straight[order], responses.mask[order]) < CLOSE
    # with the pictures of row 0 swapped, these checks would fail by far
    swapped = vlm.encode(PROMPTS, [some_pictures(seed=1)[0], *pictures[1:]])
    gap = (answer_logits(vlm, swapped, responses) - straight)[:, :-1].abs().amax((1, 2))
    assert gap[0] > 0.5 and float(gap[1:].max()) < CLOSE


def test_a_step_with_the_cache_equals_the_forward_pass_of_the_whole(vlm):
    prompts, responses = vlm.encode(PROMPTS, some_pictures()), vlm.encode_answers(ANSWERS)
    whole = answer_logits(vlm, prompts, responses)
    inputs = vlm.forward_inputs(prompts)
    with torch.no_grad():
        step = vlm.model(**inputs, use_cache=True)
        mask, position = inputs["attention_mask"], next_position(inputs["position_ids"])
        assert float((step.logits[:, -1] - whole[:, 0]).abs().max()) < CLOSE
        for t in range(3):
            mask = torch.cat([mask, responses.mask[:, t : t + 1].long()], dim=1)
            step = vlm.model(
                input_ids=responses.ids[:, t : t + 1],
                attention_mask=mask,
                position_ids=position[:, None] + t,
                past_key_values=step.past_key_values,
            )
            counts = responses.mask[:, t]
            assert float((step.logits[:, 0] - whole[:, t + 1])[counts].abs().max()) < CLOSE


def test_the_inputs_of_prompts_equal_those_that_transformers_generates_from(vlm):
    prompts = vlm.encode(PROMPTS, some_pictures())
    inputs = vlm.forward_inputs(prompts)
    own = answer_logits(vlm, prompts, None)[:, -1]
    theirs = {name: value for name, value in inputs.items() if name != "position_ids"}
    out = vlm.model.generate(
        **theirs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    assert float((out.logits[0] - own).abs().max()) < CLOSE


def test_placeholders_are_as_many_as_the_features_of_the_pictures(vlm):
    prompts = vlm.encode(PROMPTS, some_pictures())
    counts = prompts.on_picture.sum(1).tolist()
    expected = {  # of 32 x 32 pixels and cells of 8; the last keeps the shape of a picture, 2 x 4 or 4 x 4 cells of 16
        "llava": [16, 32, 16, 0],
        "paligemma": [16, 32, 16, 0],
        "idefics3": [4, 8, 4, 0],
        "qwen2_5_vl": [4, 2 + 4, 2, 0],
    }
    assert counts == expected[vlm.model.config.model_type]
    assert prompts.pictures[3] == {}


def test_the_last_hidden_states_are_what_the_final_norm_puts_out(vlm):
    seen = {}
    hook = vlm.final_norm().register_forward_hook(lambda module, given, out: seen.update(out=out))
    inputs = vlm.forward_inputs(vlm.encode(PROMPTS, some_pictures()), vlm.encode_answers(ANSWERS))
    with torch.no_grad():
        out = vlm.model(**inputs, output_hidden_states=True)
        hook.remove()
        assert torch.equal(seen["out"], out.hidden_states[-1])
        assert torch.equal(vlm.lm_head()(seen["out"]), out.logits)


def test_no_token_that_stands_for_a_picture_may_be_said(vlm):
    known = vlm.tokenizer.get_vocab()
    assert {known[token] for token in vlm.family.special} <= {*vlm.vision_ids}
    assert vlm.picture_id in vlm.vision_ids and vlm.pad_id in vlm.vision_ids
    assert vlm.eos_ids == (known["</s>"],) and known["</s>"] not in vlm.vision_ids
    for token in ("<think>", "</answer>", "▁red", "2", "\n"):
        assert known[token] not in vlm.vision_ids


def test_a_saved_model_answers_alike_and_loads_without_a_network(vlm, tmp_path):
    pictures = some_pictures()
    vlm.save_pretrained(tmp_path / "model")
    again = VLM.from_pretrained(tmp_path / "model")
    prompts, responses = again.encode(PROMPTS, pictures), again.encode_answers(ANSWERS)
    assert torch.equal(prompts.input_ids, vlm.encode(PROMPTS, pictures).input_ids)
    assert torch.equal(answer_logits(again, prompts, responses), answer_logits(vlm, prompts, responses))
    assert (again.vision_ids, again.eos_ids, again.pad_id) == (vlm.vision_ids, vlm.eos_ids, vlm.pad_id)
    assert again.context == vlm.context == 128


def gradients(vlm):
    """Names of the weights that get a gradient."""
    inputs = vlm.forward_inputs(vlm.encode(PROMPTS, some_pictures()), vlm.encode_answers(ANSWERS))
    vlm.model.train()
    vlm.model(**inputs, use_cache=False).logits.square().mean().backward()
    return {name for name, value in vlm.model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_weight_that_learns_gets_a_gradient_and_vision_can_be_frozen(family):
    vlm = tiny_vlm(family)
    learning = {name for name, value in vlm.model.named_parameters() if value.requires_grad}
    assert gradients(vlm) == learning
    vlm.model.zero_grad()
    vlm.freeze_vision()
    words = {name for name in learning if f".{vlm.family.language}." in name or name.startswith("lm_head")}
    assert gradients(vlm) == words and words < learning


def test_a_loaded_model_can_have_vision_frozen_and_activations_recomputed(llava, llava_folder):
    loaded = VLM.from_pretrained(llava_folder, freeze_vision=True, gradient_checkpointing=True)
    names = gradients(loaded)
    assert names and not any("vision_tower" in name or "projector" in name for name in names)
    plain = VLM.from_pretrained(llava_folder)
    gradients(plain)
    for name in names:
        one, other = (chosen.model.get_parameter(name).grad for chosen in (loaded, plain))
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llava", "idefics3"])
def test_adapters_alone_learn_begin_as_nothing_and_are_merged_when_saved(family, tmp_path):
    vlm = tiny_vlm(family)
    prompts, responses = vlm.encode(PROMPTS, some_pictures()), vlm.encode_answers(ANSWERS)
    before = answer_logits(vlm, prompts, responses)
    vlm.add_lora(2)
    learning = [name for name, value in vlm.model.named_parameters() if value.requires_grad]
    assert learning and all(".lora_" in name and vlm.family.language in name for name in learning)
    assert torch.equal(answer_logits(vlm, prompts, responses), before)
    torch.manual_seed(0)
    for name in learning:
        if "lora_B" in name:
            vlm.model.get_parameter(name).data.normal_(std=0.1)
    after = answer_logits(vlm, prompts, responses)
    assert float((after - before).abs().max()) > 0.5
    with vlm.without_lora():
        assert torch.equal(answer_logits(vlm, prompts, responses), before)
    assert torch.equal(answer_logits(vlm, prompts, responses), after)
    vlm.save_pretrained(tmp_path / "merged")
    merged = VLM.from_pretrained(tmp_path / "merged", lora=1)  # whose own adapter is nothing yet
    assert torch.allclose(answer_logits(merged, prompts, responses), after, atol=1e-4)
    assert sum(p.requires_grad for p in merged.model.parameters()) == len(learning)


def test_a_model_is_not_written_over_another_folder(llava, llava_folder):
    with pytest.raises(InputError, match="exists already"):
        llava.save_pretrained(llava_folder)


def test_positions_of_qwen_follow_the_grid_and_plain_text_positions_would_differ():
    vlm = tiny_vlm("qwen2_5_vl")
    prompts = vlm.encode(["<picture> bed ?"], some_pictures([[(32, 32)]]))
    inputs = vlm.forward_inputs(prompts, vlm.encode_answers(["2"]))
    # <user> <|vision_start|> four cells <|vision_end|> ▁bed ▁? <assistant>, then "2" and the end
    time, row, column = inputs["position_ids"][:, 0].tolist()
    assert time == [0, 1, 2, 2, 2, 2, 4, 5, 6, 7, 8, 9]
    assert row == [0, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9]
    assert column == [0, 1, 2, 3, 2, 3, 4, 5, 6, 7, 8, 9]
    assert inputs["mm_token_type_ids"][0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    plain = {name: value for name, value in inputs.items() if name not in ("position_ids", "mm_token_type_ids")}
    with torch.no_grad():
        gap = (vlm.model(**plain).logits - vlm.model(**inputs).logits).abs().max()
    assert float(gap) > 0.5


def test_the_prompt_of_paligemma_is_seen_both_ways_and_the_response_is_not():
    vlm = tiny_vlm("paligemma")
    pictures = some_pictures([[(32, 32)]])
    prompts = [vlm.encode([text], pictures) for text in ("<picture> red bed", "<picture> red chairs")]
    answers = [vlm.encode_answers([text]) for text in ("2 red", "2 bed")]
    with torch.no_grad():
        first = [vlm.model.model(**vlm.forward_inputs(prompt)).last_hidden_state[0, 0] for prompt in prompts]
    assert float((first[0] - first[1]).abs().max()) > 0.1  # the last word reaches the first placeholder
    one, other = (answer_logits(vlm, prompts[0], answer)[0] for answer in answers)
    assert torch.allclose(one[:2], other[:2], atol=CLOSE) and float((one[2] - other[2]).abs().max()) > 0.1


def test_tiles_of_several_sizes_and_numbers_keep_to_their_rows():
    family = FAMILIES["idefics3"]
    small = {"pixel_values": torch.full((1, 3, 8, 8), 1.0), "pixel_attention_mask": torch.ones(1, 8, 8).bool()}
    large = {"pixel_values": torch.full((2, 3, 16, 8), 2.0), "pixel_attention_mask": torch.ones(2, 16, 8).bool()}
    both = family.together([small, {}, large])
    assert both["pixel_values"].shape == (1, 3, 3, 16, 8)
    assert both["pixel_attention_mask"].sum((2, 3)).tolist() == [[64, 128, 128]]
    assert both["pixel_values"].amax((2, 3, 4)).tolist() == [[1, 2, 2]]
    assert family.together([{}, {}]) == {}


def test_pictures_cut_into_tiles_keep_to_their_rows():
    vlm = tiny_vlm("idefics3")
    images = vlm.processor.image_processor
    images.do_image_splitting = True  # into tiles of 32 pixels and the whole, shrunk to one
    pictures = some_pictures([[(32, 32)], [(64, 32), (32, 32)], [(64, 96)], []])
    prompts, responses = vlm.encode(PROMPTS, pictures), vlm.encode_answers(ANSWERS)
    assert [len(row.get("pixel_values", ())) for row in prompts.pictures] == [1, 2 + 1 + 1, 6 + 1, 0]
    assert prompts.on_picture.sum(1).tolist() == [4, 16, 28, 0]
    assert gap_to_rows_alone(vlm, pictures, prompts, responses) < CLOSE


@pytest.mark.parametrize(("made_as", "kind"), [("idefics3", "smolvlm"), ("qwen2_5_vl", "qwen2_vl")])
def test_relatives_of_a_family_are_read_in_the_same_way(made_as, kind):
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
    )

    base = tiny_vlm(made_as)
    config = base.model.config.to_dict()
    text, vision = config["text_config"], config["vision_config"]
    named = {name: value for name, value in config.items() if name.endswith("token_id")}
    if kind == "smolvlm":
        text["model_type"], vision["model_type"] = "llama", "smolvlm_vision"
        made = SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=2, **named)
        model = SmolVLMForConditionalGeneration(made)
    else:
        text["model_type"] = "qwen2_vl_text"
        sizes = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "patch_size": 8}
        model = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=sizes, **named))
    vlm = VLM(model.eval(), base.processor)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10 if parameter.ndim > 1 else 1)
    pictures = some_pictures()
    prompts, responses = vlm.encode(PROMPTS, pictures), vlm.encode_answers(ANSWERS)
    assert gap_to_rows_alone(vlm, pictures, prompts, responses) < CLOSE


def test_layers_of_a_tower_that_are_not_read_do_not_learn(llava):
    tower, layer = llava.model.model.vision_tower, llava.model.config.vision_feature_layer
    assert layer == -1 and llava.family.idle(llava.model) == [tower.post_layernorm]
    llava.model.config.vision_feature_layer = -2  # as LLaVA 1.5
    try:
        assert llava.family.idle(llava.model) == [tower.encoder.layers[1], tower.post_layernorm]
    finally:
        llava.model.config.vision_feature_layer = layer


def test_answers_come_back_as_text_and_end(llava):
    responses = llava.encode_answers(["<think> I see 12 .</think> <answer> 3.5 </answer>", "bed"])
    assert responses.texts == ("<think> i see 12 .</think><answer> 3.5</answer>", "bed")
    assert responses.mask.sum(1).tolist() == [13, 2] and responses.ended.all()
    assert responses.ids[1, 1] in llava.eos_ids and (responses.ids[1, 2:] == llava.pad_id).all()
    cut = responses.mask.clone()
    cut[0, 5:] = False
    assert llava.decode(responses.ids, cut)[0] == "<think> i see 12"


def test_two_seeds_alike_give_models_alike_and_leave_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, same, other = (tiny_vlm(seed=seed).model.lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(torch.rand(1), expected)


def test_grey_pictures_have_the_sizes_of_those_they_stand_for():
    pictures = some_pictures()
    grey = without_pictures(pictures)
    assert [[p.shape for p in row] for row in grey] == [[p.shape for p in row] for row in pictures]
    assert {int(value) for row in grey for picture in row for value in np.unique(picture)} == {127}


def test_sizes_by_name_are_what_they_say():
    def count(preset):
        config = SmallVLMConfig(**PRESETS[preset])
        tokenizer = make_tokenizer(config, TEXTS)
        return sum(p.numel() for p in make_model(config, tokenizer, seed=0, device="meta").parameters())

    assert 1_000_000 < count("small") < 2_000_000
    assert count("medium") > 5_000_000
    assert 3.6e9 < count("qwen2.5-vl-3b") < 3.9e9  # as released, with the vision tower


# --- what is refused ---


@pytest.mark.parametrize(
    ("prompt", "count", "message"),
    [
        ("how many ?", 1, "prompt 1 has 0 <picture> for 1 pictures"),
        ("<picture> <picture> bed", 1, "prompt 1 has 2 <picture> for 1 pictures"),
        ("<picture> bed", 0, "prompt 1 has 1 <picture> for 0 pictures"),
        ("a <image> bed", 0, "prompt 1 holds '<image>'"),
        ("bed " * 200, 0, "prompt 1 takes 202 tokens with its 0 pictures, .* the model reads 128"),
        ("<picture>" * 8, 8, "prompt 1 takes 130 tokens with its 8 pictures"),
    ],
)
def test_prompts_that_do_not_fit_are_refused_by_number(llava, prompt, count, message):
    pictures = some_pictures([[(32, 32)] * count])
    with pytest.raises(InputError, match=message):
        llava.encode(["bed", prompt], [[], *pictures])


def test_room_for_the_response_counts(llava):
    prompt = "bed " * 100  # and <user>, <assistant>
    assert len(llava.encode([prompt], [[]], reserve=26)) == 1
    with pytest.raises(InputError, match="no room for 27 of the response"):
        llava.encode([prompt], [[]], reserve=27)


@pytest.mark.parametrize(
    "picture", [np.zeros((32, 32), np.uint8), np.zeros((3, 32, 32), np.uint8), np.zeros((32, 32, 3), np.float32)]
)
def test_what_is_no_picture_is_refused(llava, picture):
    with pytest.raises(InputError, match="prompt 0 came with a picture of shape"):
        llava.encode(["<picture> bed"], [[picture]])


def test_a_picture_that_the_processor_does_not_take_is_refused():
    thin = np.zeros((2, 500, 3), np.uint8)
    with pytest.raises(InputError, match="prompt 0: the processor does not take pictures of .*aspect ratio"):
        tiny_vlm("qwen2_5_vl").encode(["<picture> bed"], [[thin]])


def test_a_prompt_too_few_and_no_prompt_at_all(llava):
    with pytest.raises(InputError, match="2 prompts came with pictures for 1"):
        llava.encode(["bed", "bed"], [[]])
    assert len(llava.encode([], [])) == 0


def test_models_that_others_wrote_are_loaded(tmp_path):
    save_llava(tmp_path / "llava")
    save_qwen(tmp_path / "qwen")  # as the hub has it: its processor would have a video side
    for folder, placeholders in (("llava", 4), ("qwen", 4 * 3)):
        loaded = VLM.from_pretrained(tmp_path / folder)
        prompts = loaded.encode(["<picture> the red chair", "bed"], some_pictures([[(32, 24)], []]))
        assert prompts.on_picture.sum(1).tolist() == [placeholders, 0]
        assert loaded.eos_ids == (1,)
        assert torch.isfinite(answer_logits(loaded, prompts, loaded.encode_answers(["the bed", "chair"]))).all()


def test_what_is_no_image_text_model_is_refused(tmp_path):
    from transformers import CLIPConfig, CLIPModel, LlamaConfig, LlamaForCausalLM

    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=8, **text)).save_pretrained(tmp_path / "words")
    small = {**text, "vocab_size": 8, "image_size": 8, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=small, vision_config=small)).save_pretrained(tmp_path / "clip")
    with pytest.raises(InputError, match="a llama model, which is no image-text policy; expected one of llava"):
        VLM.from_pretrained(tmp_path / "words")
    with pytest.raises(InputError, match="a clip model"):
        VLM.from_pretrained(tmp_path / "clip")
    with pytest.raises(MissingFileError, match="folder not found"):
        VLM.from_pretrained(tmp_path / "nothing")
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    with pytest.raises(MissingFileError, match=r"run holds no image-text model .*; a model is in .*run/model"):
        VLM.from_pretrained(tmp_path / "run")
    with pytest.raises(InputError, match="does not load"):
        VLM.from_pretrained(tmp_path / "run" / "model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="no config.json"):
        VLM.from_pretrained(tmp_path / "empty")


def test_a_folder_whose_weights_are_incomplete_is_refused(llava, tmp_path):
    from safetensors.torch import load_file, save_file

    llava.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    weights = load_file(path)
    gone = next(name for name in weights if name.endswith("down_proj.weight"))
    save_file({name: value for name, value in weights.items() if name != gone}, path, {"format": "pt"})
    with pytest.raises(InputError, match="lacks 1 of the model's weights, .*down_proj"):
        VLM.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"family": "lava"}, "did you mean 'llava'"),
        ({"width": 100, "heads": 3}, "width=100 does not split"),
        ({"heads": 4, "kv_heads": 3}, "do not share"),
        ({"image_size": 60}, "no multiple of 8"),
        ({"family": "idefics3", "image_size": 72}, "no multiple of 16"),
        ({"context": 64}, "holds no picture"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        SmallVLMConfig(**sizes)


def test_a_tokenizer_of_another_family_is_refused():
    tokenizer = make_tokenizer(SmallVLMConfig(), TEXTS)
    with pytest.raises(InputError, match=r"lacks <\|image_pad\|>"):
        VLM.create(SmallVLMConfig(family="qwen2_5_vl"), tokenizer, seed=0)
    with pytest.raises(InputError, match="the model takes vocabulary=20"):
        VLM.create(SmallVLMConfig(vocabulary=20), tokenizer, seed=0)
