"""Our compose files, read without a YAML library: block mappings, block lists and plain or quoted scalars.

Anything else (flow style, anchors, tabs, several lines) is an error, so our files stay plain. What they hold is then an
ordinary nested mapping.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

_KEY = re.compile(r"([A-Za-z0-9_.-]+):(?: +(.+))?")
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(slots=True)
class _Lines:
    rest: list[tuple[int, str]]

    @property
    def indent(self) -> int:
        return self.rest[0][0] if self.rest else -1


def read(text: str) -> dict[str, Any]:
    """Raises ValueError for what is not plain."""
    lines = _Lines([])
    for line in text.splitlines():
        if "\t" in line:
            raise ValueError("a tab")
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            lines.rest.append((len(line) - len(line.lstrip()), stripped))
    found = _block(lines, 0)
    if lines.rest or not isinstance(found, dict):
        raise ValueError(f"not read: {lines.rest[:1]}")
    return found


def ours(name: str = "compose.yaml") -> dict[str, Any]:
    """One of this repository."""
    return read((ROOT / name).read_text("utf-8"))


def adapter() -> dict[str, Any]:
    """The service in compose.yaml."""
    service: dict[str, Any] = ours()["services"]["adapter"]
    return service


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """As `docker compose -f under -f over` merges mappings; our second file repeats no list and no scalar."""
    found = dict(under)
    for name, value in over.items():
        if isinstance(value, Mapping) and isinstance(found.get(name), Mapping):
            found[name] = merged(found[name], value)
        else:
            found[name] = value
    return found


def seconds(text: str) -> float:
    """A duration such as 20s or 1m30s."""
    parts = re.findall(r"(\d+)(ms|s|m|h)", text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        raise ValueError(f"not a duration: {text}")
    return sum(int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit] for number, unit in parts)


def size(text: str) -> int:
    """Bytes, such as 320m."""
    return int(text[:-1]) * _UNITS[text[-1]]


def _block(lines: _Lines, indent: int) -> Any:
    if lines.indent < indent:
        return None
    indent = lines.indent
    return _list(lines, indent) if lines.rest[0][1].startswith("- ") else _mapping(lines, indent)


def _list(lines: _Lines, indent: int) -> list[Any]:
    found: list[Any] = []
    while lines.indent == indent:
        text = lines.rest.pop(0)[1]
        if not text.startswith("- ") or _KEY.fullmatch(text.removeprefix("- ")):
            raise ValueError(f"only lists of scalars are read: {text}")
        found.append(_scalar(text.removeprefix("- ")))
    return found


def _mapping(lines: _Lines, indent: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while lines.indent == indent:
        text = lines.rest.pop(0)[1]
        match = _KEY.fullmatch(text)
        if match is None or match[1] in found:
            raise ValueError(f"not a key, or one that was there already: {text}")
        found[match[1]] = _scalar(match[2]) if match[2] else _block(lines, indent + 1)
    return found


def _scalar(text: str) -> Any:
    if text[0] in "[{&*!|>%@`'" or " #" in text:
        raise ValueError(f"not a plain scalar: {text}")
    if text.startswith('"'):
        if not re.fullmatch(r'"[^"\\]*"', text):
            raise ValueError(f"not a plain scalar: {text}")
        return text[1:-1]
    if text in {"true", "false"}:
        return text == "true"
    if re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    return float(text) if re.fullmatch(r"[0-9]+\.[0-9]+", text) else text
