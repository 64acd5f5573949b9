"""Candidates of single layers and ties as they stand in YAML, and what is wrong with them."""

from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.run.config import load_config, load_run_config

YAML = """
quant:
  layers:
    layer4.*: {weight_candidates: [4, 8]}
    layer1.0.conv1: {act_candidates: [8]}
  tie_shared_inputs: true
  ties: [layer1.*, layer2.*]
"""


def test_layers_and_ties_are_read_from_yaml_and_back(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(YAML)
    config = load_config(file)
    assert config.quant.layers["layer4.*"].weight_candidates == (8, 4)
    assert config.quant.layers["layer4.*"].act_candidates is None
    assert (config.quant.tie_shared_inputs, config.quant.ties) == (True, ("layer1.*", "layer2.*"))
    run_file = tmp_path / "run.yaml"
    run_file.write_text(config.to_yaml())
    assert load_run_config(run_file) == config
    override = 'quant.layers={"layer4.*": {weight_candidates: [8, 4]}}'
    assert load_config(None, overrides=[override]).quant.layers.keys() == {"layer4.*"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("quant.layers={a: {bits: [8]}}", r"unknown key quant\.layers\.a\.bits; the keys there are "
         r"act_candidates, weight_candidates"),
        ("quant.layers={a: {}}", r"quant\.layers\.a: it gives neither weight_candidates nor act_"),
        ("quant.layers={a: {act_candidates: [9]}}", r"candidate 9 is outside 2 to 8 bits"),
        ("quant.layers={a: {act_candidates: [4, 4]}}", r"\[4, 4\] repeats a candidate"),
        ("quant.layers={a: {act_candidates: []}}", r"quant\.layers\.a\.act_candidates.*at least 1"),
        ("quant.layers={'': {act_candidates: [4]}}", r"at least 1 character"),
        ("quant.layers=[a]", r"quant\.layers.*valid dictionary|quant\.layers.*object"),
        ("quant.ties=['']", r"quant\.ties\.0.*at least 1 character"),
        ("quant.tie_shared_inputs=1", r"quant\.tie_shared_inputs = 1: .*boolean"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, overrides=[override])
