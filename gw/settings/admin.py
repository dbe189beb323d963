"""The settings of the Admin API that workers read. Its keys are the agent's: `agent_tree`."""
# ruff: noqa: RUF009 - setting and section are field specifiers, as dataclasses.field is

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from gw import __version__
from gw.settings import kinds, network
from gw.settings.declare import section, setting
from gw.settings.network import Listen, Network


@dataclass(frozen=True, slots=True)
class AdminListen:
    """Where the Admin API listens."""

    ip: str = setting(
        network.ip_address(),
        default="127.0.0.1",
        help="Address of the Admin API. (APISIX: 0.0.0.0; here reaching it from other hosts is a decision.)",
    )
    port: int = setting(network.PORT, default=9180, help="Port of the Admin API.")


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """Where the Admin API is, for whom, and in which form it answers."""

    admin_key_required: bool = setting(
        kinds.boolean(),
        default=True,
        help="Whether a key in X-API-KEY is asked for. false is accepted only where loopback alone can reach the API.",
    )
    enable_admin_cors: bool = setting(
        kinds.boolean(), default=True, help="Whether answers carry CORS headers, for a dashboard in a browser."
    )
    allow_admin: tuple[Network, ...] = setting(
        network.networks(),
        default=["127.0.0.0/24"],
        help="Who may call the Admin API. An empty list lets nobody in. (APISIX: everybody.)",
    )
    admin_api_version: str = setting(
        kinds.choice("v3", "v2"),
        default="v3",
        help="Form of the answers: v3, as APISIX 3.x; v2, as APISIX 2.x (node and action), for dashboards of that age.",
    )
    admin_listen: AdminListen = section(AdminListen)

    @property
    def listen(self) -> Listen:
        return Listen(self.admin_listen.ip, self.admin_listen.port)


_WITH_VERSION: Final = f"Jitterway/{__version__}"


@dataclass(frozen=True, slots=True)
class AdminAnswers:
    """What is our own about the Admin API's answers."""

    server_header: str = setting(
        kinds.either(
            "auto",
            _WITH_VERSION,
            # As RFC 9110 has a field value, without obs-text: it stands in a header as it is.
            kinds.text("at most 128 characters of ASCII, no space at either end", r"[!-~](?:[ -~]{0,126}[!-~])?"),
        ),
        default="auto",
        help="Server of the Admin API's answers; auto: Jitterway/<version>. Clients made for APISIX look there for the "
        "version to talk to (APISIX/3.14.1).",
    )


def without_version(answers: AdminAnswers) -> AdminAnswers:
    """The same, without our version where no other server_header was chosen: apisix.enable_server_tokens is off."""
    return replace(answers, server_header="Jitterway") if answers.server_header == _WITH_VERSION else answers
