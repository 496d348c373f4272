"""Starting a job: configuration, errors in one line, interruption, help."""

import functools
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from core.config import JobShape, compose_config
from core.errors import InputError
from core.help import _filled, field_comments, job_help
from core.job import JobConfig, load_config, run_job
from core.run import RunFolder
from tests.core import example_job
from tests.core.example_job import DeepConfig, ExampleConfig

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class WholeConfig(JobConfig):
    part: ExampleConfig = field(default_factory=ExampleConfig)  # the only stage


SHAPE = JobShape("example-job", ExampleConfig)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "120")


def test_values_land_in_the_dataclass_with_their_types():
    cfg = load_config(
        "example-job",
        ExampleConfig,
        ["lr=3e-4", "sizes=[4,5,6]", "layer.width=16", "+extra.color=0.5", "verbose=true", "limit=7", "seed=3"],
    )
    assert type(cfg) is ExampleConfig and type(cfg.layer) is example_job.LayerConfig
    assert (cfg.lr, cfg.sizes, cfg.layer.width, cfg.extra) == (3e-4, [4, 5, 6], 16, {"color": 0.5})
    assert (cfg.verbose, cfg.limit, cfg.seed) == (True, 7, 3)
    assert load_config("example-job", ExampleConfig, ["limit=null"]).limit is None


def test_a_free_form_mapping_comes_whole_or_key_by_key():
    def extra(*words: str) -> dict[str, float]:
        return load_config("example-job", ExampleConfig, list(words)).extra

    assert extra("extra={color: 0.5, size: 2}") == {"color": 0.5, "size": 2.0}
    assert extra("extra={color: 0.5}", "extra.size=2") == {"color": 0.5, "size": 2.0}
    assert extra("extra={}") == {}
    with pytest.raises(InputError, match="extra='3' does not fit: expected mapping"):
        extra("extra=3")
    with pytest.raises(InputError, match="extra='{color: red}' does not fit"):
        extra("extra={color: red}")


@pytest.mark.parametrize(
    "text", ["the lamp, left of the bed", "what's (near) it: a=b?", "12", "[x", "", "null", "a # b", "C:\\x"]
)
def test_text_is_taken_literally(text: str):
    assert load_config("example-job", ExampleConfig, [f"goal={text}"]).goal == text


def test_quotes_around_a_whole_text_are_dropped():
    assert load_config("example-job", ExampleConfig, ["goal='red chair'"]).goal == "red chair"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lrr=1", "unknown key 'lrr' for example-job; did you mean 'lr'?"),
        ("layer.widht=1", "unknown key 'layer.widht' for example-job; did you mean 'layer.width'?"),
        ("+new=1", "unknown key 'new'"),
        ("lr=fast", "lr='fast' does not fit: expected number (learning rate at the peak, per update)"),
        ("layer.width=2.5", "layer.width='2.5' does not fit: expected whole number (units per layer)"),
        ("sizes=[1,x]", "sizes='[1,x]' does not fit: expected list of whole number"),
        ("sizes=1,2", "give one, or a list as [a,b]"),
        ("verbose=maybe", "verbose='maybe' does not fit: expected true/false"),
        ("layer=3", "layer='3' does not fit"),
        ("lr", "expected key=value, got 'lr'"),
        ("--multirun", "expected key=value, got '--multirun'"),
        ("lr=2", "lr=2.0 is above 1; lower it, or add verbose=true"),
        ("seed=-1", "seed=-1: give a whole number from 0 to 4294967295"),
        ("seed=4294967296", "seed=4294967296: give a whole number from 0 to 4294967295"),
        ("threads=-1", "threads=-1"),
        ("resume=yes", "resume='yes' is unknown"),
        ("wandb=offlin", "wandb='offlin' is unknown; did you mean 'offline'?"),
        ("device=gpu", "device='gpu': expected cpu"),
        ("device=cuda:99", "device=cuda:99: torch sees"),
    ],
)
def test_wrong_words_give_one_line_naming_them_and_the_nearest_valid(capsys, word: str, message: str):
    assert run_job("example-job", [word], example_job) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.startswith("error: ") and shown.count("\n") == 1
    assert os.listdir() == []


@dataclass
class PlacedConfig(JobConfig):
    POSITIONAL = ("place", "goal")

    place: str = ""  # where to look
    goal: str = ""  # what to look for
    lr: float = 0.1


def test_words_without_a_key_are_the_positional_values_in_turn():
    cfg = load_config("placed-job", PlacedConfig, ["a b.ply", "lr=0.5", "the lamp, left of the bed"])
    assert (cfg.place, cfg.goal, cfg.lr) == ("a b.ply", "the lamp, left of the bed", 0.5)
    cfg = load_config("placed-job", PlacedConfig, ["den.ply", "goal=the bed"])
    assert (cfg.place, cfg.goal) == ("den.ply", "the bed")
    assert "usage: sightline placed-job PLACE GOAL [key=value ...]" in job_help(
        JobShape("placed-job", PlacedConfig), ""
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["den.ply", "the", "bed"], "got 3 such words, 'den.ply', 'the', 'bed'; put a sentence in quotes"),
        (["den.ply", "place=hall.ply"], "place is given twice: as 'den.ply' and as place=hall.ply"),
    ],
)
def test_too_many_words_without_a_key_and_values_given_twice_are_named(words: list[str], message: str):
    with pytest.raises(InputError, match=message):
        load_config("placed-job", PlacedConfig, words)


def test_a_job_that_does_not_compute_on_the_device_refuses_cuda():
    for device in ("cuda", "cuda:1"):
        assert load_config("example-job", ExampleConfig, [f"device={device}"]).device == device
        with pytest.raises(InputError, match=f"device={device}: this job runs on the CPU so far; leave device=cpu"):
            load_config("whole-job", WholeConfig, [f"device={device}"])


def test_whether_a_job_uses_the_device_is_no_option_of_it():
    assert "CUDA" not in job_help(SHAPE, "")
    with pytest.raises(InputError, match="unknown key 'CUDA'"):
        load_config("example-job", ExampleConfig, ["CUDA=true"])


def test_a_missing_value_is_named_with_its_meaning():
    from omegaconf import MISSING

    @dataclass
    class Needs(ExampleConfig):
        scenes: str = MISSING  # folder of built scenes

    with pytest.raises(InputError, match=r"scenes is required: scenes=\.\.\. \(folder of built scenes\)"):
        load_config("needs-job", Needs)


@pytest.fixture
def groups():
    store = ConfigStore.instance()
    store.store(group="layer", name="shallow", node=example_job.LayerConfig)
    store.store(group="layer", name="deep", node=DeepConfig(width=64))
    store.store(name="grouped_job", node={"defaults": ["grouped_job_schema", {"layer": "shallow"}, "_self_"]})
    yield JobShape("grouped_job", ExampleConfig)
    store.repo.pop("layer")
    store.repo.pop("grouped_job.yaml")


def test_a_group_option_brings_its_own_keys(groups: JobShape, monkeypatch):
    monkeypatch.setattr("core.config.has_file", lambda name: True)
    cfg = compose_config(groups, ["layer=deep", "layer.depth=9"])
    assert cfg.layer == DeepConfig(width=64, depth=9)
    assert compose_config(groups).layer == example_job.LayerConfig()


def test_an_unknown_group_option_names_the_nearest(groups: JobShape, monkeypatch):
    monkeypatch.setattr("core.config.has_file", lambda name: True)
    with pytest.raises(InputError, match="layer=deeep: unknown option; did you mean 'deep'"):
        compose_config(groups, ["layer=deeep"])
    assert "layer=deep|shallow" in job_help(groups, "About.")


def test_a_long_list_of_options_breaks_between_them():
    assert _filled("  size=small|medium|large", " " * 7, 16) == ["  size=small|", "       medium|", "       large"]


def test_an_unknown_key_of_a_job_with_very_many_points_to_its_help(monkeypatch):
    monkeypatch.setattr("core.config.LONGEST_HINT", 20)
    with pytest.raises(
        InputError, match="unknown key 'zzz' for example-job; `sightline example-job --help` lists them"
    ):
        load_config("example-job", ExampleConfig, ["zzz=1"])


def test_a_finished_job_returns_zero_and_leaves_only_its_run_folder(capsys):
    assert run_job("example-job", ["out=r"], example_job) == 0
    assert os.listdir() == ["r"] and (Path("r") / "result.json").exists()
    assert run_job("example-job", ["out=r"], example_job) == 2
    assert "already holds a finished run" in capsys.readouterr().err


def test_a_full_disk_is_one_line(capsys):
    assert run_job("example-job", ["fail=disk"], example_job) == 2
    assert capsys.readouterr().err == (
        "error: No space left on device: /data/x.npz (free some space and continue with resume=auto)\n"
    )


def test_a_bug_keeps_its_traceback_and_an_input_error_shows_one_when_asked(monkeypatch):
    with pytest.raises(RuntimeError, match="a bug"):
        run_job("example-job", ["fail=bug"], example_job)
    monkeypatch.setenv("SIGHTLINE_TRACEBACK", "1")
    with pytest.raises(InputError):
        run_job("example-job", ["lrr=1"], example_job)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_job_says_how_to_go_on(number: signal.Signals):
    out = Path("r").absolute()
    command = [sys.executable, "-m", "tests.core.example_job", f"out={out}", "goal=a b", "wait_s=300"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # a test run in the background of a shell has SIGINT ignored, and its children inherit that
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    job = subprocess.Popen(command, cwd=ROOT, text=True, preexec_fn=heed, **pipes)
    assert job.stdout is not None and job.stdout.readline() == "running\n"
    job.send_signal(number)
    _, errors = job.communicate()
    assert job.returncode == 130
    assert errors == f"interrupted; continue with: sightline example-job 'goal=a b' wait_s=300 out={out} resume=auto\n"
    assert not (out / "result.json").exists()
    words = ["goal=a b", "wait_s=300", f"out={out}", "resume=auto"]
    cfg = load_config("example-job", ExampleConfig, words)
    RunFolder.open(cfg, "example-job").close()  # what was said to continue the run does fit it


def test_help_shows_every_key_with_type_default_and_comment():
    page = job_help(SHAPE, example_job.__doc__ or "")
    lines = page.splitlines()
    assert lines[0] == "usage: sightline example-job [key=value ...]" and "It waits, then says how long." in lines
    (lr,) = [line.split() for line in lines if line.strip().startswith("lr=")]
    assert " ".join(lr) == "lr=0.001 [number] learning rate at the peak, per update"
    for start in ("layer.width=8  [whole number]", "goal=red chair  [text]", "limit=null  [whole number or null]",
                  "verbose=false  [true/false]", "sizes=[1, 2]  [list of whole number]", "seed=0"):  # fmt: skip
        assert any(line.strip().startswith(start) for line in lines), start
    assert page.index("lr=0.001") < page.index("options of every job") < page.index("seed=0")


def test_help_of_a_job_with_jobs_inside_shows_shared_options_once():
    page = job_help(JobShape("whole-job", WholeConfig), "")
    assert "part.lr=0.001" in page and "part.seed" not in page and page.count("seed=0") == 1


def test_comments_of_inherited_fields_are_found():
    assert field_comments(DeepConfig) == {
        "width": "units per layer",
        "path": "weights to begin with",
        "depth": "layers",
    }


def test_help_needs_no_run_and_leaves_nothing(capsys):
    assert run_job("example-job", ["--help"], example_job) == 0
    assert "usage: sightline example-job" in capsys.readouterr().out and os.listdir() == []
