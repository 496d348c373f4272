"""Shared ground: conventions, errors, run folders, checkpoints, job start-up."""

import os

# Idle OpenMP threads sleep instead of spinning: on a shared machine the default costs several times the work itself.
# It is read once, when torch first loads, so it is set here, before any module of the project can import torch.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
