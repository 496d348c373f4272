"""What differs between the image-text models of transformers: their picture tensors, positions and modules.

A `Family` is the LLaVA way, the plainest one; the others say where they differ. Everything that reads or trains a model
goes through `agents.reasoning.vlm.VLM`, which asks its family.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional

from vl.encoders import NORM_OF_POOLED_ONLY

Pictures = dict[str, Tensor]
"""The picture tensors of one row, without a row dimension: the leading one counts pictures, tiles or patches."""


class Family:
    """LLaVA: pictures of one size, (pictures, 3, H, W) in a row, and positions that count tokens."""

    language = "language_model"  # the module in `model.model` that reads words; the rest, but for the head, is vision
    special: tuple[str, ...] = ("<image>",)  # tokens that a tokenizer made here needs; the first stands for a picture
    tiles: tuple[str, ...] = ()  # more tokens that a processor may write around pictures

    def row_pictures(self, processed: dict[str, Tensor]) -> Pictures:
        """The picture tensors in what the processor makes of one row; {} for a row without pictures."""
        return {"pixel_values": processed["pixel_values"]} if "pixel_values" in processed else {}

    def together(self, rows: Sequence[Pictures]) -> dict[str, Tensor]:
        """The picture tensors of several rows as the model takes them: in the order of the placeholders."""
        shown = [row for row in rows if row]
        return {name: torch.cat([row[name] for row in shown]) for name in (shown[0] if shown else ())}

    def positions(
        self, model: nn.Module, input_ids: Int64[Tensor, "B L"], mask: Int64[Tensor, "B L"], pictures: dict[str, Tensor]
    ) -> Tensor:
        """Positions of prompts padded on the left, (B, L) or (3, B, L); those of padding are void."""
        return (mask.cumsum(1) - 1).clamp(min=0)

    def token_kinds(self, on_picture: Int64[Tensor, "B L"], answers: int) -> dict[str, Int64[Tensor, "B L+T"]]:
        """Further inputs per token, for prompts followed by `answers` tokens of responses."""
        return {}

    def words_alone(self, text: str, bos: str | None) -> str:
        """A prompt without pictures as the processor would lay it out; some take none."""
        return text

    def idle(self, model: Any) -> list[nn.Module]:
        """Modules whose output nothing reads: they never get a gradient."""
        layer, tower = model.config.vision_feature_layer, model.model.vision_tower
        tower = getattr(tower, "vision_model", tower)
        if not isinstance(layer, int) or not hasattr(tower, "encoder"):
            return []
        layers = tower.encoder.layers
        used = layer if layer >= 0 else len(layers) + 1 + layer  # feature k is what k layers make, feature -1 all
        idle = list(layers[used:])
        if hasattr(tower, "post_layernorm") and (idle or tower.config.model_type in NORM_OF_POOLED_ONLY):
            idle.append(tower.post_layernorm)
        return idle

    def language_model(self, model: Any) -> nn.Module:
        """The part that reads words and picture features, without the head."""
        return getattr(model.model, self.language)


class Idefics3(Family):
    """Idefics3 and SmolVLM: a picture may be cut into tiles; tiles of several sizes are padded and masked."""

    language = "text_model"
    special = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tiles = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))

    def row_pictures(self, processed: dict[str, Tensor]) -> Pictures:
        if "pixel_values" not in processed:
            return {}
        tiles = processed["pixel_values"][0]  # (1, tiles, 3, H, W) of a single row
        mask = processed.get("pixel_attention_mask")
        seen = mask[0] if mask is not None else torch.ones(len(tiles), *tiles.shape[-2:], dtype=torch.int64)
        return {"pixel_values": tiles, "pixel_attention_mask": seen.bool()}

    def together(self, rows: Sequence[Pictures]) -> dict[str, Tensor]:
        shown = [row for row in rows if row]
        if not shown:
            return {}
        height, width = (max(row["pixel_values"].shape[side] for row in shown) for side in (-2, -1))
        padded: dict[str, Tensor] = {}
        for name in ("pixel_values", "pixel_attention_mask"):
            values = [row[name] for row in shown]
            edges = [(0, width - value.shape[-1], 0, height - value.shape[-2]) for value in values]
            # the model flattens rows and pictures anyway: one row of all tiles needs no padding tiles
            padded[name] = torch.cat([functional.pad(v, edge) for v, edge in zip(values, edges)])[None]
        return padded

    def idle(self, model: Any) -> list[nn.Module]:
        return []


class Qwen2VL(Family):
    """Qwen2-VL and Qwen2.5-VL: patches of pictures of any size, and positions of three kinds (time, row, column)."""

    special = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")

    def row_pictures(self, processed: dict[str, Tensor]) -> Pictures:
        if "pixel_values" not in processed:
            return {}
        return {name: processed[name] for name in ("pixel_values", "image_grid_thw")}

    def positions(
        self, model: Any, input_ids: Int64[Tensor, "B L"], mask: Int64[Tensor, "B L"], pictures: dict[str, Tensor]
    ) -> Int64[Tensor, "3 B L"]:
        if not pictures:
            return super().positions(model, input_ids, mask, pictures).expand(3, -1, -1)
        kinds = (input_ids == model.config.image_token_id).int()
        found, _ = model.model.get_rope_index(
            input_ids, kinds, image_grid_thw=pictures["image_grid_thw"], attention_mask=mask
        )
        return found

    def token_kinds(self, on_picture: Int64[Tensor, "B L"], answers: int) -> dict[str, Int64[Tensor, "B L+T"]]:
        # without them the model would run in silence on positions of plain text
        return {"mm_token_type_ids": functional.pad(on_picture, (0, answers)).int()}

    def idle(self, model: Any) -> list[nn.Module]:
        return []


class PaliGemma(Family):
    """PaliGemma: the prompt sees itself in both directions, the response is causal; positions start at 1."""

    def positions(
        self, model: nn.Module, input_ids: Int64[Tensor, "B L"], mask: Int64[Tensor, "B L"], pictures: dict[str, Tensor]
    ) -> Int64[Tensor, "B L"]:
        return super().positions(model, input_ids, mask, pictures) + 1

    def token_kinds(self, on_picture: Int64[Tensor, "B L"], answers: int) -> dict[str, Int64[Tensor, "B L+T"]]:
        return {"token_type_ids": functional.pad(torch.zeros_like(on_picture), (0, answers), value=1)}

    def words_alone(self, text: str, bos: str | None) -> str:
        return f"{bos or ''}{text}\n"

    def idle(self, model: Any) -> list[nn.Module]:
        return []


FAMILIES: Final[dict[str, Family]] = {
    "llava": Family(),
    "idefics3": Idefics3(),
    "smolvlm": Idefics3(),
    "qwen2_vl": Qwen2VL(),
    "qwen2_5_vl": Qwen2VL(),
    "paligemma": PaliGemma(),
}
"""By `model_type` of the configuration."""
