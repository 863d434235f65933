"""A judge behind a server: bounded concurrency, one more try for what could not be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.judges.interface import Verdict
from lm_eval_trust.judges.openai_client import Server, StoppedError
from lm_eval_trust.judges.openai_replies import KINDS, tokens_of
from lm_eval_trust.judges.prompts import Prompt


@dataclass
class RemoteEngine:
    """One model of a server, asked in one form.

    Attributes:
        server: Where.
        model: Its name there.
        form: A name of :data:`KINDS`.
        version: Of the prompts.
        concurrency: Requests at once.
        without: Parameters that the server has refused so far.
    """

    server: Server
    model: str
    form: str
    version: str
    concurrency: int
    without: frozenset[str] = field(default=frozenset())

    @property
    def identity(self) -> str:
        """What verdicts depend on; another address may serve another model of the same name."""
        return f"openai {self.server.address} {self.model} {self.form} {self.version}"

    @property
    def title(self) -> str:
        """The model's name."""
        return self.model

    def judge(self, prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, Verdict]]:
        """Yield prompts with their verdicts as they come.

        The first request that fails for good stops the others; what is under way is waited for,
        since it is paid for.

        Raises:
            ExternalError: A request failed for good.
        """
        waiting = iter(prompts)
        running: dict[Future[Verdict], Prompt] = {}
        failure: ExternalError | None = None
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="judge")
        try:
            while True:
                while failure is None and len(running) < self.concurrency:
                    prompt = next(waiting, None)
                    if prompt is None:
                        break
                    running[pool.submit(self._decide, prompt)] = prompt
                if not running:
                    break
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    prompt = running.pop(done)
                    try:
                        verdict = done.result()
                    except StoppedError:
                        continue
                    except ExternalError as error:
                        failure = failure or error
                        self.server.stopped.set()
                        continue
                    yield prompt, verdict
        finally:
            self.server.stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self.server.stopped.clear()
        if failure is not None:
            raise failure

    def _decide(self, prompt: Prompt) -> Verdict:
        verdict = self._ask(prompt)
        return verdict if verdict.accepted is not None else self._ask(prompt)

    def _ask(self, prompt: Prompt) -> Verdict:
        kind = KINDS[self.form]
        reply = self.server.ask(
            lambda client: kind.send(client, self.model, prompt, self.without),
            sent=prompt.system + prompt.text,
            reply_tokens=kind.reply_tokens,
            usage=tokens_of,
            adapt=self._leave_out,
        )
        return kind.read(reply)

    def _leave_out(self, error: Exception) -> bool:
        """Leave out, from here on, the optional parameters that a server's refusal names."""
        if getattr(error, "status_code", None) not in (400, 422):
            return False
        refused = frozenset(name for name in KINDS[self.form].optional if name in str(error))
        new = refused - self.without
        self.without |= new
        return bool(new)
