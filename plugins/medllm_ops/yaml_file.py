"""YAML without the traps of YAML 1.1: ``1e-4`` is a number, and a key that stands there twice is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, stricter with keys and with numbers as YAML 1.2 writes them."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here and not while values are made: by then, merge keys (<<) have rightly put keys in front of their like.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"the key {key.value} stands there twice", key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    :raises yaml.YAMLError: if it is none, or a mapping holds a key twice.
    :raises UnicodeDecodeError: if it is not UTF-8.
    """
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
