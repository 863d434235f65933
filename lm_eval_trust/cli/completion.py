"""``lm-eval-trust completion``: scripts that complete commands, options and names in a shell.

The scripts ask the command itself, so they also know the tasks, actions and judges of other
packages. Our own rather than shtab, whose scripts are made once and know nothing of those.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from lm_eval_trust.analysis.estimators import ESTIMATORS
from lm_eval_trust.benchmarks.partition import SPLITS
from lm_eval_trust.benchmarks.registry import DATA_SOURCES, known_dimensions
from lm_eval_trust.judges.registry import REFUSAL_JUDGES, TOXICITY_JUDGES, TRUTH_JUDGES
from lm_eval_trust.plugin import MODELS, task_paths
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.methods import METHODS
from lm_eval_trust.steering.spec import POSITIONS, SCALES

_BASH = """\
_lm_eval_trust() {
    local IFS=$'\\n'
    COMPREPLY=($(lm-eval-trust completion bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _lm_eval_trust lm-eval-trust
"""
_ZSH = """\
#compdef lm-eval-trust
_lm_eval_trust() {
    local -a found
    found=(${(f)"$(lm-eval-trust completion zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then compadd -- $found; else _files; fi
}
compdef _lm_eval_trust lm-eval-trust
"""
_FISH = """\
function __lm_eval_trust
    set -l words (commandline -opc) (commandline -ct)
    lm-eval-trust completion fish -- $words[2..] 2>/dev/null
end
complete -c lm-eval-trust -a '(__lm_eval_trust)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

#: The harness's models that load a model here; its others are clients of servers.
_HARNESS_MODELS = ("hf", "vllm")
_NAMES_OF_TASK = re.compile(r"^(?:task|group|tag):[ \t]*([\w-]+)[ \t]*$", re.MULTILINE)


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "completion",
        help="print a script that completes commands, options and names in your shell",
        description="Print the script for a shell. Load it in your shell's start-up file: "
        'eval "$(lm-eval-trust completion bash)" in ~/.bashrc, the same with zsh in ~/.zshrc '
        "(after compinit), or lm-eval-trust completion fish | source in config.fish.",
    )
    parser.add_argument("shell", choices=list(_SCRIPTS), help="your shell")
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the script, or what completes the words that the script has passed on."""
    from lm_eval_trust.cli import build_parser

    if not args.words:
        print(_SCRIPTS[args.shell], end="")
        return 0
    for candidate in candidates(build_parser(), args.words):
        print(candidate)
    return 0


def candidates(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """Return what the last word can be completed to.

    Args:
        parser: Parser of the whole command line.
        words: Those after the program's name; the last one is being typed and may be empty.

    Returns:
        Whole words that begin as the last one does, none where any file may come.
    """
    *before, current = _joined(words)
    path: tuple[str, ...] = ()
    option = ""
    for word in before:
        if word.startswith("-"):
            option = "" if "=" in word or _is_flag(parser, word) else word
        elif option:
            option = option if _takes_many(parser, option) else ""
        elif word in (children := _commands(parser)):
            parser, path = children[word], (*path, word)
    start = ""
    if current.startswith("--") and "=" in current:
        option, _, current = current.partition("=")
        start = f"{option}="
    if current.startswith("-"):
        known: Iterable[str] = parser._option_string_actions
    elif option:
        known = _values(parser, path, option)
    else:
        known = _commands(parser) or _positional(parser)
    if option in _LISTS:
        kept, comma, current = current.rpartition(",")
        start += kept + comma
    return [start + name for name in sorted(set(known)) if name.startswith(current)]


def _joined(words: Sequence[str]) -> list[str]:
    """Return the words without the ``=`` at which bash divides ``--option=value``."""
    kept = [word for word in words[:-1] if word != "="]
    return [*kept, "" if words[-1] == "=" else words[-1]]


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _is_flag(parser: argparse.ArgumentParser, option: str) -> bool:
    action = parser._option_string_actions.get(option)
    return action is not None and action.nargs == 0


def _takes_many(parser: argparse.ArgumentParser, option: str) -> bool:
    action = parser._option_string_actions.get(option)
    return action is not None and action.nargs in ("+", "*")


def _positional(parser: argparse.ArgumentParser) -> Iterable[str]:
    for action in parser._actions:
        if not action.option_strings:
            if action.choices is not None:
                return map(str, action.choices)
            return _dimensions() if action.dest == "dimension" else ()
    return ()


def _values(parser: argparse.ArgumentParser, path: tuple[str, ...], option: str) -> Iterable[str]:
    """Return the values of an option, if they have names."""
    action = parser._option_string_actions.get(option)
    if action is not None and action.choices is not None:
        return map(str, action.choices)
    if option == "--model" and path in _HARNESS_COMMANDS:
        return [*MODELS, *_HARNESS_MODELS]
    if option == "--method" and path == ("finetune",):
        from lm_eval_trust.training import finetune_config

        return finetune_config.METHODS
    find = _BY_OPTION.get(option)
    return find() if find else ()


def task_names() -> list[str]:
    """Return the names of our tasks and groups and of other packages', as their files have them."""
    files = [file for folder in task_paths() for file in Path(folder).rglob("*.yaml")]
    found = {n for file in files for n in _NAMES_OF_TASK.findall(file.read_text(encoding="utf-8"))}
    return sorted(found)


def _dimensions() -> list[str]:
    known = known_dimensions()
    return [*known, *(dimension.benchmark for dimension in known.values())]


def _made_models() -> list[str]:
    return [point.name for point in entry_points(group="lm_eval_trust.models")]


_HARNESS_COMMANDS = (("run",), ("sweep",), ("audit",))
#: Options whose values are lists with commas.
_LISTS = ("--tasks", "-t", "--suite", "--ability-tasks", "--dimensions")
_BY_OPTION: dict[str, Callable[[], Iterable[str]]] = {
    **dict.fromkeys(
        ("--tasks", "-t", "--suite", "--ability-tasks", "--perplexity-task"), task_names
    ),
    **dict.fromkeys(("--dimension", "--dimensions"), _dimensions),
    **dict.fromkeys(("--model", "--control-source"), _made_models),
    "--action": lambda: ACTIONS,
    "--estimator": lambda: ESTIMATORS,
    "--method": lambda: METHODS,
    "--positions": lambda: POSITIONS,
    "--refusal-judge": lambda: REFUSAL_JUDGES,
    "--scale": lambda: SCALES,
    "--source": lambda: DATA_SOURCES,
    "--split": lambda: SPLITS,
    "--toxicity-judge": lambda: TOXICITY_JUDGES,
    "--truth-judge": lambda: TRUTH_JUDGES,
}
