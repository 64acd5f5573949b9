"""What each of several ranks evaluates; sums over real ranks are tested in tests/distributed."""

import pytest

from harness import shares
from harness.models import create_model
from harness.quant.convert import describe_network
from harness.run.config import ModelConfig, QuantConfig
from harness.shares import share_of_batches, share_of_policies
from harness.training.policy_sampler import sample_policy


@pytest.fixture(scope="module")
def network():
    model = create_model(ModelConfig(), num_classes=10, in_channels=1, device="meta")
    return describe_network(
        model, name="resnet8", input_size=(1, 8, 8), num_classes=10, config=QuantConfig()
    )


def all_shares(monkeypatch, world_size, network, num_policies):
    policies = [
        sample_policy(network.candidates, seed=0, step=0, pass_index=k) for k in range(num_policies)
    ]
    found = []
    for rank in range(world_size):
        monkeypatch.setattr(shares, "_rank_and_world_size", lambda rank=rank: (rank, world_size))
        found.append(share_of_policies(policies, network))
    return found


@pytest.mark.parametrize(("world_size", "num_policies"), [(1, 5), (2, 5), (3, 3), (4, 9)])
def test_ranks_part_the_policies_and_each_takes_all_images(
    monkeypatch, network, world_size, num_policies
):
    found = all_shares(monkeypatch, world_size, network, num_policies)
    places = [place for share in found for place in share.places]
    assert sorted(places) == list(range(num_policies))
    assert {(share.num_policies, share.rank, share.world_size) for share in found} == {
        (num_policies, 0, 1)
    }


@pytest.mark.parametrize("num_policies", [0, 1, 2])
def test_ranks_part_the_images_of_fewer_policies(monkeypatch, network, num_policies):
    found = all_shares(monkeypatch, 3, network, num_policies)
    for rank, share in enumerate(found):
        assert list(share.places) == list(range(num_policies))
        assert (share.rank, share.world_size) == (rank, 3)


def test_progress_adds_up_to_the_policies_of_all_ranks():
    class Ten:
        def __len__(self) -> int:
            return 10

    told = []
    share = share_of_batches(6)
    on_batch = share.progress(told.append, Ten(), None)
    for _ in range(10):
        on_batch()
    assert sum(told) == pytest.approx(6)
    assert share.progress(None, Ten(), None) is None
