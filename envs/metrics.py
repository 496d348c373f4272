"""How well an episode went, by Habitat's definitions (Anderson et al., arXiv:1807.06757; SoftSPL: habitat-lab).

Two things are counted beyond them in tasks with hands or doors: each pick or place adds 0.1 m to
path_length_m, as it does to the shortest way, and collisions count also each reach for nothing, as well as bumps.
"""

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

METRICS = ("success", "spl", "soft_spl", "distance_to_goal_m", "path_length_m", "collisions", "subgoals")


def spl(
    success: Bool[Tensor, " B"], shortest_m: Float[Tensor, " B"], path_m: Float[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """Success weighted by path length: success x shortest / max(walked, shortest), in [0, 1].

    Args:
        shortest_m: walking distance from the start to the nearest point of success, > 0.
        path_m: metres walked.
    """
    return success * shortest_m / torch.maximum(path_m, shortest_m)


def soft_spl(
    shortest_m: Float[Tensor, " B"], distance_m: Float[Tensor, " B"], path_m: Float[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """SPL with progress in place of success: max(0, 1 - distance left / shortest) x shortest / max(walked, shortest).

    Args:
        distance_m: walking distance still left at the end.
    """
    progress = (1.0 - distance_m / shortest_m).clamp(min=0.0)
    return progress * shortest_m / torch.maximum(path_m, shortest_m)


def episode_metrics(
    success: Bool[Tensor, " B"],
    shortest_m: Float[Tensor, " B"],
    distance_m: Float[Tensor, " B"],
    path_m: Float[Tensor, " B"],
    collisions: Float[Tensor, " B"],
    done_stages: Float[Tensor, " B"],
    stages: Float[Tensor, " B"],
) -> dict[str, Float32[Tensor, " B"]]:
    """All metrics of B episodes, keyed as in METRICS.

    Args:
        done_stages: stages of the goal that are done; the last one of a walk counts with success.
        stages: how many there are. `subgoals` is the share done.
    """
    values = (
        success,
        spl(success, shortest_m, path_m),
        soft_spl(shortest_m, distance_m, path_m),
        distance_m,
        path_m,
        collisions,
        torch.where(success, 1.0, done_stages / stages),
    )
    return {name: value.to(torch.float32) for name, value in zip(METRICS, values)}
