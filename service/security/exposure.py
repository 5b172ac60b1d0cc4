"""Whether other machines can reach an address that is listened on."""

import socket
from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """False in doubt: for no address, which means all of them, and a name without any."""
    if not host:
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return _is_loopback_name(host)


def _is_loopback_name(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ip_address(str(info[4][0])).is_loopback for info in found)
