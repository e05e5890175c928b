"""python -m energeia is the command energeia."""

from energeia.cli import entry

if __name__ == "__main__":
    entry()
