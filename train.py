"""Train a facial-emotion model, judge it and export it: `python train.py --help`."""

from fer.train.__main__ import main

if __name__ == "__main__":
    main()
