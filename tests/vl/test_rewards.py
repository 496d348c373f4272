"""Facts about vl/rewards.py."""

import pytest
import torch
from torch.nn.functional import normalize

from core.errors import InputError
from vl.rewards import EmbeddingReward, RewardModel, StepBatch, VLMReward, name_rows, vlm_rm_reward


class TableEmbedder:
    """Texts have given vectors; an image's embedding is the one-hot of its first pixel's red value."""

    def __init__(self, table: dict[str, list[float]], dim: int | None = None) -> None:
        self.table = {text: torch.tensor(vector) for text, vector in table.items()}
        self.dim = dim or len(next(iter(self.table.values())))
        self.images_encoded = 0

    def encode_texts(self, texts):
        return torch.stack([self.table[text] for text in texts])

    def encode_images(self, images):
        self.images_encoded += len(images)
        return torch.eye(self.dim)[images[:, 0, 0, 0].long()]


PLANE = {"up": [0.0, 1.0], "right": [1.0, 0.0], "diagonal": [0.6, 0.8]}


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_two_dot_products_equal_the_projection_matrix_of_the_paper(alpha):
    generator = torch.Generator().manual_seed(0)
    image = normalize(torch.randn(7, 16, generator=generator, dtype=torch.float64), dim=-1)
    prompts = normalize(torch.randn(7, 3, 16, generator=generator, dtype=torch.float64), dim=-1)
    goal = prompts.mean(1)  # shorter than 1: the mean is not normalised again
    direction = goal - normalize(torch.randn(16, generator=generator, dtype=torch.float64), dim=-1)
    slow = []
    for s, g, d in zip(image, goal, direction):
        projection = alpha * torch.outer(d, d) / d.dot(d) + (1 - alpha) * torch.eye(16, dtype=torch.float64)
        slow.append(1 - 0.5 * ((s - g) @ projection).norm() ** 2)
    fast = vlm_rm_reward(image, goal, normalize(direction, dim=-1), alpha)
    torch.testing.assert_close(fast, torch.stack(slow), rtol=1e-12, atol=1e-12)


def test_alpha_zero_with_one_prompt_is_the_cosine():
    reward = VLMReward(TableEmbedder(PLANE), [["diagonal"]], alpha=0.0)
    score = reward.score(StepBatch(embedding=torch.tensor([[0.0, 1.0], [1.0, 0.0]])), torch.tensor([0, 0]))
    assert score.tolist() == pytest.approx([0.8, 0.6])


def test_alpha_one_keeps_only_the_coordinate_along_baseline_to_goal():
    # d = (up - right) / sqrt 2; (s - g).d is 0 at the goal and sqrt 2 at the baseline: 1 - 2 / 2 = 0
    reward = VLMReward(TableEmbedder(PLANE), [["up"]], baseline=["right"], alpha=1.0)
    score = reward.score(StepBatch(embedding=torch.eye(2)), torch.tensor([0, 0]))
    assert score.tolist() == pytest.approx([0.0, 1.0], abs=1e-6)


def test_each_row_is_scored_against_its_own_goal_and_prompts_are_averaged_without_normalising():
    reward = VLMReward(TableEmbedder(PLANE), [["up"], ["up", "right"]], alpha=0.0)
    assert reward.goal_vectors[1].tolist() == [0.5, 0.5]
    # second goal: |s - g|^2 = 0.25 + 0.25, r = 1 - 0.25
    score = reward.score(StepBatch(embedding=torch.tensor([[0.0, 1.0]] * 2)), torch.tensor([0, 1]))
    assert score.tolist() == pytest.approx([1.0, 0.75])


def test_a_given_embedding_saves_the_encoder_and_gives_the_same_score():
    embedder = TableEmbedder(PLANE)
    reward = VLMReward(embedder, [["up"]], baseline=["right"], alpha=0.5)
    frame = torch.tensor([0, 1], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 4, 4, 3)
    goals = torch.tensor([0, 0])
    stored = reward.embed(frame)
    assert embedder.images_encoded == 2
    assert torch.equal(
        reward.score(StepBatch(frame=frame, embedding=stored), goals),
        reward.score(StepBatch(embedding=stored.half()), goals),
    )
    assert embedder.images_encoded == 2
    assert torch.equal(reward.score(StepBatch(frame=frame), goals), reward.score(StepBatch(embedding=stored), goals))
    assert embedder.images_encoded == 4


def test_impossible_settings_are_named():
    embedder = TableEmbedder(PLANE)
    with pytest.raises(InputError, match=r"alpha=1.5 should be in \[0, 1\]"):
        VLMReward(embedder, [["up"]], ["right"], alpha=1.5)
    with pytest.raises(InputError, match="needs baseline"):
        VLMReward(embedder, [["up"]], alpha=0.5)
    with pytest.raises(InputError, match="goal 0 .* has the embedding of the baseline"):
        VLMReward(embedder, [["up"]], ["up"], alpha=0.5)
    with pytest.raises(InputError, match="goal 1 should be a non-empty list"):
        VLMReward(embedder, [["up"], []], alpha=0.0)
    with pytest.raises(InputError, match="goal 0 should be a non-empty list"):
        VLMReward(embedder, ["up"], alpha=0.0)
    with pytest.raises(InputError, match="text embeddings have 2 numbers, the embedder says 5"):
        VLMReward(TableEmbedder(PLANE, dim=5), [["up"]], alpha=0.0)


def test_steps_that_cannot_be_scored_are_an_error_and_never_zero():
    reward = VLMReward(TableEmbedder(PLANE), [["up"]], alpha=0.0)
    goals = torch.tensor([0, 0])
    with pytest.raises(InputError, match="does the task render"):
        reward.score(StepBatch(), goals)
    with pytest.raises(InputError, match=r"\(2, 3\), expected \(B, 2\)"):
        reward.score(StepBatch(embedding=torch.zeros(2, 3)), goals)
    with pytest.raises(InputError, match="one goal per step"):
        reward.score(StepBatch(embedding=torch.eye(2)), torch.tensor([0]))
    with pytest.raises(InputError, match=r"0\.\.1, expected 0\.\.0"):
        reward.score(StepBatch(embedding=torch.eye(2)), torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"-1\.\.0, expected 0\.\.0"):
        reward.score(StepBatch(embedding=torch.eye(2)), torch.tensor([0, -1]))
    for bad in (float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"1 of 2 image embeddings hold NaN or infinite numbers \(row 1\)"):
            reward.score(StepBatch(embedding=torch.tensor([[0.0, 1.0], [bad, 0.0]])), goals)


def test_many_bad_rows_are_named_by_the_first_five():
    assert name_rows(torch.tensor([False, True])) == "row 1"
    assert name_rows(torch.ones(7, dtype=torch.bool)) == "rows 0, 1, 2, 3, 4 and 2 more"


@pytest.mark.parametrize(
    ("frames", "advice"),
    [
        (torch.zeros(2, 8, 8, 3), r"float32 of shape \(2, 8, 8, 3\).*255 \* images"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"permute\(0, 2, 3, 1\)"),
        (torch.zeros(2, 8, 8, 4, dtype=torch.uint8), r"images\[\.\.\., :3\]"),
        (torch.zeros(2, 8, 8, 1, dtype=torch.uint8), r"grey .*expand\(-1, -1, -1, 3\)"),
        (torch.zeros(2, 8, 8, dtype=torch.uint8), r"grey .*images\[\.\.\., None\]"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"images\[None\]"),
        (torch.zeros(2, 0, 8, 3, dtype=torch.uint8), "no pixel"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.int64), "int64 .*bytes, 0..255"),
    ],
)
def test_frames_of_another_kind_are_refused_with_the_way_to_mend_them(frames, advice):
    reward = VLMReward(TableEmbedder(PLANE), [["up"]], alpha=0.0)
    with pytest.raises(InputError, match=advice):
        reward.score(StepBatch(frame=frames), torch.zeros(len(frames), dtype=torch.long))


def test_frames_of_any_height_and_width_are_scored(tiny_model):
    reward = VLMReward(tiny_model, [["a red box"]], alpha=0.0)
    frames = torch.full((1, 40, 60, 3), 90, dtype=torch.uint8)
    same = reward.score(StepBatch(frame=frames[:, :32, :32]), torch.tensor([0]))
    torch.testing.assert_close(reward.score(StepBatch(frame=frames), torch.tensor([0])), same, atol=1e-5, rtol=0)


def test_prompts_that_cannot_be_read_are_named(tiny_model):
    with pytest.raises(InputError, match="goal 1 has the prompt '  '"):
        VLMReward(tiny_model, [["a red box"], ["a box", "  "]], alpha=0.0)
    with pytest.raises(InputError, match="the baseline has the prompt ''"):
        VLMReward(tiny_model, [["a red box"]], [""], alpha=0.5)
    with pytest.raises(InputError, match="a text has 22 tokens, the model reads at most 16: 'red red"):
        VLMReward(tiny_model, [["red " * 20]], alpha=0.0)
    with pytest.raises(InputError, match=r"goal 1 \['A red box'\] has the embedding of the baseline"):
        VLMReward(tiny_model, [["a box"], ["A red box"]], ["a  red box"], alpha=0.5)  # the same tokens


def test_given_vectors_score_as_the_prompts_they_came_from(tiny_model, frames):
    goals = [["a red box", "a red box on the left"], ["a blue box"]]
    said = VLMReward(tiny_model, goals, ["an empty room"], alpha=0.5)
    given = VLMReward.from_vectors(tiny_model, said.goal_vectors, said.baseline_vector, alpha=0.5)
    steps, rows = StepBatch(frame=frames), torch.tensor([0, 1, 0, 1, 0])
    assert torch.equal(given.score(steps, rows), said.score(steps, rows))
    assert isinstance(given, EmbeddingReward) and isinstance(given, RewardModel)


def test_given_vectors_that_fit_nothing_are_refused():
    embedder, up = TableEmbedder(PLANE), torch.tensor([[0.0, 1.0]])
    with pytest.raises(InputError, match=r"shape \(1, 3\), expected \(G, 2\)"):
        VLMReward.from_vectors(embedder, torch.ones(1, 3))
    with pytest.raises(InputError, match=r"shape \(0, 2\), expected \(G, 2\) with G >= 1"):
        VLMReward.from_vectors(embedder, torch.ones(0, 2))
    with pytest.raises(InputError, match=r"baseline vector has shape \(1, 2\), expected \(2,\)"):
        VLMReward.from_vectors(embedder, up, up, alpha=0.5)
    with pytest.raises(InputError, match="NaN"):
        VLMReward.from_vectors(embedder, up * float("nan"))
    with pytest.raises(InputError, match="goal 0 is the baseline vector: the direction between them is undefined"):
        VLMReward.from_vectors(embedder, up, up[0], alpha=0.5)
    with pytest.raises(InputError, match="needs baseline"):
        VLMReward.from_vectors(embedder, up, alpha=0.5)


def test_scores_of_the_project_s_towers_agree_whatever_the_batch(tiny_model):
    reward = VLMReward(tiny_model, [["a red box"], ["a blue box on the left"]], ["an empty room"], alpha=0.5)
    frames = torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    goals = torch.arange(40) % 2
    together = reward.score(StepBatch(frame=frames), goals)
    for size in (1, 7):
        parts = zip(frames.split(size), goals.split(size))
        split = torch.cat([reward.score(StepBatch(frame=frame), goal) for frame, goal in parts])
        torch.testing.assert_close(split, together, atol=1e-5, rtol=0)
    assert reward.needs == {"frame"} and reward.dim == 12
