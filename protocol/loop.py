"""The one loop of a node: a ZeroMQ poller, timers, and a wake-up for signals and the journal's writer.

No poll waits over 250 ms: on Windows a blocking poll is not interrupted by Ctrl-C, and a dead child is seen at the
next turn. An exception in a callback ends the loop and the process: nodes are crash-only.
"""

from __future__ import annotations

import heapq
import itertools
import signal
import socket as sockets
from collections import deque
from collections.abc import Callable

import zmq

from protocol.clock import Clock, SystemClock

MAX_POLL_MS = 250
_MINUTE_NS = 60_000_000_000
_FROZEN_NS = 1_000_000_000  # no turn for so long: the process was frozen (sleep, SIGSTOP), or blocked
_ARRIVING_NS = 1_000_000_000  # so long after it what was sent meanwhile may still be coming in

Callback = Callable[[], None]


class Timer:
    """A callback that is due at some time, once or again and again."""

    __slots__ = ("_cancelled", "callback", "interval_ns")

    def __init__(self, callback: Callback, interval_ns: int | None) -> None:
        self.callback = callback
        self.interval_ns = interval_ns
        self._cancelled = False

    def cancel(self) -> None:
        """Never call back again. Calling it twice, or from the callback itself, is fine."""
        self._cancelled = True

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled


class Loop:
    """Watches sockets and timers; owned by one thread."""

    def __init__(self, clock: Clock | None = None, context: zmq.Context[zmq.Socket[bytes]] | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.context: zmq.Context[zmq.Socket[bytes]] = context or zmq.Context()
        self.turns = 0
        self._longest_turn_ns = 0
        self._longest_before_ns = 0
        self._minute_ends_ns = self.clock.monotonic_ns() + _MINUTE_NS
        self._turned_ns = self._before_ns = self.clock.monotonic_ns()
        self._thawed_until_ns = 0
        self._frozen_from_ns = 0
        self._poller = zmq.Poller()
        self._callbacks: dict[object, Callback] = {}
        self._timers: list[tuple[int, int, Timer]] = []
        self._serial = itertools.count()
        self._posted: deque[Callback] = deque()
        self._stopping = False
        self._wakes_on_signals = False
        # A signal or another thread writes one byte here, which ends the poll at once on every platform.
        self._wake_in, self._wake_out = sockets.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self.watch(self._wake_in, self._drain_wakeups)

    def watch(self, socket: zmq.Socket[bytes] | sockets.socket, callback: Callback) -> None:
        """Call `callback` whenever `socket` has something to read. It must read, and only so much at a time."""
        self._callbacks[_key(socket)] = callback
        self._poller.register(socket, zmq.POLLIN)

    def unwatch(self, socket: zmq.Socket[bytes] | sockets.socket) -> None:
        """Stop watching; before the socket is closed."""
        if self._callbacks.pop(_key(socket), None) is not None:
            self._poller.unregister(socket)

    def every(self, interval_s: float, callback: Callback) -> Timer:
        """Call `callback` every `interval_s` seconds, first after one interval. Missed beats are not made up for.

        Raises:
            ValueError: The interval is not above 0: the loop would do nothing else.
        """
        if not interval_s > 0:
            raise ValueError(f"an interval of {interval_s} s: a timer needs more than 0")
        return self._schedule(callback, interval_s, max(1, round(interval_s * 1e9)))

    def after(self, delay_s: float, callback: Callback) -> Timer:
        """Call `callback` once, `delay_s` seconds from now."""
        return self._schedule(callback, delay_s, None)

    def post(self, callback: Callback) -> None:
        """Run `callback` at the next turn. The one method that another thread may call."""
        self._posted.append(callback)
        self.wake()

    def wake(self) -> None:
        """End the present poll."""
        try:
            self._wake_out.send(b"\0")
        except BlockingIOError:
            return  # the pipe is full of wake-ups already

    def wake_on_signals(self) -> None:
        """Let signals end the poll at once. Main thread only."""
        signal.set_wakeup_fd(self._wake_out.fileno(), warn_on_full_buffer=False)
        self._wakes_on_signals = True

    def stop(self) -> None:
        """Leave `run` after the present turn."""
        self._stopping = True
        self.wake()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def run(self) -> None:
        """Turn until `stop`."""
        while not self._stopping:
            self.turn()

    def turn(self, max_wait_ms: int = MAX_POLL_MS) -> None:
        """Poll once, at most `max_wait_ms` milliseconds, then call what is ready and what is due."""
        self.turns += 1
        ready = self._poller.poll(self._wait_ms(max_wait_ms))
        begun_ns = self._note_begin()
        for socket, _ in ready:
            callback = self._callbacks.get(socket)
            if callback is not None:  # an earlier callback of this turn may have unwatched it
                callback()
        for _ in range(len(self._posted)):
            self._posted.popleft()()
        self._run_due()
        self._note_turn(begun_ns)

    @property
    def waiting_since_ns(self) -> int:
        """The moment since which what a socket gives now may have waited: the last turn, or a freeze's beginning."""
        return self._frozen_from_ns if self._turned_ns < self._thawed_until_ns else self._before_ns

    @property
    def longest_turn_ms(self) -> float:
        """The longest turn of the last minute or two, without its poll: for so long nothing else was served."""
        return max(self._longest_turn_ns, self._longest_before_ns) / 1e6

    def close(self) -> None:
        """Close the wake-up pair and end the context. Every socket must be closed before."""
        if self._wakes_on_signals:
            signal.set_wakeup_fd(-1)  # the number may soon be another file's
        self.unwatch(self._wake_in)
        self._wake_in.close()
        self._wake_out.close()
        self.context.term()

    def _schedule(self, callback: Callback, delay_s: float, interval_ns: int | None) -> Timer:
        timer = Timer(callback, interval_ns)
        due_ns = self.clock.monotonic_ns() + round(delay_s * 1e9)
        heapq.heappush(self._timers, (due_ns, next(self._serial), timer))
        return timer

    def _wait_ms(self, max_wait_ms: int) -> int:
        if self._posted or self._stopping:
            return 0
        wait_ms = min(max_wait_ms, MAX_POLL_MS)
        if self._timers:
            until_due_ns = self._timers[0][0] - self.clock.monotonic_ns()
            # Rounded up: a poll that ends before the timer is due would spin.
            wait_ms = min(wait_ms, max(0, -(-until_due_ns // 1_000_000)))
        return wait_ms

    def _run_due(self) -> None:
        now_ns = self.clock.monotonic_ns()
        while self._timers and self._timers[0][0] <= now_ns:
            due_ns, _, timer = heapq.heappop(self._timers)
            if timer.cancelled:
                continue
            if timer.interval_ns is not None:
                next_ns = due_ns + timer.interval_ns
                if next_ns <= now_ns:
                    next_ns = now_ns + timer.interval_ns
                heapq.heappush(self._timers, (next_ns, next(self._serial), timer))
            timer.callback()

    def _note_begin(self) -> int:
        now_ns = self.clock.monotonic_ns()
        self._before_ns, self._turned_ns = self._turned_ns, now_ns
        if now_ns - self._before_ns > _FROZEN_NS:
            if self._before_ns >= self._thawed_until_ns:
                self._frozen_from_ns = self._before_ns
            self._thawed_until_ns = now_ns + _ARRIVING_NS
        return now_ns

    def _note_turn(self, begun_ns: int) -> None:
        now_ns = self.clock.monotonic_ns()
        if now_ns - begun_ns > self._longest_turn_ns:
            self._longest_turn_ns = now_ns - begun_ns
        if now_ns >= self._minute_ends_ns:
            self._longest_before_ns, self._longest_turn_ns = self._longest_turn_ns, 0
            self._minute_ends_ns = now_ns + _MINUTE_NS

    def _drain_wakeups(self) -> None:
        try:
            while self._wake_in.recv(4096):
                pass
        except BlockingIOError:
            return


def _key(socket: zmq.Socket[bytes] | sockets.socket) -> object:
    # The poller reports ZeroMQ sockets as objects and plain ones by file number.
    return socket.fileno() if isinstance(socket, sockets.socket) else socket
