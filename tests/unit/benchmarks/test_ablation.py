"""The ablation: what a recipe changes, how results are compared, and that nothing is done twice."""

import json
import xml.etree.ElementTree as ET

import pytest

from benchmarks import ablation, kept_runs
from benchmarks.ablation_tables import markdown
from harness.models import create_model
from harness.problem.budget import parse_target
from harness.problem.cost import bitops
from harness.quant.convert import describe_network
from harness.run.config import ModelConfig, QuantConfig, load_config


def row(recipe, seed, two, four, **named):
    return {
        "network": "resnet8", "recipe": recipe, "seed": seed, "epochs": 4, "float": 0.95,
        "training_images": 100, "test_images": 50, "uniform": {"2": two, "4": four},
        "searched": {}, **named,
    }  # fmt: skip


def test_differences_are_paired_by_seed():
    rows = [
        row("plain", 0, 0.80, 0.90), row("plain", 1, 0.70, 0.91),
        row("scheduler", 0, 0.81, 0.90), row("scheduler", 1, 0.72, 0.91),
        row("without 2 bits", 1, 0.0, 0.93, uniform={"4": 0.93}),
    ]  # fmt: skip
    text = markdown(rows)
    # 1 and 2 points: 1.5 ± 12.706 * 0.7071 / sqrt(2).
    assert "| scheduler | +1.50 ± 6.35 | +0.00 ± 0.00 |" in text
    assert "| without 2 bits | - | +2.00 |" in text
    assert "| plain | 4 | 2 | 75.00 ± 7.07 | 90.50 ± 0.71 |" in text


@pytest.mark.parametrize("networks", [ablation.QUICK, ablation.FULL])
def test_every_recipe_is_a_configuration(networks, tmp_path):
    for one in networks.values():
        path = ablation.CONFIGS / f"{one.config}.yaml"
        for label in (*ablation.RECIPES, *ablation.alone_labels()):
            settings = ablation.settings_of(label, one, float_run=tmp_path, model="resnet8")
            config = load_config(path, overrides=settings)
            assert config.model.weights == tmp_path
            epochs = one.epochs * (ablation.PASSES if label.endswith("same passes") else 1)
            assert config.train.epochs == epochs
    alone = load_config(
        path, overrides=ablation.settings_of("3 bits alone, same epochs", one, float_run=tmp_path,
                                             model="resnet8")
    )  # fmt: skip
    assert alone.quant.weight_candidates == alone.quant.act_candidates == (3,)


def test_searches_get_budgets_between_the_uniform_policies():
    model = create_model(ModelConfig(name="resnet8"), num_classes=10, in_channels=1, device="meta")
    described = {
        fewest: describe_network(
            model, name="resnet8", input_size=(1, 8, 8), num_classes=10,
            config=QuantConfig(weight_candidates=range(6, fewest - 1, -1)),
        )
        for fewest in (2, 3)
    }  # fmt: skip
    labels = {2: ["2/2 to 3/3", "3/3 to 4/4", "4/4 to 5/5"], 3: ["3/3 to 4/4", "4/4 to 5/5"]}
    for fewest, network in described.items():
        targets = ablation.targets_of(network)
        assert list(targets) == labels[fewest]
        for label, text in targets.items():
            low, high = (
                bitops(network, network.candidates.uniform(weight_bits=bits, act_bits=bits))
                for bits in (int(label[0]), int(label[-1]))
            )
            assert parse_target(text, network) == (low + high) // 2


def test_kept_results_are_not_measured_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablation, "RESULTS", tmp_path)
    monkeypatch.setattr(kept_runs, "RESULTS", tmp_path)
    for one in (row("plain", 0, 0.8, 0.9), row("plain", 1, 0.7, 0.9), row("both", 0, 0.9, 0.9)):
        ablation.keep(one)
    monkeypatch.setattr(ablation, "train", None)
    monkeypatch.setattr(ablation, "FULL", ablation.QUICK)
    asked = {"network": None, "recipe": ["plain"], "seed": [1]}
    ablation.main(full=True, as_json=True, runs=tmp_path / "runs", **asked)
    drawn = ET.fromstring((tmp_path / "ablation.svg").read_text())
    dots = drawn.findall("{http://www.w3.org/2000/svg}circle")
    assert len(dots) == 4 + 2  # The legend; uniform 2/2 and 4/4 of `both`.
    assert float(dots[4].attrib["cx"]) > float(dots[5].attrib["cx"])  # 10 points, and none.
    assert "both" in [word.text for word in drawn.findall("{http://www.w3.org/2000/svg}text")]
    again = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert again == [row("plain", 1, 0.7, 0.9)]
    assert "| both | 4 | 1 | 90.00 | 90.00 |" in (tmp_path / "ablation.md").read_text()
