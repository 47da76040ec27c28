"""A ROS domain for one run alone, so that nothing else on this machine hears it."""

from __future__ import annotations

import errno
import os
import socket

# Those whose ports all lie below the ones that Linux hands out to clients.
DOMAINS = range(1, 101)

_claims: list[socket.socket] = []  # open for as long as this process lives


def use_own_domain() -> int:
    """``ROS_DOMAIN_ID``, which is set to a domain of this process's own unless it is set already."""
    if "ROS_DOMAIN_ID" not in os.environ:
        os.environ["ROS_DOMAIN_ID"] = str(claim_domain())
    return int(os.environ["ROS_DOMAIN_ID"])


def claim_domain() -> int:
    """A domain that nobody else has claimed; given back when this process ends, however it does.

    Raises RuntimeError if all are taken.
    """
    for offset in range(len(DOMAINS)):
        domain = DOMAINS[(os.getpid() + offset) % len(DOMAINS)]  # not the one of a run that has only just ended
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0ros domain {domain}")  # in no folder: a name that Linux frees with the socket
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        _claims.append(claim)
        return domain
    raise RuntimeError(f"all {len(DOMAINS)} ROS domains are in use on this machine: set ROS_DOMAIN_ID")
