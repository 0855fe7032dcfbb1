"""Every page read by somebody whose browser is Korean: nothing is English but names."""

import re

import pytest
from browsing import NEEDS_CHROMIUM, SETTLED, check_components
from view_states import resnet20_query

from pages.ui.panels.frame import PAGES
from pages.ui.session.language import words_of

pytestmark = NEEDS_CHROMIUM
KO, EN = words_of("ko"), words_of("en")
# All that is read or spoken: texts and the attributes that stand in for them, in shadows too; Streamlit's own menu
# and uploader speak the language of Streamlit.
READ = """() => {
  const found = [];
  const spoken = ["aria-label", "aria-valuetext", "title", "alt", "placeholder"];
  const own = ["stHeader", "stFileUploaderDropzone", "stTooltipIcon", "stElementToolbar"];
  const foreign = ["style", "script", "noscript", "pre", ".katex", ".react-aria-ComboBox button",
                   ...own.map((id) => `[data-testid=${id}]`)].join();
  const read = (node) => {
    if (node.nodeType === Node.TEXT_NODE) found.push(node.textContent.trim());
    if (node.nodeType === Node.ELEMENT_NODE) {
      if (node.matches(foreign)) return;
      found.push(...spoken.map((name) => node.getAttribute(name) ?? ""));
    }
    for (const child of [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes]) read(child);
  };
  read(document.querySelector("[data-testid=stApp]"));
  return found.filter(Boolean);
}"""
WORD = re.compile(r"(?<![\w./@=:-])[A-Za-z]{2,}(?![\w./=-])")
# What Streamlit's own widgets say.
STREAMLIT = re.compile(
    r"Choose an option|Choose options|Clear all|Remove |Selected values|\(required\)|Skip to main content|Close$|"
    r"Copy to clipboard|Press Enter to apply|Show/hide columns|Help for |(?:In|De)crement|^progress$"
)
# Names: of methods, formats, libraries, a key, a node of the network, folders, and in the references.
NAMES = {
    "CIFAR", "CSV", "Delete", "English", "FLOPs", "FPGM", "JSON", "MACs", "MiB", "ONNX", "OpenVINO", "PCA", "Python",
    "ResNet", "TensorRT", "UMAP", "add", "norm", "onnxruntime", "safetensors", "timm", "top", "torchvision", "train",
    "val", "zip",
}  # fmt: skip
NAMES |= {word for text in KO.under("references").values() for word in WORD.findall(text)}


def english(page):
    """The English words that are read on a page, each with a text that has it."""
    page.locator(SETTLED).wait_for(timeout=90_000)
    texts = page.evaluate(READ)
    assert any(re.search("[가-힣]", text) for text in texts)
    return {word: text for text in texts for word in WORD.findall(STREAMLIT.sub("", text)) if word not in NAMES}


@pytest.fixture(scope="module")
def korean(address, browser):
    page = browser.new_page(locale="ko-KR", viewport={"width": 1440, "height": 900})
    page.goto(f"{address}/?{resnet20_query()}")
    page.locator(".eq-unit").first.wait_for(timeout=90_000)
    page.locator(".pt").first.wait_for(timeout=90_000)
    yield page
    check_components(page)
    page.close()


def test_explore_is_korean_in_every_view(korean):
    found = english(korean)
    tabs = korean.locator(".pic-tabs [role=tab]")
    for number in range(tabs.count()):
        tabs.nth(number).click()
        korean.wait_for_timeout(500)
        found |= english(korean)
    korean.locator(".eq-toggle").click()
    found |= english(korean)
    assert found == {}


def test_menus_and_the_open_dialog_are_korean(korean):
    found = {}
    for key in ("more", "share"):
        korean.locator(f".st-key-{key} button").first.click()
        korean.wait_for_timeout(500)
        found |= english(korean)
        korean.keyboard.press("Escape")
    korean.locator(".st-key-open button").first.click()
    for number in range(2):
        korean.locator("[role=dialog] [role=tab]").nth(number).click()
        korean.wait_for_timeout(500)
        found |= english(korean)
    korean.keyboard.press("Escape")
    korean.locator("[role=dialog]").wait_for(state="hidden")
    assert found == {}


@pytest.mark.parametrize("name", [name.lower() for name in PAGES.values() if name != "Explore"])
def test_every_other_page_is_korean(korean, name):
    link = korean.locator(".st-key-navigation").get_by_role("link", name=KO(f"frame.{name}"), exact=True)
    link.click()
    korean.wait_for_function("title => document.title === title", arg=KO("frame.title", page=KO(f"frame.{name}")))
    korean.wait_for_timeout(1_000)
    assert english(korean) == {}
    assert korean.evaluate("document.documentElement.lang") == "ko"


def test_the_language_is_chosen_at_the_top_for_all_pages(korean):
    korean.locator(".st-key-navigation").get_by_text("English", exact=True).click()
    link = korean.locator(".st-key-navigation").get_by_role("link", name=EN("frame.explore"), exact=True)
    link.click()
    korean.locator(".eq-unit").first.wait_for(timeout=90_000)
    assert EN("live.hint") in korean.locator(".eq-hint").inner_text()
    assert korean.evaluate("document.documentElement.lang") == "en"
    assert "lang=en" in korean.url
