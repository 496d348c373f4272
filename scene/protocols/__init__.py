"""The published evaluation protocols of 3D grounding and question answering: their files, their splits, their metrics."""
