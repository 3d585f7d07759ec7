"""Template of a bug report. `.github/ISSUE_TEMPLATE/bug_report.md` holds the same text."""

from __future__ import annotations

FRONT_MATTER = """---
name: Bug report
about: Something does not work, or not as the documentation says
---

"""
PLACEHOLDER = "Replace this line by the three lines that `keras-gan doctor --brief` prints."

_TEMPLATE = """```
{lines}
```

**What I did**: the commands, or the shortest program that shows it.

**What happened**: the error's line or the whole traceback; for a training also `recipe.yaml` of
its run folder.

**What I expected**:
"""


def template(lines: str = PLACEHOLDER) -> str:
    """Returns the template, with the three lines of `keras-gan doctor --brief` at its top."""
    return _TEMPLATE.format(lines=lines)
