"""Does a score tell a picture with the goal near from one without it? AUC over pictures of homes, whoever took them.

Pictures of cameras, random and oracle walks are sorted by what they show of each goal their home offers:

    near      at least 25 of its pixels in view, and within 2 m (camera to footprint): what the reward should pay
    far       at least 25 pixels, but farther: reported apart, since a good reward may well pay some of it
    absent    not a single pixel
    sliver    1 to 24 pixels: neither, counted only

AUC is the chance that a near picture scores above an absent (or far) one, of any home and goal; intervals resample
whole homes. EPIC is the distance between the score and the label "near" over near and absent pictures.
"""

from typing import Any

import numpy as np
import torch
from numpy import ndarray
from rich.console import Console
from rich.table import Table

from agents.agent import goal_reward
from agents.agreement import epic_distance, grouped_auc
from agents.reward_frames import KINDS, Pairs, goals_of
from agents.sentence_reward import score_every_goal
from envs import episodes as episode_sets
from envs.episodes import make_episodes
from envs.expert import Expert
from envs.simulator import Simulator
from vl.embedder import Embedder


def compare(score: ndarray, pairs: Pairs, chosen: ndarray, resamples: int) -> dict[str, Any]:
    """AUC of near against absent and against far pictures, and the EPIC distance, over chosen pairs."""
    near, far, absent = (pairs.kind == k for k in range(3))
    found: dict[str, Any] = {"near": int((near & chosen).sum())}
    for name, other in (("absent", absent), ("far", far)):
        rows = np.flatnonzero(chosen & (near | other))
        auc, interval = grouped_auc(score[rows], near[rows], pairs.home[rows], resamples=resamples)
        found[name] = {"frames": int((other & chosen).sum()), "auc": auc, "interval": interval}
    rows = np.flatnonzero(chosen & (near | absent))
    found["epic"] = epic_distance(score[rows], near[rows].astype(float))
    return found


def headline_rows(table: dict[str, dict[str, Any]], headline: str) -> dict[str, dict[str, Any]]:
    """The figures a report shows: name -> auc, interval and a remark."""
    found = {}
    for group, part in table[headline].items():
        name = "goal near against goal not in view" + ("" if group == "all pairs" else f", {group}")
        beside = f"{part['near']} near, {part['absent']['frames']} without"
        found[name] = {**part["absent"], "beside": beside}
    far = table[headline]["all pairs"]["far"]
    found["goal near against goal in view but farther"] = {**far, "beside": f"{far['frames']} farther"}
    for name in ("random weights", "constant"):
        if name in table:
            found[f"{name}: near against not in view"] = {**table[name]["all pairs"]["absent"], "beside": "baseline"}
    return found


def show(table: dict[str, dict[str, Any]], title: str) -> None:
    """Print AUC and EPIC per reward and group of goals (number of near pictures)."""
    printed = Table(title=title, title_justify="left")
    for name in ("reward", "goals", "near / absent", "near / far", "EPIC"):
        text = name in ("reward", "goals")
        printed.add_column(name, justify="left" if text else "right", no_wrap=text)
    for name, parts in table.items():
        for group, part in parts.items():
            cells = [
                "{:.3f} ({:.3f}-{:.3f})".format(part[kind]["auc"], *part[kind]["interval"])
                for kind in ("absent", "far")
            ]
            printed.add_row(name, f"{group} ({part['near']})", *cells, f"{part['epic']:.3f}")
    Console().print(printed)


def reward_path(simulator: Simulator, embedder: Embedder, alpha: float, seed: int) -> dict[str, Any]:
    """The score along one shortest path, that of the farthest of a few starts, for drawing."""
    episodes = make_episodes(simulator.homes, simulator.task, 12, seed + 1, simulator.fields)
    row = int(np.argmax(episodes.shortest_m))
    state = episode_sets.place(simulator, episodes, [row])
    expert, embeddings, distance, pixels = Expert(simulator), [], [], []
    while not bool(state.done.any()):
        frame = simulator.observe(state)
        embeddings.append(embedder.encode_images(frame.rgb).cpu())
        distance.append(float(state.distance[0]))
        pixels.append(int(simulator.goal_visibility(frame.instance, state)[0][0]))
        state, _ = simulator.step(state, expert(state, frame))
    model = goal_reward(embedder, [episodes.goals[row]], alpha)
    score = score_every_goal(model, torch.cat(embeddings))[:, 0]
    return {
        "scene_id": episodes.scene_ids[row],
        "goal": episodes.goals[row].text,
        "alpha": alpha,
        "score": score.tolist(),
        "distance_m": distance,
        "visible_pixels": pixels,
    }


def save_pairs(pairs: Pairs, score: ndarray, simulator: Simulator, file: Any) -> None:
    """One row per picture and goal, with the headline score."""
    import pyarrow
    import pyarrow.parquet

    goals = goals_of(simulator)
    table = pyarrow.table(
        {
            "frame": pairs.frame,
            "source": pairs.path,
            "scene_id": [simulator.homes.ids[k] for k in pairs.home],
            "trajectory": pairs.trajectory,
            "step": pairs.step,
            "goal": [goals[k].text for k in pairs.goal],
            "own": pairs.own,
            "x": pairs.x,
            "y": pairs.y,
            "pixels": pairs.pixels,
            "distance_m": pairs.distance_m,
            "kind": np.array(KINDS)[pairs.kind],
            "walk_m": pairs.walk_m,
            "progress": pairs.progress,
            "score": score,
        }
    )
    pyarrow.parquet.write_table(table, file)
