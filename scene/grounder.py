"""`Grounder`: a trained grounding model with its tokenizer; sentences in, ranked objects out."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Float32, Int64
from numpy import ndarray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, PreTrainedTokenizerFast

from core.checkpoint import load_weights
from core.errors import InputError, MissingFileError, existing_file
from core.files import atomic_folder, read_json
from scene.batch import ObjectSet, collate, object_set
from scene.conformal import Conformal
from scene.grounding import Fused, GroundingModel
from scene.model_config import ModelConfig
from scene.provenance import Provenance
from scene.types import Scene
from vl.tokenizer import knows_a_word, load_tokenizer, save_tokenizer, unknown_words

if TYPE_CHECKING:
    from transformers import PretrainedConfig

FORMAT = "sightline-grounder/2"
TEXT, ANSWERS = "text", "answers.json"  # optional parts of a folder


def tokenize(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], max_tokens: int
) -> tuple[Int64[Tensor, "S L"], Bool[Tensor, "S L"]]:
    """Token ids padded to the longest text (cut at `max_tokens`), and which of them are not padding."""
    encoded = tokenizer(list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
    return encoded["input_ids"], encoded["attention_mask"].bool()


@dataclass(frozen=True)
class Scored:
    """One object of a scene and how well a sentence fits it."""

    id: int  # index into scene.objects
    label: str
    box: Float[ndarray, "7"]
    score: float  # softmax over the candidates, in 0..1


@dataclass(frozen=True)
class Ranking:
    """Objects of a scene, the one a sentence means most likely first."""

    sentence: str
    objects: list[Scored]
    unknown_words: tuple[str, ...] = ()  # words the model has never seen; it read the sentence without them
    present: frozenset[int] | None = None  # ids of the objects that may be meant; None = the model is not calibrated

    @property
    def best(self) -> Scored:
        return self.objects[0]

    @property
    def not_there(self) -> bool | None:
        """Whether no object fits well enough to be meant (scene/conformal.py); None = the model is not calibrated."""
        return None if self.present is None else not self.present


class Grounder:
    """A trained grounding model with its tokenizer: sentences in, ranked objects out.

    Args:
        answers: what the question head's outputs mean, in their order; empty where the model has none.
        conformal: threshold that tells objects which are meant from those which are not.
        provenance: what the model was trained on; None = unknown.
    """

    def __init__(
        self,
        model: GroundingModel,
        tokenizer: PreTrainedTokenizerFast,
        answers: Sequence[str] = (),
        conformal: Conformal | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        if answers and len(answers) != model.config.answers:
            raise InputError(f"{len(answers)} answers for a question head of {model.config.answers}")
        self.model, self.tokenizer = model.eval(), tokenizer
        self.answers, self.conformal, self.provenance = tuple(answers), conformal, provenance

    def check_sentence(self, sentence: str) -> tuple[str, ...]:
        """The sentence's words that the model has never seen, each once; punctuation is none.

        Raises:
            InputError: it knows none of them (articles do not count).
        """
        content = " ".join(w for w in sentence.split() if w.lower().strip(".,;:!?") not in {"the", "a", "an"})
        if not knows_a_word(self.tokenizer, content):
            words = sorted(w for w in self.tokenizer.get_vocab() if w.isalpha() and len(w) > 2)
            raise InputError(
                f"no known word in {sentence!r}; the model was trained on words such as "
                f"{', '.join(words[:: max(1, len(words) // 12)][:12])}"
            )
        unknown = unknown_words(self.tokenizer, sentence)
        return tuple(dict.fromkeys(word for word in unknown if any(map(str.isalnum, word))))

    def unread(self, sentence: str) -> str:
        """The end of a sentence that is longer than what the model reads; mostly nothing."""
        kept = self.tokenizer(
            sentence, truncation=True, max_length=self.model.config.max_tokens, return_offsets_mapping=True
        )["offset_mapping"]
        return sentence[max(end for _, end in kept) :].strip()

    def objects(self, scene: Scene, *, room: int = -1, seed: int = 0) -> ObjectSet:
        """A scene's candidates as the model reads them, with edges where it reads a scene graph.

        Raises:
            InputError: no object in the scene or room, or a large home without a room.
        """
        objects = object_set(scene, self.model.config.points, seed=seed, room=room)
        if self.model.config.graph_layers:
            from scene.graph import build_graph
            from scene.relation_edges import edges_of_room

            objects.edges = edges_of_room(scene, build_graph(scene), objects.ids)
        return objects

    def locate(self, scene: Scene, sentence: str, *, room: int = -1, seed: int = 0) -> Ranking:
        """The scene's objects ranked by how well `sentence` fits them.

        Args:
            room: the room the sentence is about; only large homes need it (see `scene.graph.candidates`).
            seed: of the points drawn from objects that have more than the model reads.

        Raises:
            InputError: no known word in the sentence, no object in the scene or room, or a large home without a room.
        """
        unknown = self.check_sentence(sentence)
        objects = self.objects(scene, room=room, seed=seed)
        fused = next(self.read(objects, [sentence]))
        scores = fused.scores[0].softmax(0).cpu()
        order = scores.argsort(descending=True, stable=True).tolist()
        ranked = [scene.objects[int(objects.ids[i])] for i in order]
        scored = [Scored(item.id, item.label, item.box, float(scores[i])) for item, i in zip(ranked, order)]
        if self.conformal is None:
            return Ranking(sentence, scored, unknown)
        inside = self.conformal.present(self.belief(fused, self.conformal.score)[0])
        return Ranking(sentence, scored, unknown, frozenset(objects.ids[torch.from_numpy(inside)].tolist()))

    def belief(self, fused: Fused, score: str) -> Float32[ndarray, "S N"]:
        """What a conformal threshold is about, each object for itself; `score` as in scene/conformal.py."""
        return (fused.members if score == "member" else fused.scores).sigmoid().float().cpu().numpy()

    @torch.no_grad()
    def read(self, objects: ObjectSet, sentences: Sequence[str], chunk: int = 64) -> Iterator[Fused]:
        """What the model makes of sentences about one set of objects, `chunk` at a time; objects are encoded once."""
        device = self.model.object_log_scale.device
        features = self.model.object_encoder.encode(objects.points.to(device)).cpu()
        edges = None if objects.edges is None else [objects.edges]
        encoded = self.model.encode_scene(collate([features], [objects.locations], edges).to(device))
        for start in range(0, len(sentences), chunk):
            tokens, words = tokenize(self.tokenizer, sentences[start : start + chunk], self.model.config.max_tokens)
            scene = torch.zeros(len(tokens), dtype=torch.int64, device=device)
            yield self.model.fuse(encoded, tokens.to(device), words.to(device), scene)

    def score(self, objects: ObjectSet, sentences: Sequence[str], chunk: int = 64) -> Float[Tensor, "S N"]:
        """Logits of every object for every sentence; their softmax is the belief in one target."""
        parts = [fused.scores.cpu() for fused in self.read(objects, sentences, chunk)]
        return torch.cat(parts) if parts else torch.zeros(0, len(objects))

    def members(self, objects: ObjectSet, sentences: Sequence[str], chunk: int = 64) -> Float[Tensor, "S N"]:
        """Probability of every object, each for itself, that it is one of those a sentence means."""
        parts = [fused.members.sigmoid().cpu() for fused in self.read(objects, sentences, chunk)]
        return torch.cat(parts) if parts else torch.zeros(0, len(objects))

    @torch.no_grad()
    def answer(self, objects: ObjectSet, questions: Sequence[str], chunk: int = 64) -> Float[Tensor, "S A"]:
        """Probability of each of `self.answers` to be right, each for itself.

        Raises:
            InputError: the model has no question head.
        """
        logits = [self.model.answer_logits(fused).cpu() for fused in self.read(objects, questions, chunk)]
        return torch.cat(logits).sigmoid() if logits else torch.zeros(0, self.model.config.answers)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes model.safetensors, config.json and the tokenizer; the folder appears whole or not at all.

        Beside them, where the grounder has them: text/config.json (of a text tower that was not made here),
        answers.json, training.json and its digests.
        """
        with atomic_folder(Path(folder)) as temporary:
            state = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
            save_file(state, str(temporary / "model.safetensors"), metadata={"format": FORMAT})
            config: dict[str, Any] = {"format": FORMAT, "model": asdict(self.model.config)}
            if self.conformal is not None:
                config["conformal"] = asdict(self.conformal)
            (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            if not self.model.text.owned:
                self.model.text.encoder.config.save_pretrained(str(temporary / TEXT))
            if self.answers:
                (temporary / ANSWERS).write_text(json.dumps(self.answers) + "\n", encoding="utf-8")
            if self.provenance is not None:
                self.provenance.save(temporary)
            # the backend remembers how the last batch was cut and padded, and would write that down
            self.tokenizer.backend_tokenizer.no_truncation()
            self.tokenizer.backend_tokenizer.no_padding()
            save_tokenizer(self.tokenizer, temporary)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Grounder":
        """Reads what `save_pretrained` wrote; never looks on the network.

        Raises:
            MissingFileError, InputError: a file is missing or torn, of another format, or its tensors do not have the
                names and shapes that config.json describes.
        """
        folder = Path(folder).expanduser()
        if not (folder / "config.json").exists():
            raise MissingFileError(
                f"no grounder in {folder}: config.json is missing (working folder: {Path.cwd()}); expected the run "
                "folder of pretrain-grounding, or model/ in it"
            )
        raw = read_json(folder / "config.json", "the grounder's config")
        config = _model_config(raw, folder)
        weights = existing_file(folder / "model.safetensors", "the grounder's weights")
        try:
            state = load_file(str(weights))
        except (SafetensorError, OSError) as error:
            raise InputError(f"{weights} does not load ({error}); copy it again or train anew") from error
        model = GroundingModel(config, _text_config(config, folder))
        load_weights(model, state, str(weights))
        tokenizer = load_tokenizer(folder)
        if len(tokenizer) != config.vocab_size:
            raise InputError(
                f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}; "
                "they belong to different training runs"
            )
        return cls(model, tokenizer, _answers(config, folder), _conformal(raw, folder), Provenance.load(folder))


def _model_config(raw: Any, folder: Path) -> ModelConfig:
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        found = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
        raise InputError(f"{folder}/config.json has format {found!r}, expected {FORMAT!r}: train the grounder anew")
    known = {field.name for field in fields(ModelConfig)}
    model = raw.get("model")
    if not isinstance(model, dict) or set(model) - known or "vocab_size" not in model:
        raise InputError(f"{folder}/config.json needs a 'model' entry with keys among {', '.join(sorted(known))}")
    return ModelConfig(**model)


def _text_config(config: ModelConfig, folder: Path) -> "PretrainedConfig | None":
    """Of the text tower, where it is not described by `config` alone.

    Raises:
        MissingFileError, InputError: the model has a pretrained tower, but its config is not there or does not load.
    """
    if not config.text and not (folder / TEXT).exists():
        return None
    existing_file(folder / TEXT / "config.json", "the config of the grounder's text tower")
    try:
        return AutoConfig.from_pretrained(str(folder / TEXT), local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / TEXT} does not load ({str(error).splitlines()[0]}); copy it again") from error


def _answers(config: ModelConfig, folder: Path) -> tuple[str, ...]:
    if not (folder / ANSWERS).exists():
        return ()
    answers = read_json(folder / ANSWERS, "the grounder's answers")
    if not isinstance(answers, list) or len(answers) != config.answers or not all(isinstance(a, str) for a in answers):
        raise InputError(
            f"{folder / ANSWERS} should list {config.answers} answers, one per output of the question head"
        )
    return tuple(answers)


def _conformal(raw: dict[str, Any], folder: Path) -> Conformal | None:
    if "conformal" not in raw:
        return None
    try:
        return Conformal(**raw["conformal"])
    except TypeError as error:
        raise InputError(
            f"the 'conformal' entry of {folder}/config.json does not fit ({error}); calibrate again"
        ) from error
