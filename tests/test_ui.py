"""The page, in a real Chromium, against a server that says what each test wants it to."""

import json
import os
import re
import threading
from collections.abc import Iterator

import pytest
from browser import BACKSPACE, CONTROL, DOWN, ENTER, ESCAPE, SHIFT, TAB, UP, Browser, missing
from loopback_server import held, served, tiny_model
from ui_server import HANG_UP, PAGE, Answer, PageServer

from nanochat.engine import Engine
from tasks.customjson import CustomJSON

TOOL = ("Let me see: ", ("python", "12"), ("python", "+30"), ("python_output", "42"), " 12 + 30 = 42.")
TOOL_PARTS = [
    {"type": "text", "text": "Let me see: "},
    {"type": "python", "text": "12+30"},
    {"type": "python_output", "text": "42"},
    {"type": "text", "text": " 12 + 30 = 42."},
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[Browser]:
    if reason := missing():
        (pytest.fail if os.environ.get("NANOCHAT_NEED_CHROMIUM") else pytest.skip)(reason)
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(chromium) -> Iterator[Browser]:
    """As if it were new. In the end nothing may have gone wrong in its pages, and nothing against their policy."""
    chromium.resize(1280, 800)
    chromium.prefer(color_scheme="light", reduced_motion="reduce")
    chromium.complaints()
    yield chromium
    assert chromium.complaints() == []


@pytest.fixture
def server() -> Iterator[PageServer]:
    """With a port of its own, and so with a storage of its own in the browser."""
    with PageServer() as server:
        yield server


@pytest.fixture
def page(browser, server) -> Browser:
    """The page, open and ready."""
    browser.open(server.url)
    browser.until("document.querySelector('#about').textContent.includes('d4')")
    return browser


def ask(page: Browser, question: str) -> None:
    """Send a question, and wait for the answer's end."""
    before = page.count(".turn")
    page.paste("#ask", question)
    page.press(ENTER)
    page.until(lambda: page.count(".turn") == before + 1)
    finished(page)


def finished(page: Browser) -> None:
    page.until("document.querySelector('.turn') && !document.querySelector('[aria-busy=true]')")


def options(page: Browser, which: int, label: str) -> None:
    """Choose from the menu of the conversation that stands in this place of the list, from 0 on."""
    page.run("document.querySelectorAll('#chats li .icon')[arguments[0]].click()", which)
    page.until("document.activeElement.role === 'menuitem'")
    page.run("[...document.querySelectorAll('#menu button')].find((button) => button.innerText === arguments[0]).click()", label)


def messages(server: PageServer, request: int = -1) -> list[tuple[str, object]]:
    return [(message["role"], message["content"]) for message in server.asked[request]["messages"]]


# --- the file --------------------------------------------------------------------------------------------------------


def test_one_file_that_a_strict_policy_admits():
    html = PAGE.read_text(encoding="utf-8")
    assert len(re.findall(r"<style\b", html)) == len(re.findall(r"<style>", html)) == 1
    assert len(re.findall(r"<script\b", html)) == len(re.findall(r"<script>", html)) == 1
    markup = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    assert not re.findall(r"\s(?:on\w+|style|src)\s*=", markup)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", html)
    assert re.findall(r"https?://[\w.]+", html) == ["http://www.w3.org", "http://www.w3.org"]  # the name of SVG, in the icon and in the script


# --- talking ---------------------------------------------------------------------------------------------------------


def test_an_answer_streams(page, server):
    hold = threading.Event()
    server.answers.append(Answer(["The capital ", "is", hold, " **Paris**."]))
    page.write("#ask", "What is the capital of France?" + ENTER)
    page.until("document.querySelector('.prose')?.innerText === 'The capital is'")
    assert page.value("document.querySelector('#send').ariaLabel") == "Stop" and page.text("#ask") == ""
    assert page.texts(".bubble") == ["What is the capital of France?"]
    hold.set()
    finished(page)
    assert page.text(".prose") == "The capital is Paris." and page.text(".prose strong") == "Paris"
    assert page.value("document.querySelector('#send').ariaLabel") == "Send"
    assert messages(server) == [("user", "What is the capital of France?")]
    asked = {name: value for name, value in server.asked[0].items() if name != "messages"}
    assert asked == {"stream": True, "stream_options": {"include_usage": True}, "context_overflow": "drop_oldest", "temperature": 0.8, "top_k": 50,
                     "top_p": 1.0}  # fmt: skip
    assert "12 tokens" in page.value("document.querySelector('.speed').textContent")
    page.until("document.querySelector('#announcer').textContent.includes('The capital is Paris.')")  # for those who listen
    ask(page, "And of Spain?")
    assert messages(server)[1:] == [("assistant", "The capital is **Paris**."), ("user", "And of Spain?")]


def test_an_example_is_asked_with_a_click(page, server):
    page.click("#examples li:nth-child(2) button")
    finished(page)
    assert messages(server) == [("user", "What is 12 plus 30?")] and page.text("#chats a") == "What is 12 plus 30?"


def test_stop_keeps_what_came(page, server):
    server.answers.append(Answer(["One, two", threading.Event()]))
    page.write("#ask", "Count." + ENTER)
    page.until("document.querySelector('.prose')?.innerText === 'One, two'")
    page.click("#send")
    finished(page)
    assert server.left.wait(30)  # the server hears of it
    assert page.text(".prose") == "One, two" and page.text(".outcome") == "Stopped."
    ask(page, "Go on.")
    assert messages(server) == [("user", "Count."), ("assistant", "One, two"), ("user", "Go on.")]


def test_regenerate_and_choose_between_answers(page, server):
    server.answers += [Answer(["first"]), Answer(["second"]), Answer(["about the first"])]
    ask(page, "Say something.")
    page.click("[aria-label='Answer again']")
    page.until("document.querySelector('.prose').innerText === 'second'")
    finished(page)
    assert messages(server) == [("user", "Say something.")] and page.text(".pager") == "2 / 2"
    page.click("[aria-label='Previous answer']")
    assert page.text(".prose") == "first" and page.value("document.activeElement.ariaLabel") == "Next answer"
    ask(page, "More.")
    assert messages(server)[1] == ("assistant", "first") and page.count(".pager") == 0


def test_regenerate_further_up_can_be_undone(page, server):
    server.answers += [Answer(["first"]), Answer(["second"]), Answer(["third"])]
    ask(page, "one")
    ask(page, "two")
    page.hover(".turn .prose")
    page.click("[aria-label='Answer again']")
    page.until("document.querySelector('.prose').innerText === 'third'")
    assert page.count(".turn") == 1 and messages(server) == [("user", "one")]
    page.click("#toast button")
    page.until(lambda: page.texts(".prose") == ["first", "second"])


def test_edit_a_message_and_go_on_from_there(page, server):
    server.answers += [Answer(["first"]), Answer(["second"]), Answer(["third"])]
    ask(page, "one")
    ask(page, "two")
    page.hover(".turn .bubble")
    page.click("[aria-label='Edit message']")
    page.press(ESCAPE)
    assert page.texts(".bubble") == ["one", "two"]
    page.press(ENTER)  # the focus is back on the button
    page.press(" instead" + ENTER)
    page.until(lambda: page.texts(".prose") == ["third"])
    assert page.texts(".bubble") == ["one instead"] and messages(server) == [("user", "one instead")]
    page.click("#toast button")
    page.until(lambda: page.texts(".bubble") == ["one", "two"])


def test_a_tool_call_is_shown_and_comes_back_as_it_was(page, server):
    server.answers += [Answer(TOOL), Answer([("python", "6*7"), ("python_output", "42"), "It is 42."])]
    ask(page, "What is 12 plus 30?")
    assert page.text(".call").split() == ["12+30", "=", "42"] and page.text(".prose").startswith("Let me see:")
    assert page.value("document.querySelector('.call').ariaLabel") == "Calculator"
    assert page.count(".prose > p") == 1  # in the middle of a line it stays there
    ask(page, "And 6 times 7?")
    assert messages(server)[1] == ("assistant", TOOL_PARTS)
    assert page.count(".turn:last-child .prose > p") == 2  # at its beginning it has one for itself


def test_what_the_model_writes_never_runs(page, server):
    evil = """<img src=x onerror="window.pwned=1"> <script>window.pwned=2</script> <svg onload=window.pwned=3>

[click](javascript:window.pwned=4) [me](JAVASCRIPT:window.pwned=5) [too](  java&#115;cript:window.pwned=6) <javascript:window.pwned=7>
[data](data:text/html,<script>window.pwned=8</script>) ![picture](x" onerror="window.pwned=9) ![picture](http://127.0.0.1:9/x.png)
[tab](java\tscript:window.pwned=10) [fine](https://example.org/a) <https://example.org/b> https://example.org/c. [mail](mailto:a@example.org)

| <img src=x onerror=window.pwned=11> | b |
|---|---|
| [x](vbscript:window.pwned=12) | <b>no</b> |

```"><img src=x onerror=window.pwned=13>
</code></pre><script>window.pwned=14</script>
```
"""
    server.answers.append(Answer([evil[i : i + 7] for i in range(0, len(evil), 7)]))
    ask(page, "<img src=x onerror=window.pwned=0>")
    assert page.text(".bubble") == "<img src=x onerror=window.pwned=0>"
    assert page.value("typeof window.pwned") == "undefined"
    assert page.count("#turns :is(img, script, iframe, object, embed, style, form)") == 0
    links = page.value("[...document.querySelectorAll('#turns a')].map((a) => [a.href, a.rel, a.target])")
    assert [link[0] for link in links] == ["http://127.0.0.1:9/x.png", *(f"https://example.org/{x}" for x in "abc"), "mailto:a@example.org"]
    assert all(link[1:] == ["noopener noreferrer", "_blank"] for link in links)
    assert '<img src=x onerror="window.pwned=1">' in page.text(".prose") and "[click](javascript:window.pwned=4)" in page.text(".prose")
    attributes = page.value("[...document.querySelectorAll('#turns *')].flatMap((node) => node.getAttributeNames())")
    assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcdoc")]
    origins = page.value("[...new Set(performance.getEntriesByType('resource').map((entry) => new URL(entry.name).origin))]")
    assert origins == [server.url[:-1]]


# --- markdown --------------------------------------------------------------------------------------------------------

RENDER = """
const render = (text, step) => {
  const root = document.createElement("div"), show = markdown(root);
  for (let i = step; step && i < text.length; i += step) show(text.slice(0, i), true, []);
  show(text, false, []);
  return root.innerHTML;
};
"""
MARKDOWN = {
    "plain\ntwo lines": "<p>plain\ntwo lines</p>",
    "a **b** _c_ ***d*** ~~e~~ `f*g*`": "<p>a <strong>b</strong> <em>c</em> <em><strong>d</strong></em> <del>e</del> <code>f*g*</code></p>",
    "**a *b* c**": "<p><strong>a <em>b</em> c</strong></p>",
    "2 * 3 * 4, 2*3*4, a_b_c, 2 ** 3 ** 4": "<p>2 * 3 * 4, 2*3*4, a_b_c, 2 ** 3 ** 4</p>",
    "**open, `too": "<p>**open, `too</p>",
    r"\*not\* \[this\](x)": "<p>*not* [this](x)</p>",
    "`` a`b `` ` `": "<p><code>a`b</code> <code> </code></p>",
    "# One\n## Two\n###### Six\n#no": '<h3 class="h1">One</h3><h4 class="h2">Two</h4><h6 class="h6">Six</h6><p>#no</p>',
    "#### 42": '<h6 class="h4">42</h6>',
    "a\n\n---\n\n* * *\nb": "<p>a</p><hr><hr><p>b</p>",
    "- a\n- b\n  - c\n    more\n- d": "<ul><li><p>a</p></li><li><p>b</p><ul><li><p>c\nmore</p></li></ul></li><li><p>d</p></li></ul>",
    "3. a\n\n   b\n4. c\n\nd": '<ol start="3"><li><p>a</p><p>b</p></li><li><p>c</p></li></ol><p>d</p>',
    "1. a\n- b": '<ol start="1"><li><p>a</p></li></ol><ul><li><p>b</p></li></ul>',
    "> a\nb\n>\n> - c\n\nd": "<blockquote><p>a\nb</p><ul><li><p>c</p></li></ul></blockquote><p>d</p>",
    "a | b\n--|:-:\n1 | `x\\|y` | 3\n\nc": '<div tabindex="0" role="region" aria-label="Table" class="table">'
    '<table><thead><tr><th>a</th><th class="center">b</th></tr></thead>'
    '<tbody><tr><td>1</td><td class="center"><code>x|y</code></td></tr></tbody></table></div><p>c</p>',
    "[a **b**](https://x.org/?q=(1)) https://x.org/(2), (https://x.org/3)": '<p><a href="https://x.org/?q=(1)" T>a <strong>b</strong></a> '
    '<a href="https://x.org/(2)" T>https://x.org/(2)</a>, (<a href="https://x.org/3" T>https://x.org/3</a>)</p>',
    "a & b < c &amp; <br>": "<p>a &amp; b &lt; c &amp;amp; &lt;br&gt;</p>",
}
GROWS_ODDLY = "a\n---x\n- \n1.\n1. x\n\n\n  y\n|a|\n|-|x\n|a|\n|-|\n|b|\n**b\n**c** `d\n> - e\n>   f\n\n> g"
CODE = "text\n```python\nif a:\n\n    b = '`'\n``\n```\nafter\n~~~\n```\nopen"


@pytest.mark.parametrize("source", MARKDOWN, ids=lambda source: repr(source)[:40])
def test_markdown(page, source):
    wanted = MARKDOWN[source].replace(" T>", ' target="_blank" rel="noopener noreferrer">')
    attributes = re.sub(r'<div class="table"([^>]*)>', r'<div\1 class="table">', page.run(RENDER + "return render(...arguments)", source, 0))
    assert attributes == wanted


def test_code_blocks(page, server):
    server.answers.append(Answer([CODE]))
    ask(page, "Show me.")
    assert page.texts(".prose pre") == ["if a:\n\n    b = '`'\n``", "```\nopen"]
    assert [text.split() for text in page.texts(".prose figcaption")] == [["python", "Copy"], ["code", "Copy"]]
    page.run("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }")
    page.click(".code button")
    page.until("window.copied")
    assert page.value("window.copied") == "if a:\n\n    b = '`'\n``"


def test_streamed_markdown_ends_as_if_it_had_come_at_once(page):
    """Whatever the pieces are; and while it grows nothing fails."""
    texts = [*MARKDOWN, CODE, "\n\n".join(MARKDOWN), "\n".join(MARKDOWN), GROWS_ODDLY]
    for text in texts:
        whole = page.run(RENDER + "return render(...arguments)", text, 0)
        for step in (1, 2, 7):
            assert page.run(RENDER + "return render(...arguments)", text, step) == whole, (text, step)


def seconds(page: Browser, text: str, step: int = 0) -> float:
    """Of the page's own computing: what else the machine does is not counted."""

    def spent() -> float:
        return next(metric["value"] for metric in page.devtools("Performance.getMetrics")["metrics"] if metric["name"] == "ThreadTime")

    page.devtools("Performance.enable")
    begin = spent()
    page.run(RENDER + "render(...arguments)", text, step)
    return spent() - begin


AGAIN = (
    "*a ", "**a ", "_a ", "~~a ", "*a*", "***", "[", "[a](", '[a](b "', "![", "`", "``a`", "<", "http://", "\\", "| ", "|-", "> ", "- ", "#",
    "a\n", "- a\n", "  - a\n", "1. a\n\n", ">a\n", "|a|b|\n", "```\n",
)  # fmt: skip
BEFORE_THE_END = (("```", "a", "`"), ("` ", "a ", "`"), ("``` ", " ", "`"), ("**a", " ", ""), ("|", " ", "|"), ("http://a", ".", "/a"))


def test_no_text_takes_long(page):
    """Marks that nothing closes, deep nesting, and long answers that come in many pieces: all of them far from the square of their length."""
    texts = [again * (100_000 // len(again)) for again in AGAIN] + [begin + again * 100_000 + end for begin, again, end in BEFORE_THE_END]
    slow = {text[:10]: s for text in texts if (s := seconds(page, text)) > 5}
    assert not slow
    assert seconds(page, "Some **words** of `prose`, and more.\n\n- an item\n\n" * 8000, 100) < 10  # 400 KB
    assert seconds(page, "```\n" + "x = 1  # a line of code\n" * 8000, 100) < 10


# --- conversations ---------------------------------------------------------------------------------------------------


def test_a_reload_keeps_the_history(page, server):
    server.answers += [Answer(TOOL), Answer(["Madrid."])]
    ask(page, "What is 12 plus 30?")
    page.click("#new")
    page.until("!document.querySelector('#welcome').hidden")
    ask(page, "What is the capital of Spain?")
    page.command("POST", "/refresh")
    page.until(lambda: page.texts(".prose") == ["Madrid."])  # the conversation that was open is open
    assert page.texts("#chats a") == ["What is the capital of Spain?", "What is 12 plus 30?"]
    page.click("#chats li:nth-child(2) a")
    page.until("document.querySelector('.call')")
    assert page.text(".prose").split() == ["Let", "me", "see:", "12+30", "=", "42", "12", "+", "30", "=", "42."]
    page.command("POST", "/back")
    page.until(lambda: page.texts(".prose") == ["Madrid."])


def test_an_answer_that_a_reload_interrupts(page, server):
    server.answers.append(Answer(["half of", threading.Event()]))
    page.write("#ask", "Say it." + ENTER)
    page.until("document.querySelector('.prose')?.innerText === 'half of'")
    page.command("POST", "/refresh")
    page.until(lambda: page.texts(".prose") == ["half of"])
    assert "was lost" in page.text(".outcome")
    page.click(".outcome .link")
    page.until(lambda: page.texts(".prose") == ["yes"])


def test_an_answer_goes_on_while_another_conversation_is_read(page, server):
    hold = threading.Event()
    server.answers += [Answer(["slow", hold, "ly"]), Answer(["quick"])]
    page.write("#ask", "one" + ENTER)
    page.until("document.querySelector('.prose')?.innerText === 'slow'")
    page.click("#new")
    page.until("!document.querySelector('#welcome').hidden")
    page.write("#ask", "two" + ENTER)
    page.until("document.querySelector('.prose')?.innerText === 'quick'")
    assert page.count("#chats li.running") == 1
    hold.set()
    page.until("!document.querySelector('#chats li.running')")
    page.click("#chats li:nth-child(2) a")
    page.until("document.querySelector('.prose').innerText === 'slowly'")


def test_rename_and_delete(page, server):
    ask(page, "one")
    options(page, 0, "Rename")
    page.press("The first" + ENTER)
    page.until(lambda: page.texts("#chats a") == ["The first"])
    assert page.text("#title") == "The first" and page.value("document.title") == "The first · nanochat"
    options(page, 0, "Rename")
    page.press("Another")
    page.press(ESCAPE)
    page.command("POST", "/refresh")
    page.until(lambda: page.texts("#chats a") == ["The first"])
    options(page, 0, "Delete")
    page.until(lambda: page.count("#chats a") == 0 and page.text("#welcome h1"))
    page.click("#toast button")
    page.until(lambda: page.texts(".bubble") == ["one"])
    options(page, 0, "Delete")
    page.until(lambda: page.count("#chats a") == 0)
    page.command("POST", "/refresh")
    page.until("document.querySelector('#chats .none')")


def test_delete_all(page):
    ask(page, "one")
    page.click("#new")
    page.until("!document.querySelector('#welcome').hidden")
    ask(page, "two")
    page.click("#open-settings")
    page.click("#delete-all")
    page.until(lambda: page.count("#chats a") == 0)
    page.click("#toast button")
    page.until(lambda: page.count("#chats a") == 2)


def downloaded(page: Browser, name: str) -> str:
    path = page.downloads / name
    page.until(path.exists)
    return path.read_text(encoding="utf-8")


def test_exports_can_be_trained_on(page, server):
    server.answers += [Answer(TOOL), Answer(["**yes**"]), Answer([HANG_UP])]
    page.click("#open-settings")
    page.write("#system", "Be brief.")
    page.press(ESCAPE)
    ask(page, "What is 12 plus 30?")
    ask(page, "Sure?")
    ask(page, "No answer to this")
    expected = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 12 plus 30?"},
        {"role": "assistant", "content": TOOL_PARTS},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "**yes**"},
    ]
    options(page, 0, "Export as JSONL")
    assert json.loads(downloaded(page, "what-is-12-plus-30.jsonl")) == expected
    page.click("#new")
    page.until("!document.querySelector('#welcome').hidden")
    ask(page, "one")
    page.click("#open-settings")
    page.click("#export-all")
    downloaded(page, "nanochat.jsonl")
    conversations = CustomJSON(page.downloads / "nanochat.jsonl")
    assert len(conversations) == 2 and conversations[1] == {"messages": expected}
    page.press(ESCAPE)
    options(page, 1, "Export as Markdown")
    title, *said = downloaded(page, "what-is-12-plus-30.md").split("\n\n")
    assert title == "# What is 12 plus 30?" and said[:5] == ["**System**", "Be brief.", "**You**", "What is 12 plus 30?", "**d4**"]
    assert said[5] == "Let me see: `12+30` = `42`"


def test_storage_that_is_full_is_said(page, server):
    ask(page, "one")
    page.run("localStorage.setItem('filler', 'x'.repeat(5 * 1024 * 1024 - JSON.stringify(localStorage).length - 200))")
    server.answers.append(Answer(["a long answer " * 1000]))
    ask(page, "two")
    page.until("document.querySelector('#status').innerText.includes('storage is full')")
    assert page.texts(".bubble") == ["one", "two"]
    page.run("localStorage.removeItem('filler')")
    ask(page, "three")
    page.until("!document.querySelector('#status').innerText")
    page.command("POST", "/refresh")
    page.until(lambda: page.texts(".bubble") == ["one", "two", "three"])


def test_two_windows_show_the_same(page, server):
    ask(page, "one")
    first = page.command("GET", "/window")
    second = page.command("POST", "/window/new", type="tab")["handle"]
    page.command("POST", "/window", handle=second)
    page.open(server.url)
    page.until(lambda: page.texts("#chats a") == ["one"])
    page.click("#chats a")
    page.until(lambda: page.texts(".bubble") == ["one"])
    ask(page, "two")
    page.command("DELETE", "/window")
    page.command("POST", "/window", handle=first)
    page.until(lambda: page.texts(".bubble") == ["one", "two"])


# --- settings --------------------------------------------------------------------------------------------------------


FILL = """
for (const [name, value] of Object.entries(arguments[0])) {
  const field = document.getElementById(name);
  field.value = value;
  field.dispatchEvent(new Event("input"));
}
"""


def test_settings_are_sent_and_kept(page, server):
    page.click("#open-settings")
    numbers = ("temperature", "top_p", "top_k", "max_tokens")
    assert [page.value(f"document.querySelector('#{name}').value") for name in numbers] == ["0.8", "1", "50", ""]
    assert page.value("document.querySelector('#max_tokens').placeholder") == "64"
    page.run(FILL, {"temperature": "0", "top_p": "0.9", "top_k": "7", "max_tokens": "33", "system": "Be kind."})
    page.run(FILL, {"top_k": "-5", "max_tokens": "1000"})  # what cannot be is not taken over
    page.press(ESCAPE)
    page.command("POST", "/refresh")
    page.until("document.querySelector('#about').textContent.includes('d4')")
    ask(page, "one")
    assert [server.asked[0][name] for name in numbers] == [0, 0.9, 7, 33]
    assert messages(server) == [("system", "Be kind."), ("user", "one")]
    page.click("#open-settings")
    page.click("#reset")
    page.press(ESCAPE)
    ask(page, "two")
    assert server.asked[1]["temperature"] == 0.8 and server.asked[1]["top_k"] == 50 and "max_tokens" not in server.asked[1]
    assert messages(server)[0] == ("user", "one")


def test_light_and_dark(page):
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.value(colour)
    page.prefer(color_scheme="dark")
    page.until(f"{colour} !== '{light}'")
    dark = page.value(colour)
    page.click("#switch-theme")
    page.until(f"{colour} === '{light}'")
    page.command("POST", "/refresh")
    assert page.value(colour) == light
    page.click("#open-settings")
    page.click("[name=theme][value=system]")
    page.until(f"{colour} === '{dark}'")
    assert page.value("document.querySelector('meta[name=theme-color]').content") == dark


CONTRAST = """
const probe = document.body.appendChild(document.createElement("i"));
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const luminance = (name) => {
  probe.style.color = `var(--${name})`;
  canvas.fillStyle = getComputedStyle(probe).color;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((x) => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const result = arguments[0].map(([front, back]) => {
  const [a, b] = [luminance(front), luminance(back)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
});
probe.remove();
return result;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page, scheme):
    """4.5 to 1 for text, 3 to 1 for the edges of fields (WCAG AA)."""
    page.prefer(color_scheme=scheme)
    texts = [(front, back) for front in ("ink", "muted", "accent") for back in ("paper", "side", "raised", "soft")]
    texts += [("ink", "tint"), ("accent", "tint"), ("on-accent", "accent"), ("alarm", "raised"), ("alarm", "soft")]
    wanted = dict.fromkeys(texts, 4.5) | dict.fromkeys([("edge", "raised"), ("edge", "paper")], 3)
    ratios = page.run(CONTRAST, list(wanted))
    low = {pair: ratio for pair, ratio in zip(wanted, ratios, strict=True) if ratio < wanted[pair]}
    assert not low


# --- sizes and hands -------------------------------------------------------------------------------------------------


def test_phone(page, server):
    page.resize(390, 844)
    server.answers.append(Answer(["| a | b | c | d |\n|---|---|---|---|\n| 1 | 2 | 3 | 4 |\n\n```\n" + "x" * 200 + "\n```\n\n" + "y" * 200]))
    ask(page, "A" + "h" * 100)
    outside = "[...document.querySelectorAll('#page *')].filter((node) => node.getBoundingClientRect().right > 391 && !node.closest('pre, .table'))"
    assert page.value("document.documentElement.scrollWidth") == 390 and page.value(outside) == []
    assert page.value("document.querySelector('#sidebar').inert") is True
    page.click("#open-sidebar")
    assert page.value("document.activeElement.id") == "close-sidebar" and page.value("document.querySelector('#page').inert") is True
    page.press(ESCAPE)
    assert page.value("document.activeElement.id") == "open-sidebar" and page.value("document.querySelector('#page').inert") is False
    page.click("#open-sidebar")
    page.until("document.querySelector('#sidebar').getBoundingClientRect().left === 0")
    page.click("#new")
    page.until("!document.querySelector('#welcome').hidden && document.querySelector('#sidebar').inert")
    page.click("#open-sidebar")
    page.until("document.querySelector('#sidebar').getBoundingClientRect().left === 0")
    page.click("#open-settings")
    page.until("document.querySelector('#settings').open")
    page.click("#settings .main")
    assert page.value("document.documentElement.scrollWidth") == 390


def test_the_sidebar_can_be_put_away(page):
    page.click("#close-sidebar")
    page.command("POST", "/refresh")
    page.until("document.querySelector('#about').textContent.includes('d4')")
    assert page.value("document.querySelector('#sidebar').inert") is True
    page.click("#open-sidebar")
    assert page.value("document.querySelector('#sidebar').inert") is False


def test_keyboard_only(page, server):
    hold = threading.Event()
    server.answers += [Answer(["first", hold]), Answer(["second"]), Answer(["third"])]
    assert page.value("document.activeElement.id") == "ask"
    page.press("one")
    page.press(SHIFT, ENTER)
    page.press("more" + ENTER)
    page.until("document.querySelector('.prose')?.innerText === 'first'")
    assert messages(server) == [("user", "one\nmore")]
    page.press(ESCAPE)
    finished(page)
    page.press(UP)  # edits the last message
    page.until("document.activeElement.ariaLabel === 'Edit message'")
    page.press(" two" + ENTER)
    page.until(lambda: page.texts(".prose") == ["second"])
    assert messages(server) == [("user", "one\nmore two")] and page.value("document.activeElement.id") == "ask"
    page.press(CONTROL, SHIFT, "o")
    page.until("!document.querySelector('#welcome').hidden && document.activeElement.id === 'ask'")
    page.press(SHIFT, TAB)  # the last example
    assert page.value("document.activeElement.innerText") == "Who are you?"
    page.press(ENTER)
    page.until(lambda: page.texts(".prose") == ["third"])
    page.until("document.activeElement.id === 'ask'")
    page.run("document.querySelector('#chats li .icon').focus()")
    page.press(ENTER)
    page.until("document.activeElement.innerText === 'Rename'")
    page.press(DOWN)
    page.press(UP)
    page.press(UP)
    assert page.value("document.activeElement.innerText") == "Delete"
    page.press(ESCAPE)
    page.until("document.activeElement.ariaLabel === 'Options for Who are you?'")
    page.press("/")
    assert page.value("document.activeElement.id") == "ask" and page.value("document.querySelector('#ask').value") == ""


CONTROLS = ("button", "link", "textbox", "slider", "spinbutton", "radio", "dialog", "region")


def test_every_control_has_a_name(page, server):
    server.answers.append(Answer([*TOOL, "\n```\ncode\n```\n|a|b|\n|-|-|\n|1|2|"], dropped=2))
    ask(page, "one")
    for before, after in (("", ""), ("#open-settings", "#settings .main")):
        if before:
            page.click(before)
        nodes = [node for node in page.devtools("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
        controls = [node for node in nodes if node["role"]["value"] in CONTROLS]
        assert len(controls) > 8 and [node for node in controls if not node["name"]["value"]] == []
        if after:
            page.click(after)
    assert page.value("document.querySelector('#turns article h2').innerText") == "You"


def test_scrolling_yields_to_the_reader(page, server):
    hold, end = threading.Event(), threading.Event()
    gap = "(({scrollHeight, scrollTop, clientHeight}) => scrollHeight - scrollTop - clientHeight)(document.querySelector('#thread'))"
    server.answers.append(Answer(["line\n\n" * 60, hold, "line\n\n" * 60, end, "the end"]))
    page.write("#ask", "Much, please." + ENTER)
    page.until("document.querySelectorAll('.prose p').length === 60")
    page.until(f"{gap} < 4")  # it follows
    page.run("document.querySelector('#thread').scrollTop -= 300")
    page.until("!document.querySelector('#latest').hidden")
    hold.set()
    page.until("document.querySelectorAll('.prose p').length === 120")
    assert page.value(gap) > 1000  # it does not
    page.click("#latest")
    page.until(f"{gap} < 4")
    end.set()
    finished(page)
    page.until(f"{gap} < 4")


# --- when something is not as it should be ---------------------------------------------------------------------------


def test_the_server_goes_and_comes_back(page, server):
    server.answers += [Answer(["half of", threading.Event()]), Answer(["all of it"])]
    page.write("#ask", "Say it." + ENTER)
    page.until("document.querySelector('.prose')?.innerText === 'half of'")
    server.stop()
    page.until("document.querySelector('.outcome')?.innerText.includes('connection was lost')")
    page.until("document.querySelector('#status').innerText.includes('No connection')")
    assert page.text(".prose") == "half of"
    page.write("#ask", "a draft" + ENTER)  # stays in the field
    assert page.count(".turn") == 1
    server.start()
    page.until("!document.querySelector('#status').innerText")
    assert page.value("document.querySelector('#ask').value") == "a draft"
    page.click(".outcome .link")
    page.until(lambda: page.texts(".prose") == ["all of it"])
    assert page.text(".pager") == "2 / 2"  # what came before is kept


def test_a_stream_that_breaks_off(page, server):
    server.answers += [Answer(["half", HANG_UP]), Answer([{"error": {"message": "the model's weights are damaged", "type": "server_error"}}])]
    ask(page, "one")
    assert page.text(".prose") == "half" and "connection was lost" in page.text(".outcome")
    ask(page, "two")
    assert "the model's weights are damaged" in page.text(".turn:last-child .outcome")
    assert page.text("#status") == ""


def test_a_full_queue_is_waited_for(page, server):
    busy = Answer(status=429, headers={"Retry-After": "1"}, error={"code": "queue_full", "type": "rate_limit_error"})
    server.answers += [busy, busy._replace(headers={"Retry-After": "50"}), Answer(["at last"]), busy._replace(headers={"Retry-After": "50"})]
    page.write("#ask", "one" + ENTER)
    page.until("/Trying again in (4\\d|50)/.test(document.querySelector('.waiting')?.innerText)")  # after a second it has tried again by itself
    assert len(server.asked) == 2
    page.run("document.querySelector('.waiting .link').focus()")
    before = page.text(".waiting")
    page.until(lambda: page.text(".waiting") != before)  # it counts
    assert page.value("document.activeElement.innerText") == "Try now"  # and keeps still
    page.press(ENTER)
    page.until(lambda: page.texts(".prose") == ["at last"])
    page.write("#ask", "two" + ENTER)
    page.until("document.querySelector('.waiting .link')")
    page.click("#send")
    finished(page)
    assert page.text(".turn:last-child .outcome") == "Stopped." and len(server.asked) == 4


def test_a_model_that_is_being_loaded(browser, server):
    server.ready = False
    browser.open(server.url)
    browser.until("document.querySelector('#status').innerText.includes('being loaded')")
    browser.write("#ask", "one" + ENTER)
    assert server.asked == [] and browser.value("document.querySelector('#ask').value") == "one"
    server.ready = True
    browser.until("!document.querySelector('#send').disabled")
    server.answers.append(Answer(status=503, headers={"Retry-After": "1"}, error={"message": "draining"}))
    browser.press(ENTER)
    browser.until(lambda: browser.texts(".prose") == ["yes"])  # it waited, and asked again
    assert len(server.asked) == 2


def test_a_key_is_asked_for_once(browser, server):
    server.key = "open sesame"
    browser.open(server.url)
    browser.until("document.querySelector('#key').open")
    browser.press("wrong" + ENTER)
    browser.until("document.querySelector('#about-key').innerText.includes('not accepted')")
    browser.press(ESCAPE)
    browser.until("document.querySelector('#status').innerText.includes('asks for a key')")
    browser.click("#status .link")
    browser.until("document.activeElement.id === 'key-input'")
    browser.press("open sesame" + ENTER)
    browser.until("document.querySelector('#about').textContent.includes('d4')")
    browser.command("POST", "/refresh")
    browser.until("document.querySelector('#about').textContent.includes('d4')")
    server.key = "changed"  # while the page is open
    browser.write("#ask", "one" + ENTER)
    browser.until("document.activeElement.id === 'key-input'")
    browser.press("changed" + ENTER)
    browser.until(lambda: browser.texts(".prose") == ["yes"])


def test_the_context_is_full(page, server):
    too_long = {"code": "context_length_exceeded", "message": "a prompt of 300 tokens does not fit"}
    server.answers += [Answer(["first"]), Answer(["second"], dropped=2, finish="length"), Answer(status=400, error=too_long), Answer(["third"])]
    ask(page, "one")
    ask(page, "two")
    assert page.text(".turn:last-child .note") == "The oldest 2 messages no longer fit and were left out."
    assert page.text(".turn:last-child .outcome") == "Cut at the limit."
    ask(page, "far too long")
    assert "context of 256 tokens" in page.text(".turn:last-child .outcome")
    page.click(".outcome .link")
    page.press(BACKSPACE * 5 + ENTER)
    page.until(lambda: page.texts(".prose") == ["first", "second", "third"])
    assert messages(server)[-1] == ("user", "far too")


def test_other_errors_are_shown_as_they_are(page, server):
    server.answers.append(Answer(status=400, error={"message": "temperature must be a number from 0 on <b>"}))
    ask(page, "one")
    assert "temperature must be a number from 0 on <b>" in page.text(".outcome")
    page.click(".outcome .link")
    page.until(lambda: page.texts(".prose") == ["yes"])
    ask(page, "two")
    assert messages(server) == [("user", "one"), ("assistant", "yes"), ("user", "two")]


# --- the server that is nanochat's own -------------------------------------------------------------------------------


def test_with_the_real_server(browser, tokenizer, one_thread, monkeypatch):
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    engine = Engine(tiny_model(tokenizer.get_vocab_size(), 256), tokenizer, max_rows=1)
    with served(None, max_queue=0, context=256, max_tokens=12, temperature=0.0, api_key="open sesame") as server:
        browser.open(server.url)
        browser.until("document.querySelector('#status').innerText.includes('being loaded')")
        server.run(server.service.add, engine)
        browser.until("document.activeElement.id === 'key-input'")
        browser.press("open sesame" + ENTER)
        browser.until("document.querySelector('#about').textContent.includes('tiny, fine-tuned')")

        ask(browser, "Who are you?")
        _, _, expected = server.ask("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Who are you?"}]}, key="open sesame")
        shown = browser.value("current.turns[0].answers[0]")
        said = expected["choices"][0]["message"]["parts"]
        assert [(part["type"], part["text"]) for part in shown["parts"] if part["text"]] == [
            (part["type"], part["text"]) for part in said if part["text"]
        ]
        assert (shown["finish"], shown["tokens"]) == (expected["choices"][0]["finish_reason"], expected["usage"]["completion_tokens"])

        ask(browser, "more " * 100)
        assert "no longer fit" in browser.text(".turn:last-child .note")
        ask(browser, "more " * 400)
        assert "context of 256 tokens" in browser.text(".turn:last-child .outcome")

        with held(engine):  # one request has the only row, and there is no queue
            browser.write("#ask", "slow" + ENTER)
            browser.until("document.querySelectorAll('.turn').length === 4")
            server.until(lambda server: server.service.jobs)
            browser.click("#new")
            browser.until("!document.querySelector('#welcome').hidden")
            browser.write("#ask", "refused" + ENTER)
            browser.until("document.querySelector('.waiting')?.innerText.includes('busy')")
        finished(browser)
        assert browser.count(".outcome.alarm") == 0 and browser.text(".prose")
