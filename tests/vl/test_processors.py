"""Facts about vl/processors.py."""

import pytest

from core.errors import InputError
from tests.vl.tiny_image_text import save_qwen
from vl.processors import load_processor, without_video


def test_a_processor_without_its_video_side_keeps_the_name_and_the_other_sides():
    from transformers import Qwen2_5_VLProcessor

    kind = without_video(Qwen2_5_VLProcessor)
    assert kind.__name__ == "Qwen2_5_VLProcessor"
    assert [*kind.get_attributes()] == [n for n in Qwen2_5_VLProcessor.get_attributes() if n != "video_processor"]


def test_a_model_with_words_alone_has_no_such_processor(tmp_path):
    save_qwen(tmp_path)
    assert load_processor(str(tmp_path), True).image_processor is not None
    from transformers import LlamaConfig

    LlamaConfig().save_pretrained(tmp_path)
    for name in ("preprocessor_config.json", "processor_config.json"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(InputError, match="no processor for pictures and words"):
        load_processor(str(tmp_path), True)
