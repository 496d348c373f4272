"""3D scenes, their graphs and language, the renderer, and grounded 3D pretraining."""
