"""Step 3: the geometric median, Weiszfeld's path to it, and what an outlier does to it and to the mean."""

from __future__ import annotations

import numpy as np

from fpgm_core.criteria import geometric_median
from fpgm_core.figures import lesson as figures
from fpgm_core.lesson.content import Picture, StepContext, StepView
from fpgm_core.lesson.controls import OUTLIER_START, MedianControls
from fpgm_core.lesson.toys import Points, as_filters, sum_of_distances, weiszfeld_path, with_outlier
from fpgm_core.runtime.words import Words


def show_median(context: StepContext, controls: MedianControls) -> StepView:
    """f as a contour, Weiszfeld's path on it, and how far mean and median have moved with the outlier."""
    words = context.words
    points, start = with_outlier(controls.away), with_outlier(OUTLIER_START)
    median, start_median = geometric_median(as_filters(points)), geometric_median(as_filters(start))
    mean, start_mean = np.mean(points, axis=0), np.mean(start, axis=0)
    path = weiszfeld_path(points, (float(mean[0]), float(mean[1])), steps=controls.taken)
    sums = [float(sum_of_distances(points, x=place[:1], y=place[1:])[0, 0]) for place in path]
    if context.revealed:
        picture = _contour_picture(points, path, sums, median=median.point.numpy(), words=words)
    else:
        picture = _covered_picture(points, mean=start_mean, median=start_median.point.numpy(), words=words)
    mean_moved = float(np.linalg.norm(mean - start_mean))
    median_moved = float((median.point - start_median.point).norm())
    conclusion = (
        words("median.moved", away=controls.away, home=OUTLIER_START, mean=mean_moved, median=median_moved),
        words("median.downhill", taken=controls.taken, above=max(0.0, sums[-1] / median.value - 1),
              least=median.value, at_mean=max(0.0, sums[0] / median.value - 1)),
    )  # fmt: skip
    alike = abs(mean_moved - median_moved) < 1e-9
    answer = "alike" if alike else "mean" if mean_moved > median_moved else "median"
    return StepView((picture,), conclusion, answer)


def _covered_picture(points: Points, *, mean: np.ndarray, median: np.ndarray, words: Words) -> Picture:
    """The outlier where it is, mean and median where they were before it went there."""
    figure = figures.outlier_figure(
        np.array(points), outlier=len(points) - 1, median=(median[0], median[1]), mean=(mean[0], mean[1]), words=words
    )
    return Picture("outlier", figure, words("median.outlier"))


def _contour_picture(
    points: Points, path: np.ndarray, sums: list[float], *, median: np.ndarray, words: Words
) -> Picture:
    """Weiszfeld's path (K, 2) from the mean, with f at each of its points."""
    x, y = np.linspace(-2, max(3.0, points[-1][0] + 0.5), 90), np.linspace(-2, 2, 60)
    figure = figures.median_figure(
        np.array(points),
        grid=(x, y, sum_of_distances(points, x=x, y=y)),
        path=path,
        median=(median[0], median[1]),
        mean=(path[0][0], path[0][1]),
        words=words,
    )
    table = {"k": list(range(len(path))), "x": path[:, 0].tolist(), "y": path[:, 1].tolist(), "f": sums}
    return Picture("contour", figure, words("median.contour"), table)
