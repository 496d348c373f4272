"""Shared ground: conventions, errors, run folders, checkpoints, job start-up."""
