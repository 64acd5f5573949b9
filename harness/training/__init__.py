"""Train a supernet or a float network: the step, its losses, the schedule and the loop."""
