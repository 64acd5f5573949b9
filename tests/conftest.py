"""Settings of every test process."""

import signal

import torch
from hypothesis import settings

# The tests' tensors are small: threads cost more than they bring, most of all on a busy machine.
torch.set_num_threads(1)
# An example that waits for its core on a busy machine is not a slow one.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
# A shell starts background jobs with Ctrl-C ignored, which this process and its children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
