"""Training of small quantile networks (`orchestrator/curves/quantile_net.py`): common to the scripts that derive them.

The pinball loss (Koenker and Bassett 1978, doi:10.2307/1913643) over all levels, AdamW, one thread, fixed seeds. What
is held out is held out by group; how far quantiles must be stretched is read off what was held out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from orchestrator.curves.quantile_net import LEVELS, MEDIAN, QuantileNet, Spread

SEED = 0
N_MEMBERS = 3
N_KNOTS = 4
DIGITS = 4
LEARNING_RATE = 3e-3
LOW, HIGH = (int(np.flatnonzero(level == LEVELS)[0]) for level in (0.05, 0.95))
LEVEL_WEIGHT = np.where(np.isin(LEVELS, [0.05, 0.5, 0.95]), 4.0, 1.0)
"""The median and the ends of the 90% interval are what is told and decided on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of one kind of network and its training."""

    hidden: tuple[int, int]
    epochs: int
    batch_size: int
    weight_decay: float
    dropout: float
    n_folds: int
    n_members: int = N_MEMBERS
    balance: float = 0.0
    """Examples count less by this power of the total weight of their group: 0 as they are, 1 all groups alike."""
    spread_level: float = 0.95
    """Share of held-out targets that each end of the 90% interval is stretched to hold."""
    spread_edges: tuple[float, ...] | None = None
    """Between the knots of the spread, log of target over largest measured; None: quantiles of the examples."""


@dataclass(frozen=True, slots=True)
class Table:
    """Examples as matrices, the target in the units of the network."""

    x: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    group: np.ndarray
    """What is held out together; "" for what never is."""
    inputs: tuple[str, ...]
    tells_spread: np.ndarray | None = None
    """Whether an example is of the kind that intervals are made for; None: all are."""

    def of(self, groups: Iterable[str], *, without: bool = False) -> Table:
        """The rows of some groups; or all others."""
        mask = np.isin(self.group, list(groups))
        mask = ~mask if without else mask & (self.group != "")
        return self._only(mask)

    def telling_spread(self) -> Table:
        """The rows that tell it."""
        return self if self.tells_spread is None else self._only(self.tells_spread)

    def balanced(self, power: float) -> Table:
        """Weights of a group divided by this power of their sum; all groups together weigh as before."""
        weight, held = self.weight.copy(), self.group != ""
        _, of = np.unique(self.group[held], return_inverse=True)
        weight[held] *= np.bincount(of, weight[held])[of] ** -power
        weight[held] *= self.weight[held].sum() / weight[held].sum()
        return replace(self, weight=weight)

    def _only(self, mask: np.ndarray) -> Table:
        tells = None if self.tells_spread is None else self.tells_spread[mask]
        return Table(self.x[mask], self.target[mask], self.weight[mask], self.group[mask], self.inputs, tells)


class _Net(nn.Module):
    def __init__(self, n_inputs: int, settings: Settings) -> None:
        super().__init__()
        first, second = settings.hidden
        self.layers = nn.ModuleList(
            [nn.Linear(n_inputs, first), nn.Linear(first, second), nn.Linear(second, len(LEVELS))]
        )
        self.drop = nn.Dropout(settings.dropout)
        with torch.no_grad():  # the first forecast: the last value, with narrow quantiles
            last = self.layers[-1]
            last.weight *= 0.3
            last.bias[:1] = 0.0
            last.bias[1:] = -3.0

    def forward(self, x: Tensor) -> Tensor:
        for layer in list(self.layers)[:-1]:
            x = self.drop(nn.functional.silu(layer(x)))
        out = self.layers[-1](x)
        step = nn.functional.softplus(out[:, 1:])
        below = torch.cumsum(step[:, :MEDIAN].flip(1), 1).flip(1)
        above = torch.cumsum(step[:, MEDIAN:], 1)
        return torch.cat([out[:, :1] - below, out[:, :1], out[:, :1] + above], 1)


def train(table: Table, settings: Settings, seed: int = SEED, n_members: int | None = None) -> QuantileNet:
    """Fit the networks by the weighted pinball loss."""
    if settings.balance:
        table = table.balanced(settings.balance)
    torch.set_num_threads(1)
    scale = np.nanstd(table.x, axis=0)
    net = QuantileNet(
        inputs=table.inputs, centre=np.nanmean(table.x, axis=0), scale=np.where(scale > 1e-6, scale, 1.0), members=(),
        spread=Spread(),
    )  # fmt: skip
    x = torch.tensor(net.standardise(table.x), dtype=torch.float32)
    target = torch.tensor(table.target, dtype=torch.float32)
    weight = torch.tensor(table.weight / table.weight.mean(), dtype=torch.float32)
    members = (
        _train_member(x, target, weight, settings, seed * 100 + i) for i in range(n_members or settings.n_members)
    )
    return replace(net, members=tuple(members))


def _train_member(
    x: Tensor, target: Tensor, weight: Tensor, settings: Settings, seed: int
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    torch.manual_seed(seed)
    model = _Net(x.shape[1], settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=settings.weight_decay)
    n_batches = len(x) // settings.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=settings.epochs * n_batches, pct_start=0.15
    )
    level = torch.tensor(LEVELS, dtype=torch.float32)
    level_weight = torch.tensor(LEVEL_WEIGHT / LEVEL_WEIGHT.sum(), dtype=torch.float32)
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(x)).split(settings.batch_size)[:n_batches]:
            error = target[rows][:, None] - model(x[rows])
            pinball = torch.maximum(level * error, (level - 1) * error)
            loss = ((pinball * level_weight).sum(1) * weight[rows]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return tuple(
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()) for layer in model.layers
    )


def folds_of(groups: Iterable[str], n_folds: int) -> list[list[str]]:
    """Groups dealt to folds: nothing is ever forecast by networks that saw its group."""
    names = np.random.default_rng(SEED).permutation(sorted({name for name in groups if name}))
    return [list(names[i::n_folds]) for i in range(n_folds)]


def spread_of(
    pairs: Sequence[tuple[QuantileNet, Table]], level: float = 0.95, edges: Sequence[float] | None = None
) -> Spread:
    """Factors below and above the median that hold a share ``level`` of held-out targets on either side, near and far.

    Args:
        pairs: Networks, and examples that they never saw.
        level: 0.95 leaves 5% outside on either side.
        edges: Between the knots; None: quantiles of the examples.
    """
    pairs = [(net, held_out.telling_spread()) for net, held_out in pairs]
    ahead, below, above = [], [], []
    for net, held_out in pairs:
        told = net.told(net.standardise(held_out.x))
        error = held_out.target - told[:, MEDIAN]
        ahead.append(held_out.x[:, held_out.inputs.index("ahead")])
        below.append(-error / (told[:, MEDIAN] - told[:, LOW]))
        above.append(error / (told[:, HIGH] - told[:, MEDIAN]))
    distance = np.concatenate(ahead)
    if edges is None:
        edges = np.quantile(distance, np.arange(1, N_KNOTS) / N_KNOTS).tolist()
    n_knots = len(edges) + 1
    group = np.searchsorted(edges, distance)
    outer = [[float(np.quantile(np.concatenate(side)[group == k], level)) for k in range(n_knots)]
             for side in (below, above)]  # fmt: skip
    knots = [float(np.median(distance[group == k])) for k in range(n_knots)]
    return Spread(ahead=tuple(rounded(knots)), below=tuple(rounded(outer[0])), above=tuple(rounded(outer[1])))


def cross_validated(table: Table, settings: Settings) -> list[tuple[list[str], QuantileNet]]:
    """For each fold its groups, and networks that never saw them; spread by the other folds."""
    bare = bare_folds(table, settings)
    pairs = [(net, table.of(fold)) for fold, net in bare]
    others = [[pair for j, pair in enumerate(pairs) if j != i] for i in range(len(pairs))]
    return [
        (fold, replace(net, spread=spread_of(other, settings.spread_level, settings.spread_edges)))
        for (fold, net), other in zip(bare, others, strict=True)
    ]


def bare_folds(table: Table, settings: Settings) -> list[tuple[list[str], QuantileNet]]:
    """For each fold its groups, and networks that never saw them, with no spread yet."""
    folds = folds_of(table.group, settings.n_folds)
    return [(fold, train(table.of(fold, without=True), settings, seed=1 + i)) for i, fold in enumerate(folds)]


def rounded(value: Any) -> Any:
    """Numbers to `DIGITS` significant digits, in lists."""
    if isinstance(value, np.ndarray | list):
        return [rounded(each) for each in value]
    return float(f"{value:.{DIGITS}g}")


def derived(table: Table, settings: Settings) -> QuantileNet:
    """Networks trained on everything, stretched by what was held out from others like them."""
    pairs = [(net, table.of(fold)) for fold, net in bare_folds(table, settings)]
    spread = spread_of(pairs, settings.spread_level, settings.spread_edges)
    return replace(train(table, settings), spread=spread)


def text_of(about: dict[str, Any], net: QuantileNet) -> str:
    """The content of a parameter file: what it is, and the networks."""
    record = about | {
        "spread": asdict(net.spread),
        "levels": LEVELS.tolist(),
        "inputs": {
            name: {"centre": rounded(centre), "scale": rounded(scale)}
            for name, centre, scale in zip(net.inputs, net.centre, net.scale, strict=True)
        },
        "members": [[{"weight": rounded(w), "bias": rounded(b)} for w, b in member] for member in net.members],
    }
    return json.dumps(record, separators=(",", ":")).replace('],"', '],\n"').replace("]},", "]},\n") + "\n"


def run(description: str | None, needs: str, path: Path, derive: Callable[[Path], str]) -> int:
    """The command line of a script that derives a parameter file: write it, or with --check compare; the exit code."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help=f"folder with {needs}")
    parser.add_argument("--check", action="store_true", help="compare with the file that is there; write nothing")
    options = parser.parse_args()
    text = derive(options.data)
    if not options.check:
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {len(text.encode()) / 1e3:.0f} KB")
        return 0
    if text == path.read_text(encoding="utf-8"):
        print(f"{path.name} is what comes out, to the last digit")
        return 0
    print(f"{path.name} is not what comes out; run without --check and look at the difference", file=sys.stderr)
    return 1
