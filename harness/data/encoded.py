"""The images of one split, left encoded until they are asked for."""

from collections.abc import Callable, Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from harness.data.columns import Selection, without_decoding
from harness.data.decoding import decode_image, decode_tensor

Transform = Callable[[Image.Image], Tensor]


class EncodedImages:
    """Rows of a set whose images are decoded at each request, upright and as RGB."""

    def __init__(
        self,
        selection: Selection,
        *,
        column: str,
        name: str,
        eval_transform: Transform,
        significant_bits: int | None = None,
    ) -> None:
        self._rows = without_decoding(selection, column=column)
        self._indices = selection.indices
        self._column = column
        self._name = name
        self._eval_transform = eval_transform
        self._significant_bits = significant_bits

    def decode(self, numbers: Sequence[int]) -> Iterator[Image.Image]:
        """Yield the images at `numbers` in their own sizes, one in memory at a time.

        Raises:
            DataError: An image cannot be decoded.
        """
        entries = self._rows[list(numbers)][self._column]
        for number, entry in zip(numbers, entries, strict=True):
            place = f"row {self._indices[number]} of {self._name}"
            bits = self._significant_bits
            yield decode_image(entry, place=place, significant_bits=bits).convert("RGB")

    def decode_tensors(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        """Yield what `decode` does as uint8 (3, H, W); JPEG files in 0.75 of the time.

        Raises:
            DataError: An image cannot be decoded.
        """
        entries = self._rows[list(numbers)][self._column]
        for number, entry in zip(numbers, entries, strict=True):
            place = f"row {self._indices[number]} of {self._name}"
            yield decode_tensor(entry, place=place, significant_bits=self._significant_bits)

    def pixels(self, numbers: Sequence[int]) -> Tensor:
        """Return the images at `numbers` as evaluation takes them, uint8 (N, 3, H, W).

        Raises:
            DataError: An image cannot be decoded.
        """
        return torch.stack([self._eval_transform(image) for image in self.decode(numbers)])
