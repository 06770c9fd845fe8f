"""From repositories to instances: collect, score, build, generate, accept; one table a stage, each resumable."""
