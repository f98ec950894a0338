"""Stages of the pipeline that turn a frame into faces: detect, track, classify, smooth."""
