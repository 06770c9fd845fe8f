"""Seeded families of tasks: unlimited instances, each with image recipe, validator, solution and partial solution."""
