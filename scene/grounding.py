"""The grounding model, and `Grounder`: which object of a scene does a sentence mean?

After GPS of SceneVerse (arXiv:2401.09340): object encoder, spatial transformer over objects, BERT-style text tower,
joint transformer over [text ; objects], a score per object. Different here: everything is small and starts from random
weights; layers are pre-norm; padding is masked everywhere, and any number of objects fits; and the joint transformer
keeps the spatial bias between its objects (GPS has it only before words are seen), so that words can choose which
relation to look along.

Two additions let it learn from thousands of sentences instead of millions. Objects and words meet in one space, which
the object-level contrast trains: each object enters the joint transformer knowing how well the words fit it, split over
a few roles that the sentence gives its words (modular attention after MAttNet, arXiv:1801.08186). And it knows where it
stands seen from what fits each role; the first role learns to name the anchors, "the window" in "the chair by the
window", from sentences that come with their anchors.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from numpy import ndarray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from core.checkpoint import load_weights
from core.errors import InputError, existing_file
from core.files import atomic_folder, read_json
from scene.batch import GroundingRoom, ObjectSet, SceneBatch, collate, object_set, whole_batch
from scene.losses import INITIAL_LOG_SCALE, scale_of, scene_pool
from scene.objects import object_encoder
from scene.spatial import BLOCKED, PAIR_FEATURES, SpatialLayer, bearings, pair_features
from scene.types import Scene
from vl.tokenizer import SPECIAL_TOKENS, knows_a_word, load_tokenizer, save_tokenizer, unknown_words

FORMAT = "sightline-grounder/1"
ANCHOR = 0  # the role whose words name what a sentence relates to; the other roles find their own meaning


@dataclass
class ModelConfig:
    """Sizes of a grounding model."""

    vocab_size: int
    dim: int = 128  # width of every tower
    heads: int = 4
    hidden: int = 256  # width inside feed-forward layers
    text_layers: int = 2
    spatial_layers: int = 2
    fusion_layers: int = 2
    points: int = 256  # points per object
    max_tokens: int = 64  # longest sentence, [CLS] and [SEP] included
    roles: int = 8  # that a sentence assigns to its words
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise InputError(f"dim={self.dim} does not split over heads={self.heads}")


@dataclass
class Encoded:
    """Objects of B scenes after the spatial transformer."""

    objects: Float[Tensor, "B N D"]
    names: Float[Tensor, "B N D"]  # unit vectors in the space of words
    places: Float[Tensor, "B N D"]  # location embeddings, added again before every layer
    pairs: Float[Tensor, "B N N 5"]
    centres: Float[Tensor, "B N 3"]  # metres, viewer's frame
    valid: Bool[Tensor, "B N"]


@dataclass
class Fused:
    """What S sentences make of the objects of their scenes."""

    scores: Float[Tensor, "S N"]  # logits, -inf at padding
    fit: Float[Tensor, "S N K"]  # of each object to the words in each role; role ANCHOR is what the sentence relates to
    words: Float[Tensor, "S L D"]  # text features after the joint transformer


class GroundingModel(nn.Module):
    """Scores for every object of a scene, given a sentence."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        layer = (dim, config.heads, config.hidden, config.dropout)
        self.object_encoder = object_encoder("small", dim)
        self.object_in = nn.Linear(dim, dim)
        self.place = nn.Sequential(nn.Linear(6, dim), nn.LayerNorm(dim))
        self.spatial = nn.ModuleList(SpatialLayer(*layer) for _ in range(config.spatial_layers))
        self.text = BertModel(
            BertConfig(
                vocab_size=config.vocab_size,
                hidden_size=dim,
                num_hidden_layers=config.text_layers,
                num_attention_heads=config.heads,
                intermediate_size=config.hidden,
                max_position_embeddings=config.max_tokens,
                type_vocab_size=1,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=0.0,
            ),
            add_pooling_layer=False,
        )
        self.kind = nn.Embedding(2, dim)  # text, object
        self.role = nn.Linear(dim, config.roles)
        clues = config.roles * (1 + PAIR_FEATURES + 3) + dim  # fit and bearing per role, and the sentence
        self.clues = nn.Sequential(nn.Linear(clues, dim), nn.GELU(), nn.Linear(dim, dim))
        self.fusion = nn.ModuleList(SpatialLayer(*layer) for _ in range(config.fusion_layers))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Sequential(nn.Linear(dim, dim // 2), nn.ReLU(), nn.LayerNorm(dim // 2), nn.Linear(dim // 2, 1))
        self.word_head = nn.Linear(dim, config.vocab_size)
        self.object_projection = nn.Linear(dim, dim)
        self.scene_projection = nn.Linear(dim, dim)
        self.text_projection = nn.Linear(dim, dim)
        # log of the contrastive scales: parameters of the model, so the optimiser trains them
        self.object_log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))
        self.scene_log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    def encode_scene(self, scenes: SceneBatch) -> Encoded:
        """Objects in the light of their neighbours; sentences are not needed yet."""
        valid = scenes.valid
        count = valid.sum(1).clamp(min=1)[:, None]
        middle = (scenes.locations[..., :2] * valid[..., None]).sum(1) / count  # xy of the scene's objects
        shift = F.pad(middle, (0, 4))[:, None]
        places = self.place(scenes.locations - shift)
        pairs = pair_features(scenes.locations[..., :3], valid)
        x = self.object_in(scenes.features)
        for layer in self.spatial:
            x = layer(x + places, valid, pairs)
        names = F.normalize(self.object_projection(scenes.features), dim=-1)
        return Encoded(x, names, places, pairs, scenes.locations[..., :3], valid)

    def encode_words(self, tokens: Int64[Tensor, "S L"], words: Bool[Tensor, "S L"]) -> Float[Tensor, "S L D"]:
        """Text features per token; `words` is False at padding."""
        return self.text(input_ids=tokens, attention_mask=words.long()).last_hidden_state

    def word_vectors(self, tokens: Int64[Tensor, "S L"]) -> Float[Tensor, "S L D"]:
        """Unit vectors of single words, whatever stands around them, in the space of object names."""
        return F.normalize(self.text_projection(self.text.embeddings.word_embeddings(tokens)), dim=-1)

    def caption_features(self, tokens: Int64[Tensor, "S L"], words: Bool[Tensor, "S L"]) -> Float[Tensor, "S D"]:
        """One vector per text for the contrastive losses: the mean of its words' vectors."""
        content = (words & (tokens >= len(SPECIAL_TOKENS)))[..., None]
        return (self.word_vectors(tokens) * content).sum(1) / content.sum(1).clamp(min=1)

    def fits(
        self,
        text: Float[Tensor, "S L D"],
        tokens: Int64[Tensor, "S L"],
        words: Bool[Tensor, "S L"],
        names: Float[Tensor, "S N D"],
    ) -> Float[Tensor, "S N K"]:
        """How well the words in each of K roles fit each object.

        fit_nk = scale * sum_l a_lk <word_l, name_n>, where a_.k = softmax over the words of a linear map of their
        features in context. Source: MAttNet, arXiv:1801.08186, equations 1 and 2, one module per role.
        """
        content = words & (tokens >= len(SPECIAL_TOKENS))
        attention = self.role(text).masked_fill(~content[..., None], BLOCKED).softmax(1)  # (S, L, K)
        similarity = torch.einsum("sld,snd->sln", self.word_vectors(tokens), names)
        return scale_of(self.object_log_scale) * torch.einsum("slk,sln->snk", attention, similarity)

    def scene_features(self, encoded: Encoded) -> Float[Tensor, "B D"]:
        """One vector per scene for the scene-level loss: projected objects, maximum over them."""
        return scene_pool(self.scene_projection(encoded.objects), encoded.valid)

    def fuse(
        self,
        encoded: Encoded,
        tokens: Int64[Tensor, "S L"],
        words: Bool[Tensor, "S L"],
        scene: Int64[Tensor, " S"],
    ) -> Fused:
        """Scores of the objects for S sentences, sentence s speaking of scene `scene[s]`.

        Padded slots score -inf. Scores are logits: softmax over a row gives the model's belief.
        """
        length = tokens.shape[1]
        text = self.encode_words(tokens, words)
        valid, pairs = encoded.valid[scene], encoded.pairs[scene]
        fit = self.fits(text, tokens, words, encoded.names[scene])
        said = text[:, :1].expand(-1, fit.shape[1], -1)
        clues = self.clues(torch.cat([fit, bearings(fit, pairs, encoded.centres[scene], valid), said], -1))
        objects = encoded.objects[scene] + clues + self.kind.weight[1]
        x = torch.cat([text + self.kind.weight[0], objects], 1)
        places = F.pad(encoded.places, (0, 0, length, 0))[scene]
        keys = torch.cat([words, valid], 1)
        for layer in self.fusion:
            x = layer(x + places, keys, pairs)
        x = self.norm(x)
        scores = self.head(x[:, length:]).squeeze(-1).masked_fill(~valid, -torch.inf)
        return Fused(scores, fit.masked_fill(~valid[..., None], -torch.inf), x[:, :length])

    def forward(
        self,
        scenes: SceneBatch,
        tokens: Int64[Tensor, "S L"],
        words: Bool[Tensor, "S L"],
        scene: Int64[Tensor, " S"],
    ) -> Float[Tensor, "S N"]:
        """Scores of the objects of each sentence's scene; see `fuse`."""
        return self.fuse(self.encode_scene(scenes), tokens, words, scene).scores


def tokenize(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], max_tokens: int
) -> tuple[Int64[Tensor, "S L"], Bool[Tensor, "S L"]]:
    """Token ids padded to the longest text (cut at `max_tokens`), and which of them are not padding."""
    encoded = tokenizer(list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
    return encoded["input_ids"], encoded["attention_mask"].bool()


@torch.no_grad()
def predict(
    model: GroundingModel, rooms: Sequence[GroundingRoom], pad_id: int, sentences: int = 256
) -> list[Int64[Tensor, " S"]]:
    """For each room the index of the highest-scoring object per sentence, from its first cached encoding.

    Args:
        sentences: per forward pass; rooms are not split.
    """
    model.eval()
    device = model.object_log_scale.device
    predicted: list[Tensor] = []
    groups: list[list[GroundingRoom]] = [[]]
    for room in rooms:
        if groups[-1] and sum(len(r.sentences) for r in groups[-1]) + len(room.sentences) > sentences:
            groups.append([])
        groups[-1].append(room)
    for group in groups:
        batch = whole_batch(group, pad_id).to(device)
        best = model(batch.scenes, batch.tokens, batch.words, batch.scene).argmax(1).cpu()
        predicted += best.split([len(room.sentences) for room in group])
    return predicted


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

    @property
    def best(self) -> Scored:
        return self.objects[0]


class Grounder:
    """A trained grounding model with its tokenizer: sentences in, ranked objects out."""

    def __init__(self, model: GroundingModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer

    def check_sentence(self, sentence: str) -> tuple[str, ...]:
        """The sentence's words that the model has never seen.

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
        return tuple(unknown_words(self.tokenizer, sentence))

    def locate(self, scene: Scene, sentence: str, *, room: int = -1, seed: int = 0) -> Ranking:
        """The scene's objects ranked by how well `sentence` fits them.

        Args:
            room: the room the sentence is about; only large homes need it (see `scene.graph.candidates`).
            seed: of the points drawn from objects that have more than the model reads.

        Raises:
            InputError: no known word in the sentence, no object in the scene or room, or a large home without a room.
        """
        unknown = self.check_sentence(sentence)
        objects = object_set(scene, self.model.config.points, seed=seed, room=room)
        scores = self.score(objects, [sentence])[0].softmax(0)
        order = scores.argsort(descending=True, stable=True).tolist()
        ranked = [scene.objects[int(objects.ids[i])] for i in order]
        scored = [Scored(item.id, item.label, item.box, float(scores[i])) for item, i in zip(ranked, order)]
        return Ranking(sentence, scored, unknown)

    @torch.no_grad()
    def score(self, objects: ObjectSet, sentences: Sequence[str], chunk: int = 64) -> Float[Tensor, "S N"]:
        """Logits of every object for every sentence; `chunk` sentences at a time."""
        features = self.model.object_encoder.encode(objects.points)
        encoded = self.model.encode_scene(collate([features], [objects.locations]))
        parts = []
        for start in range(0, len(sentences), chunk):
            tokens, words = tokenize(self.tokenizer, sentences[start : start + chunk], self.model.config.max_tokens)
            parts.append(self.model.fuse(encoded, tokens, words, torch.zeros(len(tokens), dtype=torch.int64)).scores)
        return torch.cat(parts)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes model.safetensors, config.json and the tokenizer; the folder appears whole or not at all."""
        with atomic_folder(Path(folder)) as temporary:
            state = {name: value.detach().contiguous() for name, value in self.model.state_dict().items()}
            save_file(state, str(temporary / "model.safetensors"), metadata={"format": FORMAT})
            config = {"format": FORMAT, "model": asdict(self.model.config)}
            (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            # the backend remembers how the last batch was cut and padded, and would write that down
            self.tokenizer.backend_tokenizer.no_truncation()
            self.tokenizer.backend_tokenizer.no_padding()
            save_tokenizer(self.tokenizer, temporary)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Grounder":
        """Reads what `save_pretrained` wrote.

        Raises:
            MissingFileError, InputError: a file is missing or torn, of another format, or its tensors do not have the
                names and shapes that config.json describes.
        """
        folder = Path(folder).expanduser()
        raw = read_json(existing_file(folder / "config.json", "the grounder's config"), "the grounder's config")
        config = _model_config(raw, folder)
        weights = existing_file(folder / "model.safetensors", "the grounder's weights")
        try:
            state = load_file(str(weights))
        except (SafetensorError, OSError) as error:
            raise InputError(f"{weights} does not load ({error}); copy it again or train anew") from error
        model = GroundingModel(config)
        load_weights(model, state, str(weights))
        tokenizer = load_tokenizer(folder)
        if len(tokenizer) != config.vocab_size:
            raise InputError(
                f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}; "
                "they belong to different training runs"
            )
        return cls(model, tokenizer)


def _model_config(raw: Any, folder: Path) -> ModelConfig:
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        found = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
        raise InputError(f"{folder}/config.json has format {found!r}, expected {FORMAT!r}: not a grounder's folder")
    known = {field.name for field in fields(ModelConfig)}
    model = raw.get("model")
    if not isinstance(model, dict) or set(model) - known or "vocab_size" not in model:
        raise InputError(f"{folder}/config.json needs a 'model' entry with keys among {', '.join(sorted(known))}")
    return ModelConfig(**model)
