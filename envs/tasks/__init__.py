"""Tasks by name. A new one is a file beside find_object.py and a line here."""

from core.errors import InputError, nearest
from envs.goals import Task
from envs.pool import HomePool
from envs.tasks.find_object import FindObject
from envs.tasks.find_referral import FindReferral
from envs.tasks.follow_instruction import FollowInstruction
from envs.tasks.point_goal import PointGoal
from envs.tasks.rearrange import Rearrange

TASKS: dict[str, type[Task]] = {
    "find_object": FindObject,
    "find_referral": FindReferral,
    "follow_instruction": FollowInstruction,
    "point_goal": PointGoal,
    "rearrange": Rearrange,
}


def make_task(task: str | Task, pool: HomePool) -> Task:
    """A task by name, with the goals that the pool's homes offer; a task that is one already is handed back.

    Raises:
        InputError: no task has this name, or it is neither a name nor a task.
    """
    if isinstance(task, type) or not (isinstance(task, str) or hasattr(task, "region")):
        raise InputError(f"a task is a name ({', '.join(TASKS)}) or a task such as FindObject(pairs=...), got {task!r}")
    if not isinstance(task, str):
        return task
    if task not in TASKS:
        raise InputError(f"there is no task {task!r}: {nearest(task, TASKS)}")
    return TASKS[task].from_pool(pool)
