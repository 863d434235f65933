"""Start vLLM's OpenAI server with named configurations."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from transformers import AutoConfig

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.engine.middleware import NAMES_VARIABLE
from lm_eval_trust.engine.requests import SLOTS_VARIABLE, default_folder, publish, slots
from lm_eval_trust.models.sources import Source, find_source, hub_errors
from lm_eval_trust.steering.spec import combined_plan, read_steering_file

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")


@dataclass(frozen=True)
class Server:
    """What is served.

    Attributes:
        model: Hub name or folder.
        steering: ``[NAME=]FILE`` of each configuration.
        host: Address to listen at.
        port: Its port.
        arguments: Further arguments of ``vllm serve``.
    """

    model: str
    steering: tuple[str, ...]
    host: str
    port: int
    arguments: tuple[str, ...]


def serve(server: Server, *, dry_run: bool = False) -> int:
    """Publish the configurations and become the server; return only where nothing is run.

    Args:
        server: What is served.
        dry_run: Check everything, print the command, and end.

    Raises:
        InputError: vLLM is missing or another release than those tested, a configuration that does
            not fit the model, or a name that is given twice.
        ExternalError: A model that a vector is built from cannot be fetched.
    """
    if find_spec("vllm") is None:
        raise InputError(
            'The server is vLLM\'s, which is not installed: pip install "lm-eval-trust[vllm]".'
        )
    from lm_eval_trust.engine.vllm_internals import (
        ServerSteering,
        check_version,
        engine_environment,
    )

    check_version()
    source = find_source(server.model)
    folder = default_folder()
    names = _publish(server, source, folder)
    revision = ("--revision", source.identity.commit) if source.identity.commit else ()
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", source.location, *revision),
        *("--served-model-name", server.model, *names),
        *("--middleware", f"{ServerSteering.__module__}.{ServerSteering.__name__}"),
        *("--host", server.host, "--port", str(server.port)),
        *server.arguments,
    ]
    variables = {
        **engine_environment(folder),
        NAMES_VARIABLE: json.dumps(names),
        SLOTS_VARIABLE: str(max(slots(), len(names))),
    }
    if dry_run:
        print(" ".join([*(f"{k}={shlex.quote(v)}" for k, v in variables.items()), *command]))
        return 0
    # Signals go to the server itself, so that nothing is left behind.
    sys.stdout.flush()
    os.execve(command[0], command, {**os.environ, **variables})  # nosec B606


def _publish(server: Server, source: Source, folder: Path) -> Mapping[str, str]:
    names: dict[str, str] = {}
    with hub_errors(source.location, source.identity.revision):
        config = AutoConfig.from_pretrained(source.location, **source.arguments).get_text_config()
    for given in server.steering:
        name, _, file = given.rpartition("=")
        name = name or Path(file).stem
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} cannot name a configuration: letters, digits, dots, dashes, 64 at most."
            )
        if name in names or name == server.model:
            raise InputError(f"Two configurations are named {name}; name one by NAME={file}.")
        plan = combined_plan(read_steering_file(file))
        plan.check(blocks=config.num_hidden_layers, width=config.hidden_size, model=server.model)
        names[name] = publish(plan, folder)
    return names
