"""Starts runs of deployments by Prefect's REST API."""

from collections.abc import Mapping
from urllib.parse import quote

import httpx

from optimizer.errors import ConfigError, UnavailableError
from optimizer.ports.sources import Json

_DETAIL_CHARACTERS = 500


class PrefectDispatcher:
    """Finds a deployment by its name ``flow/deployment`` and asks for a run of it."""

    def __init__(
        self, *, api_url: str, auth_string: str | None = None, timeout_s: float = 30.0
    ) -> None:
        """Nothing is sent before the first start.

        Args:
            api_url: Prefect's API, as ``http://host:4200/api``.
            auth_string: ``user:password``, as the server's own setting has it.
            timeout_s: seconds, per request.

        Raises:
            ConfigError: the URL or the auth string cannot be used.
        """
        if not api_url.startswith(("http://", "https://")):
            raise ConfigError("Prefect's API URL must begin with http:// or https://")
        if auth_string is not None and ":" not in auth_string:
            raise ConfigError("the auth string for Prefect must be user:password")
        self._api_url = api_url.rstrip("/") + "/"
        self._auth_string = auth_string
        self._timeout_s = timeout_s

    def start(self, deployment: str, parameters: Mapping[str, Json], key: str) -> str:
        """Ask for a run and return its id; the same key again gives the same run.

        Raises:
            ConfigError: no such deployment, parameters that it refuses, or no right to start it.
            UnavailableError: the server does not answer, or is in trouble.
        """
        flow, slash, name = deployment.partition("/")
        if not (flow and slash and name):
            raise ConfigError(f"deployment {deployment!r} must be named flow/deployment")
        with self._client() as client:
            path = f"deployments/name/{quote(flow, safe='')}/{quote(name, safe='')}"
            found = _asked(client, "GET", path, deployment)
            run = _asked(
                client,
                "POST",
                f"deployments/{_id(found)}/create_flow_run",
                deployment,
                {"parameters": dict(parameters), "idempotency_key": key},
            )
        return _id(run)

    def _client(self) -> httpx.Client:
        auth = None
        if self._auth_string is not None:
            user, _, password = self._auth_string.partition(":")
            auth = httpx.BasicAuth(user, password)
        # trust_env: the environment has one reader, and it is not here.
        return httpx.Client(
            base_url=self._api_url, auth=auth, timeout=self._timeout_s, trust_env=False
        )


def _asked(
    client: httpx.Client,
    method: str,
    path: str,
    deployment: str,
    payload: Mapping[str, Json] | None = None,
) -> Json:
    try:
        response = client.request(method, path, json=payload)
    except httpx.HTTPError as error:
        raise UnavailableError(f"Prefect does not answer: {type(error).__name__}") from error
    status = response.status_code
    if httpx.codes.is_success(status):
        try:
            return response.json()
        except ValueError as error:
            raise UnavailableError("Prefect's answer is not JSON: is the URL its API?") from error
    detail = f"deployment {deployment}: Prefect answered {status}"
    if status == httpx.codes.NOT_FOUND:
        raise ConfigError(f"{detail}: there is no such deployment")
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise ConfigError(f"{detail}: check the auth string")
    if status in {
        httpx.codes.BAD_REQUEST,
        httpx.codes.CONFLICT,
        httpx.codes.UNPROCESSABLE_ENTITY,
    }:
        raise ConfigError(f"{detail}: {response.text[:_DETAIL_CHARACTERS]}")
    raise UnavailableError(detail)


def _id(answer: Json) -> str:
    if isinstance(answer, dict) and isinstance(answer.get("id"), str):
        return str(answer["id"])
    raise UnavailableError("Prefect's answer has no id: is the URL its API?")
