"""Settings of every test process."""

import torch

# The tests' tensors are small: threads cost more than they bring, most of all on a busy machine.
torch.set_num_threads(1)
