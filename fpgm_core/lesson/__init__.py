"""The lesson: norm against redundancy in eight steps, every figure computed on the network at hand."""

from fpgm_core.lesson.challenge import TARGET, Judged, cut_of, judge_steps
from fpgm_core.lesson.content import Found, Picture, Scene, Shown, Step
from fpgm_core.lesson.controls import Controls, FilterControls, PlaneControls, pack, unpack
from fpgm_core.lesson.document import document_steps
from fpgm_core.lesson.steps import MEASUREMENTS, STEPS, at_hand, can_measure, get_step, joined
from fpgm_core.lesson.toys import PLANES, plane_facts
from fpgm_core.lesson.words import LANGUAGES, Words, words_of

__all__ = [
    "LANGUAGES",
    "MEASUREMENTS",
    "PLANES",
    "STEPS",
    "TARGET",
    "Controls",
    "FilterControls",
    "Found",
    "Judged",
    "Picture",
    "PlaneControls",
    "Scene",
    "Shown",
    "Step",
    "Words",
    "at_hand",
    "can_measure",
    "cut_of",
    "document_steps",
    "get_step",
    "joined",
    "judge_steps",
    "pack",
    "plane_facts",
    "unpack",
    "words_of",
]
