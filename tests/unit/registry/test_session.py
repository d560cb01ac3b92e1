import gzip
import itertools
import random
import time

import pytest

from corral.core.errors import RegistryError
from corral.registry.session import _Inflated, redirect_target

HERE = "https://a.example/v2/x/blobs/y"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://b.example/z?s=a%2Fb%3D", "https://b.example/z?s=a%2Fb%3D"),
        ("/z", "https://a.example/z"),
        ("//b.example/z", "https://b.example/z"),
    ],
    ids=["absolute", "path", "host"],
)
def test_redirect_target_is_what_the_location_says(location: str, target: str) -> None:
    assert redirect_target(HERE, location, insecure=False) == target


def test_redirect_never_leaves_https_unless_allowed() -> None:
    with pytest.raises(RegistryError, match="insecure protocol http"):
        redirect_target(HERE, "http://a.example/z", insecure=False)
    assert redirect_target(HERE, "http://a.example/z", insecure=True) == "http://a.example/z"


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://a.example/z"])
def test_redirect_leads_to_the_web_only(location: str) -> None:
    with pytest.raises(RegistryError, match="unsupported protocol scheme"):
        redirect_target(HERE, location, insecure=True)


@pytest.mark.parametrize("member", [gzip.compress(b""), gzip.compress(b"x")], ids=["empty", "one-byte"])
def test_gzip_of_next_to_nothing_is_given_up(member: bytes) -> None:
    inflated, data = _Inflated(HERE), member * 50_000
    began = time.process_time()
    with pytest.raises(RegistryError, match="gzip with next to nothing in it"):
        list(itertools.chain.from_iterable(map(inflated.feed, itertools.repeat(data))))
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("size_bytes", [1, 60_000, 1 << 20])
def test_gzip_of_several_members_is_unpacked(size_bytes: int) -> None:
    members = [random.Random(n).randbytes(size_bytes) for n in range(10)]
    packed = b"".join(map(gzip.compress, members))
    inflated = _Inflated(HERE)
    assert b"".join(
        piece for at in range(0, len(packed), 65536) for piece in inflated.feed(packed[at : at + 65536])
    ) == b"".join(members)
