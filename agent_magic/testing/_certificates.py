"""Certificates of a company's own making, good and bad. Needs trustme."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trustme

__all__ = ["Certificates"]


class Certificates:
    """A certificate authority that nobody trusts until `write_ca` is named in `verify`; contexts for servers."""

    @cached_property
    def _authority(self) -> trustme.CA:
        import trustme

        return trustme.CA()

    def good(self, *hosts: str) -> ssl.SSLContext:
        """For a server that is one of `hosts` (127.0.0.1 where none is named)."""
        return self._context(*(hosts or ("127.0.0.1",)))

    def wrong_host(self) -> ssl.SSLContext:
        """For a server whose certificate is another one's."""
        return self._context("elsewhere.example")

    def expired(self) -> ssl.SSLContext:
        """For a server whose certificate ended yesterday."""
        return self._context("127.0.0.1", until=datetime.now(UTC) - timedelta(days=1))

    def write_ca(self, path: Path) -> str:
        """Write the authority's own certificate as PEM; returns the path for the setting `verify`."""
        self._authority.cert_pem.write_to_path(str(path))
        return str(path)

    def _context(self, *hosts: str, until: datetime | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        since = datetime(2020, 1, 1, tzinfo=UTC)
        self._authority.issue_cert(*hosts, not_before=since, not_after=until).configure_cert(context)
        return context
