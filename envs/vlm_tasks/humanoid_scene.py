"""The humanoid in a textured scene, and the OpenGL that draws it without a display.

The paper found textures to be what makes a vision-language model see the humanoid (success at kneeling 36 % -> 91 %).
Gymnasium's own model file is edited: sky, tiled floor without reflections and a metallic body. MuJoCo makes all three
from a few numbers; the paper's PNG files are not used.
"""

import functools
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from core.errors import MissingLibraryError

TEXTURES = (
    {"type": "skybox", "builtin": "gradient", "rgb1": ".50 .70 .92", "rgb2": ".93 .95 .97", "width": "256",
     "height": "1536"},
    {"name": "texgeom", "type": "cube", "builtin": "gradient", "rgb1": ".80 .82 .86", "rgb2": ".42 .45 .52",
     "mark": "random", "markrgb": ".25 .27 .32", "random": "0.02", "width": "128", "height": "768"},
    {"name": "texplane", "type": "2d", "builtin": "checker", "rgb1": ".66 .59 .49", "rgb2": ".50 .44 .36",
     "mark": "edge", "markrgb": ".30 .26 .21", "width": "256", "height": "256"},
)  # fmt: skip
MATERIALS = (
    {"name": "MatPlane", "texture": "texplane", "texrepeat": "1 1", "texuniform": "true", "reflectance": "0",
     "shininess": "0", "specular": "0"},
    {"name": "geom", "texture": "texgeom", "texuniform": "true", "specular": ".6", "shininess": ".6"},
)  # fmt: skip
LAMP = {"directional": "true", "pos": "-3 2 4", "dir": "3 -2 -3", "diffuse": ".25 .25 .25", "specular": ".2 .2 .2",
        "castshadow": "false"}  # fmt: skip
SHADOW_PIXELS = "1024"  # side of the shadow map; MuJoCo's 4096 is most of the time where a CPU draws
BACKENDS = ("egl", "osmesa")
TRIAL = "from mujoco.{0} import GLContext; c = GLContext(16, 16); c.make_current(); c.free()"


def textured_humanoid(source: Path) -> str:
    """The model file of Gymnasium's humanoid with the textures above, as XML text; bodies and joints are untouched."""
    root = ElementTree.parse(source).getroot()
    asset, world = root.find("asset"), root.find("worldbody")
    default, floor = root.find("default/geom"), root.find("worldbody/geom[@name='floor']")
    if asset is None or world is None or default is None or floor is None:
        raise MissingLibraryError(
            f"{source} is not the humanoid this version knows (asset, worldbody, default geom or floor is missing); "
            'pip install "gymnasium[mujoco]>=1.2,<2"'
        )
    asset.clear()
    for kind, all_of_kind in (("texture", TEXTURES), ("material", MATERIALS)):
        for attributes in all_of_kind:
            ElementTree.SubElement(asset, kind, attributes)
    default.set("rgba", "1 1 1 1")
    floor.set("rgba", "1 1 1 1")
    ElementTree.SubElement(world, "light", LAMP)
    visual = root.find("visual")
    if visual is None:
        visual = ElementTree.SubElement(root, "visual")
    ElementTree.SubElement(visual, "quality", {"shadowsize": SHADOW_PIXELS})
    return ElementTree.tostring(root, encoding="unicode")


def choose_opengl() -> None:
    """Settles how MuJoCo draws without a display: EGL, else OSMesa, as `MUJOCO_GL` of this process.

    A value set by the user is kept. Each is tried in a process of its own: a failed trial would spoil PyOpenGL here.
    Other systems than Linux draw through their window system, which MuJoCo finds itself.

    Raises:
        MissingLibraryError: neither works; the message names the packages to install.
    """
    if os.environ.get("MUJOCO_GL") or sys.platform != "linux":
        return
    found = next((backend for backend in BACKENDS if _draws(backend)), None)
    if found is None:
        raise MissingLibraryError(
            "MuJoCo cannot draw here: neither EGL nor OSMesa works. Install one of them (Debian, Ubuntu: "
            "apt-get install libegl1 libgl1-mesa-dri, or libosmesa6), or set MUJOCO_GL=glfw where a display is attached"
        )
    os.environ["MUJOCO_GL"] = found


@functools.cache
def _draws(backend: str) -> bool:
    trial = subprocess.run(
        [sys.executable, "-c", TRIAL.format(backend)],
        env={**os.environ, "MUJOCO_GL": backend, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return trial.returncode == 0
