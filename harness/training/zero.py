"""DeepSpeed as the engine of a run: ZeRO stages 1, 2 and 3 (arXiv 1910.02054).

ZeRO lays each group's parameters end to end and gives every rank a part of that: of the moments
(stage 1), also of the gradients (2), also of the weights (3). The optimizer then sees one flat
tensor per group and rank. What is saved is put together by name, as if nothing had been parted, so
a run may go on under another stage, or without DeepSpeed.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import deepspeed
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn

from harness.deepspeed_config import batch_size_filled_in
from harness.errors import NotFiniteError
from harness.run.optimizer_file import NamedState
from harness.training.engine import Engine
from harness.training.optim import GroupedOptimizer

WEIGHTS_STAGE = 3
"""The stage that parts the weights as well."""


class Part(NamedTuple):
    """Which elements of a parameter this rank updates, and where they lie in a flat tensor."""

    flat: Tensor
    """What the optimizer sees, one dimension."""
    flat_start: int
    start: int
    """In the parameter, read in order of its dimensions."""
    num_elements: int
    """Elements; 0 where this rank updates none."""


class ZeroEngine(Engine):
    """Runs ranks whose moments, gradients or weights are partitioned."""

    def adding_up(self) -> AbstractContextManager[None]:
        """Add up gradients over the passes inside the block; ranks exchange them at its end."""
        # Left to itself ZeRO 2 and 3 exchange gradients in every pass, since none keeps its own.
        block: AbstractContextManager[None] = self._deepspeed.coalesce_grad_reduction()
        return block

    def one_pass(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Run a pass; when gradients are exchanged is decided by `adding_up`."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those of the step."""
        self._deepspeed.backward(loss)

    def step(self) -> None:
        """Take the optimizer's step with the mean over ranks of the gradients, and drop those.

        Raises:
            NotFiniteError: A gradient is not finite.
        """
        self._deepspeed.step()
        # DeepSpeed leaves out a step with such a gradient without a word.
        if not self._deepspeed.was_step_applied():
            raise NotFiniteError(
                "a gradient is no finite number; checkpoints from before are kept; train again "
                "with a lower train.learning_rate, or mend the images or weights that lead there"
            )

    def whole_weights(self) -> AbstractContextManager[None]:
        """Have every rank hold every weight inside the block, to read them outside a pass."""
        if self._deepspeed.zero_optimization_stage() < WEIGHTS_STAGE:
            return nullcontext()
        block: AbstractContextManager[None] = deepspeed.zero.GatheredParameters(
            list(self._network.parameters())
        )
        return block

    def optimizer_state(self) -> NamedState:
        """Return the whole state of the optimizer by name; every rank takes part."""
        found: dict[str, dict[str, Tensor]] = {}
        for group, flats in self._groups():
            kept: Mapping[str, Tensor] = self._bare.state.get(flats[0], {})
            # Sorted: safetensors returns names in an order of its own, another one on every rank,
            # and ranks that gather different moments at a time would mix them.
            moments = [(key, kept[key]) for key in sorted(kept) if kept[key] is not None]
            for name in group["param_names"]:
                values = {
                    key: self._gathered(name, key) if value.dim() else value.clone()
                    for key, value in moments
                }
                if values and self._accelerator.is_main_process:  # Others would keep it for naught.
                    found[name] = {key: value.cpu() for key, value in values.items()}
        return found

    def load_optimizer_state(self, saved: NamedState) -> None:
        """Give this rank its part of a whole state."""
        self._bare.state.clear()  # Of the parameters before they were parted.
        if not saved:
            return
        for group, flats in self._groups():
            names = group["param_names"]
            for flat in flats:
                self._bare.state[flat] = {
                    key: torch.zeros_like(flat, requires_grad=False) if value.dim() else value
                    for key, value in saved[names[0]].items()
                }
            for name in names:
                part = self._part(name)
                for key, value in saved[name].items():
                    if value.dim():
                        _write(self._bare.state[part.flat][key], part, value)

    @property
    def _deepspeed(self) -> Any:
        """The network as DeepSpeed's engine has wrapped it."""
        return self.model

    @property
    def _network(self) -> nn.Module:
        module: nn.Module = self._deepspeed.module
        return module

    @property
    def _zero(self) -> Any:
        """What DeepSpeed put around the optimizer."""
        return self._deepspeed.optimizer

    @property
    def _bare(self) -> GroupedOptimizer:
        bare: GroupedOptimizer = self._zero.optimizer
        return bare

    def _groups(self) -> Iterator[tuple[dict[str, Any], list[Tensor]]]:
        """Yield each group with this rank's flat tensors of it: one, or in stage 3 some."""
        for index, group in enumerate(self._bare.param_groups):
            if self._deepspeed.zero_optimization_stage() < WEIGHTS_STAGE:
                yield group, group["params"]
            else:
                flats = enumerate(self._zero.fp32_partitioned_groups_flat)
                of_group = self._zero.sub_group_to_group_id
                yield group, [flat for number, flat in flats if of_group[number] == index]

    def _part(self, name: str) -> Part:
        """Return where this rank's part of a parameter lies."""
        parameter: Any = self._network.get_parameter(name)
        if self._deepspeed.zero_optimization_stage() == WEIGHTS_STAGE:
            place = self._zero.grad_position[self._zero.get_param_id(parameter)]
            number, flat_start, size = place
            start = min(size * dist.get_rank(), parameter.ds_numel)
            # The last part is padded to the size of the others.
            count = min(size, parameter.ds_numel - start)
            return Part(self._zero.fp32_partitioned_groups_flat[number], flat_start, start, count)
        group = next(one for one, _ in self._groups() if name in one["param_names"])
        flat, mapping = group["params"][0], parameter._hp_mapping
        if mapping is None:
            return Part(flat, 0, 0, 0)
        place, of_parameter = mapping.hp_fragment_address, mapping.lp_fragment_address
        return Part(flat, place.start, of_parameter.start, place.numel)

    def _gathered(self, name: str, key: str) -> Tensor:
        """Return one moment of a parameter, put together from the parts of all ranks."""
        parameter: Any = self._network.get_parameter(name)
        shape = getattr(parameter, "ds_shape", parameter.shape)
        part = self._part(name)
        whole = torch.zeros(shape.numel(), device=self._accelerator.device)
        mine = self._bare.state[part.flat][key].narrow(0, part.flat_start, part.num_elements)
        whole.narrow(0, part.start, part.num_elements).copy_(mine)
        dist.all_reduce(whole)  # Each element is a number of one rank and zeros of all others.
        return whole.view(shape)


def prepare_zero(
    accelerator: Accelerator, model: nn.Module, loader: Any, optimizer: GroupedOptimizer
) -> tuple[Engine, Any]:
    """Return the engine for the ranks of this run, and the batches of this rank.

    Args:
        accelerator: Of this process, started by `create_accelerator`.
        model: The network on its device.
        loader: The batches of all ranks.
        optimizer: Of its parameters; a state that it has is kept.

    Raises:
        ConfigError: DeepSpeed's configuration names another batch size.
    """
    # Clipping and both algorithms are element-wise, so a flat part serves them as well.
    logging.getLogger("DeepSpeed").addFilter(lambda record: "untested opt" not in str(record.msg))
    state = optimizer.named_state()
    for parameter in model.parameters():
        # Channels last ends here: parameters are laid end to end in the order of their dimensions.
        parameter.data = parameter.data.contiguous()
    with batch_size_filled_in(accelerator, batch_size=loader.batch_sampler.batch_size):
        model, loader, wrapped = accelerator.prepare(model, loader, optimizer)
    engine = ZeroEngine(accelerator, model, wrapped)
    engine.load_optimizer_state(state)
    return engine, loader


def _write(moments: Tensor, part: Part, whole: Tensor) -> None:
    mine = whole.reshape(-1).narrow(0, part.start, part.num_elements)
    moments.narrow(0, part.flat_start, part.num_elements).copy_(mine)
