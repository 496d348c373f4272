"""The scene and fine-tuning stages: which objects does a sentence mean, and what is the answer to a question?

Losses, each with a weight (scene/losses.py has the equations): the referral loss among a scene's objects; our anchor
loss; scenes against their captions; targets against sentences across the batch, before they are fused; masked words;
of sentences that mean several objects or none, one decision per object; answers to questions.

Every loss is computed so that the parts of all processes sum to the loss of the whole batch, whatever their number:
rows are split evenly, and contrasts see the rows of all processes.

Source: SceneVerse, arXiv:2401.09340, section 4.2, equations 5 to 8; fine-tuning: its released configurations.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from core import distributed
from scene.batch import collate_tokens
from scene.grounding import ANCHOR, Encoded, GroundingModel
from scene.losses import (
    IGNORED,
    anchor_loss,
    answer_loss,
    info_nce,
    mask_words,
    masked_word_loss,
    member_loss,
    referral_contrast,
    referral_loss,
    scale_of,
)
from scene.object_stage import encode_room
from scene.objects import rotate_points, subsample
from scene.optimise import seed_of
from scene.rooms import Room
from scene.sampling import Drawn, Sampler, SentenceBatch, assemble, drawn_caption, whole_rooms

SCENE_TEXTS: Final = ("words", "caption", "caption+referral")
"""What a scene is contrasted with: the mean of its caption's words, the caption's feature in the text tower (paper), or
that of caption and sentence in one text (released code)."""
MEASURES: Final = {"referral": "accuracy", "multi": "f1", "answers": "exact_match"}
"""What is measured on val, by task."""
EVALUATION_ROWS: Final = 256  # sentences per forward pass on val


@dataclass(frozen=True)
class Weights:
    """Of the parts of the loss; 0 leaves one out."""

    referral: float = 1.0
    anchor: float = 0.0
    scene: float = 0.0
    contrast: float = 0.0
    word: float = 0.0
    member: float = 0.0
    answer: float = 0.0


@dataclass
class SentenceStage:
    """Updates on sentences; one of the stages that `scene.pretrain` goes through."""

    model: GroundingModel
    tokenizer: PreTrainedTokenizerFast
    sampler: Sampler
    task: str  # referral, multi or answers
    weights: Weights
    scene_text: str = "words"
    cloud: Callable[[Room], Tensor] | None = None  # points of a room; given, the encoder is trained along
    bfloat16: bool = False
    swap: Mapping[int, int] | None = None  # tokens that change places in a mirror
    seed: int = 0

    def __post_init__(self) -> None:
        self.scenes = min(self.sampler.drawing.scenes, len(self.sampler.rooms))
        self.own = distributed.share(self.scenes, "rooms per batch")

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """This process's part of the loss of a step; the parts of all processes sum to the whole."""
        drawn = self.sampler.batch(step)
        batch = self._batch(drawn, step)
        with self._autocast():
            loss, shown = self._loss(batch, drawn, step)
        return loss, shown

    def _batch(self, drawn: Sequence[Drawn], step: int) -> SentenceBatch:
        return assemble(
            self.sampler.rooms,
            drawn[self.own.start : self.own.stop],
            self.tokenizer.pad_token_id,
            swap=self.swap,
            slots=self.model.config.slots,
            seeds=[(self.seed, step, slot) for slot in self.own],
            edges=self.model.config.graph_layers > 0,
            cloud=self.cloud,
        ).to(self.device)

    def _loss(self, batch: SentenceBatch, drawn: Sequence[Drawn], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        model, weights, world = self.model, self.weights, distributed.world_size()
        tokens, hidden, hidden_share = batch.tokens, None, 0.0
        if weights.word > 0:
            tokens, hidden, hidden_share = self._hide(batch, drawn, step)
        if self.cloud is not None:
            batch.scenes.features = self._features(batch, step)
        encoded = model.encode_scene(batch.scenes)
        fused = model.fuse(encoded, tokens, batch.words, batch.scene)
        parts: dict[str, Tensor] = {}
        shown: dict[str, Tensor] = {}
        if weights.referral > 0:
            parts["referral"] = referral_loss(fused.scores, batch.target) / world
            shown["accuracy"] = (fused.scores.argmax(1) == batch.target).float().mean().detach() / world
        if weights.member > 0:
            parts["member"] = member_loss(fused.members, batch.members) / world
        if weights.answer > 0:
            parts["answer"] = answer_loss(model.answer_logits(fused), self._answers(batch)) / world
        if weights.anchor > 0 and fused.fit.shape[-1]:
            parts["anchor"] = anchor_loss(fused.fit[..., ANCHOR], batch.anchors) / world
        if weights.scene > 0:
            parts["scene"] = self._scene_loss(batch, encoded, drawn)
        if weights.contrast > 0:
            objects = encoded.objects[batch.scene, batch.target]
            objects, text = (distributed.gather_rows(x.float()) for x in (objects, fused.sentence))
            scale = scale_of(model.referral_log_scale)
            parts["contrast"] = referral_contrast(objects, text, scale, self._target_ids(drawn)) / world
        if hidden is not None:
            places = (hidden.flatten() != IGNORED).nonzero()[:, 0]
            words = model.word_logits(fused, places)
            parts["word"] = masked_word_loss(words, hidden.flatten()[places]) * hidden_share
        total = torch.zeros((), device=self.device)
        for name, part in parts.items():
            total = total + getattr(weights, name) * part
        return total, {f"{name}_loss": part.detach() for name, part in parts.items()} | shown

    @property
    def device(self) -> torch.device:
        return self.model.object_log_scale.device

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)

    def _features(self, batch: SentenceBatch, step: int) -> Float[Tensor, "B N D"]:
        """Objects encoded now, from points drawn per scene."""
        clouds = []
        for slot, points in zip(self.own, batch.points):
            rng = np.random.default_rng([self.seed, step, slot, 1])
            cloud = subsample(points, self.model.config.points, rng)
            clouds.append(rotate_points(cloud, torch.from_numpy(rng.uniform(-np.pi, np.pi, len(cloud))).float()))
        features = self.model.object_encoder(torch.cat(clouds).to(self.device))
        return pad_sequence(list(features.split([len(cloud) for cloud in clouds])), batch_first=True)

    def _hide(self, batch: SentenceBatch, drawn: Sequence[Drawn], step: int) -> tuple[Tensor, Tensor, float]:
        """Tokens with 15 % hidden, the targets there, and this process's share of all hidden words of the batch.

        Drawn for the whole batch in one line, so that neither padding nor the number of processes changes the draw.
        """
        rooms, per_room = self.sampler.rooms, self.sampler.drawing.sentences
        lengths = np.concatenate([rooms[d.room].tokens.lengths[d.sentences] for d in drawn])
        start = np.concatenate([[0], np.cumsum(lengths)])
        first = self.own.start * per_room
        mine = slice(int(start[first]), int(start[first + len(batch.tokens)]))
        line = torch.zeros(int(start[-1]), dtype=torch.int64)
        line[mine] = batch.tokens[batch.words].cpu()
        generator = torch.Generator().manual_seed(seed_of(self.seed, step, 2))
        tokenizer = self.tokenizer
        # what other processes hold is 0 here, a special token, and those are never hidden
        special = torch.tensor(tokenizer.all_special_ids)
        masked, target = mask_words(line[None], special, tokenizer.mask_token_id, len(tokenizer), generator)
        tokens, hidden = batch.tokens.clone(), torch.full_like(batch.tokens, IGNORED)
        tokens[batch.words] = masked[0, mine].to(self.device)
        hidden[batch.words] = target[0, mine].to(self.device)
        own = (target[0, mine] != IGNORED).sum()
        total = distributed.sum_over_ranks(own.float().to(self.device))
        return tokens, hidden, float(own) / max(float(total), 1.0)

    def _scene_loss(self, batch: SentenceBatch, encoded: Encoded, drawn: Sequence[Drawn]) -> Tensor:
        """Contrast of the scenes of all processes with their captions; scenes described alike belong together."""
        model, pad_id = self.model, self.tokenizer.pad_token_id
        rows = batch.captions
        if self.scene_text == "caption+referral":
            end = self.tokenizer.sep_token_id
            first = [batch.tokens[i][batch.words[i]].tolist()[1:] for i in self._first(batch)]
            limit = model.config.max_tokens
            rows = [(row[:-1] + said)[: limit - 1] + [end] for row, said in zip(rows, first)]
        tokens, words = (x.to(self.device) for x in collate_tokens(rows, pad_id))
        if self.scene_text == "words":
            text = model.caption_features(tokens, words)
        else:
            text = model.text_features(tokens, words)
        # of the whole batch, without sending anything: every process knows what was drawn
        all_rows = [tuple(drawn_caption(self.sampler.rooms[d.room], d, self.swap or {})) for d in drawn]
        ids = torch.tensor([all_rows.index(row) for row in all_rows], device=self.device)
        scene, text = (distributed.gather_rows(x.float()) for x in (model.scene_features(encoded), text))
        return info_nce(scene, text, scale_of(model.scene_log_scale), ids) / distributed.world_size()

    def _first(self, batch: SentenceBatch) -> list[int]:
        """Row of the first sentence about each scene."""
        return [int((batch.scene == scene).nonzero()[0]) for scene in range(len(batch.scenes.valid))]

    def _target_ids(self, drawn: Sequence[Drawn]) -> Int64[Tensor, " S"]:
        """One number per object that is meant, over the whole batch."""
        rooms = self.sampler.rooms
        keys = [(d.room, int(rooms[d.room].members[s][0])) for d in drawn for s in d.sentences]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return torch.tensor([numbers[key] for key in keys], device=self.device)

    def _answers(self, batch: SentenceBatch) -> Float[Tensor, "S A"]:
        table = torch.zeros(len(batch.answers), self.model.config.answers)
        for row, right in zip(table, batch.answers):
            row[right] = 1
        return table.to(self.device)

    def batch_name(self, step: int) -> str:
        """What the batch of a step holds, for an error."""
        drawn = self.sampler.batch(step)
        keys = [self.sampler.rooms[d.room].key for d in drawn[:3]]
        return f"{len(drawn)} rooms, the first {', '.join(keys)}"


@torch.no_grad()
def evaluate(
    model: GroundingModel,
    rooms: Sequence[Room],
    pad_id: int,
    task: str,
    *,
    cloud: Callable[[Room], Tensor] | None = None,
    bfloat16: bool = False,
    seed: int = 0,
) -> float:
    """What `MEASURES` names for a task, over all sentences of these rooms; the processes share the work.

    accuracy: the target scores highest. f1: 2 |P and G| / (|P| + |G|) of the objects with a probability above 1/2, 1
    for a sentence that means nothing where none is predicted (Multi3DRefer, arXiv:2309.05251). exact_match: the
    likeliest answer is among the right ones.

    Args:
        cloud: points of a room; given, objects are encoded now.
    """
    model.eval()
    device = model.object_log_scale.device
    hits, count = 0.0, 0
    batches = whole_rooms(rooms, EVALUATION_ROWS)
    for drawn in batches[distributed.rank() :: distributed.world_size()]:
        if not drawn:
            continue
        batch = assemble(rooms, drawn, pad_id, edges=model.config.graph_layers > 0, cloud=cloud)
        if cloud is not None:
            parts = [encode_room(model, points, (seed, item.room)) for points, item in zip(batch.points, drawn)]
            batch.scenes.features = pad_sequence(parts, batch_first=True)
        batch = batch.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            fused = model.fuse(model.encode_scene(batch.scenes), batch.tokens, batch.words, batch.scene)
            answers = model.answer_logits(fused).argmax(1).tolist() if task == "answers" else []
        if task == "referral":
            hits += float((fused.scores.argmax(1) == batch.target).sum())
        elif task == "multi":
            chosen = (fused.members > 0).float()
            both, sizes = (chosen * batch.members).sum(1), chosen.sum(1) + batch.members.sum(1)
            hits += float(torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0).sum())
        else:
            hits += sum(found in right for found, right in zip(answers, batch.answers))
        count += len(batch.tokens)
    total = distributed.sum_over_ranks(torch.tensor([hits, count], dtype=torch.float32, device=device))
    return float(total[0] / total[1])
