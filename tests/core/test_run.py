"""Run folders: what they record, when they open again, who may write."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from core.errors import InputError
from core.job import JobConfig
from core.run import RunFolder, close_all, read_metrics, unfinished_run


@dataclass
class Inner:
    n: int = 3


@dataclass
class Config(JobConfig):
    CUDA = True

    lr: float = 0.1
    inner: Inner = field(default_factory=Inner)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_run_records_configuration_version_metrics_and_result(tmp_path: Path):
    with RunFolder.open(Config(out="r", seed=5), "try") as run:
        run.log(1, loss=0.5, split="val")
        assert run.result() is None
        run.finish({"score": 1.5})
    assert sorted(os.listdir("r")) == [".lock", "config.yaml", "metrics.jsonl", "result.json", "version.json"]
    assert "seed: 5" in Path("r/config.yaml").read_text() and "n: 3" in Path("r/config.yaml").read_text()
    assert {"job", "code", "python", "torch", "threads", "platform"} <= json.loads(
        Path("r/version.json").read_text()
    ).keys()
    assert read_metrics("r") == [{"step": 1, "loss": 0.5, "split": "val"}]
    assert run.result() == {"score": 1.5}


def test_without_out_the_folder_is_named_by_job_and_time():
    first, second = RunFolder.open(Config(), "try"), RunFolder.open(Config(), "try")
    assert first.path.parent == Path("runs/try") and first.path != second.path
    first.close()
    second.close()


def test_an_existing_run_is_not_overwritten():
    RunFolder.open(Config(out="r"), "try").close()
    with pytest.raises(InputError, match="an unfinished run; add resume=auto"):
        RunFolder.open(Config(out="r"), "try")
    RunFolder.open(Config(out="r", resume="auto"), "try").finish({})
    with pytest.raises(InputError, match="a finished run"):
        RunFolder.open(Config(out="r"), "try")


def test_other_folders_and_files_are_left_alone(tmp_path: Path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    for resume in ("no", "auto"):
        with pytest.raises(InputError, match="not a run folder"):
            RunFolder.open(Config(out="home", resume=resume), "try")
    with pytest.raises(InputError, match="is a file"):
        RunFolder.open(Config(out="home/letter.txt"), "try")
    assert os.listdir("home") == ["letter.txt"]


def test_resuming_with_another_configuration_names_the_keys():
    RunFolder.open(Config(out="r"), "try").close()
    with pytest.raises(InputError, match=r"inner\.n was 3, now 4; lr was 0\.1, now 0\.2"):
        RunFolder.open(Config(out="r", resume="auto", lr=0.2, inner=Inner(4)), "try")
    with pytest.raises(InputError, match="holds a run of try, not of other"):
        RunFolder.open(Config(out="r", resume="auto"), "other")


def test_device_threads_and_mirror_may_change_between_parts():
    RunFolder.open(Config(out="r"), "try").close()
    run = RunFolder.open(Config(out="r", resume="auto", threads=3, device="cuda"), "try")
    assert not run.fresh and "device: cpu" in (run.path / "config.yaml").read_text()  # the first part's record stays
    run.close()


def test_resume_without_out_takes_the_newest_unfinished_run_of_this_configuration():
    for name, lr, done in (("1", 0.1, False), ("2", 0.1, False), ("3", 0.1, True), ("4", 0.2, False)):
        run = RunFolder.open(Config(out=f"runs/try/{name}", lr=lr), "try")
        run.finish({}) if done else run.close()
    with RunFolder.open(Config(resume="auto"), "try") as run:
        assert run.path == Path("runs/try/2")
    with RunFolder.open(Config(resume="auto", lr=0.5), "try") as run:
        assert run.path.name not in "1234"


def test_a_run_killed_before_its_configuration_was_written_starts_afresh(tmp_path: Path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "version.json").write_text("{}")
    (tmp_path / "r" / ".config.yaml.tmp-1").write_text("lr:")
    RunFolder.open(Config(out="r"), "try").close()
    assert ".config.yaml.tmp-1" not in os.listdir("r")


def test_rewind_drops_later_rows_and_a_torn_last_line():
    with RunFolder.open(Config(out="r"), "try") as run:
        for step in (1, 2, 3):
            run.log(step, loss=float(step))
    with open("r/metrics.jsonl", "ab") as file:
        file.write(b'{"step": 4, "lo')
    with RunFolder.open(Config(out="r", resume="auto"), "try") as run:
        assert [row["step"] for row in run.rows()] == [1, 2, 3]
        run.rewind(2)
        run.log(3, loss=3.5)
    assert [row["loss"] for row in read_metrics("r")] == [1.0, 2.0, 3.5]


def test_logging_after_a_torn_line_without_a_rewind_does_not_glue_rows():
    with RunFolder.open(Config(out="r"), "try") as run:
        run.log(1, loss=1.0)
    with open("r/metrics.jsonl", "ab") as file:
        file.write(b'{"step": 2')
    with RunFolder.open(Config(out="r", resume="auto"), "try") as run:
        run.log(2, loss=2.0)
    assert [row["loss"] for row in read_metrics("r")] == [1.0, 2.0]


def test_a_damaged_line_in_the_middle_is_reported():
    with RunFolder.open(Config(out="r"), "try") as run:
        run.log(1, loss=1.0)
    Path("r/metrics.jsonl").write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(InputError, match="line 1 is damaged"):
        read_metrics("r")


def test_two_processes_cannot_write_to_one_run_and_wandb_is_not_loaded_unasked():
    code = (
        "import sys, time\nfrom core.job import JobConfig\nfrom core.run import RunFolder\n"
        "run = RunFolder.open(JobConfig(out='r'), 'try')\nrun.log(1, a=1)\n"
        "print('wandb' in sys.modules, flush=True)\ntime.sleep(300)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "False\n"
        with pytest.raises(InputError, match=rf"another process \(id {holder.pid}\) is writing"):
            RunFolder.open(JobConfig(out="r", resume="auto"), "try")
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    RunFolder.open(JobConfig(out="r", resume="auto"), "try").close()  # a killed holder does not block


def test_a_run_left_open_by_a_failed_job_of_this_process_can_be_continued():
    RunFolder.open(Config(out="r"), "try")
    with RunFolder.open(Config(out="r", resume="auto"), "try") as run:
        assert unfinished_run() is run
    assert unfinished_run() is None


def test_the_outermost_run_that_was_cut_off_is_remembered():
    outer = RunFolder.open(Config(out="outer"), "whole")
    with pytest.raises(KeyboardInterrupt), outer, RunFolder.open(Config(out="inner"), "part"):
        raise KeyboardInterrupt
    assert unfinished_run() is outer
    close_all()
    assert unfinished_run() is None


@pytest.mark.slow
def test_wandb_offline_writes_files_without_an_account(monkeypatch, tmp_path: Path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with RunFolder.open(Config(out="r", wandb="offline"), "try") as run:
        run.log(1, loss=0.5)
        run.finish({"score": 1})
    assert list(Path("r/wandb").glob("offline-run-*/run-*.wandb"))
    assert read_metrics("r") == [{"step": 1, "loss": 0.5}]


def test_wrong_input_leaves_no_folder_but_work_done_stays(tmp_path):
    from core.run import discard_fresh

    untouched = RunFolder.open(JobConfig(out=str(tmp_path / "untouched")), "example")
    worked = RunFolder.open(JobConfig(out=str(tmp_path / "worked")), "example")
    worked.log(1, loss=0.5)
    discard_fresh()
    assert not untouched.path.exists() and worked.rows() == [{"step": 1, "loss": 0.5}]
    worked.close()

    again = RunFolder.open(JobConfig(out=str(tmp_path / "worked"), resume="auto"), "example")
    (again.path / "metrics.jsonl").unlink()
    discard_fresh()  # not made by this process's run: someone else's folder
    assert again.path.exists()
    again.close()


def test_a_folder_another_process_writes_to_is_not_free(tmp_path):
    import subprocess
    import sys

    from core.run import check_free

    run = RunFolder.open(JobConfig(out=str(tmp_path / "run")), "example")
    code = "import sys; from pathlib import Path; from core.run import check_free; check_free(Path(sys.argv[1]))"
    other = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True)
    assert "another process" in other.stderr
    run.close()
    check_free(run.path)
