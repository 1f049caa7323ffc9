"""Ctrl-C that waits until what is under way is whole."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interrupt_later() -> Iterator[Callable[[], bool]]:
    """Hold a first Ctrl-C back until the block ends; a second one comes at once.

    Nothing is held back outside the main thread, where Python delivers no signals, nor where
    somebody else already handles this one.

    Yields:
        A function that says whether Ctrl-C was pressed.

    Raises:
        KeyboardInterrupt: at the end of the block, if it was.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    pressed: list[int] = []

    def note(number: int, _: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
