"""Speed of the simulator beside MiniWorld, in one run: python -m benchmarks.sim [--quick]

Both take random actions at 64x64; ours renders colours, depth and object ids of furnished homes, MiniWorld colours of
its FourRooms. The candidates take turns, so that a busy neighbour hits all of them; figures are medians over rounds,
per second of wall time and per second of processor time. MiniWorld needs EGL (`make bench` installs what it may). Ends
with a line per target; exit 1 when one is short.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

Round = Callable[[], int]  # takes some steps and returns how many


def batched(batch: int, sensors: bool, homes: int) -> Round:
    """The batched simulator with random walks; ended episodes begin anew."""
    from envs.pool import HomePool
    from envs.simulator import Simulator
    from envs.state import Sensors

    pool = HomePool.procedural(homes, seed=0)
    sim = Simulator(pool, num_envs=batch, seed=0, sensors=Sensors() if sensors else None)
    state = sim.reset()
    generator = torch.Generator().manual_seed(0)
    triangles = [len(home.scene.mesh.faces) for home in pool.homes if home.scene.mesh is not None]
    what = "RGB + depth + ids" if sensors else "state only"
    print(f"ours, B={batch}, {what}: {len(triangles)} homes of {min(triangles)} to {max(triangles)} triangles")

    def steps(count: int = 4 if sensors else 64) -> int:
        nonlocal state
        for _ in range(count):
            state, step = sim.step(state, torch.randint(1, 4, (batch,), generator=generator))
            state = sim.reset(state, step.terminated | step.truncated)
        return count * batch

    return steps


def single() -> Round:
    """One environment behind gymnasium.make."""
    import gymnasium

    import envs  # noqa: F401  # registers the tasks

    env = gymnasium.make("Sightline/FindObject-v0")
    return gymnasium_steps(env, [1, 2, 3])


def miniworld() -> Round:
    """MiniWorld's FourRooms at 64x64."""
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    try:
        import pyglet

        pyglet.options["headless"] = True
        import gymnasium
        import miniworld  # noqa: F401  # registers its tasks

        env = gymnasium.make("MiniWorld-FourRooms-v0", obs_width=64, obs_height=64)
    except Exception as error:  # the import itself fails where EGL is missing, with whatever the driver raises
        sys.exit(f"MiniWorld does not start ({type(error).__name__}: {error}); `make bench` installs it and EGL")
    return gymnasium_steps(env, [0, 1, 2])


def gymnasium_steps(env, actions: list[int]) -> Round:
    """Random actions in one Gymnasium environment, reset where an episode ends."""
    env.reset(seed=0)
    rng = np.random.default_rng(0)

    def steps(count: int = 128) -> int:
        for action in rng.choice(actions, count):
            _, _, terminated, truncated, _ = env.step(int(action))
            if terminated or truncated:
                env.reset()
        return count

    return steps


def measure(candidates: dict[str, Round], rounds: int, seconds: float) -> dict[str, tuple[float, float]]:
    """Median steps per wall second and per processor second, the candidates taking turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for take in candidates.values():  # warm-up: compilers, caches
        take()
    for _ in range(rounds):
        for name, take in candidates.items():
            done, wall, processor = 0, time.perf_counter(), time.process_time()
            while time.perf_counter() - wall < seconds:
                done += take()
            spent = time.perf_counter() - wall, time.process_time() - processor
            found[name].append((done / spent[0], done / spent[1]))
    return {name: tuple(np.median(np.array(rows), axis=0)) for name, rows in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds; every target is still measured")
    args = parser.parse_args()
    rounds, seconds = (3, 0.7) if args.quick else (9, 2.0)
    print(f"{torch.get_num_threads()} threads, {os.cpu_count()} cores; {rounds} rounds of {seconds} s"
          + (" (--quick: small samples)" if args.quick else ""))  # fmt: skip
    candidates = {
        "ours, B=64": batched(64, True, homes=16 if args.quick else 64),
        "ours, gymnasium.make": single(),
        "ours, state only, B=4096": batched(4096, False, homes=16 if args.quick else 64),
        "MiniWorld FourRooms": miniworld(),
    }
    found = measure(candidates, rounds, seconds)
    for name, (wall, processor) in found.items():
        print(f"{name:<28}{wall:>12,.0f} steps/s wall{processor:>12,.0f} steps per processor second")
    peer = found["MiniWorld FourRooms"]
    targets = [
        ("batched_over_miniworld_wall", found["ours, B=64"][0] / peer[0], 1.8),
        ("batched_over_miniworld_processor", found["ours, B=64"][1] / peer[1], 1.0),
        ("gymnasium_make_over_miniworld_wall", found["ours, gymnasium.make"][0] / peer[0], 0.7),
        ("state_only_steps_per_second", found["ours, state only, B=4096"][0], 2_000_000),
    ]
    for name, value, least in targets:
        print(f"{name} {value:.4g} (target >= {least:g}) {'ok' if value >= least else 'SHORT'}")
    if any(value < least for _, value, least in targets):
        sys.exit(1)


if __name__ == "__main__":
    main()
