"""`python -m fer.artifact`."""

import sys

from fer.artifact import main
from fer.errors import one_line

if __name__ == "__main__":
    with one_line():
        main(sys.argv[1:])
