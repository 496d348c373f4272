"""What the stages of a training run are made of: rooms, words, a model to begin with, and which of its parts learn.

Whether the object encoder learns along with sentences: once it has been trained on objects (in this run or in that of
`init`) it is frozen, as in GPS, and every object is encoded once. Without that training a frozen encoder would be a
random one, and a comparison "without object pretraining" would measure the lack of any object features; so it is
trained along, at several times the cost of a step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from core.checkpoint import load_weights
from core.errors import InputError
from core.files import fingerprint
from core.precision import uses_bfloat16
from scene.answers import AnswerVocabulary
from scene.feature_cache import FeatureCache, FeatureSpec, weights_digest
from scene.grounder import Grounder
from scene.grounding import GroundingModel
from scene.model_config import MODELS, ModelConfig
from scene.model_folder import model_folder
from scene.object_stage import ObjectPool, ObjectStage, object_accuracy
from scene.optimise import seed_of, seeded
from scene.pretrain_config import STAGES, PretrainGroundingConfig
from scene.provenance import Corpus, Provenance
from scene.rooms import Room, RoomReader, object_names, texts_by_scene
from scene.sampling import Drawing, Sampler
from scene.sentence_stage import SentenceStage, Weights, evaluate
from scene.store import SceneStore
from scene.text_tower import pretrained_tokenizer
from vl.tokenizer import train_tokenizer

MIRROR_WORDS: Final = (("left", "right"), ("leftmost", "rightmost"))
DRAWN: Final = 2  # points drawn per object and scene, as a multiple of those the encoder reads at once
HEADS: Final = ("head.", "answer_head.", "member_head.", "word_head.")  # may differ between a model and its init


class Curriculum:
    """Makes the stages of a run, each when its turn comes.

    Args:
        run_folder: of the run; features are cached there unless the configuration names a folder.

    Raises:
        InputError: no scenes, no train or val split, no sentences of the wanted kind, an init of other sizes, or
            quarter turns of a model that reads a scene graph.
    """

    def __init__(self, cfg: PretrainGroundingConfig, device: torch.device, run_folder: Path) -> None:
        self.cfg, self.device = cfg, device
        self.cache_folder = Path(cfg.cache).expanduser() if cfg.cache else run_folder / "features"
        self.stores = [SceneStore(path) for path in folders(cfg.scenes)]
        for store in self.stores:
            for split in ("train", "val"):
                store.split(split)  # a missing one is said now, not after the first stage
        self.init = Grounder.from_pretrained(model_folder(cfg.init)) if cfg.init else None
        self.answers = self._answers()
        self.tokenizer, self.model = self._begin()
        if cfg.rotate != "none" and self.model.config.graph_layers:  # that of init, too
            raise InputError(f"rotate={cfg.rotate} would turn a scene graph's left and right: leave rotate=none")
        self.model.to(device)
        config = self.model.config
        numbers = AnswerVocabulary(self.answers).index if self.answers else {}
        self.readers = [
            RoomReader(
                store,
                self.tokenizer,
                config.max_tokens,
                points=DRAWN * config.points,
                seed=cfg.seed,
                answers=lambda answers: [numbers[a] for a in answers if a in numbers],
                captions=cfg.scene_loss > 0 and cfg.stage_names != ("object",),
                edges=config.graph_layers > 0,
                corpus=index,
            )
            for index, store in enumerate(self.stores)
        ]
        self._rooms: dict[tuple[str, str], list[Room]] = {}

    # --- what there is to learn from ---

    def task(self, stage: str) -> str:
        """Which texts a stage reads."""
        return self.cfg.task if stage == "finetune" else "referral"

    def rooms(self, split: str, task: str) -> list[Room]:
        """The rooms of a split with the sentences of a task; val is never cut down to `share`.

        Raises:
            InputError: there are none.
        """
        if (split, task) not in self._rooms:
            share = self.cfg.share if split == "train" else 1.0
            rooms: list[Room] = []
            left = self.cfg.object_pool
            for number, reader in enumerate(self.readers):
                # every corpus has an equal part of the pool, and what those before it did not need
                found = list(reader.rooms(split, task, share, ceil(left / (len(self.readers) - number))))
                left -= sum(len(room.objects) for room in found if room.objects.points.shape[1])
                rooms += found
            if not rooms:
                raise InputError(self._nothing(split, task))
            self._rooms[split, task] = rooms
        return self._rooms[split, task]

    def _nothing(self, split: str, task: str) -> str:
        """What to say when a split holds no text of a task."""
        wanted = {"referral": "sentences that mean one object", "multi": "referral sentences", "answers": "questions"}
        part = "" if self.cfg.share == 1 or split != "train" else f" at share={self.cfg.share}"
        return f"{self.cfg.scenes} has no {wanted[task]} in its {split} split{part}; build it with more"

    def steps(self, stage: str) -> int:
        """Updates of a stage."""
        cfg = self.cfg
        if stage == "object":
            if not cfg.object_epochs:
                return cfg.object_steps
            count = sum(len(room.objects) for room in self.rooms("train", "referral"))
            return max(1, ceil(cfg.object_epochs * min(count, cfg.object_pool) / cfg.object_batch))
        if not cfg.epochs:
            return cfg.steps
        rooms = self.rooms("train", self.task(stage))
        rows = min(cfg.batch_scenes, len(rooms)) * cfg.batch_sentences
        return max(1, ceil(cfg.epochs * sum(len(room) for room in rooms) / rows))

    def texts(self) -> Iterator[tuple[str, str]]:
        """(scene id, text) of all that losses see, captions included."""
        captioned = self.cfg.scene_loss > 0
        for task in sorted({self.task(stage) for stage in self.cfg.stage_names}):
            for scene_id, rows, captions in self._homes(task, self.cfg.share):
                yield from ((scene_id, row["text"]) for row in rows)
                yield from ((scene_id, row["text"]) for row in captions if rows and captioned)

    def _homes(self, task: str, share: float) -> Iterator[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]]:
        for store in self.stores:
            yield from texts_by_scene(store, "train", task, share)

    @property
    def left_out(self) -> int:
        """Sentences that no room holds."""
        return sum(reader.left_out for reader in self.readers)

    def provenance(self) -> Provenance:
        """What the model was trained on, that of `init` included."""
        seen = Provenance.collect(self.stores, self.texts())
        return seen if self.init is None else seen.after(self.init.provenance)

    # --- the model it begins with ---

    def _answers(self) -> tuple[str, ...]:
        if self.init is not None and self.init.answers:
            return self.init.answers
        if self.cfg.task != "answers":
            return ()
        right = [row["answers"] for _, rows, _ in self._homes("answers", self.cfg.share) for row in rows]
        if not right:
            raise InputError(self._nothing("train", "answers"))
        return AnswerVocabulary.of(right).answers

    def _begin(self) -> tuple[PreTrainedTokenizerFast, GroundingModel]:
        cfg = self.cfg
        if self.init is not None:
            return self.init.tokenizer, self._continued(self.init)
        text = cfg.architecture.get("text", "")
        if text:
            tokenizer = pretrained_tokenizer(text)
        else:
            words = [text for _, text in self.texts()]
            if not words:
                raise InputError(self._nothing("train", self.task(cfg.stage_names[-1])))
            names = chain.from_iterable(object_names(store, "train") for store in self.stores)
            tokenizer = train_tokenizer([*words, *names], cfg.vocab_size)
        config = altered(
            MODELS[cfg.model](vocab_size=len(tokenizer)),
            cfg.architecture | {"answers": len(self.answers), "special_tokens": tuple(tokenizer.all_special_ids)},
        )
        with seeded("cpu", cfg.seed, 0):
            return tokenizer, GroundingModel(config)

    def _continued(self, init: Grounder) -> GroundingModel:
        """The model of `init`, with what the configuration changes; heads that it lacks begin at random."""
        old = init.model
        config = altered(old.config, self.cfg.architecture | {"answers": len(self.answers)})
        if config == old.config:
            return old
        with seeded("cpu", self.cfg.seed, 0):
            model = GroundingModel(config, None if old.text.owned else old.text.encoder.config)
        own = model.state_dict()
        state = {name: value for name, value in old.state_dict().items() if name in own or not name.startswith(HEADS)}
        state |= {name: value for name, value in own.items() if name.startswith(HEADS) and name not in state}
        load_weights(model, state, f"init={self.cfg.init}")
        return model

    # --- the stages ---

    def stage(self, name: str) -> ObjectStage | SentenceStage:
        """One stage, its rooms read and, where the encoder is frozen, encoded."""
        cfg, task = self.cfg, self.task(name)
        train = self.rooms("train", task)
        seed = seed_of(cfg.seed, STAGES.index(name))
        if name == "object":
            self.model.object_encoder.requires_grad_(True)
            pool = ObjectPool(train)
            return ObjectStage(
                self.model,
                self.tokenizer,
                pool,
                cfg.object_batch,
                loss_name=cfg.object_loss,
                frozen_text=cfg.object_text == "frozen",
                seed=seed,
            )
        along = cfg.encoder == "trained" or (cfg.encoder == "auto" and not cfg.init and "object" not in cfg.stage_names)
        self.model.object_encoder.requires_grad_(along)
        if not along:
            self._encode(train, cfg.samplings)
            self._encode(self.rooms("val", task), 0)
        drawing = Drawing(
            cfg.batch_scenes, cfg.batch_sentences, cfg.window, cfg.mirror, cfg.rotate, balance=task == "multi"
        )
        one = task == "referral"
        return SentenceStage(
            self.model,
            self.tokenizer,
            Sampler(train, drawing, seed),
            task,
            Weights(
                referral=cfg.referral_loss if one else 0.0,
                anchor=cfg.anchor_loss if task != "answers" else 0.0,
                scene=cfg.scene_loss,
                contrast=cfg.contrast_loss if one else 0.0,
                word=cfg.word_loss,
                member=0.0 if one else cfg.member_loss,
                answer=float(task == "answers"),
            ),
            scene_text=cfg.scene_text,
            cloud=self._points if along else None,
            bfloat16=uses_bfloat16(cfg.precision, self.device.type),
            swap=mirror_tokens(self.tokenizer) if cfg.mirror else None,
            seed=seed,
        )

    def rates(self, stage: str) -> dict[str, float]:
        """Peak learning rates of a stage by module."""
        cfg = self.cfg
        if stage == "object":
            return {"rest": cfg.object_lr}
        own = {"text": cfg.text_lr, "spatial": cfg.spatial_lr, "fusion": cfg.fusion_lr}
        return {"rest": cfg.lr} | {module: rate for module, rate in own.items() if rate}

    def object_accuracy(self) -> float:
        """See `scene.object_stage.object_accuracy`; on val."""
        val = self.rooms("val", "referral")
        self._encode(val, 0)
        return object_accuracy(self.model, self.tokenizer, val)

    def score(self, stage: SentenceStage) -> float:
        """What is measured on val in a stage."""
        return evaluate(
            self.model,
            self.rooms("val", stage.task),
            self.tokenizer.pad_token_id,
            stage.task,
            cloud=stage.cloud,
            bfloat16=stage.bfloat16,
            seed=self.cfg.seed,
        )

    def _points(self, room: Room) -> Tensor:
        return self.readers[room.corpus].points_of(room)

    def _encode(self, rooms: list[Room], draws: int) -> None:
        """Has the features of rooms in the cache, and frees their points."""
        if all(room.cache is not None for room in rooms):
            return
        encoder, config = self.model.object_encoder, self.model.config
        by_key = {room.key: room for room in rooms}

        def load(keys: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
            return ((key, self._points(by_key[key])) for key in keys)

        spec = FeatureSpec(
            encoder=weights_digest(encoder),
            source=fingerprint([Corpus.of(store).manifest for store in self.stores]),
            points=config.points,
            seed=self.cfg.seed,
            draws=draws,
            bfloat16=uses_bfloat16(self.cfg.precision, self.device.type),
        )
        cache = FeatureCache.build(self.cache_folder, spec, encoder, list(by_key), load)
        for room in rooms:
            room.cache = cache
            room.drop_points()


def folders(scenes: str) -> list[str]:
    """The folders of several corpora, joined by commas."""
    return [scenes] if Path(scenes).expanduser().exists() else [part for part in scenes.split(",") if part]


def altered(config: ModelConfig, changes: dict[str, Any]) -> ModelConfig:
    """A configuration with other values. Raises InputError for one that does not fit."""
    try:
        return replace(config, **changes)
    except TypeError as error:
        raise InputError(f"architecture={changes}: {error}") from error


def mirror_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[int, int]:
    """Token ids that change places in a mirror, both directions; pairs the vocabulary does not hold are left out."""
    vocabulary = tokenizer.get_vocab()
    pairs = [(vocabulary[a], vocabulary[b]) for a, b in MIRROR_WORDS if a in vocabulary and b in vocabulary]
    return {x: y for a, b in pairs for x, y in ((a, b), (b, a))}
