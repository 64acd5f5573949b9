"""Format of config.yaml: how a configuration that an older version wrote is read by this one.

Only what the program did before it knew a key can stand for that key in an old run: the default of
today would make another run of it. So whoever adds a key to the configuration adds a format here.
"""

from typing import Any

from harness.errors import ConfigError
from harness.run.files import FileFormat
from harness.run.settings import with_missing

KEYS_OF_FORMAT_2: dict[str, Any] = {"quant.keep_float": []}
"""Before, a network with a module that has no quantized form was refused."""

BEFORE: dict[str, Any] = {**KEYS_OF_FORMAT_2}
"""Every key that came after format 1, with what the program did before it knew the key."""


def _to_format_2(values: dict[str, Any]) -> dict[str, Any]:
    return with_missing(values, KEYS_OF_FORMAT_2)


CONFIG_FORMAT = FileFormat(name="configuration", upgrades=(_to_format_2,), error=ConfigError)
"""A run's file without `format` is of version 1; so were all before there were versions."""
