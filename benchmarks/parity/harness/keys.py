"""Recorded keys, typed through the official harnesses' own terminals. Runs inside the harness image.

Both read what `--agent scripted` reads: a JSON list of `{"text": …}`. A text that ends in a line feed is a command that
is waited for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harbor.agents.base import BaseAgent as HarborAgent
from harbor.agents.terminus_2.tmux_session import TmuxSession as HarborTerminal
from terminal_bench.agents.base_agent import AgentResult
from terminal_bench.agents.base_agent import BaseAgent as TerminalBenchAgent

FOLDER = Path("/harness/keys")


def _texts(task: str) -> list[str]:
    return [entry["text"] for entry in json.loads((FOLDER / f"{task}.json").read_text("utf-8"))]


class TerminalBenchKeys(TerminalBenchAgent):  # type: ignore[misc]  # the harness is not installed here
    """Types into the harness' tmux session."""

    @staticmethod
    def name() -> str:
        return "keys"

    def perform_task(self, instruction: str, session: Any, logging_dir: Path | None = None) -> AgentResult:
        assert logging_dir is not None
        task = logging_dir.parent.parent.name  # runs/<run>/<task>/<trial>/agent-logs
        for text in _texts(task):
            session.send_keys([text], block=text.endswith("\n"), max_timeout_sec=20)
        return AgentResult()


class HarborKeys(HarborAgent):  # type: ignore[misc]
    """Types into a tmux session as Harbor's own Terminus-2 does."""

    @staticmethod
    def name() -> str:
        return "keys"

    def version(self) -> str:
        return "1"

    async def setup(self, environment: Any) -> None:
        self._terminal = HarborTerminal("keys", environment, "/logs/agent/keys.pane", None, None)
        await self._terminal.start()

    async def run(self, instruction: str, environment: Any, context: Any) -> None:
        for text in _texts(environment.environment_name):
            await self._terminal.send_keys([text], block=text.endswith("\n"), max_timeout_sec=20)
