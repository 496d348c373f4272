"""Hands and doors of a batch: who holds what, what lies where, which doors stand open.

Rules of reaching are envs/interaction.py's; this file applies them to the environments that use their hands, keeps
`World`, and says how far a goal of several stages has come. A putting down that is undone (the mug is taken off the
desk again) counts as not done, and so does all that came after it.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray

from envs import interaction
from envs.goals import Fields, GoalFields, Stage
from envs.layout import AT_REST, IN_HAND
from envs.pool import HomePool
from envs.state import OPEN, PICK, PLACE, World

HELD_AHEAD_M, HELD_DROP_M = 0.4, 0.3  # where a held thing is seen: in front of the eye and below it


class Hands:
    """What agents can do with their hands in a pool of interactive homes.

    Attributes:
        things: per home the ids of the objects that can be carried, by slot.
        slots: K, the largest number of them.
        most_doors: the largest number of doors that open and shut.
    """

    def __init__(self, homes: HomePool) -> None:
        self.homes = homes
        self.things = [list(home.things) for home in homes.homes]
        self.slots = max(1, max(len(things) for things in self.things))
        self.most_doors = max(len(home.grid.openable) for home in homes.homes)
        self.rest = np.zeros((len(homes), self.slots, 4))
        self.present = np.zeros((len(homes), self.slots), dtype=bool)
        self.doors = np.array([(1 << len(home.grid.openable)) - 1 for home in homes.homes], dtype=np.int64)
        for index, home in enumerate(homes.homes):
            for slot, item in enumerate(self.things[index]):
                box = home.scene.objects[item].box
                self.rest[index, slot] = box[0], box[1], box[2] - box[5] / 2, box[6]
                self.present[index, slot] = True

    def first(
        self,
        home: Int64[ndarray, " B"],
        position: Float64[ndarray, "B 2"],
        shut: Bool[ndarray, "B D"] | None,
        device: torch.device,
    ) -> World:
        """Everything in its place and every hand empty.

        Args:
            shut: which doors start shut, if any; one whose leaf would be where the agent stands stays open.
        """
        doors = self.doors[home].copy()
        if shut is not None:
            wanted = (shut.astype(np.int64) << np.arange(shut.shape[1])).sum(axis=1) & doors
            grids = self.homes.grids
            here = grids.shut[grids.offset[home] + grids.cell(home, position)].astype(np.int64)
            doors &= ~(wanted & ~here)
        count = len(home)
        columns = (
            doors,
            np.full(count, -1, np.int64),
            self.rest[home],
            np.full((count, self.slots), AT_REST, np.int64),
        )
        return World(*(torch.from_numpy(column).to(device) for column in columns))

    def resized(self, world: World) -> World:
        """The world with this pool's number of slots; what is cut off belongs to homes that are gone."""
        have = world.pose.shape[1]
        if have == self.slots:
            return world
        pose = world.pose.new_zeros(len(world.held), self.slots, 4)
        support = world.support.new_full((len(world.held), self.slots), AT_REST)
        keep = min(have, self.slots)
        pose[:, :keep], support[:, :keep] = world.pose[:, :keep], world.support[:, :keep]
        return replace(world, pose=pose, support=support)

    def act(
        self,
        world: World,
        home: Int64[ndarray, " B"],
        position: Float64[ndarray, "B 2"],
        yaw: Float64[ndarray, " B"],
        reaching: Int64[ndarray, " B"],
    ) -> tuple[World, Bool[ndarray, " B"]]:
        """Carries out what hands do.

        Args:
            reaching: PICK, PLACE, OPEN, or 0 for hands that rest.

        Returns:
            The world after, and who reached for nothing: nothing there to pick, no room to put it, no door.
        """
        failed = np.zeros(len(home), dtype=bool)
        busy = np.flatnonzero(reaching)
        if not len(busy):
            return world, failed
        doors, held, pose, support = (
            column.cpu().numpy().copy() for column in (world.doors, world.held, world.pose, world.support)
        )
        for b in busy:
            place = self.homes[home[b]]
            now = {"doors": int(doors[b]), "pose": pose[b], "support": support[b], "held": int(held[b])}
            if reaching[b] == PICK:
                slot = interaction.pick(place, position[b], yaw[b], **now)
                failed[b] = slot < 0
                if slot >= 0:
                    held[b], support[b, slot] = slot, IN_HAND
            elif reaching[b] == PLACE:
                put = interaction.place(place, position[b], yaw[b], **now)
                failed[b] = put is None
                if put is not None:
                    slot = int(held[b])
                    support[b, slot], pose[b, slot] = put
                    held[b] = -1
            else:
                assert reaching[b] == OPEN
                door = interaction.toggle_door(place, position[b], yaw[b], doors=int(doors[b]))
                failed[b] = door < 0
                if door >= 0:
                    doors[b] ^= 1 << door
        device = world.doors.device
        return World(*(torch.from_numpy(column).to(device) for column in (doors, held, pose, support))), failed

    def stage(
        self,
        fields: GoalFields,
        world: World,
        home: Int64[ndarray, " B"],
        goal: Int64[ndarray, " B"],
        stage: Int64[ndarray, " B"],
        cell: Int64[ndarray, " B"],
        active: Bool[ndarray, " B"],
    ) -> tuple[Int64[ndarray, " B"], dict[int, Fields | None]]:
        """How far each goal has come, and the distance fields of those whose things lie elsewhere than at first.

        Returns:
            Stages done, and per environment that needs them the fields to use instead of the pool's; None where its
            thing lies out of reach.
        """
        stage = stage.copy()
        slot, last = fields.slots(home, goal), fields.last_stage(home, goal)
        held, support = world.held.cpu().numpy(), world.support.cpu().numpy()
        moved = (held >= 0) | (support != AT_REST).any(axis=1)
        own: dict[int, Fields | None] = {}
        for b in np.flatnonzero(active & (moved | (last > 0))).tolist():
            h = int(home[b])
            stages = fields.goal(h, int(goal[b])).stages
            things = self.things[h]
            at = {item: int(support[b, k]) for k, item in enumerate(things)} if moved[b] else {}
            hand = things[held[b]] if held[b] >= 0 else -1
            s = self._undone(stages, int(stage[b]), at)
            while s < len(stages):
                now = stages[s]
                if now.kind == "reach":
                    done = s < last[b] and bool(fields.inside[slot[b], s, cell[b]])
                elif now.kind == "rest":
                    done = _rests(now, at)
                    if not done and hand not in now.objects and s > 0 and stages[s - 1].kind == "hold":
                        s -= 1  # put down elsewhere
                        break
                else:
                    following = stages[s + 1] if s + 1 < len(stages) else now
                    done = hand in now.objects or (following.kind == "rest" and _rests(following, at))
                if not done:
                    break
                s += 1
            stage[b] = s
            if moved[b] and self._displaced(stages, s, at):
                own[b] = self.own_fields(fields, world, h, int(goal[b]), b, s)
        return stage, own

    @staticmethod
    def _undone(stages: tuple[Stage, ...], stage: int, at: dict[int, int]) -> int:
        """The first stage done before whose thing no longer lies where it was put, unless it was to be moved on."""
        for k in range(stage):
            if stages[k].kind == "rest" and not _rests(stages[k], at):
                later = [after for after in stages[k + 1 : stage + 1] if after.kind == "hold"]
                if not any(set(after.objects) & set(stages[k].objects) for after in later):
                    return k
        return stage

    @staticmethod
    def _displaced(stages: tuple[Stage, ...], stage: int, at: dict[int, int]) -> bool:
        """Whether something still to be picked up lies where it was put down."""
        return any(
            at.get(item, AT_REST) >= 0 for later in stages[stage:] if later.kind == "hold" for item in later.objects
        )

    def own_fields(self, fields: GoalFields, world: World, home: int, goal: int, row: int, stage: int) -> Fields | None:
        """Fields of an environment in which a thing that is still to be picked up lies elsewhere than at first.

        None where nothing was moved so, or where the thing is out of reach.
        """
        stages, support = fields.goal(home, goal).stages, world.support[row].tolist()
        at = {item: support[k] for k, item in enumerate(self.things[home])}
        boxes: dict[int, ndarray] = {}
        for s in range(stage, len(stages)):
            if stages[s].kind == "hold" and any(at[item] >= 0 for item in stages[s].objects):
                slots = [self.things[home].index(item) for item in stages[s].objects]
                boxes[s] = np.stack([self.box(world, home, row, slot) for slot in slots])
        return fields.moved(home, goal, boxes) if boxes else None

    def box(self, world: World, home: int, row: int, slot: int) -> Float64[ndarray, "7"]:
        """Where a thing lies now."""
        pose = world.pose[row, slot].cpu().numpy()
        size = self.homes[home].scene.objects[self.things[home][slot]].box[3:6]
        return np.array([pose[0], pose[1], pose[2] + size[2] / 2, *size, pose[3]])

    def drawn(
        self, world: World, home: Int64[ndarray, " B"], poses: Float64[ndarray, "B 4 4"]
    ) -> tuple[Float64[ndarray, "B K 4"], Bool[ndarray, "B K"], Int64[ndarray, " B"]]:
        """Where the moving layer shows things: their poses, which there are, and the mask of doors that are shut.

        A held thing floats in front of the agent, below its eye.
        """
        pose, held = world.pose.cpu().numpy().copy(), world.held.cpu().numpy()
        rows = np.flatnonzero(held >= 0)
        if len(rows):
            right = poses[rows, :2, 0]
            ahead = np.stack([-right[:, 1], right[:, 0]], axis=1)  # level, wherever the agent looks
            pose[rows, held[rows], :2] = poses[rows, :2, 3] + HELD_AHEAD_M * ahead
            pose[rows, held[rows], 2] = poses[rows, 2, 3] - HELD_DROP_M
            pose[rows, held[rows], 3] = np.arctan2(ahead[:, 1], ahead[:, 0])
        return pose, self.present[home], self.doors[home] & ~world.doors.cpu().numpy()


def _rests(stage: Stage, at: dict[int, int]) -> bool:
    """Whether one of a stage's objects was put on one of its surfaces; `at` says what each thing was put on."""
    return any(at.get(item, AT_REST) in stage.on for item in stage.objects)
