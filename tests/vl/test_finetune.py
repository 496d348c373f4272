"""Facts about vl/finetune.py: a few updates on pictures of one colour and sentences that name one."""

import dataclasses
import json

import pytest
import torch
from PIL import Image

from core.errors import InputError, MissingFileError
from core.job import load_config
from core.run import read_metrics
from tests.core.test_distributed import launch
from tests.vl.conftest import COLORS
from tests.vl.fusing import fusing_model
from tests.vl.nlvr_on_disk import write_nlvr1
from tests.vl.tasks.files import write_json, write_lines
from vl.evaluate import EvaluateVLConfig
from vl.evaluate import run as evaluate
from vl.finetune import FinetuneVLConfig, run
from vl.fusion import FusionConfig
from vl.model import VLModel


@pytest.fixture(scope="module")
def root(tmp_path_factory, tiny_config):
    path = tmp_path_factory.mktemp("finetune")
    write_nlvr1(path / "data", {"train": 8, "val": 4})
    fusing_model(tiny_config).save_pretrained(path / "model")
    return path


@pytest.fixture
def config(root, tmp_path) -> FinetuneVLConfig:
    return FinetuneVLConfig(
        out=str(tmp_path / "run"),
        task="nlvr1",
        data=str(root / "data"),
        model=str(root / "model"),
        steps=6,
        batch_size=16,
        eval_every=3,
        checkpoint_every=2,
        jitter=0.1,
    )


def test_a_model_learns_what_a_blind_one_cannot(config, tmp_path):
    cfg = dataclasses.replace(config, steps=30, batch_size=16, eval_every=10, checkpoint_every=100, lr=3e-3)
    seeing = run(cfg)
    blind = run(dataclasses.replace(cfg, out=str(tmp_path / "blind"), blind=True, steps=5))
    assert seeing["val_accuracy"] > 0.9 and seeing["val_majority"] == 0.5
    assert blind["val_accuracy"] == 0.5 and blind["blind"]
    model = VLModel.from_pretrained(tmp_path / "run" / "model")
    assert model.config.answers == ["false", "true"]
    rows = read_metrics(cfg.out)
    assert [row["step"] for row in rows if "val_accuracy" in row] == [10, 20, 30]
    assert rows[2]["lr"] == pytest.approx(cfg.lr) and rows[-1]["lr"] < 0.01 * cfg.lr
    assert run(dataclasses.replace(cfg, resume="auto")) == seeing  # a finished run is not run again


class Killed(Exception):
    pass


def test_a_killed_run_continues_to_the_same_weights_and_metrics(config, tmp_path, monkeypatch):
    whole = run(dataclasses.replace(config, out=str(tmp_path / "whole")))

    import vl.finetune as job

    real, calls = job.answer_loss, 0

    def fails_at_the_fourth(*arguments):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(job, "answer_loss", fails_at_the_fourth)
    with pytest.raises(Killed):
        run(config)
    monkeypatch.setattr(job, "answer_loss", real)
    continued = run(dataclasses.replace(config, resume="auto"))
    assert {**whole, "seconds": 0} == {**continued, "seconds": 0}
    assert read_metrics(tmp_path / "whole") == read_metrics(config.out)
    weights = [VLModel.from_pretrained(tmp_path / name / "model").state_dict() for name in ("whole", "run")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_frozen_parts_stay_as_they_were(config, root, tmp_path):
    cfg = dataclasses.replace(config, freeze_image=True, freeze_text=True, steps=2, eval_every=2, jitter=0.0)
    assert run(cfg)["kept_states"]
    before = VLModel.from_pretrained(root / "model").state_dict()
    after = VLModel.from_pretrained(tmp_path / "run" / "model").state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"fusion"}


def test_kept_states_of_a_frozen_tower_change_nothing_but_the_time(config, tmp_path):
    cfg = dataclasses.replace(config, freeze_image=True, jitter=0.0, precision="float32")
    kept = run(cfg)
    each = run(dataclasses.replace(cfg, out=str(tmp_path / "each"), cache_gb=1e-6))
    assert kept["kept_states"] and not each["kept_states"]
    losses = [[row["loss"] for row in read_metrics(out)] for out in (cfg.out, tmp_path / "each")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_questions_of_unknown_words_are_left_out_and_counted_up_to_a_share(config, root, tmp_path):
    data = write_nlvr1(tmp_path / "data", {"train": 8, "val": 4})
    lines = (data / "train.json").read_text().splitlines()
    lines[0] = lines[0].replace("there is a red box", "zyx wvu")
    (data / "train.json").write_text("\n".join(lines))
    cfg = dataclasses.replace(config, data=str(data), steps=2, eval_every=2, max_unreadable=0.2)
    result = run(cfg)
    assert result["dropped"] == {"train": {"unreadable text": 6}, "val": {}} and result["train_examples"] == 42
    with pytest.raises(InputError, match="6 of 48 examples have a text that the model cannot read.*'zyx wvu'"):
        run(dataclasses.replace(cfg, out=str(tmp_path / "strict"), max_unreadable=0.05))
    assert not (tmp_path / "strict").exists()


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one(root, tiny_config, tmp_path):
    fusion = FusionConfig(layers=1, width=16, heads=2, dropout=0.0)  # each process draws its own
    fusing_model(tiny_config, fusion=fusion).save_pretrained(tmp_path / "model")
    words = [
        "task=nlvr1", f"data={root / 'data'}", f"model={tmp_path / 'model'}", "steps=3", "batch_size=15",
        "eval_every=3", "precision=float32",
    ]  # fmt: skip
    for name, world in (("one", 1), ("two", 2)):
        launch(["-m", "vl.finetune", *words, f"out={tmp_path / name}"], world)
    first, second = (VLModel.from_pretrained(tmp_path / name / "model").state_dict() for name in ("one", "two"))
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-3, atol=1e-4, msg=name)
    losses = [[row["loss"] for row in read_metrics(tmp_path / name)] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def picture(path, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), COLORS[color]).save(path)


def vqa_release(folder):
    for split in ("train2014", "val2014", "test2015"):
        questions, annotations = [], []
        for n in range(8):
            color = ("red", "blue")[n % 2]
            picture(folder / split / f"COCO_{split}_{n:012d}.jpg", color)
            questions.append({"question_id": n, "image_id": n, "question": "what colour is the box"})
            said = [{"answer": color, "answer_id": k} for k in range(10)]
            top = {"multiple_choice_answer": color, "answer_type": "other"}
            annotations.append({"question_id": n, "answers": said, **top})
        write_json(folder / f"v2_OpenEnded_mscoco_{split}_questions.json", {"questions": questions})
        if split != "test2015":  # its answers are kept back
            write_json(folder / f"v2_mscoco_{split}_annotations.json", {"annotations": annotations})
    return {"least_answers": 4}


def refcoco_release(folder):
    picture(folder / "train2014" / "1.jpg", "red")
    boxes = [[0, 0, 16, 32], [16, 0, 16, 32], [0, 0, 32, 16]]
    found = [{"id": n, "image_id": 1, "bbox": box} for n, box in enumerate(boxes)]
    write_json(folder / "instances.json", {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": found})
    ref = {"image_id": 1, "sentences": [{"sent_id": 1, "sent": "the left box"}]}
    splits = enumerate(("train", "train", "val"))
    write_json(folder / "refs.json", [{"ref_id": n, "ann_id": n, "split": split, **ref} for n, split in splits])
    return {}


def nlvr2_release(folder):
    for split in ("train", "val"):
        records = [
            {"identifier": f"{split}-{n}-0-0", "label": label, "sentence": "there is a red box on the left"}
            for n, label in enumerate(("True", "False"))
        ]
        write_lines(folder / f"{split}.json", records)
        for n, colors in enumerate((("red", "blue"), ("blue", "red"))):
            for side, color in enumerate(colors):
                picture(folder / split / f"{split}-{n}-0-img{side}.png", color)
    return {}


@pytest.mark.parametrize(
    "task, release", [("vqa", vqa_release), ("refcoco", refcoco_release), ("nlvr2", nlvr2_release)]
)
def test_every_kind_of_answer_is_trained_and_measured(config, tmp_path, task, release):
    keys = release(tmp_path / "data")
    tuned = dataclasses.replace(config, task=task, data=str(tmp_path / "data"), steps=2, eval_every=2, **keys)
    result = run(tuned)
    wanted = {"vqa": ["blue", "red"], "refcoco": ["this one"], "nlvr2": ["false", "true"]}
    model = VLModel.from_pretrained(tmp_path / "run" / "model")
    assert sorted(model.config.answers) == wanted[task] and model.config.answer_images == (2 if task == "nlvr2" else 1)
    cfg = EvaluateVLConfig(
        out=str(tmp_path / "measured"), task=task, data=tuned.data, split="val", model=str(tmp_path / "run" / "model")
    )
    measured = evaluate(cfg)
    assert measured["accuracy"] == result["val_accuracy"]  # the saved weights are those that were best
    kinds = ["model"] if task == "refcoco" else ["model", "blind"]
    assert [row["model"] for row in measured["table"]] == kinds
    if task == "refcoco":
        with pytest.raises(InputError, match="grey boxes of task=refcoco are all alike"):
            run(dataclasses.replace(tuned, out=str(tmp_path / "blind"), blind=True))
    if task == "vqa":
        said = json.loads((tmp_path / "measured" / "vqa_results.json").read_text())
        assert [row["question_id"] for row in said] == list(range(8))
        hidden = evaluate(dataclasses.replace(cfg, out=str(tmp_path / "hidden"), split="test"))
        assert hidden["table"] == [] and len(json.loads((tmp_path / "hidden" / "vqa_results.json").read_text())) == 8
    assert (tmp_path / "measured" / "predictions.csv").exists() == (task == "nlvr2")


@pytest.mark.parametrize("task, batch_size, lr", [("nlvr2", 256, 7.5e-5), ("refcoco", 60, 7.5e-4), ("vqa", 512, 5e-6)])
def test_published_settings_compose(task, batch_size, lr):
    cfg = load_config("finetune-vl", FinetuneVLConfig, [f"vl_tuning=renaissance-{task}", "model=FOLDER"])
    assert (cfg.task, cfg.batch_size, cfg.lr, cfg.schedule) == (task, batch_size, lr, "linear")
    assert load_config("finetune-vl", FinetuneVLConfig, []) == FinetuneVLConfig()  # the laptop's are the defaults


def test_impossible_settings_stop_before_anything_is_written(config, root, tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path / "towers")
    with pytest.raises(InputError, match="never see each other"):
        run(dataclasses.replace(config, model=str(tmp_path / "towers")))
    with pytest.raises(InputError, match="no split 'dev'.*there: train, val"):
        run(dataclasses.replace(config, val_split="dev"))
    with pytest.raises(MissingFileError, match="nowhere"):
        run(dataclasses.replace(config, model=str(tmp_path / "nowhere")))
    with pytest.raises(InputError, match="did you mean 'vqa'"):
        dataclasses.replace(config, task="vqa2")
    with pytest.raises(InputError, match="pretrain-vl init=FOLDER"):
        dataclasses.replace(config, task="retrieval")
    with pytest.raises(InputError, match="data is required"):
        run(dataclasses.replace(config, data=""))
    with pytest.raises(InputError, match="max_unreadable=1.0"):
        dataclasses.replace(config, max_unreadable=1.0)
    write_nlvr1(tmp_path / "long", {"train": 2, "val": 2}, "there is a red box " * 2000)
    with pytest.raises(InputError, match="a text has .* tokens, the model reads at most 16"):
        run(dataclasses.replace(config, data=str(tmp_path / "long")))
    assert not (tmp_path / "run").exists()
