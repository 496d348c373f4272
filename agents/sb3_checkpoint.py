"""Everything that decides how a stable-baselines3 algorithm goes on, as a checkpoint without pickles.

Networks, optimisers, counters, the filled part of the replay buffer, random generators, and the running episodes
(agents/seeded_episodes.py). Taken between two rollouts and put back into an algorithm made alike, training goes on on
the CPU as if nothing had happened, if the tasks repeat themselves from a seed; a task that does not goes on from where
its repeated episode led, and the caller is told. Not kept: state-dependent exploration noise (use_sde) and correlated
action noise, which begin anew, and VecNormalize.
"""

import random
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer

from agents.seeded_episodes import episode_states, go_on
from core.checkpoint import generator_state, restore
from core.errors import InputError

COUNTERS = (
    "num_timesteps", "_n_updates", "_episode_num", "_n_calls", "_current_progress_remaining", "exploration_rate",
)  # fmt: skip
ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def sb3_state(model: BaseAlgorithm) -> dict[str, Any]:
    """The state of an algorithm between two rollouts, in the form that core/checkpoint.py saves."""
    _, variables = model._get_torch_save_params()
    env = model.get_env()
    assert env is not None
    return {
        "parameters": model.get_parameters(),
        "variables": {name: getattr(model, name).detach() for name in variables},
        "counters": {name: getattr(model, name) for name in COUNTERS if hasattr(model, name)},
        "observation": model._last_obs,
        "episode_starts": model._last_episode_starts,
        "episodes": episode_states(env),
        "buffer": _buffer_state(getattr(model, "replay_buffer", None)),
        "random": {
            "torch": generator_state(torch.default_generator),
            "numpy": _numpy_state(),
            "python": _python_state(),
            "actions": generator_state(model.action_space.np_random),
        },
    }


def restore_sb3(model: BaseAlgorithm, state: dict[str, Any]) -> bool:
    """Puts an algorithm, made with the same options, to where `sb3_state` saw it.

    Returns:
        Whether the environments came back to the same observations. If not, their tasks do not repeat themselves.

    Raises:
        InputError: the replay buffer or a network has another shape.
    """
    env = model.get_env()
    assert env is not None
    try:
        model.set_parameters(state["parameters"])
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the checkpoint does not fit this algorithm: {error}") from error
    for name, value in state["variables"].items():
        with torch.no_grad():
            getattr(model, name).copy_(value)
    for name, value in state["counters"].items():
        setattr(model, name, value)
    _restore_buffer(getattr(model, "replay_buffer", None), state["buffer"])
    same = _restore_episodes(model, state, go_on(env, state["episodes"]))
    restore(torch.default_generator, state["random"]["torch"])
    _restore_numpy(state["random"]["numpy"])
    _restore_python(state["random"]["python"])
    restore(model.action_space.np_random, state["random"]["actions"])
    return same


def _restore_episodes(model: BaseAlgorithm, state: dict[str, Any], found: list[Any]) -> bool:
    before = state["observation"]
    if isinstance(before, dict):
        now: Any = {name: np.stack([row[name] for row in found]).astype(before[name].dtype) for name in before}
        same = all(np.array_equal(now[name], before[name], equal_nan=True) for name in before)
    else:
        now = np.stack(found).astype(before.dtype)
        same = np.array_equal(now, before, equal_nan=before.dtype.kind == "f")
    model._last_obs = now
    model._last_episode_starts = state["episode_starts"]
    return same


def _parts(buffer: ReplayBuffer) -> dict[str, ndarray]:
    """The arrays of a replay buffer by name; those of Dict observations as "observations/KEY"."""
    found: dict[str, ndarray] = {}
    for name in ARRAYS:
        value = getattr(buffer, name, None)  # no next_observations with optimize_memory_usage
        if isinstance(value, dict):
            found |= {f"{name}/{key}": part for key, part in value.items()}
        elif value is not None:
            found[name] = value
    return found


def _buffer_state(buffer: ReplayBuffer | None) -> dict[str, Any] | None:
    if buffer is None:
        return None
    size = buffer.size()
    if buffer.optimize_memory_usage and not buffer.full:
        size = min(size + 1, buffer.buffer_size)  # the row at pos holds the last next observation
    rows = {name: part[:size] for name, part in _parts(buffer).items()}
    return {"rows": rows, "pos": buffer.pos, "full": buffer.full, "buffer_size": buffer.buffer_size}


def _restore_buffer(buffer: ReplayBuffer | None, state: dict[str, Any] | None) -> None:
    if buffer is None or state is None:
        return
    if buffer.buffer_size != state["buffer_size"]:
        raise InputError(f"the replay buffer had {state['buffer_size']} rows, now it has {buffer.buffer_size}")
    for name, part in _parts(buffer).items():
        saved = state["rows"][name]
        part[: len(saved)] = saved
    buffer.pos, buffer.full = state["pos"], state["full"]


def _numpy_state() -> dict[str, Any]:
    _, keys, position, has_gauss, cached = np.random.get_state()  # stable-baselines3 draws from the global generator
    return {
        "keys": np.asarray(keys).astype(np.int64), "position": position, "has_gauss": has_gauss, "cached": cached,
    }  # fmt: skip


def _restore_numpy(state: dict[str, Any]) -> None:
    np.random.set_state(
        ("MT19937", state["keys"].astype(np.uint32), state["position"], state["has_gauss"], state["cached"])
    )


def _python_state() -> dict[str, Any]:
    version, numbers, gauss = random.getstate()
    return {"version": version, "numbers": list(numbers), "gauss": gauss}


def _restore_python(state: dict[str, Any]) -> None:
    random.setstate((state["version"], tuple(state["numbers"]), state["gauss"]))
