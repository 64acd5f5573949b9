"""Read YAML as people write it: 1e-5 is a number, no key stands twice, and every key is a name."""

import re
from pathlib import Path
from typing import Any

import yaml

from harness.errors import ConfigError
from harness.run.files import read_bytes

MAX_DEPTH = 20
"""Sections in sections; a configuration has two."""

MAX_VALUES = 10_000
"""Values of a file, aliases written out; a configuration has a hundred."""

MAX_INTEGER_BITS = 64
"""Of a number; Python itself would go on counting to any."""


class _Loader(yaml.SafeLoader):
    """Reads 1e-5 as a number, as YAML 1.2 does, and takes no key twice and no key but text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's.
        """Return a mapping after checking its keys."""
        merge = "tag:yaml.org,2002:merge"
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == merge:
                continue
            key = self.construct_object(key_node)
            if not isinstance(key, str) or key in seen:
                why = "is no name" if not isinstance(key, str) else "stands there twice"
                raise yaml.constructor.ConstructorError(
                    problem=f"key {key} {why}", problem_mark=node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    number = loader.construct_yaml_int(node)
    if number.bit_length() > MAX_INTEGER_BITS:
        raise yaml.YAMLError(f"a number has more than {MAX_INTEGER_BITS} bits")
    return number


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        YAMLError: It is none, or no configuration would look like it.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count_nodes(node, {}, depth=0)
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError(f"it is nested deeper than {MAX_DEPTH}") from None
    except yaml.YAMLError:
        raise
    except Exception as problem:
        # A date that is none, a number of 5000 digits, `!!bool perhaps`: PyYAML lets any class out.
        raise yaml.YAMLError(
            f"a value is none ({type(problem).__name__}: {str(problem).partition(';')[0]})"
        ) from None
    finally:
        loader.dispose()


def _count_nodes(node: yaml.Node, known: dict[int, int], *, depth: int) -> int:
    """Return how many values a node is when its aliases are written out.

    Nine lines of aliases can stand for a billion values, of which no two exist before they are
    written out.

    Raises:
        YAMLError: It holds itself, is nested too deeply or is too many.
    """
    if depth > MAX_DEPTH:
        raise yaml.YAMLError(f"it is nested deeper than {MAX_DEPTH}")
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.YAMLError("a value holds itself; write it out")
        return known[id(node)]
    known[id(node)] = 0  # Until it is counted: who meets it meanwhile is inside it.
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        parts = node.value
    elif isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    count = 1 + sum(_count_nodes(part, known, depth=depth + 1) for part in parts)
    if count > MAX_VALUES:
        raise yaml.YAMLError(f"it holds more than {MAX_VALUES} values")
    known[id(node)] = count
    return count


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a configuration file as plain values; an empty file holds none.

    Raises:
        ConfigError: The file is missing, not YAML, or holds something else than sections.
    """
    try:
        values = parse_yaml(read_bytes(path).decode())
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
