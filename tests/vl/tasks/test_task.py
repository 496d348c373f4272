import numpy as np
import pytest

from core.errors import InputError
from vl.tasks import TASKS, Example, task_named


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_known_by_its_own_name_and_says_how_models_are_compared(name):
    task = task_named(name)
    assert task.name == name and task.main and task.images == (2 if name == "nlvr2" else 1)


@pytest.mark.parametrize("name", TASKS)
def test_a_folder_that_is_not_there_is_said(tmp_path, name):
    with pytest.raises(InputError, match=f"{name}: data=.*nothing is not a folder"):
        TASKS[name].load(tmp_path / "nothing", "test")


def test_an_unknown_task_suggests_the_nearest():
    with pytest.raises(InputError, match="task='nlvr3' is unknown; did you mean 'nlvr"):
        task_named("nlvr3")


def test_only_tasks_with_answers_have_a_label_set():
    assert TASKS["snli-ve"].label_set([]) == ("entailment", "neutral", "contradiction")
    assert TASKS["refcoco"].label_set([]) == TASKS["retrieval"].label_set([]) == ()


def test_labels_are_not_scored_on_numbers():
    with pytest.raises(InputError, match=r"one answer per example, not on \(1, 2\) numbers"):
        TASKS["nlvr1"].score([Example("1", ("1.png",), "a", "true", group="1")], np.zeros((1, 2)))


def test_nothing_is_scored_on_no_examples():
    with pytest.raises(InputError, match="0 predictions for 0 examples"):
        TASKS["nlvr1"].score([], [])
