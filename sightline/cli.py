"""The `sightline` command. Answers without loading torch until a job is named."""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before anything can load OpenMP; see core/__init__.py

import importlib
import importlib.metadata
import importlib.util
from pathlib import Path

JOBS = {  # name: (module, what it does)
    "demo": ("agents.demo", "the whole way on small homes, from scenes to agents, ending in one report page"),
    "build-scenes": ("scene.build", "build or read homes, their graphs and referral sentences"),
    "show-scene": ("scene.show", "draw a home from above, with its graph and views"),
    "render-views": ("scene.render_views", "render captioned pictures of every home for vision-language training"),
    "pretrain-grounding": ("scene.pretrain", "train the 3D grounder on scenes and sentences"),
    "ground": ("scene.ground", "find the object a sentence describes in a scene"),
    "evaluate-grounding": ("scene.evaluate", "measure a grounder by a published protocol or on unseen homes"),
    "convert-grounder": ("scene.convert_gps", "turn a released GPS checkpoint of SceneVerse into a grounder"),
    "pretrain-vl": ("vl.pretrain", "train a vision-language model on images and texts"),
    "finetune-vl": ("vl.finetune", "train a model with a fusion on a task with answers: NLVR, SNLI-VE, VQA, RefCOCO"),
    "evaluate-vl": ("vl.evaluate", "measure retrieval, answers or classes; embed and score your own pictures"),
    "score-rewards": ("agents.score_rewards", "measure a reward model where the truth is known"),
    "train-agent": ("agents.train", "train an agent by PPO, cloning or subgoals, on the task or the VLM reward"),
    "train-grid-agent": ("agents.subgoals.train_grid", "train an agent with subgoals on a MiniGrid task"),
    "train-vlm-rm": (
        "agents.train_vlm_rm",
        "train an agent on any Gymnasium task, paid by how well pictures fit a sentence",
    ),
    "build-questions": (
        "agents.reasoning.build_questions",
        "make questions about pictures of homes, with exact answers",
    ),
    "train-reasoner": (
        "agents.reasoning.train",
        "train a model to reason about pictures or act on them, by reward or by imitation",
    ),
    "evaluate-reasoner": ("agents.reasoning.evaluate", "measure a reasoning model, and whether it answers by seeing"),
    "train-decomposer": (
        "agents.subgoals.train_decomposer",
        "train a model that turns a goal in words into steps, on ALFRED",
    ),
    "evaluate-decomposer": ("agents.subgoals.evaluate_decomposer", "measure steps proposed for ALFRED's goals"),
    "evaluate-agent": (
        "agents.evaluate",
        "measure a policy on fixed episodes: trained, a language model, random, oracle or you",
    ),
    "doctor": ("core.doctor", "check this machine, naming each fault with its fix"),
}


def main() -> None:
    """Entry point of the console command."""
    raise SystemExit(command(sys.argv[1:]))


def command(words: list[str]) -> int:
    """Runs one command line and returns its exit code: 0 done, 1 a fault was found, 2 wrong input, 130 interrupted."""
    root = Path(__file__).resolve().parents[1]
    spec = importlib.util.find_spec("core")
    if spec is None or str(root / "core") not in [
        str(Path(p).resolve()) for p in spec.submodule_search_locations or ()
    ]:
        # checked by hand: the module that checks the other packages is itself in `core`
        place = "missing" if spec is None else f"hidden by {spec.origin or list(spec.submodule_search_locations or ())}"
        print(
            f"error: Sightline's package 'core' ({root / 'core'}) is {place}; use an own environment", file=sys.stderr
        )
        return 2
    if not words or words[0] in ("--help", "-h", "help"):
        print(overview())
        return 0
    if words[0] in ("--version", "-V", "version"):
        print(f"sightline {_version()}")
        return 0
    from core.errors import nearest

    if words[0] not in JOBS:
        print(f"error: unknown job {words[0]!r}; {nearest(words[0], JOBS)}", file=sys.stderr)
        return 2
    return _start(words[0], words[1:])


def overview() -> str:
    """The page of `sightline --help`."""
    width = max(map(len, JOBS)) + 2
    lines = ["usage: sightline <job> [key=value ...]", "", "jobs"]
    lines += [f"  {name:<{width}}{about}" for name, (_, about) in JOBS.items()]
    lines += [
        "",
        "sightline <job> --help   every option of a job, with its default and meaning",
        "sightline --version      the installed version",
        "",
        "Each job writes a run folder (out=FOLDER); resume=auto continues an interrupted one.",
        "SIGHTLINE_TRACEBACK=1 shows where an error comes from.",
    ]
    return "\n".join(lines)


def _start(job: str, words: list[str]) -> int:
    from core.errors import InputError
    from core.packages import check_packages

    try:
        check_packages()
        module = importlib.import_module(JOBS[job][0])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; no run had begun", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("core", "vl", "scene", "envs", "agents", "sightline"):
            raise  # ours: a fault of the installation or of the code
        print(f"error: {job} needs the library {error.name!r}, which is not installed; `make setup` "
              "or pip install -e . in Sightline's folder installs it", file=sys.stderr)  # fmt: skip
        return 2
    from core.job import exit_code, run_job

    return exit_code(run_job(job, words, module))


def _version() -> str:
    try:
        return importlib.metadata.version("sightline")
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"


if __name__ == "__main__":
    main()
