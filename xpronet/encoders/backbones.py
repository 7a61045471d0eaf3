"""ResNets of torchvision and where their weights come from: one start for classifier, features and model."""

import pickle
from pathlib import Path, PurePosixPath
from urllib.request import Request, urlopen

import torch
import torchvision
from torch import Tensor, nn

from xpronet.common.weights import misfits, read_weights
from xpronet.encoders.params import Backbone

WIDTH = {"resnet18": 512, "resnet50": 2048, "resnet101": 2048}  # channels of the last convolution
PATIENCE = 10  # seconds for a server to answer


def resnet(backbone: Backbone, *, classes: int) -> nn.Module:
    """A torchvision ResNet with random weights and `classes` outputs."""
    return getattr(torchvision.models, backbone)(weights=None, num_classes=classes)


def start_weights(
    backbone: Backbone, weights: str, *, key: str, classifier: str | Path | None = None
) -> dict[str, Tensor] | None:
    """The state dict (torchvision's names, `fc` left out) to start a backbone from; None means random.

    Args:
        key: the parameter that says `weights`, for errors.
        weights: "imagenet", "random", "classifier" (then `classifier` is its weight file) or a file.

    Raises:
        ValueError: ImageNet weights cannot be downloaded, or the file is missing or holds another network.
    """
    if weights == "random":
        return None
    if weights == "imagenet":
        return _without_head(_imagenet(backbone, key))
    own = weights == "classifier" and classifier
    path = Path(classifier if own else weights)
    if not own and not path.exists():
        raise ValueError(f"{key} = {weights!r}: {path}: no such file")
    state = read_weights(path, again="`dvc repro classify` makes it again" if own else "")
    if not isinstance(state, dict):
        raise ValueError(f"{key} = {weights!r}: {path}: expected a state dict, got {type(state).__name__}")
    wanted = _without_head(resnet(backbone, classes=1).state_dict())
    state = {name: state[name] for name in wanted if name in state}
    wrong = misfits(state, wanted)
    if wrong:
        raise ValueError(
            f"{key} = {weights!r}: {path}: not a {backbone}: {len(wrong)} tensors do not fit, {wrong[0]} first"
        )
    return state


def _without_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def check_imagenet(backbone: Backbone) -> None:
    """Raise OSError where the weights are neither in torch's cache nor to be had where torchvision loads them from."""
    url = torchvision.models.get_model_weights(backbone).IMAGENET1K_V1.url
    if not (Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(url).name).is_file():
        urlopen(Request(url, method="HEAD"), timeout=PATIENCE).close()


def _imagenet(backbone: Backbone, key: str) -> dict[str, Tensor]:
    weights = torchvision.models.get_model_weights(backbone).IMAGENET1K_V1
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:  # URLError is one
        raise ValueError(
            f"{key} = 'imagenet': the weights of {backbone} cannot be downloaded ({error}): stage check says what to do"
        ) from None
    except (RuntimeError, pickle.UnpicklingError, EOFError):  # a download that was cut, now or long ago
        file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
        raise ValueError(
            f"{key} = 'imagenet': {file}: the weights of {backbone} are broken: remove it to fetch it again"
        ) from None
