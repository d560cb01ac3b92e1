import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cli.bench.figures import all_first_ms, by_group, failures, figures, percentile, ratios
from tests.support.bench_samples import failed, sample


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40),
    st.sampled_from([0, 1, 25, 50, 95, 99, 99.9, 100]),
)
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), abs=1e-6)


def test_latencies_are_taken_from_the_pieces_and_the_end() -> None:
    one = sample(100, [150, 160, 190], 200, prompt_tokens=20, cached_tokens=5, output_tokens=6)
    found = figures([one], duration_s=0.1)
    assert found["mean_ttft_ms"] == 50
    assert found["mean_e2el_ms"] == 100
    assert (found["mean_itl_ms"], found["median_itl_ms"], found["max_itl_ms"]) == (20, 20, 30)
    assert found["p95_itl_ms"] == pytest.approx(29)
    assert found["mean_tpot_ms"] == 10  # 50 ms for the five tokens after the first
    assert found["mean_stream_throughput"] == 100
    assert found["output_throughput"] == 60
    assert found["total_token_throughput"] == 260
    assert found["request_throughput"] == 10
    assert found["cached_percent"] == 25


def test_pieces_are_counted_where_the_server_does_not_count() -> None:
    assert figures([sample(0, [10, 20, 30, 40], 40)], duration_s=1)["output_throughput"] == 4


def test_failures_count_as_failed_and_in_nothing_else() -> None:
    good = sample(0, [10, 20], 30, output_tokens=2)
    found = figures([good, failed("timeout"), failed("HTTP 503")], duration_s=1)
    assert (found["completed"], found["failed"]) == (1, 2)
    assert found | {"failed": 0} == figures([good], duration_s=1)


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param([], id="nothing"),
        pytest.param([failed("timeout")], id="only-failures"),
        pytest.param([sample(0, [], 10, output_tokens=0)], id="no-text"),
        pytest.param([sample(0, [10], 10, output_tokens=1)], id="one-token"),
    ],
)
def test_what_was_not_measured_is_not_there(samples: list) -> None:  # type: ignore[type-arg]
    found = figures(samples, duration_s=0.0)
    assert not {"mean_itl_ms", "mean_tpot_ms", "output_throughput", "mean_stream_throughput"} & set(found)


def test_embeddings_have_texts_and_no_tokens_of_output() -> None:
    found = figures([sample(0, [], 500, texts=32, prompt_tokens=100)], duration_s=0.5)
    assert found["text_throughput"] == 64
    assert found["total_token_throughput"] == 200
    assert "output_throughput" not in found


def test_answers_that_are_json_are_counted() -> None:
    samples = [sample(0, [1], 2, is_json=answer) for answer in (True, True, False)]
    assert figures(samples, 1)["valid_json"] == 2
    assert "valid_json" not in figures([sample(0, [1], 2)], 1)


def test_all_first_is_the_slowest_client_of_the_first_wave() -> None:
    wave = [sample(number, [100 + 10 * number], 300, client=number) for number in range(3)]
    assert all_first_ms([*wave, sample(300, [900], 901, client=0, nth=1)]) == 120
    assert all_first_ms([*wave, failed("timeout", client=3)]) is None
    assert all_first_ms([sample(0, [1], 2)]) is None  # an open loop has no clients


def test_failures_are_told_by_kind_with_what_was_said_first() -> None:
    samples = [failed("HTTP 503", "busy"), failed("timeout", "slow"), failed("HTTP 503", "still busy"), sample(0, [1], 2)]
    assert failures(samples) == [("HTTP 503", 2, "busy"), ("timeout", 1, "slow")]


def test_groups_stand_in_the_order_of_their_sizes_or_of_their_first_requests() -> None:
    samples = [sample(5, [6], 7, group="b"), sample(1, [2], 3, group="a"), sample(0, [1], 2)]
    assert list(by_group(samples)) == ["a", "b"]
    sizes = [sample(at, [6], 7, group=f"{size} tokens") for at, size in enumerate((128, 1536, 16))]
    assert list(by_group(sizes)) == ["16 tokens", "128 tokens", "1536 tokens"]


def test_ratios_are_of_rounds_that_belong_together() -> None:
    ours, theirs = [{"x": 10.0, "y": 1.0}, {"x": 30.0, "y": 0.0}], [{"x": 20.0, "y": 1.0}, {"x": 10.0, "y": 1.0}]
    assert ratios(ours, theirs) == {"x": (1.75, 0.5, 3.0)}
