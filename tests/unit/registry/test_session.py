import pytest

from corral.core.errors import RegistryError
from corral.registry.session import redirect_target

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
