"""The command and its words."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.cli import JOBS, command

ROOT = Path(__file__).resolve().parents[2]


def test_the_overview_lists_every_job_with_a_line(capsys):
    assert command([]) == command(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, (_, about) in JOBS.items():
        assert f"  {name} " in shown and about in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_an_unknown_job_names_the_nearest_in_one_line(capsys):
    assert command(["trian-agent"]) == 2
    assert capsys.readouterr().err == "error: unknown job 'trian-agent'; did you mean 'train-agent'?\n"


@pytest.mark.parametrize("job", JOBS)
def test_every_job_is_a_module_with_a_configuration_and_a_loop(job: str, capsys):
    module = importlib.import_module(JOBS[job][0])
    assert callable(module.run) and isinstance(module.CONFIG, type)
    source = Path(module.__file__ or "").read_text(encoding="utf-8")
    assert f'job_main("{job}")' in source, "python -m starts it under the same name"
    assert command([job, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: sightline {job}" in shown and "options of every job" in shown


@pytest.mark.parametrize("job", JOBS)
def test_every_option_of_every_job_has_a_meaning(job: str):
    from core.config import JobShape, compose_tree, leaves
    from core.help import comment_of

    shape = JobShape(job, importlib.import_module(JOBS[job][0]).CONFIG)
    tree, _ = compose_tree(shape, {})
    silent = [key for key, _ in leaves(tree) if not comment_of(shape, key)]
    assert not silent, f"no comment behind these fields: {silent}"


def test_a_foreign_package_is_noticed_at_start(tmp_path: Path):
    for name in ("agents", "core"):
        folder = tmp_path / name / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        code = f"import sys; sys.path.insert(0, {str(folder.parent)!r}); sys.path.append({str(ROOT)!r})\n"
        code += (
            f"import importlib.util as u; s = u.spec_from_file_location('cli', {str(ROOT / 'sightline/cli.py')!r})\n"
        )
        code += "m = u.module_from_spec(s); s.loader.exec_module(m); sys.exit(m.command(['doctor']))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=240)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert str(folder) in done.stderr and f"'{name}'" in done.stderr


def test_a_reader_that_leaves_early_is_no_error():
    shell = f"{sys.executable} -m sightline.cli doctor --help | head -n 1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, cwd=ROOT, env=dict(os.environ))
    assert done.stdout.startswith("usage") and done.stderr == ""
