"""Gymnasium ids of the tasks: `Sightline/FindObject-v0` and so on.

`import envs` registers them; `gymnasium.make("envs:Sightline/FindObject-v0")` needs no import at all.
"""

from envs.tasks import TASKS
from envs.vlm_tasks import VLM_TASKS


def gymnasium_id(task: str) -> str:
    """The id of a task: "find_object" is Sightline/FindObject-v0."""
    return f"Sightline/{''.join(word.capitalize() for word in task.split('_'))}-v0"


IDS = {gymnasium_id(task): task for task in TASKS}  # id -> key of TASKS


def register_tasks() -> None:
    """Makes the ids known to gymnasium.make and gymnasium.make_vec; may be called again."""
    import gymnasium

    for name, task in IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="envs.gym_env:GymEnv",
                vector_entry_point="envs.vector_env:GymVectorEnv",
                kwargs={"task": task},
            )
    for name, outside in VLM_TASKS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=outside.entry_point, max_episode_steps=outside.steps)
