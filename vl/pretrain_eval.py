"""How good a model in pretraining is on val: retrieval where it is contrasted, else its losses under fixed draws."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core import distributed
from vl.model import VLModel
from vl.objectives import weighted_sum
from vl.optimise import seeded
from vl.pretrain_config import PretrainVLConfig
from vl.pretrain_data import VAL_SEED, Source
from vl.pretrain_features import Feed, Inputs
from vl.retrieval import recall_at, target_ranks

SHOWN = {"val_text_to_view_R@1": "val_R@1", "val_loss": "val_loss"}
"""What progress and the closing line name, and how."""


def retrieval_metrics(similarity: np.ndarray) -> dict[str, float]:
    """Both directions of retrieval; text i belongs to view i.

    Args:
        similarity: (n, n), texts along rows.
    """
    target = np.arange(len(similarity))
    to_view, to_text = target_ranks(similarity, target), target_ranks(similarity.T, target)
    return {
        "val_text_to_view_R@1": recall_at(to_view, 1),
        "val_text_to_view_R@10": recall_at(to_view, 10),
        "val_view_to_text_R@1": recall_at(to_text, 1),
        "val_mrr": float((1 / to_view).mean() + (1 / to_text).mean()) / 2,
    }


class Evaluation:
    """Call it for the score that the best weights have the highest of, and the metrics behind it.

    With several processes all of them have to call it: losses are shared out, retrieval is done by each.
    """

    def __init__(
        self,
        cfg: PretrainVLConfig,
        model: VLModel,
        source: Source,
        terms: Callable[[Inputs, torch.Generator], dict[str, Tensor]],
    ) -> None:
        """
        Args:
            terms: the objectives of a batch, see `vl.pretrain.Terms`.
        """
        self.cfg, self.model, self.source, self.terms = cfg, model, source, terms
        self.retrieves = cfg.objectives.itc > 0
        if self.retrieves:
            self.images, self.captions = source.gallery(cfg.eval_views)
        else:
            batches, self.steps = source.val(model.tokenizer, cfg.eval_views)
            self.feed = Feed(batches)

    def __call__(self) -> tuple[float, dict[str, float]]:
        self.model.eval()
        with torch.no_grad():
            metrics = self._retrieve() if self.retrieves else self._losses()
        self.model.train()
        return (metrics["val_mrr"] if self.retrieves else -metrics["val_loss"]), metrics

    def _retrieve(self) -> dict[str, float]:
        images, texts = self.model.encode_images(self.images), self.model.encode_texts(self.captions)
        return retrieval_metrics((texts @ images.T).cpu().numpy())

    def _losses(self) -> dict[str, float]:
        total: dict[str, float] = {}
        for step in range(self.steps):
            with seeded(self.model.device, VAL_SEED, step, distributed.rank()) as generator:
                terms = self.terms(self.feed.batch(step), generator)
            for name, value in summed({**terms, "loss": weighted_sum(terms, self.cfg.objectives)}).items():
                total[f"val_{name}"] = total.get(f"val_{name}", 0.0) + value / self.steps
        return total

    def described(self) -> dict[str, Any]:
        """What the numbers were measured on."""
        causes = self.source.val_unreadable()
        unreadable = {"val_unreadable": causes} if causes else {}
        if not self.retrieves:
            return {"val_pairs": self.steps * self.feed.batches.batch_size, **unreadable}
        homes = {} if self.source.homes is None else {"val_homes": self.source.homes}
        return {"val_gallery": len(self.captions), **homes, **unreadable}

    def summary(self, metrics: dict[str, float], folder: Path) -> str:
        """The closing line."""
        if self.retrieves:
            what = f"text-to-view R@1 on {len(self.captions)} val {self.source.val_name}"
            return f"{what} {metrics['val_text_to_view_R@1']:.3f}; the model is in {folder}"
        return f"val loss {metrics['val_loss']:.3f}; the model is in {folder}"


def shown(metrics: dict[str, float]) -> dict[str, float]:
    """The few values that progress shows."""
    return {title: metrics[name] for name, title in SHOWN.items() if name in metrics}


def summed(parts: dict[str, Tensor]) -> dict[str, float]:
    """The sums over all processes, fetched in one piece."""
    values = distributed.sum_over_ranks(torch.stack([value.detach().float() for value in parts.values()]))
    return dict(zip(parts, values.tolist()))
