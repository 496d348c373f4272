"""A batched home simulator and its tasks, behind Gymnasium and stable-baselines3."""
