"""`python -m soundmark`: the command line."""

from soundmark.cli import entry

if __name__ == "__main__":
    entry()
