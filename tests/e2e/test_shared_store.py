"""Two processes that change one store at the same time: nothing that one of them needs is removed by the other."""

import subprocess
import sys
from pathlib import Path

from corral.store import Store
from tests.support.gguf_files import write_scripted
from tests.support.process import environment, serving

HAMMER = """
import random, sys
from pathlib import Path
from corral.core.errors import ModelNotFoundError, StoreError, ModelCorruptError
from corral.store import ModelName, Store
from tests.support.stores import add_model

root, gguf, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
store = Store(root)
names = [ModelName.parse(f"m{number}") for number in range(4)]
kept = f"kept{seed}"
done = lost = 0
for turn in range(150):
    name = chance.choice(names)
    try:
        match chance.randrange(6):
            case 0 | 1:
                add_model(store, name.short, gguf, system=f"text {chance.randrange(5)}", licenses=["the same for all"])
            case 2:
                store.copy(name, chance.choice(names), prune=True)
            case 3:
                store.delete(name)
            case 4:
                store.prune(older_than_s=0)
            case 5:
                assert store.scan().damaged == [], store.scan().damaged
        done += 1
    except ModelNotFoundError:  # the other one has deleted it
        done += 1
    except StoreError as exc:  # the other one has removed a layer that nobody named yet: said, and nothing is written
        assert not isinstance(exc, ModelCorruptError), exc
        assert "is not in the store; try again" in str(exc), exc
        lost += 1
    if turn % 30 == 0:
        for _ in range(100):
            try:
                add_model(store, kept, gguf, system=f"kept {seed} {turn}")
                break
            except StoreError as exc:
                assert "try again" in str(exc), exc
    assert store.get(ModelName.parse(kept)).system.startswith(f"kept {seed}")
print(done, lost)
"""


def test_two_processes_do_not_take_each_others_layers(tmp_path: Path) -> None:
    root, gguf = tmp_path / "store", write_scripted(tmp_path / "a.gguf", "x")
    folder = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", HAMMER, str(root), str(gguf)]
    env = environment(tmp_path, PYTHONPATH=folder)
    running = [subprocess.Popen([*command, str(seed)], env=env, stdout=subprocess.PIPE, text=True) for seed in (1, 2)]
    said = [process.communicate(timeout=120)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert all(int(done) > 75 for done, _ in said)
    store = Store(root)
    listing = store.scan()
    assert listing.damaged == []
    assert {"kept1:latest", "kept2:latest"} <= {model.name.short for model in listing.models}
    store.prune(older_than_s=0)
    named = {blob.digest.replace(":", "-") for model in listing.models for blob in store.manifest(model.name).blobs}
    assert {path.name for path in (root / "blobs").iterdir()} == named


def test_two_servers_share_a_store(tmp_path: Path) -> None:
    models = str(tmp_path / "models")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with serving(tmp_path / "one", CORRAL_MODELS=models) as one, serving(tmp_path / "two", CORRAL_MODELS=models) as two:
        one.add_scripted("a", "A.", tmp_path)
        assert two.call("POST", "/api/copy", {"source": "a", "destination": "b"})[0] == 200
        assert one.call("DELETE", "/api/delete", {"model": "a"})[0] == 200
        assert two.call("POST", "/api/show", {"model": "a"})[0] == 404
        assert one.call("POST", "/api/show", {"model": "b"})[0] == 200
        assert two.call("POST", "/admin/store/prune", {})[0] == 200
        assert one.call("POST", "/api/show", {"model": "b"})[0] == 200
