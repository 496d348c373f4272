"""The grounding model: which object of a scene does a sentence mean?

After GPS of SceneVerse (arXiv:2401.09340): object encoder, spatial transformer over objects, text tower of a BERT's
first layers, joint transformer over [text ; objects], a score per object. `scene.model_config.gps_paper` and `gps_code`
are that model. The default is another: small, from random weights, with pre-norm layers, and the joint transformer
keeps the spatial bias between its objects (GPS has it only before words are seen), so that words can choose which
relation to look along. Padding is masked everywhere in all of them, and any number of objects fits.

Two additions of the default let it learn from thousands of sentences instead of millions. Objects and words meet in one
space, which the object-level contrast trains: each object enters the joint transformer knowing how well the words fit
it, split over a few roles that the sentence gives its words (modular attention after MAttNet, arXiv:1801.08186). And it
knows where it stands seen from what fits each role; the first role learns to name the anchors, "the window" in "the
chair by the window", from sentences that come with their anchors.

A scene graph, where the model reads one, enters before the spatial transformer: what the graph encoder makes of an
object is added to it through a linear map that starts at zero. So the model begins as the one without a graph, and the
spatial layers can weigh named relations ("supported by") against measured places.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from core.errors import InputError
from scene.batch import SceneBatch
from scene.heads import AnswerHead, object_head, word_head
from scene.losses import INITIAL_LOG_SCALE, scale_of, scene_pool
from scene.model_config import ModelConfig
from scene.objects import object_encoder
from scene.spatial import BLOCKED, PAIR_FEATURES, SpatialLayer, Speakers, key_mask, pair_features
from scene.text_tower import TextTower

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ANCHOR = 0  # the role whose words name what a sentence relates to; the other roles find their own meaning
INITIAL_SPREAD = 0.02  # of weights in GPS


@dataclass
class Encoded:
    """Objects of B scenes after the spatial transformer."""

    objects: Float[Tensor, "B N D"]
    names: Float[Tensor, "B N D"]  # unit vectors in the space of words
    places: Float[Tensor, "B N D"]  # location embeddings, added again before every joint layer
    pairs: Float[Tensor, "B N N 5"]
    centres: Float[Tensor, "B N 3"]  # metres, viewer's frame
    valid: Bool[Tensor, "B N"]
    empty: Float[Tensor, "B D"] | None = None  # what an empty slot becomes; only where scenes are means over slots


@dataclass
class Fused:
    """What S sentences make of the objects of their scenes. Numbers that losses read are float32."""

    scores: Float[Tensor, "S N"]  # logits, -inf at padding; their softmax is the belief in one target
    members: Float[Tensor, "S N"]  # logits of "this one is meant", each object for itself; -inf at padding
    fit: Float[Tensor, "S N K"]  # of each object to the words in each role; role ANCHOR is what the sentence relates to
    words: Float[Tensor, "S L D"]  # text features after the joint transformer
    objects: Float[Tensor, "S N D"]  # object features after it
    sentence: Float[Tensor, "S D"]  # the whole text before it
    read: Bool[Tensor, "S L"]  # False at padded words
    valid: Bool[Tensor, "S N"]  # False at padded objects


class GroundingModel(nn.Module):
    """Scores for every object of a scene, given a sentence.

    Args:
        text_config: transformers' config of a text tower that is not BERT of the model's own sizes; given, nothing is
            looked up and the tower's weights are random (see scene/text_tower.py).
    """

    special: Bool[Tensor, " V"]  # ids that stand for no word

    def __init__(self, config: ModelConfig, text_config: "PretrainedConfig | None" = None) -> None:
        super().__init__()
        self.config = config
        dim, post = config.dim, config.norm == "post"
        sizes = (dim, config.heads, config.hidden, config.dropout)
        self.object_encoder = object_encoder(config.object_encoder, config.object_width)
        width = config.object_width
        # GPS hands features of its own width straight to the spatial transformer
        self.object_in = nn.Dropout(config.dropout) if post and width == dim else nn.Linear(width, dim)
        self.place = nn.Sequential(nn.Linear(6, dim), nn.LayerNorm(dim))
        self.spatial = nn.ModuleList(
            SpatialLayer(*sizes, norm=config.norm, bias=config.bias) for _ in range(config.spatial_layers)
        )
        self.text = TextTower(config, text_config)
        self.kind = nn.Embedding(2, dim)  # text, object
        if config.roles:
            self.text_projection = nn.Linear(self.text.embedding_dim, dim)  # to the space of object names
            self.role = nn.Linear(dim, config.roles)
            clues = config.roles * (1 + PAIR_FEATURES + 3) + dim  # fit and bearing per role, and the sentence
            self.clues = nn.Sequential(nn.Linear(clues, dim), nn.GELU(), nn.Linear(dim, dim))
        activation, bias = "relu" if post else "gelu", config.bias if config.fusion_bias else "none"
        self.fusion = nn.ModuleList(
            SpatialLayer(*sizes, norm=config.norm, activation=activation, bias=bias)
            for _ in range(config.fusion_layers)
        )
        self.norm = nn.Identity() if post else nn.LayerNorm(dim)
        if config.scorer == "mlp":
            self.head = object_head(dim, config.head_dropout)
        self.word_head = word_head(dim, config.vocab_size)
        self.object_projection = nn.Linear(width, dim)
        if config.scene_pool == "max":
            self.scene_projection = nn.Linear(dim, dim)
        self.member_head = object_head(dim, config.head_dropout)
        if post:  # GPS has a second location embedding for the joint transformer
            self.joint_place = nn.Sequential(nn.Linear(6, dim), nn.LayerNorm(dim))
        if config.answers:
            self.answer_head = AnswerHead(dim, config.answers, config.dropout, config.head_dropout)
        if config.graph_layers:
            from scene.graph_encoder import GraphEncoder

            self.graph = GraphEncoder(dim, config.graph_layers, config.heads, dropout=config.dropout)
            self.graph_out = nn.Linear(dim, dim)
        # log of the contrastive scales: parameters of the model, so the optimiser trains them
        self.object_log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))
        self.scene_log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))
        # of scores by `dot`, and of the contrast of sentences with targets across the batch
        self.referral_log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))
        special = torch.zeros(config.vocab_size, dtype=torch.bool)
        special[[token for token in config.special_tokens if token < config.vocab_size]] = True
        self.register_buffer("special", special, persistent=False)
        if post:
            for name, part in self.named_children():
                if name not in ("text", "object_encoder"):
                    part.apply(initialise)
        if config.graph_layers:
            nn.init.zeros_(self.graph_out.weight)
            nn.init.zeros_(self.graph_out.bias)

    def encode_scene(self, scenes: SceneBatch) -> Encoded:
        """Objects in the light of their neighbours; sentences are not needed yet.

        Raises:
            InputError: no object in any scene, features of another width, or a model with a scene graph got no edges.
        """
        config = self.config
        if not scenes.valid.shape[1]:
            raise InputError("the scenes have no objects; there is nothing a sentence could mean")
        if scenes.features.shape[-1] != config.object_width:
            raise InputError(
                f"object features are {scenes.features.shape[-1]} wide, the model reads {config.object_width}: they "
                "come from another object encoder"
            )
        valid, locations, features = scenes.valid, scenes.locations, scenes.features
        count = locations.shape[1]
        if config.scene_pool == "mean" and config.slots:  # one more slot, to see what an empty one becomes
            valid, locations, features = F.pad(valid, (0, 1)), _one_more(locations), _one_more(features)
        with torch.autocast(locations.device.type, enabled=False):  # metres keep their centimetres
            if config.centred:
                objects = valid.sum(1).clamp(min=1)[:, None]
                middle = (locations[..., :2] * valid[..., None]).sum(1) / objects  # xy of the scene's objects
                locations = locations - F.pad(middle, (0, 4))[:, None]
            places = self.place(locations)
            joint_places = self.joint_place(locations) if config.norm == "post" else places
            pairs = pair_features(locations[..., :3], valid, farthest=config.farthest, slots=config.slots)
        x = self.object_in(features)
        if config.graph_layers:
            if scenes.edges is None:
                raise InputError(
                    "this model reads a scene graph, but the batch has no edges (scene.relation_edges makes them)"
                )
            x = x + self.graph_out(self.graph(x + places, valid, scenes.edges))
        mask = key_mask(valid, x.dtype)
        for layer in self.spatial:
            x = self._run(layer, x + places, mask, pairs)
        names = features[:, :count, :0]
        if config.roles:
            names = F.normalize(self.object_projection(scenes.features), dim=-1)
        return Encoded(
            objects=x[:, :count],
            names=names,
            places=joint_places[:, :count],
            pairs=pairs[:, :count, :count],
            centres=scenes.locations[..., :3],
            valid=scenes.valid,
            empty=x[:, count] if x.shape[1] > count else None,
        )

    def _run(self, layer: nn.Module, *inputs: Any) -> Tensor:
        """A layer, its activations recomputed in the backward pass where the config asks for it."""
        if self.config.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)

    def encode_words(self, tokens: Int64[Tensor, "S L"], words: Bool[Tensor, "S L"]) -> Float[Tensor, "S L D"]:
        """Text features per token; `words` is False at padding."""
        return self.text(tokens, words)

    def text_features(self, tokens: Int64[Tensor, "S L"], words: Bool[Tensor, "S L"]) -> Float[Tensor, "S D"]:
        """One vector per text, before it meets any object: of the token that stands for the whole ([CLS])."""
        return self.text.sentence(self.text(tokens, words), words)

    def word_vectors(self, tokens: Int64[Tensor, "S L"]) -> Float[Tensor, "S L D"]:
        """Unit vectors of single words, whatever stands around them, in the space of object names."""
        return F.normalize(self.text_projection(self.text.embed(tokens)), dim=-1)

    def caption_features(self, tokens: Int64[Tensor, "S L"], words: Bool[Tensor, "S L"]) -> Float[Tensor, "S D"]:
        """One vector per text for the contrastive losses.

        With roles the mean of its words' vectors, so that the space is the one in which words fit objects; without,
        as in GPS, the text's own feature.
        """
        if not self.config.roles:
            return self.text_features(tokens, words)
        content = self._content(tokens, words)[..., None]
        return (self.word_vectors(tokens) * content).sum(1) / content.sum(1).clamp(min=1)

    def _content(self, tokens: Int64[Tensor, "S L"], words: Bool[Tensor, "S L"]) -> Bool[Tensor, "S L"]:
        """Which tokens are words, known ones."""
        return words & ~self.special[tokens]

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
        content = self._content(tokens, words)
        attention = self.role(text).float().masked_fill(~content[..., None], BLOCKED).softmax(1)  # (S, L, K)
        similarity = torch.einsum("sld,snd->sln", self.word_vectors(tokens), names)
        return (scale_of(self.object_log_scale) * torch.einsum("slk,sln->snk", attention, similarity)).float()

    def scene_features(self, encoded: Encoded) -> Float[Tensor, "B D"]:
        """One vector per scene for the scene-level loss; see `scene.losses.scene_pool`."""
        if self.config.scene_pool == "max":
            return scene_pool(self.scene_projection(encoded.objects), encoded.valid)
        return scene_pool(encoded.objects, encoded.valid, "mean", slots=self.config.slots, empty=encoded.empty)

    def fuse(
        self,
        encoded: Encoded,
        tokens: Int64[Tensor, "S L"],
        words: Bool[Tensor, "S L"],
        scene: Int64[Tensor, " S"],
    ) -> Fused:
        """Scores of the objects for S sentences, sentence s speaking of scene `scene[s]`.

        Padded slots score -inf. A text without a known word has scores too; they follow from the objects alone.
        """
        config = self.config
        length = tokens.shape[1]
        text = self.encode_words(tokens, words)
        valid = encoded.valid[scene]
        objects = encoded.objects[scene]
        # only a model with roles or a joint bias looks at pairs again
        looks = config.roles or (config.fusion_bias and config.bias != "none")
        speakers = Speakers.of(scene, len(encoded.valid)) if looks else None
        fit = objects.new_zeros(*objects.shape[:2], 0)
        if config.roles:
            assert speakers is not None
            fit = self.fits(text, tokens, words, encoded.names[scene])
            said = self.text.sentence(text, words)[:, None].expand(-1, fit.shape[1], -1)
            bearing = speakers.bearings(fit, encoded.pairs, encoded.centres, encoded.valid)
            objects = objects + self.clues(torch.cat([fit, bearing, said], -1))
        places = encoded.places[scene]
        kinds = self.kind.weight
        if config.norm == "post":  # kinds and places are added again before every layer
            x = torch.cat([text, objects], 1)
            again = torch.cat([kinds[0].expand_as(text), places + kinds[1]], 1)
        else:
            x = torch.cat([text + kinds[0], objects + kinds[1]], 1)
            again = F.pad(places, (0, 0, length, 0))
        mask = key_mask(torch.cat([words, valid], 1), x.dtype)
        for layer in self.fusion:
            x = self._run(layer, x + again, mask, encoded.pairs, speakers)
        x = self.norm(x)
        said_words, seen = x[:, :length], x[:, length:]
        scores = self._scores(seen, self.text.sentence(said_words, words))
        members = self.member_head(seen).squeeze(-1).float()
        return Fused(
            scores=scores.masked_fill(~valid, -torch.inf),
            members=members.masked_fill(~valid, -torch.inf),
            fit=fit.masked_fill(~valid[..., None], -torch.inf),
            words=said_words,
            objects=seen,
            sentence=self.text.sentence(text, words),
            read=words,
            valid=valid,
        )

    def _scores(self, objects: Float[Tensor, "S N D"], sentence: Float[Tensor, "S D"]) -> Float[Tensor, "S N"]:
        """mlp: MLP(h_n). cosine: cos(h_T, h_n). dot: cos(h_T, h_n) / tau with a trained tau.

        The paper writes h_T . h_n / tau; like the vectors of its other contrasts the two are scaled to length 1 first.
        """
        if self.config.scorer == "mlp":
            return self.head(objects).squeeze(-1).float()
        unit, said = F.normalize(objects.float(), dim=-1), F.normalize(sentence.float(), dim=-1)
        cosine = (unit * said[:, None]).sum(-1)
        return cosine if self.config.scorer == "cosine" else scale_of(self.referral_log_scale) * cosine

    def word_logits(
        self, fused: Fused, places: Int64[Tensor, " M"] | None = None
    ) -> Float[Tensor, "S L V"] | Float[Tensor, "M V"]:
        """Logits of the word that stood in each place, for masked words.

        Args:
            places: indices s * L + l of those that are asked for; None = all. A vocabulary of 30,000 makes this head as
                dear as a layer, and 15 % of the places have a word to guess.
        """
        return self.word_head(fused.words if places is None else fused.words.flatten(0, 1)[places])

    def answer_logits(self, fused: Fused) -> Float[Tensor, "S A"]:
        """Logits of the answers to the sentences read as questions.

        Raises:
            InputError: the model has no question head (`answers=0`).
        """
        if not self.config.answers:
            raise InputError(
                "this model answers no questions; give it a question head: sightline pretrain-grounding scenes=SCENES "
                "init=MODEL stages=finetune task=answers"
            )
        return self.answer_head(fused.objects, fused.valid, fused.words, fused.read).float()

    def forward(
        self,
        scenes: SceneBatch,
        tokens: Int64[Tensor, "S L"],
        words: Bool[Tensor, "S L"],
        scene: Int64[Tensor, " S"],
    ) -> Float[Tensor, "S N"]:
        """Scores of the objects of each sentence's scene; see `fuse`."""
        return self.fuse(self.encode_scene(scenes), tokens, words, scene).scores


def initialise(module: nn.Module) -> None:
    """GPS's initial weights: N(0, 0.02) for linear maps and embeddings, biases 0."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=INITIAL_SPREAD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def _one_more(x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N+1 D"]:
    return F.pad(x, (0, 0, 0, 1))
