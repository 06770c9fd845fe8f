"""The page in a real Chromium: hostile bytes stay inert, the replay shows what was printed, keys work, nothing breaks.

Without Chromium these tests skip with the reason; where the environment variable CI is set, they fail.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kit.browser import Browser, open_browser, why_not
from kit.hostile import LONG, MARKUP, SHOWN, hostile
from kit.served import Served, serve
from kit.trajectories import trajectory

from terminal_gym.trajectory.store import Run, RunWriter

Wait = Callable[[Callable[[], object]], None]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if reason := why_not():
        pytest.fail(reason, pytrace=False) if os.environ.get("CI") else pytest.skip(reason)
    with open_browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("viewer") / f"run<script>window.pwned=1<{'x' * 80}"
    with RunWriter(folder, {}) as run:
        run.append(hostile())
        run.append(hostile(1))
        for attempt in range(120):
            run.append(trajectory(attempt=attempt, status="passed" if attempt % 3 else "failed"))
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with serve(folder) as running:
        yield running


@pytest.fixture
def until(browser: Browser) -> Wait:
    from selenium.webdriver.support.ui import WebDriverWait

    def wait(claim: Callable[[], object]) -> None:
        WebDriverWait(browser.driver, 20, poll_frequency=0.05).until(lambda _driver: claim())

    return wait


TERMINAL = "return [...document.querySelectorAll('.ap-line')].map(line => line.textContent).join('\\n')"
OPEN_ALL = "document.querySelectorAll('details').forEach(one => { one.open = true; })"
FOREIGN = """
    const ours = (address) => address.startsWith(location.origin + '/static/');
    return [
        ...[...document.scripts].filter(one => one.textContent || !ours(one.src)),
        ...document.querySelectorAll('img, iframe, object, embed, base, form, script:not([src]), [onload], [onerror]'),
        ...[...document.querySelectorAll('a')].filter(one => !one.getAttribute('href').startsWith('#')),
    ].map(one => one.outerHTML)
"""


def seen(browser: Browser, selector: str) -> str:
    return str(browser.run(f"return document.querySelector({selector!r})?.textContent.toWellFormed() ?? ''"))


def how_many(browser: Browser, selector: str) -> int:
    return int(browser.run(f"return document.querySelectorAll({selector!r}).length"))


def test_hostile_bytes_run_nothing_and_are_shown_as_they_are(
    browser: Browser, served: Served, until: Wait
) -> None:
    browser.complaints()
    browser.open(served.url)
    until(lambda: how_many(browser, "tbody tr") == 100 and how_many(browser, ".task-rates .bar-row") == 2)
    assert MARKUP in seen(browser, "tbody tr .task")
    assert browser.run(FOREIGN) == []
    browser.open(f"{served.url}#/episode/0")
    until(lambda: SHOWN not in browser.run(TERMINAL) and "$" in browser.run(TERMINAL))
    browser.run(OPEN_ALL)
    for place in (
        "h1",
        ".said",
        ".verdict",
        ".checks",
        ".flag",
        ".more",
        ".instruction",
        ".talk",
        ".complaint",
    ):
        assert MARKUP in seen(browser, place) or MARKUP.replace('"', "") in seen(browser, place), place
    browser.press("j")
    until(lambda: "nothing yet" in browser.run(TERMINAL))
    assert MARKUP[:70] in browser.run(TERMINAL)
    assert browser.run(FOREIGN) == []
    assert browser.run("return window.pwned ?? null") is None
    assert browser.run("return document.title") == "terminal-gym"
    assert browser.complaints() == []


def test_the_policy_itself_stops_what_would_get_past_us(browser: Browser, served: Served) -> None:
    browser.open(served.url)
    tries = """
        const script = document.createElement('script');
        script.textContent = 'window.pwned = 1';
        document.body.append(script);
        const box = document.createElement('div');
        box.innerHTML = '<img src=x onerror="window.pwned=1"><style>body { display: none }</style>';
        document.body.append(box);
        setTimeout('window.pwned = 1', 0);
        return [window.pwned ?? null, getComputedStyle(document.body).display];
    """
    assert browser.run(tries) == [None, "block"]
    refused = [line for line in browser.complaints() if "Content Security Policy" in line]
    assert len(refused) >= 4, refused
    assert browser.run("return window.pwned ?? null") is None


def test_the_replay_shows_the_screen_of_the_step_beside_what_was_said(
    browser: Browser, served: Served, until: Wait
) -> None:
    browser.open(f"{served.url}#/episode/0")
    until(lambda: "$" in browser.run(TERMINAL))
    assert SHOWN not in browser.run(TERMINAL)
    browser.run("document.querySelectorAll('.step-name')[1].click()")
    until(lambda: "nothing yet" in browser.run(TERMINAL))
    assert SHOWN not in browser.run(TERMINAL)  # the screen on which the second step was decided
    browser.run("document.querySelectorAll('.step-name')[0].click()")
    until(lambda: "nothing yet" not in browser.run(TERMINAL))
    browser.run("document.querySelector('.ap-playback-button').click()")
    until(lambda: SHOWN in browser.run(TERMINAL))
    assert browser.run("return document.querySelector('.step[aria-current]').id") == "step-1"
    size = "return document.querySelectorAll('.ap-line').length"
    assert browser.run(size) == 24  # no sequence and no absurd resize makes the terminal larger


def test_filters_sort_pages_and_keys(browser: Browser, served: Served, until: Wait) -> None:
    browser.open(served.url)
    until(lambda: how_many(browser, "tbody tr") == 100)
    browser.press("/")
    browser.press("MADE-UP")
    until(lambda: "120 attempts" in seen(browser, ".filters"))
    browser.run("[...document.querySelectorAll('.chip.failed')][0].click()")
    until(lambda: "40 attempts" in seen(browser, ".filters"))
    assert "status=failed" in browser.run("return location.hash")
    browser.run("document.querySelector('.chip').click()")
    until(lambda: how_many(browser, "tbody tr") == 100)
    browser.run("[...document.querySelectorAll('.pager button')].at(-2).click()")
    until(lambda: how_many(browser, "tbody tr") == 20)
    browser.run("document.querySelector('th:nth-child(2) button').click()")
    until(lambda: seen(browser, "tbody tr .number") == "0")
    browser.run("document.querySelector('th:nth-child(2) button').click()")
    until(lambda: seen(browser, "tbody tr .number") == "119")
    browser.press("Escape")  # leaves the search box
    browser.run("document.querySelector('tbody tr td a').click()")
    until(lambda: how_many(browser, ".step") == 3)
    assert seen(browser, ".step[aria-current] .step-name") == "Step 1"
    browser.press("j")
    assert seen(browser, ".step[aria-current] .step-name") == "Step 2"
    browser.press("k")
    assert seen(browser, ".step[aria-current] .step-name") == "Step 1"
    browser.press("Escape")
    until(lambda: how_many(browser, "tbody tr") == 100)


@pytest.mark.parametrize(("width", "height", "dark"), [(1440, 1000, False), (420, 860, True)])
def test_no_text_breaks_the_layout(
    browser: Browser, served: Served, until: Wait, width: int, height: int, dark: bool
) -> None:
    browser.size(width, height, dark=dark)
    assert len(LONG) > 400
    for address, there in (("", "tbody tr"), ("#/episode/0", ".ap-line")):
        browser.open(served.url + address)
        until(lambda there=there: how_many(browser, there))  # type: ignore[misc]
        browser.run(OPEN_ALL)
        assert browser.run("return document.documentElement.scrollWidth - innerWidth") <= 0, address
    page = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (page == "rgb(16, 18, 21)") is dark


def test_a_run_that_grows_and_one_that_is_damaged_are_followed(
    browser: Browser, tmp_path: Path, until: Wait
) -> None:
    folder = tmp_path / "growing"
    with RunWriter(folder, {"tasks": {"x": ""}, "attempts": 3}) as run, serve(folder) as served:
        browser.open(served.url)
        until(lambda: "No attempt is on record yet" in seen(browser, "tbody"))
        run.append(trajectory())
        until(lambda: how_many(browser, "tbody .status.passed") == 1)
        assert "1 of 3 on record" in seen(browser, "#live")
        row = Run(folder).rows[0]
        with (folder / "trajectories.jsonl.gz").open("r+b") as data:
            data.seek(row.offset + 30)
            data.write(b"\0\0\0\0")
        browser.run("document.querySelector('tbody tr td a').click()")
        until(lambda: "holds other bytes" in seen(browser, "#problem"))
    browser.complaints()
