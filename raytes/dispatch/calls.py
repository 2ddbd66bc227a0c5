"""Calls to Ray's actors."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError

_ASK_AGAIN_S = 1.0
# A runner that Ray believes alive and that can't be reached for so long is given up.
_OUT_OF_REACH_S = 600.0

logger = logging.getLogger(__name__)


async def answer(reference: Any) -> Any:
    """What a call returns, as a coroutine, which Ray's references are not."""
    return await reference


async def insist(runner: Any, call: Callable[[], Any]) -> Any:
    """The answer to a call of a runner that may be made again, made again while the runner
    lives and only can't be reached."""
    while True:
        try:
            return await call()
        except ActorUnavailableError as error:
            logger.info("a runner can't be reached: %s", error)
            await _until_in_reach(runner)


async def _until_in_reach(runner: Any) -> None:
    # By a call that is short: one that took hours says nothing of how long it is out of reach.
    deadline = time.monotonic() + _OUT_OF_REACH_S
    while True:
        await asyncio.sleep(_ASK_AGAIN_S)
        try:
            await answer(runner.describe.remote())
        except ActorUnavailableError:
            if time.monotonic() > deadline:
                raise
        else:
            return


def kill_named(name: str) -> None:
    """Kill an actor, if there is one of that name."""
    try:
        ray.kill(ray.get_actor(name))
    except ValueError:
        logger.info("%s is gone already", name)
