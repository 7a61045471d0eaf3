"""Training from stored patch features is training with the extractor in evaluation mode, without its cost."""

import numpy as np
import pytest
import torch

from tests.made import pack_of
from tests.published import RECIPE
from xpronet.data.dataset import StudyDataset
from xpronet.model.losses import Objective
from xpronet.model.writing import write_reports
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.training import frozen
from xpronet.training.frozen import freeze
from xpronet.training.loop import train

CONFIG = ModelConfig(
    vocab_size=9, backbone="resnet18", d_model=16, d_ff=16, heads=2, layers=1, n_prototypes=2, d_prototype=8, gamma=2
)
VIEWS = [[0, 1], [2], [3, 4], [5], [6]]
STORING = {"crops": 2, "batch_size": 2, "device": torch.device("cpu")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    pictures = np.random.default_rng(1).integers(0, 256, (7, 80, 90), np.uint8)
    return StudyDataset(
        pack_of(tmp_path_factory.mktemp("frozen"), pictures, resize=70, crop=64),
        VIEWS,
        tokens=[[0, 3, 4, 0], [0, 5, 6, 0], [0, 7, 0], [0, 8, 9, 0], [0, 1, 0]],
        labels=np.eye(14, dtype=np.float32)[[2, 13, 4, 2, 7]],
        augment=True,
        seed=3,
    )


def model() -> XProNet:
    torch.manual_seed(0)
    return XProNet(CONFIG)


class EveryCrop(StudyDataset):
    """The pixels of which the stored features are."""

    def __init__(self, dataset: StudyDataset):
        vars(self).update(vars(dataset))

    def views(self, epoch: int, study: int) -> np.ndarray:
        return super().views(epoch % STORING["crops"], study)


def trained(network: XProNet, dataset: StudyDataset, first: StudyDataset, *, freeze_epochs: int):
    history = train(
        network,
        dataset,
        RECIPE.model_copy(update={"epochs": 3, "batch_size": 2, "lr": 1e-3, "freeze_epochs": freeze_epochs}),
        Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1),
        frozen=first,
        validate=lambda model: dict.fromkeys(("BLEU_1", "BLEU_4", "METEOR"), 0.5),
        save=lambda model: None,
        seed=1,
        device=torch.device("cpu"),
    )
    return network.state_dict(), [row["total"] for row in history]


@pytest.mark.parametrize("freeze_epochs", [3, 2])
def test_stored_features_train_what_the_extractor_in_evaluation_mode_trains(dataset, tmp_path, freeze_epochs):
    """For two epochs, or all three, the third with the first crop again.

    Losses, and every weight that has a true gradient: key biases have none, and what Adam makes of rounding there, or
    in a whole ResNet, is chance.
    """
    stored = freeze(model(), dataset, tmp_path, **STORING)
    weights, losses = trained(model(), dataset, stored, freeze_epochs=freeze_epochs)
    expected, expected_losses = trained(model(), dataset, EveryCrop(dataset), freeze_epochs=freeze_epochs)
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    start = model().state_dict()
    for name, tensor in weights.items():
        if name.startswith("visual.") and freeze_epochs == 3:
            assert torch.equal(tensor, start[name]), name  # running statistics too
        elif freeze_epochs == 3 and not name.endswith("key.bias"):
            torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4, msg=name)
    if freeze_epochs == 2:
        assert not torch.equal(weights["visual.layers.0.weight"], start["visual.layers.0.weight"])
        assert weights["visual.layers.1.num_batches_tracked"] > 0


def test_reports_from_stored_features_are_those_from_pictures(dataset, tmp_path):
    plain = StudyDataset(dataset.pack, VIEWS, labels=dataset.labels)
    network = model().eval()
    stored = freeze(network, plain, tmp_path, **{**STORING, "crops": 1})
    options = {"beam_size": 2, "max_length": 6, "batch_size": 3, "device": torch.device("cpu")}
    words = type("Words", (), {"decode": staticmethod(str)})
    reports, log_probs = write_reports(network, words, stored, **options)
    expected, expected_log_probs = write_reports(network, words, plain, **options)
    assert reports == expected
    assert log_probs == pytest.approx(expected_log_probs, rel=1e-4)


def test_the_file_is_written_once_and_continued_after_a_kill(dataset, tmp_path, monkeypatch):
    network, seen = model().eval(), []
    forward = network.visual.forward
    monkeypatch.setattr(network.visual, "forward", lambda images: seen.append(len(images)) or forward(images))
    whole = freeze(network, dataset, tmp_path / "whole", **STORING)
    assert seen[1:] == [3, 3, 1] * 2  # after one picture that tells the shape
    expected = next((tmp_path / "whole").iterdir()).read_bytes()
    assert np.abs(whole.views(1, 2) - whole.views(0, 2)).max() > 1e-3  # another crop
    seen.clear()
    freeze(network, dataset, tmp_path / "whole", **STORING)
    assert not seen

    loaded, asked = frozen.batches_of, []

    def killed(*args, epoch, **options):
        asked.append(epoch)
        if epoch == 1:
            raise KeyboardInterrupt
        return loaded(*args, epoch=epoch, **options)

    monkeypatch.setattr(frozen, "batches_of", killed)
    with pytest.raises(KeyboardInterrupt):
        freeze(network, dataset, tmp_path / "cut", **STORING)
    monkeypatch.setattr(frozen, "batches_of", loaded)
    seen.clear()
    freeze(network, dataset, tmp_path / "cut", **STORING)
    assert seen[1:] == [3, 3, 1]  # the second crop
    (path,) = (tmp_path / "cut").iterdir()
    assert path.read_bytes() == expected


def test_other_weights_crops_or_seeds_have_another_file_and_only_the_last_stays(dataset, tmp_path):
    network, names = model().eval(), set()

    def name(**changes) -> str:
        other = StudyDataset(
            dataset.pack, VIEWS, labels=dataset.labels, augment=True, seed=changes.pop("seed", dataset.seed)
        )
        freeze(network, other, tmp_path, **{**STORING, **changes})
        (path,) = tmp_path.iterdir()
        return path.name

    names = [name(), name(seed=4), name(crops=3)]
    with torch.no_grad():
        network.visual.layers[1].running_mean += 1
    names.append(name())
    assert len(set(names)) == 4
