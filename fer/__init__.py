"""Facial emotion recognition: labelled faces in, one artifact out, emotions on live video."""
