"""Rules on proposals by asking Open Policy Agent, or whatever speaks its data API.

One proposal is one ``POST /v1/data/<path>`` with ``{"input": facts}``. Facts are nested by their
dots, unknown ones are absent and listed under ``input.unknown``: in Rego an absent value makes a
rule undefined, while null would compare as smaller than any number. What counts as an answer:

======================================  ==================================
``result``                              ruling
======================================  ==================================
absent (the rule is undefined)          denied
true, false                             allowed, denied
a list of text                          denied by each; allowed when empty
``{"allow": …, "deny": […], "warn"…}``  all three; one of the first two is needed
anything else, or no answer             the point did not answer
======================================  ==================================

References:
    https://www.openpolicyagent.org/docs/latest/rest-api/#get-a-document-with-input
"""

import json
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime
from enum import Enum
from typing import Any, Final

import httpx

from optimizer.cycle import Ruling
from optimizer.errors import ConfigError, UnavailableError
from optimizer.evidence import ProposalId
from optimizer.policy import Facts

LONGEST_ANSWER: Final = 1_048_576
AT_ONCE: Final = 8
"""Questions that are open at the same time."""


class Silence(Enum):
    """What becomes of a proposal about which the policy point says nothing."""

    HOLD = "hold"
    DENY = "deny"
    WARN = "warn"


class OpaPoint:
    """A policy point behind HTTP.

    timeout_s: longest wait for a part of one answer; deadline_s: for all answers of one hour, which
    is kept to within two ``timeout_s``, however slowly they trickle. A redirect is no answer.

    Raises:
        ConfigError: the URL is not http(s)://host…, or a time is not above 0.
    """

    def __init__(
        self,
        *,
        name: str,
        url: str,
        path: str,
        token: str | None = None,
        timeout_s: float = 2.0,
        deadline_s: float = 20.0,
        silence: Silence = Silence.HOLD,
    ) -> None:
        """Nothing is asked before the first proposal."""
        for label, seconds in (("timeout_s", timeout_s), ("deadline_s", deadline_s)):
            if not seconds > 0:
                raise ConfigError(f"policy point {name}: {label} = {seconds} is not above 0")
        self.name = name
        self._url = _address(name, url, path)
        self._token = token
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._silence = silence

    def rule(self, asked: Mapping[ProposalId, Facts]) -> Mapping[ProposalId, Ruling]:
        """What is answered of each proposal before the deadline; of the rest, what silence means.

        Answers are independent: one that fails changes no other.
        """
        if not asked:
            return {}
        ends = time.monotonic() + self._deadline_s
        # trust_env: the environment has one reader, and it is not here.
        with (
            ThreadPoolExecutor(max_workers=min(AT_ONCE, len(asked))) as pool,
            # Closed before the pool is waited for: what still trickles then breaks off.
            httpx.Client(trust_env=False, follow_redirects=False) as client,
        ):
            questions = {
                proposal: pool.submit(self._ruling, client, facts, ends)
                for proposal, facts in asked.items()
            }
            wait(questions.values(), timeout=self._deadline_s + self._timeout_s)
            return {proposal: self._given(question) for proposal, question in questions.items()}

    def _given(self, question: Future[Ruling]) -> Ruling:
        if question.done():
            return question.result()
        return self._silent(f"policy point {self.name} did not finish its answer in time")

    def _ruling(self, client: httpx.Client, facts: Facts, ends: float) -> Ruling:
        try:
            return self._read(self._answer(client, facts, ends))
        except UnavailableError as error:
            return self._silent(f"policy point {self.name} {error}")

    def _answer(self, client: httpx.Client, facts: Facts, ends: float) -> bytes:
        """The body of the answer.

        Raises:
            UnavailableError: none came in time, or another one than 200.
        """
        left = ends - time.monotonic()
        if left <= 0:
            raise UnavailableError(f"was not asked: {self._deadline_s:g} s for all were over")
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        try:
            with client.stream(
                "POST",
                self._url,
                json={"input": question(facts)},
                headers=headers,
                timeout=min(self._timeout_s, left),
            ) as response:
                if response.status_code != httpx.codes.OK:
                    raise UnavailableError(f"answered {response.status_code}")
                return _body(response, ends)
        except httpx.HTTPError as error:
            raise UnavailableError(f"did not answer: {type(error).__name__}") from error

    def _read(self, body: bytes) -> Ruling:
        """The ruling in an answer.

        Raises:
            UnavailableError: it is none that is understood.
        """
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):  # the latter where it is nested without end
            raise UnavailableError("answered what is no JSON that can be read") from None
        if not isinstance(answer, dict):
            raise UnavailableError("answered no object")
        if "result" not in answer:
            return self._says(("it has no result: the rule is undefined",))
        result = answer["result"]
        if isinstance(result, bool):
            return Ruling() if result else self._says(("not allowed",))
        if isinstance(result, dict):
            return self._read_parts(result)
        return self._says(_texts("result", result))

    def _read_parts(self, result: Mapping[str, Any]) -> Ruling:
        allow, denials = result.get("allow"), _texts("deny", result.get("deny", []))
        if not isinstance(allow, bool | None) or ("deny" not in result and allow is None):
            raise UnavailableError("answered neither allow nor deny")
        if allow is False and not denials:
            denials = ("not allowed",)
        return self._says(denials, warnings=_texts("warn", result.get("warn", [])))

    def _says(self, denials: tuple[str, ...], warnings: tuple[str, ...] = ()) -> Ruling:
        return Ruling(
            denials=tuple(f"policy point {self.name} denies: {text}" for text in denials),
            warnings=tuple(f"policy point {self.name} warns: {text}" for text in warnings),
        )

    def _silent(self, why: str) -> Ruling:
        if self._silence is Silence.DENY:
            return Ruling(denials=(f"{why}; that denies",))
        if self._silence is Silence.WARN:
            return Ruling(warnings=(f"{why}; that only warns",))
        return Ruling(unavailable=(why,))


def question(facts: Facts) -> dict[str, Any]:
    """The facts as OPA's input: nested by their dots, unknown ones named under ``unknown``.

    Examples:
        >>> question({"target.name": "support", "expected.confidence": None, "urgent": False})
        {'target': {'name': 'support'}, 'urgent': False, 'unknown': ['expected.confidence']}
    """
    found: dict[str, Any] = {}
    for name, value in facts.items():
        *around, last = name.split(".")
        if value is None:
            continue
        inner = found
        for step in around:
            inner = inner.setdefault(step, {})
        inner[last] = _plain(value)
    return found | {"unknown": sorted(name for name, value in facts.items() if value is None)}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _address(name: str, url: str, path: str) -> httpx.URL:
    steps = path.strip("/").replace(".", "/")
    try:
        found = httpx.URL(f"{url.rstrip('/')}/v1/data/{steps}")
    except httpx.InvalidURL:
        raise ConfigError(f"policy point {name}: the URL cannot be read") from None
    if found.scheme not in {"http", "https"} or not found.host or not steps:
        raise ConfigError(
            f"policy point {name}: the URL must be http:// or https:// and name a host, and the "
            "path must name a rule"
        )
    return found


def _body(response: httpx.Response, ends: float) -> bytes:
    """The whole body, unless it is long or trickles past the end."""
    body = b""
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > LONGEST_ANSWER:
            raise UnavailableError(f"answered with more than {LONGEST_ANSWER} bytes")
        if time.monotonic() > ends:
            raise UnavailableError("did not finish its answer in time")
    return body


def _texts(name: str, value: object) -> tuple[str, ...]:
    """A list of sentences.

    Raises:
        UnavailableError: it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise UnavailableError(f"answered a {name} that is no list of text")
    return tuple(value)
