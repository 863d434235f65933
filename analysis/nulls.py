"""Permutation nulls of dependence measures, under the exchangeability that groups allow.

Rows of one group (the candidates of a context, a sentence and its perturbed twin, the answers to a
question) depend on each other, so a null may only use permutations that leave such dependence as
it is: rows change places within their group, or whole groups change places with others of the same
size (Winkler, Webster, Vidaurre, Nichols and Smith 2015, *NeuroImage* 123, 253–268).

- **Labels** change places within a group that holds both labels. A group that holds one label
  changes it with another such group of its size. A set of both kinds has both parts.
- **The rows of one side** (I(T, X)) change places in whole groups. Both sides may depend on the
  group in any way, and near-duplicates stay together.

Without groups every row is a group of one, and both are plain permutations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from lm_eval_trust.core.errors import InputError

PERMUTATIONS = 200

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Null:
    """A statistic with its permutation null.

    Attributes:
        value: The statistic.
        mean: Mean of the null.
        quantile95: 95 % quantile of the null.
        p: Share of permutations, including the identity, that reach the value.
        permutations: Number used, without the identity.
        smallest_p: The smallest p that the design and the number of permutations can give.
        drawn: The null's values, float64, shape (permutations,); statistics measured with the same
            design and seed have the same permutations in the same order.
    """

    value: float
    mean: float
    quantile95: float
    p: float
    permutations: int
    smallest_p: float = math.nan
    drawn: Floats = field(default_factory=lambda: np.empty(0), repr=False, compare=False)

    def scaled(self, factor: float) -> Null:
        """Return the statistic and its null times a positive number; p stays."""
        return replace(
            self,
            value=self.value * factor,
            mean=self.mean * factor,
            quantile95=self.quantile95 * factor,
            drawn=self.drawn * factor,
        )


def without_null(value: float) -> Null:
    """Return a statistic whose null was not computed: NaN, over 0 permutations."""
    return Null(value, math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Exchangeability:
    """Which permutations leave a set of rows as likely as it was, if there is no dependence.

    Attributes:
        rows: How many rows there are.
        within: Positions of rows that change places inside their group, shape (groups, size) for
            each size of group.
        whole: Positions of groups that change places as a whole, of the same form.
        arrangements: How many different ones the permutations can give, the observed one included.
    """

    rows: int
    within: tuple[Integers, ...]
    whole: tuple[Integers, ...]
    arrangements: int

    @classmethod
    def of_rows(cls, rows: int, groups: Sequence[Hashable] | None = None) -> Exchangeability:
        """Return that of one side's rows against the other side's: whole groups of equal size.

        Args:
            rows: How many there are.
            groups: Group of each row, shape (rows,); by default every row is independent.

        Raises:
            InputError: Another number of groups than rows.
        """
        found = members(rows, groups)
        whole = _by_size(found, [True] * len(found))
        return cls(rows, (), whole, math.prod(math.factorial(len(each)) for each in whole))

    @classmethod
    def of_labels(
        cls, labels: npt.ArrayLike, groups: Sequence[Hashable] | None = None
    ) -> Exchangeability:
        """Return that of binary labels: within groups of both labels, and between the others.

        Args:
            labels: Two different values, shape (n,).
            groups: Group of each row, shape (n,); by default every row is independent.

        Raises:
            InputError: Another number of groups than labels.
        """
        values = np.asarray(labels).ravel()
        high = values == values.max()
        found = members(len(values), groups)
        ones = [int(high[rows].sum()) for rows in found]
        mixed = [0 < one < len(rows) for one, rows in zip(ones, found, strict=True)]
        within = _by_size(found, mixed)
        whole = _by_size(found, [not both for both in mixed])
        inside = (math.comb(b.shape[1], int(n)) for b in within for n in high[b].sum(axis=1))
        between = (math.comb(len(b), int(high[b[:, 0]].sum())) for b in whole)
        return cls(len(values), within, whole, math.prod(inside) * math.prod(between))

    def permutations(self, number: int, random: np.random.Generator) -> Integers:
        """Return random permutations of the positions, shape (number, rows)."""
        found = np.tile(np.arange(self.rows), (number, 1))
        for blocks in self.within:
            drawn = np.broadcast_to(blocks, (number, *blocks.shape))
            found[:, blocks] = random.permuted(drawn, axis=2)
        for blocks in self.whole:
            order = random.permuted(np.tile(np.arange(len(blocks)), (number, 1)), axis=1)
            found[:, blocks] = blocks[order]
        return found

    def smallest_p(self, permutations: int) -> float:
        """Return the smallest p that so many random permutations can give."""
        return max(1 / (1 + permutations), 1 / self.arrangements)


def members(rows: int, groups: Sequence[Hashable] | None) -> list[Integers]:
    """Return the positions of each group's rows, in the order of the groups' first rows.

    Args:
        rows: How many there are.
        groups: Group of each; by default every row is its own group.

    Raises:
        InputError: Another number of groups than rows.
    """
    if groups is None:
        return list(np.arange(rows)[:, None])
    if len(groups) != rows:
        raise InputError(f"{len(groups)} groups were given for {rows} rows; expected one for each.")
    found: dict[Hashable, list[int]] = {}
    for position, group in enumerate(groups):
        found.setdefault(group, []).append(position)
    return [np.array(positions) for positions in found.values()]


def permuted_labels(
    labels: npt.ArrayLike, groups: Sequence[Hashable] | None, random: np.random.Generator
) -> npt.NDArray[np.generic]:
    """Return binary labels, permuted once as :meth:`Exchangeability.of_labels` allows.

    Args:
        labels: Two different values, shape (n,).
        groups: Group of each row, shape (n,); ``None`` for independent rows.
        random: Source of the permutation.

    Raises:
        InputError: Another number of groups than labels.
    """
    values: npt.NDArray[np.generic] = np.asarray(labels)
    exchange = Exchangeability.of_labels(values, groups)
    permuted: npt.NDArray[np.generic] = values[exchange.permutations(1, random)[0]]
    return permuted


def permutation_null(
    a: torch.Tensor,
    b: torch.Tensor,
    exchange: Exchangeability | None = None,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Null:
    """Return tr(A B) and its null under permutations of one side's samples.

    Where whole groups change places (independent samples are such groups), the permutations are the
    shifts along one random order of the groups of each size. They form a group themselves, so the
    test has exactly its level (Hemerik and Goeman 2018), and their traces are correlations of
    the matrices' parts, which the Fourier transform computes in O(n² log n) for all shifts at once.
    Designs of few groups, or with permutations inside groups, take random permutations, O(n²) each.

    Args:
        a: Symmetric, shape (n, n).
        b: The same; its samples are permuted.
        exchange: Which permutations are allowed; by default all.
        permutations: How many random ones, or how many of the shifts at most.
        seed: Seed of the order of the groups and the choice of permutations.

    Raises:
        InputError: The shapes differ from these, or there are fewer than three samples.
    """
    n = len(a)
    if a.shape != (n, n) or b.shape != (n, n):
        raise InputError(f"Expected two square matrices of one size: {a.shape}, {b.shape}.")
    if n < 3:
        raise InputError(f"A null needs at least 3 samples, not {n}.")
    exchange = exchange or Exchangeability.of_rows(n)
    random, value = np.random.default_rng(seed), float((a * b).sum(dtype=torch.float64))
    sizes = [len(each) for each in exchange.whole]
    if not exchange.within and (len(sizes) == 1 or math.prod(sizes) > permutations):
        ordered = [each[random.permutation(len(each))] for each in exchange.whole]
        blocks = [torch.from_numpy(each).to(a.device) for each in ordered]
        if len(sizes) == 1:
            shifts = 1 + random.permutation(sizes[0] - 1)[:permutations, None]
        else:
            shifts = random.integers(sizes, size=(permutations, len(sizes)))
        # Parts are read by their place in memory, and factors may be stored by columns.
        a, b = a.contiguous(), b.contiguous()
        return _null(value, _shifted_traces(a, b, blocks, shifts), 1 / (1 + len(shifts)))
    drawn = [
        float((a * b[rows][:, rows]).sum(dtype=torch.float64))
        for rows in torch.from_numpy(exchange.permutations(permutations, random)).to(a.device)
    ]
    return _null(value, np.array(drawn), exchange.smallest_p(permutations))


def rank_one_null(
    a: torch.Tensor,
    unit: torch.Tensor,
    weight: float,
    exchange: Exchangeability,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Null:
    """Return weight · uᵀ A u and its null under random permutations of u.

    Args:
        a: Symmetric, shape (n, n).
        unit: u, shape (n,).
        weight: At least 0.
        exchange: Which permutations are allowed.
        permutations: Number of permutations.
        seed: Seed of the permutations.
    """
    random = np.random.default_rng(seed)
    rows = torch.from_numpy(exchange.permutations(permutations, random)).to(a.device)
    units = torch.cat([unit[None], unit[rows]])
    forms = weight * ((units @ a) * units).sum(dim=1, dtype=torch.float64).cpu().numpy()
    return _null(float(forms[0]), forms[1:], exchange.smallest_p(permutations))


def _null(value: float, drawn: Floats, smallest: float) -> Null:
    if not len(drawn):
        # One group: nothing can change places.
        return replace(without_null(value), p=1.0, smallest_p=1.0)
    # Equal up to rounding counts as reached.
    reached = drawn >= value - 1e-9 * max(abs(value), float(np.abs(drawn).max()))
    return Null(
        value=value,
        mean=float(drawn.mean()),
        quantile95=float(np.quantile(drawn, 0.95)),
        p=max(smallest, float((1 + reached.sum()) / (1 + len(drawn)))),
        permutations=len(drawn),
        smallest_p=smallest,
        drawn=drawn,
    )


def _shifted_traces(
    a: torch.Tensor, b: torch.Tensor, blocks: Sequence[torch.Tensor], shifts: Integers
) -> Floats:
    """Return tr(A B) with B's blocks of rows shifted along their order, shape (shifts,).

    Args:
        a: Symmetric, shape (n, n).
        b: Likewise.
        blocks: Positions of the rows of each block, shape (blocks, size) for each size.
        shifts: By how many blocks those of each size are shifted, shape (shifts, sizes).
    """
    found: Floats = np.zeros(len(shifts))
    for first, second in itertools.combinations_with_replacement(range(len(blocks)), 2):
        if first == second:
            found += _along_diagonals(a, b, blocks[first])[shifts[:, first]]
            continue
        # Shape (size, size, blocks, blocks).
        pairs = (blocks[first] * len(a)).T[:, None, :, None] + blocks[second].T[None, :, None, :]
        one, other = (torch.fft.rfft2(matrix.view(-1)[pairs]) for matrix in (a, b))
        spectrum = torch.einsum("xyfg,xyfg->fg", one.conj(), other).to(torch.complex128)
        sums = torch.fft.irfft2(spectrum, s=pairs.shape[2:]).cpu().numpy()
        # The matrices are symmetric: the part across the diagonal has the same sums.
        found += 2 * sums[shifts[:, first], shifts[:, second]]
    return found


def _along_diagonals(a: torch.Tensor, b: torch.Tensor, order: torch.Tensor) -> Floats:
    """Return the traces for every shift of blocks of one size, shape (blocks,)."""
    blocks = len(order)
    # In a symmetric matrix, the diagonals k and n − k hold the same pairs.
    half = torch.arange(blocks // 2 + 1, device=a.device)
    weights = torch.full((len(half),), 2.0, dtype=torch.float64, device=a.device)
    weights[0] = 1.0
    if blocks % 2 == 0:
        weights[-1] = 1.0
    beside = order[(torch.arange(blocks, device=a.device) + half[:, None]) % blocks]
    # A diagonal is contiguous: shape (size, size, half, blocks).
    pairs = (order * len(a)).T[:, None, None, :] + beside.permute(2, 0, 1)[None]
    one, other = (torch.fft.rfft(matrix.view(-1)[pairs]) for matrix in (a, b))
    spectrum = torch.einsum("xykf,xykf,k->f", one.conj(), other, weights.to(one.dtype))
    sums: Floats = torch.fft.irfft(spectrum.to(torch.complex128), n=blocks).cpu().numpy()
    return sums


def _by_size(groups: Sequence[Integers], chosen: Sequence[bool]) -> tuple[Integers, ...]:
    """Return chosen groups of the same size together, shape (groups, size) for each size."""
    by_size: dict[int, list[Integers]] = {}
    for rows in itertools.compress(groups, chosen):
        by_size.setdefault(len(rows), []).append(rows)
    return tuple(np.stack(by_size[size]) for size in sorted(by_size))
