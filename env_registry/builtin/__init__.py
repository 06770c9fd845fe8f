"""The instances that ship with the package: one Terminal-Bench 1.0 folder each, and their index."""

from pathlib import Path

catalogue = Path(__file__).parent  # found through the entry-point group `terminal_gym.catalogues`
