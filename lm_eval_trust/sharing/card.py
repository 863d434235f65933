"""The README.md of a repository of vectors: metadata, how to use each, where it comes from.

A repository may hold several vectors, and people may write into its card: each vector has a part
between two marks, and a push replaces that part alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from lm_eval_trust.core.errors import InputError, reason_of
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.sharing.effects import Effect
from lm_eval_trust.steering.evidence import doubts, from_record, table
from lm_eval_trust.steering.hub_names import HubName, hub_name
from lm_eval_trust.steering.vectors import SteeringVector

CARD = "README.md"
_HEAD = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
_TAGS = ("steering-vector", "lm_eval_trust")
#: Settings of a vector's provenance that the table shows elsewhere, or that are long.
_HIDDEN = ("commit", "hub")


def updated_card(
    old: str, vector: SteeringVector, name: HubName, effects: Sequence[Effect] = ()
) -> str:
    """Return a card that describes a vector, and keeps whatever else the old card says.

    Args:
        old: The repository's card; empty if it has none.
        vector: The vector.
        name: Where it is pushed.
        effects: Measured effects.

    Raises:
        InputError: The old card's head is not YAML, or a mark of the part is missing.
    """
    metadata, body = _divided(old, name)
    tags = metadata.get("tags") or []
    listed = tags if isinstance(tags, list) else [tags]
    metadata["tags"] = list(dict.fromkeys([*listed, *_TAGS]))
    metadata.setdefault("library_name", "lm_eval_trust")
    if (base := _base_model(vector.provenance)) and not metadata.get("base_model"):
        metadata["base_model"] = base
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True).strip()
    part = "\n".join(_part(vector, name, effects))
    if not body.strip():
        body = f"# {name.repository.partition('/')[2]}\n\n{_INTRODUCTION}\n"
    return f"---\n{head}\n---\n\n{_with_part(body.strip(), part, name)}\n"


_INTRODUCTION = (
    "Steering vectors for language models, made with "
    "[lm_eval_trust](https://pypi.org/project/lm-eval-trust/). A steering vector is added to the "
    "hidden states of a model while it answers, and moves what it says in one direction."
)


def _divided(card: str, name: HubName) -> tuple[dict[str, Any], str]:
    found = _HEAD.match(card)
    if found is None:
        return {}, card
    try:
        metadata = yaml.safe_load(found[1]) or {}
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(
            f"The head of {CARD} in {name.repository} is not YAML ({reason_of(error)}); mend it on "
            f"the Hub first."
        ) from error
    if not isinstance(metadata, dict):
        raise InputError(f"The head of {CARD} in {name.repository} is not a YAML mapping.")
    return metadata, card[found.end() :]


def _with_part(body: str, part: str, name: HubName) -> str:
    first, last = f"<!-- vector: {name.file} -->", f"<!-- end of vector: {name.file} -->"
    marked = f"{first}\n{part}\n{last}"
    before, opened, rest = body.partition(first)
    if not opened:
        return f"{body}\n\n{marked}"
    _, closed, after = rest.partition(last)
    if not closed:
        raise InputError(
            f"{CARD} in {name.repository} has {first!r} without {last!r}; restore the mark, or "
            f"remove both."
        )
    return f"{before}{marked}{after}"


def _base_model(made: Provenance | None) -> str | None:
    """Return the Hub name of the model that a vector was built from; the Hub takes no other."""
    if made is None or not made.settings.get("commit"):
        return None
    return made.model if hub_name(made.model) else None


def _part(vector: SteeringVector, name: HubName, effects: Sequence[Effect]) -> Iterator[str]:
    layers, made = sorted(vector.layers), vector.provenance
    reft = any(each.parts for each in vector.layers.values())
    steps = f"vector={name.repository}:{name.file},layer={layers[len(layers) // 2]},alpha=1"
    if made is None:
        steps += ",scale=unit"
    yield f"## `{name.file}`"
    yield ""
    yield _summary(vector)
    yield ""
    yield "### Use it"
    yield ""
    yield "```bash"
    yield 'pip install "lm_eval_trust"'
    yield "lm_eval --model steered_amber \\"
    yield f"  --model_args pretrained=MODEL,{steps} \\"
    yield "  --tasks trust_suite"
    yield "```"
    yield ""
    yield (
        f"MODEL has to have a hidden size of {vector.width}. To pin the version, write "
        f"`{name.repository}@COMMIT:{name.file}`."
    )
    if reft:
        yield ""
        yield "This vector carries further tensors for actions other than `add`."
    yield ""
    yield from _origin(made)
    yield from _effects(effects)


def _summary(vector: SteeringVector) -> str:
    layers, made = sorted(vector.layers), vector.provenance
    where = "attention heads" if vector.site == "heads" else "decoder blocks"
    text = f"Directions for {where} {_ranges(layers)}, width {vector.width}."
    if made is None:
        return f"{text} It was imported from another tool, so its origin is unknown."
    return (
        f"{text} Built from `{made.model}` for **{made.dimension}** by `{made.method}`, from "
        f"{len(made.items)} statements. Adding it moves the model towards the trustworthy side."
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Return ``3, 5 to 8`` for 3, 5, 6, 7, 8."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in runs)


def _origin(made: Provenance | None) -> Iterator[str]:
    yield "### Where it comes from"
    yield ""
    if made is None:
        yield (
            "Unknown. The leak guard can't tell whether the items you evaluate on were used to "
            "build it."
        )
        yield ""
        return
    settings = {k: v for k, v in made.settings.items() if k not in _HIDDEN}
    rows: Mapping[str, Any] = {
        "Model": f"`{made.model}`",
        "Revision": f"`{made.settings.get('commit') or made.revision}`",
        "Dimension": made.dimension,
        "Data": f"{made.data_source}, {made.part} part of a {made.split} split "
        f"(seed {made.split_seed})",
        "Statements": f"{len(made.items)} in {len(made.groups)} groups",
        "Method": f"`{made.method}`",
        "Settings": ", ".join(f"{k} {_plain(v)}" for k, v in sorted(settings.items())) or "–",
        "Versions": ", ".join(f"{k} {v}" for k, v in sorted(made.versions.items())) or "–",
        "Fingerprint": f"`{made.fingerprint}`",
    }
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {key} | {_cell(value)} |" for key, value in rows.items())
    yield ""
    yield (
        "The file lists every statement it was built from. lm_eval_trust refuses to evaluate on "
        "them."
    )
    yield ""
    if made.evidence:
        evidence = from_record(made.evidence)
        yield "Evidence from the activations it was built from:"
        yield ""
        yield "```text"
        yield table(evidence)
        yield "```"
        yield ""
        yield from (f"- Warning: {doubt}" for doubt in doubts(evidence))


def _effects(effects: Sequence[Effect]) -> Iterator[str]:
    if not effects:
        return
    yield "### Measured effects"
    yield ""
    for source in dict.fromkeys(effect.source for effect in effects):
        yield f"{source}:"
        yield ""
        yield from (f"- {each.said}" for each in effects if each.source == source)
        yield ""


def _plain(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("...\n").strip()


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
