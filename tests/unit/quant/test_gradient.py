"""What gradients predict, against passes that move one tensor, and against the KL itself."""

import itertools
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from branching_networks import NETWORKS, created, images_of
from torch import Tensor, nn

from harness.problem.candidates import Candidates
from harness.problem.policy import Policy
from harness.quant.calibrate import fit_step_sizes, observe_magnitudes
from harness.quant.convert import convert, describe_network
from harness.quant.gradient import batch_sensitivities, random_signs
from harness.quant.supernet import Supernet
from harness.run.config import QuantConfig

IMAGES = images_of(6, seed=0)
SIGNS = random_signs(2, 6, 10, seed=(0,))


def changes(candidates: Candidates) -> Iterator[tuple[tuple[int, int, int], Policy]]:
    """Yield (layer, side, position) of each candidate below the largest, and its policy."""
    largest = candidates.largest.bits
    for index, layer in enumerate(candidates.layers):
        for at, given in enumerate((layer.weight, layer.act)):
            for position, bits in enumerate(given):
                if bits != max(given):
                    pair = (bits, largest[index][1]) if at == 0 else (largest[index][0], bits)
                    policy = Policy([*largest[:index], pair, *largest[index + 1 :]])
                    yield (index, at, position), policy


class Watched:
    """Runs a supernet under the statistics of the batch, and may move what leaves one layer."""

    def __init__(self, supernet: Supernet) -> None:
        self.supernet = supernet
        self.left: dict[int, Tensor] = {}
        self.moved: tuple[int, Tensor] | None = None
        leaves: dict[int, nn.Module] = dict(enumerate(supernet.layers))
        norms = zip(supernet._norm_layers, supernet.norms, strict=True)
        leaves.update((layer, norm) for layer, norm in norms if layer is not None)
        for index, module in leaves.items():
            module.register_forward_hook(
                lambda module, given, output, index=index: self._pass_on(index, output)
            )

    def _pass_on(self, index: int, output: Tensor) -> Tensor:
        self.left[index] = output.detach().clone()
        is_moved = self.moved is not None and self.moved[0] == index
        return output + self.moved[1] if is_moved else output

    def logits(self, policy: Policy) -> Tensor:
        inputs = self.supernet.encode(policy)
        own = [one.copied(momentum=0.0) for one in self.supernet.statistics(inputs)]
        return self.supernet(IMAGES, inputs._replace(statistics=own))

    def features(self, index: int, policy: Policy) -> Tensor:
        with torch.no_grad():
            self.logits(policy)
        return self.left[index]

    def rises(self, index: int, change: Tensor, weights: Tensor, largest: Policy) -> Tensor:
        """Return how the weighted sum of the logits rises with the change of each image."""
        share = torch.zeros(len(IMAGES), requires_grad=True)
        self.moved = index, share.view(-1, *[1] * (change.dim() - 1)) * change
        (gradient,) = torch.autograd.grad((self.logits(largest) * weights).sum(), share)
        self.moved = None
        return gradient.double()


def expected(supernet: Supernet) -> Tensor:
    """Return sensitivities by one pass for each of them."""
    candidates = supernet.network.candidates
    watched, largest = Watched(supernet), candidates.largest
    with torch.no_grad():
        logits = watched.logits(largest).double()
    shares = logits.softmax(dim=1)
    roots = shares.sqrt()
    metric = torch.diag_embed(shares) - shares.unsqueeze(2) * shares.unsqueeze(1)
    half = torch.diag_embed(roots) @ (
        torch.eye(10, dtype=torch.float64) - roots.unsqueeze(2) * roots.unsqueeze(1)
    )
    torch.testing.assert_close(half @ half.transpose(1, 2), metric)
    found = torch.zeros(len(candidates.layers), 2, 5, dtype=torch.float64)
    for (index, at, position), policy in changes(candidates):
        change = watched.features(index, policy) - watched.features(index, largest)
        for signs in SIGNS:
            weights = (half @ signs.unsqueeze(2)).squeeze(2).float()
            rises = watched.rises(index, change, weights, largest)
            found[index, at, position] += rises.square().sum() / 2 / len(SIGNS)
    return found


@pytest.mark.parametrize("name", ["mobile", "dense", "squeezed", "in place"])
def test_sensitivities_are_those_of_one_pass_for_each_change(name):
    supernet = created(name)
    candidates = supernet.network.candidates
    found = batch_sensitivities(supernet, candidates, IMAGES, signs=SIGNS)
    reference = expected(created(name))
    assert (reference != 0).sum() > 20
    scale = float(reference.abs().max())
    torch.testing.assert_close(found, reference, rtol=2e-3, atol=1e-5 * scale)


class Plain(nn.Module):
    """A free convolution whose output no grid rounds, and no norm, so that images do not meet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 3, 3)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        shared = 10 * F.softplus(self.conv(x)).mean(dim=(2, 3))
        return shared + self.fc(x.mean(dim=(2, 3)))


def plain() -> Supernet:
    torch.manual_seed(0)
    model = Plain()
    config = QuantConfig(weight_candidates=(8, 7, 6), act_candidates=(8, 7, 6))
    network = describe_network(
        model, name="plain", input_size=(3, 16, 16), num_classes=3, config=config
    )
    supernet = convert(model, network).eval()
    magnitudes = observe_magnitudes(supernet, IMAGES)
    for quantizer, magnitude in zip(supernet.input_quantizers, magnitudes, strict=True):
        quantizer.start_step_sizes(magnitude)
    fit_step_sizes(supernet, IMAGES)
    return supernet


def test_with_every_sign_they_are_the_kl_divergence_of_small_changes():
    supernet = plain()
    candidates = supernet.network.candidates
    # Images do not meet, so all of them may have the same signs.
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3))).double()
    signs = every.unsqueeze(1).expand(-1, len(IMAGES), -1)
    found = batch_sensitivities(supernet, candidates, IMAGES, signs=signs)
    with torch.no_grad():
        teacher = supernet(IMAGES, candidates.largest).double().softmax(1)
        checked = 0
        for place, policy in changes(candidates):
            given = supernet(IMAGES, policy).double().log_softmax(1)
            kl = F.kl_div(given, teacher, reduction="sum")
            assert float(found[place]) == pytest.approx(float(kl), rel=0.1)
            checked += 1
    assert checked == 4


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_supernet_stays_as_it_was(name):
    supernet = created(name)
    candidates = supernet.network.candidates
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    with torch.no_grad():
        logits = supernet(IMAGES, candidates.smallest)
        batch_sensitivities(supernet, candidates, IMAGES, signs=SIGNS)
        assert torch.equal(logits, supernet(IMAGES, candidates.smallest))
    after = supernet.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert all(parameter.grad is None for parameter in supernet.parameters())
    assert not any(module._forward_hooks for module in supernet.modules())


def test_weights_that_stand_still_give_the_same_bits():
    supernet = created("mobile")
    candidates = supernet.network.candidates
    before = batch_sensitivities(supernet, candidates, IMAGES, signs=SIGNS)
    supernet.requires_grad_(False)
    assert torch.equal(before, batch_sensitivities(supernet, candidates, IMAGES, signs=SIGNS))


def test_candidates_that_were_taken_away_start_from_what_is_left():
    supernet = created("mobile")
    whole = supernet.network.candidates
    rows = [
        {**row, "weight": row["weight"][-2:], "act": row["act"][-1:]} for row in whole.to_rows()
    ]
    narrow = whole.with_rows(rows)
    found = batch_sensitivities(supernet, narrow, IMAGES, signs=SIGNS)
    free = [index for index, layer in enumerate(narrow.layers) if not layer.is_pinned]
    assert found.shape == (len(narrow.layers), 2, 2)
    assert (found[free, 0, 1] > 0).all()
    assert found.count_nonzero() == len(free)


def test_a_network_without_a_choice_has_no_sensitivities():
    supernet = created("mobile")
    whole = supernet.network.candidates
    rows = [{**row, "weight": row["weight"][:1], "act": row["act"][:1]} for row in whole.to_rows()]
    found = batch_sensitivities(supernet, whole.with_rows(rows), IMAGES, signs=SIGNS)
    assert (found.shape, int(found.count_nonzero())) == ((len(whole.layers), 2, 1), 0)


def test_signs_are_fixed_by_their_seed_and_even():
    signs = random_signs(4, 50, 10, seed=(3, 1))
    assert (signs.shape, signs.dtype) == ((4, 50, 10), torch.float64)
    assert torch.equal(signs.abs(), torch.ones_like(signs))
    assert abs(float(signs.mean())) < 4 / 2000**0.5
    assert torch.equal(signs, random_signs(4, 50, 10, seed=(3, 1)))
    assert not torch.equal(signs, random_signs(4, 50, 10, seed=(3, 2)))
    # As drawn on the machine where results were written down.
    drawn = random_signs(1, 1, 8, seed=(0, 0))
    assert drawn.flatten().tolist() == [-1, 1, -1, 1, 1, 1, 1, 1]
