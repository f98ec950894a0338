"""Recognize emotions from a camera, a video or pictures: `python infer.py --help`."""

from fer.stream.__main__ import main

if __name__ == "__main__":
    main()
