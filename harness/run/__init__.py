"""What is kept of a run: its configuration, its folder, and the files that stand there."""
