import pytest
import torch

from agents.reasoning.decoding import Decoder, LlamaDecoder, PromptsRead, decoder_for, read_prompts
from agents.reasoning.small_vlm import PRESETS, SmallVLMConfig
from agents.reasoning.vlm import VLM
from tests.agents.reasoning.tiny_vlm import TEXTS, tiny_prompts, tiny_vlm

SAMPLES, ROOM = 3, 6


def walk(kind: type, vlm: VLM, read: PromptsRead) -> list[torch.Tensor]:
    """Logits after the same tokens; half-way some rows are left out."""
    tokens = torch.arange(3 * SAMPLES * ROOM).view(ROOM, -1) % 30 + 4
    decoder = kind(vlm, read, SAMPLES, ROOM)
    found = [decoder.logits(tokens[step]) for step in range(3)]
    rows = torch.tensor([0, 2, 7, 8])  # two of the first prompt, two of the third
    decoder.keep(rows, 2)
    return found + [decoder.logits(tokens[step][rows]) for step in range(3, ROOM)]


@pytest.mark.parametrize("family", ["llava", "idefics3", "qwen2_5_vl"])
@torch.no_grad()
def test_own_walk_through_layers_equals_that_of_transformers(family: str):
    vlm = tiny_vlm(family)
    assert LlamaDecoder.reads(vlm)
    for one, other in zip(*(walk(kind, vlm, read_prompts(vlm, tiny_prompts(vlm))) for kind in (Decoder, LlamaDecoder))):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_own_walk_with_heads_that_share_keys_adapters_and_half_precision():
    config = SmallVLMConfig(**{**PRESETS["tiny"], "heads": 4, "kv_heads": 2})
    vlm = VLM.create(config, TEXTS, seed=0)
    vlm.add_lora(2)
    for name, parameter in vlm.model.named_parameters():
        if "lora_B" in name:
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    exact = walk(Decoder, vlm, read_prompts(vlm, tiny_prompts(vlm)))
    for one, other in zip(exact, walk(LlamaDecoder, vlm, read_prompts(vlm, tiny_prompts(vlm)))):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    with vlm.without_lora():
        without = walk(LlamaDecoder, vlm, read_prompts(vlm, tiny_prompts(vlm)))
    assert max(float((one - other).abs().max()) for one, other in zip(exact, without)) > 1e-2
    with torch.autocast("cpu", torch.bfloat16):
        theirs, ours = (walk(kind, vlm, read_prompts(vlm, tiny_prompts(vlm))) for kind in (Decoder, LlamaDecoder))
    error, allowed = (
        sum(float((one - x.float()).abs().mean()) for one, x in zip(exact, found)) for found in (ours, theirs)
    )
    assert 0 < error < 1.5 * allowed


def test_a_family_with_other_layers_is_read_by_transformers():
    vlm = tiny_vlm("paligemma")
    with torch.no_grad():
        assert type(decoder_for(vlm, read_prompts(vlm, tiny_prompts(vlm)), 1, 1)) is Decoder
