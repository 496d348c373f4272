"""Recorded episodes to score: a video, a folder of frames, or a folder of several with what is known of each.

    recordings=clip.mp4                 one video
    recordings=frames/                  one episode: its .png, .jpg and other pictures in natural order (2 before 10)
    recordings=episodes/                several: recordings.jsonl names them, one a line

    {"id": "a", "file": "a.mp4", "instruction": "open the drawer", "goal": "an open drawer", "baseline": "a drawer",
     "success": true, "progress": "a.csv"}

`file` is a video or a folder of frames and `progress` a CSV, both relative to recordings.jsonl. `success` true is an
expert's episode, false a failed one. `progress` is the true progress of every frame, in [0, 1]: a list, or a CSV with
one number a line or a column of that name. All keys but id and file may be left out or null.

Frames are read in blocks of bounded memory, however long a recording is. What can be known before scoring starts
(missing, truncated or mixed files, progress of another length) is checked when the recordings are opened.
"""

import csv
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from jaxtyping import Float64, UInt8
from numpy import ndarray

from core.errors import InputError, existing_file, nearest

VIDEOS: Final = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
PICTURES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
TABLE: Final = "recordings.jsonl"
KEYS: Final = ("id", "file", "instruction", "goal", "baseline", "success", "progress")
BLOCK_BYTES: Final = 64_000_000  # of the frames held at once
ORIENTATION: Final = 0x0112  # EXIF: 5 to 8 are turned by a quarter
EXPERT, FAILED, UNTOLD = "expert", "failed", "recording"


class Frames(Protocol):
    """Pictures of one size in order, read as often as wanted."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """H, W."""
        ...

    def __iter__(self) -> Iterator[UInt8[ndarray, "H W 3"]]:
        """Every frame from the first."""
        ...


@dataclass(frozen=True)
class Recording:
    """One episode as pictures, and what is known of it."""

    id: str
    frames: Frames
    instruction: str = ""  # what is being done, for models that watch a clip
    goal: tuple[str, ...] = ()  # prompts of the goal reached, for models that look at a frame
    baseline: tuple[str, ...] = ()  # prompts of the same scene without it
    success: bool | None = None  # of the whole episode
    path: str = UNTOLD  # the kind of behaviour: expert, failed, random, ...
    progress: Float64[ndarray, " T"] | None = None  # true progress in [0, 1] of the frames that `kept` names
    reached: Float64[ndarray, " T"] | None = None  # 1 where the goal is reached, 0 where not, NaN unknown
    kept: tuple[int, ...] = ()  # indices of the frames to score, increasing

    def __len__(self) -> int:
        return len(self.kept)

    def blocks(self, rows: int = 256) -> Iterator[UInt8[ndarray, "b H W 3"]]:
        """The kept frames in order, up to `rows` and BLOCK_BYTES at a time.

        Raises:
            InputError: the file turns out damaged while it is read.
        """
        height, width = self.frames.size
        rows = max(1, min(rows, BLOCK_BYTES // (3 * height * width)))
        wanted, block = iter(self.kept), []
        following = next(wanted, None)
        for index, frame in enumerate(self.frames):
            if index == following:
                block.append(frame)
                following = next(wanted, None)
                if len(block) == rows or following is None:
                    yield np.stack(block)
                    block = []
            if following is None:
                return

    def pick(self, rows: Sequence[int]) -> UInt8[ndarray, "n H W 3"]:
        """Some of the kept frames, by their place among them; read from the start, so ask for all at once."""
        wanted = {int(row): place for place, row in enumerate(rows)}
        found = np.empty((len(rows), *self.frames.size, 3), np.uint8)
        start = 0
        for block in self.blocks():
            for row in range(start, start + len(block)):
                if row in wanted:
                    found[wanted[row]] = block[row - start]
            start += len(block)
        for place, row in enumerate(rows):
            found[place] = found[wanted[int(row)]]  # a row asked for twice
        return found


@dataclass(frozen=True)
class ArrayFrames:
    """Frames in memory."""

    pictures: UInt8[ndarray, "T H W 3"]

    @property
    def count(self) -> int:
        return len(self.pictures)

    @property
    def size(self) -> tuple[int, int]:
        return self.pictures.shape[1], self.pictures.shape[2]

    def __iter__(self) -> Iterator[UInt8[ndarray, "H W 3"]]:
        return iter(self.pictures)


class FolderFrames:
    """The pictures of a folder in natural order; all headers are read at once, pixels one picture at a time.

    Raises:
        InputError: no pictures, pictures of several sizes, or one that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        files = [item for item in folder.iterdir() if item.suffix.lower() in PICTURES and not item.name.startswith(".")]
        if not files:
            raise InputError(f"{folder} holds no pictures; expected frames that end in {', '.join(PICTURES)}")
        self.files = sorted(files, key=natural)
        self.count = len(self.files)
        self.size = _picture_size(self.files[0])
        for file in self.files[1:]:
            if (size := _picture_size(file)) != self.size:
                raise InputError(
                    f"frames of {folder} differ in size: {self.files[0].name} is {_shape(self.size)} and {file.name} "
                    f"{_shape(size)}; keep one recording a folder, all of one size"
                )

    def __iter__(self) -> Iterator[UInt8[ndarray, "H W 3"]]:
        return map(_picture, self.files)


class VideoFrames:
    """The frames of a video, decoded one after the other and turned upright where the file says how it was held.

    Raises:
        InputError: not a video, no frames in it, or fewer than its header promises.
    """

    def __init__(self, file: Path) -> None:
        import av

        self.file = file
        try:
            with _open(file) as container:
                if not container.streams.video:
                    raise InputError(f"{file} holds no video, only {_kinds(container)}")
                stream = container.streams.video[0]
                self.count, packets, end = 0, 0, 0.0
                for packet in container.demux(stream):
                    if packet.size:
                        packets += 1
                        self.count += not packet.is_discard
                        if packet.pts is not None:
                            end = max(end, float((packet.pts + (packet.duration or 0)) * stream.time_base))
                promised, frame_s = _promised_end(stream), 1 / float(stream.average_rate or 25)
                short = promised is not None and promised - end > 1.5 * frame_s
                short = short and (not stream.frames or packets < stream.frames)
        except av.FFmpegError as error:
            raise InputError(f"{file} is truncated or no video ({error.strerror}); record or copy it again") from error
        if short:
            assert promised is not None
            raise InputError(
                f"{file} is truncated: its header promises {promised:.1f} s, its frames end after {end:.1f} s "
                f"({packets} of them); copy it again"
            )
        if not self.count:
            raise InputError(f"{file} holds no frames")
        first = next(iter(self))
        self.size = (first.shape[0], first.shape[1])

    def __iter__(self) -> Iterator[UInt8[ndarray, "H W 3"]]:
        import av

        done, size = 0, None
        try:
            with _open(self.file) as container:
                for frame in container.decode(video=0):
                    picture = _upright(frame.to_ndarray(format="rgb24"), frame.rotation, self.file)
                    if size not in (None, picture.shape):
                        raise InputError(f"{self.file} changes its size at frame {done}: {size} to {picture.shape}")
                    size = picture.shape
                    yield picture
                    done += 1
        except av.FFmpegError as error:
            raise InputError(
                f"{self.file} is damaged: {done} of {self.count} frames could be read ({error.strerror}); copy it again"
            ) from error
        if done < self.count:
            raise InputError(f"{self.file} is damaged: {done} of {self.count} frames could be read; copy it again")


def open_recordings(
    path: str | Path,
    *,
    instruction: str = "",
    goal: Sequence[str] = (),
    baseline: Sequence[str] = (),
    stride: int = 1,
    max_frames: int = 0,
) -> list[Recording]:
    """The recordings at a path; no frame is kept in memory.

    Args:
        instruction, goal, baseline: of recordings that do not state their own.
        stride: keep every n-th frame, and the last.
        max_frames: keep at most so many of these, spread evenly from the first to the last; 0 keeps all.

    Raises:
        MissingFileError: something named is not there. InputError: see the file's head and FolderFrames, VideoFrames.
    """
    if stride < 1:
        raise InputError(f"stride={stride} should be at least 1 (1 keeps every frame)")
    if max_frames < 0 or max_frames == 1:
        raise InputError(f"max_frames={max_frames} should be 0 (all) or at least 2 (the first and the last)")
    path = Path(path).expanduser()
    shared = {"instruction": instruction, "goal": goal, "baseline": baseline}
    table = path / TABLE
    if table.is_file():
        records = list(_records(table))
    elif path.is_dir():
        inside = sorted(item.name for item in path.iterdir() if item.is_dir() or item.suffix.lower() in VIDEOS)
        if inside and not any(item.suffix.lower() in PICTURES for item in path.iterdir()):
            raise InputError(
                f"{path} holds {inside[0]} and no {TABLE}; write one, a line for each recording: "
                f'{{"id": "1", "file": "{inside[0]}", "instruction": "..."}}'
            )
        records = [(str(path), path.parent, {"id": path.name, "file": path.name})]
    else:
        records = [(str(path), path.parent, {"id": path.stem, "file": path.name})]
    found = [_recording(where, base, record, shared, stride, max_frames) for where, base, record in records]
    seen: set[str] = set()
    for item in found:
        if item.id in seen:
            raise InputError(f"{table}: the id {item.id!r} stands twice; give every recording its own")
        seen.add(item.id)
    return found


def keep(count: int, stride: int, max_frames: int) -> tuple[int, ...]:
    """Indices of the frames to score of `count`: every `stride`-th and the last, thinned to `max_frames` (0: not)."""
    every = [*range(0, count - 1, stride), count - 1]  # how an episode ends must not fall through
    if not max_frames or len(every) <= max_frames:
        return tuple(every)
    return tuple(every[k] for k in np.linspace(0, len(every) - 1, max_frames).round().astype(int).tolist())


def natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sorting key of a file name whose numbers count as numbers: frame2 before frame10."""
    parts = re.findall(r"\d+|\D+", path.name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], path.name


def _recording(
    where: str, base: Path, record: dict[str, Any], shared: dict[str, Any], stride: int, max_frames: int
) -> Recording:
    file = base / record["file"]
    frames = _frames(file)
    kept = keep(frames.count, stride, max_frames)
    success = record.get("success")
    if success not in (None, True, False) or isinstance(success, int) and not isinstance(success, bool):
        raise InputError(f"{where}: success is {success!r}, expected true, false or null (not known)")
    instruction = record.get("instruction") or shared["instruction"]
    if not isinstance(instruction, str):
        raise InputError(f"{where}: instruction is {instruction!r}, expected one sentence")
    goal, baseline = (
        _prompts(where, key, record[key] if record.get(key) is not None else shared[key])
        for key in ("goal", "baseline")
    )
    if not goal and instruction.strip():
        goal = (instruction,)
    if not goal:
        raise InputError(f"{where}: no sentence says what is wanted; give instruction or goal")
    progress = _progress(where, base, record.get("progress"), frames.count)
    reached = np.full(len(kept), math.nan)
    if success is False:
        reached[:] = 0
    elif success:
        reached[-1] = 1  # of the others nobody said
    return Recording(
        id=record["id"],
        frames=frames,
        instruction=instruction or goal[0],
        goal=goal,
        baseline=baseline,
        success=success,
        path=UNTOLD if success is None else EXPERT if success else FAILED,
        progress=None if progress is None else progress[list(kept)],
        reached=reached,
        kept=kept,
    )


def _frames(file: Path) -> Frames:
    if file.is_dir():
        return FolderFrames(file)
    existing_file(file, "recording")
    if file.suffix.lower() in PICTURES:
        raise InputError(f"{file} is one picture; name the folder of frames, or a video")
    if file.suffix.lower() not in VIDEOS:
        raise InputError(f"{file} should be a folder of frames or a video that ends in {', '.join(VIDEOS)}")
    return VideoFrames(file)


def _records(table: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """(where, folder, record) of each line that is not empty, its keys and id checked."""
    try:
        lines = existing_file(table, TABLE).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{table} is no UTF-8 text ({error})") from error
    rows = [(f"{table}, line {number}", line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise InputError(f"{table} names no recordings")
    for where, line in rows:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where} is truncated or not JSON ({error})") from error
        if not isinstance(record, dict):
            raise InputError(f"{where} is a {type(record).__name__}, expected a record with {', '.join(KEYS)}")
        for key in record:
            if key not in KEYS:
                raise InputError(f"{where}: unknown key {key!r}; {nearest(key, KEYS)}")
        for key in ("id", "file"):
            if not isinstance(record.get(key), str) or not record[key]:
                raise InputError(f"{where}: {key} is {record.get(key)!r}, expected a text")
        yield where, table.parent, record


def _prompts(where: str, key: str, value: Any) -> tuple[str, ...]:
    prompts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else None
    if prompts is None or not all(isinstance(prompt, str) and prompt.strip() for prompt in prompts):
        raise InputError(f"{where}: {key} is {value!r}, expected a sentence or a list of sentences")
    return prompts


def _progress(where: str, base: Path, value: Any, count: int) -> Float64[ndarray, " T"] | None:
    if value is None:
        return None
    if isinstance(value, str):
        where, value = str(base / value), _column(base / value)
    if not isinstance(value, list) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        raise InputError(f"{where}: progress should be null, a list of numbers or the name of a CSV")
    bad = next((k for k, v in enumerate(value) if not (math.isfinite(v) and 0 <= v <= 1)), None)
    if bad is not None:
        raise InputError(f"{where}: progress of frame {bad} is {value[bad]}, expected a number from 0 to 1")
    if len(value) != count:
        raise InputError(f"{where}: {len(value)} numbers of progress for {count} frames; give one for each frame")
    return np.array(value, dtype=np.float64)


def _column(file: Path) -> list[float]:
    """The numbers of a CSV's only column, or of its column "progress"."""
    with existing_file(file, "progress").open(encoding="utf-8-sig", newline="") as lines:
        rows = [row for row in csv.reader(lines) if row]
    head = [cell.strip() for cell in rows[0]] if rows else []
    column = head.index("progress") if "progress" in head else 0
    if "progress" not in head and len(head) != 1:
        raise InputError(f'{file} has the columns {", ".join(head)}; expected one named "progress", or a single one')
    numbers = []
    for number, row in enumerate(rows["progress" in head :], start=1 + ("progress" in head)):
        try:
            numbers.append(float(row[column]))
        except (ValueError, IndexError) as error:
            raise InputError(f"{file}, line {number}: {','.join(row)!r} holds no number for progress") from error
    return numbers


def _picture_size(file: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            turned = "exif" in image.info and image.getexif().get(ORIENTATION, 1) >= 5  # asking a PNG would decode it
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, SyntaxError) as error:
        raise InputError(f"{file} is truncated or no picture; write it again") from error


def _picture(file: Path) -> UInt8[ndarray, "H W 3"]:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            turned = "exif" in image.info
            image.load()
            if image.mode not in ("RGB", "RGBA", "L", "LA", "P", "1"):
                raise InputError(f"{file} has pixels of kind {image.mode}, expected 8-bit colours or greys")
            if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                raise InputError(f"{file} is partly transparent, so its colours are open; save it on a background")
            return np.array((ImageOps.exif_transpose(image) if turned else image).convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise InputError(f"{file} is truncated or damaged ({error}); write it again") from error


def _open(file: Path) -> Any:
    """The file alone: a playlist that hides behind a video's name reaches neither the network nor other protocols."""
    import av

    return av.open(str(file.absolute()), container_options={"protocol_whitelist": "file"})


def _kinds(container: Any) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _promised_end(stream: Any) -> float | None:
    """When the last frame ends in seconds by what the header says; None where it says nothing."""
    if stream.duration is not None:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    if match := re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)", stream.metadata.get("DURATION", "")):  # Matroska, WebM
        hours, minutes, seconds = match.groups()
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return None


def _upright(picture: UInt8[ndarray, "h w 3"], turned_deg: float, file: Path) -> UInt8[ndarray, "H W 3"]:
    """The picture turned counter-clockwise as its video asks."""
    quarters, rest = divmod(round(turned_deg), 90)
    if rest:
        raise InputError(f"{file} asks to be turned by {turned_deg} degrees; only quarter turns are read")
    return np.ascontiguousarray(np.rot90(picture, quarters)) if quarters else picture


def _shape(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"
