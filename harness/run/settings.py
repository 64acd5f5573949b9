"""Settings by name: which of them decide the weights, and in which two configurations differ.

A name is `key` or `section.key`, as `--set` takes it. A run goes on only under the settings that
its weights came from; under other values of the rest (where the images lie, how many processes
decode them, how often a checkpoint is saved) it goes on and ends at the same weights.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel

from harness.errors import ConfigError, short
from harness.run.files import FileFormat, Upgrade

DECIDES_NO_WEIGHTS = "decides no weights"
"""Mark of a field or of a whole section; without it a setting decides the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """Mark of a field that came after format 1 of the configuration.

    Only what the program did before it knew a key can stand for that key in an old run: the default
    of today would make another run of it.
    """

    format: int
    """First format of config.yaml that has the key; the latest of all is the present format."""
    before: Any
    """The value, as it stands in YAML, that does what the program did without the key."""


MAX_NAMED = 3
"""Settings that a message about a difference names; it counts the others."""


def setting_names(section: type[BaseModel], *, deciding_only: bool = False) -> Iterator[str]:
    """Yield the name of every setting of a configuration class, in the order of its fields.

    Args:
        section: The class.
        deciding_only: Leave out the settings that decide no weights.
    """
    for key, field in section.model_fields.items():
        if deciding_only and DECIDES_NO_WEIGHTS in field.metadata:
            continue
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            inside = setting_names(field.annotation, deciding_only=deciding_only)
            yield from (f"{key}.{name}" for name in inside)
        else:
            yield key


def settings_before(section: type[BaseModel]) -> dict[str, Since]:
    """Return the mark of every setting that came after format 1, by its name."""
    found: dict[str, Since] = {}
    for key, field in section.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, Since):
                found[key] = mark
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            inside = settings_before(field.annotation)
            found.update({f"{key}.{name}": mark for name, mark in inside.items()})
    return found


def configuration_format(section: type[BaseModel]) -> FileFormat:
    """Return the format of config.yaml: each upgrade step adds the keys that its format brought."""
    marks = settings_before(section)
    latest = max((mark.format for mark in marks.values()), default=1)

    def upgrade_to(version: int) -> Upgrade:
        added = {name: mark.before for name, mark in marks.items() if mark.format == version}
        return partial(with_missing, settings=added)

    upgrades = tuple(upgrade_to(version) for version in range(2, latest + 1))
    return FileFormat(name="configuration", upgrades=upgrades, error=ConfigError, digest_since=3)


def flat(values: Mapping[str, Any], names: Iterator[str]) -> dict[str, Any]:
    """Return the settings of these names that nested values hold, by name.

    >>> flat({"seed": 3, "train": {"epochs": 5}}, iter(["seed", "train.epochs", "data.name"]))
    {'seed': 3, 'train.epochs': 5}
    """
    found = {}
    for name in names:
        section, _, key = name.rpartition(".")
        part = values.get(section) if section else values
        if isinstance(part, Mapping) and key in part:
            found[name] = part[key]
    return found


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in their sections, the inverse of `flat`.

    >>> nested({"seed": 3, "train.epochs": 5})
    {'seed': 3, 'train': {'epochs': 5}}
    """
    values: dict[str, Any] = {}
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        (values.setdefault(section, {}) if section else values)[key] = value
    return values


def with_missing(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values with these settings added where they are not there.

    A section that is no mapping is left for the validation to refuse.

    >>> with_missing({"train": {"epochs": 5}}, {"train.epochs": 1, "train.mode": "float"})
    {'train': {'epochs': 5, 'mode': 'float'}}
    """
    whole = dict(values)
    for section, added in nested(settings).items():
        if not isinstance(added, dict):
            whole.setdefault(section, added)
        elif isinstance(whole.get(section, {}), Mapping):
            whole[section] = {**whole.get(section, {}), **_lacking(whole.get(section, {}), added)}
    return whole


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """Return in words where two sets of settings differ; None where they are equal.

    >>> difference({"seed": 0, "train.epochs": 5}, {"seed": 7, "train.epochs": 5})
    'seed is 0 there and 7 here'
    """
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    if not names:
        return None
    shown = ", ".join(
        f"{name} is {_shown(there, name)} there and {_shown(here, name)} here"
        for name in names[:MAX_NAMED]
    )
    others = len(names) - MAX_NAMED
    return f"{shown}, and {others} more" if others > 0 else shown


def _lacking(part: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in added.items() if key not in part}


def _shown(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return "absent"
    value = settings[name]
    return "null" if value is None else short(str(value))
