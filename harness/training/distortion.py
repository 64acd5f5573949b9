"""Information distortion mitigation (arXiv 2401.01543, section 3.3).

A layer at its fewest bits is drawn to what it computes in the max pass:

  sum over layers at their smallest present weight candidate of MSE(f, f of the max pass)

The feature f is what the switchable normalisation behind a layer computes, before its activation.
Those of the max pass are kept for the layers alone that a random pass of the same step has at their
smallest candidate, and for no longer than the step.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from harness.problem.candidates import Candidates
from harness.problem.policy import Policy
from harness.quant.execution import PolicyInputs
from harness.quant.fake_quantize import dot


def layers_at_fewest_bits(policy: Policy, candidates: Candidates) -> list[int]:
    """Return the indices of layers whose weights have their smallest candidate, if they have two.

    >>> from harness.problem.candidates import LayerCandidates
    >>> layers = [("a", (8,)), ("b", (4, 3)), ("c", (4, 3))]
    >>> choice = Candidates(
    ...     tuple(LayerCandidates(name=name, weight=bits, act=(8,)) for name, bits in layers)
    ... )
    >>> layers_at_fewest_bits(Policy([(8, 8), (3, 8), (4, 8)]), choice)
    [1]
    """
    pairs = enumerate(zip(policy, candidates.layers, strict=True))
    return [
        index
        for index, ((weight, _), layer) in pairs
        if len(layer.weight) > 1 and weight == min(layer.weight)
    ]


class FeatureDistortion:
    """The features of one step.

    Attributes:
        kept_bytes: What the kept features of the max pass take.
        num_left_out: Layers whose features were not kept, for they would have taken too much.
    """

    def __init__(self, layers: Iterable[int], *, max_bytes: int) -> None:
        """Say which layers may be compared.

        Args:
            layers: Indices of the layers whose features the max pass keeps.
            max_bytes: The most that they take; layers whose feature does not fit are left out.
        """
        self.kept_bytes = 0
        self.num_left_out = 0
        self._layers = list(layers)
        self._max_bytes = max_bytes
        self._kept: dict[int, Tensor] = {}

    def keeping(self, inputs: PolicyInputs) -> PolicyInputs:
        """Return the inputs of the max pass, which then keeps the features."""
        return _shown(inputs, self._layers, self._keep)

    def compared(
        self, inputs: PolicyInputs, layers: Sequence[int]
    ) -> tuple[PolicyInputs, dict[int, Tensor]]:
        """Return the inputs of a random pass, and what the pass fills.

        Args:
            inputs: As `Supernet.encode` returned them.
            layers: Those that are compared.

        Returns:
            The inputs, and by layer whose feature of the max pass was kept a mean squared error, a
            scalar.
        """
        errors: dict[int, Tensor] = {}

        def compare(layer: int, feature: Tensor) -> None:
            kept = self._kept.get(layer)
            if kept is not None:
                errors[layer] = _MeanSquaredError.apply(feature, kept)

        return _shown(inputs, layers, compare), errors

    def _keep(self, layer: int, feature: Tensor) -> None:
        if self.kept_bytes + feature.nbytes > self._max_bytes:
            self.num_left_out += 1
            return
        self.kept_bytes += feature.nbytes
        # A copy, since the network may write over the feature.
        self._kept[layer] = feature.detach().clone()


class _MeanSquaredError(torch.autograd.Function):
    """The mean squared error, which keeps the difference alone for backward.

    Networks go on to write over the feature (`x += shortcut`, activations in place), so it cannot
    be kept itself, as `mse_loss` would; and this goes over memory half as often.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, feature: Tensor, target: Tensor) -> Tensor:
        # Of short types the mean would be lost in the sum.
        difference = torch.sub(feature.float(), target)
        ctx.save_for_backward(difference)
        ctx.dtype = feature.dtype  # type: ignore[attr-defined]
        return dot(difference, difference) / difference.numel()

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors  # type: ignore[attr-defined]
        slope = grad_outputs[0] * (2 / difference.numel())
        return (difference * slope).to(ctx.dtype), None  # type: ignore[attr-defined]


def _shown(
    inputs: PolicyInputs, layers: Iterable[int], look: Callable[[int, Tensor], None]
) -> PolicyInputs:
    """Return inputs under which a function is shown the features of some layers."""
    rows = list(inputs.rows)
    for layer in layers:
        rows[layer] = rows[layer]._replace(look=partial(look, layer))
    return inputs._replace(rows=rows)
