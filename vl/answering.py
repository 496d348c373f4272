"""Answering questions about pictures with a `VLModel`: logits, losses and predictions for any task.

    labels (NLVR, SNLI-VE)   softmax over the answers               loss: cross-entropy
    answers (VQA)            one sigmoid per answer                 loss: binary cross-entropy, summed over answers
    boxes (RefCOCO)          softmax over a question's own boxes    loss: cross-entropy; empty slots have no share

Two pictures (NLVR2) are two passes whose pooled vectors the head reads side by side (Suhr et al., arXiv:1811.00491;
the pair setting of UNITER, arXiv:1909.11740). The loss on soft answers is Teney et al.'s (arXiv:1708.02711).
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from core.checkpoint import load_weights
from core.errors import InputError, nearest
from vl.answer_batches import AnswerBatch, Ask, ask, collate
from vl.embed_folder import has_fusion
from vl.encoded import Encoded
from vl.kept_states import KeptStates
from vl.model import VLModel
from vl.model_files import encoder_shapes
from vl.picture_cache import PictureCache
from vl.tasks import Example, Task, TaskData

CHECKED = 1000
"""Examples looked at together before a run."""

BOX_ANSWER = ("this one",)
"""The one answer of a head that scores boxes: its logit says how well the text fits the crop."""


def answers_of(task: Task, train: Sequence[Example], least: int) -> list[str]:
    """Labels of the head that a task needs.

    Args:
        least: VQA: of how many training questions an answer must be the most common one.

    Raises:
        InputError: a task without answers, or training data that give none.
    """
    if task.predicts == "box":
        return list(BOX_ANSWER)
    labels = list(task.label_set(train, least))
    if not labels:
        raise InputError(f"task={task.name} has no answers to learn from its training split")
    return labels


def check_blind(task: Task) -> None:
    """Raises InputError where a blind model has nothing to choose by: boxes of a grey picture are all alike."""
    if task.predicts == "box":
        raise InputError(f"blind=true: grey boxes of task={task.name} are all alike; `chance` is what that reaches")


def with_answers(
    model: VLModel,
    answers: Sequence[str],
    images: int,
    *,
    seed: int,
    freeze_image: bool = False,
    freeze_text: bool = False,
    freeze_fusion: bool = False,
) -> VLModel:
    """The model with an answer head: its own where it has these answers already, else a new one drawn from `seed`.

    What is frozen in the result is what is asked for here, whatever was frozen before.

    Raises:
        InputError: the model never sees image and text together.
    """
    if not has_fusion(model):
        raise InputError(
            "the model has two towers that never see each other, so it cannot answer about a picture and a text; "
            "pretrain one with model.fusion.layers=2 or more, or of model.kind=one-tower"
        )
    one = model.config.kind == "one-tower"
    if one and freeze_image != freeze_text:
        raise InputError("a one-tower model has one stack for both: freeze_image and freeze_text go together")
    config = dataclasses.replace(
        model.config,
        answers=list(answers),
        answer_images=images,
        image=dataclasses.replace(model.config.image, freeze=freeze_image),
        text=dataclasses.replace(model.config.text, freeze=freeze_text),
        fusion=dataclasses.replace(model.config.fusion, freeze=freeze_fusion),
        one=dataclasses.replace(model.config.one, freeze=one and freeze_image),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        result = VLModel(config, model.tokenizer, encoder_shapes(model))
    own = model.state_dict()
    same = list(answers) == list(model.config.answers) and images == model.config.answer_images
    head = {name: value for name, value in result.state_dict().items() if name.startswith("answer_head.")}
    kept = {name: value for name, value in own.items() if same or not name.startswith("answer_head.")}
    load_weights(result, {**head, **kept}, "the model to start from")
    return result


def check_head(model: VLModel, task: Task, folder: str) -> None:
    """Raises InputError unless the model has the answer head of a task; names the command that makes one."""
    have, wanted = model.config.answers, BOX_ANSWER if task.predicts == "box" else task.labels
    make = f"make one: sightline finetune-vl task={task.name} data=FOLDER model={folder}"
    if not have:
        raise InputError(f"the model in {folder} has no answer head, which task={task.name} needs; {make}")
    if (wanted is not None and list(wanted) != list(have)) or model.config.answer_images != task.images:
        shown = ", ".join(have[:4]) + (", ..." if len(have) > 4 else "")
        raise InputError(
            f"the model in {folder} answers {len(have)} labels ({shown}) about {model.config.answer_images} pictures; "
            f"task={task.name} needs {'its own' if wanted is None else len(wanted)} about {task.images}: {make}"
        )


def answer_scores(model: VLModel, batch: AnswerBatch, image: Encoded | None = None) -> Float[Tensor, "B A"]:
    """Logits of a batch's questions, with gradient: one per answer, or per box (-inf in empty slots).

    Every picture and every text goes through its tower once.

    Args:
        image: the states of `batch.crops`, where a frozen tower's are kept.
    """
    device = model.device
    if image is None:
        assert batch.images is not None
        image = model.image_states(model.pixels(batch.images, batch.gain))
    text = model.text_states(batch.input_ids.to(device), batch.attention_mask.to(device))
    words = text.rows(batch.text.to(device))
    fused = [model.fuse(image.rows(column), words) for column in batch.picture.to(device).unbind(1)]
    logits = model.answer_logits(fused if len(fused) > 1 else fused[0]).float()
    if not batch.boxed:
        return logits
    scores = logits.new_full((batch.questions, int(batch.slot.max()) + 1), -torch.inf)
    scores[batch.question.to(device), batch.slot.to(device)] = logits[:, 0]
    return scores


def targets(task: Task, answers: Sequence[str], examples: Sequence[Example]) -> Tensor:
    """What a model should say: rows of labels or boxes (int64, B), or of soft scores (float, (B, A)).

    Raises:
        InputError: an example without its label, a label that is none of `answers`, or a box that is not there.
    """
    hidden = [example.id for example in examples if example.label is None]
    if hidden:
        raise InputError(f"example {hidden[0]} has no label (kept back by the release); name a split that has them")
    row = {answer: number for number, answer in enumerate(answers)}
    if task.predicts == "answer":
        soft = torch.zeros(len(examples), len(answers))
        for number, example in enumerate(examples):
            for answer, worth in example.targets.items():
                if answer in row:  # rare answers are not in the head: such questions have a lower target
                    soft[number, row[answer]] = worth
        return soft
    wanted = []
    for example in examples:
        label = str(example.label)
        if task.predicts == "box":
            count = 0 if example.boxes is None else len(example.boxes)
            if not (label.isdigit() and int(label) < count):
                raise InputError(f"example {example.id} means box {label!r} of {count}; expected 0..{count - 1}")
            wanted.append(int(label))
        elif label in row:
            wanted.append(row[label])
        else:
            raise InputError(
                f"example {example.id} has the label {label!r}, which is out of range; {nearest(label, answers)}"
            )
    return torch.tensor(wanted)


def check_examples(model: VLModel, task: Task, examples: Sequence[Example], *, labels: bool) -> None:
    """Finds before the first step what would stop a run in its middle: unreadable texts, labels that do not fit.

    Raises:
        InputError: see `VLModel.tokens` and, where `labels` are needed, `targets`.
    """
    texts = list(dict.fromkeys(example.text for example in examples))
    for start in range(0, len(texts), CHECKED):
        model.tokens(texts[start : start + CHECKED])
    for start in range(0, len(examples) if labels else 0, CHECKED):
        targets(task, model.config.answers, examples[start : start + CHECKED])


def leave_out_unreadable(model: VLModel, data: TaskData, most: float) -> None:
    """Takes examples whose text the model cannot read out of a split and counts them in `data.dropped`.

    Raises:
        InputError: more than the share `most` of the examples.
    """
    faults: dict[str, InputError] = {}
    for text in dict.fromkeys(example.text for example in data.examples):
        try:
            model.tokens([text])
        except InputError as error:
            faults[text] = error
    kept = [example for example in data.examples if example.text not in faults]
    count = len(data.examples) - len(kept)
    if count > most * len(data.examples):
        raise InputError(
            f"{count} of {len(data.examples)} examples have a text that the model cannot read, more than the share "
            f"max_unreadable={most:g}; e.g. {next(iter(faults.values()))}"
        )
    if count:
        data.examples = kept
        data.dropped["unreadable text"] = data.dropped.get("unreadable text", 0) + count


def answer_loss(scores: Float[Tensor, "B A"], target: Tensor) -> Float[Tensor, ""]:
    """Cross-entropy on rows of labels or boxes, summed binary cross-entropy on soft scores; mean over questions."""
    if target.is_floating_point():
        return F.binary_cross_entropy_with_logits(scores, target, reduction="sum") / len(scores)
    return F.cross_entropy(scores, target)


@dataclass
class Answers:
    """What a model says to examples."""

    said: list[str]  # labels, answers, or numbers of boxes
    probability: Float[ndarray, " M"]  # of what was said
    scores: Float[ndarray, "M A"]  # logits; -inf where a question has no such box

    def for_metric(self, task: Task) -> list[str] | Float[ndarray, "M A"]:
        """The form in which `task.score` takes them."""
        return self.scores if task.predicts == "box" else self.said


@torch.no_grad()
def predict(
    model: VLModel,
    task: Task,
    examples: Sequence[Example],
    cache: PictureCache,
    *,
    blind: bool = False,
    batch_size: int = 64,
    kept: KeptStates | None = None,
    progress: Callable[[int], None] | None = None,
) -> Answers:
    """The model's answers; equal questions (a blind model's, about any picture) are asked once. Sets eval mode.

    Unreadable pictures are answered about as grey ones and stay counted in the cache.

    Args:
        kept: a frozen image tower's states of all these pictures.
    """
    training = model.training
    model.eval()
    asks = [ask(example, blind=blind) for example in examples]
    distinct = {one: number for number, one in enumerate(dict.fromkeys(asks))}
    longest = max(len(one.crops) for one in distinct) if task.predicts == "box" else len(model.config.answers)
    scores = np.full((len(distinct), longest), -np.inf)
    todo: list[Ask] = list(distinct)
    for start in range(0, len(todo), batch_size):
        part = todo[start : start + batch_size]
        batch = collate(part, cache, model.tokens, pixels=kept is None)
        found = answer_scores(model, batch, kept.of(batch.crops) if kept else None).cpu().numpy()
        scores[start : start + len(part), : found.shape[1]] = found
        if progress is not None:
            progress(len(part))
    model.train(training)
    scores = scores[[distinct[one] for one in asks]]
    best = scores.argmax(1)
    said = [str(b) for b in best] if task.predicts == "box" else [model.config.answers[b] for b in best]
    return Answers(said, _probability(task, scores)[np.arange(len(best)), best], scores)


def _probability(task: Task, scores: Float[ndarray, "M A"]) -> Float[ndarray, "M A"]:
    if task.predicts == "answer":
        return 1 / (1 + np.exp(-scores))
    share = np.exp(scores - scores.max(1, keepdims=True))
    return share / share.sum(1, keepdims=True)
