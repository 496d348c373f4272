import json
import os
import pty
import subprocess
import sys
import termios
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.evaluate import EvaluateAgentConfig, run
from agents.keyboard import HalfBlocks, KeyboardPolicy, picture_size, play, read_key
from core.errors import InputError
from envs.episodes import make_episodes
from envs.pool import HomePool
from envs.simulator import Simulator
from scene.datasets.procedural import generate_home
from tests.agents.tiny import make_scenes
from tests.envs.homes import three_homes


@pytest.fixture(scope="module")
def homes():
    return HomePool(three_homes())


def played(homes, keys, **options):
    """Results of pressing some keys, and the screens that were shown."""
    sim = Simulator(homes, "find_object", 1, sensors=None, max_steps=6, **options)
    episodes = make_episodes(homes, sim.task, 4, seed=0, fields=sim.fields)
    screens, pressed = [], iter(keys)
    policy = KeyboardPolicy(sim, lambda: next(pressed), screens.append, lambda: (24, 16))
    return play(sim, episodes, policy), screens


def test_keys_act_and_quitting_keeps_the_finished_episodes(homes):
    keys = ["left", "z", "up", "enter", "any", "right", "d", "w", "q"]
    results, screens = played(homes, keys)
    assert [row.tolist() for row in results.actions] == [
        [2, 1, 0]
    ]  # z means nothing; the second episode was broken off
    assert results.stopped.tolist() == [True] and len(results.episodes) == 1
    assert screens[0].sentence == results.episodes.goals[0].text and screens[0].picture.shape == (16, 24, 3)
    assert "step 2 of 6" in screens[2].status and "m to go" in screens[3].outcome
    assert "enter: stop here" in screens[0].keys and "pick up" not in screens[0].keys


def test_quitting_after_the_last_key_of_an_episode_keeps_it_and_before_it_leaves_nothing(homes):
    results, screens = played(homes, ["a"] * 6 + ["q"])
    assert results.steps.tolist() == [6] and screens[-1].outcome.startswith("time is up")
    assert played(homes, ["up", "q"])[0] is None


def test_with_speeds_arrows_walk_and_turn(homes):
    results, screens = played(homes, ["up", "down", "left", "enter", "q"], control="continuous")
    assert results.actions[0].tolist() == [[1, 0], [-1, 0], [0, 1], [0, 0]]
    assert "down: backward" in screens[0].keys


def test_the_screen_tells_what_is_in_the_hand():
    sim = Simulator(HomePool([generate_home(5)], interactive=True), "rearrange", 1, sensors=None)
    policy, state = KeyboardPolicy(sim, str, print, lambda: (24, 16)), sim.reset()
    assert "in the hand: nothing" in policy.screen(state).status and "e: pick up" in policy.screen(state).keys
    for slot, item in enumerate(sim.homes[0].things):
        holding = replace(state, world=replace(state.world, held=torch.tensor([slot])))
        assert f"in the hand: {sim.homes[0].scene.objects[item].label}" in policy.screen(holding).status


def test_keys_are_read_from_bytes():
    ends = os.pipe()
    os.write(ends[1], b"\x1b[Aw\x1bOD\x1b[6~ \rQ\x1b[15~e\x1b")
    names = [read_key(ends[0]) for _ in range(10)]
    assert names == ["up", "w", "left", "page down", "space", "enter", "q", "unknown", "e", "escape"]
    os.close(ends[1])
    assert read_key(ends[0]) == "q"  # the terminal is gone
    os.close(ends[0])


def test_a_picture_becomes_two_pixels_to_a_cell():
    picture = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3)
    first, second, _ = HalfBlocks(picture).__rich_console__(None, None)
    assert (first.text, first.style.color.name, first.style.bgcolor.name) == ("▀", "#000102", "#060708")
    assert (second.style.color.name, second.style.bgcolor.name) == ("#030405", "#090a0b")
    assert picture_size(80, 24) == (68, 34)


def test_without_a_terminal_nobody_can_play(tmp_path):
    scenes = make_scenes(tmp_path / "scenes")
    with pytest.raises(InputError, match="played in a terminal"):
        run(EvaluateAgentConfig(out=str(tmp_path / "run"), scenes=str(scenes), policy="keyboard"))
    assert not (tmp_path / "run").exists()


PRESSED = [(b"step 0 of", b"\x1b[D"), (b"step 1 of", b"\x1b[A"), (b"step 2 of", b"\r"), (b"any key", b"n")]
PRESSED += [(b"episode 2", b"q")]
"""What the screen has to show, and the key that is pressed then: turn, walk, stop; the next episode is broken off."""


def press_keys(terminal: int) -> None:
    """Plays PRESSED at the outer end of a terminal, then reads on until the inner end is closed."""
    shown, wanted = b"", list(PRESSED)
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # the inner end is closed
            return
        if wanted and wanted[0][0] in shown:
            os.write(terminal, wanted.pop(0)[1])
            shown = b""


def check_played(folder: Path) -> None:
    result = json.loads((folder / "result.json").read_text())
    assert result["policy"] == "keyboard" and result["episodes"] == 1 and result["metrics"]["steps"]["mean"] == 3
    assert (folder / "recording.parquet").is_file()


def test_a_run_is_played_in_a_terminal_which_is_left_as_it_was(tmp_path, monkeypatch):
    scenes, outer, inner = make_scenes(tmp_path / "scenes"), *pty.openpty()
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    player = threading.Thread(target=press_keys, args=[outer], daemon=True)
    before = termios.tcgetattr(inner)
    with os.fdopen(inner, "r", closefd=False) as keys, os.fdopen(inner, "w", closefd=False) as screen:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", keys)
            patch.setattr(sys, "stdout", screen)
            player.start()
            run(EvaluateAgentConfig(
                out=str(tmp_path / "run"), scenes=str(scenes), policy="keyboard", episodes=3, record=True
            ))  # fmt: skip
        assert termios.tcgetattr(inner) == before
    os.close(inner)
    player.join()
    os.close(outer)
    check_played(tmp_path / "run")


@pytest.mark.slow
def test_the_command_is_played_through_a_terminal(tmp_path):
    scenes, outer, inner = make_scenes(tmp_path / "scenes"), *pty.openpty()
    words = [f"scenes={scenes}", "policy=keyboard", "episodes=3", "record=true", f"out={tmp_path / 'run'}", "threads=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "agents.evaluate", *words], stdin=inner, stdout=inner, stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
    )  # fmt: skip
    os.close(inner)
    press_keys(outer)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]
    os.close(outer)
    check_played(tmp_path / "run")
