"""Released GPS checkpoints of SceneVerse as grounders of ours: sightline convert-grounder CHECKPOINT tokenizer=FOLDER

Every tensor of the checkpoint is either taken under our name, or on the list of those that the released model never
uses, or an error; every tensor of ours is either taken, or on the list of parts that GPS does not have, or an error.
Nothing in the file is run (scene/datasets/pth.py). Sizes are read off the tensors.

Names are those of the released model (github.com/scene-verse/SceneVerse, model/openvocab.py and modules/, MIT): a text
encoder, a point encoder with its spatial layers, a unified encoder, and heads. accelerate writes them as
model.safetensors or pytorch_model.bin, in one file or in several with an index. The tokenizer is not among them: it is
BERT's.

What is not the same: without a grounding head the released code ranks by a dot product of fused features, ours by their
cosine, which is what its loss trained; padding cannot win; and objects come in the viewer's frame (scene/batch.py), a
quarter turn from the file's, which that model saw in training as one of four.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from omegaconf import MISSING
from torch import Tensor
from transformers import BertConfig

from core.checkpoint import load_weights
from core.errors import InputError, MissingFileError
from core.files import read_json
from core.job import JobConfig, job_main
from core.run import RunFolder
from scene.answers import AnswerVocabulary
from scene.datasets.pth import read_pth
from scene.grounder import Grounder
from scene.grounding import GroundingModel
from scene.model_config import ModelConfig, gps_code
from scene.text_tower import pretrained_tokenizer

FILES: Final = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth")
"""Under which names accelerate and torch write a model's weights."""
MOST_NAMED: Final = 20  # tensors in an error
BERT_HEAD: Final = 64  # width of an attention head, in BERT of every size

_LAYER = r"(\d+)\.(linear1|linear2|norm1|norm2)\.(weight|bias)"
_PART: Final = {"linear1": "feed.0", "linear2": "feed.3", "norm1": "norm_attention", "norm2": "norm_feed"}
RENAMED: Final[tuple[tuple[str, str], ...]] = (
    (r"lang_encoder\.model\.(embeddings|encoder)\.(.+)", r"text.encoder.\1.\2"),
    (r"point_encoder\.point_feature_extractor\.fc\.(weight|bias)", r"object_encoder.out.\1"),
    (
        r"point_encoder\.point_feature_extractor\.encoder\.(\d)\.mlps\.0\.layer(\d)\.conv\.weight",
        r"object_encoder.stages.\1.layers.\2.weight",
    ),
    (
        r"point_encoder\.point_feature_extractor\.encoder\.(\d)\.mlps\.0\.layer(\d)\.bn\.bn\.(\w+)",
        r"object_encoder.stages.\1.norms.\2.\3",
    ),
    (r"point_encoder\.loc_layers\.0\.([01])\.(weight|bias)", r"place.\1.\2"),
    (r"point_encoder\.spatial_encoder\.(\d+)\.self_attn\.fc\.(weight|bias)", r"spatial.\1.attention.out.\2"),
    (r"point_encoder\.spatial_encoder\.(\d+)\.self_attn\.lang_cond_fc\.(weight|bias)", r"spatial.\1.weights.\2"),
    (r"unified_encoder\.loc_layers\.0\.([01])\.(weight|bias)", r"joint_place.\1.\2"),
    (r"unified_encoder\.token_type_embeddings\.weight", r"kind.weight"),
    (r"unified_encoder\.unified_encoder\.(\d+)\.self_attn\.in_proj_(weight|bias)", r"fusion.\1.attention.qkv.\2"),
    (r"unified_encoder\.unified_encoder\.(\d+)\.self_attn\.out_proj\.(weight|bias)", r"fusion.\1.attention.out.\2"),
    (r"ground_head\.og3d_head\.([024])\.(weight|bias)", r"head.\1.\2"),
    (r"pretrain_head\.lm_pred_head\.transform\.dense\.(weight|bias)", r"word_head.0.\1"),
    (r"pretrain_head\.lm_pred_head\.transform\.LayerNorm\.(weight|bias)", r"word_head.2.\1"),
    (r"pretrain_head\.lm_pred_head\.decoder\.weight", r"word_head.3.weight"),
    (r"pretrain_head\.lm_pred_head\.bias", r"word_head.3.bias"),
    (r"qa_head\.attflat_visual\.mlp\.fc\.linear\.(weight|bias)", r"answer_head.objects.score.0.\1"),
    (r"qa_head\.attflat_visual\.mlp\.linear\.(weight|bias)", r"answer_head.objects.score.3.\1"),
    (r"qa_head\.attflat_visual\.linear_merge\.(weight|bias)", r"answer_head.objects.out.\1"),
    (r"qa_head\.attflat_lang\.mlp\.fc\.linear\.(weight|bias)", r"answer_head.words.score.0.\1"),
    (r"qa_head\.attflat_lang\.mlp\.linear\.(weight|bias)", r"answer_head.words.score.3.\1"),
    (r"qa_head\.attflat_lang\.linear_merge\.(weight|bias)", r"answer_head.words.out.\1"),
    (r"qa_head\.fusion_norm\.(weight|bias)", r"answer_head.norm.\1"),
    (r"qa_head\.answer_cls\.([03])\.(weight|bias)", r"answer_head.answer.\1.\2"),
)
"""Their names, as patterns of the whole, and ours."""
LAYERS: Final = (
    (re.compile(rf"point_encoder\.spatial_encoder\.{_LAYER}"), "spatial"),
    (re.compile(rf"unified_encoder\.unified_encoder\.{_LAYER}"), "fusion"),
)
JOINED: Final = re.compile(r"point_encoder\.spatial_encoder\.(\d+)\.self_attn\.w_([qkv])s\.(weight|bias)")
UNUSED: Final = re.compile(
    r"point_encoder\.(text_features|sem_cls_embed_layer\..+|sem_mask_embeddings\.weight)"  # of an earlier model
    r"|lang_encoder\.model\.(pooler\..+|embeddings\.position_ids)"
    r"|pretrain_head\.obj_pred_head\..+"
    r"|ground_head\.(txt_clf_head|obj3d_clf_head|obj3d_clf_pre_head)\..+"  # auxiliary classifiers, detached
)
"""Tensors that no score of the released model depends on."""
OWN: Final = re.compile(
    r"(member_head|object_projection|text_projection)\..+|(object|scene|referral)_log_scale"  # what GPS does not have
    r"|word_head\..+"  # a fine-tuned checkpoint may lack it
)
"""Tensors of ours that keep their initial values where the checkpoint has nothing for them."""


@dataclass
class ConvertGrounderConfig(JobConfig):
    """A released GPS checkpoint as a folder for ground, evaluate-grounding and pretrain-grounding init=."""

    POSITIONAL = ("checkpoint",)

    checkpoint: str = MISSING  # file or folder that accelerate wrote: model.safetensors or pytorch_model.bin
    tokenizer: str = MISSING  # folder or hub id of the text encoder's tokenizer: that of bert-base-uncased
    answers: str = ""  # of a checkpoint with a question head: answer_dict.json, or a JSON list of its answers


CONFIG = ConvertGrounderConfig


def run(cfg: ConvertGrounderConfig) -> dict[str, Any]:
    """Writes model/ into the run folder; the result names tensors that were left out or kept their initial values."""
    state = read_checkpoint(cfg.checkpoint)
    tokenizer = pretrained_tokenizer(cfg.tokenizer)
    converted = convert(state, tokenizer.all_special_ids)
    vocab = converted.model.config.vocab_size
    if len(tokenizer) != vocab:
        raise InputError(
            f"tokenizer={cfg.tokenizer} has {len(tokenizer)} tokens, the checkpoint {vocab}; GPS has bert-base-uncased"
        )
    answers = read_answers(cfg.answers, converted.model.config.answers)
    folder = RunFolder.open(cfg, "convert-grounder")
    Grounder(converted.model, tokenizer, answers).save_pretrained(folder.path / "model")
    print(
        f"{len(state) - len(converted.unused)} of {len(state)} tensors taken; {len(converted.unused)} that scores do "
        f"not depend on left out; {len(converted.initial)} of ours keep their initial values "
        f"({_heads(converted.initial)})"
    )
    print(f"the grounder is in {folder.path / 'model'}")
    return folder.finish(
        {
            "model": str(folder.path / "model"),
            "parameters": sum(p.numel() for p in converted.model.parameters()),
            "unused": list(converted.unused),
            "initial": list(converted.initial),
        }
    )


@dataclass(frozen=True)
class Converted:
    """A model with a checkpoint's weights."""

    model: GroundingModel
    unused: tuple[str, ...]  # tensors of the checkpoint that were left out
    initial: tuple[str, ...]  # tensors of the model that the checkpoint has nothing for


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, or of the folder that accelerate wrote, by their names without "module.".

    Raises:
        MissingFileError, InputError: nothing there, or a damaged file, or one that wants code run, or without tensors.
    """
    path = Path(path).expanduser()
    state: dict[str, Tensor] = {}
    for file in _files(path):
        state |= _tensors(file)
    if not state:
        raise InputError(f"{path} holds no tensors; expected the weights of a GPS model")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    for name in FILES:
        index = path / f"{name}.index.json"
        if index.exists():
            parts = read_json(index, "index of a checkpoint").get("weight_map", {})
            return [path / part for part in sorted(set(parts.values()))]
        if (path / name).exists():
            return [path / name]
    raise MissingFileError(f"no checkpoint in {path}: expected {', '.join(FILES)}, or one of them with .index.json")


def _tensors(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(str(file))
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file} does not load ({error}); copy it again") from error
    content = read_pth(file, "checkpoint")
    for key in ("model", "state_dict"):  # what trainers wrap weights in
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise InputError(f"checkpoint {file} holds a {type(content).__name__}, expected tensors by name")
    return {str(name): torch.as_tensor(value) for name, value in content.items() if hasattr(value, "shape")}


def convert(state: Mapping[str, Tensor], special_tokens: list[int]) -> Converted:
    """A model of ours with the weights of a released one.

    Args:
        special_tokens: ids of the tokenizer that stand for no word.

    Raises:
        InputError: tensors that have no place here or are missing, all of them named.
    """
    found, unused, unknown = _renamed(state)
    if unknown:
        named = ", ".join(unknown[:MOST_NAMED]) + (", ..." if len(unknown) > MOST_NAMED else "")
        raise InputError(
            f"{len(unknown)} tensors of the checkpoint are none of GPS's: {named}; expected one that "
            "SceneVerse released or that its code wrote"
        )
    config, text = _sizes(found)
    config.special_tokens = tuple(special_tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GroundingModel(config, text)
    own = model.state_dict()
    initial = tuple(name for name in own if name not in found and OWN.fullmatch(name))
    missing = [name for name in own if name not in found and name not in initial]
    foreign = [name for name in found if name not in own]
    if missing or foreign:
        raise InputError(
            f"the checkpoint is no whole GPS model; it has nothing for {', '.join(missing) or 'no tensor'}, and no "
            f"place is left for {', '.join(foreign) or 'none'} (our names)"
        )
    load_weights(model, {**found, **{name: own[name] for name in initial}}, "the checkpoint")
    return Converted(model, tuple(unused), initial)


def _renamed(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Tensors under our names, names of those that are not used, and names that nobody knows."""
    found: dict[str, Tensor] = {}
    unused, unknown = [], []
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if UNUSED.fullmatch(name):
            unused.append(name)
        elif joined := JOINED.fullmatch(name):
            parts.setdefault(f"spatial.{joined[1]}.attention.qkv.{joined[3]}", {})[joined[2]] = value
        elif (ours := _our_name(name)) is not None:
            found[ours] = _laid_out(ours, value)
        else:
            unknown.append(name)
    for name, three in parts.items():
        if set(three) == set("qkv"):  # else it is missing, and named as such
            found[name] = torch.cat([three[letter] for letter in "qkv"])
    return found, unused, unknown


def _our_name(name: str) -> str | None:
    for pattern, stack in LAYERS:
        if layer := pattern.fullmatch(name):
            return f"{stack}.{layer[1]}.{_PART[layer[2]]}.{layer[3]}"
    for theirs, ours in RENAMED:
        if re.fullmatch(theirs, name):
            return re.sub(theirs, ours, name)
    return None


def _laid_out(ours: str, value: Tensor) -> Tensor:
    """Their layout in ours: convolutions over single points are linear maps, and a head's bias comes after its weights.

    The released spatial bias has, per head, first the bias and then five weights; ours has the bias last.
    """
    if re.fullmatch(r"object_encoder\.stages\.\d\.layers\.\d\.weight", ours):
        return value.flatten(1)
    if re.fullmatch(r"spatial\.\d+\.weights\.(weight|bias)", ours) and len(value) % 6 == 0:
        return value.unflatten(0, (-1, 6)).roll(-1, 1).flatten(0, 1)
    return value


def _sizes(found: Mapping[str, Tensor]) -> tuple[ModelConfig, BertConfig]:
    """Sizes of the model, read off its tensors.

    Raises:
        InputError: a tensor that tells a size is missing.
    """
    told = (
        "text.encoder.embeddings.word_embeddings.weight", "text.encoder.embeddings.position_embeddings.weight",
        "text.encoder.embeddings.token_type_embeddings.weight",
        "text.encoder.encoder.layer.0.intermediate.dense.weight", "place.0.weight",
        "spatial.0.weights.weight", "spatial.0.feed.0.weight", "object_encoder.out.weight",
    )  # fmt: skip
    lacking = [name for name in told if name not in found]
    if lacking:
        raise InputError(f"the checkpoint is no whole GPS model; it has nothing for {', '.join(lacking)} (our names)")
    words, positions, kinds, inner = (found[name] for name in told[:4])

    def layers(prefix: str) -> int:
        return len({name[len(prefix) :].split(".")[0] for name in found if name.startswith(prefix)})

    config = gps_code(vocab_size=len(words))
    config.dim = found["place.0.weight"].shape[0]
    config.heads = len(found["spatial.0.weights.weight"]) // 6
    config.hidden = len(found["spatial.0.feed.0.weight"])
    config.object_dim = len(found["object_encoder.out.weight"])
    config.text_layers = layers("text.encoder.encoder.layer.")
    config.spatial_layers, config.fusion_layers = layers("spatial."), layers("fusion.")
    config.max_tokens = min(config.max_tokens, len(positions))
    config.scorer = "mlp" if any(name.startswith("head.") for name in found) else "cosine"
    config.answers = len(found.get("answer_head.answer.3.bias", ()))
    width = words.shape[1]
    text = BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=config.text_layers,
        num_attention_heads=max(1, width // BERT_HEAD),
        intermediate_size=len(inner),
        max_position_embeddings=len(positions),
        type_vocab_size=len(kinds),
    )
    return config, text


def read_answers(path: str, count: int) -> tuple[str, ...]:
    """The answers of a question head, in the order of its outputs.

    Raises:
        InputError: a head without answers, answers without a head, or another number of them.
    """
    if not path:
        if count:
            raise InputError(f"the checkpoint answers questions ({count} answers); give answers=FILE, which names them")
        return ()
    content = read_json(path, "answers")
    flat = isinstance(content, list) and all(isinstance(item, str) for item in content)
    known = AnswerVocabulary(tuple(content)) if flat else AnswerVocabulary.from_answer_dict(path)
    if len(known) != count:
        raise InputError(f"answers={path} lists {len(known)} answers, the checkpoint has {count}")
    return known.answers


def _heads(names: tuple[str, ...]) -> str:
    return ", ".join(dict.fromkeys(name.split(".")[0] for name in names)) or "none"


if __name__ == "__main__":
    job_main("convert-grounder")
