"""PPO beside stable-baselines3's, in one run: python -m benchmarks.rl [--quick] [--out FOLDER]

Speed: the same batched environment, network and settings for both, on one torch thread; the candidates take turns, so
that a busy neighbour hits both, and figures are medians over rounds. Judged by processor time, which is the steadier;
wall time stands beside it. On camera observations: the time of a whole update cycle against that of the simulator
alone plus the network alone (the same forward and backward passes on tensors that are there). Subgoals: what carrying
them costs of a PPO step in 1,024 homes. Learning: environment steps until CartPole and Acrobot are learned, over three
seeds. The target compares what a user gets: our trainer with this project's settings, stable-baselines3 with those of
its zoo (both in benchmarks/rl_tasks.py). A third row has ours with the zoo's settings: the same algorithm twice, where
a ratio is luck, so it is shown and not judged. Runs end when the threshold is reached; --whole lets them go on to the
end of their budget.

--quick judges learning by seed 0 alone, at the same thresholds; stable-baselines3 is stopped when it has taken as many
steps as ours needed, and a ratio of 1 then stands for "at least 1". Ends with a line per target; exit 1
when one is short. --out writes the learning curves as learning.png.
"""

import argparse
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from agents.rollout import Rollout, TensorEnv
from benchmarks.rl_learning import EQUAL, LAST, OURS, THEIRS, Curve, Learner
from benchmarks.rl_tasks import TASKS, Camera, Drift, Pictures, Task, sb3_env
from benchmarks.verdict import judged
from core.intervals import t_interval

Round = Callable[[], int]  # some environment steps with their share of learning; returns how many steps
EPOCHS, CLIP, LR = 4, 0.2, 3e-4
SEEDS = 3  # runs of each learner


class OurPPO:
    """Our learner on an environment, a rollout and its update at a time."""

    def __init__(self, env: TensorEnv, rollout: int, minibatches: int, epochs: int = EPOCHS, **network) -> None:
        from agents.networks import make_policy
        from agents.rollout import EpisodeLog, Progress

        self.env, self.steps, self.minibatches, self.epochs = env, rollout, minibatches, epochs
        spec = env.observation_spec
        self.policy = make_policy("feedforward", spec, num_actions=env.num_actions, standardise=False, **network)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=LR, eps=1e-5, fused=True)
        self.generator, self.log = torch.Generator().manual_seed(0), EpisodeLog(env.num_envs)
        self.progress = Progress.begin(env, self.policy)
        self.rollout: Rollout | None = None

    def whole(self) -> int:
        """Collect and learn."""
        from agents.ppo import update
        from agents.rollout import collect

        self.rollout = collect(self.env, self.policy, self.progress, self.steps, self.generator, self.log, self.rollout)
        update(
            self.policy,
            self.optimizer,
            self.rollout,
            generator=self.generator,
            gamma=0.99,
            lam=0.95,
            epochs=self.epochs,
            minibatches=self.minibatches,
            clip=CLIP,
            entropy_coef=0.0,
            value_coef=1.0,
            max_grad_norm=0.5,
            max_kl=math.inf,
        )
        self.policy.update_norms(self.rollout.observation)
        self.log.flush()
        return self.steps * self.env.num_envs

    def environment(self) -> int:
        """The environment alone, with the actions of the latest rollout."""
        assert self.rollout is not None
        for action in self.rollout.action:
            self.env.step(action)
        return self.steps * self.env.num_envs

    def network(self) -> int:
        """The network alone: acting, and the passes of an update, on tensors that are there."""
        assert self.rollout is not None
        batch, memory = self.env.num_envs, self.policy.initial_memory(self.env.num_envs)
        seen = self.rollout.observation
        with torch.no_grad():
            for t in range(self.steps):
                self.policy(self.policy.normalise({name: x[t] for name, x in seen.items()}), memory)
        flat = {name: x.flatten(0, 1).chunk(self.minibatches) for name, x in self.policy.normalise(seen).items()}
        for _ in range(self.epochs):
            for index in range(self.minibatches):
                part = {name: chunks[index] for name, chunks in flat.items()}
                outputs, value, _ = self.policy(part, self.policy.initial_memory(len(next(iter(part.values())))))
                self.optimizer.zero_grad(set_to_none=True)
                (outputs.sum() + value.sum()).mul(1e-6).backward()
                self.optimizer.step()
        return self.steps * batch


def sb3(env: TensorEnv, policy: str, rollout: int, minibatches: int, **network) -> Round:
    """stable-baselines3's learner on the same environment."""
    from stable_baselines3 import PPO

    steps = rollout * env.num_envs
    model = PPO(
        policy,
        sb3_env(env),
        n_steps=rollout,
        batch_size=steps // minibatches,
        n_epochs=EPOCHS,
        learning_rate=LR,
        device="cpu",
        seed=0,
        policy_kwargs=network,
    )

    def one() -> int:
        model.learn(steps, reset_num_timesteps=False)
        return steps

    return one


def measure(candidates: dict[str, Round], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of wall and of processor time per environment step, for each round; the candidates take turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, candidate in candidates.items():
            wall, processor = time.perf_counter(), time.process_time()
            steps = candidate()
            took = ((time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps)
            if number:  # the first warms up
                found[name].append(took)
    return found


def show(found: dict[str, list[tuple[float, float]]]) -> None:
    """A line per candidate."""
    for name, rounds in found.items():
        wall, processor = np.median(np.array(rounds), 0)
        print(f"{name:<44}{1 / wall:>12,.0f} steps/s wall{1 / processor:>12,.0f} steps per processor second")


def over(found: dict[str, list[tuple[float, float]]], ours: str, theirs: str) -> float:
    """Their median processor time per step over ours."""
    one, two = (float(np.median([round_[1] for round_ in found[name]])) for name in (theirs, ours))
    return one / two


def speed(quick: bool) -> list[tuple[str, float, float]]:
    """Vector and picture observations beside stable-baselines3."""
    vector, picture = "ours, vectors, B=1024, 2x64", "ours, 64x64 pictures, B=32, NatureCNN"
    their_vector, their_picture = (name.replace("ours", "SB3") for name in (vector, picture))
    found = measure(
        {
            vector: OurPPO(Drift(1024), 32, 8, width=64).whole,
            their_vector: sb3(Drift(1024), "MlpPolicy", 32, 8, net_arch={"pi": [64, 64], "vf": [64, 64]}),
        },
        3 if quick else 15,
    )
    found |= measure(
        {
            picture: OurPPO(Pictures(32), 16, 2, image_encoder="nature", image_width=512, layers=0).whole,
            their_picture: sb3(Pictures(32), "CnnPolicy", 16, 2),
        },
        2 if quick else 9,
    )
    show(found)
    return [
        ("ppo_vector_over_sb3", over(found, vector, their_vector), 1.15),
        ("ppo_cnn_over_sb3", over(found, picture, their_picture), 1.7),
    ]


def camera(quick: bool) -> tuple[str, float, float]:
    """What a cycle costs beyond the simulator and the network, in percent."""
    # shorter rollouts leave time for rounds: one alone is off by up to 20 points beside a busy neighbour
    steps, minibatches, rounds = (8, 4, 4) if quick else (16, 4, 15)
    learner = OurPPO(Camera(64, homes=4 if quick else 16), steps, minibatches, layers=1)
    learner.whole()
    candidates = {"whole": learner.whole, "simulator": learner.environment, "network": learner.network}
    found = measure(candidates, rounds)
    show({f"camera, B={learner.env.num_envs}, small CNN: {name}": rounds for name, rounds in found.items()})
    whole, sim, net = (np.array(found[name]) for name in candidates)
    extra = (np.median(whole / (sim + net), axis=0) - 1) * 100
    print(f"camera overhead: {extra[0]:.1f} % of wall time, {extra[1]:.1f} % of processor time")
    return "camera_overhead_percent", float(extra[1]), 10.0


def subgoals(quick: bool) -> tuple[str, float, float]:
    """What carrying subgoals costs of a PPO step, in percent of processor time."""
    from benchmarks.subgoal_steps import bookkeeping, subgoal_homes

    env, outer, within = subgoal_homes(128 if quick else 1024, homes=4 if quick else 16)
    learner = OurPPO(env, 4 if quick else 8, 8, layers=1)
    share = bookkeeping(learner, env, outer, within, 2 if quick else 5)
    print(f"subgoals in homes, 64x64 pictures, B={env.num_envs}: {share:.2f} % of a PPO step's processor time")
    return "subgoal_bookkeeping_percent", share, 3.0


def steps_of(runs: list[Curve], task: Task) -> list[float]:
    """Steps to the threshold; a run that never reached it counts as its whole budget."""
    return [float(curve.reached or task.budget) for curve in runs]


def show_learning(task: Task, learner: Learner, runs: list[Curve]) -> None:
    """A line: steps to the threshold with a 95 % interval, and each seed's."""
    steps = steps_of(runs, task)
    low, high = t_interval(steps)
    never = sum(curve.reached is None for curve in runs)
    print(
        f"{task.name}, {learner.label:<20} {np.mean(steps):>8,.0f} steps to {task.threshold:g} "
        + (f"(95 % interval {low:,.0f} to {high:,.0f}; " if len(runs) > 1 else "(one seed, no interval; ")
        + f"seeds {', '.join(f'{x:,.0f}' for x in steps)}"
        + (f"; {never} never, counted as the budget" if never else "")
        + f"); last return {np.mean([curve.last for curve in runs]):.1f}"
    )


def learning(out: Path | None, whole: bool) -> list[tuple[str, float, float]]:
    """Steps to the threshold for both trainers, SEEDS times."""
    targets, curves = [], {}
    for name, task in TASKS.items():
        for learner in (OURS, THEIRS, EQUAL):
            least = task.budget if whole and learner is not EQUAL else 0
            runs = [learner(task, seed, least) for seed in range(SEEDS)]
            show_learning(task, learner, runs)
            curves[name, learner.label] = runs
        mean = {learner: np.mean(steps_of(curves[name, learner.label], task)) for learner in (OURS, THEIRS, EQUAL)}
        print(f"{task.name}, equal settings: SB3 / ours {mean[THEIRS] / mean[EQUAL]:.2f}, not judged")
        targets.append((f"{name}_steps_sb3_over_ours", float(mean[THEIRS] / mean[OURS]), 1.0))
    if out is not None:
        draw(curves, out)
    return targets


def quick_learning() -> list[tuple[str, float, float]]:
    """The same by one seed; stable-baselines3 gets as many steps as ours needed."""
    targets = []
    for name, task in TASKS.items():
        ours = OURS(task, 0)
        show_learning(task, OURS, [ours])
        value = 0.0  # not learned at all
        if ours.reached:
            theirs = THEIRS(task, 0, most=ours.reached)
            print(f"{task.name}, {THEIRS.label:<20} {theirs.reached or 'not'} by then; last return {theirs.last:.1f}")
            value = (theirs.reached or ours.reached) / ours.reached
        targets.append((f"{name}_steps_sb3_over_ours", value, 1.0))
    return targets


def draw(curves: dict[tuple[str, str], list[Curve]], out: Path) -> None:
    """Mean and range over seeds of both trainers' learning curves, a panel per task, into learning.png.

    A run that has ended keeps its last value; the mean begins where every seed has had LAST episodes.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(TASKS), figsize=(5 * len(TASKS), 3.6), layout="constrained")
    for panel, (name, task) in zip(panels, TASKS.items()):
        for learner, color in ((OURS, "tab:blue"), (THEIRS, "tab:orange")):
            runs = [curve for curve in curves[name, learner.label] if curve.steps]
            if not runs:
                continue
            at = np.linspace(max(curve.steps[0] for curve in runs), max(curve.steps[-1] for curve in runs), 400)
            rows = [np.array(c.returns)[np.searchsorted(c.steps, at, side="right") - 1] for c in runs]
            panel.plot(at / 1000, np.mean(rows, 0), color=color, label=f"{learner.label}, mean of {len(runs)} seeds")
            panel.fill_between(at / 1000, np.min(rows, 0), np.max(rows, 0), color=color, alpha=0.2, lw=0)
            reached = [curve.reached / 1000 for curve in runs if curve.reached]
            panel.plot(reached, [task.threshold] * len(reached), "o", color=color, ms=5)
        panel.axhline(task.threshold, color="gray", lw=0.8, ls="--", label=f"learned: {task.threshold:g}; dots: a seed")
        panel.set_title(task.name)
        panel.set_xlabel("environment steps (thousands)")
        panel.set_ylabel(f"return, mean of the last {LAST} episodes (reward)")
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8, loc="lower right")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "learning.png", dpi=100)
    plt.close(figure)
    print(f"curves in {out / 'learning.png'}")


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller samples; every target is still measured")
    parser.add_argument("--out", type=Path, default=None, help="folder for the plot of the learning curves")
    parser.add_argument("--whole", action="store_true", help="learning runs go on to the end of their budget")
    parser.add_argument("--only", choices=("speed", "camera", "subgoals", "learning"), help="one part alone")
    args = parser.parse_args()
    if args.quick and (args.out or args.whole):
        parser.error("--quick draws no curves and ends early; leave --out and --whole away")
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}; torch {torch.__version__} on 1 thread, "
        f"bfloat16 {'native' if _native() else 'not native'}"
        + (" (--quick: small samples, one seed)" if args.quick else "")
    )
    targets = []
    if args.only in (None, "speed"):
        targets += speed(args.quick)
    if args.only in (None, "camera"):
        targets.append(camera(args.quick))
    if args.only in (None, "subgoals"):
        targets.append(subgoals(args.quick))
    if args.only in (None, "learning"):
        targets += quick_learning() if args.quick else learning(args.out, args.whole)
    short = False
    for name, value, bound in targets:
        most = name.endswith("percent")
        met = value <= bound if most else value >= bound
        short |= not met
        print(f"{name} {value:.4g} (target {'<=' if most else '>='} {bound:g}) {'ok' if met else 'SHORT'}")
    if short:
        sys.exit(1)


def _native() -> bool:
    from core.precision import uses_bfloat16

    return uses_bfloat16("auto", "cpu")


if __name__ == "__main__":
    judged(main)
