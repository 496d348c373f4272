"""Imports point down, heavy libraries load late, and the command line answers without them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = ["core", "vl", "scene", "envs", "agents"]  # a package may import itself and those before it
OURS = {*ORDER, "configs", "sightline"}
LATE = {"open3d", "wandb", "torch_geometric", "stable_baselines3", "warp", "ray", "trl"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path, *, top_level_only: bool = False) -> list[tuple[str, int]]:
    """Top-level package name and line of every import in a file; those under `if TYPE_CHECKING` count as imports of
    our own packages, but load nothing."""
    found: list[tuple[str, int]] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; name the package"
            found.append(((node.module or "").split(".")[0], node.lineno))
        if top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if top_level_only and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize("package", ORDER)
def test_imports_point_down(package: str):
    above = OURS - set(ORDER[: ORDER.index(package) + 1])
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for name, line in imported(path)
        if name in above
    ]
    assert not wrong, wrong


def test_an_upward_import_would_be_found(tmp_path: Path):
    file = tmp_path / "bad.py"
    file.write_text("def f():\n    from agents.ppo import update\n")
    assert imported(file) == [("agents", 2)]


@pytest.mark.parametrize("package", [*ORDER, "sightline"])
def test_heavy_libraries_are_imported_where_they_are_used(package: str):
    exempt = {
        ROOT / "agents" / "sb3_rewards.py",  # callbacks and wrappers of stable-baselines3; imported where they are used
        ROOT / "agents" / "sb3_checkpoint.py",  # the state of its learners on file
        ROOT / "agents" / "train_vlm_rm.py",  # the job that trains them
        ROOT / "envs" / "sb3_env.py",  # the adapter to stable-baselines3; nothing else imports it
        ROOT / "scene" / "warp_kernels.py",  # kernels, which Warp compiles where they stand
        ROOT / "scene" / "relation_conv.py",  # a layer of torch-geometric; imported by models that have one
    }
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        if path not in exempt
        for name, line in imported(path, top_level_only=True)
        if name in LATE
    ]
    assert not wrong, wrong


def test_the_command_line_imports_only_core_by_name():
    names = {name for name, _ in imported(ROOT / "sightline" / "cli.py") if name in OURS}
    assert names == {"core"}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["no-such-job"]])
def test_the_command_line_answers_without_heavy_libraries(words: list[str]):
    code = (
        "import sys\nfrom sightline.cli import command\n"
        f"command({words!r})\n"
        "print([name for name in ('torch', 'transformers', 'hydra', 'numpy', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=240)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_importing_the_public_api_loads_no_heavy_library():
    code = "import sightline, sys; print([n for n in ('torch', 'transformers', 'numpy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=240)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
