"""A store that was read-only from the start, as a container's `:ro` mount is: served as it is, and writes are refused."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.process import CORRAL, HELLO, run_corral, serving

NAMESPACE = ["unshare", "--map-root-user", "--mount"]


def can_mount() -> bool:
    return (
        bool(shutil.which("unshare")) and subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(
    not os.environ.get("CI") and not can_mount(), reason="this system lets nobody mount in a namespace of their own"
)
def test_a_read_only_store_is_served_and_writes_are_refused(tmp_path: Path) -> None:
    models = tmp_path / "home" / "models"
    with serving(tmp_path / "home") as server:
        server.add_scripted("hello", HELLO, tmp_path)
    where = shlex.quote(str(models))
    mounted = f"mount --bind {where} {where} && mount -o remount,ro,bind {where} && exec {shlex.join([*CORRAL, 'serve'])}"
    with serving(tmp_path / "home", command=[*NAMESPACE, "sh", "-c", mounted]) as server:
        assert run_corral(server, "run", "hello", "hi").out == f"{HELLO}\n\n"
        for args in (["cp", "hello", "other"], ["rm", "hello"]):
            ran = run_corral(server, *args)
            assert ran.code == 1
            assert "Read-only file system; set CORRAL_MODELS to a folder" in ran.err
        assert [line.split()[0] for line in run_corral(server, "ls").out.splitlines()] == ["NAME", "hello:latest"]
    said = [line for line in server.log if " info " not in line]
    assert len(said) == 1
    assert f"warning the model store {models} is served read-only: Read-only file system" in said[0]
    assert any(" device " in line for line in server.log)
