"""``lm-eval-trust analyze``: probes and mutual information over stored activations."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_trust.analysis.estimators import ESTIMATORS, columns
from lm_eval_trust.cli.options import count, natural, next_step
from lm_eval_trust.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

#: Of the tests that are counted.
LEVEL = 0.05


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "analyze",
        help="fit probes and measure mutual information over stored activations",
        description="Fit probes and measure I(T, X) and I(T, Y) for every checkpoint, dimension "
        "and layer of a folder of activation sets (made by `lm-eval-trust activations`); find the "
        "phases; write tables and figures. Existing results are not computed again.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="activation sets")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--layers", help="0-based blocks such as 0,6,12; default all")
    probes = parser.add_argument_group("probes")
    probes.add_argument(
        "--c", default="1", metavar="C[,C]", help="C of the probes (1); several to choose from"
    )
    probes.add_argument("--controls", type=natural, default=5, help="random labelings (5)")
    information = parser.add_argument_group("mutual information")
    information.add_argument(
        "--estimator", default="nhsic", help=f"{', '.join(ESTIMATORS)} (nhsic)"
    )
    information.add_argument(
        "--sigma",
        default="50",
        metavar="S[,S]",
        help="kernel width (50), or median; with several (50,100,200,400), figures show the first",
    )
    information.add_argument(
        "--permutations", type=natural, default=200, help="permutations of the null (200)"
    )
    information.add_argument(
        "--samples", type=count, default=2000, help="statements at most (2000)"
    )
    information.add_argument(
        "--standardised-labels",
        action="store_true",
        help="labels of variance 1, instead of 0 and 1 as in the paper's figures",
    )
    information.add_argument(
        "--precision",
        default="mixed",
        help="mixed (default): activations are multiplied in float32; or float64 for everything",
    )
    parser.add_argument("--seed", type=natural, default=0, help="seed of all random draws (0)")
    parser.add_argument(
        "--device", default="cpu", help="torch device of probes and dependence (cpu)"
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Analyse; print each dimension's probe at the last checkpoint, and what it has to exceed."""
    from lm_eval_trust.analysis.information import InformationSettings
    from lm_eval_trust.analysis.probing import ProbeSettings
    from lm_eval_trust.models.layers import parse_layers
    from lm_eval_trust.models.sources import existing_device
    from lm_eval_trust.study.analyse import analyse
    from lm_eval_trust.study.measure import AnalysisSettings

    existing_device(args.device, setting="--device")
    first, *further = args.sigma.split(",")
    sigma = "median" if first == "median" else _number("--sigma", first)
    settings = AnalysisSettings(
        probes=ProbeSettings(
            regularisations=tuple(_number("--c", value) for value in args.c.split(",")),
            controls=args.controls,
            seed=args.seed,
            device=args.device,
        ),
        information=InformationSettings(
            estimator=args.estimator,
            sigma=sigma,  # type: ignore[arg-type]
            permutations=args.permutations,
            seed=args.seed,
            precision=args.precision,
            standardised_labels=args.standardised_labels,
        ),
        further_sigmas=tuple(_number("--sigma", text) for text in further),
        samples=args.samples,
        layers=tuple(parse_layers(args.layers)) if args.layers else None,
    )
    analysis = analyse(args.folder, args.out, settings)
    for row in last_probes(analysis.probes).to_dict("records"):
        print(_probe_line(row))
    for line in _information_lines(analysis.table, args.estimator):
        print(line)
    for line in _phase_lines(analysis.phases):
        print(line)
    print(f"{args.out}: {len(analysis.table)} measurements, {len(analysis.phases)} rows of phases")
    board = ("leaderboard", "RUNS", "--analysis", args.out, "--out", "board")
    next_step("lm-eval-trust", *board)
    return 0


def last_probes(probes: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each dimension's last checkpoint; all, where none has a step."""
    last = probes.groupby("dimension")["step"].transform("max")
    return probes[(last.isna() | (probes["step"] == last)).fillna(False)]


def _phase_lines(phases: pd.DataFrame) -> Iterator[str]:
    """Say how many layers of each dimension have which verdict."""
    if phases.empty:
        return
    for dimension, rows in phases.groupby("dimension"):
        counts = rows["verdict"].value_counts().sort_index()
        verdicts = ", ".join(f"{verdict} {count}" for verdict, count in counts.items())
        yield (
            f"{dimension}: phases of {len(rows)} layers: {verdicts} "
            f"(p corrected for {len(phases)} layers and dimensions)"
        )


def _probe_line(row: Mapping[str, Any]) -> str:
    """Say a probe's accuracy, and that of each control that there is."""
    parts = [
        "{dimension}: probe accuracy {accuracy:.3f} ({low:.3f} to {high:.3f}) at layer {layer} of "
        "{checkpoint}, chosen on the validation part".format(**row)
    ]
    for name, text in (
        ("words", "n-grams {words:.3f}"),
        (
            "over_words",
            "above them {over_words:+.3f} ({over_words_low:+.3f} to {over_words_high:+.3f})",
        ),
        ("untrained", "{untrained_model} {untrained:.3f}"),
        ("matched", "capitals matched {matched:.3f}"),
        ("matched_words", "n-grams on these {matched_words:.3f}"),
        (
            "matched_over_words",
            "above them {matched_over_words:+.3f} ({matched_over_words_low:+.3f} to "
            "{matched_over_words_high:+.3f})",
        ),
        ("selectivity", "above permuted labels {selectivity:+.3f}"),
    ):
        if not math.isnan(row[name]):
            parts.append(text.format(**row))
    return "; ".join(parts)


def _information_lines(table: pd.DataFrame, estimator: str) -> Iterator[str]:
    """Say how much of a dependence is beyond its null, and which p could not be reached."""
    for name, title in columns(estimator).items():
        rows = table[(table["estimator"] == name) & table["p"].notna()]
        if rows.empty:
            continue
        tested = rows[rows["p_corrected"].notna()]
        beyond = int((tested["p_corrected"] <= LEVEL).sum())
        yield (
            f"{title}: {beyond} of {len(tested)} beyond the null (p ≤ {LEVEL:g}, corrected for "
            f"layers, checkpoints and dimensions); the smallest p that can be reached is "
            f"{(rows if tested.empty else tested)['p_smallest'].max():.3g}"
        )
        if len(tested) < len(rows):
            yield f"  {len(rows) - len(tested)} more cannot reach p ≤ {LEVEL:g} and do not count."
        families = len(tested[["checkpoint", "dimension"]].drop_duplicates())
        if (alone := tested["p_alone"].max()) > LEVEL:
            yield (
                f"  Corrected for {families} checkpoints and dimensions, a finding in one of them "
                f"alone has p ≥ {alone:.3g}; a smaller p needs --permutations "
                f"{math.ceil(families / LEVEL)} or more, and groups that allow them."
            )


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{name} {text} is not a number.") from None
