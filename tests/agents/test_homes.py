"""Homes that change while an agent learns."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch

import agents.train as train
from agents.homes import Homes, homes_met
from agents.object_features import ObjectSenses
from agents.object_memory import LOW, SceneScores
from agents.pixels import PixelSenses
from agents.task_env import TaskEnv
from core.errors import InputError
from envs.home_stream import HomeStream
from envs.home_worker import WorkerError
from envs.pool import Home, HomePool
from envs.simulator import Simulator
from envs.state import FORWARD, TURN_LEFT, Sensors
from envs.tasks.find_object import FindObject
from scene.grounder import Grounder
from tests.agents.test_train import config, losses, same_policies
from tests.agents.tiny import make_grounder, make_scenes, make_towers
from tests.envs.homes import make_home
from tests.envs.test_home_stream import Rooms

CAMERA = Sensors(4, 4)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("inputs")
    return {
        "scenes": str(make_scenes(root / "scenes")),
        "vl": str(make_towers(root / "vl")),
        "grounder": str(make_grounder(root / "grounder")),
    }


def streamed(stream: HomeStream, num_envs: int = 4) -> TaskEnv:
    simulator = Simulator(stream.pool_at(0), num_envs=num_envs, sensors=CAMERA, max_steps=1000)
    return TaskEnv(simulator, PixelSenses(["sofa"], CAMERA, 1000), stream=stream)


@pytest.mark.parametrize(("features", "reward"), [("vl", "mixture"), ("grounder", "task"), ("pixels", "grounded")])
def test_a_run_whose_homes_change_resumes_to_the_same_weights(inputs, tmp_path, monkeypatch, features, reward):
    # pools of one home, the other one after every 40 of the 64 steps of an update
    changes = {"stream": 1, "stream_every": 40, "stream_replace": 1, "stream_workers": 0, "val_episodes": 0}
    changes |= {"features": features, "reward": reward, "scale_rewards": True, "image_size": 32, "epochs": 1}
    result = train.run(config(inputs, tmp_path / "whole", **changes))
    assert result["train_homes"] == 2
    calls, update = [], train.update

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:  # after the checkpoint of update 2 and one more update
            raise KeyboardInterrupt
        return update(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, "update", killed)
        train.run(config(inputs, tmp_path / "broken", **changes))
    train.run(config(inputs, tmp_path / "broken", resume="auto", **changes))
    assert same_policies(tmp_path / "whole", tmp_path / "broken")
    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")
    assert any(row.get("cut", 0) > 0 for row in losses(tmp_path / "whole"))


def test_episodes_in_homes_that_leave_are_truncated_with_what_was_seen_there():
    stream = HomeStream(Rooms(), size=2, every=8, replace=1, seed=1, workers=0)
    env = streamed(stream)
    env.reset()
    left = stream.indices(0)[0], stream.indices(1)
    assert left[0] not in left[1]
    names = [env.simulator.homes.ids[int(home)] for home in env.state.home]
    assert len(set(names)) == 2  # some agents in each home
    step = env.step(torch.full((4,), FORWARD))
    assert not step.truncated.any() and env.taken == 4
    before, kept = env.state, [name != f"room-{left[0]}" for name in names]
    seen = env.simulator.observe(env.simulator.step(before, torch.full((4,), TURN_LEFT))[0])
    step = env.step(torch.full((4,), TURN_LEFT))
    assert step.truncated.tolist() == [not stays for stays in kept] and not step.terminated.any()
    assert step.metrics["cut"].tolist() == step.truncated.float().tolist()
    assert torch.equal(step.final_observation["image"], seen.rgb)
    assert env.state.step.tolist() == [2 if stays else 0 for stays in kept]
    now = [env.simulator.homes.ids[int(home)] for home in env.state.home]
    assert all(name == old for name, old, stays in zip(now, names, kept) if stays)
    assert f"room-{left[0]}" not in now and env.simulator.homes is stream.pool_at(1)
    with pytest.raises(InputError, match="begins with its first pool"):
        TaskEnv(Simulator(HomePool([Rooms()(1)]), sensors=CAMERA), PixelSenses(["a"], CAMERA, 9), stream=stream)


class FindByName(FindObject):
    """Every room has a sentence of its own."""

    def goals(self, home):
        return [replace(goal, text=f"find the sofa of {home.name}") for goal in super().goals(home)]


def test_no_home_and_no_sentence_of_a_home_stays_in_memory_once_it_is_gone():
    stream = HomeStream(Rooms(count=60), size=3, every=2, replace=1, workers=0)
    task = FindByName((("sofa", "red"),))
    simulator = Simulator(stream.pool_at(0), task, num_envs=2, sensors=CAMERA, max_steps=1000)
    env = TaskEnv(simulator, PixelSenses(["sofa"], CAMERA, 1000), stream=stream)
    del simulator
    env.reset()
    met: weakref.WeakSet[Home] = weakref.WeakSet()
    rows = []
    for _ in range(50):
        env.step(torch.full((2,), FORWARD))
        met.update(env.simulator.homes.homes)
        rows.append(len(env.senses.table))
    gc.collect()
    assert len(met) == 3
    assert rows == [4, 5] + 48 * [6]  # of the first three homes and of those now
    assert homes_met(stream, env.taken + 1) == 53


def test_notes_of_objects_make_room_for_homes_of_more_and_of_fewer(inputs):
    senses = ObjectSenses(SceneScores(Grounder.from_pretrained(inputs["grounder"])), CAMERA, 50)
    things = [("sofa", "red", 0.5, 0.5, 0.6, 0.6, 0.8), ("table", "blue", 2.5, 2.5, 0.6, 0.6, 0.8)]
    few, more = (HomePool([make_home(f"h{n}", 4.0, 4.0, things[:n])], goal_labels=["sofa"]) for n in (1, 2))
    simulator = Simulator(few, sensors=CAMERA, num_envs=2)
    senses.attach(simulator)
    note = senses.begin(simulator.reset())
    note["last_seen"][:, 0] = 3
    senses.attach(Simulator(more, sensors=CAMERA))
    wide = senses.carried(note)
    assert wide["last_seen"].tolist() == [[3, -1]] * 2 and wide["scores"][0, 1].tolist() == [0, LOW / 6, 0]
    senses.attach(simulator)
    narrow = senses.carried(wide)
    assert all(torch.equal(narrow[name], note[name]) for name in note)


def test_a_worker_that_fails_stops_the_training_with_its_traceback():
    at = next(k for k in range(9) if HomeStream(Rooms(), size=1, seed=k, workers=0).indices(0) != [3])
    with HomeStream(Rooms(fault="raise"), size=1, every=4, replace=1, seed=at, pictures=False) as stream:
        env = streamed(stream)
        env.reset()
        with pytest.raises(WorkerError, match=r"(?s)room-3 failed.*walls of no length"):
            for _ in range(8):
                env.step(torch.full((4,), FORWARD))


def test_homes_without_end_need_a_number_and_a_folder_is_streamed_whole(inputs):
    with pytest.raises(InputError, match="has no end"):
        Homes("procedural").pool(interactive=False)
    with pytest.raises(InputError, match="leave out homes"):
        Homes(inputs["scenes"], limit=1).stream(1, 10, 0, 0, 0, False)
    with pytest.raises(InputError, match="stream_replace=3"):
        train.TrainAgentConfig(stream=2, stream_replace=3)
    generated = Homes("procedural", limit=2)
    assert generated.pool(False).ids == ["procedural-train-00000", "procedural-train-00001"]
    assert "red" in generated.manifest["goal_colors"]
