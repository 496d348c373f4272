"""Sources of homes, a module each; scene/corpus.py names them."""
