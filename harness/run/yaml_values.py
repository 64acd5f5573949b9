"""Read YAML as people write it: 1e-5 is a number, no key stands twice, and every key is a name."""

import re
from pathlib import Path
from typing import Any

import yaml

from harness.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Reads 1e-5 as a number, as YAML 1.2 does, and takes no key twice and no key but text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's.
        """Return a mapping after checking its keys."""
        merge = "tag:yaml.org,2002:merge"
        keys = [self.construct_object(key) for key, _ in node.value if key.tag != merge]
        for key in keys:
            if not isinstance(key, str) or keys.count(key) > 1:
                why = "stands there twice" if keys.count(key) > 1 else "is no name"
                raise yaml.constructor.ConstructorError(
                    problem=f"key {key} {why}", problem_mark=node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        YAMLError: It is none.
    """
    return yaml.load(text, Loader=_Loader)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a configuration file as plain values; an empty file holds none.

    Raises:
        ConfigError: The file is missing, not YAML, or holds something else than sections.
    """
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        why = (error.strerror or "unreadable").lower()
        raise ConfigError(f"configuration {path} cannot be read: {why}; check --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"configuration {path} is not YAML ({problem}); mend the file") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"configuration {path} holds a {type(values).__name__}, not sections; "
            "write `section:` and indented `key: value` lines"
        )
    return values
