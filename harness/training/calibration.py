"""Set the first step sizes of activations from training images."""

import logging

import torch
from accelerate import Accelerator
from torch import Tensor

from harness.data import Splits, eval_batches
from harness.errors import ConfigError, NotFiniteError
from harness.quant.calibrate import fit_step_sizes, observe_magnitudes
from harness.quant.layers import QuantizedLayer
from harness.quant.supernet import Supernet
from harness.run.config import Config

logger = logging.getLogger(__name__)


def calibrate_step_sizes(
    supernet: Supernet, splits: Splits, config: Config, accelerator: Accelerator
) -> None:
    """Set every step size of activations from training images, before the first optimizer step.

    Mean |x| is taken in the float network, over ranks alike. A network that starts from trained
    weights runs on its own BN statistics, a fresh one on those of the batch, as in its first step.

    Where weights are trained, or no training follows, step sizes are then fitted: LSQ's start clips
    rare large weights, which only training can make up for. From a float run on the digits that is
    4 points at 2/2 after 2 epochs, and nothing after 40 (docs/results/differences.md).

    Raises:
        ConfigError: One image is too few for batch normalisation.
        NotFiniteError: What a layer is given is infinite or no number.
    """
    batches = eval_batches(
        splits.train,
        batch_size=config.train.calibration_images,
        limit=config.train.calibration_images,
    )
    images, _ = batches[0]
    is_trained = config.model.pretrained or config.model.weights is not None
    if len(images) == 1 and not is_trained:
        raise ConfigError(
            "train.calibration_images 1 gives batch normalisation one image, it takes two; raise it"
        )
    supernet.train(not is_trained)
    magnitudes = observe_magnitudes(supernet, images.to(accelerator.device))
    magnitudes = accelerator.reduce(magnitudes, reduction="mean")
    _check_finite(supernet, magnitudes)
    with torch.no_grad():
        for quantizer, magnitude in zip(supernet.input_quantizers, magnitudes, strict=True):
            quantizer.start_step_sizes(magnitude)
    if is_trained or config.train.epochs == 0:
        supernet.eval()
        fit_step_sizes(supernet, images.to(accelerator.device))
    logger.info("step sizes set from %d training images", len(images))


def _check_finite(supernet: Supernet, magnitudes: Tensor) -> None:
    names = [
        spec.name
        for spec, layer in zip(supernet.network.layers, supernet.layers, strict=True)
        if isinstance(layer, QuantizedLayer)
        for _ in layer.input_quantizers
    ]
    for name, is_finite in zip(names, magnitudes.isfinite().tolist(), strict=True):
        if not is_finite:
            raise NotFiniteError(
                f"the input of layer {name} is not finite on the first training images, before "
                "any is quantized; check model.weights, or start from other weights"
            )
