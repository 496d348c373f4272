"""Facts about vl/goal_tuning.py, with the project's two towers and CLIP- and SigLIP-shaped models of random weights."""

import pytest
import torch
from torch.nn.functional import normalize

from core.errors import InputError, MissingFileError
from tests.vl.test_embedder import save_dual_encoder
from vl.embedder import load_embedder
from vl.goal_tuning import TunedGoal, _TextSide, tune_goal, tuned_reward
from vl.rewards import StepBatch

PROMPT, WORDS = "a red chair", "blue lamp"  # all of these are words of every tokenizer here


@pytest.fixture(scope="module", params=["own", "clip", "siglip"])
def towers(request, tmp_path_factory, tiny_config):
    if request.param != "own":
        folder = tmp_path_factory.mktemp(request.param)
        save_dual_encoder(request.param, folder, None)
        return load_embedder(folder)
    from vl.model import VLModel
    from vl.tokenizer import train_tokenizer

    return VLModel.create(tiny_config, train_tokenizer([PROMPT, WORDS, "an empty room"]), seed=3).eval()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    save_dual_encoder("clip", folder, None)
    return load_embedder(folder)


def labelled_frames(dim: int, rows: int = 80) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings around one mean that differ along a direction where the goal is reached."""
    generator = torch.Generator().manual_seed(5)
    mean, direction = normalize(torch.randn(2, dim, generator=generator), dim=1)
    reached = torch.arange(rows) % 4 == 0
    noise = 0.1 * torch.randn(rows, dim, generator=generator)
    return normalize(mean + noise + 0.4 * (reached[:, None].float() - 0.5) * direction, dim=1), reached


def test_context_that_equals_words_gives_the_sentence_with_these_words(towers):
    ids = towers.tokenizer(WORDS, add_special_tokens=False)["input_ids"]
    text = _TextSide(towers, [PROMPT], len(ids))
    with torch.no_grad():
        found = text.vector(text.table.weight[ids])
    torch.testing.assert_close(found, towers.encode_texts([f"{WORDS} {PROMPT}"])[0], atol=1e-6, rtol=0)
    assert not torch.allclose(found, towers.encode_texts([PROMPT])[0], atol=1e-3)


def test_tuning_tells_frames_apart_that_the_plain_prompt_does_not(towers):
    embeddings, reached = labelled_frames(towers.dim)
    model = getattr(towers, "model", towers)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    goal = tune_goal(towers, [PROMPT], embeddings, reached, seed=0, lr=0.02, steps=40)
    assert goal.auc_plain < 0.8 and goal.auc_tuned > goal.auc_plain + 0.15
    assert goal.loss_best < goal.loss_first and 0 < goal.best_step <= goal.steps <= 40
    assert goal.frames == {
        "train": {"reached": 12, "not": 36}, "stop": {"reached": 4, "not": 12}, "measure": {"reached": 4, "not": 12}
    }  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.testing.assert_close(towers.encode_texts([PROMPT]), towers.encode_texts([PROMPT]))


def test_a_tuned_goal_scores_as_a_reward_with_projection(clip, tmp_path):
    embeddings, reached = labelled_frames(clip.dim)
    options = {"baseline": ["a blue lamp on the left"], "alpha": 0.5, "lr": 0.02, "steps": 15, "source": "made here"}
    goals = [tune_goal(clip, [PROMPT, "a chair"], embeddings, reached, seed=seed, **options) for seed in (1, 2)]
    kept = [TunedGoal.load(goal.save(tmp_path / str(goal.seed))) for goal in goals]
    assert kept[0].source == "made here" and kept[0].frames == goals[0].frames
    reward = tuned_reward(clip, kept)
    assert reward.alpha == 0.5 and torch.equal(reward.goal_vectors, torch.stack([goal.vector for goal in goals]))
    score = reward.score(StepBatch(embedding=embeddings), torch.zeros(80, dtype=torch.long))
    assert score[reached].mean() > score[~reached].mean()


def test_seeds_decide_the_result(clip):
    embeddings, reached = labelled_frames(clip.dim)
    first, again, other = (tune_goal(clip, [PROMPT], embeddings, reached, seed=seed, steps=5) for seed in (7, 7, 8))
    assert torch.equal(first.vector, again.vector) and first.loss_best == again.loss_best
    assert not torch.equal(first.vector, other.vector)


def test_training_ends_when_the_frames_that_stop_it_gain_no_more(clip):
    embeddings, _ = labelled_frames(clip.dim)
    noise = torch.randperm(80, generator=torch.Generator().manual_seed(0)) < 20  # labels that mean nothing
    goal = tune_goal(clip, [PROMPT], embeddings, noise, seed=0, lr=0.05, steps=200, patience=3)
    assert goal.steps == goal.best_step + 3 < 200


def test_frames_of_one_group_stay_in_one_part(clip):
    embeddings, reached = labelled_frames(clip.dim)
    groups = [row // 8 for row in range(80)]  # ten episodes, each with two of eight reached
    goal = tune_goal(clip, [PROMPT], embeddings, reached, seed=0, groups=groups, steps=1)
    assert goal.frames == {
        "train": {"reached": 12, "not": 36}, "stop": {"reached": 4, "not": 12}, "measure": {"reached": 4, "not": 12}
    }  # fmt: skip
    with pytest.raises(InputError, match="the frames that train would hold 0 .* at least 3 groups"):
        tune_goal(clip, [PROMPT], embeddings, reached, seed=0, groups=[row // 40 for row in range(80)])


def test_what_cannot_be_tuned_is_named(clip):
    embeddings, reached = labelled_frames(clip.dim)
    with pytest.raises(InputError, match=r"a prompt and 8 context tokens make 13 tokens, the model reads at most 12"):
        tune_goal(clip, [PROMPT], embeddings, reached, seed=0, context=8)
    with pytest.raises(InputError, match="the frames that train would hold 0 with the goal reached"):
        tune_goal(clip, [PROMPT], embeddings, torch.arange(80) < 2, seed=0)
    with pytest.raises(InputError, match=r"shape \(80, 3\), expected \(N, 10\)"):
        tune_goal(clip, [PROMPT], embeddings[:, :3], reached, seed=0)
    with pytest.raises(InputError, match="labels are torch.int64"):
        tune_goal(clip, [PROMPT], embeddings, reached.long(), seed=0)
    with pytest.raises(InputError, match="NaN"):
        tune_goal(clip, [PROMPT], embeddings / 0, reached, seed=0)
    with pytest.raises(InputError, match="needs baseline"):
        tune_goal(clip, [PROMPT], embeddings, reached, seed=0, alpha=0.5)
    with pytest.raises(InputError, match="context=0"):
        tune_goal(clip, [PROMPT], embeddings, reached, seed=0, context=0)


def test_a_goal_of_another_tower_or_of_another_alpha_is_refused(clip, tmp_path):
    embeddings, reached = labelled_frames(clip.dim)
    goal = tune_goal(clip, [PROMPT], embeddings, reached, seed=0, steps=1)
    save_dual_encoder("siglip", tmp_path / "siglip", None)
    with pytest.raises(InputError, match="goal 0 .* was tuned for another text tower"):
        tuned_reward(load_embedder(tmp_path / "siglip"), [goal])
    moved = TunedGoal(**(vars(goal) | {"context": -goal.context}))  # as other weights of the same shape
    with pytest.raises(InputError, match="goal 1 .* was tuned for another text tower"):
        tuned_reward(clip, [goal, moved])
    leaning = tune_goal(clip, [PROMPT], embeddings, reached, seed=0, steps=1, baseline=["a lamp"], alpha=0.3)
    with pytest.raises(InputError, match="goal 1 was tuned for alpha=0.3"):
        tuned_reward(clip, [goal, leaning])
    with pytest.raises(InputError, match="at least one goal"):
        tuned_reward(clip, [])


def test_folders_that_hold_no_tuned_goal_are_named(clip, tmp_path):
    with pytest.raises(MissingFileError, match="tuned goal not found"):
        TunedGoal.load(tmp_path / "none")
    embeddings, reached = labelled_frames(clip.dim)
    goal = tune_goal(clip, [PROMPT], embeddings, reached, seed=0, steps=1)
    folder = goal.save(tmp_path / "goal")
    with pytest.raises(InputError, match="exists already"):
        goal.save(folder)
    (folder / "goal.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match="is not a tuned goal"):
        TunedGoal.load(folder)
