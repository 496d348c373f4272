"""The grounder's objects as a policy sees them: what was seen so far, where it stands, how well the sentence fits it.

The agent is shown an object's place and score only from the moment it has seen it. From then on it remembers where it
stood, so it need not find it again (agents/object_memory.py).

Every object is a token: its geometry relative to the agent and its score. The tokens with the highest scores are
shown, in an order without meaning. The best of them, the free distance in 16 directions and the body make the vector.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.encoders import ObservationSpec
from agents.object_memory import ObjectMemory, SceneScores
from agents.senses import RANGE_M, SECTORS, Body, Note, Scan, Sight, relative
from envs.simulator import Simulator
from envs.state import Sensors, SimState
from scene.render import Frame

TOKENS = 8  # objects shown
TOKEN_SIZE = 15
STALE_STEPS = 24.0  # two turns on the spot


class ObjectSenses:
    """Tokens of the objects seen so far, and a vector.

    Args:
        scores: of a grounder.
        max_steps: length of an episode in training.
    """

    def __init__(self, scores: SceneScores, sensors: Sensors, max_steps: int) -> None:
        self.memory = ObjectMemory(scores)
        self.sensors, self.max_steps = sensors, max_steps
        self.scan = Scan(sensors)
        self.body: Body | None = None

    @property
    def spec(self) -> dict[str, ObservationSpec]:
        """tokens, token_mask, vector."""
        assert self.body is not None, "attach a simulator first"
        return {
            "tokens": ObservationSpec((TOKENS, TOKEN_SIZE)),
            "token_mask": ObservationSpec((TOKENS,), "bool"),
            "vector": ObservationSpec((TOKEN_SIZE + 3 + SECTORS + self.body.size,)),
        }

    def attach(self, simulator: Simulator) -> None:
        """Reads the boxes of the simulator's homes; sentences are scored when a home is first entered."""
        self.memory.attach(simulator)
        self.body = Body(simulator, self.max_steps)
        self.floor = torch.from_numpy(np.array(simulator.homes.floor_z, dtype=np.float32))

    def carried(self, note: Note) -> Note:
        """With room for as many objects as the homes attached now have."""
        return self.memory.carried(note)

    def begin(self, state: SimState) -> Note:
        """Nothing seen yet; the sentence is scored."""
        assert self.body is not None, "attach a simulator first"
        return {**self.body.begin(state), **self.memory.begin(state)}

    @torch.no_grad()
    def observe(self, frame: Frame, state: SimState, note: Note) -> Sight:
        """What is seen joins what is remembered; the best-scored of both are shown."""
        assert self.body is not None, "attach a simulator first"
        body, note = self.body.sense(state, note)
        note = self.memory.look(frame, state, note)
        seen = note["last_seen"] >= 0
        described = self._describe(state, note)  # (B, N, F)
        order = note["scores"][:, :, 1].masked_fill(~seen, -torch.inf)
        count = min(TOKENS, self.memory.most)
        chosen = order.topk(count, dim=1).indices
        tokens = torch.zeros(len(state), TOKENS, TOKEN_SIZE)
        mask = torch.zeros(len(state), TOKENS, dtype=torch.bool)
        mask[:, :count] = seen.gather(1, chosen)
        picked = described.gather(1, chosen[:, :, None].expand(-1, -1, TOKEN_SIZE))
        tokens[:, :count] = picked * mask[:, :count, None]
        share = note["scores"][:, :, 0] * seen
        gathered = [mask[:, 0].float(), seen.sum(1) / 10, share.sum(1)]
        free = self.scan(frame.depth, state.pitch) / RANGE_M
        vector = torch.cat([tokens[:, 0], torch.stack(gathered, 1), free, body], 1)
        return Sight({"tokens": tokens, "token_mask": mask, "vector": vector}, note)

    def _describe(self, state: SimState, note: Note) -> Float[Tensor, "B N F"]:
        position, yaw = state.position.float(), state.yaw.float()
        place, boxes = note["place"], self.memory.boxes[state.home]
        ahead, aside = relative(place[..., :2], position, yaw)
        distance = torch.hypot(ahead, aside)
        gap = self.memory.gap(state, note)
        eye = self.floor[state.home] + self.sensors.eye_height_m
        visible = note["last_seen"] == state.step[:, None]
        columns = [
            *note["scores"].unbind(-1),
            (ahead / RANGE_M).clamp(-2, 2),
            (aside / RANGE_M).clamp(-2, 2),
            (distance / RANGE_M).clamp(max=2),
            ahead / distance.clamp(min=0.05),
            aside / distance.clamp(min=0.05),
            (gap / 2).clamp(max=2),
            (gap < 1.0).float(),
            place[..., 2] - eye[:, None],
            boxes[..., 3:5].amax(-1) / 2,
            visible.float(),
            note["pixels"].sqrt(),
            ((state.step[:, None] - note["last_seen"]) / STALE_STEPS).clamp(max=2.0),
        ]
        described = torch.stack(columns, -1)
        assert described.shape[-1] == TOKEN_SIZE, described.shape
        return described
