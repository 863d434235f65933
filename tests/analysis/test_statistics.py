"""The bootstrap over groups against draws by hand and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_trust.analysis import statistics
from lm_eval_trust.analysis.statistics import percentile_ends, resample_counts, resampled_means

SIZES = np.array([1.0, 2.0, 7.0, 20.0])


def test_each_mean_is_over_the_items_of_its_own_draw() -> None:
    sums = np.array([5.0, -1.0, 3.0, 2.0])
    found = resampled_means(sums, SIZES, 50, np.random.default_rng(7))
    drawn = np.random.default_rng(7).integers(4, size=(50, 4))
    by_hand = [sums[groups].sum() / SIZES[groups].sum() for groups in drawn]
    assert found == pytest.approx(by_hand)


def test_a_change_of_every_item_is_certain_however_large_the_groups_are() -> None:
    found = resampled_means(0.3 * SIZES, SIZES, 200, np.random.default_rng(0))
    assert found == pytest.approx(np.full(200, 0.3))


def test_series_share_their_draws() -> None:
    sums = np.stack([SIZES, 2 * SIZES**2], axis=1)
    both = resampled_means(sums, SIZES, 30, np.random.default_rng(1))
    alone = resampled_means(sums[:, 1], SIZES, 30, np.random.default_rng(1))
    assert both[:, 1] == pytest.approx(alone)
    assert both[:, 0] == pytest.approx(np.ones(30))


@pytest.mark.parametrize("multinomial", [False, True])
def test_blocks_change_no_draw(multinomial: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def counts() -> list[np.ndarray]:
        random = np.random.default_rng(2)
        return list(resample_counts(5, 13, random, multinomial=multinomial))

    (whole,) = counts()
    monkeypatch.setattr(statistics, "_AT_ONCE", 20)
    parts = counts()
    assert [len(part) for part in parts] == [4, 4, 4, 1]
    assert (np.concatenate(parts) == whole).all()


@pytest.mark.parametrize("multinomial", [False, True])
def test_groups_are_drawn_with_replacement_and_equal_chances(multinomial: bool) -> None:
    random = np.random.default_rng(3)
    counts = np.concatenate(list(resample_counts(4, 4000, random, multinomial=multinomial)))
    assert (counts.sum(axis=1) == 4).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(4), abs=0.05)
    # A binomial's variance: 4 draws with a chance of 1/4 each.
    assert counts.var(axis=0) == pytest.approx(np.full(4, 0.75), abs=0.06)


def test_the_ends_leave_equal_shares_outside() -> None:
    assert percentile_ends(np.arange(101.0), 0.9) == pytest.approx((5.0, 95.0))
