"""The page in Chromium, from disk: read, filtered, compared and linked to, by mouse and by keys alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.answer_pages import page_data, write_page
from tests.chromium import Opened, chromium, serious

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

Open = Callable[..., "Page"]
PROMPT = f"{20:016x}"
WORST = f"{14:016x}"
ROW = "#browser [data-row]"
HEADS = "table.answers thead th"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(tmp_path_factory.mktemp("page"))


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Open]:
    """Opens the page at a hash, in a window of its own; afterwards nothing may have gone wrong or gone out."""
    opened: list[Opened] = []

    def open_at(hash: str = "", at: str = address, **context: Any) -> Page:
        opened.append(Opened(browser, **context))
        opened[-1].page.goto(at + hash)
        return opened[-1].page

    yield open_at
    for one in opened:
        one.close()
        assert (one.errors, one.outside) == ([], [])


def texts(page: Page, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


def focus_is(page: Page, key: str | None) -> None:
    page.wait_for_function("key => (document.activeElement.dataset.key ?? document.activeElement.id) === key", arg=key)


def test_list_is_sorted_by_regression(open_page: Open) -> None:
    page = open_page()
    page.wait_for_selector(ROW)
    changes = [float(one.split()[-1].replace("\u2212", "-")) for one in texts(page, "td.col-delta .delta.down")]
    assert len(changes) > 10 and changes == sorted(changes)
    assert "▼" in page.locator("td.col-delta").first.inner_text()
    assert "64 prompts of evaluation, round 5, against round 0" in page.locator("#browser [role=status]").inner_text()
    page.get_by_role("button", name="Change").click()
    expect(page.locator("td.col-delta").first).to_contain_text("▲")
    assert "sort=gain" in page.url


def test_choices_and_filters(open_page: Open) -> None:
    page = open_page()
    page.get_by_label("Answers for").select_option("train")
    expect(page.locator(ROW)).to_have_count(16)
    page.locator("[data-key=round]").select_option("2")
    page.get_by_text("Filters").click()
    page.get_by_label("Metadata").select_option("topic=food")
    page.get_by_label("Reward from").fill("0.4")
    page.get_by_label("Reward from").press("Enter")
    page.wait_for_selector("text=reward ≥ 0.400")
    rewards = [float(one) for one in texts(page, "td.col-reward")]
    assert rewards and min(rewards) >= 0.4
    page.get_by_role("button", name="topic = food").click()
    expect(page.get_by_role("button", name="topic = food")).to_have_count(0)
    assert page.locator(ROW).count() > len(rewards)
    for part in ("purpose=train", "round=2", "min=0.4"):
        assert part in page.url
    assert "meta" not in page.url


def test_search_and_what_is_not_found(open_page: Open) -> None:
    page = open_page()
    page.get_by_label("Search").fill("number 35.")
    expect(page.locator(ROW)).to_have_count(1)
    assert "q=number+35." in page.url
    page.get_by_label("Search").fill("no such words")
    page.wait_for_selector("text=No prompt is like that.")
    page.get_by_role("button", name="Clear search").click()
    expect(page.locator(ROW)).to_have_count(50)
    assert page.get_by_label("Search").input_value() == ""


def test_pages_of_the_list(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("button", name="Next").click()
    page.wait_for_selector("text=page 2 of 2")
    assert page.locator(ROW).count() == 14
    page.go_back()
    page.wait_for_selector("text=page 1 of 2")


def test_two_rounds_side_by_side(open_page: Open) -> None:
    page = open_page()
    page.locator(ROW).first.click()
    page.wait_for_selector("table.answers")
    heads = texts(page, "table.answers thead th")
    assert heads[1].startswith("Round 0") and heads[2].startswith("Round 5")
    for column in (2, 3):
        shown = texts(page, f"table.answers tbody td:nth-child({column}) .mean")
        rewards = [float(one.split()[-1]) for one in shown if "\u2013" not in one]
        assert len(shown) == 4 and rewards == sorted(rewards, reverse=True)
    page.get_by_role("button", name="round 3", exact=True).click()
    expect(page.locator(HEADS)).to_have_count(4)
    page.get_by_role("button", name="all", exact=True).click()
    expect(page.locator(HEADS)).to_have_count(7)
    assert "rounds=0.1.2.3.4.5" in page.url


def test_diffs(open_page: Open) -> None:
    page = open_page(f"#prompt={PROMPT}")
    page.get_by_role("button", name="Diff to round 0").click()
    page.wait_for_selector("table.answers ins")
    old = page.locator("article", has_text="round 0 · answer 1")
    new = page.locator("article", has_text="round 5 · answer 1")
    old.get_by_role("button", name="diff").click()
    assert "pick the other one" in page.locator("#browser [role=status]").inner_text()
    new.get_by_role("button", name="diff").click()
    dialog = page.get_by_role("dialog")
    assert texts(page, "dialog ins")[1:] == [" the quiet harbour while two old friends drink tea and"]
    assert "diff=0.1~5.1" in page.url.replace("%7E", "~")
    dialog.get_by_role("button", name="Swap").click()
    expect(page.locator("dialog .text del")).to_have_count(1)
    expect(page.locator("dialog")).to_have_count(1)
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    page.wait_for_url(lambda url: "diff" not in url)


def test_scores_judgments_and_reasons_stand_beside_the_answer(open_page: Open) -> None:
    page = open_page(f"#prompt={WORST}")
    page.wait_for_selector("table.answers")
    failed = page.locator("article", has_text="no reply within 30 s").first
    assert "judge timeout" in failed.inner_text().replace("\n", " ")
    assert page.locator(".judgment", has_text="It names a boat but not its colour.").count() > 2
    assert "cut at the limit" in page.locator("table.answers").inner_text()


def test_blamed_tokens_and_log_ratios(open_page: Open) -> None:
    page = open_page(f"#purpose=train&prompt={1002:016x}")
    page.wait_for_selector("mark")
    page.get_by_label("Shading").select_option("ratios")
    page.wait_for_selector("article .ratio")
    assert page.locator("article .ratio").first.get_attribute("title").endswith("nats")
    page.get_by_label("Shading").select_option("off")
    page.wait_for_selector("article .ratio", state="detached")
    assert page.locator("article mark").count() == 0


def test_a_link_leads_to_run_round_prompt_and_answer(open_page: Open) -> None:
    page = open_page(f"#run=harbour&purpose=evaluation&prompt={PROMPT}&round=4&baseline=2&answer=3&rounds=2.4")
    page.wait_for_selector("article.linked")
    assert page.locator("article.linked").get_attribute("id") == "answer-4-3"
    assert page.locator("article.linked").evaluate("(one) => one.getBoundingClientRect().top < innerHeight")
    focus_is(page, "prompt-title")
    page.locator("article", has_text="round 2 · answer 1").get_by_role("link").click()
    page.wait_for_selector("#answer-2-1.linked")
    page.go_back()
    page.wait_for_selector("#answer-4-3.linked")
    page.go_forward()
    page.wait_for_selector("#answer-2-1.linked")


@pytest.mark.parametrize(
    "hash",
    [
        "#prompt=<img src=x onerror=window.hit=1>&run=<script>window.hit=1</script>&q=<b>",
        "#round=99&baseline=77&purpose=__proto__&sort=constructor&page=99999999",
        "#diff=9.9~8.8&prompt=constructor&answer=99&rounds=9.8.7",
        f"#prompt={PROMPT}&diff=0.99~5.99&rounds=77&meta==&min=1e309",
        "#%%%=%&&&===",
        "#javascript:window.hit=1",
    ],
)
def test_a_hostile_link_does_no_harm(open_page: Open, hash: str) -> None:
    page = open_page(hash)
    page.wait_for_selector("#browser [data-part=content] > *")
    assert page.evaluate("window.hit === undefined")


def test_keys_alone(open_page: Open) -> None:
    page = open_page()
    page.wait_for_selector(ROW)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    first, second = (page.locator(ROW).nth(at).get_attribute("data-key") for at in (0, 1))
    focus_is(page, first)
    page.keyboard.press("Enter")
    page.wait_for_selector("table.answers")
    focus_is(page, "prompt-title")
    page.keyboard.press("j")
    expect(page).to_have_url(re.compile(second.removeprefix("row-")))
    page.keyboard.press("d")
    page.wait_for_selector("table.answers ins")
    page.keyboard.press("a")
    expect(page.locator(HEADS)).to_have_count(7)
    page.keyboard.press("b")
    focus_is(page, "baseline")
    page.keyboard.press("ArrowDown")
    expect(page).to_have_url(re.compile("baseline=1"))
    focus_is(page, "baseline")
    page.get_by_role("button", name="Previous").focus()
    page.keyboard.press("Escape")
    page.wait_for_selector(ROW)
    focus_is(page, second)
    page.keyboard.press("/")
    focus_is(page, "search")
    page.keyboard.type("?j")
    expect(page).to_have_url(re.compile("q=%3Fj"))
    assert page.get_by_role("dialog").count() == 0
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert "next / previous prompt" in page.get_by_role("dialog").inner_text()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0


def test_a_skip_link_leads_to_the_answers(open_page: Open) -> None:
    page = open_page("#sort=gain")
    page.wait_for_selector(ROW)
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "To the answers"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    focus_is(page, "help")
    assert page.locator(ROW).count() == 50


def test_single_keys_can_be_put_off(open_page: Open) -> None:
    page = open_page()
    page.wait_for_selector(ROW)
    page.get_by_role("button", name="Keys").click()
    page.get_by_label("single keys are on").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    focus_is(page, "help")


def test_dark_by_choice_stays(open_page: Open) -> None:
    page = open_page(color_scheme="light")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(colour) != light
    page.reload()
    page.wait_for_selector(ROW)
    assert page.evaluate(colour) != light


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(tmp_path_factory.mktemp("hostile"), page_data(0, hostile=True))


@pytest.mark.parametrize("number", range(4))
def test_hostile_texts(open_page: Open, hostile: str, number: int) -> None:
    page = open_page(f"#prompt={5000 + number:016x}&inline=1", at=hostile)
    page.wait_for_selector("table.answers")
    page.wait_for_timeout(100)
    assert page.evaluate("window.hit === undefined")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Diff to round 0").click()
    page.wait_for_selector("article ins", state="detached")
    shown = page.locator("table.answers").inner_text()
    if number == 1:
        text = page.locator("article .text", has_text="טוב").first
        assert text.evaluate("(one) => getComputedStyle(one).direction") == "rtl"
    if number == 2:
        assert "\0" not in shown and "surrogate �" in shown
    if number == 3:
        assert len(shown) < 20_000
        page.get_by_role("button", name="Show all").first.click()
        assert page.evaluate("document.activeElement.textContent.length") == 1_000_000
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_phone_has_no_sideways_scroll(open_page: Open) -> None:
    for hash in ("", f"#prompt={PROMPT}", f"#prompt={PROMPT}&rounds=0.1.2.3.4.5&inline=1", "#q=nothing"):
        page = open_page(hash, viewport={"width": 375, "height": 700})
        page.wait_for_selector("#browser [data-part=content] > *")
        assert page.evaluate("document.documentElement.scrollWidth") == 375


def test_without_scripts_the_page_says_so(open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    assert "runs no scripts" in page.locator("#browser noscript").inner_text()
    assert page.locator("#browser button, #browser [data-part=app]:visible").count() == 0


@pytest.mark.parametrize(
    "hash", ["", f"#prompt={PROMPT}&inline=1", f"#purpose=train&prompt={1002:016x}&shade=ratios", "?"]
)
@pytest.mark.parametrize("scheme", ["light", "dark", "phone"])
def test_axe_finds_nothing_serious(open_page: Open, hash: str, scheme: str) -> None:
    look = {"viewport": {"width": 375, "height": 700}} if scheme == "phone" else {"color_scheme": scheme}
    page = open_page(hash if hash != "?" else "", **look)
    page.wait_for_selector("#browser [data-part=content] > *")
    if hash == "?":
        page.keyboard.press("?")
    assert serious(page) == []


def test_print_shows_the_answers_without_the_tools(open_page: Open) -> None:
    page = open_page(f"#prompt={PROMPT}")
    page.wait_for_selector("table.answers")
    page.emulate_media(media="print")
    assert page.locator("article").first.is_visible()
    assert not page.get_by_role("button", name="All prompts").is_visible()
    assert not page.locator("article .actions").first.is_visible()


def test_a_run_without_answers(open_page: Open, tmp_path: Path) -> None:
    data = page_data(0)
    data["facets"] |= {"purposes": [], "rounds": {}, "total": {}, "note": None}
    page = open_page(at=write_page(tmp_path, {**data, "rows": {}}))
    page.wait_for_selector("text=This run has no answers yet.")
    assert "damaged" in page.locator("#browser .lacks").inner_text()
