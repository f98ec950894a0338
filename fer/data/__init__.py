"""Labelled faces: readers for what is on disk, one in-memory form, batches for training."""
