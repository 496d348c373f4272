"""Play a task by hand: the agent's view in the terminal, its actions on the keys.

Works wherever a terminal does, over ssh too: two pixels to a character cell, in as many colours as the terminal has.
"""

import functools
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from rich.console import Console, ConsoleOptions, Group
from rich.live import Live
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from torch import Tensor

from core.errors import InputError
from envs.episodes import EpisodeResults, Episodes, run_episodes
from envs.metrics import spl
from envs.replay import Playback
from envs.simulator import Simulator
from envs.state import (
    ACTION_NAMES,
    FORWARD,
    LOOK_DOWN,
    LOOK_UP,
    OPEN,
    PICK,
    PLACE,
    STOP,
    TURN_LEFT,
    TURN_RIGHT,
    Sensors,
    SimState,
)
from scene.render import Frame

KEYS = {
    FORWARD: ("up", "w"), TURN_LEFT: ("left", "a"), TURN_RIGHT: ("right", "d"), STOP: ("enter", "space"),
    LOOK_UP: ("page up", "r"), LOOK_DOWN: ("page down", "f"), PICK: ("e",), PLACE: ("x",), OPEN: ("o",),
}  # fmt: skip
"""What to press for each action of envs/state.py; with continuous control also "down" or "s" to go backward."""

SPEEDS = {
    "up": (1, 0, 0), "w": (1, 0, 0), "down": (-1, 0, 0), "s": (-1, 0, 0), "left": (0, 1, 0), "a": (0, 1, 0),
    "right": (0, -1, 0), "d": (0, -1, 0), "enter": (0, 0, 0), "space": (0, 0, 0),
    "page up": (0, 0, 1), "r": (0, 0, 1), "page down": (0, 0, -1), "f": (0, 0, -1),
}  # fmt: skip
"""Speed, turn and tilt."""

QUIT = ("q", "escape")
SEQUENCES = {
    b"[A": "up", b"[B": "down", b"[C": "right", b"[D": "left", b"[5~": "page up", b"[6~": "page down",
    b"OA": "up", b"OB": "down", b"OC": "right", b"OD": "left",
}  # fmt: skip
NAMED = {"\r": "enter", "\n": "enter", " ": "space", "\x04": "q", "": "q"}  # no byte at all: the terminal is gone


class Quit(Exception):
    """The player has had enough."""


@dataclass
class Screen:
    """What the player is shown."""

    sentence: str
    picture: UInt8[ndarray, "H W 3"]
    status: str
    keys: str
    outcome: str = ""  # once the episode has ended
    good: bool = False


@dataclass
class KeyboardPolicy:
    """A person as a policy: shows what an agent sees, asks for a key, hands out its action.

    Args:
        read_key: the next key, by the names of KEYS; waits for it.
        show: draws a screen.
        size: width and height of the picture for the next screen, in pixels.
    """

    sim: Simulator
    read_key: Callable[[], str]
    show: Callable[[Screen], object]
    size: Callable[[], tuple[int, int]] = lambda: (64, 64)
    played: list[list[ndarray]] = field(default_factory=list)  # actions of each episode, in order
    finished: int = 0

    def __call__(self, state: SimState, frame: Frame | None) -> Tensor:
        """An action for each environment, asked for one after the other; raises Quit."""
        actions = []
        for b in range(len(state)):
            now = state.rows(torch.tensor([b]))
            self.show(self.screen(now))
            while (action := self.action(self._key())) is None:
                continue
            row = int(now.episode[0])
            self.played += [[] for _ in range(row + 1 - len(self.played))]
            self.played[row].append(action)
            actions.append(action)
        return torch.from_numpy(np.stack(actions)).to(state.home.device)

    def watch(self, state: SimState, frame: Frame | None) -> None:
        """Shows how an episode ended and waits for a key; `on_state` of run_episodes. Raises Quit."""
        for b in np.flatnonzero(state.done.cpu().numpy()).tolist():
            self.finished += 1
            now = state.rows(torch.tensor([b]))
            success = now.terminated & (now.distance <= 0)
            share = float(spl(success, now.start_distance, now.path_length)[0])
            end = "stopped" if bool(now.terminated[0]) else "time is up"
            text = f"done, SPL {share:.2f}" if bool(success[0]) else f"{end}, {float(now.distance[0]):.1f} m to go"
            self.show(replace(self.screen(now), outcome=text, good=bool(success[0]), keys="any key: next   q: quit"))
            self._key()

    def action(self, key: str) -> ndarray | None:
        """The simulator's action for a key; None for a key that means nothing here."""
        if self.sim.control == "continuous":
            speed = SPEEDS.get(key)
            tilts = key in (*KEYS[LOOK_UP], *KEYS[LOOK_DOWN])
            if speed is None or (tilts and not self.sim.tilt):
                return None
            return np.array(speed[: self.sim.action_size], np.float32)
        codes = self.sim.action_codes.tolist()
        return next((np.array(k) for k, code in enumerate(codes) if key in KEYS[code]), None)

    def screen(self, state: SimState) -> Screen:
        """What one environment looks like now."""
        sensors = self.sim.sensors or Sensors()
        width, height = self.size()
        camera = replace(sensors, width=width, height=height)
        goal = self.sim.goal(state, 0)
        parts = [f"episode {int(state.episode[0]) + 1}", f"step {int(state.step[0])} of {self.sim.max_steps}"]
        parts += [f"walked {float(state.path_length[0]):.1f} m", f"bumped {int(state.collisions[0])}"]
        if len(goal.stages) > 1:
            parts.append(f"{int(state.stage[0])} of {len(goal.stages)} parts done")
        if state.world is not None and self.sim.hands is not None:
            home, slot = self.sim.homes[int(state.home[0])], int(state.world.held[0])
            parts.append(f"in the hand: {home.scene.objects[home.things[slot]].label if slot >= 0 else 'nothing'}")
        picture = self.sim.observe(state, sensors=camera).rgb[0].cpu().numpy()
        return Screen(goal.text, picture, "   ".join(parts), self.keys())

    def keys(self) -> str:
        """What can be pressed."""
        back = ["down: backward"] if self.sim.control == "continuous" else []
        if self.sim.control == "continuous":
            codes = [STOP, FORWARD, TURN_LEFT, TURN_RIGHT, *([LOOK_UP, LOOK_DOWN] if self.sim.tilt else [])]
        else:
            codes = self.sim.action_codes.tolist()
        return "   ".join([*(f"{KEYS[code][0]}: {_called(code)}" for code in codes), *back, "q: quit"])

    def _key(self) -> str:
        key = self.read_key()
        if key in QUIT:
            raise Quit
        return key


def _called(code: int) -> str:
    return {STOP: "stop here", OPEN: "open or shut", PICK: "pick up", PLACE: "put down"}.get(code, ACTION_NAMES[code])


def play(
    sim: Simulator,
    episodes: Episodes,
    policy: KeyboardPolicy,
    on_state: Callable[[SimState, Frame | None], object] | None = None,
) -> EpisodeResults | None:
    """Episodes played until they are all done or the player quits: the results of the finished ones, None if none is.

    Args:
        sim: with one environment.
        on_state: as in `run_episodes`; called for the episode that was broken off, too.

    Raises:
        InputError: the simulator has several environments.
    """
    if sim.num_envs != 1:
        raise InputError(f"a player plays one environment at a time, the simulator has {sim.num_envs}")

    def both(state: SimState, frame: Frame | None) -> None:
        if on_state is not None:
            on_state(state, frame)
        policy.watch(state, frame)

    try:
        return run_episodes(sim, policy, episodes, on_state=both)
    except Quit:
        pass
    if not policy.finished:
        return None
    kept = slice(policy.finished)
    part = Episodes(
        episodes.scene_ids[kept], episodes.start[kept], episodes.yaw[kept], episodes.goals[kept],
        episodes.shortest_m[kept],
    )  # fmt: skip
    return run_episodes(sim, Playback([np.array(row) for row in policy.played]), part)


def check_terminal() -> None:
    """Raises InputError where there is no terminal to play in."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError(
            "policy=keyboard is played in a terminal, but input or output is none; start it in one, without pipes"
        )


def play_in_terminal(
    sim: Simulator, episodes: Episodes, on_state: Callable[[SimState, Frame | None], object] | None = None
) -> EpisodeResults | None:
    """`play` with this process's terminal, which is left as it was."""
    check_terminal()
    console = Console()
    with raw_keys(sys.stdin.fileno()), Live(console=console, screen=True, auto_refresh=False) as live:
        policy = KeyboardPolicy(
            sim,
            functools.partial(read_key, sys.stdin.fileno()),
            lambda screen: live.update(drawn(screen), refresh=True),
            lambda: picture_size(console.size.width, console.size.height),
        )
        return play(sim, episodes, policy, on_state)


def picture_size(columns: int, lines: int) -> tuple[int, int]:
    """Width and height, in pixels, of the largest picture that leaves room for the words; at most twice as wide."""
    height = 2 * max(8, min(lines - 7, 60))
    return max(16, min(columns, 2 * height)), height


def drawn(screen: Screen) -> Group:
    """A screen for rich."""
    words = Text(screen.sentence, style="bold")
    status = Text(screen.status)
    if screen.outcome:
        status = Text(screen.outcome, style="bold green" if screen.good else "bold red") + Text("   " + screen.status)
    return Group(words, HalfBlocks(screen.picture), status, Text(screen.keys, style="dim"))


@dataclass
class HalfBlocks:
    """A picture as text: each cell shows two pixels, one above the other."""

    picture: UInt8[ndarray, "H W 3"]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        rows = self.picture[: len(self.picture) // 2 * 2].tolist()
        for upper, lower in zip(rows[::2], rows[1::2]):
            for above, below in zip(upper, lower):
                yield Segment("▀", _style(tuple(above), tuple(below)))
            yield Segment.line()


@functools.lru_cache(maxsize=1 << 16)
def _style(above: tuple[int, int, int], below: tuple[int, int, int]) -> Style:
    return Style(color="#{:02x}{:02x}{:02x}".format(*above), bgcolor="#{:02x}{:02x}{:02x}".format(*below))


@contextmanager
def raw_keys(fd: int) -> Iterator[None]:
    """Keys reach the program one by one and unechoed while the block runs; Ctrl-C still interrupts."""
    import termios
    import tty

    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def read_key(fd: int) -> str:
    """The next key: a name of KEYS or SEQUENCES, or the character itself. "q" when the terminal is gone."""
    first = os.read(fd, 1)
    if first != b"\x1b":
        text = first.decode(errors="ignore")
        return NAMED.get(text, text.lower())
    rest = b""
    while select.select([fd], [], [], 0.05)[0] and (more := os.read(fd, 1)):
        rest += more
        if rest in SEQUENCES:
            return SEQUENCES[rest]
        if len(rest) > 1 and (more.isalpha() or more == b"~"):
            return "unknown"
    return "escape" if not rest else "unknown"
