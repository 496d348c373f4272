"""Captioned frames of CartPole, and the table of agents paid by what frames look like.

    python -m benchmarks.cartpole_reward views FOLDER              makes a views folder for `sightline pretrain-vl`
    python -m benchmarks.cartpole_reward table RUNS [--out FILE]   reads what benchmarks/cartpole_reward.sh left in RUNS

The frames are of drawn states: half with any angle, half near upright; the cart anywhere on its rail but, in train and
val, never in the bands HELD_OUT of it, which the test frames alone have. Captions say in plain words where the pole
points and where the cart is. A tower trained on them has seen this task's pictures with sentences much like the goal:
it is an in-domain model, and the table says so.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray

import envs  # noqa: F401  registers the ids
from agents.agreement import epic_distance
from agents.task_evaluation import evaluate_policy, summary
from core.files import atomic_folder, atomic_write, read_json
from core.intervals import t_interval
from envs.vlm_tasks.cartpole import ANGLE, RAIL_M, UPRIGHT_RAD, VLMCartPole, truth
from vl.embedder import load_embedder
from vl.rewards import StepBatch, VLMReward

PIXELS = 64
COUNTS = {"train": 4000, "val": 400, "test": 1000}
HELD_OUT = (0.8, 1.3)  # metres from the middle, on both sides
BASELINE = "pole and cart"  # true of every frame
POLE_ALONE_EVERY, BASELINE_EVERY = 5, 10
"""Frames from one to the next that are also called by the pole alone, and by BASELINE. Where all frames were, the tower
learned nothing in 120 to 200 updates: short captions fit so many frames that they tell few apart."""
BINS_DEG = (0, 6, 12, 20, 35, 60, 90, 135, 180)
ARMS = {
    "random": "random actions",
    "constant": "constant reward",
    "vlm-0": "VLM reward, alpha 0 (no baseline)",
    "vlm-0.5": "VLM reward, alpha 0.5",
    "vlm-1": "VLM reward, alpha 1",
    "task": "task reward (1 while upright)",
}
EPISODES = 20


def angle_words(angle: float) -> list[str]:
    """What a frame with the pole at this angle (radians, positive to the right) is called."""
    tilt, side = abs(math.degrees(angle)), "right" if angle > 0 else "left"
    if tilt < 6:
        return ["a pole vertically upright on top of the cart", "a pole standing straight up on the cart"]
    if tilt < 20:
        return [f"a pole leaning slightly to the {side} on a cart", f"a pole tilted a little to the {side}"]
    if tilt < 50:
        return [f"a pole leaning to the {side} on a cart", f"a pole tilted to the {side}"]
    if tilt < 80:
        return [f"a pole leaning far to the {side} on a cart", f"a pole falling to the {side}"]
    if tilt < 100:
        return [f"a pole lying flat to the {side} of the cart", f"a fallen pole pointing to the {side}"]
    if tilt < 150:
        return [f"a pole hanging down to the {side} of the cart", f"a fallen pole pointing down to the {side}"]
    return ["a pole hanging straight down below the cart", "a fallen pole pointing down"]


def place_words(x: float) -> str:
    """Where the cart is (metres from the middle)."""
    if abs(x) < 0.3:
        return "in the middle"
    side = "right" if x > 0 else "left"
    return f"{'far' if abs(x) > 1.5 else 'a little'} to the {side} of the middle"


def captions(state: Float64[ndarray, "4"], number: int = 1) -> list[str]:
    """Captions of frame `number`: both pole and cart; some frames also have the pole alone, or BASELINE."""
    words, place = angle_words(float(state[ANGLE])), place_words(float(state[0]))
    found = [f"{words[0]}, the cart {place}", f"the cart {place}, {words[1]}"]
    found += words if number % POLE_ALONE_EVERY == 0 else []
    return found + [BASELINE] * (number % BASELINE_EVERY == 0)


def draw_states(count: int, split: str, rng: np.random.Generator) -> Float64[ndarray, "M 4"]:
    """States at rest; half of them with any angle, half within 35 degrees of upright."""
    states = np.zeros((count, 4))
    x = rng.uniform(-RAIL_M, RAIL_M, 4 * count)
    held_out = (np.abs(x) >= HELD_OUT[0]) & (np.abs(x) <= HELD_OUT[1])
    states[:, 0] = (x if split == "test" else x[~held_out])[:count]
    near = rng.random(count) < 0.5
    states[:, ANGLE] = np.where(near, np.radians(rng.uniform(-35, 35, count)), rng.uniform(-math.pi, math.pi, count))
    return states


def frames(states: Float64[ndarray, "M 4"], pixels: int = PIXELS) -> ndarray:
    """Pictures (M, pixels, pixels, 3) of states."""
    env = VLMCartPole(render_mode="rgb_array", render_size=pixels)
    env.reset(seed=0)
    found = []
    for state in states:
        env.state = state
        found.append(env.render())
    return np.stack(found)


def write_views(folder: Path, counts: dict[str, int] = COUNTS, seed: int = 0) -> None:
    """A views folder (vl/data.py) of drawn states, with the states beside the pictures."""
    import pyarrow
    import pyarrow.parquet

    with atomic_folder(folder) as temporary:
        for index, (split, count) in enumerate(counts.items()):
            states = draw_states(count, split, np.random.default_rng([seed, index]))
            rows = [(k, text) for k, state in enumerate(states) for text in captions(state, k)]
            view, text = (list(column) for column in zip(*rows))
            target = temporary / split
            target.mkdir()
            np.save(target / "images.npy", frames(states))
            np.save(target / "states.npy", states)
            table = {
                "view": view,
                "caption": text,
                "kind": ["full"] * len(rows),
                "scene_id": [f"{split}-{v}" for v in view],
            }
            pyarrow.parquet.write_table(pyarrow.table(table), target / "captions.parquet")


def reward_quality(score: ndarray, states: ndarray) -> dict[str, Any]:
    """How a score on frames goes with the truth of their states."""
    progress = truth(states)
    tilt = np.abs(np.degrees(states[:, ANGLE]))
    standard = (score - score.mean()) / max(score.std(), 1e-12)
    in_bin = np.digitize(tilt, BINS_DEG[1:-1])
    return {
        "pearson": float(np.corrcoef(score, progress)[0, 1]) if score.std() > 1e-12 else 0.0,
        "epic": epic_distance(score, progress),
        "epic_success": epic_distance(score, (tilt <= math.degrees(UPRIGHT_RAD)).astype(float)),
        "by_tilt": [float(standard[in_bin == k].mean()) for k in range(len(BINS_DEG) - 1)],
    }


def quality_of(runs: Path, seed: int, alpha: float) -> dict[str, dict[str, Any]]:
    """Quality of one tower's reward on test frames, with the cart in the held-out bands and elsewhere."""
    config = _config(runs / f"vlm-{alpha:g}-{seed}")
    model = VLMReward(load_embedder(runs / f"tower-{seed}" / "model"), [config["goal"]], config["baseline"], alpha)
    images = np.load(runs / "views" / "test" / "images.npy")
    states = np.load(runs / "views" / "test" / "states.npy")
    steps = StepBatch(frame=torch.from_numpy(images))
    score = model.score(steps, torch.zeros(len(images), dtype=torch.int64)).cpu().double().numpy()
    held_out = (np.abs(states[:, 0]) >= HELD_OUT[0]) & (np.abs(states[:, 0]) <= HELD_OUT[1])
    return {
        "seen": reward_quality(score[~held_out], states[~held_out]),
        "held-out": reward_quality(score[held_out], states[held_out]),
    }


def random_agent(seed: int) -> dict[str, Any]:
    """Figures of random actions on the evaluation episodes of the trained agents."""
    env = gymnasium.make("Sightline/VLMCartPole-v0")
    env.action_space.seed(seed)
    act: Callable[[Any], Any] = lambda observation: env.action_space.sample()  # noqa: E731
    return summary(evaluate_policy(env, act, EPISODES))


def _config(run: Path) -> dict[str, Any]:
    import yaml

    return yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))


def _cell(values: list[float], digits: int = 3) -> str:
    low, high = t_interval(values)
    around = "" if math.isnan(low) else f" ({low:.{digits}f} to {high:.{digits}f})"
    return f"{np.mean(values):.{digits}f}{around}"


def agent_rows(runs: Path) -> tuple[list[str], dict[str, dict[int, dict[str, Any]]]]:
    """Rows of the table of agents, and the results they are made of: arm -> seed -> result."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for arm in ARMS:
        if arm == "random":
            found[arm] = {seed: random_agent(seed) for seed in (0, 1, 2)}
            continue
        files = sorted(runs.glob(f"{arm}-[0-9]*/result.json"))
        found[arm] = {int(file.parent.name.rpartition("-")[2]): read_json(file, "result") for file in files}
    rows = [
        "| reward | seeds | steps | share of steps upright | upright at the end | mean progress | seconds a run |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, name in ARMS.items():
        results = list(found[arm].values())
        if not results:
            rows.append(f"| {name} | not run | | | | | |")
            continue
        cells = [_cell([r[figure] for r in results]) for figure in ("held", "success", "progress")]
        steps = f"{results[0]['steps']:,}" if "steps" in results[0] else "0"
        seconds = f"{np.mean([r['seconds'] for r in results]):.0f}" if "seconds" in results[0] else ""
        rows.append(f"| {name} | {len(results)} | {steps} | {' | '.join(cells)} | {seconds} |")
    return rows, found


def quality_rows(runs: Path, found: dict[str, dict[int, dict[str, Any]]]) -> tuple[list[str], list[str]]:
    """Rows of the table of reward quality, and of mean scores by the pole's tilt."""
    rows = [
        "| alpha | cart positions | towers | Pearson to (1 + cos angle)/2 | EPIC to it | EPIC to upright yes/no |",
        "|---|---|---|---|---|---|",
    ]
    spans = [f"{a}-{b}" for a, b in zip(BINS_DEG, BINS_DEG[1:])]
    tilts = [f"| alpha | {' | '.join(spans)} |", "|---" * (len(spans) + 1) + "|"]
    for arm, results in found.items():
        if not arm.startswith("vlm-") or not results:
            continue
        alpha = float(arm.removeprefix("vlm-"))
        every = [quality_of(runs, seed, alpha) for seed in results]
        for part in ("seen", "held-out"):
            cells = [_cell([q[part][name] for q in every]) for name in ("pearson", "epic", "epic_success")]
            rows.append(f"| {alpha:g} | {part} | {len(every)} | {' | '.join(cells)} |")
        means = np.mean([q["seen"]["by_tilt"] for q in every], axis=0)
        tilts.append(f"| {alpha:g} | {' | '.join(f'{value:+.2f}' for value in means)} |")
    return rows, tilts


PAGE = """# CartPole paid by its picture

DQN sees the state (cart and pole, their speeds); its reward is how well the {pixels} x {pixels} picture of each step
fits "pole vertically upright on top of the cart" (baseline "pole and cart"), by a two-tower model trained from scratch
on {train:,} captioned frames of this very task, one tower for each seed: an in-domain VLM, whose captions hold nearly
the goal sentence. The pole starts near upright and nothing but the limit of 200 steps ends an episode. Every figure is
the task's own truth; settings were chosen on seed 100.

Command: `benchmarks/cartpole_reward.sh`. Table of {date}. {version[platform]}, {version[threads]} thread a run, torch
{version[torch]}, python {version[python]}, code {code}. Intervals: 95 %, Student's t over seeds; {episodes} episodes a
seed, the same for all.

{agents}

Upright: within 12 degrees. Mean progress: (1 + cos angle) / 2 over all steps.

## Is the reward any good?

On {test:,} test frames of drawn states; "held-out" are carts {band[0]} to {band[1]} m from the middle, where no
training frame has one. EPIC: 0 = equal up to scale and offset, 0.707 = unrelated.

{quality}

Mean score, in standard deviations over the test frames, by the pole's tilt in degrees:

{tilts}
"""


def table(runs: Path) -> str:
    """The page of results."""
    agents, found = agent_rows(runs)
    quality, tilts = quality_rows(runs, found)
    versions = [read_json(file, "version") for file in sorted(runs.glob("*/version.json"))]
    return PAGE.format(
        pixels=PIXELS, train=COUNTS["train"], test=COUNTS["test"], date=time.strftime("%Y-%m-%d"),
        version=versions[0], code=" and ".join(sorted({version["code"] for version in versions})), episodes=EPISODES,
        band=HELD_OUT, agents="\n".join(agents), quality="\n".join(quality), tilts="\n".join(tilts),
    )  # fmt: skip


def main() -> None:
    """The two commands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("views", "table"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    if words.what == "views":
        if not words.folder.exists():  # made whole or not at all
            write_views(words.folder)
        return
    text = table(words.folder)
    if words.out:
        atomic_write(words.out, text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
