"""The conventions page does what it says."""

import numpy as np

from core.conventions import camera_pose, intrinsics_from_fov, wrap_angle


def test_a_camera_at_yaw_zero_looks_along_x_with_y_down():
    pose = camera_pose(np.array([1.0, 2.0, 3.0]), yaw_rad=0.0)
    right, down, forward = pose[:3, 0], pose[:3, 1], pose[:3, 2]
    assert np.allclose([right, down, forward], [[0, -1, 0], [0, 0, -1], [1, 0, 0]])
    assert np.allclose(pose[:3, 3], [1, 2, 3])


def test_yaw_turns_left_and_pitch_looks_up():
    assert np.allclose(camera_pose(np.zeros(3), yaw_rad=np.pi / 2)[:3, 2], [0, 1, 0])
    assert camera_pose(np.zeros(3), yaw_rad=1.0, pitch_rad=0.3)[2, 2] > 0


def test_a_pose_is_a_right_handed_rotation_at_any_angle():
    for yaw, pitch in ((0.3, 0.2), (-2.0, -1.0), (5.0, 0.7)):
        rotation = camera_pose(np.zeros(3), yaw, pitch)[:3, :3]
        assert np.allclose(rotation.T @ rotation, np.eye(3)) and np.isclose(np.linalg.det(rotation), 1.0)


def test_ninety_degrees_put_the_edge_of_the_image_at_45_degrees():
    focal, centre = intrinsics_from_fov(64, 48, np.pi / 2)[[0, 0], [0, 2]]
    assert np.isclose((64 - centre) / focal, 1.0)


def test_angles_wrap_to_half_open_interval():
    assert np.allclose(wrap_angle(np.array([np.pi, -np.pi, 3 * np.pi + 0.5])), [-np.pi, -np.pi, -np.pi + 0.5])
