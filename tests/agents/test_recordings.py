import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from agents.episode_video import write_mp4
from agents.recordings import keep, open_recordings
from core.errors import InputError, MissingFileError

H, W = 32, 48


def pictures(count: int, height: int = H, width: int = W) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def write_lossless(path, frames, codec="ffv1", pix_fmt="bgr0", **options):
    import av

    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10, options={"crf": "0"} if codec == "libx264rgb" else {})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pix_fmt
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_folder(folder, frames, name="frame{}.png"):
    folder.mkdir()
    for k, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(k))
    return folder


def write_table(folder, *records):
    (folder / "recordings.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def all_frames(recording, rows=256):
    return np.concatenate(list(recording.blocks(rows)))


@pytest.mark.parametrize("name", ["lossless.mkv", "lossless.mp4"])
def test_a_video_is_read_back_frame_by_frame_equal(tmp_path, name):
    frames = pictures(13)
    codec = {"mkv": ("ffv1", "bgr0"), "mp4": ("libx264rgb", "rgb24")}[name[-3:]]
    write_lossless(tmp_path / name, frames, *codec)
    (found,) = open_recordings(tmp_path / name, instruction="open the drawer")
    assert (found.id, len(found), found.frames.size) == ("lossless", 13, (H, W))
    assert [len(block) for block in found.blocks(rows=5)] == [5, 5, 3]
    np.testing.assert_array_equal(all_frames(found, rows=5), frames)
    np.testing.assert_array_equal(all_frames(found), frames)  # as often as wanted
    assert found.goal == ("open the drawer",) and found.progress is None and found.path == "recording"


def test_a_folder_of_frames_is_read_in_natural_order(tmp_path):
    frames = pictures(12)
    write_folder(tmp_path / "episode", frames)
    (tmp_path / "episode" / "notes.txt").write_text("frame10 comes after frame9")
    (found,) = open_recordings(tmp_path / "episode", goal=["an open drawer", "the drawer is open"])
    np.testing.assert_array_equal(all_frames(found), frames)
    assert found.instruction == "an open drawer" and found.goal == ("an open drawer", "the drawer is open")


def test_grey_and_sideways_pictures_are_read_as_they_are_shown(tmp_path):
    folder = tmp_path / "episode"
    folder.mkdir()
    grey = pictures(1, W, H)[0][..., 0]
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by a quarter
    Image.fromarray(grey).save(folder / "0.png", exif=exif)
    (found,) = open_recordings(folder, goal=["a drawer"])
    assert found.frames.size == (H, W)
    np.testing.assert_array_equal(all_frames(found)[0], np.rot90(grey, -1)[..., None].repeat(3, -1))


def test_a_video_held_sideways_is_turned_upright(tmp_path):
    frames = pictures(3)
    file = write_lossless(tmp_path / "phone.mp4", frames, "libx264rgb", "rgb24")
    data = bytearray(file.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # version 0: 40 bytes of times, id and volume stand before the matrix
    turned = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, H << 16, 0, 1 << 30], ">i4")  # clockwise by a quarter
    data[matrix : matrix + 36] = turned.tobytes()
    file.write_bytes(data)
    (found,) = open_recordings(file, instruction="walk")
    assert found.frames.size == (W, H)
    np.testing.assert_array_equal(all_frames(found), [np.rot90(frame, -1) for frame in frames])


def test_several_recordings_bring_their_sentences_success_and_progress(tmp_path):
    write_lossless(tmp_path / "good.mkv", pictures(4))
    write_folder(tmp_path / "bad", pictures(3))
    (tmp_path / "truth.csv").write_text("step,progress\n0,0\n1,0.25\n2,0.5\n3,1\n")
    record = {"id": "b", "file": "bad", "instruction": "close it", "success": False, "progress": [0, 0.5, 0.25]}
    write_table(
        tmp_path,
        {"id": "a", "file": "good.mkv", "goal": ["a closed drawer"], "success": True, "progress": "truth.csv"},
        record,
        {**record, "id": "c", "success": None, "progress": None},
    )
    good, bad, untold = open_recordings(tmp_path, instruction="open it", baseline=["a drawer"])
    assert (good.instruction, good.goal, good.baseline, good.path) == (
        "open it",
        ("a closed drawer",),
        ("a drawer",),
        "expert",
    )
    assert (bad.instruction, bad.goal, bad.path, untold.path) == ("close it", ("close it",), "failed", "recording")
    assert good.progress.tolist() == [0, 0.25, 0.5, 1] and bad.progress.tolist() == [0, 0.5, 0.25]
    assert untold.progress is None
    np.testing.assert_array_equal(good.reached, [np.nan, np.nan, np.nan, 1])
    np.testing.assert_array_equal(bad.reached, [0, 0, 0])


def test_stride_and_max_frames_thin_frames_and_progress_alike(tmp_path):
    assert keep(10, 1, 0) == tuple(range(10)) and keep(10, 3, 0) == (0, 3, 6, 9)
    assert keep(10, 4, 0) == (0, 4, 8, 9) and keep(1, 4, 0) == (0,)  # how it ends is always among them
    assert keep(10, 3, 2) == (0, 9) and keep(101, 1, 5) == (0, 25, 50, 75, 100) and keep(3, 1, 5) == (0, 1, 2)
    frames = pictures(9)
    write_lossless(tmp_path / "a.mkv", frames)
    truth = [k / 8 for k in range(9)]
    write_table(tmp_path, {"id": "a", "file": "a.mkv", "instruction": "go", "progress": truth, "success": True})
    (found,) = open_recordings(tmp_path, stride=2, max_frames=3)
    assert found.kept == (0, 4, 8) and found.progress.tolist() == [0, 0.5, 1] and found.reached[-1] == 1
    np.testing.assert_array_equal(all_frames(found), [frames[0], frames[4], frames[8]])
    np.testing.assert_array_equal(found.pick([2, 0, 2]), [frames[8], frames[0], frames[8]])


def test_a_long_video_is_never_whole_in_memory(tmp_path):
    write_mp4(tmp_path / "long.mp4", [np.full((240, 320, 3), k % 250, np.uint8) for k in range(200)], 30)
    (found,) = open_recordings(tmp_path / "long.mp4", instruction="go")
    tracemalloc.start()
    rows = sum(len(block) for block in found.blocks(rows=8))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 200 and peak < 6e6  # 8 frames and their stack are 3.7 MB, all are 46 MB


def test_a_truncated_video_says_so_before_anything_is_scored(tmp_path):
    for name, codec, options in (
        ("a.mkv", ("ffv1", "bgr0"), {}),
        ("b.mp4", ("libx264rgb", "rgb24"), {"movflags": "faststart"}),
        ("c.mp4", ("libx264rgb", "rgb24"), {}),  # its index stands at the end
    ):
        whole = write_lossless(tmp_path / name, pictures(40), *codec, **options).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) * 6 // 10])
        with pytest.raises(InputError, match=f"{name} is truncated"):
            open_recordings(tmp_path / name, instruction="go")


def test_a_video_damaged_inside_says_how_far_it_could_be_read(tmp_path):
    file = write_lossless(tmp_path / "a.mp4", pictures(40), "libx264rgb", "rgb24", movflags="faststart")
    data = bytearray(file.read_bytes())
    start = data.index(b"mdat") + len(data) // 2
    data[start : start + 20_000] = bytes(20_000)
    file.write_bytes(data)
    (found,) = open_recordings(file, instruction="go")
    with pytest.raises(InputError, match=r"a\.mp4 is damaged: \d+ of 40 frames could be read"):
        all_frames(found)


def test_frames_of_several_sizes_are_named(tmp_path):
    folder = write_folder(tmp_path / "mixed", pictures(11))
    Image.fromarray(pictures(1, 20, 20)[0]).save(folder / "frame10.png")
    with pytest.raises(InputError, match=r"frame0\.png is 48 x 32 and frame10\.png 20 x 20"):
        open_recordings(folder, instruction="go")


def test_an_unreadable_picture_is_named(tmp_path):
    folder = write_folder(tmp_path / "frames", pictures(3))
    file = folder / "frame1.png"
    file.write_bytes(file.read_bytes()[:1500])
    (found,) = open_recordings(folder, instruction="go")
    with pytest.raises(InputError, match=r"frame1\.png is truncated or damaged"):
        all_frames(found)
    file.write_bytes(b"no picture at all")
    with pytest.raises(InputError, match=r"frame1\.png is truncated or no picture"):
        open_recordings(folder, instruction="go")


def test_pixels_that_would_have_to_be_guessed_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((H, W, 4), 100, np.uint8)).save(tmp_path / "a" / "0.png")
    with pytest.raises(InputError, match="partly transparent"):
        all_frames(open_recordings(tmp_path / "a", instruction="go")[0])
    Image.fromarray(np.full((H, W), 60_000, np.uint16)).save(tmp_path / "a" / "0.png")
    with pytest.raises(InputError, match="expected 8-bit"):
        all_frames(open_recordings(tmp_path / "a", instruction="go")[0])


def test_what_is_no_recording_says_what_was_expected(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        open_recordings(tmp_path / "empty", instruction="go")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"ends in \.mp4"):
        open_recordings(tmp_path / "notes.txt", instruction="go")
    (tmp_path / "text.mp4").write_text("hello " * 100)
    with pytest.raises(InputError, match="truncated or no video"):
        open_recordings(tmp_path / "text.mp4", instruction="go")
    with pytest.raises(MissingFileError, match="recording not found"):
        open_recordings(tmp_path / "nowhere.mp4", instruction="go")
    write_folder(tmp_path / "several", pictures(1))
    (tmp_path / "several" / "frame0.png").rename(tmp_path / "one.png")
    with pytest.raises(InputError, match="one picture"):
        open_recordings(tmp_path / "one.png", instruction="go")
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds inner and no recordings\.jsonl"):
        open_recordings(tmp_path / "outer", instruction="go")


def test_a_playlist_named_like_a_video_reaches_nothing(tmp_path):
    file = tmp_path / "list.mp4"
    file.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError, match=r"list\.mp4"):
        open_recordings(file, instruction="go")


GOOD = {"id": "a", "file": "clip", "instruction": "go"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"succes": True}, "line 1: unknown key 'succes'; did you mean 'success'"),
        ({"id": ""}, "id is '', expected a text"),
        ({"file": None}, "file is None, expected a text"),
        ({"success": 1}, "success is 1, expected true, false or null"),
        ({"instruction": ["a", "b"]}, "expected one sentence"),
        ({"goal": ["an open drawer", " "]}, "goal is .* expected a sentence or a list"),
        ({"instruction": None}, "no sentence says what is wanted"),
        ({"progress": [0.0, 0.5]}, "2 numbers of progress for 3 frames"),
        ({"progress": [0.0, 0.5, 1.5]}, "progress of frame 2 is 1.5, expected a number from 0 to 1"),
        ({"progress": [0.0, float("nan"), 1]}, "progress of frame 1 is nan"),
        ({"progress": [0.0, "half", 1]}, "list of numbers or the name of a CSV"),
        ({"progress": "lost.csv"}, "progress not found"),
    ],
)
def test_a_wrong_line_says_what_is_wrong_with_it(tmp_path, change, message):
    write_folder(tmp_path / "clip", pictures(3))
    write_table(tmp_path, {**GOOD, **change})
    with pytest.raises(InputError, match=message):
        open_recordings(tmp_path)


def test_a_wrong_table_says_what_is_wrong_with_it(tmp_path):
    write_folder(tmp_path / "clip", pictures(3))
    write_table(tmp_path, GOOD, GOOD)
    with pytest.raises(InputError, match="the id 'a' stands twice"):
        open_recordings(tmp_path)
    for text, message in (("\n", "names no recordings"), ('{"id": "a",', "line 1 is truncated"), ("[1]", "is a list")):
        (tmp_path / "recordings.jsonl").write_text(text)
        with pytest.raises(InputError, match=message):
            open_recordings(tmp_path)
    write_table(tmp_path, {**GOOD, "progress": "p.csv"})
    for text, message in (
        ("0\n0.5\nhalf\n", "line 3: 'half' holds no number"),
        ("step,value\n0,1\n", "columns step, value; expected"),
    ):
        (tmp_path / "p.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            open_recordings(tmp_path)
    (tmp_path / "p.csv").write_text("0\n0.5\n1\n")
    assert open_recordings(tmp_path)[0].progress.tolist() == [0, 0.5, 1]
    for options, message in (({"stride": 0}, "stride=0"), ({"max_frames": 1}, "max_frames=1")):
        with pytest.raises(InputError, match=message):
            open_recordings(tmp_path, **options)
