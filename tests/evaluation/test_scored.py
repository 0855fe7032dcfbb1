"""A metric of one's own, paired image by image, with the bootstrap's intervals."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fpgm_core import EvaluationConfig, FpgmError, Network, evaluate, recover
from fpgm_core.data import load_images
from fpgm_core.evaluation import bootstrap_mean, scored_work

CPU = EvaluationConfig(device="cpu")


@pytest.fixture(scope="module")
def images():
    return load_images("cifar10", "choose").first(120)


def is_right(model, batch):
    x, labels = batch
    return (model(x).argmax(1) == labels).float()


def test_accuracy_as_a_metric_is_the_accuracy(resnet20, images):
    pruned = resnet20.prune(0.3, coupling="inner")
    found, expected = evaluate(pruned, images, CPU, score=is_right), evaluate(pruned, images, CPU)
    assert found.score.value == expected.accuracy.value
    assert found.dense_score.value == expected.dense_accuracy.value
    assert found.change.value == pytest.approx(expected.change.value)
    assert found.scores.tolist() == expected.right.tolist()
    for ours, theirs in ((found.score, expected.accuracy), (found.change, expected.change)):
        assert abs(ours.low - theirs.low) < 0.03
        assert abs(ours.high - theirs.high) < 0.03
    assert (found.state, found.num_images, found.device) == ("exact", 120, "cpu")


class Segments(nn.Module):
    """Two maps of the picture's size, in a dictionary as torchvision's segmentation networks have it."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.b, self.out = nn.Conv2d(12, 12, 3, padding=1), nn.Conv2d(12, 2, 1)
        self.aux = nn.Conv2d(12, 2, 1)

    def forward(self, x):
        x = torch.relu(self.b(torch.relu(self.norm(self.a(x)))))
        return {"out": self.out(x), "aux": self.aux(x)}


@pytest.fixture(scope="module")
def segmenting():
    torch.manual_seed(0)
    return Network.from_module(Segments(), (3, 32, 32))


def nearness(model, batch):
    """How near a map is to the one that is wanted: 0 at best."""
    x, wanted = batch
    return -(model(x)["out"] - wanted).square().mean((1, 2, 3))


def test_a_network_of_several_outputs_is_judged_by_a_metric(segmenting, images):
    x = images.normalised(0, 60)
    with torch.no_grad():
        wanted = segmenting.module(x)["out"]  # what the dense network says is the truth
    loader = DataLoader(TensorDataset(x, wanted), batch_size=25)
    pruned = segmenting.prune(0.5, coupling="coupled")
    found = evaluate(pruned, loader, CPU, score=nearness)
    assert found.num_images == 60
    assert found.dense_score.value == pytest.approx(0, abs=1e-10)
    assert found.change.high < 0
    training = load_images("cifar10", "train").first(150)
    repaired = evaluate(recover(pruned, "repaired", training, device="cpu"), loader, CPU, score=nearness)
    assert (repaired.method, repaired.recovery_images) == ("repaired", 120)
    assert repaired.against(found).low > 0
    with pytest.raises(FpgmError, match=r"give evaluate\(\) a score of your own"):
        evaluate(pruned, images)


def test_repair_of_several_outputs_is_watched_by_how_near_they_are(segmenting):
    training = load_images("cifar10", "train").first(150)
    step = recover(segmenting.prune(0.5, coupling="coupled"), "repaired", training, device="cpu").recovery[-1]
    assert sum(step.details["right"].values()) == step.details["watched"] == 30
    assert step.details["says"] == "nearer the dense network on"


class Counted(nn.Module):
    """A network around another: it answers with something else than its part."""

    def __init__(self):
        super().__init__()
        self.body, self.head = Segments(), nn.Conv2d(2, 5, 1)

    def forward(self, x):
        return {"boxes": self.head(self.body(x)["out"])}


def test_a_network_that_is_part_of_another_is_judged_by_the_whole(images):
    torch.manual_seed(0)
    network = Network.from_module(Counted(), (3, 32, 32), part="body")
    asked = []

    def channels(model, batch):
        boxes = model(batch[0])["boxes"]
        asked.append(boxes.shape[1])
        return boxes.mean((1, 2, 3))

    found = evaluate(network.prune(0.5, coupling="coupled"), images.first(20), CPU, score=channels)
    assert (found.num_images, asked) == (20, [5, 5])
    assert found.change.value != 0


def test_it_is_streamed(resnet20, images):
    steps = list(scored_work(resnet20.prune(0.2), images, is_right, device="cpu"))
    assert [step.partial.num_images for step in steps] == [100, 120]
    assert [step.partial.state for step in steps] == ["measuring"] * 2
    assert [step.share for step in steps] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda model, batch: 1.0, r"of shape \(B,\)"),
        (lambda model, batch: torch.zeros(3, 2), r"of shape \(B,\)"),
        (lambda model, batch: [float("nan")] * len(batch[0]), "not finite"),
        (
            lambda model, batch: np.zeros(int(len(batch[0]) - (model is not None) * np.random.randint(1, 9))),
            "one an image",
        ),
    ],
)
def test_scores_that_are_none(resnet20, images, score, message):
    np.random.seed(0)
    with pytest.raises(FpgmError, match=message):
        evaluate(resnet20.prune(0.2), images, CPU, score=score)


def test_what_cannot_be_scored(resnet20, images):
    pruned = resnet20.prune(0.2)
    with pytest.raises(FpgmError, match="there are no images to score"):
        evaluate(pruned, [], CPU, score=is_right)
    with pytest.raises(FpgmError, match="measured in float32"):
        evaluate(pruned, images, EvaluationConfig(precision="bfloat16"), score=is_right)
    with pytest.raises(FpgmError, match="accuracy is measured on an ImageSet, not a list"):
        evaluate(pruned, [images], CPU)
    one, other = (evaluate(pruned, images.first(n), CPU, score=is_right) for n in (5, 6))
    with pytest.raises(FpgmError, match="cannot be paired"):
        one.against(other)


def test_the_bootstrap_is_seeded_and_near_the_normal_interval():
    values = np.random.RandomState(0).normal(2.0, 1.0, 400)
    found = bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert found == bootstrap_mean(values)
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
    assert bootstrap_mean(np.array([3.0])) == bootstrap_mean(np.array([3.0, 3.0]))
