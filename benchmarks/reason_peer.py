"""What benchmarks/reason.py measures on, and its peer: TRL's GRPOTrainer with the same model, questions and lengths.

TRL's step: pictures and prompts through transformers' `generate` once per answer, one forward and backward pass over
all answers, AdamW (fused), gradients cut to norm 1; no reference model. Ids that stand for pictures, and the end token,
are suppressed on both sides, so that every answer has the full length.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.reasoning.small_vlm import PRESETS, SmallVLMConfig
from agents.reasoning.types import PICTURE, Picture, Sample
from agents.reasoning.vlm import VLM

WORDS = tuple(letter * 2 for letter in "abcdefghijklmnopqrstuvwx")


@dataclass(frozen=True)
class Work:
    """A step: answers and their lengths."""

    preset: str = "medium"  # of small_vlm.PRESETS
    prompts: int = 4
    samples: int = 8
    new_tokens: int = 128
    words: int = 24  # of a prompt, beside its picture
    updates: int = 1  # steps of the optimiser on what was generated; more than one needs the old log-probs

    def __str__(self) -> str:
        return (
            f"{self.prompts} prompts of a picture and {self.words} words, {self.samples} answers of {self.new_tokens} "
            f"tokens to each, {self.updates} update{'s' * (self.updates > 1)}"
        )


def make_vlm(work: Work, vocabulary: int = 1024) -> VLM:
    """The same weights at every call; answers never end early."""
    more = {"vocabulary": vocabulary, "pad_vocabulary": True}
    vlm = VLM.create(SmallVLMConfig(**{**PRESETS[work.preset], **more}), [" ".join(WORDS)], seed=0)
    vlm.vision_ids = tuple(sorted({*vlm.vision_ids, *vlm.eos_ids}))
    return vlm


def questions(work: Work, side: int = 64) -> tuple[list[Sample], list[list[Picture]]]:
    """Words and pictures at random: what they say costs nothing."""
    rng = np.random.default_rng(0)
    samples, pictures = [], []
    for number in range(work.prompts):
        text = " ".join(rng.choice(WORDS, work.words))
        samples.append(Sample(str(number), f"{PICTURE} {text}", (f"{number}.png",), answer="yes"))
        pictures.append([rng.integers(0, 256, (side, side, 3), dtype=np.uint8)])
    return samples, pictures


def paid(text: str) -> float:
    """A reward that differs within groups: the parity of an answer's characters."""
    return float(len(text) % 2)


def trl_steps(work: Work, steps: int, between: Callable[[], None]) -> list[float]:
    """Seconds of each step of TRL's trainer (with all its updates); `between` runs after each of them."""
    import torch
    from datasets import Dataset
    from PIL import Image
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    vlm = make_vlm(work)
    samples, pictures = questions(work)
    rows = [
        {
            "prompt": [{"role": "user", "content": sample.prompt.removeprefix(PICTURE).strip()}],
            "image": Image.fromarray(shown[0]),
        }
        for sample, shown in zip(samples, pictures)
    ]
    seconds: list[float] = []

    class Clock(TrainerCallback):
        started = 0.0
        done = 0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.done += 1
            if self.done % work.updates == 0:
                seconds.append(time.perf_counter() - self.started)
                between()
                self.started = time.perf_counter()

    def reward(completions: list[Any], **_: Any) -> list[float]:
        return [paid(completion[0]["content"]) for completion in completions]

    folder = tempfile.mkdtemp()
    try:
        config = GRPOConfig(
            output_dir=folder,
            use_cpu=not torch.cuda.is_available(),
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=work.prompts * work.samples // work.updates,
            steps_per_generation=work.updates,
            num_generations=work.samples,
            max_completion_length=work.new_tokens,
            max_steps=steps * work.updates,
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            loss_type="grpo",
            beta=0.0,
            temperature=1.0,
            generation_kwargs={"suppress_tokens": list(vlm.vision_ids)},
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=0,
        )
        trainer = GRPOTrainer(
            model=vlm.model,
            reward_funcs=reward,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=vlm.processor,
            callbacks=[Clock()],
        )
        trainer.train()
    finally:
        shutil.rmtree(folder)
    return seconds


if __name__ == "__main__":
    from core.threads import use_threads

    use_threads()
    vlm = make_vlm(Work())
    print(f"{sum(p.numel() for p in vlm.model.parameters()) / 1e6:.2f} M parameters")
    print([round(second, 2) for second in trl_steps(Work(), 3, lambda: None)])
