"""Losses of grounded pretraining as functions of tensors: object, referral and scene level, masked words, answers.

Equations follow SceneVerse (arXiv:2401.09340, section 4.2). Where its paper and its released code differ, both are
here: `info_nce` and `object_class_loss` for objects, `scene_pool` in two modes for scenes, `referral_loss` on scores
of either scorer (scene/grounding.py) and `referral_contrast` for referrals. Different from both: the contrastive scale
is a parameter of the model and trained, padding never counts, and what is equal in a batch is a positive of each other.
All of them compute in float32, whatever the features come in.
"""

import math

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor
from torch.nn import functional as F

from core.errors import check_choice
from vl.losses import softmax_loss

IGNORED = -100
"""Target of a position that does not count (torch's default ignore_index)."""

MAX_SCALE = 100.0
INITIAL_LOG_SCALE = math.log(1 / 0.07)  # CLIP's temperature, arXiv:2103.00020


def scale_of(log_scale: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The contrastive scale 1/tau = exp(log_scale), at most 100 (arXiv:2103.00020, section 2.5)."""
    return log_scale.clamp(max=math.log(MAX_SCALE)).exp()


def info_nce(
    left: Float[Tensor, "M D"],
    right: Float[Tensor, "M D"],
    scale: Float[Tensor, ""],
    ids: Int64[Tensor, " M"] | None = None,
) -> Float[Tensor, ""]:
    """Symmetric contrastive loss between rows that belong together, duplicates being positives.

        s_ij = scale * <left_i, right_j> / (|left_i| |right_j|)
        L = -1/2M sum_i [ mean over j with ids_j = ids_i of log softmax_j(s_ij) + the same over columns ]

    With distinct ids (or None) this is the loss of CLIP; texts that occur twice in a batch are not told apart.

    Source: arXiv:2401.09340, equations 4 and 5; several positives as in `vl.losses.softmax_loss`, which computes it.
    """
    same = None if ids is None else ids[:, None] == ids[None, :]
    return softmax_loss(F.normalize(left.float(), dim=-1), F.normalize(right.float(), dim=-1), scale, positive=same)


def object_class_loss(
    features: Float[Tensor, "M D"],
    class_text: Float[Tensor, "C D"],
    target: Int64[Tensor, " M"],
    smoothing: float = 0.3,
) -> Float[Tensor, ""]:
    """Objects against the text features of all classes, which are frozen.

        s_ic = <f_i, t_c>,  L = -1/M sum_i sum_c y_ic log softmax_c(s_ic),  y_ic = (1 - a) [c = target_i] + a / C

    Args:
        class_text: one row per class; no gradient reaches it.
        smoothing: a.

    Source: released code of SceneVerse (arXiv:2401.09340), object pretraining, in place of its paper's contrast.
    """
    return F.cross_entropy(features.float() @ class_text.detach().float().T, target, label_smoothing=smoothing)


def referral_contrast(
    objects: Float[Tensor, "S D"],
    text: Float[Tensor, "S D"],
    scale: Float[Tensor, ""],
    ids: Int64[Tensor, " S"] | None = None,
) -> Float[Tensor, ""]:
    """Contrast of the targets of a batch with their sentences, before the two are fused: `info_nce` of the two.

    Args:
        objects: the target of each sentence, after the spatial transformer (`Encoded.objects`).
        text: each sentence before the joint transformer (`Fused.sentence`).
        ids: sentences with one id mean one object and are positives of each other.

    Source: "TextObjBetweenBatch" of the released code of SceneVerse, which its final configurations leave out.
    """
    return info_nce(objects, text, scale, ids)


def referral_loss(scores: Float[Tensor, "S N"], target: Int64[Tensor, " S"]) -> Float[Tensor, ""]:
    """Cross-entropy of the target among a scene's objects: L = -1/S sum_s log softmax_n(scores_sn) at target_s.

    Scores of padded slots are -inf, so they take no part. What a score is, the model's scorer says: with `dot` this is
    the paper's loss, with `cosine` that of its code (a cosine without a temperature: at best 1 against -1, so the loss
    stays far from 0).

    Source: arXiv:2401.09340, equation 6 (intra-scene softmax).
    """
    return F.cross_entropy(scores.float(), target)


def member_loss(members: Float[Tensor, "S N"], meant: Shaped[Tensor, "S N"]) -> Float[Tensor, ""]:
    """Each object's own question, "is this one meant": for sentences with several targets, or none.

        L = -1/S sum_s sum_n [ y_sn log sigmoid(m_sn) + (1 - y_sn) log(1 - sigmoid(m_sn)) ]

    Args:
        members: logits; -inf at padding, which takes no part.
        meant: y, 1 or True at targets.

    Source: summed over objects as in the released code of SceneVerse for ScanQA's objects; Multi3DRefer,
        arXiv:2309.05251, section 4, for the task.
    """
    valid = members > -torch.inf
    logits = members.float().masked_fill(~valid, 0.0)
    each = F.binary_cross_entropy_with_logits(logits, meant.float(), reduction="none")
    return (each * valid).sum() / len(members)


def answer_loss(logits: Float[Tensor, "S A"], right: Shaped[Tensor, "S A"]) -> Float[Tensor, ""]:
    """Every answer its own question, since several may be right.

        L = -1/S sum_s sum_a [ y_sa log sigmoid(z_sa) + (1 - y_sa) log(1 - sigmoid(z_sa)) ]

    Args:
        right: y, 1 or True at answers that count as right; a row without any counts as all wrong.

    Source: released code of SceneVerse (arXiv:2401.09340) for ScanQA and SQA3D.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), right.float(), reduction="sum") / len(logits)


def anchor_loss(fit: Float[Tensor, "S N"], shares: Float[Tensor, "S N"]) -> Float[Tensor, ""]:
    """Cross-entropy of the things a sentence relates to: L = -1/S sum_s sum_n share_sn log softmax_n(fit_sn).

    Args:
        fit: of each object to the words in the anchor role; -inf at padding.
        shares: rows sum to 1, or are 0 where the sentence names no other thing (they then add nothing).

    Source: anchors as supervision, CoT3DRef, arXiv:2310.06214, section 3.
    """
    log_prob = fit.log_softmax(-1).masked_fill(shares == 0, 0.0)
    return -(shares * log_prob).sum() / len(fit)


def scene_pool(
    objects: Float[Tensor, "B N D"],
    valid: Bool[Tensor, "B N"],
    mode: str = "max",
    *,
    slots: int = 0,
    empty: Float[Tensor, "B D"] | None = None,
) -> Float[Tensor, "B D"]:
    """One vector for a scene's objects.

        max:  s_d = max over valid n of o_nd
        mean: s_d = (sum over valid n of o_nd + e empty_d) / (n_valid + e), e = max(slots - n_valid, 0)

    Args:
        mode: "max" (the paper, after a projection), or "mean", with `slots` that of the released code: empty slots up
            to that number count. How far the batch is padded never matters.
        slots: of every scene, for "mean"; 0 = only objects count.
        empty: what an empty slot becomes, with `slots`.

    Source: arXiv:2401.09340, scene-level alignment.
    """
    if mode == "max":
        return objects.masked_fill(~valid[..., None], -torch.inf).amax(1)
    check_choice("scene_pool mode", mode, ("max", "mean"))
    count = valid.sum(1, keepdim=True)
    total = (objects * valid[..., None]).sum(1)
    if not slots:
        return total / count.clamp(min=1)
    assert empty is not None, "a mean over slots needs what an empty slot becomes"
    missing = (slots - count).clamp(min=0)
    return (total + missing * empty) / (count + missing)


def masked_word_loss(logits: Float[Tensor, "*p V"], target: Int64[Tensor, "*p"]) -> Float[Tensor, ""]:
    """Cross-entropy over the positions whose target is not `IGNORED`; 0 when none was masked (arXiv:1810.04805)."""
    count = (target != IGNORED).sum().clamp(min=1)
    logits = logits.flatten(0, -2).float()
    return F.cross_entropy(logits, target.flatten(), ignore_index=IGNORED, reduction="sum") / count


def mask_words(
    tokens: Int64[Tensor, "S L"],
    special: Int64[Tensor, " K"],
    mask_id: int,
    vocab_size: int,
    generator: torch.Generator,
    ratio: float = 0.15,
) -> tuple[Int64[Tensor, "S L"], Int64[Tensor, "S L"]]:
    """Tokens with a share hidden, and the targets to predict there (`IGNORED` elsewhere).

    Of the chosen positions 80 % become `mask_id`, 10 % a random token, 10 % stay; special tokens are never chosen.

    Source: Devlin et al., BERT, arXiv:1810.04805, appendix A.1.
    """
    chosen = (torch.rand(tokens.shape, generator=generator) < ratio) & ~torch.isin(tokens, special)
    fate = torch.rand(tokens.shape, generator=generator)
    random = torch.randint(vocab_size, tokens.shape, generator=generator)
    hidden = torch.where(fate < 0.8, mask_id, torch.where(fate < 0.9, random, tokens))
    return torch.where(chosen, hidden, tokens), torch.where(chosen, tokens, IGNORED)
