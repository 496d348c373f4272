"""The main job, end to end: an agent learns from a sentence, in homes it has never seen.

    sightline demo                                   procedural homes, at most 15 minutes on 2 cores
    sightline demo preset=quick                      the same stages, a glance each
    sightline demo source=procthor source.path=FILE  real layouts

Every stage is one of the other jobs; this file only says which, in what order, and on what. The numbers of the report
are the stages' own results.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

import agents.evaluate as evaluate_agent
import agents.score_rewards as score_rewards
import agents.train as train_agent
import scene.build as build_scenes
import scene.evaluate as evaluate_grounding
import scene.pretrain as pretrain_grounding
import scene.render_views as render_views
import vl.evaluate as evaluate_vl
import vl.pretrain as pretrain_vl
from agents.report import results_table, write_report
from agents.stages import Stages
from core.errors import InputError, check_choice
from core.job import JobConfig, job_main
from core.run import RunFolder
from scene.corpus import SourceConfig
from scene.datasets.procthor_files import asset_file

DEFAULTS: dict[str, Callable[[], Any]] = {
    "homes": build_scenes.BuildScenesConfig,
    "grounding": lambda: pretrain_grounding.PretrainGroundingConfig(scenes=""),
    "views": lambda: render_views.RenderViewsConfig(
        scenes="", train_views=12_000, val_views=1_000, test_views=1_800
    ),  # counted over all homes of a split here
    "vl": pretrain_vl.PretrainVLConfig,
    "reward": lambda: score_rewards.ScoreRewardsConfig(walks=1, prompts=["captions"]),
    "agent": train_agent.TrainAgentConfig,
}
OVERRULED = (
    "homes.source", "grounding.scenes", "views.scenes", "vl.views", "reward.scenes", "reward.vl", "reward.split",
    "agent.scenes", "agent.vl", "agent.reward",
    *(f"{part}.{name}" for part in DEFAULTS for name in ("out", "seed", "resume", "threads", "device", "wandb")),
)  # fmt: skip
"""What the demo sets in its stages' configurations: their inputs, and what they share."""


@dataclass
class DemoConfig(JobConfig):
    """The whole way on one machine; preset=full or quick, source=procedural or procthor."""

    source: SourceConfig = field(default_factory=SourceConfig)  # where homes come from
    stages: str = "runs/stages"  # folder of cached stages, shared by all demo runs
    data_seed: int = 0  # seed of homes, sentences, views and test episodes; `seed` is that of training
    homes: build_scenes.BuildScenesConfig = field(default_factory=DEFAULTS["homes"])  # stages 1 and 2
    grounding: pretrain_grounding.PretrainGroundingConfig = field(default_factory=DEFAULTS["grounding"])  # stage 3
    views: render_views.RenderViewsConfig = field(
        default_factory=DEFAULTS["views"]
    )  # stage 4; views in all, not per home
    vl: pretrain_vl.PretrainVLConfig = field(default_factory=DEFAULTS["vl"])  # stage 4
    reward: score_rewards.ScoreRewardsConfig = field(default_factory=DEFAULTS["reward"])  # stage 5
    agent: train_agent.TrainAgentConfig = field(default_factory=DEFAULTS["agent"])  # stage 6, both agents
    queries: int = 500  # test views with distinct captions to retrieve from
    episodes: int = 400  # test episodes per policy
    videos: int = 4  # recorded test episodes per trained agent

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("source", self.source.name, ("procedural", "procthor"))  # agents walk in rooms, which scans lack
        for name, least in (("episodes", 1), ("videos", 0), ("queries", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)}: give at least {least}")
        for name, number, limit, room in (
            ("videos", self.videos, "episodes", self.episodes),
            ("queries", self.queries, "views.test_views", self.views.test_views),
            ("vl.batch_size", self.vl.batch_size, "views.train_views", self.views.train_views),
        ):
            if number > room:
                raise InputError(f"{name}={number} is more than {limit}={room}")
        for key in OVERRULED:
            part, name = key.split(".")
            if getattr(getattr(self, part), name) != getattr(DEFAULTS[part](), name):
                raise InputError(f"{key} is decided by the demo; run that job alone to set it")


CONFIG = DemoConfig
HOUSE_SENTENCES = 8  # a ProcTHOR house of several rooms gets this many times the sentences of a generated home


def per_home(views: render_views.RenderViewsConfig, homes: dict[str, int]) -> render_views.RenderViewsConfig:
    """The views of each split shared out over its homes, so that few large houses give as many as many small homes."""
    wanted = {split: getattr(views, f"{split}_views") for split in homes}
    return replace(views, **{f"{split}_views": math.ceil(wanted[split] / homes[split]) for split in homes})


def run(cfg: DemoConfig) -> dict[str, Any]:
    """Run every stage, write `report.html`, print the table and the report's path."""
    console = Console()
    folder = RunFolder.open(cfg, "demo")
    steps = Stages(
        Path(cfg.stages).absolute(),
        cfg.resume,
        shared={"seed": cfg.seed, "threads": cfg.threads, "device": cfg.device, "wandb": cfg.wandb},
        announce=lambda line: console.print(f"[bold]{line}[/bold]", highlight=False),
    )

    # 1, 2: homes, graphs, sentences
    procthor = cfg.source.name == "procthor"
    files = (cfg.source.path, str(asset_file(cfg.source.path, cfg.source.assets))) if procthor else ()
    wanted = cfg.homes
    if procthor:  # few homes, but of several rooms each
        wanted = replace(
            wanted,
            train_referrals=wanted.train_referrals * HOUSE_SENTENCES,
            eval_referrals=wanted.eval_referrals * HOUSE_SENTENCES,
        )
    homes = steps.run("homes", build_scenes.run, wanted, files=files, source=cfg.source, seed=cfg.data_seed)
    counts = {split: homes.result[split]["homes"] for split in build_scenes.SPLITS}
    # 3: grounding in 3D
    grounder = steps.run("grounder", pretrain_grounding.run, cfg.grounding, scenes=homes)
    steps.run(
        "grounding-test",
        evaluate_grounding.run,
        evaluate_grounding.EvaluateGroundingConfig(failures=0),  # the report draws its own
        scenes=homes,
        model=grounder.folder / "model",
        split="test",
        seed=cfg.data_seed,
    )
    # 4: views, and the two towers
    views = steps.run("views", render_views.run, per_home(cfg.views, counts), scenes=homes, seed=cfg.data_seed)
    towers = steps.run("two-tower", pretrain_vl.run, cfg.vl, views=views)
    model = towers.folder / "model"
    steps.run(
        "retrieval-test",
        evaluate_vl.run,
        evaluate_vl.EvaluateVLConfig(),
        views=views,
        model=model,
        split="test",
        queries=cfg.queries,
        seed=cfg.data_seed,
    )
    # 5: the towers as a reward model
    steps.run("reward-test", score_rewards.run, cfg.reward, scenes=homes, vl=model, split="test", seed=cfg.data_seed)
    # 6: one agent per reward, beside chance and an oracle, on the same episodes
    for reward in ("task", "vlm"):
        steps.run(f"agent-{reward}", train_agent.run, cfg.agent, scenes=homes, vl=model, reward=reward)
    trained = {stage.name: stage.folder / "policy" for stage in steps.done if stage.name.startswith("agent-")}
    for name, policy in {"random": "random", "oracle": "oracle", **trained}.items():
        steps.run(
            f"{name}-test",
            evaluate_agent.run,
            evaluate_agent.EvaluateAgentConfig(),
            scenes=homes,
            policy=policy,
            vl="" if policy in ("random", "oracle") else model,
            split="test",
            episodes=cfg.episodes,
            max_steps=cfg.agent.max_steps,
            video=cfg.videos if name in trained else 0,
            seed=cfg.data_seed,
        )

    # 7: the report
    stages = {stage.name: stage for stage in steps.done}
    result: dict[str, Any] = {
        "results": {name: stage.result for name, stage in stages.items()},
        "seconds": {name: round(stage.seconds, 1) for name, stage in stages.items()},
        "cached": [name for name, stage in stages.items() if stage.cached],
        "peak_memory_gb": round(max(stage.peak_memory_gb for stage in stages.values()), 2),
        "code": {name: stage.code for name, stage in stages.items()},
    }
    report = write_report(folder.file("report.html"), cfg, stages, result)
    folder.finish(result)
    console.print(results_table(stages))
    console.print(
        f"{sum(result['seconds'].values()) / 60:.1f} minutes of stages, {result['peak_memory_gb']} GB at most.",
        highlight=False,
    )
    console.print(f"Report: {report}", highlight=False, soft_wrap=True)
    return result


if __name__ == "__main__":
    job_main("demo")
