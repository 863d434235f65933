"""What the paper's released files get wrong: each documented figure, measured again.

The figures come from a comparison of the released files with the benchmarks' own; a finding that
no longer agrees says so instead of passing for true.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lm_eval_trust.benchmarks import confaide, stereoset, toxigen, tracingllm
from lm_eval_trust.benchmarks.perturbation import count_flipped
from lm_eval_trust.benchmarks.statements import Statement
from lm_eval_trust.core.hashing import group_id


@dataclass(frozen=True)
class Finding:
    """One figure.

    Attributes:
        dimension: The dimension's name.
        file: The released file.
        what: What is counted.
        documented: The figure on record, rounded as it stands there.
        measured: The figure measured now.
        decimals: Decimals of the documented figure.
    """

    dimension: str
    file: str
    what: str
    documented: float
    measured: float
    decimals: int = 0

    @property
    def agrees(self) -> bool:
        """Whether the measured figure, rounded alike, is the documented one."""
        return round(self.measured, self.decimals) == self.documented


def released_findings(dimension: str | None = None) -> list[Finding]:
    """Measure the findings of one dimension's released files, or of all five.

    Args:
        dimension: A dimension's name, e.g. ``privacy``; ``None`` for all. ``universal`` has no
            released file, hence no findings.

    Raises:
        MissingDataError: A file is not available.
    """
    return [
        finding
        for name, measure in _MEASURES.items()
        if dimension in (None, name)
        for finding in measure()
    ]


def _robustness() -> list[Finding]:
    items = tracingllm.sst2_statements()
    twice = [g for g, rows in _by_group(items).items() if sorted(r.label for r in rows) == [0, 1]]
    twins = _share_seen_before([item.group for item in items])
    labels = Counter(text for text, _ in {(item.text, item.label) for item in items})
    unchanged = sum(count > 1 for count in labels.values())
    return [
        Finding("robustness", tracingllm.SST2, what, documented, measured, decimals)
        for what, documented, measured, decimals in (
            ("sentences that occur twice, with opposite labels", 1821, len(twice), 0),
            ("share of sentences of the last fifth in the first four", 0.91, twins, 2),
            ("share of letters whose case is flipped", 0.047, _share_flipped(items), 3),
            ("texts left unchanged that carry both labels", 14, unchanged, 0),
        )
    ]


def _share_flipped(items: Sequence[Statement]) -> float:
    """Return flipped letters / letters over all pairs of a sentence and its perturbation."""
    counts = []
    for rows in _by_group(items).values():
        original, perturbed = sorted(rows, key=lambda row: row.label)
        counts.append(count_flipped(original.text, perturbed.text))
    return sum(flipped for flipped, _ in counts) / sum(letters for _, letters in counts)


def _fairness() -> list[Finding]:
    candidates = tracingllm.stereoset_candidates()
    golds = Counter((label, candidate.gold) for _, label, candidate in candidates)
    anti, unrelated = golds[1, "anti-stereotype"], golds[0, "unrelated"]
    race = {c.text for _, _, c in candidates if c.bias_type == "race"}
    others = sum(candidate.bias_type != "race" for _, _, candidate in candidates)
    stereotypes = golds[0, "stereotype"] + golds[1, "stereotype"]
    items = {
        item["id"]
        for item in stereoset.read_items()
        if f"{item['context']} {item['anti_stereotype']}" in race
    }
    return [
        Finding("fairness", tracingllm.STEREOSET, what, documented, measured)
        for what, documented, measured in (
            ("inter-sentence items of bias type race", 976, len(items)),
            ("statements of other bias types", 0, others),
            ("statements with label 1 that are the anti-stereotype", 976, anti),
            ("statements with label 0 that are the unrelated candidate", 976, unrelated),
            ("stereotypes", 0, stereotypes),
        )
    ]


def _toxicity() -> list[Finding]:
    items, official = tracingllm.toxigen_statements(), toxigen.read_sentences()
    pairs = [
        (item.label, row)
        for item, row in zip(items, official, strict=True)
        if item.text == row["text"]
    ]
    above_two = sum(label == (row["toxicity_score"] > 2) for label, row in pairs)
    neutral = sum(label == 1 and row["label"] == "neutral" for label, row in pairs)
    return [
        Finding("toxicity", tracingllm.TOXIGEN, what, documented, measured)
        for what, documented, measured in (
            ("sentences labelled 1 exactly when their score is above 2", 6514, above_two),
            ("neutral sentences (score of at most 3) with label 1", 866, neutral),
            ("repeated sentences", 76, _repeats([item.text for item in items])),
        )
    ]


def _privacy() -> list[Finding]:
    texts = [item.text for item in confaide.statements()]
    tier2 = {row["group_id"] for row in confaide.tier2_rows()}
    half = len(texts) // 2
    first = set(texts[:half])
    return [
        Finding("privacy", confaide.STATEMENTS, what, documented, measured)
        for what, documented, measured in (
            ("statements", 2346, len(texts)),
            ("statements that occur in ConfAIde's tier 2a", 31, _count(texts, tier2)),
            ("repeated statements", 77, _repeats(texts)),
            (
                "statements of the second half (evaluated) that are in the first (trained on)",
                41,
                sum(text in first for text in texts[half:]),
            ),
        )
    ]


def _count(texts: Sequence[str], groups: set[str]) -> int:
    return sum(group_id(text) in groups for text in texts)


def _reliability() -> list[Finding]:
    groups = [item.group for item in tracingllm.truthfulqa_statements()]
    shared = set(groups) & {group_id(q) for q in tracingllm.truthfulqa_questions()}
    return [
        Finding(
            "reliability",
            tracingllm.ANSWERS,
            "share of questions of the last fifth in the first four",
            0.997,
            _share_seen_before(groups),
            decimals=3,
        ),
        Finding(
            "reliability",
            tracingllm.QUESTIONS,
            "questions shared by the train and the test file",
            0,
            len(shared),
        ),
    ]


def _by_group(items: Sequence[Statement]) -> dict[str, list[Statement]]:
    found: defaultdict[str, list[Statement]] = defaultdict(list)
    for item in items:
        found[item.group].append(item)
    return found


def _share_seen_before(groups: Sequence[str]) -> float:
    """Return which share of the last fifth's distinct groups the first four fifths hold too."""
    cut = len(groups) * 4 // 5
    last = set(groups[cut:])
    return len(last & set(groups[:cut])) / len(last)


def _repeats(texts: Sequence[str]) -> int:
    return len(texts) - len(set(texts))


_MEASURES: dict[str, Callable[[], list[Finding]]] = {
    "reliability": _reliability,
    "toxicity": _toxicity,
    "privacy": _privacy,
    "fairness": _fairness,
    "robustness": _robustness,
}
