"""Vision-language tasks by name: files of the official form in, official metrics out."""

from core.errors import check_choice
from vl.tasks.nlvr1 import NLVR1
from vl.tasks.task import Example, Scores, Task, TaskData

TASKS: dict[str, Task] = {
    "nlvr1": NLVR1,
}


def task_named(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: unknown; the nearest name is suggested.
    """
    check_choice("task", name, TASKS)
    return TASKS[name]


__all__ = ["TASKS", "Example", "Scores", "Task", "TaskData", "task_named"]
