"""Run folders → data sets: what enters, in which form, and a card that says where it came from."""
