"""Says when AWS takes long to answer: a command that is silent for half a minute looks dead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Lock, Timer
from typing import Any

from sagemaker_launcher.console import err

_KEY = "sagemaker_launcher_call"  # of botocore's own dictionary for each call


class Patience:
    """Watches the calls of clients, and tells of those that take long.

    Args:
        tell: Who is told; by default the user, on stderr.
        moments_s: When, in seconds after a call began; each of them once, however many calls wait.
    """

    def __init__(
        self, tell: Callable[[str], None] | None = None, moments_s: Sequence[float] = (5.0, 20.0)
    ) -> None:
        self._tell = tell or _note
        self._moments_s = moments_s
        self._told: set[float] = set()
        self._lock = Lock()

    def watch(self, client: Any) -> None:  # noqa: ANN401 - boto3 is untyped
        """Tells of this boto3 client's calls from now on."""
        events = client.meta.events
        events.register("before-call", self._begin)
        events.register("needs-retry", self._tried)
        events.register("after-call", self._end)
        events.register("after-call-error", self._end)

    def _begin(self, model: Any, context: dict[str, Any], **_: object) -> None:  # noqa: ANN401 - botocore is untyped
        name = f"{model.service_model.service_id} {model.name}"
        context[_KEY] = _Call(name, self._say, iter(self._moments_s))

    def _tried(
        self,
        request_dict: dict[str, Any],
        response: tuple[Any, dict[str, Any]] | None,
        caught_exception: Exception | None,
        **_: object,
    ) -> None:
        call: _Call | None = request_dict["context"].get(_KEY)
        code = response[1].get("Error", {}).get("Code") if response else type(caught_exception).__name__
        if call and code:
            call.trouble = code

    def _end(self, context: dict[str, Any], **_: object) -> None:
        call: _Call | None = context.pop(_KEY, None)
        if call:
            call.end()

    def _say(self, moment_s: float, text: str) -> None:
        with self._lock:
            news = moment_s not in self._told
            self._told.add(moment_s)
        if news:
            self._tell(text)


class _Call:
    """One call that has no answer yet.

    Attributes:
        trouble: What became of its last try.
    """

    def __init__(self, name: str, say: Callable[[float, str], None], moments_s: Iterator[float]) -> None:
        self.trouble = "no answer"
        self._name = name
        self._say = say
        self._moments_s = moments_s
        self._over = False
        self._wait_from(0.0)

    def end(self) -> None:
        """Nothing more is told."""
        self._over = True
        self._timer.cancel()

    def _wait_from(self, now_s: float) -> None:
        moment_s = next(self._moments_s, None)
        if moment_s is not None and not self._over:
            self._timer = Timer(moment_s - now_s, self._is_late, (moment_s,))
            self._timer.daemon = True
            self._timer.start()

    def _is_late(self, moment_s: float) -> None:
        if not self._over:
            self._say(moment_s, f"{self._name}: {self.trouble} for {moment_s:g} s; still trying")
            self._wait_from(moment_s)


def _note(text: str) -> None:
    err().line(("note: ", "yellow"), (text, ""))
