"""Facts about vl/progress.py, with models that answer by what the pictures show, and with ones that misbehave."""

import base64
import io
import itertools
import json
import re
import time
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import InputError
from tests.vl.chat_server import Answer, completion, serving
from tests.vl.tiny_image_text import save_llava
from vl.endpoint import EndpointGenerator
from vl.generator import CachedGenerator, Failure, GeneratorConfig, GeneratorCounts, load_generator
from vl.image_text_lm import ImageTextGenerator
from vl.progress import CAUSES, Progress, ProgressReward, read_percentages
from vl.rewards import RewardModel, StepBatch

TASK = "put the red chair beside the bed"


def episode(*percent, size=4):
    """Frames whose grey level says how far the task is: 2 per percent."""
    return np.stack([np.full((size, size, 3), 2 * p, dtype=np.uint8) for p in percent])


def seen(pictures):
    """What a perfect model answers: each picture's grey level, in lines."""
    return "\n".join(f"Picture {k}: {int(p[0, 0, 0]) / 2:g}%" for k, p in enumerate(pictures) if k)


class Model:
    """A generator that answers by `answer(pictures, number of the prompt)`."""

    identity = "model of a test"

    def __init__(self, answer=lambda pictures, number: seen(pictures)):
        self.answer, self.counts, self.asked = answer, GeneratorCounts(), []

    def generate(self, prompts, *, system="", max_tokens, temperature=0.0, seed=0, pictures=None):
        numbers = itertools.count(len(self.asked))
        self.asked += list(zip(prompts, pictures))
        self.counts.calls += len(prompts)
        return [self.answer(group, number) for group, number in zip(pictures, numbers)]


# --- reading answers ---


def test_one_percentage_per_picture_is_read_in_the_forms_models_write_it():
    assert read_percentages("Picture 1: 40%\nPicture 2: 7.5\nPicture 3: 100 %", 3) == [40, 7.5, 100]
    said = "Here is what I see:\n\n- **Picture 2:** 0%\n* Frame 1 = 12 percent.\nimage #3: `99%`\n\nThat is all."
    assert read_percentages(said, 3) == [12, 0, 99]
    assert read_percentages("Picture 2: 20%, picture 1: 10%; Picture 3: 30%", 3) == [10, 20, 30]
    assert read_percentages("Picture 0: 0%\nPicture 1: 50%\r\nPicture 2: 60%", 2) == [50, 60]
    assert read_percentages("Picture 1: 1\nPicture 2: 0", 2) == [1, 0]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("", "missing"),
        ("Picture 1: 40%\nPicture 1: 40%", "twice"),
        ("Picture 1: 40%\nPicture 1: nan", "twice"),
        ("Picture 1: nan", "no number"),
        ("Picture 1: inf%", "no number"),
        ("Picture 1: -inf", "no number"),
        ("Picture 1:", "no number"),
        ("Picture 1: not started", "no number"),
        ("Picture 1: 40-50%", "no number"),
        ("Picture 1: 40 or 50", "no number"),
        ("Picture 1: 4 0", "no number"),
        ("Picture 1: 1e2", "no number"),
        ("Picture 1: 0x10", "no number"),
        ("Picture 1: ٤٠%", "no number"),
        ("Picture 1: 40% Picture 2: 50%", "no number"),
        ("Picture 1: 40%%", "no number"),
        ("Picture 1 40%", "no number"),
        ("Picture 1.5: 40%", "no number"),
        ("Picture 1: 4*0%", "no number"),
        ("Picture 1: 4**0", "no number"),
        ("Picture 1: 4_0", "no number"),
        ("Picture 1: " + "9" * 100, "no number"),
        ("Picture 1: 101%", "out of range"),
        ("Picture 1: 100.0001", "out of range"),
        ("Picture 1: -1%", "out of range"),
        ("Picture 1: " + "9" * 40, "out of range"),
    ],
)
def test_a_picture_without_exactly_one_percentage_fails_alone(line, cause):
    got = read_percentages(f"Picture 3: 30%\n{line}\nPicture 4: 40%", 4)
    assert got == [cause, "missing", 30, 40]


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("I cannot see any pictures.", "no line"),
        ("nan", "no line"),
        ("}{", "no line"),
        ("40\n50\n60", "stray number"),
        ("1: 40%\n2: 50%\n3: 60%", "stray number"),
        ("Pictures 1 to 3: 40%", "stray number"),
        ("Picture 1: 40%\nPicture 2: 1,000%\nPicture 3: 60%", "stray number"),
        ("Picture 1: 40%\nPicture 2: 50%\nPicture 3: 60%\nOn reflection picture 3: 70%", "stray number"),
        ("Picture 1: 40%\nPicture 2: 50%\nPicture 3: 60%\nPicture 4: 70%", "unknown picture"),
        ("Picture 1: 0%\nPicture 2: 50%\nPicture 999999: 60%", "unknown picture"),
        ("Picture 0: 20%\nPicture 1: 40%\nPicture 2: 50%\nPicture 3: 60%", "anchor moved"),
        ("Picture 0: nan\nPicture 1: 40%", "anchor moved"),
        ("Picture 1: 0.4\nPicture 2: 0.55\nPicture 3: 1", "fractions"),
        ("Picture 1: 40%\nPicture 2: " + "9" * 5000, "stray number"),
        ('{"Picture 1": 40, "Picture 2": 50}', "stray number"),
    ],
)
def test_an_answer_that_cannot_be_trusted_fails_whole(answer, cause):
    assert read_percentages(answer, 3) == [cause] * 3


@pytest.mark.parametrize("piece", [" ", "*", "9", "Picture ", "\n", "Picture 1:", "- ", "(", "1*"])
def test_reading_a_long_answer_takes_no_longer_than_its_length(piece):
    """An endpoint may send 4 MB; a pattern that backtracks would take hours."""
    start = time.monotonic()
    read_percentages(f"Picture {piece * (200_000 // len(piece))} x: 40%", 3)
    assert time.monotonic() - start < 5


def test_any_text_gives_a_percentage_or_a_cause_for_each_picture():
    rng = np.random.default_rng(0)
    words = [
        "Picture ",
        "1",
        "2",
        ": ",
        "=",
        "%",
        "nan",
        "-",
        ".",
        "\n",
        ",",
        "5",
        "100",
        "½",
        "\0",
        "**",
        "frame",
        " ",
    ]
    for _ in range(1000):
        answer = "".join(rng.choice(words, rng.integers(0, 20)))
        got = read_percentages(answer, 2)
        assert len(got) == 2
        assert all(value in CAUSES if isinstance(value, str) else 0 <= value <= 100 for value in got)


# --- asking ---


def test_frames_are_shuffled_behind_the_first_and_values_come_back_in_order_of_time():
    percent = [0, 30, 10, 80, 100, 60, 20, 90]
    model = Model()
    result = ProgressReward(model).progress(episode(*percent), TASK)
    assert np.allclose(result.values, np.array(percent) / 100) and result.values.dtype == np.float32
    assert result.asked.all() and result.votes.tolist() == [0] + [1] * 7 and not result.failures
    ((prompt, pictures),) = model.asked
    shown = [int(picture[0, 0, 0]) // 2 for picture in pictures]
    assert shown[0] == 0 and sorted(shown) == sorted(percent) and shown != percent
    assert TASK in prompt and "from 1 to 7" in prompt


def test_the_first_frame_is_at_0_whatever_it_shows():
    assert ProgressReward(Model()).progress(episode(50, 70), TASK).values.tolist() == pytest.approx([0, 0.7])


def test_shuffles_depend_on_seed_and_episode_and_not_on_what_else_is_asked():
    def orders(seed, *episodes):
        model = Model()
        ProgressReward(model, seed=seed).progress_of_many(episodes, [TASK] * len(episodes))
        return [tuple(int(p[0, 0, 0]) // 2 for p in pictures) for _, pictures in model.asked]

    a, b = episode(*range(0, 90, 10)), episode(*range(10, 100, 10))
    assert orders(0, a, b) == orders(0, b, a)[::-1] == orders(0, a) + orders(0, b)
    assert orders(0, a) != orders(1, a)
    assert [k - 10 for k in orders(0, b)[0]] != list(orders(0, a)[0])


def test_several_shuffles_are_averaged_over_those_that_answered():
    def answer(pictures, number):
        levels = [int(p[0, 0, 0]) / 2 for p in pictures]
        if number == 2:
            return Failure("timeout")
        if number == 0:  # nothing about the darkest picture after the first
            return "\n".join(f"Picture {k}: {p}" for k, p in enumerate(levels) if k and p != min(levels[1:]))
        return "\n".join(f"Picture {k}: {p + 4 * number}" for k, p in enumerate(levels) if k)

    model = Model(answer)
    reward = ProgressReward(model, votes=3)
    result = reward.progress(episode(0, 20, 40, 60, 80, 90, 70, 30), TASK)
    assert result.values.tolist() == pytest.approx([0, 0.24, 0.42, 0.62, 0.82, 0.92, 0.72, 0.32])
    assert result.votes.tolist() == [0, 1, 2, 2, 2, 2, 2, 2]
    assert result.failures == {"timeout": 7, "missing": 1}
    assert len({tuple(p.tobytes() for p in pictures) for _, pictures in model.asked}) == 3
    counts = reward.counts.summary()
    assert counts == {"episodes": 1, "wanted": 21, "answered": 13, "failures": {"missing": 1, "timeout": 7}}


def test_long_episodes_are_shown_in_part_and_filled_only_on_request():
    model = Model()
    result = ProgressReward(model, max_frames=4).progress(episode(*range(0, 100, 10)), TASK)
    assert np.flatnonzero(result.asked).tolist() == [0, 3, 6, 9]
    assert np.isnan(result.values[~result.asked]).all()
    assert result.values[result.asked].tolist() == pytest.approx([0, 0.3, 0.6, 0.9])
    assert result.filled().tolist() == pytest.approx([k / 10 for k in range(10)])
    assert len(model.asked[0][1]) == 4


def test_filling_leaves_out_what_lies_beside_a_frame_without_an_answer():
    nan = np.nan
    values = np.array([0, nan, 0.4, nan, nan, nan, 0.8, nan, 1.0], dtype=np.float32)
    asked = np.array([1, 0, 1, 0, 1, 0, 1, 0, 1], dtype=bool)
    filled = Progress(values, asked, np.zeros(9, np.int64)).filled()
    assert np.allclose(filled, [0, 0.2, 0.4, nan, nan, nan, 0.8, 0.9, 1.0], equal_nan=True)


def test_large_frames_are_reduced_and_small_ones_are_shown_as_they_are():
    model = Model()
    left_red = np.zeros((2, 30, 60, 3), dtype=np.uint8)
    left_red[:, :, :30, 0] = 200
    ProgressReward(model, max_side=20).progress(left_red, TASK)
    for picture in model.asked[0][1]:
        assert picture.shape == (10, 20, 3)
        assert (picture[:, :7] == (200, 0, 0)).all() and (picture[:, 13:] == 0).all()
    ProgressReward(model, max_side=60).progress(left_red, TASK)
    assert np.array_equal(model.asked[1][1][0], left_red[0])


def test_only_shown_frames_of_an_episode_are_read():
    class Stream:
        def __init__(self):
            self.read = []

        def __len__(self):
            return 1000

        def __getitem__(self, t):
            self.read.append(t)
            return np.full((2, 2, 3), t // 5, dtype=np.uint8)

    stream = Stream()
    ProgressReward(Model(), max_frames=3).progress(stream, TASK)
    assert stream.read == [0, 500, 999]


@pytest.mark.parametrize("answer", [Failure("server error"), "no idea", "", "Picture 1: nan\nPicture 2: 200%"])
def test_an_episode_without_any_answer_has_no_value_at_all(answer):
    result = ProgressReward(Model(lambda pictures, number: answer)).progress(episode(0, 50, 100), TASK)
    assert np.isnan(result.values).all() and np.isnan(result.filled()).all()
    assert result.failures.total() == 2


# --- as a reward model ---


def test_a_clip_is_paid_with_the_progress_at_its_last_frame_and_nan_where_unanswered():
    def answer(pictures, number):
        return "hm" if number == 1 else seen(pictures)

    model = Model(answer)
    reward: RewardModel = ProgressReward(model, ["close the door", TASK])
    clips = torch.from_numpy(np.stack([episode(0, 20, 30), episode(0, 80, 90), episode(0, 50, 40)]))
    paid = reward.score(StepBatch(clip=clips), torch.tensor([1, 1, 0]))
    assert paid.dtype == torch.float32
    assert np.allclose(paid, [0.3, np.nan, 0.4], equal_nan=True)
    assert [TASK in prompt for prompt, _ in model.asked] == [True, True, False]
    assert reward.needs == {"clip"}
    assert len(reward.score(StepBatch(clip=clips[:0]), torch.zeros(0, dtype=torch.long))) == 0


def test_input_that_has_no_progress_is_refused_before_anything_is_asked():
    model = Model()
    reward = ProgressReward(model, [TASK])
    clips = torch.zeros(2, 3, 4, 4, 3, dtype=torch.uint8)
    for steps, goals, message in (
        (StepBatch(), [0, 0], "does the task render"),
        (StepBatch(clip=clips), [0], "one goal per clip"),
        (StepBatch(clip=clips), [0, 1], r"run 0..1, expected 0..0"),
        (StepBatch(clip=clips.float()), [0, 0], r"torch.float32|float32 \(4, 4, 3\), expected uint8"),
        (StepBatch(clip=clips[:, :1]), [0, 0], "an episode of 1 frames has no progress"),
    ):
        with pytest.raises(InputError, match=message):
            reward.score(steps, torch.tensor(goals))
    with pytest.raises(InputError, match="an empty instruction"):
        reward.progress(episode(0, 1), " \n")
    with pytest.raises(InputError, match="1 episodes come with 2 instructions"):
        reward.progress_of_many([episode(0, 1)], [TASK, TASK])
    with pytest.raises(InputError, match="should be a list"):
        ProgressReward(model, TASK)
    with pytest.raises(InputError, match="max_frames=1"):
        ProgressReward(model, max_frames=1)
    assert not model.asked


# --- cost, and runs that stop ---


def levels(request):
    """The grey levels of the pictures in a request, and that each is announced by its number."""
    *parts, prompt = request.body["messages"][-1]["content"]
    labels, images = parts[::2], parts[1::2]
    assert [part["text"] for part in labels] == [f"Picture {k}:" for k in range(len(images))]
    files = (base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in images)
    return [np.asarray(Image.open(io.BytesIO(file))) for file in files]


def test_cost_is_counted_and_a_second_run_is_free(tmp_path):
    episodes = [episode(0, k, 2 * k, 3 * k) for k in range(5, 25)]
    with serving(lambda request, number: completion(seen(levels(request)))) as chat:
        config = GeneratorConfig(f"{chat.url}#any", cache=str(tmp_path), price_in=3.0, price_out=15.0)
        first = ProgressReward(load_generator(config))
        values = [result.values for result in first.progress_of_many(episodes, [TASK] * 20)]
        sent = sum(
            len(part["image_url"]["url"])
            for request in chat.requests
            for part in request.body["messages"][-1]["content"]
            if part["type"] == "image_url"
        )
        assert np.allclose(values, [[0, k / 100, 2 * k / 100, 3 * k / 100] for k in range(5, 25)])
        counts = first.generator.counts
        assert (counts.calls, counts.pictures, counts.picture_bytes) == (20, 80, sent)
        assert (counts.prompt_tokens, counts.answer_tokens) == (140, 60)
        assert counts.money == pytest.approx((140 * 3 + 60 * 15) / 1e6) and counts.seconds > 0
        assert json.loads(json.dumps(counts.summary()))["money"] == counts.money

        again = ProgressReward(load_generator(config))
        repeated = [result.values for result in again.progress_of_many(episodes, [TASK] * 20)]
        assert np.array_equal(values, repeated) and len(chat.requests) == 20
        spent = again.generator.counts
        assert (spent.hits, spent.calls, spent.pictures, spent.money) == (20, 0, 0, 0.0)


def test_a_run_that_is_killed_asks_again_only_what_it_has_not_stored(tmp_path):
    episodes = [episode(0, k, 2 * k) for k in range(1, 13)]

    def dies(pictures, number):
        if number == 7:
            raise KeyboardInterrupt
        return seen(pictures)

    with pytest.raises(KeyboardInterrupt):
        ProgressReward(CachedGenerator(Model(dies), tmp_path, chunk=2)).progress_of_many(episodes, [TASK] * 12)
    model = Model()
    results = ProgressReward(CachedGenerator(model, tmp_path, chunk=2)).progress_of_many(episodes, [TASK] * 12)
    assert len(model.asked) == 12 - 6
    assert np.allclose([r.values[-1] for r in results], [2 * k / 100 for k in range(1, 13)])


def test_an_endpoint_that_fails_a_tenth_of_the_calls_loses_nothing_else():
    """60 episodes, one call each; every tenth picture level is answered badly, each time in another way."""
    bad = {
        10: Answer(before_s=1.5),
        20: Answer(b"broken", 500),
        30: completion(float("nan")),
        40: completion("Picture 1: nan\nPicture 2: nan"),
        50: completion("as an assistant I would rather not"),
        60: Answer(b"<html>login</html>", kind="text/html"),
    }
    episodes = [episode(0, k, k) for k in range(1, 61)]

    def answer(request, number):
        pictures = levels(request)
        return bad.get(int(pictures[1][0, 0, 0]) // 2) or completion(seen(pictures))

    with serving(answer) as chat:
        generator = EndpointGenerator(chat.url, "m", timeout_s=0.8, retries=1, concurrency=6, backoff_s=0.001)
        reward = ProgressReward(generator)
        results = reward.progress_of_many(episodes, [TASK] * 60)
    for k, result in enumerate(results, start=1):
        if k in bad:
            assert np.isnan(result.values).all() and result.failures.total() == 2
        else:
            assert result.values.tolist() == pytest.approx([0, k / 100, k / 100])
    assert generator.counts.failures == {"timeout": 1, "server error": 1, "garbage": 2}
    assert reward.counts.failures == {"timeout": 2, "server error": 2, "garbage": 4, "no number": 2, "no line": 2}
    assert (reward.counts.episodes, reward.counts.answered) == (60, 108)


def test_an_endpoint_that_is_down_for_a_while_is_asked_again_by_the_next_episodes():
    up = []

    def answer(request, number):
        return completion(seen(levels(request))) if up else Answer(b"down", 503)

    with serving(answer) as chat:
        generator = EndpointGenerator(chat.url, "m", timeout_s=2, retries=0, concurrency=2)
        reward = ProgressReward(generator)
        lost = reward.progress_of_many([episode(0, k) for k in range(1, 31)], [TASK] * 30)
        assert all(np.isnan(result.values).all() for result in lost)
        assert sum((result.failures for result in lost), Counter()).total() == 30 > len(chat.requests)
        up.append(True)
        assert reward.progress(episode(0, 70), TASK).values.tolist() == pytest.approx([0, 0.7])
    assert set(reward.counts.failures) == {"server error", "not asked"} and reward.counts.answered == 1


def test_a_local_image_text_model_answers_or_fails_by_cause(tmp_path):
    save_llava(tmp_path, room=512)
    reward = ProgressReward(ImageTextGenerator(tmp_path), votes=3, temperature=1.0, max_tokens=15)
    result = reward.progress(episode(0, 50, 100, size=20), TASK)
    assert int(result.votes.sum()) + result.failures.total() == 6
    assert np.isnan(result.values[1:][result.votes[1:] == 0]).all()
    counts = reward.generator.counts
    assert (counts.calls, counts.pictures) == (3, 9) and counts.prompt_tokens > 0
    assert re.fullmatch(r"folder:[0-9a-f]{16}", reward.generator.identity)
