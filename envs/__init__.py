"""Simulated homes, tasks and adapters. Importing this package registers the tasks with Gymnasium."""

from envs.registration import register_tasks

register_tasks()
