"""Sharpness, flatness, curvature and a loss landscape of any PyTorch model, with any data and loss.

Run it with `python examples/analyze_any_model.py`; it takes a few seconds on a CPU. Nothing is averaged here: all that
is needed is a model, a loss, and batches that stay the same. The model itself is left alone.
"""

import torch
from sklearn.datasets import load_wine
from torch import nn

from switch_ema.analysis.directions import random_direction
from switch_ema.analysis.eigenvalues import top_eigenvalues
from switch_ema.analysis.flatness import average_flatness, width
from switch_ema.analysis.hessian import hessian
from switch_ema.analysis.landscape import plane
from switch_ema.analysis.objective import Objective, supervised
from switch_ema.analysis.sharpness import worst_case_sharpness


def train() -> tuple[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]]:
    torch.manual_seed(0)
    features, labels = (torch.as_tensor(array) for array in load_wine(return_X_y=True))
    features = ((features - features.mean(0)) / features.std(0)).float()
    model = nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(features), labels).backward()
        optimizer.step()
    return model, [*zip(features.split(64), labels.split(64), strict=True)]


def main() -> None:
    model, batches = train()
    objective = Objective(model, supervised(nn.functional.cross_entropy), batches)
    print(f"loss {objective.value():.4f}")

    for worst in worst_case_sharpness(objective, rhos=[0.05, 0.1, 0.5]):
        print(f"sharpness: within {worst.rho:g} of the weights it rises by {worst.increase:.4f} at worst")
    noise = average_flatness(objective, radii=[0.05, 0.2, 0.5, 1.0, 2.0])
    for mean in noise:
        print(f"flatness: noise of {mean.radius:.0%} raises it by {mean.increase:.4f} ± {mean.standard_error:.4f}")
    wide = width(noise, threshold=0.1)
    print(f"width: {wide.radius:.1%} of the weights' norm until it has risen by 0.1")

    curvature = hessian(objective)
    largest = top_eigenvalues(curvature, k=1).values[0]
    print(f"curvature: {largest:.3f} along the steepest of {curvature.dim} directions")

    directions = [random_direction(objective.parameters, seed=seed) for seed in (0, 1)]
    places = [-1.0, -0.5, 0.0, 0.5, 1.0]
    for row in plane(objective, directions, places, places).losses:
        print("landscape:", *(f"{loss:6.3f}" for loss in row))

    # near a minimum the loss is a bowl, whose steepest direction decides how far it can rise
    small = worst_case_sharpness(objective, rhos=[0.01], num_steps=50)[0]
    slope = sum(float(part.square().sum()) for part in objective.gradient().values()) ** 0.5
    assert largest * 0.01**2 / 2 <= 1.05 * small.increase <= 1.1 * (slope * 0.01 + largest * 0.01**2 / 2)
    assert wide.reached


if __name__ == "__main__":
    main()
