"""What `sightline pretrain-vl` takes, and which combinations of it cannot work.

The defaults are a size for two processor cores; configs/vl_recipe holds published settings.
"""

from dataclasses import dataclass, field

from core.errors import InputError, check_choice
from core.job import JobConfig
from vl.model import VLConfig
from vl.objectives import Objectives
from vl.optimise import OPTIMIZERS, SCHEDULES


@dataclass
class PretrainVLConfig(JobConfig):
    """Image-text pretraining: sightline pretrain-vl views=FOLDER lr=3e-4"""

    CUDA = True

    views: str = ""  # folder of rendered views (train/ and val/ inside); or data=
    data: str = ""  # image-text pairs: a .jsonl, .csv, .tsv or .parquet file, or a saved Hugging Face dataset
    val_data: str = ""  # pairs of the same form to evaluate on; needed with data=
    images: str = ""  # folder or .zip that the image names of data= lie in; empty = beside the file
    val_images: str = ""  # the same for val_data=; empty = as images
    image_column: str = "image"  # of data= and val_data=
    text_column: str = "caption"  # of data= and val_data=
    model: VLConfig = field(default_factory=VLConfig)  # towers, heads, fusion
    objectives: Objectives = field(default_factory=Objectives)  # weights of the losses
    init: str = ""  # folder of a saved model whose weights to start from, where they fit
    steps: int = 450  # updates
    batch_size: int = 256  # image-text pairs per update, over all processes
    optimizer: str = "adamw"  # or lion: a lr 3 to 10 times lower, weight_decay as much higher
    lr: float = 3e-3  # peak learning rate
    fusion_factor: float = 1.0  # learning rate of fusion layers over lr
    head_factor: float = 1.0  # learning rate of heads over lr
    schedule: str = "cosine"  # or linear: the way down to 0 after the warm-up
    warmup_steps: int = 40  # updates of linear warm-up
    weight_decay: float = 0.05  # of weight matrices
    grad_clip: float = 1.0  # largest gradient norm
    precision: str = "auto"  # of the image tower's products (on CUDA of all): float32, bfloat16, auto = where native
    patch_dropout: float = 0.0  # share of patches the image tower does not see; transformer towers only
    gradient_cache: int = 0  # pairs encoded at once where objectives.itc is alone; 0 = the whole batch
    cache_features: str = "auto"  # keep what frozen towers make of their inputs on disk, where possible; or no
    features: str = ""  # folder of such features, which runs may share; empty = in the run folder while it runs
    object_share: float = 0.6  # of views=: share of captions that name one object instead of the whole view
    flip: bool = True  # mirror half of the images, exchanging left and right in their captions
    jitter: float = 0.1  # largest relative change of brightness
    vocab_size: int = 2000  # most words of the tokenizer trained on the captions
    max_unreadable: float = 0.05  # of data= and val_data=: share of pairs that may not read before training stops
    workers: int = 1  # threads that read batches ahead of the model
    eval_every: int = 150  # updates between evaluations
    eval_views: int = 500  # val images with distinct captions to retrieve from, or to average losses over
    checkpoint_every: int = 100  # updates between checkpoints
    export_towers: bool = False  # also write towers/text and, of a transformers encoder, towers/image

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        check_choice("optimizer", self.optimizer, tuple(OPTIMIZERS))
        check_choice("schedule", self.schedule, tuple(SCHEDULES))
        check_choice("cache_features", self.cache_features, ("auto", "no"))
        for name in ("steps", "batch_size", "eval_every", "eval_views", "checkpoint_every", "workers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        if self.lr <= 0 or self.warmup_steps < 0 or self.grad_clip <= 0:
            raise InputError(
                f"lr={self.lr} and grad_clip={self.grad_clip} should be positive, warmup_steps={self.warmup_steps} not "
                "negative"
            )
        if self.fusion_factor < 0 or self.head_factor < 0 or not 0 <= self.patch_dropout < 1:
            raise InputError(
                f"fusion_factor={self.fusion_factor} and head_factor={self.head_factor} should not be negative, "
                f"patch_dropout={self.patch_dropout} in [0, 1)"
            )
        if self.views and self.data:
            raise InputError(f"views={self.views} and data={self.data} are both given; train on one of them")
        self._check_objectives()

    def _check_objectives(self) -> None:
        """Objectives that the model, or the way of training, cannot serve."""
        wanted, model = self.objectives, self.model
        one = model.kind == "one-tower"
        if wanted.fuses() and not one and not model.fusion.layers:
            named = [name for name in ("itm", "mlm", "caption") if getattr(wanted, name)]
            raise InputError(
                f"objectives {', '.join(named)} need text and image to see each other: give the two towers "
                "model.fusion.layers=2, or take model.kind=one-tower"
            )
        for objective, tower, frozen in (
            ("mim", "image", model.image.freeze and not one),
            ("text_mlm", "text", model.text.freeze and not one),
        ):
            if getattr(wanted, objective) and frozen:
                raise InputError(
                    f"objectives.{objective} trains the {tower} tower, but model.{tower}.freeze=true; set one of them "
                    "back"
                )
        if self.export_towers and one:
            raise InputError(
                "export_towers=true with model.kind=one-tower: there are no towers to export; leave it out"
            )
        if (wanted.itc or wanted.itm) and self.batch_size < 2:
            raise InputError(f"batch_size={self.batch_size}: objectives itc and itm compare pairs, give at least 2")
        if not self.gradient_cache:
            return
        others = [name for name in ("itm", "mlm", "caption", "mim", "text_mlm") if getattr(wanted, name)]
        if others:
            raise InputError(
                f"gradient_cache={self.gradient_cache} is for objectives.itc alone; leave out {', '.join(others)}, or "
                "set gradient_cache=0"
            )
        if self.gradient_cache < 0:
            raise InputError(f"gradient_cache={self.gradient_cache}: give the pairs of a chunk, or 0")
