"""The demo's page: what the numbers are, and the pictures that let a reader check them by eye."""

import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.stages import Stage
from core.files import plain, read_json
from core.page import figure_html, table_html, text, video_html, write_page
from core.run import describe_version, read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

    from scene.types import Scene

AGENTS = {
    "random-test": "random actions",
    "agent-vlm-test": "PPO, reward from the two towers",
    "agent-task-test": "PPO, task reward",
    "oracle-test": "shortest path (knows the map)",
}
COLORS = {"agent-task": "#2457a7", "agent-vlm": "#c2571a"}
INK = "#1d2430"


@dataclass(frozen=True)
class Row:
    """One line of the results table; `interval` is the 95 % interval over test homes or episodes."""

    group: str
    name: str
    value: float
    interval: tuple[float, float] | None = None
    beside: str = ""  # what to hold it against

    @property
    def cells(self) -> list[str]:
        spread = f"{self.interval[0]:.3f} to {self.interval[1]:.3f}" if self.interval else ""
        return [self.name, f"{self.value:.3f}", spread, self.beside]


IN_DOMAIN = (
    "The two towers are an in-domain VLM: trained from scratch on rendered views of the training homes, never on test "
    "homes nor, for generated homes, on held-out pairs of colour and class."
)
HEADER = ("measured on homes never seen", "value", "95 % interval", "beside")


def rows(stages: Mapping[str, Stage]) -> list[Row]:
    """The results table, from the stages' own results."""
    ground = stages["grounding-test"].result
    found = [
        Row(
            "Grounding: which object a sentence means",
            "accuracy",
            ground["accuracy"],
            tuple(ground["interval"]),
            f"chance {ground['chance']:.3f}, right class {ground['label']:.3f}, "
            f"right class and colour {ground['label_color']:.3f}, no sentence {ground['no_text']:.3f}",
        )
    ]
    retrieval = stages["retrieval-test"].result
    random = next(r for r in retrieval["table"] if r["model"] == "random weights" and r["direction"] == "text to view")
    found.append(
        Row(
            f"Two towers (an in-domain VLM): the view a caption belongs to, of {retrieval['queries']}",
            "R@1",
            retrieval["text_to_view_R@1"],
            tuple(retrieval["text_to_view_R@1_interval"]),
            f"chance {1 / retrieval['queries']:.3f}, random weights {random['R@1']:.3f}",
        )
    )
    found += list(_reward_rows(stages["reward-test"].result))
    found += list(_agent_rows(stages))
    return found


def _reward_rows(reward: Mapping[str, Any]) -> Iterator[Row]:
    group = "Reward of the in-domain VLM: AUC of the score, goal near and in view"
    for name, part in reward["auc"].items():
        yield Row(group, name, part["auc"], tuple(part["interval"]), part.get("beside", ""))


def _agent_rows(stages: Mapping[str, Stage]) -> Iterator[Row]:
    for stage, name in AGENTS.items():
        result = stages[stage].result
        metrics = result["metrics"]
        success, spl = metrics["success"], metrics["spl"]
        yield Row(
            f"Agents: FindObject, {result['episodes']} episodes",
            name,
            success["mean"],
            tuple(success["interval"]),
            f"SPL {spl['mean']:.3f} ({spl['interval'][0]:.3f} to {spl['interval'][1]:.3f})",
        )


def results_table(stages: Mapping[str, Stage]) -> "Table":
    """The results as a table for the terminal."""
    from rich.table import Table

    table = Table(title="On homes never seen", title_justify="left")
    for number, name in enumerate(HEADER):
        table.add_column(name, justify="right" if number in (1, 2) else "left")
    for group, members in _grouped(rows(stages)):
        table.add_row(f"[bold]{group}[/bold]", end_section=False)
        for number, row in enumerate(members):
            table.add_row(*row.cells, end_section=number == len(members) - 1)
    return table


def _grouped(found: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in found:
        groups.setdefault(row.group, []).append(row)
    return list(groups.items())


def write_report(path: Path, cfg: Any, stages: Mapping[str, Stage], result: Mapping[str, Any]) -> Path:
    """Write the page and return its absolute path."""
    table: list[Sequence[str] | str] = []
    for group, members in _grouped(rows(stages)):
        table.append(group)
        table.extend(row.cells for row in members)
    source = "ProcTHOR houses" if cfg.source.name == "procthor" else "generated homes"
    homes = stages["homes"].result
    sections = [
        ("Results", [table_html(HEADER, table, numbers=(1, 2)), f"<p>{text(IN_DOMAIN)}</p>"]),
        ("A home, its graph, its language", home_blocks(stages["homes"].folder)),
        ("Grounding", grounding_blocks(stages)),
        ("Views and retrieval", retrieval_blocks(stages)),
        ("Reward along a path", reward_blocks(stages["reward-test"].folder)),
        ("Learning", learning_blocks(stages)),
        ("Episodes", episode_blocks(stages)),
        ("How this was made", provenance_blocks(cfg, stages, result)),
    ]
    lead = (
        f"An agent learns from a sentence, on {source}: {homes['train']['homes']} to train, {homes['val']['homes']} to "
        f"tune, {homes['test']['homes']} to test. Seed {cfg.seed}, {time.strftime('%Y-%m-%d')}."
    )
    return write_page(path, "Sightline: the whole way", lead, sections)


def home_blocks(scenes: Path) -> list[str]:
    """A test home from above with what rests on what, and some of its sentences."""
    from scene.draw import draw_map
    from scene.graph import build_graph
    from scene.store import SceneStore

    store = SceneStore(scenes)
    scene = store.load(store.split("test")[0])
    graph = build_graph(scene)
    figure, axes = _figure(9.0, 6.5)
    draw_map(axes, scene, graph=graph)
    families: dict[str, int] = {}
    for edge in graph.edges:
        families[edge.relation.value] = families.get(edge.relation.value, 0) + 1
    most = sorted(families.items(), key=lambda item: (-item[1], item[0]))
    counts = ", ".join(f"{name} {count}" for name, count in most)
    sentences = [r for r in store.referrals("test") if r.scene_id == scene.id]
    spread = sentences[:: max(1, len(sentences) // 8)][:8]
    lines = [[r.utterance, r.kind, ", ".join(f"{scene.objects[t].label} #{t}" for t in r.targets)] for r in spread]
    return [
        figure_html(
            figure,
            f"{scene.id} from above",
            f"{scene.id}, {len(scene.objects)} objects; solid lines join what rests on what, dotted ones neighbours.",
        ),
        f"<p>{len(graph.edges)} relations: {text(counts)}.</p>",
        "<p>Sentences of this home. Each fits exactly one object by evaluation of the graph.</p>",
        table_html(("sentence", "kind", "target"), lines),
    ]


def grounding_blocks(stages: Mapping[str, Stage], each: int = 3) -> list[str]:
    """Hits and misses of the grounder, drawn in the homes they belong to."""
    import pyarrow.parquet as parquet

    from scene.store import SceneStore

    stage = stages["grounding-test"]
    store = SceneStore(stages["homes"].folder)
    table = parquet.read_table(stage.folder / "predictions.parquet").to_pylist()
    told = [row for row in table if row["kind"] != "unique"]
    blocks = [
        "<p>Which of all objects of the room a sentence means, told from their points, places and the words. Green is "
        "what the sentence means, red what the model chose instead.</p>"
    ]
    for hit, title in ((True, "right"), (False, "wrong")):
        chosen = _one_per_home([row for row in told if (row["target"] == row["predicted"]) is hit], each)
        pictures = []
        for row in chosen:
            scene = store.load(row["scene_id"])
            target, predicted = scene.objects[row["target"]], scene.objects[row["predicted"]]
            instead = "" if hit else f" Chosen: {_name(predicted)} #{predicted.id}."
            caption = f"{title}: “{row['utterance']}” means {_name(target)} #{target.id}.{instead}"
            figure = _grounding_map(scene, row["target"], row["predicted"], int(row["room"]))
            pictures.append(figure_html(figure, caption, caption))
        blocks.append(f'<div class="grid">{"".join(pictures)}</div>')
    groups = stage.result["groups"]
    lines = [
        [name, str(g["sentences"]), f"{g['accuracy']:.3f}",
         "{:.3f} to {:.3f}".format(*g["interval"]) if "interval" in g else "",
         f"{g['chance']:.3f}", f"{g['label']:.3f}", f"{g['label_color']:.3f}", f"{g['no_text']:.3f}"]
        for name, g in groups.items()
    ]  # fmt: skip
    header = ("sentences", "count", "accuracy", "95 % interval", "chance", "right class", "class and colour", "no text")
    return [*blocks, table_html(header, lines, numbers=range(1, 8))]


def _grounding_map(scene: "Scene", target: int, predicted: int, room: int) -> "Figure":
    from scene.draw import draw_map

    figure, axes = _figure(4.6, 3.9)
    highlight = {target: "#1b9e4b"} if target == predicted else {predicted: "#d62828", target: "#1b9e4b"}
    draw_map(axes, scene, highlight=highlight, labels=False, viewer=False)
    if len(scene.rooms) > 2 and 0 <= room < len(scene.rooms):  # a long house: the sentence's room only
        corners = np.asarray(scene.rooms[room].polygon)
        axes.set_xlim(corners[:, 0].min() - 0.3, corners[:, 0].max() + 0.3)
        axes.set_ylim(corners[:, 1].min() - 0.3, corners[:, 1].max() + 0.3)
    return figure


def retrieval_blocks(stages: Mapping[str, Stage], queries: int = 6) -> list[str]:
    """Captions and the views that the two towers hold closest to them."""
    import pyarrow.parquet as parquet

    images = np.load(stages["views"].folder / "test" / "images.npy", mmap_mode="r")
    table = parquet.read_table(stages["retrieval-test"].folder / "retrieval.parquet").to_pylist()
    chosen = table[:: max(1, len(table) // queries)][:queries]
    cards = []
    for row in chosen:
        figure, axes = _figure(4.6, 1.75, columns=3)
        for place, (axis, view) in enumerate(zip(axes, row["top_views"])):
            right = view == row["view"]
            axis.imshow(images[view], interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set(visible=True, edgecolor="#1b9e4b" if right else "#c9ced8", linewidth=4 if right else 1)
            axis.set_title(f"{place + 1}", fontsize=10, color=INK)
        found = f"own view found at rank {row['rank']} of {len(table)}"
        cards.append(figure_html(figure, f"views for: {row['query']}", f"“{row['query']}” – {found}"))
    result = stages["retrieval-test"].result
    lines = [
        [row["model"], row["direction"], row["subset"], str(row["queries"])]
        + [f"{row[f'R@{k}']:.3f}" for k in (1, 5, 10)]
        for row in result["table"]
    ]
    return [
        f"<p>{result['queries']} views of {result['homes']} test homes, no two with the same caption. The three views "
        "closest to a caption; a green frame marks its own.</p>",
        f'<div class="grid two">{"".join(cards)}</div>',
        table_html(("model", "direction", "captions", "count", "R@1", "R@5", "R@10"), lines, numbers=(3, 4, 5, 6)),
    ]


def reward_blocks(folder: Path) -> list[str]:
    """The reward of the two towers step by step while an oracle walks to the goal."""
    path = read_json(folder / "reward_path.json", "reward along a path")
    score, distance = np.array(path["score"]), np.array(path["distance_m"])
    visible = np.array(path["visible_pixels"])
    figure, axes = _figure(8.6, 3.4)
    steps = np.arange(len(score))
    axes.plot(steps, score, color=COLORS["agent-vlm"], linewidth=2, marker="o", markersize=3.5)
    axes.set_xlabel("step")
    axes.set_ylabel("score of the frame", color=COLORS["agent-vlm"])
    axes.fill_between(
        steps, 0, 1, where=visible >= 25, color="#2457a7", alpha=0.10, transform=axes.get_xaxis_transform(), step="mid",
        linewidth=0,
    )  # fmt: skip
    other = axes.twinx()
    other.plot(steps, distance, color=INK, linewidth=1.5, linestyle="--")
    other.set_ylabel("metres to the goal", color=INK)
    other.set_ylim(bottom=0)
    other.spines["top"].set_visible(False)
    caption = (
        f"“{path['goal']}” in {path['scene_id']}: the score the two towers give to each frame of a shortest path "
        "(orange), and the distance to the goal (dashed). Shaded: at least 25 pixels of the goal are in view."
    )
    return [figure_html(figure, "reward along an oracle path", caption)]


def learning_blocks(stages: Mapping[str, Stage]) -> list[str]:
    """Success while training, for both rewards."""
    figure, axes = _figure(8.6, 3.6)
    for name, label in (("agent-task", "task reward"), ("agent-vlm", "reward from the two towers")):
        logged = [row for row in read_metrics(stages[name].folder) if row.get("success") is not None]
        if logged:
            steps = np.array([row["env_steps"] for row in logged]) / 1000
            success = np.array([row["success"] for row in logged], dtype=float)
            axes.plot(steps, success, color=COLORS[name], alpha=0.25, linewidth=1)
            axes.plot(steps, _smooth(success), color=COLORS[name], linewidth=2.2, label=label)
    axes.set(xlabel="environment steps (thousands)", ylabel="success of training episodes", ylim=(0, 1))
    axes.legend(frameon=False, loc="upper left")
    return [
        figure_html(
            figure,
            "learning curves",
            "Success of the episodes that ended in each update, in training homes; bold: running mean. Neither "
            "agent's reward reads this number: one is shaped by walking distance, the other sees frames only.",
        )
    ]


def episode_blocks(stages: Mapping[str, Stage]) -> list[str]:
    """Recorded test episodes that play in the page."""
    import pyarrow.parquet as parquet

    blocks = ["<p>The first test episodes, the same for both agents; none was picked.</p>"]
    for name in ("agent-vlm-test", "agent-task-test"):
        stage = stages[name]
        episodes = parquet.read_table(stage.folder / "episodes.parquet").to_pylist()
        films = [
            video_html(stage.folder / clip, f"“{row['goal_text']}”: {_outcome(row)}")
            for clip, row in zip(stage.result["videos"], episodes, strict=False)  # the films are of the first rows
        ]
        blocks.append(f"<p>{text(AGENTS[name])}</p><div class='grid two'>{''.join(films)}</div>")
    return blocks


def _outcome(episode: Mapping[str, Any]) -> str:
    if episode["success"]:
        return f"found after {episode['steps']} steps, SPL {episode['spl']:.2f}"
    how = "stopped" if episode["stopped"] else "time was up"
    return f"{how} {episode['distance_to_goal_m']:.1f} m short"


def provenance_blocks(cfg: Any, stages: Mapping[str, Stage], result: Mapping[str, Any]) -> list[str]:
    """Time, memory, code, configuration."""
    version = describe_version()
    lines = [
        [name, f"{stage.seconds:.1f}", "cached" if stage.cached else "", stage.key] for name, stage in stages.items()
    ]
    config = json.dumps(plain(cfg), indent=1, default=str)
    return [
        f"<p>Sightline {text(version['code'])}, Python {text(version['python'])}, torch {text(version['torch'])}, "
        f"{text(version['threads'])} thread(s), {text(platform.machine())}; "
        f"{sum(stage.seconds for stage in stages.values()) / 60:.1f} minutes of stages, "
        f"{result['peak_memory_gb']} GB of memory at most.</p>",
        table_html(("stage", "seconds", "", "folder"), lines, numbers=(1,)),
        f"<details><summary>Configuration</summary><pre class='scroll'><code>{text(config)}</code></pre></details>",
    ]


def _figure(width: float, height: float, columns: int = 1) -> tuple["Figure", Any]:
    """A figure in the page's look; sizes in hundreds of CSS pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns)
    for axis in np.atleast_1d(axes):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=10, colors=INK)
        axis.xaxis.label.set_size(11)
        axis.yaxis.label.set_size(11)
    return figure, axes


def _one_per_home(table: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The first row of each of `count` homes, spread over the table."""
    first: dict[str, dict[str, Any]] = {}
    for row in table:
        first.setdefault(row["scene_id"], row)
    homes = list(first.values())
    return homes[:: max(1, len(homes) // count)][:count] if count else []


def _name(item: Any) -> str:
    color = item.attributes.get("color")
    return f"the {color} {item.label}" if color else f"the {item.label}"


def _smooth(values: np.ndarray, width: int = 9) -> np.ndarray:
    """Centred running mean; the window shrinks at the ends."""
    return np.array([values[max(0, i - width // 2) : i + width // 2 + 1].mean() for i in range(len(values))])
