"""Facts about vl/image_text_lm.py, with models of random weights made here."""

import numpy as np
import pytest
import torch

from core.errors import InputError, MissingFileError
from tests.vl.tiny_image_text import TEMPLATE, save_llava, save_qwen
from vl.causal_lm import TransformersGenerator
from vl.generator import CachedGenerator, Failure, GeneratorConfig, load_generator
from vl.image_text_lm import ImageTextGenerator

PROMPTS = ["the red chair", "bed", "task : the red chair done", "the bed"]


def pictures(*counts, seed=0):
    rng = np.random.default_rng(seed)
    return [[rng.integers(0, 256, (20 + 3 * k, 24, 3), dtype=np.uint8) for k in range(n)] for n in counts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("llava")
    save_llava(path)
    return path


def slow_greedy(model, processor, text, shown, max_tokens):
    """The likeliest token at a time, one prompt, no cache; None where no end comes."""
    inputs = processor(images=shown or None, text=[text], return_tensors="pt")
    ids, said = inputs["input_ids"], []
    for _ in range(max_tokens):
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=inputs.get("pixel_values")).logits
        token = int(logits[0, -1].argmax())
        if token == 1:
            return processor.tokenizer.decode(said, skip_special_tokens=True).strip()
        said.append(token)
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return None


def test_greedy_answers_are_those_of_one_prompt_at_a_time(tmp_path):
    ended = 0
    shown = pictures(2, 0, 1, 2)
    for seed in (0, 2):
        model, processor = save_llava(tmp_path / str(seed), seed=seed)
        generator = ImageTextGenerator(tmp_path / str(seed), batch_size=3)
        answers = generator.generate(PROMPTS, max_tokens=7, pictures=shown)
        for prompt, group, answer in zip(PROMPTS, shown, answers):
            text = generator._worded(prompt, "", len(group))
            expected = slow_greedy(model, processor, text, group, 7)
            if expected is None:
                assert isinstance(answer, Failure) and answer.cause == "truncated"
            else:
                assert answer == expected or (isinstance(answer, Failure) and not expected)
                ended += 1
    assert 0 < ended < 8


def test_a_draw_depends_on_prompt_pictures_and_seed_and_not_on_the_batch(folder):
    one, many = ImageTextGenerator(folder, batch_size=1), ImageTextGenerator(folder, batch_size=8)
    ask = {"max_tokens": 15, "temperature": 1.0}
    shown = pictures(2, 1, 2, 3)
    answers = many.generate(PROMPTS, **ask, seed=5, pictures=shown)
    assert one.generate(PROMPTS[::-1], **ask, seed=5, pictures=shown[::-1]) == answers[::-1]
    assert many.generate(PROMPTS, **ask, seed=6, pictures=shown) != answers
    assert many.generate(PROMPTS, **ask, seed=5, pictures=pictures(2, 1, 2, 3, seed=1)) != answers


def test_a_processor_with_a_video_side_serves_pictures_without_torchvision(tmp_path):
    save_qwen(tmp_path)
    ask = {"max_tokens": 15, "temperature": 1.0, "pictures": pictures(2, 0, 1, 2)}
    many = ImageTextGenerator(tmp_path, batch_size=4)
    answers = many.generate(PROMPTS, **ask)
    assert ImageTextGenerator(tmp_path, batch_size=1).generate(PROMPTS, **ask) == answers
    assert sum(isinstance(answer, str) for answer in answers) and many.counts.pictures == 5
    assert many._worded("task", "", 1) == "user : <|vision_start|><|image_pad|><|vision_end|> task done "


def test_several_pictures_are_numbered_from_0_and_one_is_not(folder, tmp_path):
    generator = ImageTextGenerator(folder)
    said = "system : bed user : Picture 0: <image> Picture 1: <image> the task done "
    assert generator._worded("the task", "bed", 2) == said
    assert generator._worded("the task", "", 1) == "user : <image> the task done "
    save_llava(tmp_path, template=None)
    plain = ImageTextGenerator(tmp_path)
    assert plain._worded("the task", "bed", 2) == "bed\n\nPicture 0: <image>\nPicture 1: <image>\nthe task"
    assert plain._worded("the task", "", 1) == "<image>\nthe task"


def test_a_template_without_a_system_role_gets_it_before_the_pictures(tmp_path):
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TEMPLATE
    save_llava(tmp_path, template=refusing)
    assert ImageTextGenerator(tmp_path)._worded("task", "bed", 1) == "user : bed\n\n <image> task done "


def test_answers_failures_tokens_and_pictures_are_counted(folder):
    generator = ImageTextGenerator(folder, batch_size=2)
    shown = pictures(1, 2, 30, 1)
    answers = generator.generate(PROMPTS, max_tokens=8, temperature=1.0, pictures=shown)
    assert answers[2].cause == "prompt too long" and "the model reads 128" in answers[2].detail
    counts = generator.counts
    assert counts.calls == 4 and counts.failures.total() == sum(isinstance(a, Failure) for a in answers)
    assert counts.pictures == 34 and counts.picture_bytes == sum(p.nbytes for group in shown for p in group)
    # "user : the red chair done" + 4 per picture; with two also "Picture 0 :" and "Picture 1 :"
    assert counts.prompt_tokens == (6 + 4) + (4 + 8 + 6) + (5 + 4)
    assert 0 < counts.answer_tokens <= 3 * 8 and counts.seconds > 0
    assert generator.generate([], max_tokens=8, pictures=[]) == []


def test_a_configuration_names_a_folder_of_either_kind(folder, tmp_path):
    from tests.vl.test_causal_lm import save_causal_lm

    save_causal_lm(tmp_path / "words")
    assert isinstance(load_generator(GeneratorConfig(model=str(tmp_path / "words"))), TransformersGenerator)
    config = GeneratorConfig(model=str(folder), cache=str(tmp_path / "cache"), price_in=2.0, price_out=10.0)
    cached = load_generator(config)
    assert isinstance(cached, CachedGenerator) and isinstance(cached.generator, ImageTextGenerator)
    ask = {"max_tokens": 40, "temperature": 1.0, "pictures": pictures(1, 1, 2, 1)}
    answers = cached.generate(PROMPTS, **ask)
    counts = cached.counts
    assert counts.money == pytest.approx((2 * counts.prompt_tokens + 10 * counts.answer_tokens) / 1e6) and counts.money
    again = load_generator(config)
    assert again.generate(PROMPTS, **ask) == answers
    assert again.counts.hits == sum(isinstance(a, str) for a in answers) > 0 and counts.calls == 4


def test_folders_that_hold_no_image_text_model_are_named(folder, tmp_path):
    with pytest.raises(MissingFileError, match="image-text model folder not found"):
        ImageTextGenerator(tmp_path / "nothing")
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(InputError, match="does not load as an image-text model"):
        ImageTextGenerator(tmp_path)
    for file in folder.iterdir():  # the weights alone
        if file.name in ("config.json", "generation_config.json", "model.safetensors"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="does not load as an image-text model"):
        ImageTextGenerator(tmp_path)


def test_a_prompt_cannot_slip_in_a_picture_of_its_own_and_the_others_are_answered(folder):
    generator = ImageTextGenerator(folder)
    ask = {"max_tokens": 15, "temperature": 1.0}
    answers = generator.generate(["the <image> task", "bed"], **ask, pictures=pictures(1, 1))
    assert answers[0] == Failure("refused", "the prompt holds '<image>', which stands for a picture in this model")
    assert answers[1:] == generator.generate(["bed"], **ask, pictures=pictures(1, 1)[1:])
    assert generator.counts.failures["refused"] == 1


def test_pictures_that_a_processor_does_not_take_are_named(tmp_path):
    save_qwen(tmp_path)
    strip = np.zeros((2, 900, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"does not take pictures of \[\(2, 900\)\].*aspect ratio"):
        ImageTextGenerator(tmp_path).generate(["bed"], max_tokens=3, pictures=[[strip]])
