"""The configuration is strict, and what is wrong with it is said in one line."""

import logging
from pathlib import Path

import pytest
import yaml

from harness.errors import ConfigError
from harness.run.config import CONFIG_FORMAT, Config, load_config, load_run_config

LATEST = CONFIG_FORMAT.version
TRAIN_CONFIGS = Path(__file__).parents[3] / "configs" / "train"


def test_no_file_means_the_defaults():
    assert load_config(None) == Config()


def test_digits_config_spells_out_defaults_in_the_order_of_the_fields():
    file = TRAIN_CONFIGS / "digits.yaml"
    assert load_config(file) == Config()
    values = yaml.safe_load(file.read_text())
    defaults = Config().model_dump(mode="json")
    for section, keys in defaults.items():
        if isinstance(keys, dict):
            # A key that few will set may be left out: the docstrings of config.py have them all.
            assert list(values[section]) == [key for key in keys if key in values[section]]
    assert list(values) == list(defaults)


def test_there_are_configs_to_load():
    names = {file.name for file in TRAIN_CONFIGS.glob("*.yaml")}
    assert {"digits.yaml", "resnet18_imagenet.yaml"} <= names


@pytest.mark.parametrize("file", sorted(TRAIN_CONFIGS.iterdir()), ids=lambda file: file.name)
def test_every_train_config_is_loaded(file):
    assert file.suffix == ".yaml"
    assert load_config(file).model.name


@pytest.mark.parametrize("model", ["resnet18", "mobilenetv2_100", "efficientnet_lite0"])
def test_imagenet_configs_hold_the_values_of_the_paper(model):
    config = load_config(TRAIN_CONFIGS / f"{model}_imagenet.yaml")
    train = config.train
    assert (config.model.name, config.model.pretrained) == (model, True)
    assert (train.bit_scheduler, train.distortion_weight) == (True, 0.01)
    assert (train.dampening_weight, train.dampening_start) == (0.1, 0.27)
    assert train.label_smoothing == (0.0 if model == "resnet18" else 0.1)
    assert (train.epochs, train.batch_size, train.num_random_passes) == (150, 128, 3)
    assert (train.learning_rate, train.momentum, train.weight_decay) == (0.04, 0.9, 2.5e-5)
    assert (train.step_learning_rate, train.warmup_epochs) == (1e-5, 5)
    assert (train.ema_decay, train.gradient_clip) == (0.9997, 1.0)
    assert config.quant.weight_candidates == config.quant.act_candidates == (6, 5, 4, 3, 2)
    assert (config.eval.recalibrate_images, config.search.error_weight) == (7000, 1.5)


def test_yaml_of_a_config_reads_back_the_same(tmp_path):
    overrides = [
        "train.step_learning_rate=1e-5",
        "data.path=some/folder",
        "quant.act_candidates=[8,4]",
    ]
    config = load_config(None, overrides=overrides)
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    assert load_run_config(file) == load_config(file) == config
    assert file.read_text().startswith(f"format: {LATEST}\n")


FORMAT_3 = (
    "  split_by: sample\n",
    "  search_share: null\n",
    "  significant_bits: null\n",
    "  rank_timeout_seconds: 1800\n",
)
"""Lines of the defaults that format 3 brought."""

TIES_AND_PINS = ("  layers: {}\n", "  tie_shared_inputs: false\n", "  ties: []\n")
"""And of those of format 4."""


def old_run_file(folder, *without):
    """Write a whole configuration as version 1 did: without a format and without these lines."""
    text = Config().to_yaml()
    later = ("  keep_float:\n  - Conv1d\n", *FORMAT_3, *TIES_AND_PINS)
    for line in (f"format: {LATEST}\n", *later, *without):
        assert line in text
        text = text.replace(line, "")
    file = folder / "config.yaml"
    file.write_text(text.partition("digest:")[0])
    return file


def test_a_run_of_format_1_behaves_as_it_did(tmp_path):
    config = load_run_config(old_run_file(tmp_path))
    assert config.quant.keep_float == ()
    assert (config.quant.layers, config.quant.tie_shared_inputs, config.quant.ties) == (
        {},
        False,
        (),
    )
    assert (config.data.split_by, config.data.significant_bits) == ("position", 16)
    assert config.unset_keys() == []


def test_a_user_file_without_format_takes_the_defaults_of_today(tmp_path):
    file = old_run_file(tmp_path)
    assert load_config(file) == Config()
    assert set(load_config(file).unset_keys()) == {
        "quant.keep_float", "data.split_by", "data.search_share", "data.significant_bits",
        "train.rank_timeout_seconds", "quant.layers", "quant.tie_shared_inputs", "quant.ties",
    }  # fmt: skip
    file.write_text("format: 1\n" + file.read_text())  # It says that it means the old behaviour.
    assert load_config(file).quant.keep_float == ()


def test_an_old_file_that_lacks_a_key_of_its_own_time_is_not_whole(tmp_path):
    config = load_run_config(old_run_file(tmp_path, "seed: 0\n", "  finalists: 16\n"))
    assert config.unset_keys() == ["seed", "search.finalists"]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            LATEST + 1,
            f"has format {LATEST + 1}, this version reads up to {LATEST}; update harness$",
        ),
        ("new", f"has format new, this version reads up to {LATEST}; re(create|store) it"),
        ("true", f"has format True, this version reads up to {LATEST}; re(create|store) it"),
    ],
)
@pytest.mark.parametrize("load", [load_config, load_run_config])
def test_a_file_of_another_version_is_refused(tmp_path, load, found, message):
    file = tmp_path / "config.yaml"
    file.write_text(f"format: {found}\n")
    with pytest.raises(ConfigError, match=rf"^configuration .*config\.yaml {message}"):
        load(file)


def test_a_format_cannot_be_set():
    with pytest.raises(ConfigError, match="unknown key format; the keys there are"):
        load_config(None, overrides=["format=1"])


def test_a_key_that_came_after_a_run_keeps_the_value_that_the_run_has():
    there = {"quant.keep_float": [], "seed": 0}
    config = load_config(None, overrides=["train.epochs=3"])
    old = config.with_old_behaviour(there)
    assert (old.quant.keep_float, old.train.epochs) == ((), 3)
    assert old.with_old_behaviour(there) == old
    assert config.with_old_behaviour({"quant.keep_float": ["Conv1d"]}) == config
    assert config.with_old_behaviour({}) == config
    asked = load_config(None, overrides=["quant.keep_float=[Conv1d]"])
    assert asked.with_old_behaviour(there) == asked


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("train.learning_rate=1e-5", "train", "learning_rate", 1e-5),
        ("train.weight_decay=0", "train", "weight_decay", 0.0),
        ("train.epochs=3", "train", "epochs", 3),
        ("data.horizontal_flip=true", "data", "horizontal_flip", True),
        ("data.image_size=null", "data", "image_size", None),
        ("data.path=runs/a=b", "data", "path", Path("runs/a=b")),
        ("quant.weight_candidates=[2, 8, 4]", "quant", "weight_candidates", (8, 4, 2)),
    ],
)
def test_override_sets_one_value(override, section, key, value):
    config = load_config(None, overrides=[override])
    assert getattr(getattr(config, section), key) == value


def test_later_override_wins_over_file_and_earlier_ones(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("train:\n  epochs: 7\n  batch_size: 9\n")
    config = load_config(file, overrides=["train.epochs=8", "train.epochs=10"])
    assert (config.train.epochs, config.train.batch_size) == (10, 9)


def test_empty_file_means_the_defaults(tmp_path):
    file = tmp_path / "empty.yaml"
    file.touch()
    assert load_config(file) == Config()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "train.epoch=3",
            "^the configuration: unknown key train.epoch; the keys there are batch_si",
        ),
        (
            "optim.rate=1",
            "unknown key optim; the keys there are data, eval, model, quant, search, s",
        ),
        ("train.epochs=many", "train.epochs = 'many': input should be a valid integer"),
        ("train.epochs=1.5", "train.epochs = 1.5: input should be a valid integer"),
        ("train.epochs=-1", "train.epochs = -1: input should be greater than or equal to 0"),
        ("train.mode=both", "train.mode = 'both': input should be 'supernet' or 'float'"),
        ("train=3", "train = 3: input should be an object"),
        ("train.learning_rate=.inf", "= inf: input should be a finite number; correct it there or"),
        ("train.batch_size=1", "train.batch_size = 1: input should be greater than or equal to 2"),
        (f"seed={2**63}", f"seed = {2**63}: input should be less than {2**63}; correct it"),
        (
            "eval={recalibrate_images: 1}",
            "eval.recalibrate_images 1 in batches of 500 gives batch norm.* raise it or eval.batch",
        ),
        ("eval.batch_size=1", "eval.recalibrate_images 7000 in batches of 1 gives batch normalis"),
        ("quant.act_candidates=[9]", "act_candidates = .9.: candidate 9 is outside 2 to 8 bits"),
        ("quant.act_candidates=[4,4]", "act_candidates = .4, 4.: .4, 4. repeats a candidate"),
        (
            "quant={act_candidates: [2]}",
            "quant: no act_candidates reaches depthwise_min_bits 3; lower it or add a larger cand",
        ),
        ("train.epochs", "^--set train.epochs has no `=`; write --set section.key=value$"),
        ("=3", "^--set =3 has no `=`; write --set section.key=value$"),
        ("model.name=[a", r"^--set model.name=\[a: '\[a' is not a YAML value; quote it$"),
    ],
)
def test_bad_override_is_refused_by_name_and_value(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, overrides=[override])


def test_override_of_a_value_as_a_section_is_refused():
    message = "^--set seed.a=1: seed is a value, not a section$"
    with pytest.raises(ConfigError, match=message):
        load_config(None, overrides=["seed=3", "seed.a=1"])


def test_missing_file_is_refused(tmp_path):
    message = (
        r"^configuration \S+absent\.yaml cannot be read: no such file or directory; check --co"
    )
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train: [1", r"config\.yaml is not YAML \(.*\); mend the file$"),
        (b"\xff\xfe\x00", r"config\.yaml is not YAML \(.*\); mend the file$"),
        (b"- train\n- data\n", "holds a list, not sections; write `section:` and indented `key:"),
        (b"seed: 1\nseed: 2\n", r"is not YAML \(key seed stands there twice .*\); mend the file$"),
        (b"2020-01-01: 3\n", r"is not YAML \(key 2020-01-01 is no name .*\); mend the file$"),
        (
            b"train: &a\n  x: *a\n",
            r"config\.yaml is not YAML \(a value holds itself; write it out\); mend",
        ),
        (b"train:\n  epochz: 3\n", r"config\.yaml: unknown key train\.epochz; the keys there are"),
        (b"train:\n  epochs: abc\n", r"config\.yaml: train\.epochs = 'abc': input should be a val"),
    ],
)
def test_bad_file_is_refused_by_its_name(tmp_path, content, message):
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(file)


def test_merge_keys_of_yaml_are_read(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("train: {<<: {epochs: 3, batch_size: 4}, batch_size: 5}\n")
    config = load_config(file)
    assert (config.train.epochs, config.train.batch_size) == (3, 5)


def test_unset_keys_are_those_left_to_their_defaults(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(Config().to_yaml())
    assert load_config(file).unset_keys() == []
    file.write_text(Config().to_yaml().replace("seed: 0\n", "").replace("  finalists: 16\n", ""))
    assert load_config(file).unset_keys() == ["seed", "search.finalists"]


def test_config_cannot_be_changed_after_loading():
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3


@pytest.mark.parametrize("override", ["seed=true", "train.epochs='12'", "model.name=7"])
def test_values_of_another_type_are_refused(override):
    with pytest.raises(ConfigError, match="input should be a valid"):
        load_config(None, overrides=[override])


def test_numbers_in_exponent_form_are_numbers_in_files_too(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("train:\n  step_learning_rate: 1e-5\n", encoding="utf-8")
    assert load_config(path).train.step_learning_rate == 1e-5


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "it holds more than 10000 values"),
        (MERGES, "it holds more than 10000 values"),
        ("a: " + "[" * 3000, "expected|nested deeper than 20"),
        ("a: " + "[" * 300 + "]" * 300, "it is nested deeper than 20"),
        ("a: " + "{b: " * 3000 + "}" * 3000, "it is nested deeper than 20"),
        ("seed: " + "9" * 5000, r"Exceeds the limit \(4300 digits\)"),
        ("seed: 0x" + "f" * 5000, "a number has more than 64 bits"),
        ("train: {epochs: " + "9" * 400 + "}", "a number has more than 64 bits"),
        ("seed: !!bool perhaps", "a value is none \\(KeyError: 'perhaps'\\)"),
        ("seed: !!timestamp soon", "a value is none \\(AttributeError: "),
        ("seed: !!int ''", "a value is none \\(IndexError: "),
        ("seed: 2001-99-99", "month must be in 1..12"),
        ("train: {learning_rate: 1e999}", "learning_rate = inf: input should be a finite number"),
        ("quant: {act_candidates: [1e999]}", r"act_candidates\.0 = inf: input should be a valid"),
        ("quant: {act_candidates: [3.9]}", r"act_candidates\.0 = 3\.9: input should be a valid in"),
        (
            "model: {name: [" + "x, " * 999 + "x]}",
            r"'x', 'x', .*\.\.\. \(5000 characters\): input ",
        ),
    ],
)
@pytest.mark.timeout(20)
def test_hostile_files_are_one_short_line(tmp_path, text, message):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as refusal:
        load_config(file)
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize(
    "text",
    ["9" * 5000, "9" * 400, "0x" + "f" * 5000, "[" * 3000, "2001-99-99", "&a [*a]", "[[[",
     "!!bool perhaps", "!!int ''", "!!timestamp soon"],
)  # fmt: skip
def test_hostile_overrides_are_one_short_line(text):
    with pytest.raises(
        ConfigError, match=r"^--set seed=.* is not a YAML value; quote it$"
    ) as error:
        load_config(None, overrides=[f"seed={text}"])
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("9" * 5000, r"^--set 9.*\.\.\. \(5000 characters\) has no `=`; write --set"),
        ("a." * 3000 + "b=1", r"^--set a\.a.*\.\.\. \(6003 characters\) names no key; write --set"),
        ("seed.x=1", r"^the configuration: seed: input should be a valid integer"),
        ("x" * 5000 + "=1", r"unknown key xx.*\.\.\. \(5000 characters\); the keys there are"),
    ],
)
def test_hostile_names_of_settings_are_one_short_line(override, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_config(None, overrides=[override])
    assert len(str(error.value)) < 400


def test_an_altered_file_of_a_run_serves_a_new_run_with_a_word(tmp_path, caplog):
    logging.getLogger("harness").propagate = True
    file = tmp_path / "config.yaml"
    file.write_text(Config().to_yaml())
    assert load_config(file).seed == 0
    assert caplog.text == ""
    file.write_text(Config().to_yaml().replace("seed: 0", "seed: 4"))
    assert load_config(file).seed == 4
    assert "config.yaml was altered since a run wrote it; if that was not on purpose" in caplog.text
    message = r"was altered after it was written; restore it; settings are changed by --config and"
    with pytest.raises(ConfigError, match=message):
        load_run_config(file)
