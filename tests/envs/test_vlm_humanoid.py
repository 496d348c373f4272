import importlib
import importlib.util
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError, MissingLibraryError
from envs.vlm_tasks import humanoid_scene
from envs.vlm_tasks.humanoid_poses import POSES, Parts, struck, truth

HERE = importlib.util.find_spec("gymnasium")
MODEL = Path(HERE.origin).parent / "envs/mujoco/assets/humanoid.xml"
needs_mujoco = pytest.mark.skipif(
    importlib.util.find_spec("mujoco") is None, reason='MuJoCo is not installed: pip install "gymnasium[mujoco]"'
)


def standing() -> Parts:
    """Measures of the model as it stands, arms hanging out to the sides."""
    sides = np.array([1.0, -1.0])

    def both(x, y, z):
        return np.stack([np.array([x, y * side, z]) for side in sides])

    return Parts(
        head=np.array([0, 0, 1.59]),
        pelvis=np.array([0, 0, 0.975]),
        hands=both(0.1, 0.6, 1.0),
        feet=both(0, 0.1, 0.1),
        knees=both(0, 0.1, 0.5),
        hips=both(0, 0.1, 0.93),
        hands_of_torso=both(0.1, 0.6, -0.4),
        upright=1.0,
        knee_bend_rad=np.array([0.1, 0.1]),
    )


def test_a_standing_body_strikes_the_standing_pose_alone():
    assert [pose for pose in POSES if struck(standing(), pose)] == ["standing"]
    assert truth(standing(), "standing") == 1.0


def test_a_fallen_body_strikes_no_pose():
    fallen = replace(standing(), head=np.array([0.7, 0, 0.1]), pelvis=np.array([0, 0, 0.1]), upright=0.0)
    assert not any(struck(fallen, pose) for pose in POSES)


def test_kneeling_grows_as_the_knees_go_down_and_is_struck_upright_on_them():
    down = replace(
        standing(),
        head=np.array([0, 0, 1.1]),
        pelvis=np.array([0, 0, 0.5]),
        knees=np.array([[0, 0.1, 0.08], [0, -0.1, 0.08]]),
        feet=np.array([[-0.4, 0.1, 0.1], [-0.4, -0.1, 0.1]]),
        knee_bend_rad=np.array([1.5, 1.5]),
    )
    half = replace(down, knees=np.array([[0, 0.1, 0.3], [0, -0.1, 0.3]]), pelvis=np.array([0, 0, 0.75]))
    assert truth(standing(), "kneeling") < truth(half, "kneeling") < truth(down, "kneeling") == 1.0
    assert struck(down, "kneeling") and not struck(half, "kneeling") and not struck(down, "standing")


def test_raised_arms_hips_and_a_lifted_leg_are_told_apart():
    body = standing()
    raised = replace(body, hands=np.array([[0, 0.3, 1.9], [0, -0.3, 1.9]]))
    on_hips = replace(body, hands=body.hips + [0, 0, 0.05])
    lifted = replace(body, feet=np.array([[0, 0.1, 0.5], [0, -0.1, 0.1]]))
    crossed = replace(body, hands_of_torso=np.array([[0.2, -0.15, -0.1], [0.2, 0.15, -0.1]]))
    for pose, parts in (("arms-raised", raised), ("hands-on-hips", on_hips), ("one-leg", lifted),
                        ("arms-crossed", crossed)):  # fmt: skip
        named = {name for name in POSES if struck(parts, name)} - {"standing"}
        assert named == {pose}


def test_textures_replace_the_models_own_and_leave_body_and_joints_as_they_are():
    before, after = ElementTree.parse(MODEL).getroot(), ElementTree.fromstring(humanoid_scene.textured_humanoid(MODEL))

    def bodies(root):
        return [(item.tag, sorted(item.attrib.items())) for item in root.findall("worldbody/body//*")]

    assert bodies(before) == bodies(after)
    assert [t.get("builtin") for t in after.findall("asset/texture")] == ["gradient", "gradient", "checker"]
    assert all("file" not in t.attrib for t in after.findall("asset/texture"))
    assert after.find("asset/material[@name='MatPlane']").get("reflectance") == "0"


def test_where_neither_egl_nor_osmesa_draws_the_error_names_what_to_install(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(humanoid_scene, "_draws", lambda backend: False)
    with pytest.raises(MissingLibraryError, match="libegl1.*libosmesa6"):
        humanoid_scene.choose_opengl()


def test_the_first_way_to_draw_that_works_is_taken_and_a_chosen_one_is_kept(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(humanoid_scene, "_draws", lambda backend: backend == "osmesa")
    humanoid_scene.choose_opengl()
    assert humanoid_scene.os.environ["MUJOCO_GL"] == "osmesa"
    monkeypatch.setattr(humanoid_scene, "_draws", lambda backend: pytest.fail("tried although chosen"))
    humanoid_scene.choose_opengl()


def test_without_mujoco_the_error_names_the_extra(monkeypatch):
    for name in [n for n in sys.modules if n.startswith(("gymnasium.envs.mujoco", "envs.vlm_tasks.humanoid"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(MissingLibraryError, match=r"gymnasium\[mujoco\]"):
        importlib.import_module("envs.vlm_tasks.humanoid")


@needs_mujoco
def test_the_humanoid_starts_standing_and_a_fall_does_not_end_its_hundred_steps():
    import gymnasium

    import envs  # noqa: F401

    env = gymnasium.make("Sightline/VLMHumanoid-v0", pose="standing")
    _, info = env.reset(seed=0)
    assert info["success"] and info["progress"] > 0.95
    steps = [env.step(env.action_space.low) for _ in range(100)]
    assert [step[2:4] for step in steps] == [(False, False)] * 99 + [(False, True)]
    assert all(step[1] == step[4]["progress"] for step in steps) and not steps[-1][4]["success"]


@needs_mujoco
def test_the_humanoid_is_drawn_without_a_display():
    from envs.vlm_tasks.humanoid import VLMHumanoid

    with pytest.raises(InputError, match="pose='kneel'"):
        VLMHumanoid(pose="kneel")
    try:
        env = VLMHumanoid(render_mode="rgb_array", render_size=64)
    except MissingLibraryError as error:
        pytest.skip(str(error))
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    sky, floor = picture[4].mean(0), picture[-4].mean(0)
    assert sky[2] > sky[0] and floor[0] > floor[2]  # blue above, wood below
    assert picture[16:56, 28:36].std() > 20  # the body stands in the middle
    env.close()
