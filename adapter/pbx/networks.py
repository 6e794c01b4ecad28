"""Where AMI may go: it is clear text, so the secret and every number could be read on a public network."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

PRIVATE = tuple(
    ip_network(network)
    for network in (
        *("127.0.0.0/8", "::1/128"),  # This machine: also the near end of an SSH tunnel.
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),  # A LAN or a VPN (RFC 1918, RFC 4193).
        *("169.254.0.0/16", "fe80::/10"),  # One cable (RFC 3927, RFC 4291).
        "100.64.0.0/10",  # Carrier-grade NAT (RFC 6598): where mesh VPNs live.
    )
)
"""Everything else is public. The standard library's `is_private` also has documentation and test ranges."""


def public(address: str) -> bool:
    """True if this IP address is reached over a public network. Raises ValueError if it is none."""
    ip: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return not any(ip in network for network in PRIVATE)


def clear_text_problem(host: str, addresses: Iterable[str]) -> str | None:
    """Words for the operator if one of a host's addresses is public, or None."""
    exposed = next((address for address in addresses if public(address)), None)
    if exposed is None:
        return None
    named = host if host == exposed else f"{host} ({exposed})"
    return (
        f"MIKOPBX_HOST {named} is a public address and AMI is clear text: the password and every number could be read"
        " on the way. No connection is made and nobody is called; reach the PBX through a VPN, a private network, or"
        " an SSH tunnel (ssh -L 5038:127.0.0.1:5038 …, then MIKOPBX_HOST=127.0.0.1)"
    )
