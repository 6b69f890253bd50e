"""A small convolutional network that reads digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from training.exports import save_torch, torch_to_onnx
from training.job import Trained
from training.reproducible import reproducible

Array = npt.NDArray[Any]

_INK: Final = 16.0
_CLASSES: Final = 10


class DigitNetwork(nn.Module):
    """Two convolutions, one pooling, one hidden layer, the probabilities of the ten digits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, _CLASSES),
        )  # fmt: skip

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """``[n, 10]`` unnormalized scores for ``[n, 8, 8]`` images of 0 to 16."""
        return self.layers(image.unsqueeze(1) / _INK)  # type: ignore[no-any-return]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``[n, 10]`` probabilities: the softmax belongs to the graph, so that every runtime gives the same."""
        return torch.softmax(self.logits(image), dim=1)


def fit_digits(
    images: Array, digits: Array, *, parameters: Mapping[str, Any], seed: int, advance: Callable[[int], None], native: bool
) -> Trained:
    """Trains the network on one thread.

    Args:
        images: float32 ``[n, 8, 8]``.
        digits: ``[n]`` 0 to 9.
        parameters: epochs, batch_rows, learning_rate.
        seed: Equal seeds, equal networks.
        advance: Told after each epoch.
        native: Serve the torch program itself, not its ONNX export.
    """
    rows, target = torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(digits)
    with reproducible(seed):
        network = DigitNetwork()
        optimizer = torch.optim.Adam(network.parameters(), lr=parameters["learning_rate"])
        for _ in range(parameters["epochs"]):
            for chosen in torch.split(torch.randperm(len(rows)), parameters["batch_rows"]):
                loss = nn.functional.cross_entropy(network.logits(rows[chosen]), target[chosen])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            advance(1)
    example = rows[:2]
    return Trained(
        save=lambda folder: save_torch(network, folder, example=example),
        export=None if native else lambda folder: torch_to_onnx(network, folder, example=example, name="image", output="probabilities"),
        keep_native=True,
    )
