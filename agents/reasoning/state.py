"""How far a run has come, and how it is written down and taken up again.

Everything drawn in a step is a function of (seed, step), and the order of questions of (seed, place): beside weights
and optimiser, a run is its counters.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core import distributed
from core.checkpoint import Checkpoints, load_checkpoint
from core.errors import InputError


@dataclass
class Done:
    """The counters of a run."""

    step: int = 0  # steps finished
    place: int = 0  # in the order of the stage's questions
    asked: int = 0  # questions, over all stages and processes
    answers: int = 0  # that were collected or imitated
    idle: int = 0  # steps in which nothing was learned: no group had answers of different worth
    forward_tokens: float = 0.0  # that passed forwards through a model; a token learned from counts three times
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)  # looks at what is held out: step, epoch, metrics


def learned(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights that a run changes; the others are those of the model it began with."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def save(
    checkpoints: Checkpoints, done: Done, model: nn.Module, optimizer: torch.optim.Optimizer, more: dict[str, Any]
) -> None:
    """Writes a checkpoint of the step that is done; `more` is what else a run needs, see `resume`."""
    checkpoints.save(
        done.step,
        {"model": learned(model), "optimizer": optimizer.state_dict(), "done": asdict(done), "more": more},
    )


def resume(
    checkpoints: Checkpoints, model: nn.Module, optimizer: torch.optim.Optimizer, *, writes: bool
) -> tuple[Done, dict[str, Any]]:
    """Puts model and optimiser where the newest whole checkpoint left them, in every process alike.

    Args:
        writes: whether this process is the one that wrote them; it decides which is the newest.

    Returns:
        The counters, and what else was saved.

    Raises:
        InputError: the checkpoint is of a model of another shape.
    """
    found = checkpoints.latest() if writes else None
    step = distributed.from_main(found[0] if found else 0)
    if not step:
        return Done(), {}
    state: dict[str, Any] = found[1] if found else load_checkpoint(checkpoints.path(step))
    load_learned(model, state["model"], checkpoints.path(step))
    optimizer.load_state_dict(state["optimizer"])
    return Done(**state["done"]), state["more"]


def load_learned(model: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Copies the weights that a run changes into a model.

    Raises:
        InputError: others are missing or unknown, or of another shape.
    """
    own = learned(model)
    faults = [name for name in sorted(own.keys() | weights.keys())
              if name not in own or name not in weights or own[name].shape != weights[name].shape]  # fmt: skip
    if faults:
        raise InputError(
            f"checkpoint {path} is of another model: {faults[0]} (and {len(faults) - 1} more) do not fit. "
            "Is model= still the folder that the run began with?"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])
