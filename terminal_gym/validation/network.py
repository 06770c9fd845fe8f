"""Whether a test script failed for want of a network: then its verdict is nobody's, and never a reward of 0.

Two kinds of evidence, and both must be borne out by the same script on a machine that no agent has touched:

- the shim said what could not be had (a line with its mark), and
- without the shim: no test session ever began, and a line before that is what curl, apt, pip or uv print when a name
  does not resolve or a host does not answer.

An agent can print such lines, and so can its code when tests run it: on the untouched machine they are not printed, and
the verdict stands. A test that itself needs the network fails as a test: give such a task the network.
"""

from __future__ import annotations

import re

from terminal_gym.trusted_runtime.orders import OFFLINE

_SESSION = re.compile(r"=+ test session starts =+|^collected \d+ items?|^Ran \d+ tests? in", re.MULTILINE)
_FAILURE = re.compile(
    r"^.*(curl: \((5|6|7|28|35|52|56)\) "
    r"|Temporary failure (in name resolution|resolving)|Could not resolve|Name or service not known"
    r"|Network is unreachable|No route to host|Failed to fetch |Unable to fetch some archives"
    r"|dns error|error sending request for url|Connection (refused|timed out|reset)"
    r"|Max retries exceeded|NewConnectionError|No matching distribution found"
    r"|wget: (bad address|unable to resolve)|Unable to locate package).*$",
    re.MULTILINE | re.IGNORECASE,
)
_MARK = re.compile(rf"^.*{re.escape(OFFLINE)} *(.*)$", re.MULTILINE)


def missing_network(output: str) -> str:
    """Return the line that shows that a script's bootstrap had no network, "" where nothing shows it."""
    if found := _MARK.search(output):
        return found[0].strip()[:300]
    if _SESSION.search(output):
        return ""  # whatever failed before, tests were run
    found = _FAILURE.search(output)
    return found[0].strip()[:300] if found else ""
