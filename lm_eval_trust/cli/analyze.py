"""``lm-eval-trust analyze``: probes and mutual information over stored activations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lm_eval_trust.analysis.estimators import ESTIMATORS
from lm_eval_trust.core.errors import InputError


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "analyze",
        help="probes and mutual information over stored activations",
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
    probes.add_argument("--controls", type=int, default=5, help="random labelings (5)")
    information = parser.add_argument_group("mutual information")
    information.add_argument(
        "--estimator", default="nhsic", help=f"{', '.join(ESTIMATORS)} (nhsic)"
    )
    information.add_argument(
        "--sigma",
        default="50",
        metavar="S[,S]",
        help="kernel width (50), or median; of several, e.g. 50,100,200,400, the first is drawn",
    )
    information.add_argument(
        "--permutations", type=int, default=200, help="permutations of the null (200)"
    )
    information.add_argument("--samples", type=int, default=2000, help="statements at most (2000)")
    information.add_argument("--precision", default="float64", help="float64 (default) or mixed")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random draws (0)")
    parser.add_argument("--device", default="cpu", help="device of the probes' fits (cpu)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Analyse, and print the best layer of each dimension at the last checkpoint."""
    from lm_eval_trust.analysis.information import InformationSettings
    from lm_eval_trust.analysis.probing import ProbeSettings
    from lm_eval_trust.models.layers import parse_layers
    from lm_eval_trust.study.analyse import AnalysisSettings, analyse

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
        ),
        further_sigmas=tuple(_number("--sigma", text) for text in further),
        samples=args.samples,
        layers=tuple(parse_layers(args.layers)) if args.layers else None,
    )
    analysis = analyse(args.folder, args.out, settings)
    probes = analysis.table[analysis.table["estimator"] == "probe_accuracy"]
    last = probes[probes["step"] == probes["step"].max()]
    for dimension, rows in last.groupby("dimension"):
        best = rows.loc[rows["value"].idxmax()]
        print(
            f"{dimension}: probe accuracy {best['value']:.3f} ({best['low']:.3f} to "
            f"{best['high']:.3f}) at layer {best['layer']} of {best['checkpoint']}"
        )
    print(f"{args.out}: {len(analysis.table)} measurements, {len(analysis.phases)} rows of phases")
    return 0


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{name} {text} is not a number.") from None
