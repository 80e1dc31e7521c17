"""Writes the PyTorch models and outputs that tests compare with; torch 2.13.0 wrote those here.

PyTorch is no dependency of rainpp. To write the files again, in an environment of its own:
pip install torch==2.13.0 numpy safetensors && python tests/data/torch_reference.py
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent


def cnn():
    """Two convolutions with batch norm, the second of stride 2; then flattened, channels first."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 3 * 2, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )


class Sentiment(nn.Module):
    """Two LSTM layers, the second read backwards too."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.first = nn.LSTM(4, 5, num_layers=2, batch_first=True)
        self.second = nn.LSTM(5, 3, bidirectional=True, batch_first=True)
        self.head = nn.Linear(6, 2)

    def forward(self, tokens):
        states, _ = self.second(self.first(self.embedding(tokens))[0])
        return self.head(states.mean(dim=1))


class Encoder(nn.Module):
    """One block of a transformer encoder, layer norms first."""

    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(
            8, 2, dim_feedforward=6, activation="gelu", batch_first=True, norm_first=True
        )
        self.head = nn.Linear(8, 2)

    def forward(self, rows):
        return self.head(self.block(rows).mean(dim=1))


def warm(model, inputs):
    """Training passes, so that running statistics are not 0 and 1; biases that are not 0."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
        for _ in range(3):
            model.train()(inputs)
    return model.eval()


def write(name, model, inputs):
    with torch.no_grad():
        outputs = warm(model, inputs)(inputs)
    save_file(model.state_dict(), HERE / f"torch_{name}.safetensors")
    np.savez(HERE / f"torch_{name}.npz", inputs=inputs.numpy(), outputs=outputs.numpy())


if __name__ == "__main__":
    torch.manual_seed(0)
    write("cnn", cnn(), 1 + torch.randn(6, 3, 13, 10))
    write("lstm", Sentiment(), torch.randint(0, 9, (6, 7)))
    write("encoder", Encoder(), torch.randn(6, 5, 8))
