"""A certificate authority of our own and a Redis server that speaks TLS and knows its users."""

from __future__ import annotations

import datetime
import ipaddress
import re
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from socs_bl.services.process import Child, free_port

PASSWORD = "p@ss/word:1"  # what must be quoted in a URL
_CONFIGURATION = """\
bind 127.0.0.1
port 0
tls-port {port}
tls-cert-file "{directory}/server.pem"
tls-key-file "{directory}/server.key"
tls-ca-cert-file "{directory}/ca.pem"
tls-auth-clients yes
aclfile "{directory}/users.acl"
dir "{directory}"
save ""
"""


class Authority:
    """Signs certificates into a directory: ``ca.pem``, and ``<name>.pem`` with ``<name>.key``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._write("ca", self._certificate(self._name, self._key, authority=True), None)

    def sign(self, name: str) -> None:
        """A certificate for a server or client on this host."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._write(name, self._certificate(subject, key, authority=False), key)

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        hour = datetime.timedelta(hours=1)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - hour).not_valid_after(now + hour)
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        host = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([host]), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | None) -> None:
        pem = serialization.Encoding.PEM
        (self.directory / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        if key is not None:
            plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            (self.directory / f"{name}.key").write_bytes(key.private_bytes(pem, *plain))


def documented_users(page: Path) -> list[str]:
    """The ACL lines of a documentation page, with the test's password in them."""
    lines = [line.strip() for line in page.read_text(encoding="utf-8").splitlines()]
    return [re.sub(r">\S+", f">{PASSWORD}", line) for line in lines if line.startswith("user ")]


class TlsRedis:
    """A Redis that takes nobody without a certificate, user and password.

    Parameters
    ----------
    program : str
        A redis-server built with TLS.
    directory : Path
    users : list of str
        Lines of an ACL file.
    """

    def __init__(self, program: str, directory: Path, users: list[str]) -> None:
        self.directory = directory
        authority = Authority(directory)
        for name in ("server", "client"):
            authority.sign(name)
        (directory / "users.acl").write_text("\n".join(["user default off", *users, ""]), encoding="utf-8")
        self.port = free_port()
        configuration = directory / "redis.conf"
        configuration.write_text(_CONFIGURATION.format(port=self.port, directory=directory), encoding="utf-8")
        self.child = Child("redis-server with TLS", [program, str(configuration)], directory / "redis.log")
        self.child.wait_ready(lambda: "Ready to accept connections" in self.child.log_tail(), 30.0)

    def url(self, user: str, password: str = PASSWORD, client: str = "client", authority: str = "ca") -> str:
        """The URL of a user."""
        files = f"ssl_ca_certs={self.directory}/{authority}.pem"
        if client:
            files += f"&ssl_certfile={self.directory}/{client}.pem&ssl_keyfile={self.directory}/{client}.key"
        return f"rediss://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/0?{files}"
