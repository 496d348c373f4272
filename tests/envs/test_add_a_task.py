"""The guide to adding a task works as it is written."""

import re
import sys
import types
from pathlib import Path

import pytest

import envs.tasks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add_a_task.md").read_text(encoding="utf-8")
FILE, *TRIALS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.filterwarnings("ignore:.*no episode takes place in them")
def test_the_task_of_the_guide_works_as_the_guide_says(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("envs.tasks.go_to_door")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(FILE, "docs/add_a_task.md", "exec"), module.__dict__)
    names: dict = {}
    for block in TRIALS:
        exec(compile(block, "docs/add_a_task.md", "exec"), names)

    said = capsys.readouterr().out
    assert re.search(r"^go to the door of the [a-z ]+ [0-9.]+ m away$", said, re.MULTILINE) and "'success': 1.0" in said
    assert said.rstrip().endswith("1.0") and len(names["load_episodes"]("go_to_door.parquet")) == 20
    low, high = names["sim"].task.start_range_m
    start = names["sim"].reset().start_distance
    assert ((start > low) & (start <= high)).all()
    assert names["terminated"] is False and names["observation"] in names["env"].observation_space
    # by its name, as after the line in TASKS
    monkeypatch.setitem(envs.tasks.TASKS, "go_to_door", module.GoToDoor)
    assert envs.tasks.make_task("go_to_door", names["pool"]) == module.GoToDoor()


def test_the_guide_names_what_there_is():
    for path in re.findall(r"`((?:envs|scene|tests)/[\w/]+\.py)`", PAGE):
        assert (ROOT / path).is_file() or path == "envs/tasks/go_to_door.py", path
    assert '"go_to_door": GoToDoor,' in PAGE
