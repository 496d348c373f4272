"""Reinforcement learning for vision-language models that write out their answers."""
