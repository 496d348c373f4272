"""The pretraining job on toy homes: it learns, repeats, and continues after a kill to the same numbers."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.checkpoint import Checkpoints
from core.errors import InputError
from core.files import folder_fingerprint
from core.job import load_config
from scene import pretrain
from scene.curriculum import altered, mirror_tokens
from scene.grounder import Grounder
from scene.model_config import MODELS
from scene.object_stage import ObjectStage
from scene.pretrain import PretrainGroundingConfig, run, summed
from scene.provenance import Provenance
from scene.store import SceneStore, write_corpus
from scene.texts import Question, Referral, Text
from tests.core.test_distributed import launch
from tests.scene.toy import toy_folder, toy_referrals, toy_scene
from vl.tokenizer import train_tokenizer

SIZES = {"dim": 16, "heads": 2, "hidden": 32, "text_layers": 1, "spatial_layers": 1, "fusion_layers": 1, "points": 24}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PretrainGroundingConfig:
    scenes = toy_folder(tmp_path_factory.mktemp("scenes"))
    return PretrainGroundingConfig(
        scenes=str(scenes), object_steps=6, steps=8, object_batch=12, batch_scenes=4, batch_sentences=2, window=3,
        samplings=2, eval_every=4, checkpoint_every=3, word_loss=0.1, scene_loss=0.1, architecture=SIZES,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(config: PretrainGroundingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    run(replace(config, out=str(out)))
    return out


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [0, 4, 6, 10])  # before any checkpoint; in stage object, at its end, between evaluations
def test_a_killed_and_resumed_run_ends_with_the_same_numbers_to_the_last_bit(
    config: PretrainGroundingConfig, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
):
    save = Checkpoints.save

    def failing(self: Checkpoints, step: int, state: dict) -> Path:
        if step > at:
            raise Killed
        return save(self, step, state)

    broken = replace(config, out=str(tmp_path / "run"), resume="auto")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", failing)
        with pytest.raises(Killed):
            run(broken)
    assert not (tmp_path / "run/result.json").exists() and not (tmp_path / "run/model").exists()
    run(broken)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    ends = [json.loads((path / "result.json").read_text()) for path in (tmp_path / "run", whole)]
    assert ends[0]["object_accuracy"] == ends[1]["object_accuracy"] and ends[0].keys() == ends[1].keys()
    assert folder_fingerprint(tmp_path / "run/model") == folder_fingerprint(whole / "model")


def test_stages_in_two_runs_are_stages_in_one(config: PretrainGroundingConfig, whole: Path, tmp_path: Path):
    run(replace(config, out=str(tmp_path / "objects"), stages="object"))
    run(replace(config, out=str(tmp_path / "scene"), stages="scene", init=str(tmp_path / "objects"), architecture={}))
    one, two = (Grounder.from_pretrained(path / "model").model.state_dict() for path in (whole, tmp_path / "scene"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_two_processes_give_the_losses_of_one(
    config: PretrainGroundingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # without dropout, whose draws are each process's own
    words = ["stages=object,scene", "object_steps=3", "steps=4", "contrast_loss=0.2", "word_loss=0.3", "window=2"]
    words += [f"architecture.{name}={value}" for name, value in (SIZES | {"dropout": 0.0}).items()]
    words += [f"scenes={config.scenes}", "object_batch=12", "batch_scenes=4", "batch_sentences=2", "samplings=2"]
    code = (
        "import json, sys, scene.pretrain as job\n"
        "from core.job import load_config\n"
        "inner = job.summed\n"
        "def summed(parts):\n"
        "    found = inner(parts)\n"
        "    print(json.dumps(found), flush=True)\n"
        "    return found\n"
        "job.summed = summed\n"
        f"job.run(load_config('pretrain-grounding', job.CONFIG, {words!r} + sys.argv[1:]))\n"
    )
    outputs = launch(["-c", code, f"out={tmp_path / '2'}"], 2)
    of_two = [[json.loads(line) for line in out.splitlines() if line.startswith("{")] for out in outputs]
    assert of_two[0] == of_two[1]  # every process knows the whole
    of_one: list[dict[str, float]] = []

    def listening(parts: dict[str, torch.Tensor]) -> dict[str, float]:
        of_one.append(summed(parts))
        return of_one[-1]

    monkeypatch.setattr(pretrain, "summed", listening)
    run(load_config("pretrain-grounding", PretrainGroundingConfig, [*words, f"out={tmp_path / '1'}"]))
    assert len(of_one) == len(of_two[0]) == 7
    for one, two in zip(of_one, of_two[0]):
        assert one.keys() == two.keys()
        assert all(math.isclose(one[name], two[name], abs_tol=1e-4) for name in one), (one, two)
    one, two = (Grounder.from_pretrained(tmp_path / str(world) / "model").model.state_dict() for world in (1, 2))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-3


def test_the_encoder_is_trained_along_where_nothing_trained_it_before(config: PretrainGroundingConfig, tmp_path: Path):
    small = replace(config, stages="scene", steps=2, eval_every=2, object_pool=8)
    along = run(replace(small, out=str(tmp_path / "along")))
    frozen = run(replace(small, out=str(tmp_path / "frozen"), encoder="frozen"))
    assert (along["encoder"], frozen["encoder"]) == ("trained", "frozen")
    assert along["train_rooms"] > 2  # rooms whose points were let go are drawn again from their scenes
    start = run(replace(config, stages="object", object_steps=1, object_lr=1e-30, out=str(tmp_path / "start")))
    begun, trained, still = (
        Grounder.from_pretrained(path).model.object_encoder.state_dict()
        for path in (start["model"], along["model"], frozen["model"])
    )
    # the start took a step of 1e-30, which moves nothing but biases off their zero
    assert all(torch.allclose(begun[name], still[name], rtol=0, atol=1e-20) for name in begun)
    assert not all(torch.allclose(begun[name], trained[name], rtol=0, atol=1e-6) for name in begun)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Homes with sentences about several objects or none, and questions."""
    homes = {}
    for split, seeds in (("train", range(5)), ("val", range(5, 7))):
        pairs = []
        for seed in seeds:
            scene = toy_scene(seed)
            cubes = tuple(i for i, label in enumerate(scene.labels) if label == "cube")
            texts: list[Text] = [*toy_referrals(scene)]
            texts.append(Referral(scene.id, "every thing", tuple(range(6)), (), "multi", room=0))
            texts.append(Referral(scene.id, "the sofa", (), (), "zero", room=0))
            answer = "yes" if cubes else "no"
            texts.append(Question(scene.id, "is there a cube?", (answer,), "existence", objects=cubes[:1]))
            texts.append(Question(scene.id, "how many cubes are there?", (str(len(cubes)),), "count", objects=cubes))
            pairs.append((scene, texts))
        homes[split] = pairs
    return str(write_corpus(tmp_path_factory.mktemp("rich"), homes, "toy").folder)


@pytest.mark.parametrize(
    "task, measure", [("multi", "val_f1"), ("answers", "val_exact_match"), ("referral", "val_accuracy")]
)
def test_a_trained_model_is_fine_tuned_to_other_tasks(
    config: PretrainGroundingConfig, whole: Path, rich: str, tmp_path: Path, task: str, measure: str
):
    tuned = replace(config, scenes=rich, stages="finetune", task=task, init=str(whole), steps=4, architecture={})
    result = run(replace(tuned, out=str(tmp_path / "run")))
    assert 0 <= result[measure] <= 1 and result["encoder"] == "frozen"
    assert (result["unknown_words"] > 0) == (task != "referral")  # init never read "every", "sofa", "there"
    grounder = Grounder.from_pretrained(result["model"])
    assert ("yes" in grounder.answers) == (task == "answers")
    if task == "answers":  # counts of cubes that no training home has
        asked = [text for text in SceneStore(rich).texts("val") if isinstance(text, Question)]
        beyond = [not set(question.answers) & set(grounder.answers) for question in asked]
        assert result["val_unanswerable"] == pytest.approx(sum(beyond) / len(asked))
    sentences = {"multi": 2, "answers": 2, "referral": 0}[task]
    referrals = sum(len(toy_referrals(toy_scene(seed))) for seed in range(5))
    assert result["train_sentences"] == (10 if task == "answers" else referrals + 5 * sentences)


def test_the_model_folder_says_what_it_was_trained_on(
    config: PretrainGroundingConfig, whole: Path, rich: str, tmp_path: Path
):
    first = Provenance.load(whole / "model")
    assert first is not None and first.complete and first.sources == ("toy",) and len(first.scenes) == 6
    tuned = replace(config, scenes=rich, stages="finetune", init=str(whole), steps=1, architecture={})
    second = Provenance.load(run(replace(tuned, out=str(tmp_path / "run")))["model"])
    assert second is not None and len(second.corpora) == 2 and second.complete
    assert set(first.sentences.tolist()) <= set(second.sentences.tolist())


def test_several_corpora_are_one(config: PretrainGroundingConfig, rich: str, tmp_path: Path):
    both = replace(config, scenes=f"{config.scenes},{rich}", object_steps=1, steps=1, cache=str(tmp_path / "cache"))
    result = run(replace(both, out=str(tmp_path / "run")))  # scenes of one id in both folders are two rooms
    assert result["train_rooms"] == 6 + 5 and len(list((tmp_path / "cache").iterdir())) == 2
    record = Provenance.load(result["model"])
    assert record is not None and len(record.corpora) == 2


def test_a_scene_graph_and_the_choices_of_gps_train(config: PretrainGroundingConfig, tmp_path: Path):
    graph = run(replace(config, steps=2, architecture=SIZES | {"graph_layers": 1}, out=str(tmp_path / "graph")))
    assert 0 <= graph["val_accuracy"] <= 1
    with pytest.raises(InputError, match="rotate=none"):  # the graph is one of init's choices, not of this run's
        run(
            replace(
                config,
                stages="finetune",
                init=graph["model"],
                rotate="all",
                architecture={},
                out=str(tmp_path / "turned"),
            )
        )
    gps = replace(
        config, model="gps-code", object_loss="classes", scene_text="caption+referral", rotate="all", steps=2,
        object_steps=2, contrast_loss=1.0, text_lr=1e-5, architecture=SIZES | {"text_hidden": 32, "slots": 5},
        warmup=1, object_warmup=0, precision="bfloat16",
    )  # fmt: skip
    assert 0 <= run(replace(gps, out=str(tmp_path / "gps")))["val_accuracy"] <= 1


def test_epochs_count_passes_and_a_share_takes_a_part_of_the_sentences(config: PretrainGroundingConfig, tmp_path: Path):
    short = replace(config, object_steps=1, eval_every=100, checkpoint_every=100)
    result = run(replace(short, epochs=2, out=str(tmp_path / "all")))
    assert result["best_step"] - 1 == math.ceil(2 * result["train_sentences"] / 8)
    part = run(replace(short, steps=1, share=0.4, out=str(tmp_path / "part")))
    assert 0 < part["train_sentences"] < result["train_sentences"]


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(
    config: PretrainGroundingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    honest = ObjectStage.loss

    def broken(self: ObjectStage, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss, shown = honest(self, step)
        return (loss * float("nan"), shown) if step == 4 else (loss, shown)

    monkeypatch.setattr(ObjectStage, "loss", broken)
    with pytest.raises(InputError, match=r"nan at step 4 of stage object \(objects such as .*checkpoint of step 3"):
        run(replace(config, out=str(tmp_path / "run")))
    assert Checkpoints(tmp_path / "run/checkpoints").steps() == [3]


def test_the_result_model_loads_and_a_finished_run_returns_its_result(config: PretrainGroundingConfig, whole: Path):
    assert len(Grounder.from_pretrained(whole / "model").locate(toy_scene(3), "the red cube").objects) == 6
    stamp = (whole / "metrics.jsonl").stat().st_mtime_ns
    assert run(replace(config, out=str(whole), resume="auto"))["model"] == str(whole / "model")
    assert (whole / "metrics.jsonl").stat().st_mtime_ns == stamp


def test_mirror_words_change_places_only_where_both_are_known():
    both = train_tokenizer(["left right cube"])
    left, right = (both.get_vocab()[word] for word in ("left", "right"))
    assert mirror_tokens(both) == {left: right, right: left}
    assert mirror_tokens(train_tokenizer(["left cube"])) == {}


@pytest.mark.parametrize(
    "words, message",
    [
        (["architecture.dimm=3"], "architecture.dimm is unknown; did you mean 'dim'"),
        (["steps=0"], "steps=0"),
        (["share=0"], "share=0"),
        (["stages=scene,object"], "in this order"),
        (["stages=finetune"], "init=FOLDER"),
        (["task=multi"], "task=multi is for stages=finetune"),
        (["scene_loss=-1"], "scene_loss=-1"),
        (["lr=-1"], "lr=-1.0: expected more than 0"),
        (["clip=0"], "clip=0.0: expected more than 0"),
        (["floor=2"], "floor=2.0: expected a share"),
        (["scenes=x,x/"], "names a folder twice"),
        (["scenes=x,,y"], "names no folder"),
        (["cache=pyproject.toml"], "is a file; name a folder"),
        (["recipe=gps-papier"], "gps-paper"),
    ],
)
def test_impossible_settings_stop_before_anything_is_read(words: list[str], message: str):
    with pytest.raises(InputError, match=message):
        load_config("pretrain-grounding", PretrainGroundingConfig, ["scenes=x", *words])


def test_a_corpus_without_what_is_asked_for_is_an_error(config: PretrainGroundingConfig, whole: Path, tmp_path: Path):
    with pytest.raises(InputError, match="has no questions in its train split"):
        run(
            replace(
                config, stages="finetune", task="answers", init=str(whole), architecture={}, out=str(tmp_path / "a")
            )
        )
    with pytest.raises(InputError, match="weights of init=.* do not fit"):
        run(replace(config, stages="scene", init=str(whole), architecture={"hidden": 48}, out=str(tmp_path / "b")))


def test_a_corpus_without_val_is_an_error_before_the_first_stage(config: PretrainGroundingConfig, tmp_path: Path):
    write_corpus(tmp_path / "scenes", {"train": [(toy_scene(0), toy_referrals(toy_scene(0)))]}, "toy")
    with pytest.raises(InputError, match="no split 'val'"):
        run(replace(config, scenes=str(tmp_path / "scenes"), out=str(tmp_path / "run")))
    assert Checkpoints(tmp_path / "run/checkpoints").steps() == []


def test_every_recipe_is_a_valid_configuration():
    folder = Path(__file__).resolve().parents[2] / "configs/recipe"
    for path in sorted(folder.glob("*.yaml")):
        tuned = "init=somewhere" in path.read_text()
        words = [f"recipe={path.stem}", "scenes=x"] + ["init=x"] * tuned
        cfg = load_config("pretrain-grounding", PretrainGroundingConfig, words)
        assert ("finetune" in cfg.stage_names) == tuned
        assert altered(MODELS[cfg.model](vocab_size=99), cfg.architecture).vocab_size == 99
