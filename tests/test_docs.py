"""README and docs snippets run, page by page, in one throw-away folder per page.

A ```python block runs in one interpreter per page, a ```bash block in `bash -euo pipefail`, in page order. A block
that cannot run here is preceded by a comment `<!-- not run: the reason -->`; everything else is run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHAPES = {"style.md"}  # its examples show how code should look, not what to run
BLOCK = re.compile(
    r"(?P<skip><!-- not run: .+? -->\n)?^```(?P<kind>python|bash)\n(?P<body>.*?)^```$", re.M | re.S
)


def blocks(page: Path) -> list[tuple[str, str]]:
    return [(m["kind"], m["body"]) for m in BLOCK.finditer(page.read_text("utf-8")) if not m["skip"]]


def as_one_script(snippets: list[tuple[str, str]]) -> str:
    """Python that runs a page's blocks in order, sharing one namespace and one working folder."""
    lines = ["import subprocess"]
    for kind, body in snippets:
        if kind == "bash":
            lines.append(f"subprocess.run(['bash', '-euo', 'pipefail', '-c', {body!r}], check=True)")
        else:
            lines.append(body)
    return "\n".join(lines)


@pytest.mark.docker
@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p) and p.name not in SHAPES], ids=lambda p: str(p.relative_to(ROOT))
)
def test_snippets_run(page: Path, tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text(as_one_script(blocks(page)), "utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ran.returncode == 0, f"{page.name}:\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text("utf-8"))
    missing = [t for t in targets if not (page.parent / t).exists()]
    assert not missing, f"{page.name} links to {missing}"
