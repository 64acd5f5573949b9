"""The three splits of an image set, and the batches that training and evaluation take from them.

Train, search and test never share an image: search is held out of the training images, and a set
without a test split has a fixed fifth held out as one. Every set arrives as a Hugging Face
`datasets.Dataset`; small ones are then held in memory as one tensor.
"""

from harness.data.batches import EvalBatches, eval_batches, raise_errors, train_batches
from harness.data.held import HeldBatch, HeldBatches
from harness.data.identity import check_same_data
from harness.data.images import Batch, Draw, ImageSplit
from harness.data.reading import one_line_for_lost_workers
from harness.data.splits import Splits, check_same_images, load_splits

__all__ = [
    "Batch",
    "Draw",
    "EvalBatches",
    "HeldBatch",
    "HeldBatches",
    "ImageSplit",
    "Splits",
    "check_same_data",
    "check_same_images",
    "eval_batches",
    "load_splits",
    "one_line_for_lost_workers",
    "raise_errors",
    "train_batches",
]
