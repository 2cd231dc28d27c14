"""Who hands a C function an empty dict of keywords: each answer was taken from a compiled function on 3.11 to 3.13."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from paper_terminal.builtin import Keywords

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="from 3.14 on nobody does")


def _probe(_positional: tuple[Any, ...], keywords: dict[str, Any] | None) -> bool:
    return keywords is not None


probe: Any = Keywords(_probe)


class Wrapper:
    """As public wrappers are written: the function as a class attribute, forwarded to by a method."""

    send = probe

    @property
    def sending(self) -> Any:
        return probe

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.send(*args, **kwargs)

    def by_name(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, name)(*args, **kwargs)

    def by_property(self, *args: Any, **kwargs: Any) -> Any:
        return self.sending(*args, **kwargs)


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def in_pool(function: Callable[..., Any], *args: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result(30)


async def in_executor() -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, probe, 1)


def in_thread() -> Any:
    answers: list[Any] = []

    def target(*args: Any, **kwargs: Any) -> None:
        answers.append(probe(*args, **kwargs))

    thread = threading.Thread(target=target, args=(1,))
    thread.start()
    thread.join(30)
    return answers[0]


def in_context(*args: Any, **kwargs: Any) -> Any:
    context = contextvars.copy_context()
    return context.run(probe, *args, **kwargs)


def assembled(function: Callable[..., Any], given: list[int] | None, more: dict[str, Any]) -> Any:
    return function(*(given or [2]), **dict(more))


@pytest.mark.parametrize(
    "call",
    [
        lambda: decorated(probe)(1),
        lambda: Wrapper().forward(1),
        lambda: Wrapper().by_name("send", 1),
        lambda: Wrapper().by_property(1),
        lambda: decorated(functools.partial(probe))(1),
        lambda: in_pool(probe, 1),
        lambda: in_pool(functools.partial(probe, 1)),
        lambda: asyncio.run(in_executor()),
        in_thread,
        lambda: assembled(probe, [1], {}),
        lambda: probe(symbol="EURUSD"),
    ],
)
def test_a_dict_arrives(call: Callable[[], Any]) -> None:
    assert call() is True


@pytest.mark.parametrize(
    "call",
    [
        lambda: probe(1),
        lambda: probe(*[1]),
        functools.partial(probe, 1),
        lambda: contextvars.copy_context().run(probe, 1),
        lambda: in_context(1),
        lambda: asyncio.run(asyncio.to_thread(probe, 1)),
        lambda: in_pool(lambda: probe(1)),
        lambda: next(map(probe, [1])),
    ],
)
def test_none_arrives(call: Callable[[], Any]) -> None:
    assert call() is False
