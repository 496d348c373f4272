# mypy: ignore-errors
"""The kernel that benchmarks/gpu.py bounds all others by: camera rays, their hits, and nothing else."""

from scene.warp_kernels import FAR_M, pose34, spot, turned, wp


@wp.kernel(enable_backward=False)
def cast(
    squares: wp.int32,  # 1: pixels in squares of 8 x 8, 0: row by row
    pixels: wp.int32,
    axis: wp.array[wp.float32],
    home: wp.array[wp.int32],
    pose: wp.array[pose34],
    mesh: wp.array[wp.uint64],
    depth: wp.array3d[wp.float32],
):
    """One ray a thread; pictures are square, their sides a multiple of 8."""
    thread = wp.tid()
    at = wp.vec3i(thread // (pixels * pixels), (thread // pixels) % pixels, thread % pixels)
    if squares == 1:
        at = spot(thread, pixels, pixels)
    m = pose[at[0]]
    direction = turned(m, axis[at[2]], axis[at[1]])
    hit = wp.mesh_query_ray(mesh[home[at[0]]], wp.vec3(m[0, 3], m[1, 3], m[2, 3]), direction, FAR_M)
    depth[at[0], at[1], at[2]] = hit.t
