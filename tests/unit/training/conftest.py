import pytest
import torch


@pytest.fixture
def batch():
    """Six images of the digits' size, each of a class of its own."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 1, 8, 8, generator=generator), torch.arange(6)
