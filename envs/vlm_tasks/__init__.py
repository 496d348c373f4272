"""The tasks of VLM-RM: Gymnasium tasks edited so that a picture is all a reward needs. By id.

They differ from Gymnasium's in that nothing but the time limit ends an episode, so that a policy's length of life says
nothing about the goal; the limit is a truncation (`TimeLimit`), never a terminal state. Each `info` has `progress`, the
true share of the way in [0, 1], and `success`, whether the goal holds now. `render()` gives square pictures of
`render_size` pixels, so a reward model's size costs no second resizing.

Drawing needs `gymnasium[classic-control]` (CartPole, MountainCar) or `gymnasium[mujoco]` (Humanoid).

Source: Rocamonde et al., arXiv:2310.12921, section 4 and appendix C; defects of the released environments (a limit told
as a terminal state, success kept over a reset) are not repeated.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class VLMTask:
    """Where a task's class is, and how many steps its episodes have."""

    entry_point: str
    steps: int


VLM_TASKS = {
    "Sightline/VLMCartPole-v0": VLMTask("envs.vlm_tasks.cartpole:VLMCartPole", 200),
    "Sightline/VLMMountainCar-v0": VLMTask("envs.vlm_tasks.mountain_car:VLMMountainCar", 200),
    "Sightline/VLMHumanoid-v0": VLMTask("envs.vlm_tasks.humanoid:VLMHumanoid", 100),
}
"""Gymnasium ids. 100 steps of Humanoid are the paper's; 200 of the other two our choice, the paper's are not known."""
