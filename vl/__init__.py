"""The 2D vision-language core: towers, losses, pretraining, and VLMs as reward models."""
