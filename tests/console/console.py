#!/usr/bin/env python3
"""The console as a person uses it: `driftless demo --serve` in headless Chromium. A link is cut by a click and its lag
seen to grow, healed by a key and seen to come back; then themes, phone, what a screen reader finds, and what the page
makes of texts that look like markup.

usage: console.py [FOLDER]    where the screenshots go [a folder that is removed afterwards]"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

from playwright.sync_api import sync_playwright

CHROMIUM = os.environ.get("DRIFTLESS_CHROMIUM", "/usr/bin/chromium")
# It asks nobody for anything by itself.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 120_000  # a machine may be busy with other things
UNITS_MS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000}
MARKUP = "<img src=x onerror=\"document.title='taken'\">"

failed = 0


def check(name, good, why=""):
    global failed
    failed += not good
    print(f"ok - {name}" if good else f"not ok - {name}: {why}", flush=True)


def start_demo():
    """A demo that takes any free port, and the address of its console."""
    command = [os.environ["DRIFTLESS_BIN"], "demo", "--serve", "127.0.0.1:0", "--changes", "1500"]
    demo = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    line = demo.stderr.readline()
    found = re.search(r"http://\S+", line)
    if not found:
        demo.kill()
        raise SystemExit(f"the demo says no address but: {line}")
    return demo, found.group()


class Console:
    """A page of the console; everything it asks for is noted."""

    def __init__(self, browser, address, **options):
        self.address = address
        self.page = browser.new_context(**options).new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.asked, self.complaints = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))

    def open(self):
        self.page.goto(self.address)

    def row(self, link):
        return self.page.locator("#links tbody tr").filter(has=self.page.get_by_role("rowheader", name=link, exact=True))

    def lag_ms(self, link):
        said = self.row(link).locator(".lag").inner_text()
        return sum(float(number) * UNITS_MS[unit] for number, unit in re.findall(r"([\d.]+) (ms|s|min|h)", said))

    def await_text(self, selector, text):
        """Does it come to say so?"""
        try:
            self.page.locator(selector).filter(has_text=text).first.wait_for()
            return True
        except Exception:
            return False

    def await_state(self, link, word):
        try:
            self.row(link).locator(".word").filter(has_text=word).wait_for()
            return True
        except Exception:
            return False

    def verdict(self):
        return self.page.locator("#verdict-title").inner_text()


def cut_and_heal(console, folder):
    page = console.page
    check("a demo that runs is called well", console.await_text("#verdict-title", "All is well"), console.verdict())
    page.locator("#map").get_by_role("button", name="Cut the link from us to eu").locator(".pill").click()
    check("a click on the map cuts a link", console.await_state("us → eu", "cut"))
    check("the verdict names the link", console.await_text("#verdict-title", "eu hears nothing from us"), console.verdict())
    since = page.locator("#conditions li").first.inner_text()
    check("it says since when, and where to look", re.search(r"since \d\d:\d\d:\d\d", since) and "MirrorMaker us→eu" in since, since)
    begin, first = time.monotonic(), console.lag_ms("us → eu")
    page.wait_for_timeout(6_000)
    grown, waited = console.lag_ms("us → eu") - first, (time.monotonic() - begin) * 1_000
    check("its lag grows by a second each second", abs(grown - waited) < 2_500, f"{grown} ms in {waited:.0f} ms")
    page.screenshot(path=folder / "cut.png")
    check("the other way goes on", console.lag_ms("eu → us") < first, console.lag_ms("eu → us"))
    heal = console.row("us → eu").get_by_role("button", name="Heal the link from us to eu")
    heal.focus()
    page.keyboard.press("Enter")
    check("a key heals it", console.await_text("#switched", "healed"), page.locator("#switched").inner_text())
    check("its lag comes back", console.await_state("us → eu", "fine"), console.lag_ms("us → eu"))
    check("all is well again", console.await_text("#verdict-title", "All is well"), console.verdict())
    check("what happened stays to be read", console.await_text("#happened", "eu hears nothing from us"))


def keyboard(console):
    page = console.page
    console.open()
    console.await_text("#verdict-title", "All is well")
    page.keyboard.press("Tab")
    check("the first tab leads past the header", page.evaluate("document.activeElement.className") == "skip")
    link = page.locator("#map").get_by_role("button", name="the link from ap to us")
    link.focus()
    page.keyboard.press("Space")
    check("a link of the map is a button for the keyboard", console.await_state("ap → us", "cut"))
    check("the focus stays where it was", page.evaluate("document.activeElement.getAttribute('aria-label')") == "Heal the link from ap to us")
    page.keyboard.press("Enter")
    check("and heals by it", console.await_state("ap → us", "fine"))


def reader(console):
    """What stands in the accessibility tree."""
    page = console.page
    for role in ("banner", "main", "contentinfo"):
        check(f"there is one {role}", page.get_by_role(role).count() == 1, page.get_by_role(role).count())
    headings = page.get_by_role("heading", level=2).all_inner_texts()
    check("each part has its heading", len(headings) == 7, headings)
    check("the verdict is told when it changes", page.locator("#verdict-title[role=status]").count() == 1)
    for summary in page.locator("summary").all():
        summary.click()
    tables = page.get_by_role("table").count()
    check("each graph has its table", tables == 4, tables)
    page.locator("#task-table tbody tr").first.wait_for()
    check("the table of tasks has them all", page.locator("#task-table tbody tr").count() == 18)
    check("the table of latencies has a column a link", page.locator("#heat-table thead th").count() == 10)
    check("every table has its caption", page.locator("table caption").count() == tables)
    for summary in page.locator("summary").all():
        summary.click()


def looks(browser, console, folder):
    page = console.page
    grounds = {}
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        grounds[theme] = ground(page)
        page.screenshot(path=folder / f"{theme}.png", full_page=True)
    check("the theme follows the system", grounds["light"] != grounds["dark"], grounds)
    button = page.get_by_role("button", name="Theme")
    button.click()
    check("the button chooses light over a dark system", ground(page) == grounds["light"] and button.inner_text() == "Theme: light")
    button.click()
    page.emulate_media(color_scheme="light")
    check("and dark over a light one", ground(page) == grounds["dark"], ground(page))
    button.click()
    phone = Console(browser, console.address, viewport={"width": 390, "height": 844}, device_scale_factor=2)
    phone.open()
    phone.await_text("#verdict-title", "All is well")
    wide = phone.page.evaluate("document.documentElement.scrollWidth")
    check("a phone shows it without scrolling sideways", wide <= 390, f"{wide} px")
    hidden = phone.page.locator("#links").get_by_role("button", name="Cut the link from us to eu")
    right = hidden.bounding_box()
    check("with its switches in sight", right and right["x"] + right["width"] <= 390, right)
    phone.page.screenshot(path=folder / "phone.png", full_page=True)
    phone.page.context.close()


def ground(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def markup(browser, address):
    """Names and keys come from elsewhere: they are shown, and never obeyed."""
    console = Console(browser, address)

    def poisoned(route):
        state = json.loads(route.fetch().text())
        kept = dict(at_ms=state["now_ms"], region=MARKUP, key=MARKUP, topic=MARKUP, partition="0", offset="0")
        kept.update(reason=MARKUP, detail=MARKUP, stage=MARKUP, winner=MARKUP)
        state["recent"].update(dead_letters=[kept], conflicts=[kept])
        state["happened"] = [dict(at_ms=state["now_ms"], what=MARKUP)]
        state["about"]["application"] = MARKUP
        route.fulfill(json=state)

    console.page.route("**/console/state", poisoned)
    console.page.route("**/console/events", lambda route: route.fulfill(content_type="text/event-stream", body=":\n\n"))
    console.open()
    shown = console.await_text("#dead-letters .list", MARKUP)
    images = console.page.locator("img").count()
    check("a text that looks like markup is shown as text", shown and images == 1, f"{images} images")
    check("and does nothing", "taken" not in console.page.title(), console.page.title())
    console.page.context.close()


def end(demo, console):
    demo.send_signal(signal.SIGINT)
    try:
        code = demo.wait(60)
    except subprocess.TimeoutExpired:
        code = "none in a minute"
    check("Ctrl-C ends it in good order", code == 0, code)
    check("a page without news says so", console.await_text("#verdict-title", "No news"), console.verdict())


def main():
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else scratch)
        folder.mkdir(parents=True, exist_ok=True)
        demo, address = start_demo()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            console = Console(browser, address, viewport={"width": 1280, "height": 900}, color_scheme="light")
            console.open()
            cut_and_heal(console, folder)
            keyboard(console)
            reader(console)
            looks(browser, console, folder)
            markup(browser, address)
            elsewhere = sorted({url for url in console.asked if not url.startswith(address)})
            check("nothing was asked of anybody else", console.asked and not elsewhere, elsewhere)
            check("nothing broke, and the policy had nothing to forbid", not console.complaints, console.complaints)
            end(demo, console)
        finally:
            browser.close()
            if demo.poll() is None:
                demo.kill()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
