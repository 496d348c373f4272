"""Gymnasium ids of the tasks: `Sightline/FindObject-v0` and so on.

`import envs` registers them; `gymnasium.make("envs:Sightline/FindObject-v0")` needs no import at all.
"""

IDS = {"Sightline/FindObject-v0": "find_object"}  # id -> key of envs.tasks.TASKS


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
