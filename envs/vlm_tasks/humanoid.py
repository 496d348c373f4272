"""Humanoid as VLM-RM has it: a pose to strike, 100 steps, no fall ends the episode; textured, seen by a fixed camera.

Against Gymnasium's Humanoid-v5: `terminate_when_unhealthy=False`, other textures (humanoid_scene.py), another camera;
model, actions and observation are its own. The task's own reward is the progress towards the pose.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled
from jaxtyping import UInt8
from numpy import ndarray

from core.errors import MissingLibraryError, check_choice
from envs.vlm_tasks import humanoid_poses as poses
from envs.vlm_tasks.humanoid_scene import choose_opengl, textured_humanoid
from envs.vlm_tasks.picture import check_render

try:
    from gymnasium.envs.mujoco import humanoid_v5
except (ImportError, DependencyNotInstalled) as missing:
    raise MissingLibraryError('the humanoid needs MuJoCo: pip install "gymnasium[mujoco]"') from missing

CAMERA = {
    "trackbodyid": 1, "distance": 3.5, "lookat": np.array((0.0, 0.0, 1.0)), "elevation": -10.0, "azimuth": 180.0,
}  # fmt: skip
"""The paper's camera; it stands still, since MuJoCo heeds `trackbodyid` in tracking cameras only."""


class VLMHumanoid(humanoid_v5.HumanoidEnv):
    """The edited humanoid; 17 torques in [-0.4, 0.4].

    `info` has `progress` towards the pose and `success`, whether it is struck now (humanoid_poses.py).

    Args:
        pose: one of humanoid_poses.POSES.
        render_mode: None, or "rgb_array".
        render_size: pixels of the square picture; the paper's is 480, its encoders read 224.

    Raises:
        InputError: unknown pose or render mode. MissingLibraryError: nothing here can draw.
    """

    def __init__(self, pose: str = "kneeling", render_mode: str | None = None, render_size: int = 224) -> None:
        check_choice("pose", pose, poses.POSES)
        check_render(render_mode, render_size)
        if render_mode is not None:
            choose_opengl()
        self.pose = pose
        original = Path(humanoid_v5.__file__).parent / "assets" / "humanoid.xml"
        handle, path = tempfile.mkstemp(suffix=".xml")  # MujocoEnv reads models from files only
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(textured_humanoid(original))
            super().__init__(
                xml_file=path,
                default_camera_config=CAMERA,  # type: ignore[arg-type]
                terminate_when_unhealthy=False,
                render_mode=render_mode,
                width=render_size,
                height=render_size,
            )
        finally:
            os.unlink(path)
        self.metadata = {**self.metadata, "render_modes": ["rgb_array"]}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ndarray, dict[str, Any]]:
        """Standing, with a little noise, as in Humanoid-v5."""
        observation, info = super().reset(seed=seed, options=options)
        return observation, info | self._truth()

    def step(  # type: ignore[override]
        self, action: ndarray
    ) -> tuple[ndarray, float, bool, bool, dict[str, Any]]:
        """Torques for 0.015 s; never ends by itself."""
        observation, _, _, _, info = super().step(action)
        info |= self._truth()
        return observation, info["progress"], False, False, info

    def render(self) -> UInt8[ndarray, "H W 3"] | None:  # type: ignore[override]
        """What the fixed camera sees."""
        return None if self.render_mode is None else np.ascontiguousarray(super().render())

    def parts(self) -> poses.Parts:
        """Where the humanoid's parts are now."""
        geom, body = self.data.geom, self.data.body

        def both(named: Any, name: str) -> ndarray:
            return np.stack([named(f"{side}_{name}").xpos for side in ("left", "right")])

        torso, hands = body("torso"), both(geom, "hand")
        turn = torso.xmat.reshape(3, 3)
        return poses.Parts(
            head=geom("head").xpos.copy(),
            pelvis=body("pelvis").xpos.copy(),
            hands=hands,
            feet=both(geom, "foot"),
            knees=both(body, "shin"),
            hips=both(body, "thigh"),
            hands_of_torso=(hands - torso.xpos) @ turn,
            upright=float(turn[2, 2]),
            knee_bend_rad=-np.array([float(self.data.joint(f"{side}_knee").qpos[0]) for side in ("left", "right")]),
        )

    def _truth(self) -> dict[str, Any]:
        parts = self.parts()
        return {"progress": poses.truth(parts, self.pose), "success": poses.struck(parts, self.pose)}
