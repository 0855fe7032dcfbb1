"""The Open dialog in Chromium: somebody's checkpoint, somebody's images, a network that lives in a process."""

import io
import zipfile

import pytest
import torch
from browsing import NEEDS_CHROMIUM, card, check_components, state_of, until
from PIL import Image
from safetensors.torch import save

from fpgm_core import Network
from fpgm_core.data import load_images

pytestmark = NEEDS_CHROMIUM


def give(page, key, name, content):
    page.locator(f".st-key-{key} input[type=file]").set_input_files(
        {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    )


def opened(page):
    page.get_by_role("button", name="Open …").click()
    page.get_by_role("dialog").wait_for()
    return page


def is_closed(page):
    return page.get_by_role("dialog").count() == 0


def own_checkpoint():
    """ResNet-20 with a class fewer, as a wrapper saves it."""
    network = Network.load("resnet20")
    state = {f"module.{name}": tensor.clone() for name, tensor in network.module.state_dict().items()}
    for part in ("weight", "bias"):
        state[f"module.fc.{part}"] = state[f"module.fc.{part}"][:9].clone()
    return save(state)


def folders(per_class=6):
    images = load_images("cifar10", "choose")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number, name in enumerate(images.class_names):
            for index in torch.nonzero(images.labels == number)[:per_class, 0]:
                picture = io.BytesIO()
                Image.fromarray(images.pixels[index].numpy()).save(picture, "PNG")
                archive.writestr(f"photos/{name}/{int(index)}.png", picture.getvalue())
    return content.getvalue()


def test_a_checkpoint_of_ones_own_opens_and_its_link_opens_again(page, browser):
    opened(page)
    give(page, "open_file", "mine.safetensors", own_checkpoint())
    page.get_by_role("button", name="Open mine.safetensors").click()
    assert until(lambda: is_closed(page), 90)
    assert until(lambda: state_of(page).plan.fingerprint != Network.load("resnet20").fingerprint, 30)
    other = browser.new_page()
    other.goto(page.url)
    assert until(lambda: other.locator(".eq-unit").count() == page.locator(".eq-unit").count(), 60)
    assert "other weights" not in other.inner_text("body")
    check_components(other)
    lately(other)
    other.close()


def lately(page):
    """What was opened before stands in the dialog, and opens again at once where it is chosen."""
    wanted = state_of(page).plan.fingerprint
    choose(page, page.get_by_label("Model"), "MobileNetV2")
    assert until(lambda: state_of(page).plan.model == "mobilenetv2_cifar", 60)
    choose(opened(page), page.get_by_role("dialog").get_by_label("Opened lately"), "resnet20 · mine.safetensors")
    assert until(lambda: is_closed(page), 90)
    assert until(lambda: state_of(page).plan.fingerprint == wanted, 30)


def choose(page, menu, text):
    menu.click()
    page.get_by_role("option", name=text).first.click()


def test_a_checkpoint_opens_at_the_size_of_its_images(page):
    dialog = opened(page).get_by_role("dialog")
    give(page, "open_file", "small.safetensors", own_checkpoint())
    dialog.get_by_role("textbox", name="Input size").fill("24x20")
    page.keyboard.press("Tab")
    dialog.get_by_text("--input-size 24x20").wait_for()
    page.get_by_role("button", name="Open small.safetensors").click()
    assert until(lambda: is_closed(page), 90)
    dense = Network.load("resnet20", input_shape=(3, 24, 20)).dense_cost.macs
    assert until(lambda: card(page, "MACs").count(f"of {dense - 64:,}"), 30), "a class fewer: 64 MACs"


def test_a_file_that_is_none_is_refused_in_the_dialog_and_all_stays(page):
    before = state_of(page)
    opened(page)
    give(page, "open_file", "broken.pt", b"PK\x03\x04 no checkpoint")
    page.get_by_role("button", name="Open broken.pt").click()
    alert = page.get_by_role("dialog").get_by_role("alert")
    alert.first.wait_for(timeout=60_000)
    assert "broken.pt" in alert.first.inner_text()
    assert "Traceback" not in page.inner_text("body")
    assert state_of(page) == before


def test_a_zip_of_folders_is_measured_on(page):
    opened(page).get_by_role("tab", name="Images").click()
    give(page, "open_images", "photos.zip", folders())
    page.get_by_role("button", name="Read photos.zip").click()
    assert until(lambda: is_closed(page), 90)
    assert until(lambda: state_of(page).data.startswith("own-"), 30)
    assert until(lambda: "exact" in card(page, "Accuracy on choose"), 90)
    assert "no training images beside photos" in page.inner_text("body")
    opened(page).get_by_role("tab", name="Images").click()
    page.get_by_role("button", name="Back to the network's own images").click()
    assert until(lambda: state_of(page).data == "", 30)


@pytest.mark.thorough
def test_a_network_of_torchvision_opens_by_name(page):
    opened(page).get_by_role("dialog").get_by_role("combobox", name="Network").fill("mnasnet0_5")
    page.get_by_role("option", name="mnasnet0_5").first.click()
    page.get_by_role("dialog").get_by_text("fpgm layers mnasnet0_5").wait_for()  # the choice has reached the server
    page.get_by_role("button", name="Open this network").click()
    assert until(lambda: is_closed(page), 120)
    assert until(lambda: state_of(page).plan.model == "mnasnet0_5", 60)
    notice = page.inner_text("body")
    assert "FPGM_HOME/weights/mnasnet0_5.safetensors" in notice, "without this machine's folder"
