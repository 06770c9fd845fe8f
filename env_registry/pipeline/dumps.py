"""What a search of GitHub answered, saved: the repositories in it as sources, with their stars.

A dump is one JSON object with `items` (the answer of `GET /search/repositories`), a list of such objects or of items,
or one item a line. Of an item `clone_url`, `stargazers_count`, `fork`, `archived` and `disabled` are read.

Source: GitHub REST API 2022-11-28, "Search repositories".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.marked_yaml import read_text


def read_dump(path: Path) -> dict[str, int]:
    """Return `git:URL` → stars, in the order of the dump; forks, archived and disabled repositories are left out.

    Raises:
        BadTaskFormat: It cannot be read, or an item has no clone_url.
    """
    found: dict[str, int] = {}
    for number, item in enumerate(_items(path), 1):
        url, stars = item.get("clone_url"), item.get("stargazers_count", 0)
        if not isinstance(url, str) or not url or not isinstance(stars, int):
            wrong = f"item {number} has the clone_url {url!r} and {stars!r} stars"
            raise BadTaskFormat(path, wrong, "Save what GitHub's search answers, as it is.")
        if not (item.get("fork") or item.get("archived") or item.get("disabled")):
            found.setdefault(f"git:{url}", stars)
    return found


def _items(path: Path) -> Iterator[Mapping[str, Any]]:
    text = read_text(path)
    try:
        pages = json.loads(text)
    except ValueError:
        try:
            pages = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise BadTaskFormat(
                path, f"neither JSON nor JSON lines: {error}", "Save the answer as it is."
            ) from error
    for page in pages if isinstance(pages, list) else [pages]:
        items = page.get("items", [page]) if isinstance(page, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            wrong = f"{str(page)[:60]!r} where a repository should be"
            raise BadTaskFormat(path, wrong, "Save the answer as it is.")
        yield from items
