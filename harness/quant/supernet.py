"""A supernet: a network whose weights serve every bit-width configuration (arXiv 2401.01543).

It is a function of images and a policy. `encode` turns a policy into what the layers are given:
whole numbers, or on a device tensors gathered from one table, so that a compiled graph serves every
policy. `convert.py` makes a supernet from a float network.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from harness.errors import ConversionError
from harness.problem.network import LayerSpec, NetworkSpec
from harness.problem.policy import Policy
from harness.quant.execution import PolicyInputs, Run, norm_paths
from harness.quant.fake_quantize import Level
from harness.quant.layers import LayerRow, QuantizedLayer
from harness.quant.lsq import LsqQuantizer
from harness.quant.norms import Norm, SharedBatchNorm, Statistics, SwitchableBatchNorm2d
from harness.quant.segments import EvaluationGraph, SegmentedNetwork

NO_LEVEL = Level(0, 0, 0)
"""Stands in a table for the bits of a layer that has no quantizer there."""

FLOAT_ROW = LayerRow(weight=None, act=None, norm=0)
"""Computes a layer in float; the first copy of its norm is that of the largest bits."""

MAX_WEIGHT_BYTES = 2**30
"""Quantized weights of all candidates are kept up to this size; beyond it they are made anew."""


class Supernet(nn.Module):
    """One set of weights under any policy of its network.

    Attributes:
        model: The converted network; parameter names are those of the float one.
        network: Its layers in order of execution.
    """

    def __init__(
        self,
        model: nn.Module,
        network: NetworkSpec,
        *,
        norm_behind: Mapping[str, str],
        in_training: Run,
        in_evaluation: Run,
        evaluation_graph: EvaluationGraph,
    ) -> None:
        """Wire a converted network; `convert` calls this.

        Args:
            model: The network with its layers and norms in their quantized forms.
            network: Its layers.
            norm_behind: Path of the norm behind a layer, by the layer's path.
            in_training: How the network computes in training.
            in_evaluation: And in evaluation.
            evaluation_graph: What `in_evaluation` was compiled from.
        """
        super().__init__()
        self.model = model
        self.network = network
        self._candidates = network.candidates
        self._runs = {True: in_training, False: in_evaluation}
        self._evaluation_graph = evaluation_graph
        # Paths, not modules: a deepcopy (the EMA) then finds its own modules by them.
        self._norm_paths = norm_paths(model)
        index_of = {layer.name: index for index, layer in enumerate(network.layers)}
        layer_of = {norm: index_of[layer] for layer, norm in norm_behind.items()}
        # The layer whose row each norm follows; None where it follows none.
        self._norm_layers = [layer_of.get(path) for path in self._norm_paths]

    @property
    def layers(self) -> list[nn.Module]:
        """The layers of the network in order of execution, those in float as they were."""
        return [self.model.get_submodule(layer.name) for layer in self.network.layers]

    @property
    def quantized_layers(self) -> list[QuantizedLayer]:
        """The layers that are quantized, in order of execution."""
        return [layer for layer in self.layers if isinstance(layer, QuantizedLayer)]

    @property
    def input_quantizers(self) -> list[LsqQuantizer]:
        """The quantizers of what the layers are given, in order of execution."""
        return [one for layer in self.quantized_layers for one in layer.input_quantizers]

    @property
    def norms(self) -> list[Norm]:
        """The normalisations that take statistics."""
        found = [self.model.get_submodule(path) for path in self._norm_paths]
        return [norm for norm in found if isinstance(norm, SwitchableBatchNorm2d | SharedBatchNorm)]

    @property
    def norm_paths(self) -> list[str]:
        """The paths of `norms`."""
        return list(self._norm_paths)

    @property
    def normalised_layers(self) -> frozenset[int]:
        """The indices of the layers with a switchable normalisation behind them."""
        return frozenset(layer for layer in self._norm_layers if layer is not None)

    @property
    def segmented(self) -> SegmentedNetwork:
        """How the network computes in evaluation, cut where policies part."""
        return self._evaluation_graph.segmented

    def encode(self, policy: Policy) -> PolicyInputs:
        """Return a policy as `forward` takes it, in whole numbers on a CPU, else in tensors.

        Raises:
            PolicyError: A layer's bits are not among its candidates.
        """
        # Numbers on a device would make each bit-width a graph of its own to compile.
        device = next(self.model.parameters()).device
        if device.type != "cpu":
            return self.encode_as_tensors([policy])[0]
        return self._inputs(self._rows(policy))

    def encode_as_tensors(self, policies: Iterable[Policy]) -> list[PolicyInputs]:
        """Return policies as tensors on the device of the weights, without waiting for it.

        A compiled graph takes any of them: shapes and types are alike.

        Raises:
            PolicyError: A layer's bits are not among its candidates.
        """
        numbers = torch.tensor(
            [[_columns(row) for row in self._rows(policy)] for policy in policies]
        )  # (policies, layers, 7), int64
        device = next(self.model.parameters()).device
        return [self._from_columns(columns) for columns in numbers.to(device, non_blocking=True)]

    def encode_float(self) -> PolicyInputs:
        """Return what runs the float network, with the norms of the largest bits."""
        return self._inputs([FLOAT_ROW] * len(self.network.layers))

    def encode_standing(
        self, policies: Sequence[Policy], *, max_weight_bytes: int = MAX_WEIGHT_BYTES
    ) -> list[PolicyInputs]:
        """Return policies with their weights quantized already; use them while weights stand still.

        Policies that give a layer the same bits share its quantized weight. Rows are whole numbers
        on a device too: these inputs are for evaluation as it is written, not compiled.

        Args:
            policies: Policies of this network.
            max_weight_bytes: The most that quantized weights take together. Where they would take
                more, those that the fewest policies use are quantized each time that they are used.

        Raises:
            PolicyError: A layer's bits are not among its candidates.
        """
        rows = [self._rows(policy) for policy in policies]
        layers = self.layers
        uses = Counter((at, bits) for policy in policies for at, (bits, _) in enumerate(policy))
        kept: dict[tuple[int, int], Tensor | None] = {}
        left = max_weight_bytes
        for (at, bits), _ in uses.most_common():
            layer = layers[at]
            if isinstance(layer, QuantizedLayer) and layer.weight.nbytes <= left:
                kept[at, bits] = layer.standing_weight(bits)
                left -= layer.weight.nbytes
        return [
            self._inputs(mine)._replace(
                weights=[kept.get((at, bits)) for at, (bits, _) in enumerate(policy)]
            )
            for policy, mine in zip(policies, rows, strict=True)
        ]

    def statistics(self, inputs: PolicyInputs) -> list[Statistics]:
        """Return the running statistics that a pass with these inputs uses, one for each norm."""
        followed = self._norm_layers
        rows = [FLOAT_ROW if layer is None else inputs.rows[layer] for layer in followed]
        own = [norm.statistics(row) for norm, row in zip(self.norms, rows, strict=True)]
        given = zip(inputs.statistics, own, strict=True)
        return [mine if other is None else other for other, mine in given]

    def forward(self, images: Tensor, policy: Policy | PolicyInputs) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes) under a policy.

        Raises:
            PolicyError: A layer's bits are not among its candidates.
            ConversionError: The images are of another size than the network was converted for.
        """
        self.check_images(images)
        inputs = self.encode(policy) if isinstance(policy, Policy) else policy
        return self._runs[self.training](self.model, images, inputs)

    def check_images(self, images: Tensor) -> None:
        """Check that images have the size that the network was converted for.

        Raises:
            ConversionError: They have another.
        """
        if images.shape[1:] != self.network.input_size:
            # The graph was made at one size, and may have decided by it.
            raise ConversionError(
                f"images are {_times(images.shape[1:])}, the network was converted for "
                f"{_times(self.network.input_size)}; bring them to that size"
            )

    def _rows(self, policy: Policy) -> list[LayerRow]:
        self._candidates.check(policy)
        parts = zip(self.layers, self.network.layers, policy, strict=True)
        return [_row(layer, spec, *pair) for layer, spec, pair in parts]

    def _from_columns(self, columns: Tensor) -> PolicyInputs:
        rows = []
        for layer, numbers in zip(self.layers, columns, strict=True):
            if isinstance(layer, QuantizedLayer):
                values = numbers.unbind()
                act = None if layer.act_quantizer is None else Level(*values[3:6])
                rows.append(LayerRow(Level(*values[:3]), act, values[6]))
            else:
                rows.append(FLOAT_ROW)
        return self._inputs(rows)

    def _inputs(self, rows: Sequence[LayerRow]) -> PolicyInputs:
        return PolicyInputs(
            rows=rows,
            weights=[None] * len(self.network.layers),
            statistics=[None] * len(self._norm_paths),
        )


def _row(layer: nn.Module, spec: LayerSpec, weight_bits: int, act_bits: int) -> LayerRow:
    if not isinstance(layer, QuantizedLayer):
        return FLOAT_ROW
    acts = spec.act_candidates
    # The copies of a norm stand in the order of all pairs, activation bits changing first.
    norm = spec.weight_candidates.index(weight_bits) * len(acts) + acts.index(act_bits)
    return layer.row(weight_bits, act_bits, norm=norm)


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def _columns(row: LayerRow) -> list[int | Tensor]:
    return [*(row.weight or NO_LEVEL), *(row.act or NO_LEVEL), row.norm]
