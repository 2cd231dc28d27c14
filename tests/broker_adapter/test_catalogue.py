"""What the catalogue answers before it has read the broker's symbols."""

from __future__ import annotations

from typing import cast

import pytest

from broker_adapter.catalogue import Catalogue
from broker_adapter.connection import Connection
from mt5bus.settings import Adapter
from protocol.errors import NotReady
from protocol.loop import Loop


def test_before_the_symbols_are_read_no_symbol_is_said_not_to_exist() -> None:
    loop = Loop()
    catalogue = Catalogue(loop, cast(Connection, None), Adapter())
    with pytest.raises(NotReady):
        catalogue.broker_name("EURUSD")
    with pytest.raises(NotReady):
        catalogue.ask_instrument("EURUSD", lambda _: None, lambda _: None)
    loop.close()
