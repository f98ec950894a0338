"""Evaluate checkpoints and artifacts on any dataset and split."""
