"""Goals in several steps: subgoals in words, judges that say when one is done, and learning conditioned on them."""
