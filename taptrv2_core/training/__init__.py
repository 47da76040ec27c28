"""Training: curriculum, losses, the sliding window unrolled over clips, checkpoints. See docs/training.md."""
