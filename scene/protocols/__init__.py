"""Published evaluation protocols of 3D grounding and question answering: files, splits, metrics."""
