"""Which node was last heard on which link: the way its downlinks take.

Learned from frames that were opened, never from an address that merely stands in a frame: otherwise
anyone with a cable could draw a node's acks to himself.
"""

from __future__ import annotations

from typing import Protocol


class Link(Protocol):
    """What carries sealed frames. `send` never blocks: it queues or says no."""

    @property
    def name(self) -> str: ...

    @property
    def listens(self) -> bool:
        """Whether nodes on this link can hear at any time, not only after they spoke."""
        ...

    @property
    def can_answer(self) -> bool:
        """Whether what is sent now may still be heard."""
        ...

    @property
    def wants_answer(self) -> bool:
        """Whether what came by this link is acknowledged in any case, not only when there is more to say."""
        ...

    @property
    def room(self) -> int:
        """Bytes of the largest frame that goes down in one piece."""
        ...

    def send(self, address: int, frame: bytes) -> bool:
        """Queue `frame` for node `address`; False when it is not going out (link down)."""
        ...


class Routes:
    """address → the link that last carried an authentic frame of it; one per registered node.

    On the air that is the way of one uplink (lora.py), which knows the windows after it.
    """

    def __init__(self) -> None:
        self._links: dict[int, Link] = {}

    def heard(self, address: int, link: Link) -> None:
        """Note that an authentic frame of `address` came over `link`."""
        self._links[address] = link

    def link_to(self, address: int) -> Link | None:
        """The link to `address`, None when it was not heard since the start."""
        return self._links.get(address)

    def forget(self, address: int) -> None:
        """The node was removed from the registry."""
        self._links.pop(address, None)

    def addresses(self, link: Link) -> list[int]:
        """Nodes whose way is `link`, sorted."""
        return sorted(address for address, its in self._links.items() if its is link)

    def send(self, address: int, frame: bytes) -> bool:
        """Send `frame` on the way to `address`; False when there is none or its link is down."""
        link = self._links.get(address)
        return link is not None and link.send(address, frame)
