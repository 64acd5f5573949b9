"""Where initial weights come from: a float run must have had these images, split as they are here.

Otherwise the network would have been trained on images that are to score policies, or would know
the classes by other numbers.
"""

import logging

from harness.data import Splits
from harness.errors import ModelError
from harness.run.checkpoint_folder import existing_checkpoint
from harness.run.config import Config
from harness.run.folder import RunDir
from harness.run.settings import difference
from harness.run.state_file import load_state

logger = logging.getLogger(__name__)


def check_origin(config: Config, splits: Splits, *, setting: str = "model.weights") -> None:
    """Check the images of the float run that the weights are of, if it names one.

    Warns where its search or test split was another one.

    Args:
        config: Names the network and its weights.
        splits: The images here.
        setting: What the user calls the weights, for messages.

    Raises:
        ModelError: Its classes are others.
    """
    weights = config.model.weights
    if weights is None or not weights.is_dir():
        return
    origin = RunDir(weights)
    there, here = load_state(existing_checkpoint(origin))["data"], splits.identity
    if there is None:
        is_same = _are_settings_same(origin.load_config(), config)
    elif there.class_names != here.class_names:
        raise ModelError(
            f"{setting} {weights} was trained on other images: {there.difference(here)}; "
            "train it again on these"
        )
    else:
        is_same = (there.search.digest, there.test.digest) == (here.search.digest, here.test.digest)
    if not is_same:
        logger.warning(
            "%s %s was trained on another split of the images: some of the images that "
            "score policies here may have been trained on, which flatters them; train it with the "
            "same images, data settings and seed",
            setting,
            weights,
        )


def _are_settings_same(there: Config, here: Config) -> bool:
    """Tell whether two configurations split images alike, where a run did not note its images."""

    def of_the_split(config: Config) -> dict[str, object]:
        settings = config.deciding_settings()
        return {k: v for k, v in settings.items() if k == "seed" or k.startswith("data.")}

    return difference(of_the_split(there), of_the_split(here)) is None
