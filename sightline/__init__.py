"""Sightline: agents that find and act on what a sentence describes, in 3D homes.

    import sightline as sl
    scene = sl.generate_home(seed=7)
    sl.Grounder.from_pretrained("runs/grounder/model").locate(scene, "the lamp left of the bed")

Names load when first used, so the import is quick and a missing optional library hurts only what needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.paid import Payment
    from agents.reward_env import RewardEnv
    from agents.reward_wrappers import RewardWrapper, VectorRewardWrapper
    from agents.sb3_rewards import RelabelCallback, VecEnvReward
    from agents.step_frames import StepFrame
    from core.errors import InputError
    from envs.simulator import Simulator
    from scene.datasets.procedural import generate_home
    from scene.graph import SceneGraph, build_graph
    from scene.grounder import Grounder, Ranking
    from scene.io import load_scene, save_scene
    from scene.language import TextPlan, generate_referrals, write_texts
    from scene.render import prepare, render
    from scene.store import SceneStore
    from scene.texts import Caption, Question, Referral
    from scene.types import Scene, SceneMesh, SceneObject
    from vl.abstain import Abstention, abstaining
    from vl.embed_folder import embed_folder, score_folder
    from vl.embedder import load_embedder
    from vl.embedding_store import EmbeddingStore
    from vl.model import VLModel
    from vl.progress import ProgressReward
    from vl.reward_sweep import sweep_table
    from vl.rewards import StepBatch, VLMReward

_PLACES = {  # public name: module it lives in
    "Abstention": "vl.abstain",
    "Caption": "scene.texts",
    "EmbeddingStore": "vl.embedding_store",
    "Grounder": "scene.grounder",
    "InputError": "core.errors",
    "Payment": "agents.paid",
    "ProgressReward": "vl.progress",
    "Question": "scene.texts",
    "Ranking": "scene.grounder",
    "Referral": "scene.texts",
    "RelabelCallback": "agents.sb3_rewards",
    "RewardEnv": "agents.reward_env",
    "RewardWrapper": "agents.reward_wrappers",
    "Scene": "scene.types",
    "SceneGraph": "scene.graph",
    "SceneMesh": "scene.types",
    "SceneObject": "scene.types",
    "SceneStore": "scene.store",
    "Simulator": "envs.simulator",
    "StepBatch": "vl.rewards",
    "StepFrame": "agents.step_frames",
    "TextPlan": "scene.language",
    "VLMReward": "vl.rewards",
    "VLModel": "vl.model",
    "VecEnvReward": "agents.sb3_rewards",
    "VectorRewardWrapper": "agents.reward_wrappers",
    "abstaining": "vl.abstain",
    "build_graph": "scene.graph",
    "embed_folder": "vl.embed_folder",
    "generate_home": "scene.datasets.procedural",
    "generate_referrals": "scene.language",
    "load_embedder": "vl.embedder",
    "load_scene": "scene.io",
    "prepare": "scene.render",
    "render": "scene.render",
    "save_scene": "scene.io",
    "score_folder": "vl.embed_folder",
    "sweep_table": "vl.reward_sweep",
    "write_texts": "scene.language",
}

__all__ = [
    "Abstention",
    "Caption",
    "EmbeddingStore",
    "Grounder",
    "InputError",
    "Payment",
    "ProgressReward",
    "Question",
    "Ranking",
    "Referral",
    "RelabelCallback",
    "RewardEnv",
    "RewardWrapper",
    "Scene",
    "SceneGraph",
    "SceneMesh",
    "SceneObject",
    "SceneStore",
    "Simulator",
    "StepBatch",
    "StepFrame",
    "TextPlan",
    "VLMReward",
    "VLModel",
    "VecEnvReward",
    "VectorRewardWrapper",
    "abstaining",
    "build_graph",
    "embed_folder",
    "generate_home",
    "generate_referrals",
    "load_embedder",
    "load_scene",
    "prepare",
    "render",
    "save_scene",
    "score_folder",
    "sweep_table",
    "write_texts",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("sightline")
    if name not in _PLACES:
        from core.errors import nearest

        raise AttributeError(f"module 'sightline' has no name {name!r}; {nearest(name, _PLACES)}")
    from core.packages import check_packages

    check_packages()
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value  # the next use is a plain look-up
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
