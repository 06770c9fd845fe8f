"""The printed zine, and the press at work on poems that nobody has seen."""

import os
import subprocess
import time
from pathlib import Path

import pytest

PAGE = "<title>[[title]]</title>\n<b>[[author]] & [[title]]</b> \\1\n<pre>\n[[body]]\n</pre> [[end]]\n"
POEMS = {
    "aa": ("Salt & Pepper", "A. <Cook>", "one & two\n\n  three < four\n"),
    "B-side": ("[[author]]", "[[body]]", "[[title]] \\1 \\& & $x `y` 'z' \"q\"\n[[body]]\nlast\n"),
    "z_9": ("Fjörð", "Þóra", "snjór\n"),
    "bread": ("a/b|c", "x,y", "/ | , # %s %d \\n\\t\n"),
}


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def page_of(page, title, author, body):
    lines = []
    for line in page.split("\n"):
        if line == "[[body]]":
            lines.append(escape(body).rstrip("\n"))
            continue
        pieces = [part.replace("[[title]]", escape(title)) for part in line.split("[[author]]")]
        lines.append(escape(author).join(pieces))
    return "\n".join(lines)


def index_of(poems):
    names = sorted(poems, key=str.encode)
    entries = [(name, escape(poems[name][0]), escape(poems[name][1])) for name in names]
    return "".join(f'<li><a href="{name}.html">{title}</a>, {author}</li>\n' for name, title, author in entries)


def write_poem(folder, name, poem):
    title, author, body = poem
    (folder / f"{name}.txt").write_text(f"# {title}\nby {author}\n\n{body}", "utf-8")


@pytest.fixture()
def shop(tmp_path):
    """A folder with hidden poems and a page, both an hour old."""
    poems = tmp_path / "the poems"
    poems.mkdir()
    for name, poem in POEMS.items():
        write_poem(poems, name, poem)
    (tmp_path / "page.html").write_text(PAGE, "utf-8")
    age(3600, *poems.iterdir(), tmp_path / "page.html")
    return tmp_path


def age(seconds, *paths):
    now = time.time()
    for path in paths:
        os.utime(path, (now - seconds, now - seconds))


def press(shop):
    command = ["bash", "/app/press.sh", "the poems", "page.html", "the site"]
    subprocess.run(command, check=True, timeout=20, cwd=shop)
    return shop / "the site"


def pages(site):
    return {path.name: path.read_text("utf-8") for path in site.glob("*.html")}


def zine(poems, page=PAGE):
    made = {f"{name}.html": page_of(page, *poem) for name, poem in poems.items()}
    return {**made, "index.html": index_of(poems)}


def test_the_zine_is_printed():
    poems = {}
    for path in Path("/app/poems").glob("*.txt"):
        title, author, _, body = path.read_text("utf-8").split("\n", 3)
        poems[path.stem] = (title[2:], author[3:], body)
    assert len(poems) == 3
    assert pages(Path("/app/site")) == zine(poems, Path("/app/page.html").read_text("utf-8"))


def test_poems_never_seen(shop):
    assert pages(press(shop)) == zine(POEMS)


def test_nothing_is_printed_twice(shop):
    site = press(shop)
    age(1800, *site.iterdir())
    times = {path.name: path.stat().st_mtime for path in site.iterdir() if path.name != "index.html"}
    press(shop)
    assert {name: (site / name).stat().st_mtime for name in times} == times
    changed = POEMS | {"aa": ("Salt", "Cook", "only salt\n")}
    write_poem(shop / "the poems", "aa", changed["aa"])
    press(shop)
    rewritten = {name for name in times if (site / name).stat().st_mtime != times[name]}
    assert rewritten == {"aa.html"}
    assert pages(site) == zine(changed)
    age(1800, *site.iterdir())
    (shop / "page.html").write_text("new [[title]]\n[[body]]\n", "utf-8")
    press(shop)
    assert pages(site) == zine(changed, "new [[title]]\n[[body]]\n")


def test_pages_of_lost_poems_go(shop):
    site = press(shop)
    (site / "style.css").write_text("b {}\n")
    (shop / "the poems" / "bread.txt").unlink()
    (site / "z_9.html").unlink()
    press(shop)
    assert pages(site) == zine({name: poem for name, poem in POEMS.items() if name != "bread"})
    assert (site / "style.css").read_text() == "b {}\n"
