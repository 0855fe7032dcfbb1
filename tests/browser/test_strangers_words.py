"""What strangers choose is plain text in a real browser: no link, picture, heading, formula, colour or icon."""

import base64
import json
import zlib

import pytest
from browsing import NEEDS_CHROMIUM
from view_states import resnet20_view

from pages.ui.components.telling import LONGEST
from pages.ui.session.view_state import encode

pytestmark = NEEDS_CHROMIUM
HOSTILE = (
    "[click](https://evil.example/a) ![see](https://evil.example/i.png) <https://evil.example>",
    "https://evil.example www.evil.example mail@evil.example mailto:mail@evil.example",
    "# heading ## another --- ___ *** | a | b |",
    "**bold** _italic_ ~~struck~~ `code` ``` fence",
    "<b>html</b><img src=x onerror=alert(1)><script>alert(1)</script> &lt;b&gt; &#60;i&#62;",
    "$x^2$ $$y$$ \\(z\\) :material/home: :red[colour] :cat: :smile: :small[tiny] ::: note",
    "1. one 2) two - three + four > five [x] [^1] [a]: https://evil.example",
    "\\[escaped\\](https://evil.example) \\\\ \\* -> <- -- >= <= ~=",
)
FOREIGN = (
    "a, img, h1, h2, h3, h4, ul, ol, table, code, pre, em, strong, del, blockquote, hr, .katex, script, "
    "[data-testid=stIconMaterial]"
)


def link_of(model):
    """A link that names a model which is not there; what is wrong with it is said in its own words."""
    text = encode(resnet20_view())
    content = json.loads(zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
    content["plan"]["model"] = model
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(content).encode())).decode().rstrip("=")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_links_words_are_shown_as_they_are(address, browser, text):
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.goto(f"{address}/?s={link_of(text)}")
    box = page.locator("[data-testid=stAlert]").first
    box.wait_for(timeout=90_000)
    said = box.inner_text().replace("\u2060", "")
    inside = box.locator("[data-testid=stMarkdownContainer]")
    assert repr(text)[1:-1] in said or text in said
    assert len(said) <= LONGEST
    assert inside.locator(FOREIGN).count() == 0, inside.inner_html()
    assert not any("evil.example" in url for url in asked if not url.startswith(address))
    page.close()
