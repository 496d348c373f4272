"""Vision-language tasks by name: files of the official form in, official metrics out."""

from core.errors import check_choice
from vl.tasks.captions import RETRIEVAL
from vl.tasks.classification import CLASSIFICATION
from vl.tasks.nlvr1 import NLVR1
from vl.tasks.nlvr2 import NLVR2
from vl.tasks.refcoco import REFCOCO
from vl.tasks.snli_ve import SNLI_VE
from vl.tasks.task import Example, Scores, Task, TaskData
from vl.tasks.vqa import VQA

TASKS: dict[str, Task] = {
    "nlvr1": NLVR1,
    "nlvr2": NLVR2,
    "snli-ve": SNLI_VE,
    "vqa": VQA,
    "refcoco": REFCOCO,
    "retrieval": RETRIEVAL,
    "classification": CLASSIFICATION,
}


def task_named(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: unknown; the nearest name is suggested.
    """
    check_choice("task", name, TASKS)
    return TASKS[name]


__all__ = ["TASKS", "Example", "Scores", "Task", "TaskData", "task_named"]
