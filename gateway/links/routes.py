"""Which node was last heard on which link: the way its downlinks take.

Learned from frames that were opened, never from an address that merely stands in a frame: otherwise
anyone with a cable could draw a node's acks to himself.
"""

from __future__ import annotations

from typing import Protocol

# A radio that heard none of so many does not reach the node: it is deaf for a fifth of them at most.
_REACH_UPLINKS = 16


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
        self._near: dict[int, dict[str, int]] = {}  # radio → the number of the latest uplink that it heard
        self._uplinks: dict[int, int] = {}  # of each node

    def heard(self, address: int, link: Link) -> None:
        """Note that an authentic frame of `address` came over `link`."""
        self._note_radios(address)  # of the one before: copies of this one are still coming in
        self._links[address] = link

    def _note_radios(self, address: int) -> None:
        if radios := _radios(self._links.get(address)):
            number = self._uplinks[address] = self._uplinks.get(address, 0) + 1
            self._near.setdefault(address, {}).update(dict.fromkeys(radios, number))

    def radios_near(self, address: int) -> set[str]:
        """The radios that heard one of its latest uplinks: any one may have been lost on the way to some of them."""
        since = self._uplinks.get(address, 0) - _REACH_UPLINKS
        earlier = {name for name, number in self._near.get(address, {}).items() if number > since}
        return earlier.union(_radios(self._links.get(address)))

    def link_to(self, address: int) -> Link | None:
        """The link to `address`, None when it was not heard since the start."""
        return self._links.get(address)

    def forget(self, address: int) -> None:
        """The node was removed from the registry."""
        self._links.pop(address, None)
        self._near.pop(address, None)
        self._uplinks.pop(address, None)

    def addresses(self, link: Link) -> list[int]:
        """Nodes whose way is `link`, sorted."""
        return sorted(address for address, its in self._links.items() if its is link)

    def send(self, address: int, frame: bytes) -> bool:
        """Send `frame` on the way to `address`; False when there is none or its link is down."""
        link = self._links.get(address)
        return link is not None and link.send(address, frame)


def _radios(link: Link | None) -> tuple[str, ...]:
    """None for a cable."""
    return tuple(getattr(link, "radios", ()))
