"""Steps of an engine beside those of plain torch, in a network where nothing rounds to a grid.

`zero_processes.py` takes them in two processes.
"""

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.utils.data import BatchSampler, DataLoader

from harness.quant.lsq import LsqQuantizer
from harness.run.config import TrainConfig
from harness.training.assemble import prepare_engine
from harness.training.optim import create_optimizer
from harness.training.zero import ZeroEngine

NUM_STEPS, NUM_PASSES, NUM_RANKS = 3, 3, 2
CONFIG = TrainConfig(learning_rate=0.3, step_learning_rate=0.1, gradient_clip=0.05)
"""With rates and a limit at which what is wrong shows at once."""


class Smooth(nn.Module):
    """A network with a parameter of each group and nothing that rounds, in odd sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.scale = LsqQuantizer((4, 3, 2), signed=True)
        self.fc = nn.Linear(3, 5)

    def forward(self, images: Tensor, *, index: int) -> Tensor:
        features = torch.tanh(self.conv(images)).mean(dim=(2, 3))
        return self.fc(features * self.scale.step_size[index])


def loss_of(logits: Tensor, *, step: int, number: int) -> Tensor:
    """Return another loss for each pass."""
    return (number + 1) * (logits - step).square().mean()


def images_of(rank: int, step: int) -> Tensor:
    return torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(10 * step + rank))


def distance_to_plain_torch(accelerator: Accelerator) -> float:
    """Take some steps; return how far weights end from those of torch's optimizers, alone."""
    torch.manual_seed(0)
    ours, plain = Smooth(), Smooth()
    plain.load_state_dict(ours.state_dict())
    batches = BatchSampler(range(16), 4, drop_last=True)  # Only their size is asked for.
    loader = DataLoader(range(16), batch_sampler=batches)
    engine, _ = prepare_engine(accelerator, ours, loader, create_optimizer(ours, CONFIG))
    for step in range(NUM_STEPS):
        images = images_of(accelerator.process_index, step)
        with engine.adding_up():
            for number in range(NUM_PASSES):
                with engine.one_pass(is_last=number == NUM_PASSES - 1):
                    logits = engine.model(images, index=number)
                    engine.backward(loss_of(logits, step=step, number=number))
        engine.step()
    if isinstance(engine, ZeroEngine):
        check_moments_are_put_together_in_any_order(engine)
    take_plain_steps(plain)
    with engine.whole_weights():
        pairs = zip(ours.parameters(), plain.parameters(), strict=True)
        return max(float((a - b).detach().abs().max()) for a, b in pairs)


def check_moments_are_put_together_in_any_order(engine: ZeroEngine) -> None:
    """Files keep no order of their tensors: ranks may have read them in different ones."""
    saved = [engine.optimizer_state()]  # On the main process alone.
    dist.broadcast_object_list(saved)
    direction = 1 if dist.get_rank() == 0 else -1
    engine.load_optimizer_state(
        {
            name: {key: values[key] for key in sorted(values)[::direction]}
            for name, values in saved[0].items()
        }
    )
    again = engine.optimizer_state()
    for name, values in again.items():
        assert all(torch.equal(value, saved[0][name][key]) for key, value in values.items()), name


def take_plain_steps(model: Smooth) -> None:
    """Take the same steps in one process: the mean over ranks of the sum over passes."""
    sgd = {"momentum": CONFIG.momentum, "nesterov": True, "lr": CONFIG.learning_rate}
    others = [model.conv.bias, *model.fc.parameters()]
    optimizers = [
        SGD([model.conv.weight], **sgd, weight_decay=CONFIG.weight_decay),
        SGD(others, **sgd),
        Adam([model.scale.step_size], lr=CONFIG.step_learning_rate),
    ]
    for step in range(NUM_STEPS):
        for rank in range(NUM_RANKS):
            for number in range(NUM_PASSES):
                logits = model(images_of(rank, step), index=number)
                (loss_of(logits, step=step, number=number) / NUM_RANKS).backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), CONFIG.gradient_clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
