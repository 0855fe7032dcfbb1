"""The Learn page, driven headless: steps, predictions, controls, languages, links, plane, challenge, printing."""

import dataclasses

import pytest
from driving import again, opened, press, session_of, shown, until
from view_states import resnet20_view

from fpgm_core import Network
from fpgm_core.data import load_images
from fpgm_core.lesson import (
    LANGUAGES,
    PLANES,
    STEPS,
    TARGET_CUT,
    Evidence,
    LessonDocument,
    StepContext,
    get_step,
    known_evidence,
    macs_cut,
)
from fpgm_core.lesson.controls import CostControls, FilterControls, MedianControls, NormControls, PlaneControls
from fpgm_core.runtime.progress import Progress
from pages.ui import learn as learn_page
from pages.ui.components.page_keys import read_turn
from pages.ui.panels import challenge, lesson_top
from pages.ui.panels.sealed import times_seen
from pages.ui.session.language import words_of
from pages.ui.session.lesson_state import LessonState, link
from pages.ui.session.networks import images_of
from pages.ui.session.view_state import ViewState, encode

EN, KO = words_of("en"), words_of("ko")
PAGE = "pages/4_Learn.py"
TOYS = ("norms", "median", "reviewer", "agreement", "flops")


def unmeasured(network, images, training):
    """Work that comes to no evidence."""
    yield Progress(0.5)
    return Evidence()


@pytest.fixture(autouse=True)
def nothing_slow(monkeypatch):
    """What has to be measured comes at once, and is nothing: the library's own tests measure."""
    slow = dict.fromkeys(learn_page.MEASUREMENTS, unmeasured)
    monkeypatch.setattr(learn_page, "MEASUREMENTS", slow)


def learn(look=None, **query):
    """The page, opened by a link's query."""
    return opened(PAGE, s=encode(look or resnet20_view()), **query)


def widget(elements, label):
    return next(element for element in elements if element.label == label)


def texts(app):
    kinds = ("markdown", "caption", "header", "info", "success", "warning", "error")
    return "\n".join(shown(element.value) for kind in kinds for element in app.get(kind))


def lesson(app):
    return app.session_state["lesson"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("step", STEPS)
def test_every_step_opens_by_its_link_in_every_language(step, language):
    words = words_of(language)
    app = learn(step=step, lang=language)
    assert words(f"{step}.title") in app.header[0].value
    assert words(f"{step}.lead").split("\n")[0] in texts(app)
    assert words(f"{step}.do") in texts(app)
    other = next(name for name in LANGUAGES if name != language)
    assert words_of(other)(f"{step}.do") not in texts(app)
    if get_step(step).options:
        assert list(app.radio[0].options) == [words(f"{step}.{option}") for option in get_step(step).options]


@pytest.mark.parametrize("step", TOYS)
def test_the_answer_comes_after_the_prediction_and_follows_from_the_figures(step, resnet20):
    app = learn(step=step)
    shown = get_step(step).show(StepContext(resnet20, EN), get_step(step).controls())
    assert not any(sentence in texts(app) for sentence in shown.conclusion)
    assert EN("page.covered") in texts(app)
    wrong = next(option for option in get_step(step).options if option != shown.answer)
    app.radio[0].set_value(wrong).run()
    assert all(sentence in texts(app) for sentence in shown.conclusion)
    said = EN("page.you_said", said=EN(f"{step}.{wrong}"), answer=EN(f"{step}.{shown.answer}"))
    assert any(said in info.value and EN("page.wrong") in info.value for info in app.info)
    app.radio[0].set_value(shown.answer).run()
    assert any(EN("page.right") in success.value for success in app.success)


def test_the_answer_can_just_be_asked_for_and_the_step_begun_again():
    app = learn(step="median")
    press(app, "learn-show")
    assert EN("page.covered") not in texts(app)
    assert not app.info, "who did not say anything is not told to be wrong"
    assert not app.success
    widget(app.slider, EN("median.taken")).set_value(9).run()
    press(app, "learn-again")
    assert EN("page.covered") in texts(app)
    assert lesson(app).step_controls == MedianControls()


def test_controls_change_the_sentences_and_the_link(resnet20):
    app = learn(step="norms")
    press(app, "learn-show")
    before = get_step("norms").show(StepContext(resnet20, EN), NormControls()).conclusion[0]
    assert before in texts(app)
    widget(app.slider, EN("norms.deviation")).set_value(0.3).run()
    widget(app.slider, EN("norms.smallest")).set_value(0.0).run()
    wanted = NormControls(deviation=0.3, smallest=0.0)
    now = get_step("norms").show(StepContext(resnet20, EN), wanted)
    assert now.conclusion[0] in texts(app)
    assert before not in texts(app)
    again_ = learn(step="norms", c=app.query_params["c"])
    assert lesson(again_).step_controls == wanted


def test_back_and_forward_and_the_steps_above():
    app = learn(step="plane")
    assert app.button(key="learn-back").disabled
    press(app, "learn-forward")
    assert lesson(app).step == "norms"
    assert app.query_params["step"] == "norms"
    widget(app.get("button_group"), EN("page.title")).set_value("challenge").run()
    assert lesson(app).step == "challenge"
    assert app.button(key="learn-forward").disabled
    press(app, "learn-back")
    assert lesson(app).step == "zeros"


def test_keys_turn_the_page_once_a_message():
    app = learn(step="plane")
    app.session_state["page_keys"] = {"turn": {"seq": 5, "by": 1}}
    again(app)
    assert lesson(app).step == "norms"
    again(app)
    assert lesson(app).step == "norms"
    app.session_state["page_keys"] = {"turn": {"seq": 6, "by": -1}}
    again(app)
    assert lesson(app).step == "plane"


@pytest.mark.parametrize(
    "message", [None, 3, {}, {"seq": 1}, {"seq": 1, "by": 2}, {"seq": "1", "by": 1}, {"seq": True, "by": 1}]
)
def test_other_messages_turn_nothing(message):
    assert read_turn(message) is None


def test_a_bare_link_has_the_question_and_its_sliders_and_no_text():
    app = learn(step="norms", bare="1", c='{"rate":0.5}')
    assert [slider.label for slider in app.slider] == [
        EN(f"norms.{name}") for name in ("deviation", "smallest", "rate")
    ]
    assert app.radio
    assert lesson(app).step_controls == NormControls(rate=0.5)
    assert EN("page.step", number=2, count=10, minutes=3) in texts(app)
    for line in (*EN("norms.lead").splitlines(), EN("norms.do"), EN("norms.formula"), EN("check.a1")):
        assert line not in texts(app)
    assert not app.get("page_link")
    widget(app.slider, EN("norms.smallest")).set_value(0.2).run()
    assert lesson(app).step_controls.smallest == 0.2


@pytest.mark.parametrize("step", [name for name, step in STEPS.items() if step.explained])
def test_the_reason_waits_for_the_answer(step):
    app = learn(step=step)
    reasons = [line for line in EN(f"{step}.why").splitlines() if "$$" not in line]
    assert not [line for line in reasons if line in texts(app)]
    app.radio[0].set_value(get_step(step).options[0]).run()
    if not get_step(step).needs:
        assert all(line in texts(app) for line in reasons)


def test_a_control_of_the_answer_waits_for_it():
    app = learn(step="median")
    assert [slider.label for slider in app.slider] == [EN("median.away")]
    press(app, "learn-show")
    assert [slider.label for slider in app.slider] == [EN("median.away"), EN("median.taken")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_korean_is_set_as_korean_is(language):
    app = learn(step="plane", lang=language)
    styles = "".join(element.proto.body for element in app.get("html"))
    assert ("word-break: keep-all" in styles) == (language == "ko")
    assert ("em { font-style: normal" in styles) == (language == "ko")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"step": "nowhere"}, "unknown step 'nowhere'"),
        ({"step": "norms", "c": '{"rate":1.2}'}, "rate is 1.2"),
        ({"step": "norms", "c": "{"}, "damaged"),
        ({"step": "norms", "c": '{"away":2}'}, "another step"),
        ({"step": "norms", "lang": "xx"}, "not written in 'xx'"),
    ],
)
def test_a_damaged_link_says_so_and_opens_the_lesson(query, said):
    app = learn(**query)
    assert any(said in shown(error.value) for error in app.error)
    assert app.header


def test_a_filter_that_another_network_has_not_is_as_it_comes():
    app = learn(step="reviewer", c='{"layer":"layer3.2.conv2","filter":63}')
    assert widget(app.selectbox, EN("reviewer.layer")).value == "layer3.2.conv2"
    assert widget(app.selectbox, EN("reviewer.filter")).value == 63
    app = learn(step="reviewer", c='{"layer":"layer9.conv","filter":3}')
    assert lesson(app).controls["reviewer"] == FilterControls("layer9.conv", 3)
    assert not app.error
    assert widget(app.selectbox, EN("reviewer.layer")).value != "layer9.conv"


def test_another_layer_shows_its_own_filters(resnet20):
    app = learn(step="reviewer")
    widget(app.selectbox, EN("reviewer.layer")).set_value("conv1").run()
    shown = get_step("reviewer").show(StepContext(resnet20, EN), FilterControls("conv1"))
    assert widget(app.selectbox, EN("reviewer.filter")).value == shown.controls.filter
    other = (shown.controls.filter + 1) % 16
    widget(app.selectbox, EN("reviewer.filter")).set_value(other).run()
    assert lesson(app).step_controls == FilterControls("conv1", other)
    assert EN("reviewer.terms_covered", chosen=other, layer="conv1") in texts(app)


def test_the_language_changes_every_word():
    app = learn(step="median")
    widget(app.get("button_group"), EN("frame.language")).set_value("ko").run()
    assert KO("median.title") in app.header[0].value
    assert app.query_params["lang"] == "ko"
    assert EN("median.do") not in texts(app)


def test_the_language_goes_with_a_person_to_the_other_pages():
    app = learn(step="median", lang="ko")
    labels = [link.proto.label for link in app.get("page_link")]
    assert labels == [KO(f"frame.{name}") for name in ("learn", "explore", "choose", "recover", "export")]
    again(app.switch_page("pages/1_Export.py"))
    assert [link.proto.label for link in app.get("page_link")] == labels
    assert app.button(key="undo").help == KO("frame.undo")
    assert any(KO("live.accuracy") in element.proto.body for element in app.get("html"))


def test_another_network_is_opened_and_its_figures_shown():
    app = learn(step="norms")
    press(app, "learn-show")
    widget(app.selectbox, "Model").set_value("mobilenetv2_cifar").run()
    assert session_of(app).state.plan.model == "mobilenetv2_cifar"
    assert any("MobileNetV2" in sentence for sentence in texts(app).split("\n- "))


# --- the plane


def test_the_plane_shows_what_is_dropped_when_asked():
    app = learn(step="plane")
    facts = EN("plane.drops", norm="3, 7, 8", fpgm="2, 1, 0", shared=0, count=3)
    assert facts not in texts(app)
    press(app, "plane-reveal")
    assert facts in texts(app)
    app.session_state["plane"] = {"move": {"seq": 1, "points": [[x, y] for x, y in PLANES["around"]],
                                           "marked": [0, 4], "phase": "rest"}}  # fmt: skip
    again(app)
    assert lesson(app).step_controls == PlaneControls(PLANES["around"], (0, 4))
    assert EN("plane.yours_drops", yours="0, 4", with_norm=1, with_fpgm=1) in texts(app)
    assert EN("plane.agree") in texts(app)
    assert '"marked":[0,4]' in app.query_params["c"]


def test_an_arrangement_is_a_new_plane():
    app = learn(step="plane")
    widget(app.selectbox, EN("plane.arrangement")).set_value("groups").run()
    assert lesson(app).step_controls == PlaneControls(PLANES["groups"])
    assert lesson(app).revision == 2


def test_filters_are_added_and_removed_by_buttons_too():
    app = learn(step="plane", c='{"marked":[0,3]}')
    press(app, "plane-add")
    held = lesson(app).step_controls
    assert held.points[:-1] == PLANES["apart"]
    assert held.marked == (0, 3)
    press(app, "plane-remove")
    assert lesson(app).step_controls == PlaneControls(tuple(p for n, p in enumerate(held.points) if n not in (0, 3)))
    before = lesson(app).step_controls
    app = learn(step="plane", c='{"points":[[0,0],[1,1],[2,2],[3,0]],"marked":[1]}')
    press(app, "plane-remove")
    assert len(lesson(app).step_controls.points) == 4, "the plane keeps its least"
    assert len(before.points) == 8


# --- steps that measure


def test_a_network_without_weights_says_what_it_cannot_show(monkeypatch):
    look = resnet20_view()
    bare = Network.load("resnet110")
    look = ViewState(bare.plan(0.2, coupling=look.plan.coupling), "conv1")
    app = learn(look, step="cost")
    assert until(app, lambda: any(EN("page.only_trained") in warning.value for warning in app.warning))
    app = learn(look, step="flops")
    assert until(app, lambda: not session_of(app).is_arriving)
    assert not app.warning
    assert any(chart for chart in app.get("plotly_chart")), "the FLOPs need no weights"


def test_a_contest_that_is_not_at_hand_is_measured_when_asked(monkeypatch):
    asked = []

    def contest(network, images, training):
        asked.append(network)
        yield Progress(0.5)
        return Evidence()

    monkeypatch.setitem(learn_page.MEASUREMENTS, "contest", contest)
    monkeypatch.setattr(learn_page, "known_evidence", lambda network, need, **images: None)
    app = learn(step="cost")
    button = next(one for one in app.button if one.label == EN("page.measure_contest"))
    assert not asked
    button.click().run()
    assert until(app, lambda: asked)


def test_the_bundled_contest_is_shown_at_once_and_covers_the_criteria(resnet20):
    app = learn(step="cost")
    assert until(app, lambda: len(app.get("plotly_chart")) == 1)
    assert any("ten random draws" in caption.value for caption in app.caption)
    press(app, "learn-show")
    assert until(app, lambda: len(app.get("plotly_chart")) == 2)
    widget(app.get("button_group"), EN("cost.rung")).set_value("repaired").run()
    assert lesson(app).step_controls == CostControls("repaired")
    images, training = (load_images("cifar10", split) for split in ("choose", "train"))
    known = known_evidence(resnet20, "contest", images=images, training=training)
    shown = get_step("cost").show(StepContext(resnet20, EN, known), CostControls("repaired"))
    assert all(sentence in texts(app) for sentence in shown.conclusion)


# --- the challenge


def test_a_plan_is_handed_in_once_it_cuts_enough_and_judged_on_choose_alone(monkeypatch):
    asked = set()

    def few(network, split):
        asked.add(split)
        return images_of(network, split).first(150 if split == "choose" else 300)

    monkeypatch.setattr(challenge, "images_of", few)
    app = learn(step="challenge")
    cut = macs_cut(session_of(app).network.prune(session_of(app).state.plan))
    assert app.button(key="hand_in").disabled == (cut < TARGET_CUT)
    widget(app.selectbox, EN("challenge.begin")).set_value("uniform_10%").run()
    assert app.button(key="hand_in").disabled
    widget(app.selectbox, EN("challenge.begin")).set_value("uniform_50%").run()
    widget(app.get("button_group"), EN("cost.rung")).set_value("as_is").run()
    assert not app.button(key="hand_in").disabled
    press(app, "hand_in")
    assert until(app, lambda: app.dataframe, 60)
    table = app.dataframe[0].value
    session = session_of(app)
    (judged,) = app.session_state["attempts"].values()
    assert judged.measurement.num_images == 150
    assert judged.method == "as_is"
    assert table[EN("challenge.choose")].tolist() == [round(judged.measurement.accuracy.value * 100, 2)]
    cut = macs_cut(session.network.prune(session.state.plan))
    assert table[EN("challenge.cut")].tolist() == [round(cut * 100, 1)]
    assert any("On choose:" in info.value for info in app.info)
    plan, method = session.state.plan.key, session.state.method
    assert (asked, times_seen(f"{plan} {method}")) == ({"choose", "train"}, 0)  # sealed is for the report, which counts
    press(app, "report_sealed")
    assert times_seen(f"{plan} {method}") == 1


# --- the course and its links


def test_a_link_carries_the_whole_course(resnet20):
    held = LessonState(step="reviewer", bare=True).with_controls(FilterControls("conv1", 3))
    query = link(held, resnet20_view())
    app = opened(PAGE, **query)
    assert {field.name: getattr(lesson(app), field.name) for field in dataclasses.fields(held)} == {
        field.name: getattr(held, field.name) for field in dataclasses.fields(held)
    }
    assert session_of(app).state == resnet20_view()
    assert "c" not in link(held, resnet20_view(), "cost"), "what is not set is not carried"


def test_the_printed_lesson_is_written_in_the_background(monkeypatch):
    def document_work(network, language, **options):
        yield Progress(0.5)
        return LessonDocument("<html></html>", "<html>answers</html>")

    monkeypatch.setattr(lesson_top, "document_work", document_work)
    app = learn(step="plane")
    next(one for one in app.button if one.label == EN("page.print")).click().run()
    assert until(app, lambda: len(app.get("download_button")) == 3)  # and the plan, in the bar
    labels = [button.proto.label for button in app.get("download_button")]
    assert labels[-2:] == [EN("page.download_worksheet"), EN("page.download_answers")]
