"""Speed of the simulator on one CUDA device: python -m benchmarks.gpu [--cpu] [--out FILE]; benchmarks/gpu.sh sets up.

1. Homes: at least 64 generated ones of at least 5,000 triangles; seconds and device memory for each.
2. Rays: hits of camera rays and nothing else (the bound on everything below), in squares of pixels and in rows.
3. Pictures: colours, depth and ids at 64x64 and 128x128, 1,024 and 4,096 cameras; recorded as a graph and not; kinds
   of search trees; threads in a block.
4. Steps: the simulator's step with its pictures and resets, random actions; and its parts alone.
5. PPO on these pictures, the whole way, by train-agent's parts; with and without subgoals.
6. Training of the grounding model at GPS's size beside a straightforward GPS (benchmarks/grounding.py), in bfloat16
   with cached object features; and of ours alone with 512 sentences at once.
7. Scoring of frames by VLM-RM with encoders of the shapes of CLIP ViT-L/14 and SigLIP SO400M (random weights), in
   bfloat16, beside the bare encoder and the matrix peak.

Without a CUDA device the same code runs small on the CPU, to show that it works; its figures say nothing about CUDA.
Ends with a line per target; exit 1 when a CUDA run misses one, or sees what Warp on the CPU does not. Needs neither
open3d nor the network.
"""

import argparse
import itertools
import math
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from benchmarks.homes import furnished, triangles
from benchmarks.verdict import judged
from core.conventions import intrinsics_from_fov
from core.errors import InputError
from core.threads import granted, use_threads
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors, choose_frame
from scene.render import Frame

Take = Callable[[], int]  # does some work and returns how many units of it

TARGETS = {"cuda_steps_per_second": 150_000}
AIMS = {
    "cuda_steps_per_second": 300_000,
    "cuda_ppo_steps_per_second": 60_000,
    "cuda_grounding_samples_per_second": 4_000,
}


@dataclass
class Size:
    """How much is measured."""

    homes: int = 64
    batches: tuple[int, ...] = (1024, 4096)
    pixels: tuple[int, ...] = (64, 128)
    trees: tuple[str, ...] = ("sah", "lbvh", "median", "cubql")
    leaves: tuple[int | None, ...] = (1, 2, 4, 8)
    blocks: tuple[int, ...] = (32, 64, 128, 256)
    seconds: float = 0.3  # of a round
    rounds: int = 5
    rollout: int = 32
    frames: int = 256  # scored at once


SMALL = Size(3, (4, 8), (24, 32), ("sah", "median"), (None, 4), (64,), 0.05, 2, 4, 4)


@dataclass
class Report:
    """The lines of the Markdown file, printed as they come."""

    lines: list[str] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)  # parts that stopped with an error

    def say(self, line: str = "") -> None:
        self.lines.append(line)
        print(line, flush=True)

    def table(self, head: list[str]) -> None:
        self.say()
        self.row(*head)
        self.row(*["---"] * len(head))

    def row(self, *cells: str) -> None:
        self.say("| " + " | ".join(cells) + " |")


class Clock:
    """Measures work on a device: median of rounds, after a warm-up."""

    def __init__(self, device: torch.device, size: Size) -> None:
        self.device, self.size = device, size

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def rate(self, take: Take) -> float:
        """Units per second of wall time."""
        take(), take()
        self.wait()
        rates = []
        for _ in range(self.size.rounds):
            done, started = 0, time.perf_counter()
            while time.perf_counter() - started < self.size.seconds:
                done += take()
                self.wait()
            rates.append(done / (time.perf_counter() - started))
        return float(np.median(rates))


def lens(pixels: int) -> Float[np.ndarray, "3 3"]:
    return intrinsics_from_fov(pixels, pixels, math.pi / 2)


def views(pool: HomePool, batch: int, seed: int = 0) -> tuple[Int64[Tensor, " B"], Float[Tensor, "B 4 4"]]:
    """Homes and poses of agents where episodes begin."""
    sim = Simulator(pool, num_envs=batch, seed=seed, sensors=None)
    state = sim.reset()
    return state.home, torch.from_numpy(np.asarray(sim.poses(state, Sensors())))


def bare_rays(table: Any, pixels: int, home: Tensor, poses: Tensor, squares: bool) -> Take:
    """A kernel that casts camera rays and keeps the depth alone."""
    from benchmarks.gpu_rays import cast
    from scene.warp_kernels import pose34, wp

    lens_of, batch, device = lens(pixels), len(home), table.device
    axis = ((np.arange(pixels) + 0.5 - lens_of[0, 2]) / lens_of[0, 0]).astype(np.float32)
    across = torch.from_numpy(axis).to(device)
    where, depth = poses[:, :3].float().contiguous().to(device), torch.zeros(batch, pixels, pixels, device=device)
    index = home.int().to(device)
    inputs = [
        int(squares), pixels, wp.from_torch(across), wp.from_torch(index), wp.from_torch(where, pose34),
        wp.from_torch(table.mesh, wp.uint64), wp.from_torch(depth),
    ]  # fmt: skip
    launch = wp.launch(
        cast, dim=batch * pixels * pixels, inputs=inputs, device=table.warp_device, block_dim=64, record_cmd=True
    )
    kept = (across, where, depth, index)

    def take() -> int:
        launch.launch(stream=wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None)
        return kept[2].numel()

    return take


def drawing(table: Any, pixels: int, home: Tensor, poses: Tensor, **options: Any) -> Take:
    """The renderer alone, its memory used again; inputs lie on the device."""
    from scene.render_warp import WarpRenderer

    renderer = WarpRenderer(table, pixels, pixels, lens(pixels), len(home), check=False, **options)
    index, where = home.to(table.device), poses.float().to(table.device)

    def take() -> int:
        renderer.render(index, where, reuse=True)
        return len(index)

    return take


def homes_on(device: torch.device, pool: HomePool, **options: Any) -> Any:
    """The pool's homes as Warp meshes."""
    from scene.render_warp import WarpHomes

    table = WarpHomes(device, **options)
    for number, home in enumerate(pool.homes):
        table.put(number, home.scene)
    return table


def stepping(pool: HomePool, device: torch.device, batch: int, sensors: Sensors | None) -> Take:
    """The simulator with random walks; ended episodes begin anew, their first picture included."""
    sim = Simulator(pool, num_envs=batch, seed=0, sensors=sensors, device=device, backend="warp")
    state = sim.reset()
    generator = torch.Generator(device=device).manual_seed(0)

    def take() -> int:
        nonlocal state
        for _ in range(4):
            action = torch.randint(1, 4, (batch,), generator=generator, device=device)
            state, step = sim.step(state, action)
            if bool(step.done.any()):
                state = sim.reset(state, step.done)
                if step.frame is not None:
                    choose_frame(step.done, sim.observe(state, step.done), step.frame)
        return 4 * batch

    return take


def learning(pool: HomePool, device: torch.device, batch: int, pixels: int, steps: int, *, subgoals: bool) -> Take:
    """PPO on colours, depth and words with train-agent's policy: rollout and update, two epochs of four minibatches.

    Args:
        subgoals: the policy is told which room comes next, and a judge says when it is there.
    """
    from agents.agent import FEATURES
    from agents.networks import make_policy
    from agents.pixels import PixelSenses, vocabulary_of
    from agents.ppo import update
    from agents.rollout import EpisodeLog, Progress, collect
    from agents.senses import Senses
    from agents.subgoals.home_subgoals import HomeSubgoals, SubgoalSettings
    from agents.subgoals.subgoal_env import SubgoalEnv
    from agents.task_env import TaskEnv

    sensors = Sensors(pixels, pixels)
    sim = Simulator(pool, num_envs=batch, seed=0, sensors=sensors, device=device, backend="warp")
    senses: Senses = PixelSenses(vocabulary_of(sim.texts), sensors, sim.max_steps)
    if subgoals:
        senses = HomeSubgoals(senses, SubgoalSettings("rooms"))
    env = SubgoalEnv(TaskEnv(sim, senses)) if subgoals else TaskEnv(sim, senses)
    policy = make_policy(**FEATURES["pixels"], observation_spec=env.observation_spec, num_actions=env.num_actions)
    policy.to(device)
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-4, fused=True)
    generator, log = torch.Generator().manual_seed(0), EpisodeLog(batch, device)
    progress = Progress.begin(env, policy)
    rollout: list[Any] = [None]

    def take() -> int:
        rollout[0] = collect(env, policy, progress, steps, generator, log, rollout[0])
        if isinstance(env, SubgoalEnv):
            env.take()
        update(
            policy, optimizer, rollout[0], generator=generator, gamma=0.99, lam=0.95, epochs=2, minibatches=4,
            clip=0.2, entropy_coef=0.01, value_coef=0.5, max_grad_norm=0.5, max_kl=math.inf,
        )  # fmt: skip
        return steps * batch

    return take


def agreement(report: Report, pool: HomePool, device: torch.device) -> None:
    """The device's pictures beside those of Warp on the CPU, which tests compare to Embree."""
    from scene.render_warp import WarpRenderer

    home, poses = views(pool, 32)
    frames: list[Frame] = []
    for where in (device, torch.device("cpu")):
        table = homes_on(where, pool)
        frames.append(WarpRenderer(table, 64, 64, lens(64), 32).render(home, poses))
    ours, cpu = frames[0], frames[1]
    same = ours.instance.cpu() == cpu.instance
    off = (ours.depth.cpu() - cpu.depth).abs()[same]
    report.values["ids_equal"] = float(same.float().mean())
    report.values["depth_within"] = float((off <= 1e-4).float().mean())
    report.say(
        f"Agreement with Warp on the CPU over {same.numel():,} pixels: ids equal on {same.float().mean():.4%}, depth "
        f"within 1e-4 m on {report.values['depth_within']:.4%} of those, largest difference {float(off.max()):.1e} m."
    )


def describe(device: torch.device) -> str:
    from scene.warp_kernels import wp

    what = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {granted()} threads"
    return (
        f"{what}; torch {torch.__version__}, warp {wp.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores; {time.strftime('%Y-%m-%d %H:%M')}"
    )


def measure(report: Report, device: torch.device, size: Size, parts: list[str]) -> None:
    """The named parts; all of them where none is named."""
    clock, started = Clock(device, size), time.perf_counter()
    scenes = furnished(size.homes)
    made = time.perf_counter()
    pool = HomePool(scenes)
    ready = time.perf_counter()
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    table = homes_on(device, pool)
    clock.wait()
    put = time.perf_counter()
    faces = sorted(triangles(scene) for scene in scenes)
    report.say(f"## Homes\n\n{len(pool)} homes of {faces[0]:,} to {faces[-1]:,} triangles (median "
               f"{faces[len(faces) // 2]:,}). A home takes {1e3 * (made - started) / len(scenes):.0f} ms to generate, "
               f"{1e3 * (ready - made) / len(scenes):.1f} ms for its floor, {1e3 * (put - ready) / len(pool):.1f} ms "
               "for its search tree on the device (the first one's compilation included).")  # fmt: skip
    if device.type == "cuda":
        used = free - torch.cuda.mem_get_info(device)[0]
        report.say(f"Device memory for all of them: {used / 2**20:.0f} MiB, reserve of the allocators included.")
    agreement(report, pool, device)
    print(f"[{time.perf_counter() - started:.0f} s]", file=sys.stderr)

    def part(title: str, work: Callable[[], None]) -> None:
        """One part; what breaks in it is told, counts as short, and does not take the others along."""
        report.say(f"\n## {title}")
        try:
            work()
        except Exception as error:
            traceback.print_exc()
            report.say(f"\nNot measured: {type(error).__name__}: {error}")
            report.broken.append(title)
        print(f"[{time.perf_counter() - started:.0f} s]", file=sys.stderr)

    for title, work in {
        "Rays and pictures": lambda: pictures(report, clock, pool, table),
        "Search trees": lambda: trees(report, clock, pool, table),
        "Steps": lambda: steps(report, clock, pool),
        "PPO": lambda: ppo(report, clock, pool),
        "Grounding": lambda: grounding(report, device),
        "Reward models": lambda: reward_models(report, clock),
    }.items():
        if not parts or title in parts:
            part(title, work)
    report.say(f"\nWhole run: {time.perf_counter() - started:.0f} s.")


def pictures(report: Report, clock: Clock, pool: HomePool, table: Any) -> None:
    """The renderer beside bare rays."""
    size = clock.size
    report.table(["pixels", "cameras", "bare Mray/s", "in rows", "pictures/s", "share of bare", "no graph"])
    for pixels, batch in itertools.product(size.pixels, size.batches):
        home, poses = views(pool, batch)
        bare = clock.rate(bare_rays(table, pixels, home, poses, squares=True))
        rows = clock.rate(bare_rays(table, pixels, home, poses, squares=False))
        graph = clock.rate(drawing(table, pixels, home, poses))
        plain = clock.rate(drawing(table, pixels, home, poses, graph=False))
        report.row(
            f"{pixels}x{pixels}", f"{batch:,}", f"{bare / 1e6:,.1f}", f"{rows / 1e6:,.1f}", f"{graph:,.0f}",
            f"{graph * pixels**2 / bare:.0%}", f"{plain:,.0f}",
        )  # fmt: skip
        report.values[f"pictures_{pixels}_{batch}"] = graph


def trees(report: Report, clock: Clock, pool: HomePool, table: Any) -> None:
    """Kinds of search trees, and threads in a block."""
    from scene.render_warp import WarpRenderer

    size = clock.size
    pixels, most = size.pixels[0], max(size.batches)
    home, poses = views(pool, most)
    seen = WarpRenderer(table, pixels, pixels, lens(pixels), most).render(home, poses).instance
    report.say(
        f"\n{pixels}x{pixels}, {most:,} cameras, pictures/s by triangles in a leaf, and in brackets the share of "
        "pixels with the id that the default tree finds:"
    )
    report.table(["tree", *(str(leaf or "default") for leaf in size.leaves)])
    for tree in size.trees:
        cells = []
        for leaf in size.leaves:
            try:
                other = homes_on(clock.device, pool, bvh=tree, leaf_size=leaf)
            except (RuntimeError, ValueError) as error:  # Warp's own word on what it cannot build here
                cells.append(type(error).__name__)
                continue
            there = WarpRenderer(other, pixels, pixels, lens(pixels), most).render(home, poses).instance
            same = float((there == seen).float().mean())
            cells.append(f"{clock.rate(drawing(other, pixels, home, poses)):,.0f} ({same:.2%})")
            del other
        report.row(tree, *cells)
    blocks = {block: clock.rate(drawing(table, pixels, home, poses, block=block)) for block in size.blocks}
    report.say("\nThreads in a block: " + ", ".join(f"{block}: {rate:,.0f}" for block, rate in blocks.items()))


def steps(report: Report, clock: Clock, pool: HomePool) -> None:
    """The simulator's step, and its parts alone."""
    size, device = clock.size, clock.device
    report.table(["pixels", "environments", "steps/s", "state only", "pictures only", "time in pictures"])
    best = 0.0
    for pixels, batch in itertools.product(size.pixels, size.batches):
        whole = clock.rate(stepping(pool, device, batch, Sensors(pixels, pixels)))
        state = clock.rate(stepping(pool, device, batch, None))
        alone = report.values.get(f"pictures_{pixels}_{batch}", math.nan)
        report.row(
            f"{pixels}x{pixels}", f"{batch:,}", f"{whole:,.0f}", f"{state:,.0f}", f"{alone:,.0f}",
            f"{whole / alone:.0%}",
        )  # fmt: skip
        if pixels == size.pixels[0]:
            best = max(best, whole)
    report.values["cuda_steps_per_second"] = best


def ppo(report: Report, clock: Clock, pool: HomePool) -> None:
    """Training on pictures."""
    size, device = clock.size, clock.device
    pixels = max(36, size.pixels[0])  # the least the image encoder takes
    report.say(f"\n{pixels}x{pixels} colours and depth, words and body; a recurrent policy of 128 units.")
    report.table(["environments", "steps/s", "told subgoals", "state and pictures alone"])
    for batch in size.batches:
        rate, told = (
            clock.rate(learning(pool, device, batch, pixels, size.rollout, subgoals=on)) for on in (False, True)
        )
        alone = clock.rate(stepping(pool, device, batch, Sensors(pixels, pixels)))
        report.values["cuda_ppo_steps_per_second"] = max(rate, report.values.get("cuda_ppo_steps_per_second", 0.0))
        report.row(f"{batch:,}", f"{rate:,.0f}", f"{told:,.0f}", f"{alone:,.0f}")


def grounding(report: Report, device: torch.device) -> None:
    """Training of the grounding model; elsewhere than on CUDA with tiny layers."""
    from benchmarks import grounding as bench
    from benchmarks import grounding_steps
    from benchmarks.gps_reference import PAPER
    from scene.model_config import gps_code

    config, sizes = grounding_steps.tiny() if device.type == "cpu" else (gps_code(), PAPER)
    on_cuda = device.type == "cuda"
    outcome = bench.run(grounding_steps.ON_A_GPU if on_cuda else grounding_steps.TINY, device, config, sizes)
    for line in outcome.lines:
        report.say(f"#{line}" if line.startswith("#") else line)
    report.say(
        "\n" + "\n".join(map(str, outcome.targets)) if on_cuda else "\nTiny layers: only the equal losses count."
    )
    rate = bench.samples_per_second(grounding_steps.LARGE if on_cuda else grounding_steps.TINY, device, config, sizes)
    report.values["cuda_grounding_samples_per_second"] = rate
    report.values["cuda_grounding_short"] = float(not all(target.fine for target in outcome.targets))


def reward_models(report: Report, clock: Clock) -> None:
    """Frames scored per second in bfloat16; elsewhere than on CUDA by tiny towers of the same families."""
    from benchmarks import flops
    from benchmarks import reward_shapes as towers

    device, count = clock.device, clock.size.frames
    peak = flops.matrix_peak(torch.bfloat16, device, seconds=clock.size.seconds)[0]
    names = {"ViT-L/14": towers.VIT_L14, "SigLIP SO400M/14": towers.SO400M}
    shapes = names if device.type == "cuda" else {"tiny CLIP": towers.SMALL, "tiny SigLIP": towers.SMALL_SIGLIP}
    report.say(
        f"\nBatches of {count} frames of the encoder's size; bfloat16, whose matrix peak here is {peak / 1e12:.3g} "
        "TFLOP/s. From the host: frames begin in the processor's memory, as environments there give them."
    )
    report.table(["encoder", "GFLOP a frame", "bare", "scored, frames/s", "from the host", "share of peak", "bound"])
    for name, shape in shapes.items():
        embedder = towers.encoder(shape, device, torch.bfloat16)
        bare, scored, from_host = (clock.rate(take) for take in encoding(embedder, count))
        products = towers.products_per_frame(embedder.encode_images, shape.side, device)
        report.row(
            name, f"{products / 1e9:.3g}", f"{bare:,.0f}", f"{scored:,.0f}", f"{from_host:,.0f}",
            f"{scored * products / peak:.0%}", f"{peak / products:,.0f}",
        )  # fmt: skip


def encoding(embedder: Any, count: int) -> tuple[Take, Take, Take]:
    """The bare encoder on pixels that are ready; scores of frames on its device, and of frames on the host."""
    from benchmarks import reward_shapes as towers
    from vl.rewards import StepBatch

    reward, frames = towers.reward_of(embedder), towers.pictures(count, embedder.image_size, embedder.device)
    pixels, host = towers.normalised(embedder, frames), frames.cpu()
    goals = torch.zeros(count, dtype=torch.int64, device=embedder.device)

    def bare() -> int:
        towers.bare(embedder, pixels)
        return count

    def scored() -> int:
        return len(reward.score(StepBatch(frame=frames), goals))

    def from_host() -> int:
        return len(reward.score(StepBatch(frame=host), goals))

    return bare, scored, from_host


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="run small on the CPU even where CUDA is there")
    parser.add_argument("--homes", type=int, default=0, help="another number of homes")
    parser.add_argument("--part", action="append", default=[], help="a part alone, by its title (may be repeated)")
    parser.add_argument("--out", type=Path, help="write the report there as Markdown")
    args = parser.parse_args()
    on_cuda = torch.cuda.is_available() and not args.cpu
    device, size = (torch.device("cuda", 0), Size()) if on_cuda else (torch.device("cpu"), SMALL)
    if args.homes:
        size = replace(size, homes=args.homes)
    use_threads()
    report = Report()
    report.say("# The simulator on CUDA\n")
    if not on_cuda:
        why = "--cpu was given" if args.cpu else "no CUDA device"
        report.say(f"{why}: never run on CUDA. The same code small on the CPU; its figures say nothing about CUDA.\n")
    report.say(describe(device) + "\n")
    try:
        measure(report, device, size, args.part)
    except InputError as error:
        sys.exit(f"benchmarks.gpu: {error}")
    report.say()
    short = bool(report.broken)
    for name, aim in AIMS.items():
        goal = f"target >= {TARGETS[name]}, aim {aim}" if name in TARGETS else f"aim {aim}"
        value = report.values.get(name, math.nan)
        report.say(f"{name} {f'{value:.0f}' if on_cuda else 'never run on CUDA'} ({goal})")
        short |= on_cuda and name in TARGETS and value < TARGETS[name]
    short |= on_cuda and report.values.get("cuda_grounding_short", 0.0) > 0
    if report.values["ids_equal"] < 0.998 or report.values["depth_within"] < 0.998:
        report.say("the pictures of this device differ from those of the CPU")
        short = True
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text("\n".join(report.lines) + "\n", encoding="utf-8")
        print(f"written: {args.out}", file=sys.stderr)
    sys.exit(int(short))


if __name__ == "__main__":
    judged(main)
