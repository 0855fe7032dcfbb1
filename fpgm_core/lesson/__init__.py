"""The lesson: norm against redundancy in ten steps, every figure computed on the network on screen."""

from fpgm_core.lesson.content import Evidence, Picture, Step, StepContext, StepView
from fpgm_core.lesson.controls import Controls, FilterControls, PlaneControls, pack, unpack
from fpgm_core.lesson.document import LessonDocument, document_work
from fpgm_core.lesson.evidence import MEASUREMENTS, combined, known_evidence
from fpgm_core.lesson.markup import STYLES
from fpgm_core.lesson.steps import STEPS, get_step
from fpgm_core.lesson.steps.challenge import TARGET_CUT, Verdict, judge_work, macs_cut
from fpgm_core.lesson.steps.replaceable import layer_says, network_says
from fpgm_core.lesson.toys import PLANES, plane_facts
from fpgm_core.lesson.words import words_of
from fpgm_core.runtime.words import LANGUAGES, Words

__all__ = [
    "LANGUAGES",
    "MEASUREMENTS",
    "PLANES",
    "STEPS",
    "STYLES",
    "TARGET_CUT",
    "Controls",
    "Evidence",
    "FilterControls",
    "LessonDocument",
    "Picture",
    "PlaneControls",
    "Step",
    "StepContext",
    "StepView",
    "Verdict",
    "Words",
    "combined",
    "document_work",
    "get_step",
    "judge_work",
    "known_evidence",
    "layer_says",
    "macs_cut",
    "network_says",
    "pack",
    "plane_facts",
    "unpack",
    "words_of",
]
