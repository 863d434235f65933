"""Permutation nulls of dependence measures, under the exchangeability that groups allow.

Rows of one group (the candidates of a context, a sentence and its perturbed twin, the answers to a
question) depend on each other, so a null may only use permutations that leave such dependence as
it is: whole groups change signs, or change places with others of the same size (Winkler, Webster,
Vidaurre, Nichols and Smith 2015, *NeuroImage* 123, 253–268).

- **Labels** of a group that holds both change sides as one: the part of the labels about their mean
  in the group changes sign. The right answers to a question may resemble each other, and so may the
  wrong ones; swaps of single rows would tear such clusters apart. What is assumed is that groups
  are independent, and that the difference between the sides of a group is as likely to point the
  other way. For pairs these are the swaps of their labels. A group that holds one label changes it
  with another such group of its size. A set of both kinds has both parts.
- **The rows of one side** (I(T, X)) change places in whole groups. Both sides may depend on the
  group in any way, and near-duplicates stay together.

Without groups every row is a group of one, and both are plain permutations.

A labeling of zeros and ones that keeps the clusters (a control of probes, the chance level of an
AUROC) has the sides of whole groups exchanged: ones become zeros and zeros ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from lm_eval_trust.core.errors import InputError

PERMUTATIONS = 200
#: Draws in a row that may give no other labeling until there is taken to be none.
_IN_VAIN = 100

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
#: Group of each row: names or numbers.
Groups = Sequence[Hashable] | npt.NDArray[np.generic] | torch.Tensor


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
    """Which rearrangements leave a set of rows as likely as it was, if there is no dependence.

    Attributes:
        rows: How many rows there are.
        mixed: Positions of rows in groups whose labels change sides as one, shape (groups, size)
            for each size of group.
        whole: Positions of groups that change places as a whole, of the same form.
        arrangements: How many different ones there are, the observed one included.
        mirrored: Whether they include the mirror image of each, with the labels' signs reversed. A
            measure of dependence is the same for both.
    """

    rows: int
    mixed: tuple[Integers, ...]
    whole: tuple[Integers, ...]
    arrangements: int
    mirrored: bool = False

    @classmethod
    def of_rows(cls, rows: int, groups: Groups | None = None) -> Exchangeability:
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
    def of_labels(cls, labels: npt.ArrayLike, groups: Groups | None = None) -> Exchangeability:
        """Return that of binary labels: the sides of groups of both, and whole groups of one.

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
        both = [0 < one < len(rows) for one, rows in zip(ones, found, strict=True)]
        mixed = _by_size(found, both)
        whole = _by_size(found, [not each for each in both])
        of_whole = [(len(blocks), int(high[blocks[:, 0]].sum())) for blocks in whole]
        alike = all((high[blocks].mean(axis=1) == high.mean()).all() for blocks in mixed)
        return cls(
            rows=len(values),
            mixed=mixed,
            whole=whole,
            arrangements=2 ** sum(both) * math.prod(math.comb(n, one) for n, one in of_whole),
            mirrored=alike and all(n == 2 * one for n, one in of_whole),
        )

    def moves(self, number: int, random: np.random.Generator) -> tuple[Integers, Floats]:
        """Return random permutations of whole groups, and random signs of mixed ones.

        Both have the shape (number, rows); rows that do not move have their own position and 1.
        """
        places = np.tile(np.arange(self.rows), (number, 1))
        for blocks in self.whole:
            order = random.permuted(np.tile(np.arange(len(blocks)), (number, 1)), axis=1)
            places[:, blocks] = blocks[order]
        signs = np.ones((number, self.rows))
        for blocks in self.mixed:
            signs[:, blocks] = random.choice((-1.0, 1.0), size=(number, len(blocks), 1))
        return places, signs

    def averaged(self, values: Floats) -> Floats:
        """Return values, shape (rows, …), with those of a mixed group replaced by their mean."""
        found: Floats = values.copy()
        for blocks in self.mixed:
            found[blocks] = values[blocks].mean(axis=1, keepdims=True)
        return found

    def vectors(self, values: Floats, number: int, random: np.random.Generator) -> Floats:
        """Return random rearrangements of labels as numbers, shape (number, rows).

        Args:
            values: Two different numbers, shape (rows,).
            number: Number of rearrangements.
            random: Source of the moves.
        """
        places, signs = self.moves(number, random)
        middle = self.averaged(values)
        found: Floats = middle[places] + signs * (values - middle)
        return found

    def labelings(
        self, high: npt.NDArray[np.bool_], number: int, random: np.random.Generator
    ) -> npt.NDArray[np.bool_]:
        """Return random labelings, the sides of mixed groups exchanged, shape (number, rows).

        Args:
            high: Which rows have the higher label, shape (rows,).
            number: Number of labelings.
            random: Source of the moves.
        """
        places, signs = self.moves(number, random)
        found: npt.NDArray[np.bool_] = high[places] ^ (signs < 0)
        return found

    def smallest_p(self, permutations: int) -> float:
        """Return the smallest p that so many random rearrangements can give."""
        return max(1 / (1 + permutations), (1 + self.mirrored) / self.arrangements)


def as_names(groups: Groups) -> Sequence[Hashable]:
    """Return groups whose elements are equal where their values are, as those of tensors are not.

    Args:
        groups: Group of each row, shape (rows,).
    """
    if isinstance(groups, np.ndarray | torch.Tensor):
        names: list[Hashable] = groups.tolist()
        return names
    return groups


def members(rows: int, groups: Groups | None) -> list[Integers]:
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
    for position, group in enumerate(as_names(groups)):
        found.setdefault(group, []).append(position)
    return [np.array(positions) for positions in found.values()]


def relabelings(
    labels: npt.ArrayLike, groups: Groups | None, random: np.random.Generator
) -> Iterator[npt.NDArray[np.generic]]:
    """Yield random labelings that groups allow, as :meth:`Exchangeability.labelings` draws them.

    They never include the labels themselves or their mirror image: a hyperplane that separates one
    separates the other. Ends if there seems to be no other labeling.

    Args:
        labels: Two different values, shape (n,).
        groups: Group of each row, shape (n,); ``None`` for independent rows.
        random: Source of the labelings.

    Raises:
        InputError: Another number of groups than labels.
    """
    values = np.asarray(labels)
    exchange, high = Exchangeability.of_labels(values, groups), values == values.max()
    in_vain = 0
    while in_vain < _IN_VAIN:
        drawn = exchange.labelings(high, 1, random)[0]
        if 0 < (drawn == high).sum() < len(high):
            in_vain = 0
            yield np.where(drawn, values.max(), values.min())
        else:
            in_vain += 1


def permuted_labels(
    labels: npt.ArrayLike, groups: Groups | None, random: np.random.Generator
) -> npt.NDArray[np.generic]:
    """Return one of the :func:`relabelings` of binary labels.

    Raises:
        InputError: Another number of groups than labels, or groups that allow no other labeling.
    """
    for drawn in relabelings(labels, groups, random):
        return drawn
    raise InputError("The groups allow no other labeling than this one and its mirror image.")


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
    Designs of few groups, or with groups of both labels, take random rearrangements, O(n²) each.

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
    if not exchange.mixed and (len(sizes) == 1 or math.prod(sizes) > permutations):
        ordered = [each[random.permutation(len(each))] for each in exchange.whole]
        blocks = [torch.from_numpy(each).to(a.device) for each in ordered]
        if len(sizes) == 1:
            shifts = 1 + random.permutation(sizes[0] - 1)[:permutations, None]
        else:
            shifts = random.integers(sizes, size=(permutations, len(sizes)))
        # Parts are read by their place in memory, and factors may be stored by columns.
        a, b = a.contiguous(), b.contiguous()
        return _null(value, _shifted_traces(a, b, blocks, shifts), 1 / (1 + len(shifts)))
    drawn = _rearranged_traces(a, b, exchange, exchange.moves(permutations, random))
    return _null(value, drawn, exchange.smallest_p(permutations))


def rank_one_null(
    a: torch.Tensor,
    unit: torch.Tensor,
    weight: float,
    exchange: Exchangeability,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Null:
    """Return weight · uᵀ A u and its null under random rearrangements of u.

    Args:
        a: Symmetric, shape (n, n).
        unit: u, shape (n,).
        weight: At least 0.
        exchange: Which rearrangements are allowed.
        permutations: Number of rearrangements.
        seed: Seed of these.
    """
    drawn = exchange.vectors(unit.cpu().numpy(), permutations, np.random.default_rng(seed))
    units = torch.cat([unit[None], torch.from_numpy(drawn).to(unit)])
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


def _rearranged_traces(
    a: torch.Tensor, b: torch.Tensor, exchange: Exchangeability, moves: tuple[Integers, Floats]
) -> Floats:
    """Return tr(A P B Pᵀ) for rearrangements P of B's rows, shape (number,).

    Args:
        a: Symmetric, shape (n, n).
        b: Likewise.
        exchange: Which rows belong together.
        moves: From :meth:`Exchangeability.moves`.
    """
    values = b.cpu().numpy()
    rows = exchange.averaged(values)
    both = exchange.averaged(rows.T)
    # The parts of B between means, between means and what is about them, and between the latter.
    means, across, about = (
        torch.from_numpy(part).to(a)
        for part in (both, rows.T - both, values - rows - rows.T + both)
    )
    traces = []
    for at, sign in zip(*(torch.from_numpy(each).to(a.device) for each in moves), strict=True):
        moved = means + sign[:, None] * (2 * across + sign * about)
        traces.append(float((a * moved[at][:, at]).sum(dtype=torch.float64)))
    return np.array(traces)


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
