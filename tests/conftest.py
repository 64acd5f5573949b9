"""Settings of every test process."""

import signal

import torch

# The tests' tensors are small: threads cost more than they bring, most of all on a busy machine.
torch.set_num_threads(1)
# A shell starts background jobs with Ctrl-C ignored, which this process and its children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
