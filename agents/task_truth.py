"""Episodes of Gymnasium tasks whose truth is known, as recordings to score.

A task says the truth in the `info` of each step: `progress` in [0, 1], and `success`, whether the goal holds now. The
tasks of envs/vlm_tasks do; a wrapper of a few lines does it for any other (docs/rewards.md).

    expert      a controller by hand, for the tasks of EXPERTS
    failed      the expert that gives up half way: after half of the steps it needs to succeed, or half of the
                episode where the task begins in success; then as "stare"
    random      actions drawn from the action space
    stare       does nothing: no force, or each of the discrete actions in turn

Pictures are rendered inside each step, so the last one of an episode is its own.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium import spaces

from agents.recordings import ArrayFrames, Recording
from agents.step_frames import StepFrame
from core.errors import InputError, check_choice, nearest
from envs.registration import register_tasks

Policy = Callable[[Any], Any]  # observation -> action

LEAN, LEAN_SPEED, PLACE, SPEED = 10.0, 2.0, 0.5, 1.0
"""Gains on the pole's angle and the cart's place: the pole leans to where the cart has to go back to (our choice)."""


def balance(observation: np.ndarray) -> int:
    """CartPole's push, right (1) or left (0), from cart position, speed, pole angle, speed: two nested PD rules."""
    place, speed, lean, lean_speed = (float(value) for value in observation)
    return int(LEAN * lean + LEAN_SPEED * lean_speed + PLACE * place + SPEED * speed > 0)


def swing(observation: np.ndarray) -> np.ndarray:
    """MountainCarContinuous's force: all of it the way the car moves already, so that each swing goes higher."""
    return np.array([1.0 if observation[1] >= 0 else -1.0], dtype=np.float32)


EXPERTS: Final[dict[str, Policy]] = {
    "Sightline/VLMCartPole-v0": balance,
    "Sightline/VLMMountainCar-v0": swing,
}
BEHAVIOURS: Final = ("expert", "failed", "random", "stare")


def task_recordings(
    task: str,
    *,
    goal: Sequence[str],
    baseline: Sequence[str] = (),
    instruction: str = "",
    behaviours: Sequence[str] = BEHAVIOURS,
    policies: Mapping[str, Policy] | None = None,
    episodes: int = 5,
    size: int = 224,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Iterator[Recording]:
    """Episodes under each behaviour, one at a time: one episode's pictures are in memory.

    Args:
        task: a Gymnasium id; module:ID imports the module that registers it.
        goal, baseline, instruction: what the reward is asked for; instruction falls back on the first goal prompt.
        behaviours: of BEHAVIOURS.
        policies: others by the name of their path, e.g. {"policy": lambda seen: model.predict(seen)[0]}.
        episodes: of each behaviour; the k-th of all start alike.
        size: pixels of the square pictures.
        options: keywords of the task, for gymnasium.make.

    Raises:
        InputError: no such task or behaviour, no goal, no expert for the task; a task that draws nothing, or whose
            info lacks `progress` or `success` or says nonsense there.
    """
    if not goal:
        raise InputError("no goal says what the reward should look for; give at least one sentence")
    for name in behaviours:
        check_choice("behaviours", name, BEHAVIOURS)
        if name in ("expert", "failed") and task not in EXPERTS:
            raise InputError(
                f"{task} has no controller by hand, so no behaviour {name!r}; leave it out, or hand one over as a "
                f"policy. Tasks with one: {', '.join(EXPERTS)}"
            )
    if episodes < 1:
        raise InputError(f"episodes={episodes} should be positive")
    env = make_task(task, size, options)
    try:
        for name in (*behaviours, *(policies or {})):
            for k in range(episodes):
                chosen = (policies or {}).get(name) or _behaviour(name, env, task, options, seed + k)
                frames, progress, success = _episode(env, task, chosen, seed + k)
                yield Recording(
                    id=f"{name}-{k}",
                    frames=ArrayFrames(frames),
                    instruction=instruction or goal[0],
                    goal=tuple(goal),
                    baseline=tuple(baseline),
                    success=bool(success[-1]),
                    path=name,
                    progress=progress,
                    reached=success,
                    kept=tuple(range(len(frames))),
                )
    finally:
        env.close()


def make_task(task: str, size: int, options: Mapping[str, Any] | None = None) -> StepFrame:
    """The task with the picture of each step in its info.

    Raises:
        InputError: not registered, a library it needs or a keyword is not known, or it cannot render arrays.
    """
    register_tasks()
    try:
        return StepFrame(gymnasium.make(task, render_mode="rgb_array", **(options or {})), size)
    except gymnasium.error.UnregisteredEnv as error:
        raise InputError(f"Gymnasium knows no task {task!r}; {nearest(task, gymnasium.registry)}") from error
    except (
        gymnasium.error.Error,
        ModuleNotFoundError,
    ) as error:  # a library that the task needs, or module:ID's module
        raise InputError(f"{task} cannot be made: {error}") from error
    except TypeError as error:
        raise InputError(f"{task} does not take {dict(options or {})} ({error})") from error


def idle(space: gymnasium.Space) -> Policy:
    """A policy that brings nothing about: no force, or each discrete action in turn, so that pushes cancel.

    Raises:
        InputError: actions are neither numbers in a Box nor Discrete.
    """
    if isinstance(space, spaces.Box):
        nothing = np.clip(np.zeros(space.shape), space.low, space.high).astype(space.dtype)
        return lambda _: nothing
    if isinstance(space, spaces.Discrete):
        turn = iter(int(space.start) + k % int(space.n) for k in range(10**9))
        return lambda _: next(turn)
    raise InputError(f"doing nothing is not defined for actions of {space}; leave out the behaviours failed and stare")


def _behaviour(name: str, env: gymnasium.Env, task: str, options: Mapping[str, Any] | None, seed: int) -> Policy:
    if name == "random":
        env.action_space.seed(seed)
        return lambda _: env.action_space.sample()
    if name == "stare":
        return idle(env.action_space)
    expert = EXPERTS[task]
    if name == "expert":
        return expert
    acted, last, rest = 0, _steps_until_half(task, options, seed), idle(env.action_space)

    def give_up(observation: Any) -> Any:
        nonlocal acted
        acted += 1
        return expert(observation) if acted <= last else rest(observation)

    return give_up


def _steps_until_half(task: str, options: Mapping[str, Any] | None, seed: int) -> int:
    """Half of the steps an expert needs to succeed; of the episode's, where the task begins in success."""
    bare, expert = gymnasium.make(task, **(options or {})), EXPERTS[task]
    try:
        observation, info = bare.reset(seed=seed)
        begins, steps, done = bool(info.get("success", False)), 0, False
        while not done:
            observation, _, terminated, truncated, info = bare.step(expert(observation))
            steps += 1
            done = terminated or truncated or (bool(info.get("success", False)) and not begins)
        return steps // 2
    finally:
        bare.close()


def _episode(env: gymnasium.Env, task: str, policy: Policy, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures, progress and success (1 or 0) of every step of one episode."""
    observation, _ = env.reset(seed=seed)
    frames: list[np.ndarray] = []
    progress: list[float] = []
    success: list[float] = []
    done = False
    while not done:
        observation, _, terminated, truncated, info = env.step(policy(observation))
        for key in ("progress", "success"):
            if key not in info:
                raise InputError(
                    f"{task} says no {key!r} in the info of its steps, so there is no truth to measure against; wrap "
                    "it in a gymnasium.Wrapper that adds progress in [0, 1] and success"
                )
        value = float(info["progress"])
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise InputError(f"{task} says progress {value} at step {len(frames)}, expected a number from 0 to 1")
        frames.append(info["frame"])
        progress.append(value)
        success.append(float(bool(info["success"])))
        done = terminated or truncated
    return np.stack(frames), np.array(progress), np.array(success)
