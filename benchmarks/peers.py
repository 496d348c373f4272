"""The renderers and simulators that benchmarks/ measures beside ours, each behind a function that takes some steps.

Everything comes from the `bench` extra and draws through EGL. MiniWorld, pyrender and MuJoCo can share one process;
`MiniWorldProcesses` runs several of MiniWorld, as one would to use several cores; `python -m benchmarks.peers` is such
a process.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

Take = Callable[[], int]  # takes some steps or frames and returns how many

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
os.environ.setdefault("MUJOCO_GL", "egl")


_closing: list[Callable[[], None]] = []


def close() -> None:
    """Ends the renderers made so far, the last one first: pyrender ends EGL for the whole process."""
    while _closing:
        _closing.pop()()


@dataclass(frozen=True)
class Mesh:
    """What is handed to every renderer."""

    vertices: ndarray  # (V, 3) float32
    faces: ndarray  # (F, 3) int32
    colors: ndarray  # (F, 3) uint8


def _missing(name: str, error: Exception) -> SystemExit:
    # an import fails where EGL is missing, with whatever the driver raises
    return SystemExit(
        f"{name} does not start ({type(error).__name__}: {error}). `make bench` installs it and EGL; by hand: "
        "pip install -c constraints.txt -e '.[bench]', apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0"
    )


def gymnasium_steps(env, actions: list[int], at_once: int = 64) -> Take:
    """Random actions in one Gymnasium environment, reset where an episode ends."""
    env.reset(seed=0)
    rng = np.random.default_rng(0)

    def take() -> int:
        for action in rng.choice(actions, at_once):
            _, _, terminated, truncated, _ = env.step(int(action))
            if terminated or truncated:
                env.reset()
        return at_once

    return take


def miniworld() -> Take:
    """MiniWorld's FourRooms: 64x64 RGB, in this process."""
    try:
        import pyglet

        pyglet.options["headless"] = True
        import gymnasium
        import miniworld  # noqa: F401  # registers its tasks

        env = gymnasium.make("MiniWorld-FourRooms-v0", obs_width=64, obs_height=64)
    except Exception as error:
        raise _missing("MiniWorld", error) from error
    return gymnasium_steps(env, [0, 1, 2])


class MiniWorldProcesses:
    """Several processes that each run MiniWorld's FourRooms at the same time."""

    def __init__(self, count: int) -> None:
        self.children = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.peers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(count)
        ]
        for child in self.children:
            self._answer(child)  # "ready"

    def run(self, seconds: float) -> tuple[float, float]:
        """Steps per wall second, all processes together, and per processor second."""
        for child in self.children:
            assert child.stdin is not None
            child.stdin.write(f"{seconds}\n")
            child.stdin.flush()
        parts = np.array([[float(x) for x in self._answer(child).split()] for child in self.children])
        steps, wall, processor = parts.T
        return float((steps / wall).sum()), float(steps.sum() / processor.sum())

    def close(self) -> None:
        """Ends the processes."""
        for child in self.children:
            child.kill()
            child.wait()

    @staticmethod
    def _answer(child: subprocess.Popen) -> str:
        assert child.stdout is not None
        while True:
            line = child.stdout.readline()
            if not line:
                raise SystemExit(f"a MiniWorld process ended with exit code {child.wait()}; its message is above")
            if line.startswith(">"):  # the libraries print on the same stream
                return line[1:].strip()


def _serve() -> None:
    """One of the processes: reads seconds, answers steps, wall and processor seconds."""
    take = miniworld()
    take()
    print(">ready", flush=True)
    for line in sys.stdin:
        steps, wall, processor = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < float(line):
            steps += take()
        print(f">{steps} {time.perf_counter() - wall} {time.process_time() - processor}", flush=True)


_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL's camera looks along -z, y up


def pyrender(mesh: Mesh, poses: ndarray, size: int) -> Take:
    """pyrender's OffscreenRenderer: RGB and depth from `poses` (B, 4, 4), 90 degrees, one light."""
    try:
        np.infty = np.inf  # type: ignore[attr-defined]  # the name that pyrender uses left numpy with version 2
        import pyrender as library
        import trimesh

        shape = trimesh.Trimesh(mesh.vertices, mesh.faces, face_colors=mesh.colors, process=False)
        scene = library.Scene(ambient_light=(0.5, 0.5, 0.5))
        scene.add(library.Mesh.from_trimesh(shape, smooth=False))
        scene.add(library.DirectionalLight(intensity=2.0), pose=np.eye(4))
        camera = scene.add(library.PerspectiveCamera(np.pi / 2, znear=0.05, zfar=50.0, aspectRatio=1.0))
        renderer = library.OffscreenRenderer(size, size)
        _closing.append(renderer.delete)
        renderer.render(scene)
    except Exception as error:
        raise _missing("pyrender", error) from error
    cameras = poses @ _TO_OPENGL
    at = 0

    def take() -> int:
        nonlocal at
        for _ in range(8):
            scene.set_pose(camera, cameras[at % len(cameras)])
            color, depth = renderer.render(scene)
            assert color.shape == (size, size, 3) and (depth > 0).any(), "an empty picture"
            at += 1
        return 8

    return take


def mujoco(mesh: Mesh, poses: ndarray, size: int) -> Take:
    """MuJoCo's Renderer: RGB, then depth, from `poses` (B, 4, 4), 90 degrees; the mesh in one colour, no shadows."""
    try:
        import ctypes

        from OpenGL import EGL

        if not hasattr(EGL, "EGLDeviceEXT"):  # pyrender asks for a PyOpenGL that lacks the name of this opaque pointer
            EGL.EGLDeviceEXT = ctypes.c_void_p
        import mujoco as library

        spec = library.MjSpec()
        spec.add_mesh(
            name="home",
            uservert=mesh.vertices.ravel().tolist(),
            userface=mesh.faces.ravel().tolist(),
            inertia=library.mjtMeshInertia.mjMESH_INERTIA_SHELL,  # walls are no solids
        )
        spec.worldbody.add_geom(type=library.mjtGeom.mjGEOM_MESH, meshname="home", contype=0, conaffinity=0)
        spec.worldbody.add_camera(name="eye", fovy=90)
        model = spec.compile()
        model.vis.map.znear = 0.05 / model.stat.extent
        data = library.MjData(model)
        library.mj_forward(model, data)
        renderer = library.Renderer(model, size, size)
        _closing.append(renderer.close)
        renderer.update_scene(data, camera="eye")
        renderer.render()
    except Exception as error:
        raise _missing("MuJoCo", error) from error
    cameras = poses @ _TO_OPENGL
    at = 0

    def take() -> int:
        nonlocal at
        for _ in range(8):
            pose = cameras[at % len(cameras)]
            data.cam_xpos[0], data.cam_xmat[0] = pose[:3, 3], pose[:3, :3].ravel()
            renderer.update_scene(data, camera="eye")
            renderer.disable_depth_rendering()
            color = renderer.render()
            renderer.enable_depth_rendering()
            depth = renderer.render()
            assert color.any() and depth.shape == (size, size), "an empty picture"
            at += 1
        return 8

    return take


if __name__ == "__main__":
    _serve()
