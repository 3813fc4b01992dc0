"""A run folder of five rounds in Chromium: its report from disk, and `rayalign serve` while a round is added."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rayalign.dashboard.page import write_report
from tests import five_rounds
from tests.chromium import Opened, chromium, serious
from tests.five_rounds import HELD_OUT, make_five_rounds, make_run, write_round

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
HOSTILE = ("</script><script>window.hit=1</script>", "<img src=x onerror=window.hit=1>", "<svg onload=window.hit=1>")
"""What answers are full of: nouns, of which they take the first few."""
PHONE = {"width": 375, "height": 700}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """A window; afterwards nothing may have gone wrong on it or gone out."""
    one = Opened(browser)
    yield one
    one.close()
    assert (one.errors, one.outside) == ([], [])


def rows(page: Page, count: int) -> None:
    expect(page.locator("#browser [data-row]")).to_have_count(count)


def test_the_report_from_disk(opened: Opened, tmp_path: Path) -> None:
    make_five_rounds(tmp_path / "five")
    page = opened.page
    page.goto(Path(str(write_report(tmp_path / "five"))).as_uri())
    rows(page, HELD_OUT)
    assert page.locator(".chart svg").count() >= 5
    worst = page.locator("#browser tbody tr").first
    assert "▼" in worst.inner_text() and "number 13 " in worst.inner_text()
    page.get_by_label("Search").fill("number 17 ")
    rows(page, 1)
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("table.answers")
    page.keyboard.press("d")
    page.wait_for_selector("table.answers ins")
    assert "no reply within 30 s" in page.locator("table.answers").inner_text()
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector("table.answers ins")
    assert "number 17 " in page.locator(".conversation").inner_text()


@pytest.mark.parametrize(
    "look", [{"color_scheme": "light"}, {"color_scheme": "dark", "viewport": PHONE}], ids=["light", "dark phone"]
)
def test_axe_finds_nothing_serious_on_the_whole_page(browser: Browser, tmp_path: Path, look: dict[str, Any]) -> None:
    make_five_rounds(tmp_path / "five")
    one = Opened(browser, **look)
    one.page.goto(Path(str(write_report(tmp_path / "five"))).as_uri())
    rows(one.page, HELD_OUT)
    assert serious(one.page) == []
    assert one.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    one.close()


def test_what_judgments_blame(opened: Opened, tmp_path: Path) -> None:
    make_five_rounds(tmp_path / "five")
    page = opened.page
    page.goto(Path(str(write_report(tmp_path / "five"))).as_uri() + "#purpose=train&round=5&q=5.0.")
    rows(page, 1)
    page.locator("#browser [data-row]").click()
    page.wait_for_selector("article.answer mark")
    page.get_by_label("Shading").select_option("ratios")
    page.wait_for_selector("article.answer .ratio.more3")


def test_answers_of_markup_are_text(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers, prompts and judgments that are scripts, in the list, beside each other and compared."""
    monkeypatch.setattr(five_rounds, "NOUNS", tuple(HOSTILE[i % 3] for i in range(10)))
    make_five_rounds(tmp_path / "five")
    page, report = opened.page, Path(str(write_report(tmp_path / "five"))).as_uri()
    for part in ("", "#purpose=train&round=5"):
        page.goto("about:blank")
        page.goto(report + part)
        page.locator("#browser [data-row]").first.click()
        page.wait_for_selector("article.answer")
        page.keyboard.press("d")
        assert HOSTILE[0] in page.locator("table.answers").inner_text()
        assert page.evaluate("window.hit === undefined")
        assert page.locator("img[src=x], svg[onload]").count() == 0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a server over `tmp_path`/runs, which holds a run `five` of two rounds."""
    run_dir, held_out = make_run(tmp_path / "runs" / "five")
    for index in range(2):
        write_round(run_dir, held_out, index)
    command = [sys.executable, "-m", "rayalign", "serve", str(tmp_path / "runs"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield next(word for line in process.stdout for word in line.split() if word.startswith("http://"))
        finally:
            process.terminate()


def test_a_live_page_tells_of_a_new_round(opened: Opened, served: str, tmp_path: Path) -> None:
    page = opened.page
    page.goto(f"{served}runs/five#sort=reward")
    rows(page, HELD_OUT)
    page.get_by_label("Search").fill("number 17 ")
    rows(page, 1)
    page.locator("#browser [data-row]").click()
    page.wait_for_selector("table.answers")
    page.get_by_role("button", name="round 0", exact=True).focus()
    run_dir, held_out = make_run(tmp_path / "runs" / "five")
    write_round(run_dir, held_out, 2)
    page.wait_for_selector("text=Updated: 2 rounds")
    expect(page.get_by_role("button", name="round 2", exact=True)).to_be_visible()
    assert page.evaluate("document.activeElement.dataset.key") == "show-0"
    assert "number 17 " in page.locator(".conversation").inner_text()
    assert "q=number+17" in page.url


def test_runs_chosen_in_the_list_are_compared(opened: Opened, served: str, tmp_path: Path, wait_for: Callable) -> None:
    make_five_rounds(tmp_path / "runs/other")
    page, boxes = opened.page, opened.page.locator("input[type=checkbox]")
    # The server looks for new runs once a moment.
    wait_for(lambda: page.goto(served) and boxes.count() == 2, 30)
    for box in boxes.all():
        box.check()
    page.get_by_role("button", name="Compare the chosen runs").click()
    page.wait_for_url("**/compare?*")
    assert page.locator(".chart svg").count() >= 3 and "other" in page.locator("h1").inner_text()
