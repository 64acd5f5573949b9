"""What nothing can be computed with is named, by tensor and by kind."""

import math

import pytest
import torch
from torch import nn

from harness.quant.finite import first_unusable


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_number_that_is_none_is_named_by_its_tensor(value, dtype):
    tensors = {"conv.weight": torch.ones(3, 4), "bn.bias": torch.zeros(5, dtype=dtype)}
    assert first_unusable(tensors) is None
    tensors["bn.bias"][2:4] = value
    assert first_unusable(tensors) == "bn.bias holds 2 of 5 values that are no finite numbers"


def test_a_negative_variance_is_named_and_whole_numbers_are_left_alone():
    tensors = nn.BatchNorm2d(4).state_dict()
    tensors["running_mean"] -= 1
    assert first_unusable(tensors) is None
    tensors["running_var"][1] = -1e-3
    message = "running_var holds 1 of 4 values below 0, which no variance is"
    assert first_unusable(tensors) == message
    assert first_unusable({"count": torch.tensor(-3), "empty": torch.empty(0)}) is None
    assert first_unusable({}) is None
