# mypy: ignore-errors
"""The kernels that draw homes, in Warp's language; scene/render_warp.py launches them.

`draw` works out what a pixel shows of the home that stays still, with the meaning of scene/render.py; `place` and
`draw_parts` add carried things and shut doors, with that of scene/moving.py. Warp reads the source of these functions
and compiles it for the CPU or CUDA at the first launch, once for each machine (a few seconds).

Threads visit pixels in squares of 8 x 8: neighbouring rays meet the same triangles.
"""

from core.conventions import NO_INSTANCE
from core.errors import MissingLibraryError
from scene.palette import SKY
from scene.render import AMBIENT, FALLOFF_PER_M, SUN

try:
    import warp as wp
except ImportError as error:
    raise MissingLibraryError(
        f"rendering with backend='warp' and stepping on CUDA need warp-lang, which does not load ({error}). "
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

AMBIENT_SHARE = wp.constant(wp.float32(AMBIENT))
SUN_DIRECTION = wp.constant(wp.normalize(wp.vec3(*SUN)))
SLACK_M = wp.constant(wp.float32(1e-4))  # balls around parts are this much larger than rounding needs
MESH, ROOT, COLOR, SPHERE, REST, OWNER, THINGS, PARTS = range(8)  # columns of WarpHomes.parts
_MESH, _ROOT, _COLOR, _SPHERE = wp.constant(MESH), wp.constant(ROOT), wp.constant(COLOR), wp.constant(SPHERE)
_REST, _OWNER, _THINGS, _PARTS = wp.constant(REST), wp.constant(OWNER), wp.constant(THINGS), wp.constant(PARTS)

pose34 = wp.types.matrix(shape=(3, 4), dtype=wp.float32)
part5 = wp.types.vector(length=5, dtype=wp.float32)  # the camera in a part's own frame, cosine and sine of its yaw


@wp.func
def unpacked(packed: wp.int32, dim: wp.float32) -> wp.vec3ub:
    """The colour 0xBBGGRR, darkened."""
    return wp.vec3ub(
        wp.uint8(wp.float32(packed & 255) * dim + 0.5),
        wp.uint8(wp.float32((packed >> 8) & 255) * dim + 0.5),
        wp.uint8(wp.float32((packed >> 16) & 255) * dim + 0.5),
    )


@wp.func
def spot(thread: wp.int32, width: wp.int32, height: wp.int32) -> wp.vec3i:
    """Camera, row and column of a thread; rows and columns beyond the picture fill up its last squares."""
    tiles_across = (width + TILE - 1) // TILE
    per_camera = tiles_across * ((height + TILE - 1) // TILE) * TILE * TILE
    within = thread % per_camera
    tile = within // (TILE * TILE)
    inside = within % (TILE * TILE)
    return wp.vec3i(
        thread // per_camera,
        (tile // tiles_across) * TILE + inside // TILE,
        (tile % tiles_across) * TILE + inside % TILE,
    )


@wp.func
def turned(m: pose34, x: wp.float32, y: wp.float32) -> wp.vec3:
    """The direction (x, y, 1) of the camera's frame in the world; its length parameter is depth."""
    return wp.vec3(
        m[0, 0] * x + m[0, 1] * y + m[0, 2],
        m[1, 0] * x + m[1, 1] * y + m[1, 2],
        m[2, 0] * x + m[2, 1] * y + m[2, 2],
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
    """Pixels of the home that stays still; sky where no home has a camera's number."""
    at = spot(wp.tid(), width, height)
    b, row, column = first + at[0], at[1], at[2]
    if b >= count[0] or row >= height or column >= width:
        return
    color = SKY_COLOR
    distance = wp.float32(0.0)
    owner = wp.int32(NOBODY)
    h = home[b]
    if h >= 0 and h < mesh.shape[0] and mesh[h] != wp.uint64(0):
        m = pose[b]
        direction = turned(m, across[column], down[row])
        hit = wp.mesh_query_ray(mesh[h], wp.vec3(m[0, 3], m[1, 3], m[2, 3]), direction, FAR_M)
        if hit.result:
            faces = wp.array(ptr=face[h], shape=(hit.face + 1,), dtype=wp.vec2i)
            look = faces[hit.face]
            color = unpacked(look[0], 1.0 / (1.0 + FALLOFF * hit.t))
            distance = hit.t
            owner = look[1]
    rgb[b, row, column] = color
    depth[b, row, column] = distance
    instance[b, row, column] = owner


@wp.kernel(enable_backward=False)
def place(
    first: wp.int32,
    count: wp.array[wp.int32],
    edges: wp.vec4,  # x of the left and right edge, y of the top and bottom edge of the picture at z = 1
    home: wp.array[wp.int32],
    pose: wp.array[pose34],
    parts: wp.array2d[wp.uint64],  # (M, 8) the table of moving parts of each home
    part_pose: wp.array2d[wp.vec4],  # (B, K) xyz of the bottom centre and yaw of each thing
    shown: wp.array2d[wp.uint8],  # (B, K)
    doors_shut: wp.array[wp.int64],  # (B,) mask
    near_count: wp.array[wp.int32],  # (B,) out: parts in view
    near_slot: wp.array2d[wp.int32],  # (B, S) out: their slots
    near: wp.array2d[part5],  # (B, S) out: the camera as they see it
):
    """Lists the parts in view of each camera, one thread a camera."""
    b = first + wp.tid()
    if b >= count[0]:
        return
    listed = wp.int32(0)
    h = home[b]
    if h >= 0 and h < parts.shape[0]:
        number = wp.int32(parts[h, _PARTS])
        things = wp.int32(parts[h, _THINGS])
        sphere = wp.array(ptr=parts[h, _SPHERE], shape=(number,), dtype=wp.vec4)
        rest = wp.array(ptr=parts[h, _REST], shape=(number,), dtype=wp.vec4)
        m = pose[b]
        eye = wp.vec3(m[0, 3], m[1, 3], m[2, 3])
        for s in range(number):
            at = rest[s]
            seen = wp.bool(False)
            if s < things:
                if s < shown.shape[1]:
                    at = part_pose[b, s]
                    seen = shown[b, s] != wp.uint8(0)
            else:
                seen = ((doors_shut[b] >> wp.int64(s - things)) & wp.int64(1)) != wp.int64(0)
            ball = sphere[s]
            if seen and ball[3] > 0.0:
                cos = wp.cos(at[3])
                sin = wp.sin(at[3])
                middle = wp.vec3(
                    at[0] + cos * ball[0] - sin * ball[1], at[1] + sin * ball[0] + cos * ball[1], at[2] + ball[2]
                )
                out = middle - eye
                x = m[0, 0] * out[0] + m[1, 0] * out[1] + m[2, 0] * out[2]
                y = m[0, 1] * out[0] + m[1, 1] * out[1] + m[2, 1] * out[2]
                z = m[0, 2] * out[0] + m[1, 2] * out[1] + m[2, 2] * out[2]
                r = ball[3] + SLACK_M
                if (
                    z + r > 0.0
                    and x - edges[0] * z >= -r * wp.sqrt(1.0 + edges[0] * edges[0])
                    and edges[1] * z - x >= -r * wp.sqrt(1.0 + edges[1] * edges[1])
                    and y - edges[2] * z >= -r * wp.sqrt(1.0 + edges[2] * edges[2])
                    and edges[3] * z - y >= -r * wp.sqrt(1.0 + edges[3] * edges[3])
                ):
                    dx = eye[0] - at[0]
                    dy = eye[1] - at[1]
                    near_slot[b, listed] = s
                    near[b, listed] = part5(cos * dx + sin * dy, cos * dy - sin * dx, eye[2] - at[2], cos, sin)
                    listed += 1
    near_count[b] = listed


@wp.kernel(enable_backward=False)
def draw_parts(
    first: wp.int32,
    count: wp.array[wp.int32],
    width: wp.int32,
    height: wp.int32,
    across: wp.array[wp.float32],
    down: wp.array[wp.float32],
    home: wp.array[wp.int32],
    pose: wp.array[pose34],
    parts: wp.array2d[wp.uint64],
    near_count: wp.array[wp.int32],
    near_slot: wp.array2d[wp.int32],
    near: wp.array2d[part5],
    rgb: wp.array3d[wp.vec3ub],
    depth: wp.array3d[wp.float32],
    instance: wp.array3d[wp.int32],
):
    """Overwrites the pixels of `draw` where a part that `place` listed is nearer."""
    at = spot(wp.tid(), width, height)
    b, row, column = first + at[0], at[1], at[2]
    if b >= count[0] or row >= height or column >= width:
        return
    listed = near_count[b]
    if listed == 0:
        return
    h = home[b]
    number = wp.int32(parts[h, _PARTS])
    root = wp.array(ptr=parts[h, _ROOT], shape=(number,), dtype=wp.int32)
    sphere = wp.array(ptr=parts[h, _SPHERE], shape=(number,), dtype=wp.vec4)
    direction = turned(pose[b], across[column], down[row])
    nearest = depth[b, row, column]
    if nearest == 0.0:
        nearest = FAR_M
    found = wp.int32(-1)
    face = wp.int32(-1)
    light = wp.float32(0.0)
    for k in range(listed):
        slot = near_slot[b, k]
        own = near[b, k]
        cos = own[3]
        sin = own[4]
        start = wp.vec3(own[0], own[1], own[2])
        ray = wp.vec3(cos * direction[0] + sin * direction[1], cos * direction[1] - sin * direction[0], direction[2])
        ball = sphere[slot]
        radius = ball[3] + SLACK_M
        back = start - wp.vec3(ball[0], ball[1], ball[2])
        along = wp.dot(back, ray)
        length = wp.dot(ray, ray)
        inside = along * along - length * (wp.dot(back, back) - radius * radius)
        if inside >= 0.0:
            half = wp.sqrt(inside)
            if half >= along and -along - half <= nearest * length:
                hit = wp.mesh_query_ray(parts[h, _MESH], start, ray, nearest, root[slot])
                if hit.result:
                    nearest = hit.t
                    found = slot
                    face = hit.face
                    sun = wp.vec3(
                        cos * SUN_DIRECTION[0] + sin * SUN_DIRECTION[1],
                        cos * SUN_DIRECTION[1] - sin * SUN_DIRECTION[0],
                        SUN_DIRECTION[2],
                    )
                    light = AMBIENT_SHARE + (1.0 - AMBIENT_SHARE) * wp.abs(wp.dot(hit.normal, sun))
    if found >= 0:
        colors = wp.array(ptr=parts[h, _COLOR], shape=(face + 1,), dtype=wp.vec3)
        owners = wp.array(ptr=parts[h, _OWNER], shape=(number,), dtype=wp.int32)
        color = colors[face]
        dim = 1.0 / (1.0 + FALLOFF * nearest)
        rgb[b, row, column] = wp.vec3ub(
            wp.uint8(wp.clamp(wp.rint(color[0] * light), 0.0, 255.0) * dim + 0.5),
            wp.uint8(wp.clamp(wp.rint(color[1] * light), 0.0, 255.0) * dim + 0.5),
            wp.uint8(wp.clamp(wp.rint(color[2] * light), 0.0, 255.0) * dim + 0.5),
        )
        depth[b, row, column] = nearest
        instance[b, row, column] = owners[found]


@wp.kernel(enable_backward=False)
def group_roots(mesh: wp.uint64, root: wp.array[wp.int32]):
    """Where in a grouped mesh's tree each part begins."""
    root[wp.tid()] = wp.mesh_get_group_root(mesh, wp.tid())
