"""An extension of griffe: the section that docstrings here call "Example" is what it knows as "Examples"."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Has examples shown as code."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
