"""Tells by posting a message to a URL.

The address that is checked is the address that is called: the host is resolved once, and an answer
that points to a cloud's metadata service, or any other link-local address, is refused. Redirects
are not followed. URLs of webhooks are often secrets themselves, so messages name the host alone.
"""

import hmac
import ipaddress
import json
import socket
from collections.abc import Mapping
from hashlib import sha256

import httpx

from optimizer.errors import ConfigError, UnavailableError

_METADATA = frozenset(
    ipaddress.ip_address(text) for text in ("100.100.100.200", "fd00:ec2::254", "192.0.0.192")
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class WebhookNotifier:
    """Posts JSON {title, body, severity, decision_id}.

    Header ``Idempotency-Key`` is equal for equal messages, so that a repeated one can be told.
    With a secret, header ``X-Signature-256`` is ``sha256=`` and the hex HMAC-SHA256 of the body.
    """

    def __init__(
        self,
        *,
        url: str,
        timeout_s: float = 10.0,
        secret: str | None = None,
        headers: Mapping[str, str] | None = None,
        allow_link_local: bool = False,
    ) -> None:
        """Nothing is sent before the first message.

        Raises:
            ConfigError: the URL is not http(s)://host…, or the timeout is not above 0.
        """
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL:
            raise ConfigError("the webhook's URL cannot be read") from None
        if self._url.scheme not in _DEFAULT_PORTS or not self._url.host:
            raise ConfigError("the webhook's URL must be http:// or https:// and name a host")
        if not timeout_s > 0:
            raise ConfigError(f"the webhook's timeout_s = {timeout_s} is not above 0")
        self._timeout_s = timeout_s
        self._secret = secret
        self._headers = dict(headers or {})
        self._allow_link_local = allow_link_local

    def notify(self, *, title: str, body: str, severity: str, decision_id: str | None) -> None:
        """Post the message.

        Raises:
            ConfigError: the host's address is one that must not be called.
            UnavailableError: no answer in time, or another one than 2xx.
        """
        message = {"title": title, "body": body, "severity": severity, "decision_id": decision_id}
        content = json.dumps(message, sort_keys=True).encode()
        headers = {
            **self._headers,
            "Content-Type": "application/json",
            "Host": self._url.netloc.decode("ascii"),
            "Idempotency-Key": sha256(content).hexdigest(),
        }
        if self._secret is not None:
            signature = hmac.new(self._secret.encode(), content, sha256).hexdigest()
            headers["X-Signature-256"] = f"sha256={signature}"
        address = self._address()
        request = httpx.Request(
            "POST",
            self._url.copy_with(host=address),
            headers=headers,
            content=content,
            # The certificate is still that of the host's name.
            extensions={"sni_hostname": self._url.host},
        )
        status = self._sent(request)
        if not httpx.codes.is_success(status):
            raise UnavailableError(f"the webhook at {self._url.host} answered {status}")

    def _sent(self, request: httpx.Request) -> int:
        timeout = httpx.Timeout(self._timeout_s)
        request.extensions = {**request.extensions, "timeout": timeout.as_dict()}
        try:
            # trust_env: the environment has one reader, and it is not here.
            with httpx.Client(trust_env=False, follow_redirects=False) as client:
                response = client.send(request, stream=True)  # the answer's body is not wanted
                response.close()
                return response.status_code
        except httpx.HTTPError as error:
            kind = type(error).__name__
            raise UnavailableError(f"the webhook at {self._url.host}: {kind}") from error

    def _address(self) -> str:
        """The host's address, checked."""
        host, port = self._url.host, self._url.port or _DEFAULT_PORTS[self._url.scheme]
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UnavailableError(f"the webhook's host {host} is not known: {error}") from error
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        for address in addresses:
            if _forbidden(address) and not self._allow_link_local:
                raise ConfigError(f"the webhook's host {host} is {address}, which is not called")
        return str(addresses[0])


def _forbidden(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Link-local, metadata, unspecified and multicast addresses, also when mapped into IPv6."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return (
        address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or address in _METADATA
    )
