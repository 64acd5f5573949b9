"""Train the plain float network: one pass per step, with the cross entropy of the labels."""

from collections.abc import Callable, Sequence

from accelerate import Accelerator
from torch import Tensor, nn

from harness.accuracy import count_wrong
from harness.checkpoint import load_float_weights
from harness.data import Splits, eval_batches
from harness.models import MODEL_SETTINGS, NetworkSettings, create_model
from harness.run.config import Config
from harness.runtime import seed_everything
from harness.training.engine import Engine
from harness.training.losses import PassContext, StepLosses, evaluate_terms, fit_of, float_terms
from harness.training.task import Task
from harness.training.weights_origin import check_origin
from harness.training.without_effect import warn_of_settings_without_effect


def build_float_network(
    config: Config, splits: Splits, *, settings: NetworkSettings = MODEL_SETTINGS
) -> nn.Module:
    """Return the float network with its initial weights, alike on every rank.

    Args:
        config: Names the network and its weights.
        splits: Images and classes.
        settings: What the user calls the network and its weights, for messages.

    Raises:
        ModelError: The model or its weights are not to be had.
    """
    seed_everything(config.seed)
    model = create_model(
        config.model,
        num_classes=splits.num_classes,
        in_channels=splits.in_channels,
        settings=settings,
    )
    if config.model.weights is not None:
        load_float_weights(model, config.model.weights, setting=settings.weights)
        check_origin(config, splits, setting=settings.weights)
    return model


class FloatTask(Task):
    """The float network in training."""

    def __init__(self, config: Config, splits: Splits, accelerator: Accelerator) -> None:
        super().__init__(build_float_network(config, splits))
        self._config = config
        self._splits = splits
        warn_of_settings_without_effect(config.train, None)
        self._terms = float_terms(smoothing=config.train.label_smoothing)

    def run_passes(
        self, engine: Engine, images: Tensor, labels: Tensor, *, step: int, progress: float = 0.0
    ) -> StepLosses:
        """Run the only pass."""
        with engine.one_pass(is_last=True):
            context = PassContext(logits=engine.model(images), labels=labels)
            loss, values = evaluate_terms(self._terms, context)
            engine.backward(loss)
        return StepLosses(terms=values, passes=[loss.detach()], fits=[fit_of(self._terms, values)])

    def passes(
        self, engine: Engine, *, step: int
    ) -> Sequence[tuple[str, Callable[[Tensor], Tensor]]]:
        """Return the only pass."""
        return [("the float pass", engine.model)]

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Return the accuracy under `float`."""
        size = self._config.eval.batch_size
        batches = eval_batches(self._splits.search, batch_size=size)
        return {"float": 1 - count_wrong(model, batches) / batches.num_images}
