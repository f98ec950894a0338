"""Where faces are in a picture, and how they are cut from it: the same for training and for inference."""
