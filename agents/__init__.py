"""Policies and the jobs that train, evaluate and show them."""
