"""Checkpoints on this disk one after another: the next one comes while one is used."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from huggingface_hub import constants, hf_hub_url

from lm_eval_trust.checkpoints.cache import Budget, CheckpointCache, write_manifest
from lm_eval_trust.checkpoints.checkpoint import Checkpoint
from lm_eval_trust.checkpoints.download import download
from lm_eval_trust.checkpoints.listing import (
    Listing,
    MissingCheckpointError,
    hub_answers,
    list_checkpoint,
)
from lm_eval_trust.core.errors import ExternalError, TrustError
from lm_eval_trust.core.retry import Cancelled, RetryPolicy
from lm_eval_trust.models.sources import Source, find_source, made_model

__all__ = ["Budget", "CheckpointStore", "MissingCheckpointError"]

logger = logging.getLogger(__name__)


class CheckpointStore(AbstractContextManager["CheckpointStore"]):
    """Holds checkpoints of the Hub in a folder, within a budget.

    For one process, with as many threads as it likes; each process has its own folder. What
    lies on this disk anyway (a local folder, the embedded family, and the Hub's cache when
    ``HF_HUB_OFFLINE`` is set) is used where it is, counts for nothing, and stays.
    """

    def __init__(
        self, folder: Path, budget: Budget | None = None, policy: RetryPolicy | None = None
    ) -> None:
        """Name the place; nothing is written before a checkpoint is asked for.

        Args:
            folder: Where checkpoints go. What a killed process left there is gone on with when
                it is asked for, and deleted when its place is needed.
            budget: What may lie there at any moment; by default without limit.
            policy: When to give up on the Hub.
        """
        self._folder = folder
        self._budget = budget or Budget()
        self._policy = policy or RetryPolicy()
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._listings: dict[Checkpoint, Listing] = {}
        self._opened: CheckpointCache | None = None
        self._queue: deque[Checkpoint] = deque()
        self._worker: threading.Thread | None = None
        self._seconds = 0.0

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop downloads. With a budget, what was downloaded is deleted, unless an error ends it.

        After an error, partial downloads stay for the next run to continue with.
        """
        with self._guard:
            self._closing.set()
            self._queue.clear()
            worker = self._worker
        if self._opened is None:
            return
        self._opened.close()
        if worker is not None:
            worker.join()
        if kind is None and self._budget.limited:
            self._opened.evict_all()
        self._opened.unlock()

    @property
    def download_seconds(self) -> float:
        """Seconds spent on downloads so far, those in the background included."""
        return self._seconds

    def size(self, checkpoint: Checkpoint) -> int:
        """Return the bytes that a checkpoint takes in the store; 0 if it lies on this disk anyway.

        Raises:
            MissingCheckpointError: The Hub does not have it any more.
            InputError: There is no such repository, or it is not open to this user.
            ExternalError: The Hub cannot be reached.
        """
        return 0 if _is_here(checkpoint) else self._listing(checkpoint).size

    def prefetch(self, checkpoint: Checkpoint) -> None:
        """Fetch a checkpoint in the background, after those asked for before it.

        Starts as soon as its full size fits next to what is used. A failure shows when the
        checkpoint is used: :meth:`local` tries again.
        """
        if _is_here(checkpoint):
            return
        with self._guard:
            if checkpoint not in self._queue and not self._closing.is_set():
                self._queue.append(checkpoint)
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._fetch_ahead, daemon=True)
                self._worker.start()

    @contextmanager
    def local(self, checkpoint: Checkpoint) -> Iterator[Source]:
        """Yield where a checkpoint lies on this disk, once all of it does.

        While the block runs, it stays. Afterwards it goes when its place is needed, or when the
        store is closed if there is a budget; until then, using it again costs nothing.

        Raises:
            MissingCheckpointError: It is gone from the Hub or the disk.
            InputError: It is larger than the budget, not open to this user, or the store's folder
                contains something else in its place.
            ExternalError: The Hub cannot be reached, sends wrong bytes, or the disk is full.
        """
        if _is_here(checkpoint):
            yield _find_here(checkpoint)
            return
        self._forget(checkpoint)
        cache = self._cache()
        cache.notify()
        with _stopping_is_an_error(checkpoint):
            listing = self._listing(checkpoint)
            folder = cache.acquire(listing, self._fetch)
        try:
            yield Source(str(folder), listing.identity)
        finally:
            cache.release(listing)

    def _cache(self) -> CheckpointCache:
        with self._guard:
            if self._opened is None:
                self._opened = CheckpointCache(self._folder, self._budget)
            return self._opened

    def _listing(self, checkpoint: Checkpoint) -> Listing:
        """Return what the Hub has; asked once, so a revision that moves changes nothing."""
        found = self._listings.get(checkpoint)
        if found is None:
            found = list_checkpoint(checkpoint, self._policy, self._closing)
            found = self._listings.setdefault(checkpoint, found)
        return found

    def _forget(self, checkpoint: Checkpoint) -> None:
        """Take a checkpoint off the queue: whoever uses it fetches it as well."""
        with self._guard:
            if checkpoint in self._queue:
                self._queue.remove(checkpoint)

    def _is_queued(self, checkpoint: Checkpoint) -> bool:
        with self._guard:
            return checkpoint in self._queue

    def _fetch_ahead(self) -> None:
        """Fetch what is queued, until nothing is."""
        while True:
            with self._guard:
                if not self._queue:
                    self._worker = None
                    return
                checkpoint = self._queue[0]
            try:
                wanted = partial(self._is_queued, checkpoint)
                self._cache().prefetch(self._listing(checkpoint), self._fetch, wanted)
            except Cancelled:
                logger.debug("%s is not fetched in advance any more", checkpoint.name)
            except TrustError as error:
                logger.warning("%s cannot be fetched in advance: %s", checkpoint.name, error)
            self._forget(checkpoint)

    def _fetch(self, listing: Listing, folder: Path, stop: threading.Event) -> None:
        """Fetch the files that are not there yet."""
        start = time.monotonic()
        try:
            with hub_answers(listing.location, listing.revision), _disk_errors(folder):
                write_manifest(folder, listing)
                for file in listing.files:
                    target = folder / file.name
                    if not target.is_file() or target.stat().st_size != file.size:
                        url = hf_hub_url(listing.location, file.name, revision=listing.commit)
                        download(url, file, target, self._policy, stop)
        finally:
            with self._guard:
                self._seconds += time.monotonic() - start


def _is_here(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint is used where it lies."""
    return checkpoint.revision is None or bool(constants.HF_HUB_OFFLINE)


def _find_here(checkpoint: Checkpoint) -> Source:
    if checkpoint.revision is not None:
        return find_source(f"{checkpoint.location}@{checkpoint.revision}")
    folder = Path(checkpoint.location).expanduser()
    if made_model(checkpoint.location) is None and not (folder / "config.json").is_file():
        raise MissingCheckpointError(f"There is no model in the folder {checkpoint.location}.")
    return find_source(checkpoint.location)


@contextmanager
def _stopping_is_an_error(checkpoint: Checkpoint) -> Iterator[None]:
    try:
        yield
    except Cancelled as error:
        raise ExternalError(f"The store was closed before {checkpoint.name} had come.") from error


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the operating system refuses into an error; the Hub's errors pass through."""
    try:
        yield
    except OSError as error:
        if error.errno is None or hasattr(error, "response"):
            raise
        raise ExternalError(
            f"Cannot write {folder}: {error.strerror}. Free space there, lower the budget, or give "
            f"another folder."
        ) from error
