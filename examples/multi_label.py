"""Which digits are in a picture? A SPEN, trained end to end: python examples/multi_label.py.

Pictures of one to three digits that follow each other lie over each other. E(x, y) = -b(x) . y + g(y): b says what is
seen, g what goes together. Ten steps of descent in y, relaxed to [0, 1], are trained to end at the labels (`Unrolled`).
The same network without g decides each label by itself.
"""

import functools

import torch
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score
from torch import nn

import energeia as en

digits, classes = (torch.tensor(part) for part in load_digits(return_X_y=True))


def draw(rows: slice, number: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = torch.zeros(number, 64), torch.zeros(number, 10)
    of_class = [digits[rows][classes[rows] == k].float() / 16 for k in range(10)]
    for row in range(number):
        first, length = (int(torch.randint(n, (), generator=generator)) for n in (10, 3))
        for k in (number % 10 for number in range(first, first + length + 1)):
            one = of_class[k][int(torch.randint(len(of_class[k]), (), generator=generator))]
            x[row], y[row, k] = torch.maximum(x[row], one), 1.0
    return x, y


class Network(nn.Module):
    def __init__(self, joint: bool) -> None:
        super().__init__()
        self.joint = en.MLP(10, widths=(32,), activation="softplus") if joint else None

    def forward(self, b: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        local = -(b * y).sum(1)
        return local if self.joint is None else local + self.joint(y).squeeze(1)


generator = torch.Generator().manual_seed(0)
train, test = draw(slice(1000), 2000, generator), draw(slice(1350, None), 1000, generator)
for name, joint in (("each label by itself", False), ("SPEN", True)):
    torch.manual_seed(0)
    energy = en.from_pair(Network(joint), en.Real(64), en.Box(10, 0.0, 1.0), features=en.MLP(64, 10, widths=(128,)))
    objective = en.Unrolled("cross entropy", num_steps=10, step_size=0.3, mirror=True, learn_step=True)
    adam = functools.partial(torch.optim.AdamW, lr=2e-3, weight_decay=1e-2)
    en.fit(energy, objective, train, num_steps=500, batch_size=64, optimizer=adam, progress=False)
    found = objective.answers(energy, test[0]) > 0.5
    f1 = f1_score(test[1].numpy(), found.numpy(), average="samples", zero_division=0)
    exact = float((found == test[1]).all(1).float().mean())
    print(f"{name}: F1 {100 * f1:.1f} %, all ten labels right {100 * exact:.1f} %")
