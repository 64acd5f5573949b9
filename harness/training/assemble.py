"""Put a run together: task, network, optimizer and batches, in the order they depend on."""

import logging
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType
from timm.utils import ModelEmaV3
from torch import nn

from harness.data import Splits, check_same_data, load_splits, train_batches
from harness.errors import CheckpointError, DataError
from harness.run.checkpoint_folder import put_aside_damaged
from harness.run.config import Config
from harness.run.data_file import save_data
from harness.run.files import write_json
from harness.run.folder import ENVIRONMENT_FORMAT, RunDir
from harness.run.state_file import load_state
from harness.runtime import environment, lay_channels_last
from harness.training.engine import Engine, prepare
from harness.training.float_task import FloatTask
from harness.training.loop import Loop
from harness.training.optim import GroupedOptimizer, create_optimizer
from harness.training.state import TrainingState
from harness.training.supernet_task import SupernetTask
from harness.training.task import Task

logger = logging.getLogger(__name__)


def create_task(config: Config, splits: Splits, accelerator: Accelerator) -> Task:
    """Return the task that `train.mode` names, with its network on the CPU.

    Raises:
        ModelError: The model or its weights are not to be had.
        ConversionError: It has a module without a quantized form.
    """
    tasks: dict[str, type[FloatTask | SupernetTask]] = {
        "float": FloatTask,
        "supernet": SupernetTask,
    }
    return tasks[config.train.mode](config, splits, accelerator)


def assemble(
    config: Config, run: RunDir, accelerator: Accelerator, *, checkpoint: Path | None
) -> Loop:
    """Build a run or restore it, and write the files that describe it.

    Raises:
        HarnessError: Something that the configuration names cannot be used; nothing was written.
    """
    splits = load_splits(config.data, seed=config.seed)
    task = create_task(config, splits, accelerator)
    if checkpoint is not None:
        origin = RunDir(checkpoint.absolute().parents[1])
        # Where the images lie may change: what lies there is compared before anything is written.
        check_same_data(load_state(checkpoint)["data"], splits.identity, run=origin.path)
        task.check_description(origin)
    logger.info("%s", splits.describe())
    task.model.to(accelerator.device)
    # Before all that looks at the parameters' memory: gradients and moments are laid out like it.
    lay_channels_last(task.model)
    loader: Any = train_batches(
        splits.train,
        batch_size=config.train.batch_size,
        seed=config.seed,
        pin_memory=accelerator.device.type == "cuda",
    )
    if checkpoint is None:
        # Before the averaged weights, which begin as a copy of the network.
        task.calibrate()
    # Before Accelerate wraps the network: the copy is the bare one, which is saved and searched.
    state = TrainingState(
        task=task,
        ema=ModelEmaV3(task.model, decay=config.train.ema_decay, use_warmup=True),
        optimizer=create_optimizer(task.model, config.train),
        configuration=config.deciding_settings(),
        data=splits.identity,
    )
    if checkpoint is not None:
        # Before Accelerate as well: it may hand out copies of weights and moments as they are now.
        state.restore(checkpoint)
        logger.info("going on from step %d of %s", state.step, checkpoint)
    engine, loader = prepare_engine(accelerator, task.model, loader, state.optimizer)
    # Last, for only now is it known how many batches fall to each rank.
    _check_steps(
        config, num_images=len(splits.train), num_steps=len(loader), accelerator=accelerator
    )
    if checkpoint is not None and state.steps_per_epoch != len(loader):
        raise CheckpointError(
            f"checkpoint {checkpoint} has {state.steps_per_epoch} steps per epoch, "
            f"{accelerator.num_processes} process(es) make it {len(loader)}; "
            "start as many processes as before"
        )
    state.steps_per_epoch = len(loader)
    if accelerator.is_main_process:
        put_aside_damaged(run)
        run.save_config(config)
        save_data(run.data_file_path, splits.identity)
        write_json(run.environment_path, environment(), file_format=ENVIRONMENT_FORMAT)
        task.write_description(run)
    return Loop(config, run, accelerator, state=state, engine=engine, loader=loader)


def prepare_engine(
    accelerator: Accelerator, model: nn.Module, loader: Any, optimizer: GroupedOptimizer
) -> tuple[Engine, Any]:
    """Return the engine that the launcher asked for, and the batches of this rank.

    Raises:
        ConfigError: The launcher was given settings that this training cannot keep to.
    """
    # A batch in pinned memory is then sent while the steps before it are computed.
    accelerator.dataloader_config.non_blocking = True
    if accelerator.distributed_type is not DistributedType.DEEPSPEED:
        return prepare(accelerator, model, loader, optimizer)
    from harness.training.zero import prepare_zero  # DeepSpeed takes seconds to import.

    return prepare_zero(accelerator, model, loader, optimizer)


def _check_steps(
    config: Config, *, num_images: int, num_steps: int, accelerator: Accelerator
) -> None:
    if num_steps == 0 and config.train.epochs > 0:
        raise DataError(
            f"train.batch_size {config.train.batch_size} in each of "
            f"{accelerator.num_processes} processes is more than the {num_images} "
            "training images; lower it or start fewer processes"
        )
