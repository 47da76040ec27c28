"""Accuracy on videos with ground truth: TAP-Vid's metrics, baselines, datasets, `taptr evaluate`."""
