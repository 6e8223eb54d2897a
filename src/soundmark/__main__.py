"""`python -m soundmark`: the command line."""

import sys

from soundmark.cli import main

if __name__ == "__main__":
    sys.exit(main())
