"""One trace from the sender of a webhook to what the action called, exported by the programs of ``attune up``."""

import contextlib
import os
from pathlib import Path

from support.attune_up import attune_up
from support.eventually import eventually
from support.otlp_receiver import otlp_receiver
from support.traced_hook import SENDER, TRACE_ID, event_of, hooked, listening, post


def test_one_trace_shows_request_occurrence_stored_condition_and_attempt(tmp_path: Path) -> None:
    with listening() as (url, told), otlp_receiver() as receiver:
        port = hooked(tmp_path, url)
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with attune_up(tmp_path, environment=environment) as up:
            stored = event_of(up, post(port, 1, traceparent=f"00-{TRACE_ID}-{SENDER}-01", tracestate="a=1"))
            eventually(lambda: len(receiver.of_trace(TRACE_ID)) >= 6, within=60, what="six spans")
            begun = event_of(up, post(port, 2))  # without a trace of the sender's
            own = begun["traceparent"][3:35]
            eventually(lambda: len(receiver.of_trace(own)) >= 6, within=60, what="six spans of its own")
    spans = {span.name: span for span in receiver.of_trace(TRACE_ID)}
    names = {span.span_id: span.name for span in spans.values()} | {SENDER: "sender"}
    assert {name: names[span.parent] for name, span in spans.items()} == {
        "POST /here": "sender",
        "create core.webhook": "POST /here",
        "store core.webhook": "create core.webhook",
        "process core.webhook": "create core.webhook",
        "evaluate": "process core.webhook",
        "POST": "process core.webhook",
    }
    assert [spans[name].service for name in ("POST /here", "store core.webhook", "POST")] == [
        "core.webhook",
        "attune-api",
        "attune-actions",
    ]
    assert stored["traceparent"] == f"00-{TRACE_ID}-{spans['create core.webhook'].span_id}-01"
    assert told[0] == f"00-{TRACE_ID}-{spans['POST'].span_id}-01"
    assert spans["POST"].attributes["url.full"] == f"{url}/told", "the query may hold secrets"
    assert spans["POST"].attributes["http.response.status_code"] == 204
    assert {span.parent for span in receiver.of_trace(own)} - {span.span_id for span in receiver.of_trace(own)} == {""}


def test_what_exports_nothing_passes_a_trace_on_and_begins_none(tmp_path: Path) -> None:
    variables = {name: "" for name in os.environ if name.startswith("OTEL_")}
    with contextlib.ExitStack() as stack, listening() as (url, told):
        port = hooked(tmp_path, url)
        up = stack.enter_context(attune_up(tmp_path, environment=variables))
        sent = f"00-{TRACE_ID}-{SENDER}-01"
        stored = event_of(up, post(port, 1, traceparent=sent))
        eventually(lambda: told == [sent], within=60, what="the target is told")
        assert stored["traceparent"] == sent
        assert "traceparent" not in event_of(up, post(port, 2, traceparent="nonsense"))
        eventually(lambda: told == [sent, ""], within=60, what="the target is told")
