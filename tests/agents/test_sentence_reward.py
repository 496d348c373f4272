import pytest
import torch

from agents.senses import Sight
from agents.sentence_reward import SentenceReward, sentence_reward
from agents.shaping import Calibration, FrameReward
from core.errors import InputError
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from scene.captions import BASELINE_PROMPTS
from tests.envs.homes import three_homes

SHAPING = FrameReward(Calibration(*torch.zeros(3, 0)), 0.99, 0.1, 3.0, 0.3, 0.25, 0.01)


class Colours:
    """An embedder of three numbers: mean colours of a picture; counts of letters of a text, which it writes down."""

    dim = 3

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode_images(self, images):
        return torch.nn.functional.normalize(images.float().mean((1, 2)) + 1, dim=1)

    def encode_texts(self, texts):
        self.texts += texts
        return torch.nn.functional.normalize(
            torch.tensor([[1.0 + text.count(k) for k in "rgb"] for text in texts]), dim=1
        )


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator(HomePool(three_homes()), num_envs=4, seed=0, sensors=Sensors(8, 8))


def test_with_alpha_0_no_baseline_prompt_is_read():
    for alpha, read in ((0.0, set()), (0.5, set(BASELINE_PROMPTS))):
        embedder = Colours()
        model = sentence_reward(embedder, ["find the red armchair"], alpha)
        assert set(embedder.texts) & set(BASELINE_PROMPTS) == read
        assert bool(model.baseline_vector.any()) == bool(read)


def test_only_the_thing_asked_for_is_in_the_prompts():
    embedder = Colours()
    sentence_reward(embedder, ["go to the red armchair next to the sofa"], 0.0)
    assert len(embedder.texts) == 3 and all("red armchair within reach" in text for text in embedder.texts)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_senses_that_share_the_embedder_and_frames_encoded_for_the_reward_alone_score_alike(simulator, alpha):
    embedder = Colours()
    pictures = torch.randint(0, 255, (64, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    own = SentenceReward(embedder, pictures, alpha, 0.9, SHAPING)
    shared = SentenceReward(embedder, embedder.encode_images(pictures), alpha, 0.9, SHAPING, shared=True)
    state = simulator.reset()
    frame = simulator.observe(state)
    found = []
    for reward in (own, shared):
        reward.attach(simulator)
        sight = Sight({}, {}, embedder.encode_images(frame.rgb) if reward is shared else None)
        phi, note = reward.potential(frame, state, sight, reward.begin(state))
        assert note == {} and phi.shape == (4,)
        found.append(phi)
    assert torch.equal(*found) and found[0].std() > 0


def test_scores_that_are_no_numbers_stop_the_training(simulator):
    reward = SentenceReward(Colours(), torch.rand(8, 3), 0.0, 0.9, SHAPING, shared=True)
    reward.attach(simulator)
    state = simulator.reset()
    broken = Sight({}, {}, torch.full((4, 3), torch.nan))
    with pytest.raises(InputError, match="4 of 4 frames"):
        reward.potential(simulator.observe(state), state, broken, {})
