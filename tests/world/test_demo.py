"""What `tidegate demo` is given on its command line is taken or refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import tidegate
from hil_tests.demo import broker_address
from hil_tests.errors import HilError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://127.0.0.1:1884", ("127.0.0.1", 1884)),
        ("tcp://broker.example/", ("broker.example", 1883)),
        ("broker.example:1885", ("broker.example", 1885)),
        ("mqtt://[::1]:1883", ("::1", 1883)),
    ],
)
def test_a_broker_is_named_by_a_url_or_by_host_and_port(url: str, address: tuple[str, int]) -> None:
    assert broker_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mqtt://",
        "http://x",
        "mqtts://x",
        "mqtt://x:99999",
        "mqtt://x:abc",
        "mqtt://x:0",
        "mqtt://[::1",
        "x/y",
    ],
)
def test_another_address_is_refused_with_what_is_allowed(url: str) -> None:
    with pytest.raises(HilError, match=r"Allowed is mqtt://HOST\[:PORT\]"):
        broker_address(url)


@pytest.mark.parametrize("url", ["mqtt://me:s3cret@x:1883", "mqtts://me:s3cret@x", "mqtt://me:s3cret@x:abc"])
def test_a_password_is_refused_and_never_repeated(url: str) -> None:
    with pytest.raises(HilError) as refused:
        broker_address(url)
    assert "s3cret" not in str(refused.value)


def test_a_folder_that_can_not_be_made_is_refused_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(tidegate.app, ["demo", "--keep", str(tmp_path / "file" / "new")])
    assert done.exit_code == 2
    assert "the folder can not be made" in done.output
