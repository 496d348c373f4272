"""Speed and memory of the simulator beside its peers, in one run: python -m benchmarks.sim [--quick] [--out FOLDER]

1. Steps at 64x64 with random actions: ours with colours, depth and object ids in furnished homes of at least 5,000
   triangles, B = 64 and behind gymnasium.make; MiniWorld with colours of its FourRooms, in one process and in two.
2. Pictures of a home of at least 40,000 triangles at 64x64: our renderer, pyrender's, MuJoCo's, from the same poses.
3. PointGoal without cameras, B = 4,096. 4. Preparing a home, on one core. 5. Memory.

Candidates take turns, so that a busy neighbour hits all of them. Figures are medians over rounds, per second of wall
time and of processor time; a comparison is the median of the rounds' own ratios. Ends with a line per target; exit
code 1 when one is short, 2 after an error. The peers come with `make bench`.
"""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from numpy import ndarray

from benchmarks import peers
from benchmarks.homes import HOMES, furnished, triangles
from benchmarks.peers import Take
from benchmarks.verdict import judged
from core.conventions import intrinsics_from_fov
from core.threads import one_torch_thread, use_threads
from envs.goals import GoalFields
from envs.pool import HomePool, make_homes
from envs.simulator import Simulator
from envs.state import Sensors, choose_frame
from envs.tasks import make_task
from scene.datasets.procedural import GOAL_LABELS, HomeConfig, generate_home
from scene.render import prepare, render
from scene.types import Scene, SceneMesh

Run = Callable[[float], tuple[float, float]]  # seconds to run -> steps per wall second, per processor second
Rounds = dict[str, ndarray]  # name -> (rounds, 2): per wall second, per processor second

SIZE = 64  # pixels
LARGE = HomeConfig(rooms_min=3, rooms_max=4, clutter=1.0)
MANY_TRIANGLES = 40_000

OURS, SINGLE = "ours, B = 64", "ours, gymnasium.make"
MINIWORLD, MINIWORLD_TWO = "MiniWorld FourRooms", "MiniWorld FourRooms, 2 processes"
RENDER, PYRENDER, MUJOCO = "ours", "pyrender", "MuJoCo Renderer"
SHOWN = {
    OURS: "RGB, depth, ids; homes of 5,000+ triangles",
    SINGLE: "RGB, depth, ids; homes of 5,000+ triangles",
    MINIWORLD: "RGB",
    MINIWORLD_TWO: "RGB",
    RENDER: "RGB, depth, ids",
    PYRENDER: "RGB, depth",
    MUJOCO: "RGB, depth; one colour",
}
STATE_ONLY = "ours, PointGoal, state only, B = 4096"


def subdivided(scene: Scene, at_least: int) -> Scene:
    """The home with every face cut in four at the middles of its edges, until it has so many."""
    mesh = scene.mesh
    assert mesh is not None
    while len(mesh.faces) < at_least:
        a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        corners = np.concatenate([np.stack(part, axis=1) for part in parts])  # (4F, 3, 3)
        faces = np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3)
        colors, instance = np.tile(mesh.face_colors, (4, 1)), np.tile(mesh.face_instance, 4)
        mesh = SceneMesh(corners.reshape(-1, 3).astype(np.float32), faces, colors, instance)
    scene.mesh = mesh
    return scene


def batched(pool: HomePool, task: str, batch: int, sensors: Sensors | None, at_once: int) -> tuple[Simulator, Take]:
    """The batched simulator with random walks; ended episodes begin anew, their first picture included."""
    sim = Simulator(pool, task, num_envs=batch, seed=0, sensors=sensors)
    state = sim.reset()
    generator = torch.Generator().manual_seed(0)

    def take() -> int:
        nonlocal state
        for _ in range(at_once):
            state, step = sim.step(state, torch.randint(1, 4, (batch,), generator=generator))
            state = sim.reset(state, step.done)
            if step.frame is not None and bool(step.done.any()):
                choose_frame(step.done, sim.observe(state, step.done), step.frame)
        return at_once * batch

    return sim, take


def single(pool: HomePool) -> Take:
    """One environment behind gymnasium.make, in the same homes."""
    import gymnasium

    import envs  # noqa: F401  # registers the tasks

    return peers.gymnasium_steps(
        gymnasium.make("Sightline/FindObject-v0", homes=pool, depth=True, instance=True), [1, 2, 3]
    )


def rendering(scene: Scene, poses: ndarray) -> Take:
    """Our renderer alone: colours, depth and ids of all poses at once."""
    prepared = prepare(scene)
    intrinsics = intrinsics_from_fov(SIZE, SIZE, np.pi / 2)

    def take() -> int:
        render(prepared, poses, intrinsics, SIZE, SIZE)
        return len(poses)

    return take


def timed(take: Take) -> Run:
    """Runs a candidate in this process for some seconds."""

    def run(seconds: float) -> tuple[float, float]:
        done, wall, processor = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < seconds:
            done += take()
        return done / (time.perf_counter() - wall), done / (time.process_time() - processor)

    return run


def measure(candidates: dict[str, Run], rounds: int, seconds: float) -> Rounds:
    """All candidates in turn, round after round, after a warm-up (compilers, caches)."""
    for run in candidates.values():
        run(0.1)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            found[name].append(run(seconds))
    return {name: np.array(rows) for name, rows in found.items()}


def show(title: str, found: Rounds) -> None:
    """A table of medians, with the range over rounds."""
    print(f"\n{title}")
    for name, rows in found.items():
        (wall, processor), low, high = np.median(rows, axis=0), rows[:, 0].min(), rows[:, 0].max()
        print(f"  {name:<38}{wall:>11,.0f} /s wall [{low:,.0f} to {high:,.0f}]{processor:>13,.0f} per processor second")


def ratio(found: Rounds, ours: str, peer: str, column: int = 0) -> float:
    """Median over rounds of ours / peer; column 0 wall, 1 processor."""
    return float(np.median(found[ours][:, column] / found[peer][:, column]))


def preparing(count: int) -> dict[str, float]:
    """Milliseconds of one core for one home of HOMES, medians over homes; the fields are those of each task."""
    stages: dict[str, list[float]] = {}

    def clock(stage: str, start: float) -> float:
        now = time.process_time()
        stages.setdefault(stage, []).append(1000 * (now - start))
        return now

    for seed in range(1_000, 1_000 + count + 1):  # the first one compiles
        now = time.process_time()
        scene = generate_home(seed, HOMES)
        now = clock("mesh", now)
        homes = make_homes(scene)
        now = clock("occupancy grid", now)
        for home in homes:
            _ = home.prepared
        now = clock("search tree", now)
        pool = HomePool.of(homes, goal_labels=GOAL_LABELS)
        for task in ("find_object", "point_goal"):
            now = time.process_time()
            GoalFields(pool, make_task(task, pool))
            clock(f"fields of {task}", now)
    return {stage: float(np.median(times[1:])) for stage, times in stages.items()}


def resident_bytes() -> int:
    """Memory of this process that lies in RAM."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def state_bytes(sim: Simulator) -> float:
    """Bytes of an environment's state."""
    state = sim.reset()
    return sum(part.nbytes for part in vars(state).values() if isinstance(part, torch.Tensor)) / sim.num_envs


def homes_and_their_memory(count: int) -> tuple[HomePool, float]:
    """A pool of furnished homes, and the bytes a home takes: mesh, grid, search tree."""
    furnished(2)
    HomePool(furnished(2), goal_labels=GOAL_LABELS)[0].prepared.embree  # noqa: B018  # libraries are loaded now
    before = resident_bytes()
    pool = HomePool(furnished(count), goal_labels=GOAL_LABELS)
    for home in pool.homes:
        _ = home.prepared
    return pool, (resident_bytes() - before) / count


def draw(folder: Path, steps: Rounds, frames: Rounds, count: int) -> Path:
    """Bars of both comparisons: medians, whiskers from the slowest to the fastest round."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 1, figsize=(8, 5.2), height_ratios=[4, 3], layout="constrained")
    titles = [f"Steps at {SIZE}x{SIZE}, random actions", f"Pictures of a home of {count:,} triangles at {SIZE}x{SIZE}"]
    for axes, found, title, unit in zip(panels, (steps, frames), titles, ("steps", "pictures")):
        at = np.arange(len(found))
        for column, (label, color) in enumerate((("of wall time", "#4477aa"), ("of processor time", "#ccbb44"))):
            rows = np.stack([values[:, column] for values in found.values()])
            middle = np.median(rows, axis=1)
            reach = np.stack([middle - rows.min(axis=1), rows.max(axis=1) - middle])
            axes.barh(at + 0.4 * column - 0.2, middle, 0.38, xerr=reach, color=color, label=label,
                      error_kw={"elinewidth": 0.8, "ecolor": "#444444"})  # fmt: skip
            for y, value, right in zip(at + 0.4 * column - 0.2, middle, rows.max(axis=1)):
                axes.annotate(f"{value:,.0f}", (right, y), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(at, [f"{name}\n{SHOWN[name]}" for name in found], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.14 * max(values.max() for values in found.values()))
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel(f"{unit} per second (median; whiskers: slowest and fastest round)", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(title="per second", fontsize=8, title_fontsize=8, frameon=False, loc="upper right")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sim.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds; every target is still measured")
    parser.add_argument("--out", type=Path, help="folder for a plot (sim.png)")
    args = parser.parse_args()
    rounds, seconds, count = (5, 0.4, 16) if args.quick else (11, 2.0, 64)
    threads, load = use_threads(), os.getloadavg()[0]
    print(f"{threads} threads, {os.cpu_count()} cores, load {load:.1f} before the start; {rounds} rounds of {seconds} s"
          + (" (--quick: small samples)" if args.quick else ""))  # fmt: skip

    with one_torch_thread():  # rays take all threads all the same; small tensors are faster on one
        stages = preparing(8 if args.quick else 32)
        pool, home_bytes = homes_and_their_memory(count)
        sizes = [triangles(home.scene) for home in pool.homes]
        print(f"{len(sizes)} homes of {min(sizes):,} to {max(sizes):,} triangles, median {int(np.median(sizes)):,}")
        many = subdivided(furnished(1, LARGE, MANY_TRIANGLES // 4)[0], MANY_TRIANGLES)
        print(f"the large home: {triangles(many):,} triangles")

        both = peers.MiniWorldProcesses(2)
        sim, take = batched(pool, "find_object", 64, Sensors(SIZE, SIZE), at_once=4)
        candidates = {OURS: timed(take), SINGLE: timed(single(pool)), MINIWORLD: timed(peers.miniworld())}
        steps = measure(candidates | {MINIWORLD_TWO: both.run}, rounds, seconds)
        both.close()
        show(f"steps at {SIZE}x{SIZE}, random actions", steps)

        eyes = Simulator(HomePool([many]), num_envs=64, seed=0)
        poses = eyes.poses(eyes.reset())
        assert many.mesh is not None
        mesh = peers.Mesh(many.mesh.vertices, many.mesh.faces, many.mesh.face_colors)
        candidates = {
            RENDER: timed(rendering(many, poses)),
            PYRENDER: timed(peers.pyrender(mesh, poses, SIZE)),
            MUJOCO: timed(peers.mujoco(mesh, poses, SIZE)),
        }
        frames = measure(candidates, rounds, seconds)
        peers.close()
        show(f"pictures of {triangles(many):,} triangles at {SIZE}x{SIZE}", frames)

        walkers, take = batched(pool, "point_goal", 4096, None, at_once=16)
        walk = measure({STATE_ONLY: timed(take)}, rounds, seconds)
        show("steps without cameras", walk)
        before, done = resident_bytes(), 0
        while done < 1_000_000:
            done += take()
        grown = resident_bytes() - before

    prepare_ms = sum(time_ms for stage, time_ms in stages.items() if stage != "mesh")
    print("\npreparing a home, ms of one core: " + ", ".join(f"{name} {ms:.1f}" for name, ms in stages.items()))
    print(
        f"memory: {home_bytes:,.0f} bytes a home (mesh, grid, search tree; resident), "
        f"{walkers.fields.units.nbytes / len(pool):,.0f} of PointGoal fields a home, {state_bytes(walkers):,.0f} bytes "
        f"of state an environment and {SIZE * SIZE * 11:,} of pictures where it has a camera; resident size grew by "
        f"{grown:,} bytes over {done:,} steps"
    )
    targets = [  # name, value, limit, whether the value is to be at least (else at most) the limit
        ("batched_over_miniworld_wall", ratio(steps, OURS, MINIWORLD), 1.8, True),
        ("batched_over_miniworld_processor", ratio(steps, OURS, MINIWORLD, 1), 1.0, True),
        ("gymnasium_make_over_miniworld_wall", ratio(steps, SINGLE, MINIWORLD), 0.7, True),
        ("rendering_over_pyrender_wall", ratio(frames, RENDER, PYRENDER), 15, True),
        ("rendering_over_mujoco_wall", ratio(frames, RENDER, MUJOCO), 15, True),
        ("state_only_steps_per_second", float(np.median(walk[STATE_ONLY][:, 0])), 2_000_000, True),
        ("prepare_home_ms", prepare_ms, 100, False),
        ("prepare_home_with_mesh_ms", prepare_ms + stages["mesh"], 100, False),
        ("memory_growth_over_a_million_steps_mib", grown / 2**20, 4, False),
    ]
    print()
    if args.out:
        print(f"plot: {draw(args.out, steps, frames, triangles(many))}")
    short = 0
    if load > 0.5:
        print(
            f"note: other work was running (load {load:.1f}); it takes cores from ours sooner than from one-core peers"
        )
    for name, value, limit, least in targets:
        fine = value >= limit if least else value <= limit
        short += not fine
        print(f"{name} {value:.4g} (target {'>=' if least else '<='} {limit:g}) {'ok' if fine else 'SHORT'}")
    sys.exit(1 if short else 0)


if __name__ == "__main__":
    judged(main)
