"""One meaning, one colour, one shape, everywhere; safe for colour-blind eyes (Okabe and Ito)."""

from __future__ import annotations

KEPT = "#0072B2"
PRUNED = "#D55E00"
MEDIAN = "#CC79A7"
QUIET = "#8a8f98"
OUTLINE = "#E69F00"

PRUNED_SYMBOL = "x"
MEDIAN_SYMBOL = "star"
SERIES = (KEPT, PRUNED, "#009E73", MEDIAN, OUTLINE, "#56B4E9")
