"""Tuning a model from its request to what is stored, over engines whose speed is written down."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import BadRequestError, CapabilityError, EngineError, ModelBusyError, ModelNotFoundError
from corral.core.options import Options
from corral.core.settings import Settings
from corral.core.tuning import Machine, Tuned
from corral.core.types import Job, LoadSpec
from corral.sched import Scheduler, TunedModels
from corral.service.requests import Status
from corral.service.tuning import TuneRequest, TuneService, TuneStatus
from corral.store import Model, Store
from corral.wire.tuning import TuneReport
from tests.support.gguf_bert import random_bert, write_bert
from tests.support.gguf_files import write_scripted
from tests.support.sched_bench import FakeMemory, settle
from tests.support.stores import add_model
from tests.support.tuned_engines import PacedLauncher

HERE = Machine(cpu="c", cores=4, threads=4, devices=("fake",), build="1")


class Rig:
    """A server's parts as far as tuning needs them."""

    def __init__(self, folder: Path, settings: Settings | None = None, **parameters: Any) -> None:
        self.settings = settings or Settings()
        self.store = Store(folder / "models")
        self.model: Model = add_model(self.store, "m", write_scripted(folder / "m.gguf", "Hi."), parameters=parameters)
        self.launcher = PacedLauncher()
        self.is_quiet = True
        self.tuned = TunedModels(self.store, self.launcher, lambda _devices: HERE)
        self.scheduler = Scheduler(
            self.launcher, self.settings, clock=self.launcher.clock, memory=FakeMemory(), tuned=self.tuned
        )
        self.service = TuneService(
            self.store, self.scheduler, self.tuned, self.settings, clock=self.launcher.clock, is_quiet=self._looks
        )

    async def _looks(self) -> bool:
        return self.is_quiet

    async def tune(self, **more: Any) -> TuneReport:
        last = (await self.statuses(**more))[-1]
        assert last.status == "success"
        assert isinstance(last, TuneStatus)
        assert last.report
        return last.report

    async def statuses(self, **more: Any) -> list[Status]:
        async with self.service.tune(TuneRequest(**{"model": "m", "rounds": 2, "budget_s": 10_000, **more})) as statuses:
            return [status async for status in statuses]

    async def loaded_spec(self, options: Options | None = None) -> LoadSpec:
        """How a request loads the model now."""
        async with self.scheduler.lease(self.model, options or Options.resolve(self.model.parameters)):
            return self.launcher.specs[-1]

    async def aclose(self) -> None:
        await self.service.aclose()
        await self.scheduler.aclose()
        self.tuned.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.aclose()
    assert not any(engine.is_alive for engine in made.launcher.engines)


async def test_what_gains_is_stored_and_the_next_load_has_it(rig: Rig) -> None:
    assert (await rig.loaded_spec()).num_batch == 512
    rig.launcher.speeds = {("num_batch", 1024): 1.2, ("num_batch", 2048): 1.1, ("kv_unified", True): 0.8}
    report = await rig.tune()
    assert report.chosen == Tuned(num_batch=1024)
    assert report.is_stored
    assert report.gain == pytest.approx(1.2, abs=0.01)
    assert {item.name: item.verdict for item in report.results}["kv_unified on"] == "is slower"
    assert [engine.is_alive for engine in rig.launcher.engines] == [False] * len(rig.launcher.engines)
    assert (await rig.loaded_spec()).num_batch == 1024


async def test_settings_that_gain_together_are_chosen_together(rig: Rig) -> None:
    rig.launcher.speeds = {("num_batch", 1024): 1.2, ("flash_attention", False): 1.1}
    report = await rig.tune()
    assert report.chosen == Tuned(num_batch=1024, flash_attention=False)
    assert report.gain == pytest.approx(1.32, abs=0.01)
    assert report.results[-1].name == "num_batch 1024, flash_attention off"


async def test_where_nothing_gains_the_default_stays_and_an_older_choice_goes(rig: Rig) -> None:
    rig.launcher.speeds = {("num_batch", 256): 1.5}
    assert (await rig.tune()).is_stored
    rig.launcher.speeds = {}
    report = await rig.tune()
    assert (report.chosen, report.is_stored) == (Tuned(), False)
    assert report.why == "nothing gains more than noise over the default settings"
    assert rig.store.tunings() == []
    assert (await rig.loaded_spec()).num_batch == 512


async def test_a_dry_run_stores_nothing(rig: Rig) -> None:
    rig.launcher.speeds = {("num_batch", 1024): 1.2}
    report = await rig.tune(dry_run=True)
    assert (report.chosen, report.is_stored) == (Tuned(num_batch=1024), False)
    assert rig.store.tunings() == []


async def test_what_changes_answers_is_offered_and_chosen_only_where_allowed(rig: Rig) -> None:
    rig.launcher.speeds = {("kv_cache_type", "q8_0"): 1.5}
    report = await rig.tune()
    assert report.chosen == Tuned()
    assert report.results[-1].verdict == "gains, and changes answers: to be allowed"
    assert (await rig.tune(allow_lossy=True)).chosen == Tuned(kv_cache_type="q8_0")
    assert (await rig.loaded_spec()).kv_cache_type == "q8_0"


async def test_beside_other_programs_no_number_of_threads_is_chosen(rig: Rig) -> None:
    rig.is_quiet = False
    rig.launcher.speeds = {("most_threads", 3): 1.5}
    report = await rig.tune()
    assert (report.chosen, report.is_disturbed) == (Tuned(), True)
    assert [item.verdict for item in report.results if item.settings.most_threads] == [
        "not judged: other programs use the machine"
    ]


async def test_what_a_request_asks_for_goes_before_what_was_measured(rig: Rig) -> None:
    rig.launcher.speeds = {("num_batch", 1024): 1.2, ("kv_unified", True): 1.1}
    await rig.tune()
    spec = await rig.loaded_spec(Options.resolve({"num_batch": 512}))
    assert (spec.num_batch, spec.kv_unified) == (512, True)
    assert (await rig.loaded_spec(Options.resolve({"num_gpu": 0}))).kv_unified is False  # it was not measured so


async def test_what_the_modelfile_and_the_operator_chose_is_not_measured(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Settings(kv_cache_type="q8_0", flash_attention=True), num_batch=64, num_thread=2)
    report = await rig.tune()
    await rig.aclose()
    assert [item.name for item in report.results] == ["default", "kv_unified on"]
    assert {(spec.num_batch, spec.kv_cache_type, spec.num_thread) for spec in rig.launcher.specs} == {(64, "q8_0", 2)}


async def test_a_choice_of_another_machine_is_not_used(rig: Rig) -> None:
    rig.launcher.speeds = {("num_batch", 1024): 1.2}
    await rig.tune()
    elsewhere = TunedModels(
        rig.store, rig.launcher, lambda _devices: Machine(cpu="d", cores=1, threads=1, devices=(), build="1")
    )
    assert await elsewhere.find(rig.model) is None
    elsewhere.close()


async def test_clearing_goes_back_to_the_default(rig: Rig) -> None:
    rig.launcher.speeds = {("num_batch", 1024): 1.2}
    await rig.tune()
    count = len(rig.launcher.specs)
    assert [status.status for status in await rig.statuses(clear=True)] == ["removed the tuned settings", "success"]
    assert [status.status for status in await rig.statuses(clear=True)] == ["there were no tuned settings", "success"]
    assert len(rig.launcher.specs) == count
    assert (await rig.loaded_spec()).num_batch == 512


async def test_a_model_in_use_is_refused(rig: Rig) -> None:
    async with rig.scheduler.lease(rig.model, Options.resolve()):
        with pytest.raises(ModelBusyError, match="m:latest is in use"):
            await rig.tune()
    assert (await rig.tune()).chosen == Tuned()


async def test_a_request_that_comes_meanwhile_is_served_and_ends_it(rig: Rig) -> None:
    began, hold = asyncio.Event(), asyncio.Event()
    rig.launcher.speeds = {("num_batch", 1024): 1.5}

    def begin(_job: Job) -> None:
        began.set()

    rig.launcher.on_job = begin
    rig.launcher.hold = hold
    hold.set()
    async with asyncio.TaskGroup() as tasks:
        tuning = tasks.create_task(_error(rig))
        await began.wait()
        hold.clear()
        await settle()
        asked = tasks.create_task(rig.loaded_spec())
        await settle()
        hold.set()
    error = tuning.result()
    assert "went first; nothing was stored" in str(error)
    assert asked.result().num_batch == 512
    assert rig.store.tunings() == []


async def _error(rig: Rig) -> ModelBusyError | None:
    try:
        await rig.tune()
    except ModelBusyError as error:
        return error
    return None


async def test_leaving_ends_it_and_its_engine(rig: Rig) -> None:
    async with rig.service.tune(TuneRequest(model="m")) as statuses:
        async for status in statuses:
            if status.completed:
                break
    assert not any(engine.is_alive for engine in rig.launcher.engines)
    assert rig.store.tunings() == []
    assert (await rig.tune()).chosen == Tuned()


async def test_equal_requests_share_one_and_another_is_refused(rig: Rig) -> None:
    async with rig.service.tune(TuneRequest(model="m")) as first, rig.service.tune(TuneRequest(model="M:latest")) as second:
        assert (await anext(first)).status == (await anext(second)).status == "loading m:latest"
        with pytest.raises(ModelBusyError):
            await rig.tune(rounds=1)


async def test_a_default_that_cannot_be_loaded_is_an_error(rig: Rig) -> None:
    rig.launcher.failure = EngineError("unknown model architecture: 'bird'")
    with pytest.raises(EngineError, match="bird"):
        await rig.tune()
    assert (await rig.tune()).chosen == Tuned()


async def test_too_short_a_time_chooses_nothing_and_says_so(rig: Rig) -> None:
    rig.launcher.speeds = {("num_batch", 1024): 1.5}
    report = await rig.tune(budget_s=0.001)
    assert report.chosen == Tuned()
    assert "larger budget" in report.why
    assert rig.store.tunings() == []


async def test_too_short_a_time_leaves_what_was_chosen_before(rig: Rig) -> None:
    rig.launcher.speeds = {("num_batch", 1024): 1.5}
    assert (await rig.tune()).is_stored
    assert not (await rig.tune(budget_s=0.001)).is_stored
    assert (await rig.loaded_spec()).num_batch == 1024


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"model": ""}, "model is required"),
        ({"model": "m", "rounds": 0}, "rounds is 0"),
        ({"model": "m", "rounds": 1000}, "rounds is 1000"),
        ({"model": "m", "budget_s": 0}, "budget is 0"),
        ({"model": "m", "budget_s": float("nan")}, "budget is nan"),
    ],
    ids=["no-model", "no-round", "many-rounds", "no-time", "nan"],
)
async def test_what_makes_no_sense_is_refused(rig: Rig, request_: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        rig.service.tune(TuneRequest(**request_))


async def test_a_model_that_is_not_there_or_makes_embeddings_is_refused(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        await rig.tune(model="nobody")
    add_model(rig.store, "vectors", write_bert(tmp_path / "b.gguf", random_bert()))
    with pytest.raises(CapabilityError, match="makes embeddings"):
        await rig.tune(model="vectors")


async def test_no_engine_finds_on_disk_what_another_has_read(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Settings(kv_dir=tmp_path / "kv", kv_disk_bytes=1 << 30))
    await rig.tune(rounds=1)
    measured = {spec.kv_dir for spec in rig.launcher.specs}
    assert (await rig.loaded_spec()).kv_dir == str(tmp_path / "kv")
    await rig.aclose()
    assert measured == {""}


async def test_the_log_tells_of_measured_settings_in_use(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.launcher.speeds = {("num_batch", 1024): 1.2}
    await rig.tune()
    with caplog.at_level("INFO", logger="corral.sched.scheduler"):
        await rig.loaded_spec()
        await rig.loaded_spec(Options.resolve({"num_batch": 64}))
    loads = [record for record in caplog.records if record.message == "model loaded"]
    assert [getattr(record, "tuned", None) for record in loads] == ["num_batch 1024", None]
