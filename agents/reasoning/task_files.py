"""Questions in files: the folders of build-questions, a user's own JSON lines, and NLVR1's human sentences.

A line is one JSON object:

    {"images": ["a.png", "b.png"], "prompt": "<picture> <picture> which shows more chairs?", "answer": "first"}

with, where wanted, "reward" (name of a check in agents/reasoning/rewards.py; "exact" if left out), "choices", "kind",
"group", "worked", "needs_picture" and "id": the fields of `Sample`. Images are paths below the file's own folder, or
names in an archive NAME_images.zip beside NAME.jsonl. The prompt has `<picture>` once for each image, in their order.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from agents.reasoning.types import PICTURE, Picture, Sample
from core.errors import InputError, MissingFileError, nearest
from core.files import atomic_write
from core.run import METRICS
from scene.io import MANIFEST
from vl.pictures import Pictures
from vl.tasks.annotation_files import json_lines, open_pictures
from vl.tasks.nlvr1 import NLVR1, annotation_file

FIELDS: Final = (
    "id", "images", "prompt", "answer", "reward", "choices", "kind", "needs_picture", "group", "worked",
)  # fmt: skip
FOREIGN: Final = "<image>"  # what other projects write for PICTURE
NLVR1_PROMPT: Final = f"{PICTURE} is this true of the picture? {{}}"
NLVR1_ANSWERS: Final = {"true": "yes", "false": "no"}


@dataclass
class SampleSet:
    """Samples and the pictures that they name."""

    samples: list[Sample]
    pictures: "Pictures | _Joined" = field(repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def pictures_of(self, index: int) -> list[Picture]:
        """The pictures of a sample, in the order its prompt speaks of them.

        Raises:
            InputError: one that is not there or cannot be read; the sample is named.
        """
        sample = self.samples[index]
        try:
            return [self.pictures.read(name) for name in sample.pictures]
        except InputError as error:
            raise InputError(f"sample {sample.id!r}: {error}") from error

    def drawn(self, count: int) -> "SampleSet":
        """`count` samples drawn without regard to their order, the same ones each time; all where there are fewer.

        Files of build-questions go through the kinds one after the other, and through the answers of a kind in turn:
        the first samples would be of few kinds, and every second one would have the same answer.
        """
        if count >= len(self.samples):
            return self
        chosen = sorted(np.random.default_rng(0).permutation(len(self.samples))[:count].tolist())
        return SampleSet([self.samples[index] for index in chosen], self.pictures)


class _Joined:
    """The pictures of several sets; the number of the set goes before a name."""

    def __init__(self, sets: Sequence[SampleSet]) -> None:
        self.sets = sets

    def read(self, name: str) -> Picture:
        number, _, inner = name.partition("/")
        return self.sets[int(number)].pictures.read(inner)


def joined(sets: Sequence[SampleSet]) -> SampleSet:
    """Several sets as one, in their order; two may have pictures of the same name."""
    if len(sets) == 1:
        return sets[0]
    samples = [
        replace(sample, pictures=tuple(f"{number}/{name}" for name in sample.pictures))
        for number, one in enumerate(sets)
        for sample in one.samples
    ]
    return SampleSet(samples, _Joined(sets))


def open_samples(data: str | Path, split: str = "") -> SampleSet:
    """The questions of a split.

    Args:
        data: a folder with SPLIT.jsonl, as build-questions writes it; a .jsonl file; or a folder of NLVR1's release.
        split: of a folder; ignored for a file. NLVR1 takes its parts too: "test:train" and "test:val".

    Raises:
        MissingFileError: no such file, split or picture. InputError: a line that is no sample; it is named.
    """
    data = Path(data).expanduser()
    if data.suffix == ".jsonl" and not data.is_dir():
        return _read(data)
    if not data.is_dir():
        raise MissingFileError(
            f"questions not found: {data} is neither a folder nor a .jsonl file (working folder: {Path.cwd()}); "
            "make them with: sightline build-questions"
        )
    if (file := data / f"{split}.jsonl").is_file():
        return _read(file)
    if (data / MANIFEST).is_file():
        raise InputError(f"{data} is a folder of scenes; make questions: sightline build-questions scenes={data}")
    there = sorted(path.stem for path in data.glob("*.jsonl") if path.name != METRICS)
    if not there and any(data.rglob("*.json*")):
        base, _, part = split.partition(":")
        annotation_file(data, base)
        return nlvr1(data, base, part)
    raise MissingFileError(f"{data} has no split {split!r} (no {file.name}); there: {', '.join(there) or 'none'}")


def nlvr1(folder: str | Path, split: str, part: str = "") -> SampleSet:
    """NLVR1's sentences as yes-or-no questions; intervals resample the sentences.

    Args:
        part: "train" or "val" of the split (vl/tasks/parts.py); empty for all of it.

    Raises:
        MissingFileError, InputError: as `vl.tasks.task.Task.load`.
    """
    read = NLVR1.load(folder, f"{split}:{part}" if part else split)
    samples = [
        Sample(
            id=example.id,
            prompt=NLVR1_PROMPT.format(example.text),
            pictures=example.pictures,
            answer=NLVR1_ANSWERS[str(example.label)],
            reward="yes-no",
            kind="nlvr1",
            group=example.group,
        )
        for example in read.examples
    ]
    return SampleSet(samples, read.pictures)


def _read(file: Path) -> SampleSet:
    samples: list[Sample] = []
    seen: dict[str, str] = {}
    for number, (where, record) in enumerate(json_lines(file, "questions"), start=1):
        sample = sample_from_record(record, where, f"{file.stem}-{number}")
        if sample.id in seen:
            raise InputError(f"{where}: id {sample.id!r} came before, at {seen[sample.id]}; ids are different")
        seen[sample.id] = where
        samples.append(sample)
    if not samples:
        raise InputError(f"{file} holds no questions; one JSON object a line is expected")
    archive = file.with_name(f"{file.stem}_images.zip")
    place = archive if archive.is_file() else file.absolute().parent
    pictures, _ = open_pictures(place, [name for sample in samples for name in sample.pictures], f"questions {file}")
    return SampleSet(samples, pictures)


def sample_from_record(record: dict[str, Any], where: str, default_id: str) -> Sample:
    """The sample in one line of a file.

    Args:
        where: how errors name the line.

    Raises:
        InputError: an unknown field, one of the wrong type, no prompt or answer, or a prompt that does not have
            PICTURE once for each image.
    """
    for name in record:
        if name not in FIELDS:
            raise InputError(f"{where}: unknown field {name!r}; {nearest(name, FIELDS)}")
    prompt, images = _text(record, "prompt", where), _texts(record, "images", where)
    if prompt.count(PICTURE) != len(images):
        instead = f", in place of {FOREIGN}" if FOREIGN in prompt else ""
        raise InputError(
            f"{where}: the prompt has {PICTURE} {prompt.count(PICTURE)} times for {len(images)} images; write it once "
            f"where each image belongs{instead}"
        )
    answer = record.get("answer")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    if not isinstance(answer, str) or not answer.strip():
        raise InputError(f"{where}: the answer is {answer!r}; expected text or a number in the field 'answer'")
    choices = _texts(record, "choices", where)
    needs_picture = record.get("needs_picture", bool(images))
    if not isinstance(needs_picture, bool) or (needs_picture and not images):
        raise InputError(f"{where}: needs_picture={needs_picture!r} with {len(images)} images; expected true or false")
    optional = {name: _text(record, name, where) for name in ("id", "reward", "kind", "group", "worked")
                if record.get(name) not in (None, "")}  # fmt: skip
    return Sample(
        **({"id": default_id, "reward": "exact"} | optional),
        prompt=prompt, pictures=images, answer=answer, choices=choices, needs_picture=needs_picture,
    )  # fmt: skip


def write_samples(file: str | Path, samples: Iterable[Sample]) -> Path:
    """Writes a JSON-lines file that `open_samples` reads; empty fields are left out."""
    lines = []
    for sample in samples:
        record: dict[str, Any] = {"id": sample.id, "images": list(sample.pictures), "prompt": sample.prompt}
        record |= {"answer": sample.answer, "reward": sample.reward, "kind": sample.kind, "group": sample.group}
        record |= {"needs_picture": sample.needs_picture, "choices": list(sample.choices), "worked": sample.worked}
        kept = {name: value for name, value in record.items() if value not in ("", []) or name == "images"}
        lines.append(json.dumps(kept, ensure_ascii=False) + "\n")
    return atomic_write(file, "".join(lines))


def _text(record: dict[str, Any], name: str, where: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: field {name!r} should be text, got {value!r}")
    return value


def _texts(record: dict[str, Any], name: str, where: str) -> tuple[str, ...]:
    value = record.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise InputError(f"{where}: field {name!r} should be a list of texts, got {value!r}")
    return tuple(value)
