"""Work that waits in a line for the one worker, and whom the line has no place for."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus

WAITING = 16  # requests that may wait for the one that is answered
BUSY = f"busy: {WAITING} others wait already: try again in a moment"


class Refused(Exception):
    def __init__(self, status: HTTPStatus, line: str):
        super().__init__(line)
        self.status = status


class Line:
    """Jobs one after the other, in the order in which they came, on one thread."""

    def __init__(self, waiting: int):
        self._places = threading.BoundedSemaphore(waiting + 1)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="worker")
        self._lock = threading.Lock()
        self._taken = self._done = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Refused where all are taken."""
        if not self._places.acquire(blocking=False):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, BUSY)
        try:
            yield
        finally:
            self._places.release()

    def submit(self, job: Callable[[], None]) -> Callable[[], int]:
        """-> how many come before it."""
        with self._lock:
            self._taken += 1
            ticket = self._taken

            def run() -> None:
                try:
                    job()
                finally:
                    self._done = ticket

            self._worker.submit(run)
        return lambda: max(0, ticket - self._done - 1)

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)
