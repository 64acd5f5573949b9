"""Build what a configuration asks for: the float network, or the calibrated supernet."""

import logging

import torch
from accelerate import Accelerator
from torch import nn

from harness.checkpoint import load_float_weights
from harness.data import Splits, eval_batches
from harness.models import create_model
from harness.quant.calibrate import fit_step_sizes, observe_magnitudes
from harness.quant.convert import convert, describe_network
from harness.quant.supernet import Supernet
from harness.run.config import Config
from harness.runtime import seed_everything

logger = logging.getLogger(__name__)


def build_model(config: Config, splits: Splits) -> nn.Module:
    """Return a float network or a supernet with its initial weights, alike on every rank.

    Raises:
        ModelError: The model or its weights are not to be had.
        ConversionError: It has a module without a quantized form.
    """
    seed_everything(config.seed)
    model = create_model(
        config.model, num_classes=splits.num_classes, in_channels=splits.in_channels
    )
    if config.model.weights is not None:
        load_float_weights(model, config.model.weights)
    if config.train.mode == "float":
        return model
    network = describe_network(
        model,
        name=config.model.name,
        input_size=(splits.in_channels, *splits.image_size),
        num_classes=splits.num_classes,
        config=config.quant,
    )
    return convert(model, network)


def calibrate_step_sizes(
    supernet: Supernet, splits: Splits, config: Config, accelerator: Accelerator
) -> None:
    """Set every activation step from training images, before the first optimizer step.

    Mean |x| is taken in the float network, over ranks alike. A network that starts from trained
    weights runs on its own BN statistics, a fresh one on those of the batch, as in its first step.
    Where no training follows, or weights come from outside, steps are then fitted: LSQ's start
    clips rare large weights, which only training can make up for.
    """
    batches = eval_batches(
        splits.train,
        batch_size=config.train.calibration_images,
        limit=config.train.calibration_images,
    )
    images, _ = batches[0]
    is_trained = config.model.pretrained or config.model.weights is not None
    supernet.train(not is_trained)
    magnitudes = observe_magnitudes(supernet, images.to(accelerator.device))
    magnitudes = accelerator.reduce(magnitudes, reduction="mean")
    with torch.no_grad():
        for layer, magnitude in zip(supernet.quantized_layers, magnitudes, strict=True):
            layer.set_act_step_sizes(magnitude)
    weights = config.model.weights
    if config.model.pretrained or config.train.epochs == 0 or (weights and weights.is_file()):
        supernet.eval()
        fit_step_sizes(supernet, images.to(accelerator.device))
    logger.info("step sizes set from %d training images", len(images))
