"""Sensitivities of a whole split: means over its images, against what is measured, refusals."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from harness.accuracy import PolicyScorer
from harness.data import eval_batches
from harness.data.images import MemorySplit
from harness.errors import DataError, NotFiniteError
from harness.models import create_model
from harness.problem.policy import Policy
from harness.quant.calibrate import fit_step_sizes, observe_magnitudes
from harness.quant.convert import convert, describe_network
from harness.quant.gradient import batch_sensitivities, random_signs
from harness.quant.supernet import Supernet
from harness.run.config import ModelConfig, QuantConfig
from harness.sensitivity import gradient_sensitivities, pair_values


def supernet_and_split(*, number: int = 60) -> tuple[Supernet, MemorySplit]:
    torch.manual_seed(0)
    model = create_model(ModelConfig(), num_classes=10, in_channels=1)
    network = describe_network(
        model, name="resnet8", input_size=(1, 8, 8), num_classes=10, config=QuantConfig()
    )
    split = MemorySplit(
        torch.randint(0, 256, (number, 1, 8, 8), dtype=torch.uint8),
        labels=torch.randint(0, 10, (number,)),
        mean=[0.5], std=[0.5],
    )  # fmt: skip
    supernet = convert(model, network)
    images, _ = split.read(range(number))
    magnitudes = observe_magnitudes(supernet.eval(), images)
    for quantizer, magnitude in zip(supernet.input_quantizers, magnitudes, strict=True):
        quantizer.start_step_sizes(magnitude)
    with torch.no_grad():
        fit_step_sizes(supernet, images)
    return supernet, split


def test_they_are_the_mean_over_the_images_of_all_batches() -> None:
    supernet, split = supernet_and_split()
    candidates = supernet.network.candidates
    batches = eval_batches(split, batch_size=25, limit=55)  # The last one is short.
    found = gradient_sensitivities(
        supernet.train(), batches, candidates=candidates, num_probes=2, seed=4
    )
    total = torch.zeros(len(candidates.layers), 2, 5, dtype=torch.float64)
    for index, (images, _) in enumerate(batches):
        signs = random_signs(2, len(images), 10, seed=(4, index))
        total += batch_sensitivities(supernet.eval(), candidates, images, signs=signs)
    for index, layer in enumerate(candidates.layers):
        for at, given in enumerate((layer.weight, layer.act)):
            expected = total[index, at, : len(given)] / 55
            assert found[index, at, : len(given)].tolist() == expected.tolist()
            assert np.isnan(found[index, at, len(given) :]).all()
    assert found.dtype == np.float64


def test_they_rank_changes_as_their_measured_divergence_does() -> None:
    supernet, split = supernet_and_split()
    candidates = supernet.network.candidates
    largest = candidates.largest.bits
    found = gradient_sensitivities(
        supernet, eval_batches(split, batch_size=30), candidates=candidates, num_probes=4
    )
    predicted, policies = [], []
    for index, layer in enumerate(candidates.layers):
        for at, given in enumerate((layer.weight, layer.act)):
            for position, bits in enumerate(given[1:], start=1):
                pair = (bits, largest[index][1]) if at == 0 else (largest[index][0], bits)
                policies.append(Policy([*largest[:index], pair, *largest[index + 1 :]]))
                predicted.append(found[index, at, position])
    all_images = eval_batches(split, batch_size=60)
    scorer = PolicyScorer(supernet, all_images, score="kl", recalibration=all_images)
    measured = scorer.score(policies).parts.sum(axis=1) / len(split)
    assert len(policies) == 64
    assert spearmanr(predicted, measured).statistic > 0.9
    # Large changes saturate, and squares do not: the mean would be one of the largest alone.
    assert 0.5 < np.median(predicted / measured) < 2


def test_a_last_batch_of_one_image_is_left_out() -> None:
    supernet, split = supernet_and_split()
    candidates = supernet.network.candidates
    one, other = (
        gradient_sensitivities(
            supernet, eval_batches(split, batch_size=20, limit=limit), candidates=candidates
        )
        for limit in (40, 41)
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("limit", "batch_size"), [(1, 64), (5, 1)])
def test_images_that_stand_alone_are_refused(limit: int, batch_size: int) -> None:
    supernet, split = supernet_and_split()
    batches = eval_batches(split, batch_size=batch_size, limit=limit)
    message = r"gradients need at least two images in a batch; give more images or larger batches$"
    with pytest.raises(DataError, match=message):
        gradient_sensitivities(supernet, batches, candidates=supernet.network.candidates)


def test_infinite_gradients_are_refused_with_the_layer() -> None:
    supernet, split = supernet_and_split()
    with torch.no_grad():
        supernet.norms[-1].weight[0] = float("inf")
    message = (
        r"the gradient that says what 5 weight bits of \S+ cost is no finite number; train "
        r"again with a lower train.learning_rate, or check the images$"
    )
    with pytest.raises(NotFiniteError, match=message):
        gradient_sensitivities(
            supernet, eval_batches(split, batch_size=30), candidates=supernet.network.candidates
        )


def test_values_of_pairs_are_the_sums_of_both_sides() -> None:
    supernet, split = supernet_and_split()
    candidates = supernet.network.candidates
    found = gradient_sensitivities(
        supernet, eval_batches(split, batch_size=30), candidates=candidates
    )
    tables = pair_values(found, candidates)
    for index, (layer, table) in enumerate(zip(candidates.layers, tables, strict=True)):
        assert table.shape == (len(layer.weight), len(layer.act))
        for row, _ in enumerate(layer.weight):
            for column, _ in enumerate(layer.act):
                assert table[row, column] == found[index, 0, row] + found[index, 1, column]
    assert all(table[0, 0] == 0 for table in tables)
