from pathlib import Path

from benchmarks import supernets as recipe
from benchmarks.supernets import supernets
from harness.run.folder import RunDir


def test_supernets_start_from_their_own_float_networks(monkeypatch, tmp_path):
    trained = []

    def remember(config, *, out):
        trained.append((config, out))
        return RunDir(out)

    monkeypatch.setattr(recipe, "train", remember)
    runs = supernets(None, tmp_path, full=True)
    assert [run.path for run in runs] == [trained[1][1], trained[3][1]]
    assert len({out for _, out in trained}) == 4
    for (start, out), (supernet, _) in zip(trained[::2], trained[1::2], strict=True):
        assert start.train.mode == "float"
        assert supernet.train.mode == "supernet"
        assert supernet.model.weights == out
        assert start.model.name == supernet.model.name
        # Searches and benchmarks of the recipe need parts of the search split.
        assert supernet.data.search_images == start.data.search_images == 10000
    assert [config.model.name for config, _ in trained[1::2]] == ["resnet20", "mobilenetv2_small"]
    assert trained[3][0].quant.depthwise_min_bits == 2


def test_chosen_runs_are_taken_and_nothing_is_trained(monkeypatch, tmp_path):
    monkeypatch.setattr(recipe, "train", None)
    chosen = [Path("runs/one"), Path("runs/two")]
    assert [run.path for run in supernets(chosen, tmp_path, full=True)] == chosen


def test_the_embedded_digits_are_the_default(monkeypatch, tmp_path):
    names = []

    def remember(config, *, out):
        names.append(config.data.name)
        return RunDir(out)

    monkeypatch.setattr(recipe, "train", remember)
    supernets([], tmp_path, full=False)
    assert names == ["digits"]
