"""A judge that reads and cannot run: it believes an attempt in which nothing went visibly wrong.

It stands for a language model as judge, which this machine has none of: like one it sees task and transcript alone,
through `tgym judge`, and like one it is taken in by a wrong answer that was reached without an error. How often it
agrees with the code is in the results.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from benchmarks.learning.server import Said

WRONG = re.compile(
    r"No such file|not found|cannot|denied|[Ww]rong|[Ii]nvalid|[Ee]rror|[Uu]sage|exit code [1-9]|missing"
)
_BEGINS = "What happened:\n"


class Judge:
    """Answers what `tgym judge` asks."""

    context_tokens = 1 << 20

    def say(self, messages: Sequence[Mapping[str, str]], *, temperature: float, max_tokens: int) -> Said:
        """Return its answer; see `Speaker`."""
        happened = messages[-1]["content"].partition(_BEGINS)[2].rpartition("Answer with one JSON object")[0]
        found = WRONG.search(happened)
        reason = f"it shows {found[0]!r}" if found else "nothing went wrong"
        return Said(json.dumps({"reason": reason, "solved": found is None}))
