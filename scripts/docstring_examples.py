"""Shows the examples of docstrings as code on the site's API pages."""

import re
from typing import Any

import griffe

# An example reaches from `>>>` to the next blank line, as in doctest.
EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class DocstringExamples(griffe.Extension):
    """Puts code fences around examples, which Markdown would show as quotations."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrites the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(
                r"```pycon\n\g<0>\n```", obj.docstring.value
            )
