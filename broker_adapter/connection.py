"""The connection to the terminal: attaching every link, logging in, coming back after a loss, keeping the account.

Only the trade link logs in, and only after it found another account than the configured one: `login` switches the
account for every attached process. Without a configured login the account found first is the one, for this life.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import msgspec

from broker_adapter.api_types import ApiTerminal
from broker_adapter.attachment import Attachment, ConnectionState, Step, after, overall
from broker_adapter.breaker import Breaker, BreakerState, backoff_s
from broker_adapter.link_messages import (
    NO_TERMINAL,
    PIPE_CODES,
    RAISED,
    RES_E_AUTH_FAILED,
    RES_E_TIMEOUT,
    AnyCommand,
    Attach,
    Attached,
    Call,
    LinkRole,
    Send,
    SendOutcome,
)
from broker_adapter.link_results import LinkResult
from broker_adapter.links import Links
from mt5bus.settings import Settings
from protocol.errors import CircuitOpen, DataInvalid, NotReady
from protocol.loop import Loop

_LOOK_INTERVAL_S = 0.05
_CHANCE = random.random  # noqa: S311  for jitter, not for secrets
_MISSING_RETRY_S = 0.5
_START_TERMINAL_S = 120.0  # initialize tries for 100 s after it has started one

log = logging.getLogger(__name__)


class TerminalIdentity(msgspec.Struct, frozen=True):
    """The account and terminal that orders are meant for."""

    login: int
    server: str
    data_path: str


class _LinkState(msgspec.Struct):
    state: Attachment = Attachment.DOWN
    failures: int = 0
    retry_at_ns: int = 0


class Connection:
    """Attaches the links and keeps them attached; everybody's calls go through `call`.

    Args:
        path: Of the terminal, as `initialize` takes it.
        may_start: Whether a missing terminal may be started by attaching to it.
        on_change: Called after every change of `state`.
        on_attached: Called with the roles of a link that has (again) attached.
        chance: Gives numbers from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        loop: Loop,
        links: Links,
        settings: Settings,
        *,
        path: str,
        may_start: bool = False,
        on_change: Callable[[], None] = lambda: None,
        on_attached: Callable[[tuple[LinkRole, ...]], None] = lambda _roles: None,
        chance: Callable[[], float] = _CHANCE,
    ) -> None:
        self.on_change = on_change
        self.on_attached = on_attached
        self.attached_count = 0
        self.detail = "starting"
        self.terminal: ApiTerminal | None = None
        self.probe_ms = 0.0
        self._loop = loop
        self._links = links
        self._terminal_settings = settings.terminal
        self._tuning = settings.adapter.connection
        self._query_s = settings.adapter.deadlines.query_s
        self._path = path
        self._may_start = may_start
        self._chance = chance
        self._breaker = Breaker(
            failures=self._tuning.breaker_failures, open_s=self._tuning.breaker_open_s, max_s=self._tuning.breaker_max_s
        )
        self._states = {links.roles_together(role): _LinkState() for role in LinkRole}
        self._expected: tuple[int, str] | None = None
        if settings.terminal.login is not None and settings.terminal.server:
            self._expected = (settings.terminal.login, settings.terminal.server)
        self._present: tuple[int, str] | None = None
        self._data_path = ""
        self._missing = False
        self._login_retry_ns = 0
        self._login_failures = 0
        self._last_state: ConnectionState = "attaching"
        links.on_ready = self._on_link_ready
        links.on_lost = lambda roles: self._step(roles, Step.LOST)
        loop.every(_LOOK_INTERVAL_S, self._look)
        loop.every(self._tuning.health_check_interval_s, self._probe)

    @property
    def state(self) -> ConnectionState:
        """Return the state of the connection as a whole."""
        return overall(
            trade=self._of(LinkRole.TRADE).state,
            feed=self._of(LinkRole.FEED).state,
            account_is_right=self.account_is_right,
            broker_connected=self.terminal is None or self.terminal.connected,
            breaker_open=self.breaker == "open",
            terminal_missing=self._missing,
        )

    @property
    def breaker(self) -> BreakerState:
        """Return the state of the circuit breaker."""
        return self._breaker.state(self._loop.clock.monotonic_ns())

    @property
    def account_is_right(self) -> bool:
        """Whether the terminal is on the account this adapter serves."""
        return self._present is not None and self._present == self._expected

    @property
    def present(self) -> tuple[int, str] | None:
        """Login and server that the terminal was last seen on."""
        return self._present

    @property
    def expected(self) -> tuple[int, str] | None:
        """Login and server that this adapter serves; None until the first account is known."""
        return self._expected

    def serves(self, login: int, server: str) -> bool:
        """Whether this is the account that this adapter serves."""
        return self._expected == (login, server)

    def _fits_settings(self, present: tuple[int, str] | None) -> bool:
        wanted = self._terminal_settings
        if present is None or wanted.login is None:
            return present is not None
        return present[0] == wanted.login and wanted.server in {"", present[1]}

    @property
    def identity(self) -> TerminalIdentity | None:
        """Return the account and terminal that orders are meant for; None before the first attaching."""
        if self._expected is None or not self._data_path:
            return None
        return TerminalIdentity(*self._expected, self._data_path)

    @property
    def ready_to_trade(self) -> bool:
        """Whether an order would reach the right account now."""
        return self.state == "attached"

    def attached(self, role: LinkRole) -> bool:
        """Whether the link of `role` is attached."""
        return self._of(role).state is Attachment.ATTACHED

    def not_ready(self) -> NotReady | CircuitOpen:
        """Return the error for who asks while the terminal is away."""
        if self.state == "circuit_open":
            left_s = self._breaker.open_for_s(self._loop.clock.monotonic_ns())
            return CircuitOpen(
                f"the terminal could not be attached to several times ({self.detail}); tried again in {left_s:.0f} s,"
                " or at once with a reconnect request",
                {"state": "circuit_open"},
            )
        return NotReady(f"the terminal is not attached ({self.state}: {self.detail})", {"state": self.state})

    def call(
        self, role: LinkRole, command: AnyCommand, on_result: Callable[[LinkResult], None], *, deadline_s: float
    ) -> None:
        """As `Links.call`; an unattached link fails it with the API's own code, and nothing is sent."""
        if not self.attached(role):
            result = LinkResult("failed", code=-10_004, text="No IPC connection")
            self._loop.after(0, lambda: on_result(result))
            return

        def judge(result: LinkResult) -> None:
            if result.pipe_broken or (isinstance(command, Send) and _lost_in_pipe(result)):
                self._broken(role, result.text or "the order's answer was lost")
            on_result(result)

        self._links.call(role, command, judge, deadline_s=deadline_s)

    def reconnect(self) -> None:
        """Attach every link anew at once, closing the breaker: a person's wish."""
        self._breaker.reset()
        self._login_retry_ns = 0
        for roles, link in self._states.items():
            link.failures = link.retry_at_ns = 0
            self._step(roles, Step.ANEW)
        self._look()

    def note_account(self, login: int, server: str) -> bool:
        """Take note of the account a poll was made on; return whether it is the one this adapter serves."""
        if self._present != (login, server) and self._expected not in {None, (login, server)}:
            log.error(
                "the terminal is on another account",
                extra={"login": login, "server": server, "expected": self._expected},
            )
        self._present = (login, server)
        if self._expected is None and self._fits_settings(self._present):
            self._expected = self._present
        self._announce()
        return self.account_is_right

    def note_terminal(self, terminal: ApiTerminal) -> None:
        """Take note of the terminal's state as just polled."""
        self.terminal = terminal
        self._announce()

    # --- attaching --------------------------------------------------------------------------------------------------

    def _on_link_ready(self, roles: tuple[LinkRole, ...]) -> None:
        self._step(roles, Step.READY)
        self._loop.after(0, self._look)  # not at the next interval: a start is made of such waits

    def _look(self) -> None:
        """Let links attach whose turn it is."""
        now_ns = self._loop.clock.monotonic_ns()
        for roles, link in self._states.items():
            if link.state is Attachment.DETACHED and now_ns >= link.retry_at_ns and self._may_attach(roles):
                if not self._breaker.allows(now_ns):
                    break
                self._attach(roles, with_login=False)
        self._correct_account(now_ns)
        self._announce()

    def _may_attach(self, roles: tuple[LinkRole, ...]) -> bool:
        if LinkRole.TRADE in roles:
            return True
        # The trade link goes first: the terminal may have no account until it has logged in.
        trade = self._of(LinkRole.TRADE).state
        return trade is Attachment.ATTACHED or (trade is Attachment.DOWN and self._expected is not None)

    def _attach(self, roles: tuple[LinkRole, ...], *, with_login: bool) -> None:
        wanted = self._terminal_settings
        command = Attach(self._path, timeout_ms=wanted.timeout_ms, portable=wanted.portable, may_start=self._may_start)
        if with_login and wanted.login is not None:
            command = msgspec.structs.replace(
                command, login=wanted.login, password=wanted.password.reveal(), server=wanted.server
            )
        self._step(roles, Step.TRIED)
        deadline_s = self._query_s + (3 if with_login else 1) * wanted.timeout_ms / 1000
        deadline_s += _START_TERMINAL_S if self._may_start else 0
        self._links.call(
            roles[0],
            command,
            lambda result: self._on_attach_result(roles, result, with_login=with_login),
            deadline_s=deadline_s,
        )

    def _on_attach_result(self, roles: tuple[LinkRole, ...], result: LinkResult, *, with_login: bool) -> None:
        can_log_in = LinkRole.TRADE in roles and self._terminal_settings.login is not None and not with_login
        if not result.ok:
            if can_log_in and result.status == "failed" and result.code in {RES_E_AUTH_FAILED, RES_E_TIMEOUT}:
                self._attach(roles, with_login=True)  # it runs, but has no account of its own
            else:
                self._failed(roles, result)
            return
        try:
            attached = result.decode(Attached)
        except DataInvalid as error:
            self._failed(roles, LinkResult("failed", code=RAISED, text=error.text))
            return
        account = attached.account
        present = None if account is None else (account.login, account.server)
        if can_log_in and not self._fits_settings(present):
            self._attach(roles, with_login=True)
            return
        self._succeeded(roles, attached)

    def _succeeded(self, roles: tuple[LinkRole, ...], attached: Attached) -> None:
        link = self._states[roles]
        link.failures = 0
        self._breaker.succeeded()
        self._missing = False
        self.detail = ""
        self.attached_count += 1
        self._data_path = self._data_path or attached.terminal.data_path
        self.terminal = attached.terminal
        self._step(roles, Step.SUCCEEDED)
        log.info(
            "attached to the terminal",
            extra={"roles": "+".join(roles), "build": attached.version[1], "logged_in": attached.logged_in},
        )
        if attached.account is not None:
            self.note_account(attached.account.login, attached.account.server)
        self.on_attached(roles)
        if LinkRole.TRADE in roles:
            self._loop.after(0, self._look)  # the others wait for it

    def _failed(self, roles: tuple[LinkRole, ...], result: LinkResult) -> None:
        now_ns = self._loop.clock.monotonic_ns()
        link = self._states[roles]
        self._step(roles, Step.FAILED)
        self._missing = result.code == NO_TERMINAL
        if self._missing:
            # Nothing is wrong with our trying: whoever starts terminals is at it.
            self._breaker.not_tried()
            link.retry_at_ns = now_ns + round(_MISSING_RETRY_S * 1e9)
            self._note_detail("no terminal runs")
            return
        link.failures += 1
        pause_s = backoff_s(
            link.failures,
            first_s=self._tuning.retry_delay_s,
            max_s=self._tuning.retry_delay_max_s,
            chance=self._chance(),
        )
        link.retry_at_ns = now_ns + round(pause_s * 1e9)
        if link.failures > self._tuning.max_retries or self._breaker.state(now_ns) != "closed":
            self._breaker.failed(now_ns)
        text = f"{result.code}: {result.text}" if result.status == "failed" else f"link {result.reason}"
        self._note_detail(text)

    def _note_detail(self, text: str) -> None:
        if text != self.detail:
            log.warning("attaching to the terminal failed", extra={"reason": text})
        self.detail = text

    def _broken(self, role: LinkRole, text: str) -> None:
        roles = self._links.roles_together(role)
        if self._states[roles].state is Attachment.ATTACHED:
            log.warning("a link lost its terminal", extra={"roles": "+".join(roles), "reason": text})
            self.detail = text
            self._states[roles].retry_at_ns = 0
            self._step(roles, Step.BROKEN)

    def _correct_account(self, now_ns: int) -> None:
        """Log in again after the terminal was found on another account, more and more rarely."""
        trade = self._links.roles_together(LinkRole.TRADE)
        wrong = self._states[trade].state is Attachment.ATTACHED and not self.account_is_right
        if not wrong:
            self._login_failures = 0
            return
        if self._terminal_settings.login is None or now_ns < self._login_retry_ns:
            return
        self._login_failures += 1
        pause_s = backoff_s(
            self._login_failures + 1, first_s=self._tuning.retry_delay_s, max_s=300.0, chance=self._chance()
        )
        self._login_retry_ns = now_ns + round(pause_s * 1e9)
        self._step(trade, Step.ANEW)
        self._attach(trade, with_login=True)

    def _probe(self) -> None:
        """Ask every attached link for a sign of life: an idle one would not notice that its terminal is gone."""
        for roles, link in self._states.items():
            if link.state is Attachment.ATTACHED and not self._links.busy(roles[0]):
                self.call(roles[0], Call("terminal_info"), self._on_probe, deadline_s=self._query_s)

    def _on_probe(self, result: LinkResult) -> None:
        if not result.ok:
            return
        try:
            self.note_terminal(result.decode(ApiTerminal))
        except DataInvalid as error:
            log.warning("the terminal's state cannot be read", extra={"reason": error.text})
            return
        self.probe_ms = result.elapsed_ms

    def _of(self, role: LinkRole) -> _LinkState:
        return self._states[self._links.roles_together(role)]

    def _step(self, roles: tuple[LinkRole, ...], step: Step) -> None:
        link = self._states[roles]
        link.state = after(link.state, step)
        if step in {Step.READY, Step.SUCCEEDED}:
            self._loop.after(0, self._look)  # at once: somebody's turn may have come
        self._announce()

    def _announce(self) -> None:
        state = self.state
        if state != self._last_state:
            log.info("connection", extra={"state": state, "was": self._last_state, "detail": self.detail})
            self._last_state = state
            self.on_change()


def _lost_in_pipe(result: LinkResult) -> bool:
    """Whether the terminal's answer to `order_send` was lost on its way to the link, which is of no use then.

    An answer that cannot be read says nothing of the kind; whoever judges the order takes it for no answer at all.
    """
    try:
        return result.ok and result.decode(SendOutcome).code in PIPE_CODES
    except DataInvalid as error:
        log.warning("a link's answer to an order cannot be read", extra={"reason": error.text})
        return False
