# mypy: disable-error-code="attr-defined, index, operator, var-annotated, valid-type"
"""The kernels that draw homes, in Warp's language; scene/render_warp.py launches them.

Everything a pixel shows is worked out by one thread, with the meaning of scene/render.py. Warp reads the source of the
functions below and compiles it for the CPU or CUDA at the first launch, once for each machine (four to ten seconds).
"""

from core.conventions import NO_INSTANCE
from core.errors import MissingLibraryError
from scene.palette import SKY
from scene.render import FALLOFF_PER_M

try:
    import warp as wp
except ImportError as error:
    raise MissingLibraryError(
        f"rendering with backend='warp' needs warp-lang, which does not load ({error}). "
        "Install it with: pip install sightline[cuda]"
    ) from error

# no banner on standard output
wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)
wp.init()

TILE = wp.constant(8)  # pixels along a side of the squares
FAR_M = wp.constant(1.0e6)  # rays end here
NOBODY = wp.constant(NO_INSTANCE)
SKY_COLOR = wp.constant(wp.vec3ub(*SKY))
FALLOFF = wp.constant(wp.float32(FALLOFF_PER_M))

pose34 = wp.types.matrix(shape=(3, 4), dtype=wp.float32)


@wp.func
def unpacked(packed: wp.int32, dim: wp.float32) -> wp.vec3ub:
    """The colour 0xBBGGRR, darkened."""
    return wp.vec3ub(
        wp.uint8(wp.float32(packed & 255) * dim + 0.5),
        wp.uint8(wp.float32((packed >> 8) & 255) * dim + 0.5),
        wp.uint8(wp.float32((packed >> 16) & 255) * dim + 0.5),
    )


@wp.kernel(enable_backward=False)
def draw(
    first: wp.int32,  # camera of the first thread
    count: wp.array[wp.int32],  # (1,) cameras in use
    width: wp.int32,
    height: wp.int32,
    across: wp.array[wp.float32],  # (W,) x of a pixel's direction in the camera frame
    down: wp.array[wp.float32],  # (H,) y of it; z is 1
    home: wp.array[wp.int32],  # (B,)
    pose: wp.array[pose34],  # (B,) camera to world
    mesh: wp.array[wp.uint64],  # (M,) Warp's mesh of each home, 0 = none
    face: wp.array[wp.uint64],  # (M,) where the home's faces lie: pairs of packed colour and instance id
    rgb: wp.array3d[wp.vec3ub],
    depth: wp.array3d[wp.float32],
    instance: wp.array3d[wp.int32],
):
    thread = wp.tid()
    tiles_across = (width + TILE - 1) // TILE
    per_camera = tiles_across * ((height + TILE - 1) // TILE) * TILE * TILE
    b = first + thread // per_camera
    if b >= count[0]:
        return
    within = thread % per_camera
    tile, spot = within // (TILE * TILE), within % (TILE * TILE)
    row = (tile // tiles_across) * TILE + spot // TILE
    column = (tile % tiles_across) * TILE + spot % TILE
    if row >= height or column >= width:
        return

    color = SKY_COLOR
    distance = wp.float32(0.0)
    owner = wp.int32(NOBODY)
    h = home[b]
    if h >= 0 and h < mesh.shape[0] and mesh[h] != wp.uint64(0):
        m = pose[b]
        x, y = across[column], down[row]
        origin = wp.vec3(m[0, 3], m[1, 3], m[2, 3])
        direction = wp.vec3(
            m[0, 0] * x + m[0, 1] * y + m[0, 2],
            m[1, 0] * x + m[1, 1] * y + m[1, 2],
            m[2, 0] * x + m[2, 1] * y + m[2, 2],
        )
        hit = wp.mesh_query_ray(mesh[h], origin, direction, FAR_M)
        if hit.result:
            faces = wp.array(ptr=face[h], shape=(hit.face + 1,), dtype=wp.vec2i)
            look = faces[hit.face]
            color = unpacked(look[0], 1.0 / (1.0 + FALLOFF * hit.t))
            distance = hit.t
            owner = look[1]
    rgb[b, row, column] = color
    depth[b, row, column] = distance
    instance[b, row, column] = owner
