"""From a frame to its faces: detect, track, classify, smooth."""
