"""Does the whole loop make a policy better? Small, from scratch, on two cores; see docs/learning.md."""
