"""Opening a terminal's folder: settings, durable state, feed and broker put together, caught up with the time.

A terminal on the machine's clock finds on its return what happened meanwhile: stops were hit while it was away, as
they live on the server. One on a feed's clock goes on where that clock stood; the clock is kept ahead of what
clients have seen, so that after a `kill -9` it never goes back.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from paper_terminal.engine import Engine
from paper_terminal.market import HOUR_MS, Market, make_feed, market_hours
from paper_terminal.settings import AccountSettings, FeedSettings, Settings
from paper_terminal.silences import Silences
from paper_terminal.state import STATE_FILE, SqliteStore
from paper_terminal.terminal import Terminal

_MIN_LEASE_MS: Final = 60_000
_LEASE_REAL_MS: Final = 2000
_NO_CLOCK: Final = -1


class Assembly(NamedTuple):
    """The parts of an open terminal that its process turns."""

    terminal: Terminal
    market: Market
    clock: ClockKeeper
    store: SqliteStore


class ClockKeeper:
    """Keeps a feed's clock on disk, a little ahead of the present."""

    def __init__(self, market: Market, store: SqliteStore, settings: FeedSettings) -> None:
        """Nothing is written before the clock moves."""
        self._market = market
        self._store = store
        self._lease_ms = _MIN_LEASE_MS if settings.speed == "max" else int(_LEASE_REAL_MS * settings.speed)
        self._kept_ms = market.now_ms

    def keep(self) -> None:
        """Write the clock when it has reached what is written.

        Raises:
            StateError: the disk refuses.
        """
        if self._market.own_clock and self._market.now_ms > self._kept_ms:
            self._write(self._market.now_ms + self._lease_ms)

    def stop(self) -> None:
        """Write the clock as it stands, for a clean end.

        Raises:
            StateError: the disk refuses.
        """
        if self._market.own_clock:
            self._write(self._market.now_ms)

    def _write(self, clock_ms: int) -> None:
        self._kept_ms = clock_ms
        self._store.commit((), {"clock_ms": clock_ms})


def open_terminal(folder: Path, settings: Settings) -> Assembly:
    """Open the terminal of a folder.

    Raises:
        StateError: its state cannot be used.
        FeedError: a feed file cannot be used.
        SettingsError: the feed's settings cannot be used.
    """
    store = SqliteStore(folder / STATE_FILE)
    try:
        return _assembled(folder, settings, store)
    except BaseException:
        store.close()
        raise


def _assembled(folder: Path, settings: Settings, store: SqliteStore) -> Assembly:
    facts = store.facts()
    feed_id = _feed_id(settings.feed)
    same_feed = facts.get("feed") == feed_id
    clock_ms = facts.get("clock_ms", _NO_CLOCK) if same_feed else _NO_CLOCK
    feed = make_feed(settings, resume_ms=None if clock_ms == _NO_CLOCK else clock_ms)
    rename = {each.name: f"{settings.prefix}{each.name}{settings.suffix}" for each in settings.symbols}
    market = Market(feed, settings.feed, rename=rename.__getitem__, held=settings.hold)
    began_ms = facts.get("feed_start_ms", market.now_ms) if same_feed and market.own_clock else market.now_ms
    if not same_feed:  # what another feed's clock said means nothing here
        fresh = {"feed": feed_id, "feed_start_ms": began_ms, "clock_ms": _NO_CLOCK, "settled_ms": market.now_ms}
        store.commit((), fresh)
    settled_ms = facts.get("settled_ms", market.now_ms) if same_feed else market.now_ms
    engine = Engine(
        settings, store=store, facts=facts, now_ms=min(settled_ms, market.now_ms), is_open=market_hours(settings)
    )
    for account in (*settings.accounts, *_opened_accounts(settings, store)):
        engine.open_account(account, store.load(account.login))
    silences = Silences(facts if same_feed else {}, now_ms=market.now_ms)
    store.commit((), silences.ended)
    _catch_up(engine, market, settled_ms, silences)
    known = set(engine.accounts)
    login = facts.get("login", settings.accounts[0].login)
    terminal = Terminal(
        folder,
        settings,
        engine=engine,
        market=market,
        store=store,
        silences=silences,
        login=login if login in known else settings.accounts[0].login,
    )
    terminal.build = facts.get("build", terminal.build)
    terminal.incompatible = bool(facts.get("incompatible", False))
    terminal.load_history(market.now_ms, since_ms=min(began_ms, market.now_ms))
    return Assembly(terminal, market, ClockKeeper(market, store, settings.feed), store)


def _opened_accounts(settings: Settings, store: SqliteStore) -> list[AccountSettings]:
    known = {each.login for each in settings.accounts}
    opened = [msgspec.msgpack.decode(blob, type=AccountSettings) for blob in store.opened_accounts()]
    return [each for each in opened if each.login not in known]


def _feed_id(feed: FeedSettings) -> int:
    """Return a number that stays the same as long as the ticks do."""
    ticks = msgspec.structs.replace(feed, step_ms=1, speed=1.0 if feed.speed == 1.0 else 2.0)
    return zlib.crc32(msgspec.json.encode(ticks))


def _catch_up(engine: Engine, market: Market, settled_ms: int, silences: Silences) -> None:
    """Let the broker see the ticks since its last change that nobody was there for."""
    if not any(account.positions or account.orders for account in engine.accounts.values()):
        return
    names = {name: symbol.name for name, symbol in engine.symbols.items()}
    quoted = {name: plain for name, plain in names.items() if plain in market.symbols}
    for name, plain in quoted.items():
        before = market.history(plain, max(0, settled_ms - HOUR_MS), settled_ms)
        if len(before):
            engine.seed_quote(name, before)
    for from_ms in range(settled_ms + 1, market.now_ms + 1, HOUR_MS):
        to_ms = min(from_ms + HOUR_MS - 1, market.now_ms)
        blocks = [(n, silences.without(n, market.history(plain, from_ms, to_ms))) for n, plain in quoted.items()]
        engine.on_ticks([block for block in blocks if len(block[1])], to_ms)
