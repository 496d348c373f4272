"""What pretrain-grounding can be told: sightline pretrain-grounding --help

The defaults are a size for two processor cores; configs/recipe holds the settings of SceneVerse (arXiv:2401.09340).
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from omegaconf import MISSING

from core.errors import InputError, check_choice, nearest
from core.job import JobConfig
from scene.model_config import MODELS, ModelConfig
from scene.object_stage import LOSSES
from scene.rooms import TASKS
from scene.sampling import ROTATIONS
from scene.sentence_stage import SCENE_TEXTS

STAGES: Final = ("object", "scene", "finetune")
ENCODERS: Final = ("auto", "frozen", "trained")


@dataclass
class PretrainGroundingConfig(JobConfig):
    """Grounded pretraining and fine-tuning: objects first, then sentences."""

    CUDA = True

    scenes: str = MISSING  # folder made by build-scenes; several are joined by commas
    stages: str = "object,scene"  # some of object, scene, finetune, in this order, joined by commas
    init: str = ""  # model folder to start from (a run or its model/); empty = random weights
    task: str = "referral"  # of stage finetune: referral, multi (several objects or none) or answers (questions)
    share: float = 1.0  # of the training sentences; a smaller share is a part of any larger one
    model: str = "default"  # sizes and choices: default, gps-paper or gps-code; with init those of its model
    architecture: dict[str, Any] = field(default_factory=dict)  # fields that differ: architecture.bias=none
    vocab_size: int = 4096  # largest vocabulary of the tokenizer that is trained on the corpus
    encoder: str = "auto"  # on sentences: frozen (cached), trained (along), auto = frozen once it has been trained

    object_steps: int = 150  # updates of the object encoder
    object_epochs: float = 0.0  # passes over the objects instead; 0 = object_steps counts
    object_batch: int = 128  # objects per update
    object_lr: float = 2e-3  # peak learning rate
    object_warmup: float = 0.05  # updates until the peak; below 1 a share of all
    object_loss: str = "contrast"  # contrast (features against names) or classes (labels, with label smoothing)
    object_text: str = "trained"  # trained or frozen: whether words learn, too
    object_pool: int = 20_000  # objects whose points stay in memory, the first of each corpus: those trained on

    steps: int = 600  # updates on sentences
    epochs: float = 0.0  # passes over the sentences instead; 0 = steps counts
    batch_scenes: int = 16  # rooms per update
    batch_sentences: int = 8  # sentences per room
    window: int = 8  # batches drawn together and sorted by size, which saves padding; 1 = each by itself
    lr: float = 1.5e-3  # peak learning rate on sentences
    text_lr: float = 0.0  # the same of the text tower; 0 = lr
    spatial_lr: float = 0.0  # of the transformer over objects; 0 = lr
    fusion_lr: float = 0.0  # of the joint transformer; 0 = lr
    warmup: float = 0.05  # updates until the peak; below 1 a share of all
    floor: float = 0.1  # share of the peak that the cosine ends at, in every stage
    weight_decay: float = 0.05  # of weight matrices
    clip: float = 1.0  # largest gradient norm
    precision: str = "float32"  # float32, bfloat16, or auto = bfloat16 where the device has it natively

    referral_loss: float = 1.0  # weight of which object is meant
    anchor_loss: float = 0.5  # weight of finding the things a sentence relates to
    scene_loss: float = 0.1  # weight of the contrast between scenes and their captions
    scene_text: str = "words"  # what a scene is contrasted with: words, caption or caption+referral
    contrast_loss: float = 0.0  # weight of the contrast between targets and sentences of the whole batch
    word_loss: float = 0.0  # weight of masked-word prediction; above 0, 15 % of the words are hidden in training
    member_loss: float = 1.0  # weight of every object that is meant (task=multi) or an answer rests on (task=answers)

    mirror: bool = True  # show half of the rooms in a mirror, left and right exchanged
    rotate: str = "none"  # quarter turns of rooms: none, sentences (that name no side), or all (as in released code)
    samplings: int = 4  # cached draws of each object's points
    cache: str = ""  # folder of cached object features, which runs may share; empty = in the run folder while it runs
    eval_every: int = 100  # updates between evaluations on val; the best weights are kept
    checkpoint_every: int = 50  # updates between checkpoints

    def __post_init__(self) -> None:
        super().__post_init__()
        atleast = ("object_steps", "object_batch", "steps", "batch_scenes", "batch_sentences", "window", "samplings",
                   "eval_every", "checkpoint_every")  # fmt: skip
        for name in atleast:
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: expected at least 1")
        for name, choices in (
            ("task", TASKS), ("model", MODELS), ("encoder", ENCODERS), ("object_loss", LOSSES), ("rotate", ROTATIONS),
            ("object_text", ("trained", "frozen")), ("scene_text", SCENE_TEXTS),
            ("precision", ("auto", "float32", "bfloat16")),
        ):  # fmt: skip
            check_choice(name, getattr(self, name), choices)
        if not 0 < self.share <= 1:
            raise InputError(f"share={self.share}: expected a share above 0, at most 1")
        for name in ("lr", "object_lr", "clip", "object_pool"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}={getattr(self, name)}: expected more than 0")
        for name in ("warmup", "object_warmup", "text_lr", "spatial_lr", "fusion_lr", "weight_decay", "epochs",
                     "object_epochs", "floor"):  # fmt: skip
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)}: expected 0 or more")
        if self.floor > 1:
            raise InputError(f"floor={self.floor}: expected a share of the peak learning rate, 0 to 1")
        folders = [name.strip().rstrip("/") for name in self.scenes.split(",")]
        if self.scenes and not all(folders):  # the demo fills an empty one in
            raise InputError(f"scenes={self.scenes!r} names no folder; expected scenes=FOLDER, or several as A,B")
        if len(set(folders)) < len(folders):
            raise InputError(f"scenes={self.scenes} names a folder twice; name each once")
        if self.cache and Path(self.cache).expanduser().is_file():
            raise InputError(f"cache={self.cache} is a file; name a folder")
        if negative := [f.name for f in fields(self) if f.name.endswith("_loss") and f.type is float
                        and getattr(self, f.name) < 0]:  # fmt: skip
            raise InputError(f"{negative[0]}={getattr(self, negative[0])}: a weight is 0 or more")
        known = [f.name for f in fields(ModelConfig) if f.name not in ("vocab_size", "answers", "special_tokens")]
        for name in self.architecture:
            if name not in known:
                raise InputError(f"architecture.{name} is unknown; {nearest(name, known)}")
        self._check_stages()

    def _check_stages(self) -> None:
        names = self.stage_names
        for name in names:
            check_choice("stage", name, STAGES)
        if list(names) != [name for name in STAGES if name in names] or not names:
            raise InputError(f"stages={self.stages}: expected some of {','.join(STAGES)}, in this order")
        if "finetune" in names and not self.init and len(names) == 1:
            raise InputError("stages=finetune goes on from a trained model: name it with init=FOLDER")
        if self.task != "referral" and "finetune" not in names:
            raise InputError(f"task={self.task} is for stages=finetune; stages={self.stages} learn task=referral")
        if self.init and self.model != "default":
            raise InputError(f"model={self.model}: with init the model is that of {self.init}; leave one of them out")

    @property
    def stage_names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.stages.split(",") if name.strip())
