"""Something of the real program is replaced for a while, and put back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def replaced(target: Any, name: str, value: Any) -> Iterator[None]:
    """Inside, `target.name` is `value`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, value)
        yield
