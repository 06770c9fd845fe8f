"""Cheating agents as data, and the small tasks they attack: see `terminal_gym/rollout/attacks.py` for the format."""

from pathlib import Path

folder = Path(__file__).parent  # found through the entry-point group `terminal_gym.attacks`
