"""Starting a job: typed configuration, clear errors, clean interruption.

A job module holds

    @dataclass
    class TrainConfig(JobConfig):
        lr: float = 3e-4  # peak learning rate

    CONFIG = TrainConfig

    def run(cfg: TrainConfig) -> dict: ...

    if __name__ == "__main__":
        job_main("train-agent")

and configs/train_agent.yaml starts with `defaults: [train_agent_schema, _self_]`. `sightline train-agent lr=1e-3` and
`python -m agents.train lr=1e-3` are the same.
"""

import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, NoReturn

from core.config import JobShape, compose_config
from core.errors import InputError, check_choice
from core.packages import check_packages

EXIT_INPUT, EXIT_INTERRUPTED = 2, 130
SEEDS = 2**32  # how many there are: what every generator in use takes


@dataclass
class JobConfig:
    """What every job takes."""

    CUDA: ClassVar[bool] = False
    """Whether the job computes on `device`; a job that does sets True, all others refuse anything but the CPU."""
    POSITIONAL: ClassVar[tuple[str, ...]] = ()
    """Keys whose values may stand on the command line without their key, in this order."""

    out: str = ""  # run folder; empty = runs/<job>/<date-time>
    seed: int = 0  # decides every random draw
    resume: str = "no"  # no = start a new run; auto = continue the one in out, or start it if there is none
    threads: int = 0  # processor threads; 0 = OMP_NUM_THREADS where set, else all cores
    device: str = "cpu"  # cpu, cuda or cuda:<index>
    wandb: str = "off"  # mirror metrics to Weights & Biases: off, offline (files only) or online

    def __post_init__(self) -> None:
        check_choice("resume", self.resume, ("no", "auto"))
        check_choice("wandb", self.wandb, ("off", "offline", "online"))
        if self.threads < 0:
            raise InputError(f"threads={self.threads}: give 0 (all cores) or a positive number")
        if not 0 <= self.seed < SEEDS:
            raise InputError(f"seed={self.seed}: give a whole number from 0 to {SEEDS - 1}")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise InputError(f"device={self.device!r}: expected cpu, cuda or cuda:<index>")
        if self.device != "cpu" and not self.CUDA:
            raise InputError(f"device={self.device}: this job runs on the CPU so far; leave device=cpu")

    @property
    def run_folder(self) -> str:
        """Where the run folder lies for a given `out`; a job whose `out` is a product of its own overrides this."""
        return self.out


def load_config(job: str, config_class: type, overrides: Sequence[str] = ()) -> Any:
    """The checked configuration object of a job: schema, then configs/<job>.yaml, then `overrides` ("key=value").

    Raises:
        InputError: unknown key, group option or syntax; a value of the wrong type; a combination the job refuses.
    """
    cfg = compose_config(JobShape(job, config_class), overrides)
    if isinstance(cfg, JobConfig):
        JobConfig.__post_init__(cfg)  # also where the subclass has an own __post_init__
    return cfg


def job_main(job: str, argv: Sequence[str] | None = None, module: ModuleType | None = None) -> NoReturn:
    """Runs a job from the command line and exits: 0 done, 1 the job found a fault, 2 wrong input, 130 interrupted."""
    raise SystemExit(exit_code(run_job(job, sys.argv[1:] if argv is None else argv, module or sys.modules["__main__"])))


def exit_code(code: int) -> int:
    """The code itself; a process that was one of several (torchrun) ends here, see core/distributed.leave."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and (several := sys.modules.get("core.distributed")):
        several.leave(code)
    return code


def run_job(job: str, argv: Sequence[str], module: ModuleType) -> int:
    """Runs the job of `module` with command line words `argv` and returns the exit code, errors shown in one line."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        check_packages()
        if any(word in ("--help", "-h", "help") for word in argv):
            from core.help import job_help

            print(job_help(JobShape(job, module.CONFIG), module.__doc__ or ""))
            return 0
        cfg = load_config(job, module.CONFIG, argv)
        _prepare(cfg)
        result = module.run(cfg)
        if (run_module := sys.modules.get("core.run")) and (finished := run_module.last_finished()):
            print(f"run folder: {finished}")
        return int(result.get("exit_code", 0)) if isinstance(result, dict) else 0
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cut off the closing words
        _show(f"interrupted; {_how_to_continue(job, argv)}")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output, e.g. `head`, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INPUT
    except (InputError, OSError) as error:
        if os.environ.get("SIGHTLINE_TRACEBACK") == "1":
            raise
        _show(f"error: {_one_line(error)}")
        if run_module := sys.modules.get("core.run"):
            run_module.discard_fresh()
        return EXIT_INPUT
    finally:
        signal.signal(signal.SIGTERM, previous)


def _prepare(cfg: Any) -> None:
    if not isinstance(cfg, JobConfig):
        return
    from core.threads import use_threads

    use_threads(cfg.threads)
    if cfg.device.startswith("cuda"):
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(cfg.device.partition(":")[2] or 0)
        if index >= count:
            found = f"torch sees {count} CUDA device(s)" if count else "torch sees no CUDA device"
            raise InputError(f"device={cfg.device}: {found}; use device=cpu, or let `sightline doctor` look")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _how_to_continue(job: str, argv: Sequence[str]) -> str:
    run_module = sys.modules.get("core.run")  # loaded by the job if it has a run folder at all
    run = run_module.unfinished_run() if run_module else None
    if run_module is None or run is None:
        return "no run had begun"
    run_module.close_all()
    same = [word for word in argv if not re.match(r"\+*(out|resume)=", word)]
    return "continue with: " + shlex.join(["sightline", run.job, *same, f"out={run.out}", "resume=auto"])


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and not isinstance(error, InputError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        hint = " (free some space and continue with resume=auto)" if error.errno == 28 else ""
        return f"{error.strerror}{place}{hint}"
    return " ".join(str(error).split()) or type(error).__name__


def _show(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
