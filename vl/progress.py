"""How far a task is along, asked of a generative vision-language model.

`ProgressReward` is GVL (Ma et al., "Vision Language Models are In-Context Value Learners", ICLR 2025,
arXiv:2411.04549): the model sees the frames of an episode in random order, knows that the first one is at 0 %, and says
for each how many percent of the task are done. In the order of time models answer with a rising line whatever the
pictures show; shuffled, they have to look. It differs from the paper in its words, in leaving out the descriptions of
frames and the example episodes, in averaging over several shuffles where asked, and in reading answers strictly: what
does not say one percentage of a picture is no answer, counted by cause, and never a 0.
"""

import re
import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from vl.generator import Failure, Generator, Picture
from vl.pixels import shown_frame
from vl.rewards import StepBatch

SYSTEM: Final = (
    "You judge from pictures how far a task is along. You answer in the form that is asked for, without more."
)
ASKED: Final = """Task: {instruction}

Picture 0 was taken before the task began: 0 % of it is done. At 100 % it is done completely. The other pictures were \
taken at other moments and are in random order. Work on the task may stall, be undone, or never end. Judge each \
picture by what it shows, not by its place.

Answer with one line for each picture from 1 to {n}, nothing before and nothing after, in the form
Picture NUMBER: PERCENT%"""
TOKENS_PER_PICTURE: Final = 16  # "Picture 12: 100%" takes 6 to 10 in common vocabularies
TOKENS_BESIDE: Final = 64

CAUSES: Final = (
    # of one picture
    "missing",  # no line for it
    "twice",  # several lines for it, even if they agree
    "no number",  # its line says something else than one percentage
    "out of range",  # below 0 or above 100
    # of the whole answer
    "no line",  # no picture is named at all
    "unknown picture",  # a line for a picture that was not shown: the numbering may be shifted
    "anchor moved",  # picture 0 is said to be elsewhere than at 0 %
    "stray number",  # a number outside the lines of pictures
    "fractions",  # parts of 1 where percentages were asked for
)
"""Why an answer that came gives no value; beside the causes of vl/generator.py for answers that did not come."""

LONGEST_LINE: Final = 200  # characters; a longer one is talk
_EMPHASIS: Final = re.compile(r"(?<![0-9.*_`])[*_`]+|[*_`]+(?![0-9.*_`])")  # not within a number
_NAMED: Final = re.compile(r"(?:picture|frame|image) ?#? ?([0-9]{1,6})(?![0-9])(.*)", re.IGNORECASE)
_VALUE: Final = re.compile(r" ?[:=] ?([-+]?[0-9]{1,40}(?:\.[0-9]{1,40})?) ?(%|percent)? ?\.?", re.IGNORECASE)


@dataclass(frozen=True)
class Progress:
    """Progress over an episode of T frames."""

    values: Float[ndarray, " T"]  # share of the task that is done, in [0, 1]; NaN where not asked or not answered
    asked: Bool[ndarray, " T"]  # frames that the model was shown, the first among them
    votes: Int64[ndarray, " T"]  # answers behind each value; the first frame has none: it is at 0 by definition
    failures: Counter[str] = field(default_factory=Counter)  # answers that did not come, per frame and vote, by cause

    def filled(self) -> Float[ndarray, " T"]:
        """`values` with straight lines between neighbouring shown frames.

        A frame that was shown and not answered stays NaN, and so do the frames between it and its shown neighbours.
        """
        shown = np.flatnonzero(self.asked)
        lines = np.interp(np.arange(len(self.asked)), shown, self.values[shown])  # NaN beside a NaN
        return np.where(self.asked, self.values, lines).astype(np.float32)


@dataclass
class ProgressCounts:
    """What was asked of the model since the reward was made; what it cost is in the generator's own counts."""

    episodes: int = 0  # episodes or clips
    answered: int = 0  # answers with a percentage, one per vote and shown frame but the first
    failures: Counter[str] = field(default_factory=Counter)  # those that did not come, by cause

    def summary(self) -> dict[str, Any]:
        """Plain numbers for result.json."""
        wanted = self.answered + self.failures.total()
        return {**vars(self), "wanted": wanted, "failures": dict(sorted(self.failures.items()))}


class ProgressReward:
    """Progress towards each of a list of instructions, as a reward model over clips.

    Behind a cache (vl/generator.py) a call that failed is asked again by the next run; an answer that came is kept even
    if nothing can be read from it, so that a second run gives the same values.

    Attributes:
        instructions: what `goals` of `score` index.
        counts: answers wanted, got and failed; `generator.counts` has calls, tokens, bytes, seconds and money.
    """

    needs: frozenset[str] = frozenset({"clip"})

    def __init__(
        self,
        generator: Generator,
        instructions: Sequence[str] = (),
        *,
        max_frames: int = 16,
        max_side: int = 512,
        votes: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int | None = None,
    ) -> None:
        """
        Args:
            generator: any that reads several pictures per prompt.
            instructions: the tasks in words; may be empty where only `progress` is used.
            max_frames: frames shown of an episode, the first among them; of a longer one evenly chosen ones, the last
                among them.
            max_side: pixels of the longer side; larger frames are reduced to it, since models see no more and requests
                have a size limit.
            votes: shuffles of an episode, each a call of its own; values are the mean of the answers.
            temperature: 0 takes the likeliest answer to each shuffle.
            seed: decides shuffles and draws; both depend on the episode and this, not on what else is asked.
            max_tokens: longest answer; None for enough to answer as asked. Models that reason first need more.

        Raises:
            InputError: an empty instruction, or a number out of its range.
        """
        if isinstance(instructions, str):
            raise InputError(f"instructions should be a list, got the single text {instructions!r}")
        if max_frames < 2 or votes < 1 or max_side < 1:
            raise InputError(
                f"max_frames={max_frames}, votes={votes}, max_side={max_side}: expected at least 2 frames, 1 vote and "
                "1 pixel"
            )
        self.generator = generator
        self.instructions = [_one_line(text) for text in instructions]
        self.max_frames, self.max_side, self.votes = max_frames, max_side, votes
        self.temperature, self.seed, self.max_tokens = temperature, seed, max_tokens
        self.counts = ProgressCounts()

    def progress(self, frames: Sequence[Picture] | Tensor | ndarray, instruction: str) -> Progress:
        """Progress over one episode; see `progress_of_many`."""
        return self.progress_of_many([frames], [instruction])[0]

    def progress_of_many(
        self, episodes: Sequence[Sequence[Picture] | Tensor | ndarray], instructions: Sequence[str]
    ) -> list[Progress]:
        """Progress over episodes, each by its own calls; together they keep an endpoint busy.

        Args:
            episodes: of each the frames (T, H, W, 3) uint8 in order of time, or anything with a length that gives
                frame t by [t]; only shown frames are read. The first is taken to be at 0 %.
            instructions: one per episode.

        Raises:
            InputError: an episode of fewer than 2 frames, frames of another type or shape, an empty instruction, or
                one count of episodes and another of instructions.
        """
        if len(episodes) != len(instructions):
            raise InputError(f"{len(episodes)} episodes come with {len(instructions)} instructions; give one for each")
        prompts: list[str] = []
        pictures: list[list[Picture]] = []
        shown: list[ndarray] = []
        orders: list[list[ndarray]] = []
        for frames, text in zip(episodes, instructions):
            instruction = _one_line(text)
            shown.append(_shown(len(frames), self.max_frames))
            read = [shown_frame(frames[int(t)], self.max_side) for t in shown[-1]]
            orders.append([self._order(read, instruction, vote) for vote in range(self.votes)])
            for order in orders[-1]:
                prompts.append(ASKED.format(instruction=instruction, n=len(read) - 1))
                pictures.append([read[0], *(read[1 + k] for k in order)])
        answers = self._asked(prompts, pictures)
        results = []
        for number, (frames, indices) in enumerate(zip(episodes, shown)):
            said = answers[number * self.votes : (number + 1) * self.votes]
            results.append(_collected(said, orders[number], indices, len(frames)))
        for result in results:
            self.counts.episodes += 1
            self.counts.answered += int(result.votes.sum())
            self.counts.failures += result.failures
        return results

    def score(self, steps: StepBatch, goals: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The progress at each clip's last frame, in [0, 1], where its first frame counts as 0; NaN where unanswered.

        For progress since the start of an episode, clips start with it.

        Raises:
            InputError: no clips, one count of clips and another of goals, or a goal index out of range.
        """
        if steps.clip is None:
            raise InputError(
                "progress needs steps.clip, the last frames of each step; it is None: does the task render?"
            )
        if goals.shape != (len(steps.clip),):
            raise InputError(f"{len(steps.clip)} clips but goals of shape {tuple(goals.shape)}; give one goal per clip")
        chosen = goals.tolist()
        if any(not 0 <= goal < len(self.instructions) for goal in chosen):
            raise InputError(f"goal indices run {min(chosen)}..{max(chosen)}, expected 0..{len(self.instructions) - 1}")
        found = self.progress_of_many(list(steps.clip), [self.instructions[goal] for goal in chosen])
        return torch.tensor([result.values[-1] for result in found], dtype=torch.float32, device=goals.device)

    def _order(self, read: list[Picture], instruction: str, vote: int) -> ndarray:
        """The shuffle of an episode's frames after the first."""
        digest = zlib.crc32(instruction.encode("utf-8", "replace"))
        for picture in read:
            digest = zlib.crc32(picture.tobytes(), digest)
        return np.random.default_rng([self.seed, vote, digest]).permutation(len(read) - 1)

    def _asked(self, prompts: list[str], pictures: list[list[Picture]]) -> list[str | Failure]:
        """Answers in order. Prompts are put together by the longest answer they allow."""
        longest = [self.max_tokens or TOKENS_BESIDE + TOKENS_PER_PICTURE * len(group) for group in pictures]
        answers: dict[int, str | Failure] = {}
        for max_tokens in sorted(set(longest)):
            rows = [i for i, tokens in enumerate(longest) if tokens == max_tokens]
            got = self.generator.generate(
                [prompts[i] for i in rows],
                system=SYSTEM,
                max_tokens=max_tokens,
                temperature=self.temperature,
                seed=self.seed,
                pictures=[pictures[i] for i in rows],
            )
            answers.update(zip(rows, got))
        return [answers[i] for i in range(len(prompts))]


def read_percentages(answer: str, n: int) -> list[float | str]:
    """What an answer says of pictures 1 to n: percent, or one of CAUSES.

    A line names a picture and then says one number from 0 to 100, with or without a percent sign; commas and semicolons
    separate like line ends, and marks of lists and emphasis do not matter. Lines without any number are passed over.
    """
    said: dict[int, list[str | tuple[float, bool]]] = {}
    for line in re.split(r"[\n\r,;]", answer):
        line = " ".join(line.split()).lstrip("-•>#* ")
        named = _NAMED.fullmatch(_EMPHASIS.sub("", line)) if len(line) <= LONGEST_LINE else None
        if named is None:
            if any(letter.isnumeric() for letter in line):
                return ["stray number"] * n
            continue
        value = _VALUE.fullmatch(named[2])
        said.setdefault(int(named[1]), []).append((float(value[1]), bool(value[2])) if value else "no number")
    if not said:
        return ["no line"] * n
    if max(said) > n:
        return ["unknown picture"] * n
    if any(isinstance(word, str) or word[0] != 0 for word in said.pop(0, [])):
        return ["anchor moved"] * n
    numbers = [word for words in said.values() for word in words if not isinstance(word, str)]
    if (
        any(0 < number < 1 for number, _ in numbers)
        and all(abs(number) <= 1 for number, _ in numbers)
        and not any(percent for _, percent in numbers)
    ):
        return ["fractions"] * n
    return [_value(said.get(k, [])) for k in range(1, n + 1)]


def _value(words: list[str | tuple[float, bool]]) -> float | str:
    if len(words) != 1:
        return "twice" if words else "missing"
    word = words[0]
    if isinstance(word, str):
        return word
    return word[0] if 0 <= word[0] <= 100 else "out of range"


def _collected(
    answers: Sequence[str | Failure], orders: Sequence[ndarray], indices: Int64[ndarray, " K"], length: int
) -> Progress:
    """The votes of one episode, put back into the order of time."""
    percent = np.full((len(answers), len(indices)), np.nan)
    failures: Counter[str] = Counter()
    for row, answer, order in zip(percent, answers, orders):
        said: list[float | str] = (
            [answer.cause] * len(order) if isinstance(answer, Failure) else read_percentages(answer, len(order))
        )
        for k, value in zip(order, said):
            if isinstance(value, str):
                failures[value] += 1
            else:
                row[1 + k] = value
    votes = np.zeros(length, np.int64)
    votes[indices] = (~np.isnan(percent)).sum(0)
    if votes.any():  # without any answer nothing is known of the episode, and a lone 0 would look like a score
        percent[:, 0] = 0.0
    asked = np.zeros(length, bool)
    asked[indices] = True
    values = np.full(length, np.nan, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a frame that no vote answers is NaN, as meant
        values[indices] = np.nanmean(percent, axis=0) / 100
    return Progress(values, asked, votes, failures)


def _shown(length: int, most: int) -> Int64[ndarray, " K"]:
    """Indices of the frames that are shown: all, or evenly spread ones with the first and the last."""
    if length < 2:
        raise InputError(f"an episode of {length} frames has no progress; give at least 2")
    if length <= most:
        return np.arange(length)
    return np.round(np.linspace(0, length - 1, most)).astype(np.int64)


def _one_line(instruction: str) -> str:
    line = " ".join(instruction.split())
    if not line:
        raise InputError("an empty instruction has no progress; say what the task is")
    return line
