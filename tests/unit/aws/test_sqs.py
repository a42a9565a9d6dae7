"""The AWS sensor's rules about queues, their messages and configuration; and that its manifest agrees with its program."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from hypothesis import given
from hypothesis import strategies as st
from support.rule_stream import rule_state

from attune_aws.config import Server, servers_of
from attune_aws.errors import is_denied, source_error
from attune_aws.notifications import notification_of, records_of
from attune_aws.sqs_parameters import Parameters, QueueSubscription, subscription_of
from attune_aws.sqs_payload import message_of, parts_of, payload_of
from attune_aws.sqs_source import next_receivers
from attune_contract.resources import Sensor as SensorResource
from attune_sensor import InvalidRuleError, Message, Rule, SettingsError

PACK = Path(__file__).parents[3] / "packs" / "aws" / "core.aws.yaml"
SENSOR = SensorResource.from_object(yaml.safe_load(PACK.read_text()))
DECLARED = SENSOR.spec.canonical("core.sqsqueue")
assert DECLARED is not None
PAYLOADS = jsonschema.Draft202012Validator(DECLARED.payload_schema or {})
PARAMETERS = jsonschema.Draft202012Validator(DECLARED.parameters_schema or {})
SERVERS = {"default": Server(name="default", region="eu-central-1"), "other": Server(name="other")}
URL = "https://sqs.eu-central-1.amazonaws.com/123456789012/orders"
ORDERS = QueueSubscription(server="default", account=None, name="orders")


def rule(**parameters: Any) -> Rule:
    return Rule(state=rule_state(trigger_type="core.sqsqueue", parameters=parameters), since_us=0)


@pytest.mark.parametrize(
    ("parameters", "good"),
    [
        ({"queue": "orders"}, True),
        ({"queue": "orders.fifo", "server": "other", "unwrap": "sns"}, True),
        ({"queue": URL, "unwrap": "s3"}, True),
        ({"queue": "http://localhost:9324/000000000000/orders.fifo"}, True),
        ({}, False),
        ({"queue": ""}, False),
        ({"queue": 5}, False),
        ({"queue": "a b"}, False),
        ({"queue": "x" * 81}, False),
        ({"queue": "https://sqs.eu-central-1.amazonaws.com/orders"}, False),
        ({"queue": "orders.fifo.fifo"}, False),
        ({"queue": "orders", "unwrap": "all"}, False),
        ({"queue": "orders", "accessKeyId": "AKID"}, False),
    ],
)
def test_the_manifest_and_the_program_agree(parameters: dict[str, Any], good: bool) -> None:
    assert PARAMETERS.is_valid(parameters) == good
    if good:
        subscription_of(rule(**parameters), servers=SERVERS)
    else:
        with pytest.raises(InvalidRuleError):
            subscription_of(rule(**parameters), servers=SERVERS)


def test_the_samples_and_the_configuration_of_the_pack_can_be_used() -> None:
    for sample in (DECLARED.parameters_schema or {})["examples"] if DECLARED else []:
        subscription_of(rule(**sample), servers=servers_of(SENSOR.spec.config or {}))


def test_rules_share_a_queue_whatever_else_they_ask_for() -> None:
    def read(**parameters: Any) -> QueueSubscription:
        return subscription_of(rule(**{"queue": "orders", **parameters}), servers=SERVERS)

    assert read() == read(unwrap="s3") == ORDERS
    assert len({read(), read(server="other"), read(queue=URL), read(queue="orders.fifo")}) == 4
    assert read(queue=URL).place == "default/123456789012/orders"
    assert read(queue="orders.fifo").fifo


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"server": "elsewhere"}, r"no server 'elsewhere' .* it has default, other"),
        ({"queue": URL.replace("eu-central-1", "us-east-1")}, "the queue is in us-east-1, and the server 'default'"),
        ({"queue": URL.replace("sqs.eu-central-1", "us-east-1.queue")}, "the queue is in us-east-1"),
    ],
)
def test_a_queue_that_cannot_be_read_is_refused_with_the_reason(parameters: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidRuleError, match=said):
        subscription_of(rule(**{"queue": "orders", **parameters}), servers=SERVERS)


def test_the_host_of_a_url_is_never_called() -> None:
    found = subscription_of(rule(queue="https://evil.example.com/123456789012/orders"), servers=SERVERS)
    assert found == QueueSubscription(server="default", account="123456789012", name="orders")


# -- messages --------------------------------------------------------------------------------------------------------------


def received(body: str, *, subscription: QueueSubscription = ORDERS, **given: Any) -> Message:
    return message_of(subscription, {"MessageId": "m-1", "ReceiptHandle": "h", "Body": body, **given})


def made(message: Message, unwrap: Any = "none") -> list[tuple[str, dict[str, Any]]]:
    """Of each event, its name and its payload."""
    parameters = Parameters(queue="orders", unwrap=unwrap)
    found = []
    for part in parts_of(ORDERS, parameters, message):
        payload = payload_of("shop/orders", parameters, part.content, size=part.size, whole=True)
        payload = msgspec.json.decode(msgspec.json.encode(payload))
        PAYLOADS.validate(payload)
        found.append((part.occurrence, payload))
    return found


def record(key: str = "a.csv", *, sequencer: str | None = "01", **given: Any) -> dict[str, Any]:
    thing = {"key": key, "size": 5, "eTag": "e", **({} if sequencer is None else {"sequencer": sequencer})}
    return {
        "eventName": "s3:ObjectCreated:Put",
        "eventTime": "2026-11-28T13:00:00.000Z",
        "s3": {"bucket": {"name": "inbox"}, "object": thing},
        **given,
    }


def enveloped(message: str) -> str:
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "sns-1",
            "TopicArn": "arn:aws:sns:eu-central-1:123456789012:t",
            "Subject": "s",
            "Message": message,
            "Timestamp": "2026-11-28T13:00:00.000Z",
            "MessageAttributes": {"kind": {"Type": "String", "Value": "new"}},
        }
    )


def test_messages_of_a_queue_without_an_order_are_independent() -> None:
    message = received("1", Attributes={"SentTimestamp": "1764298800123"})
    assert (message.partition, message.occurrence, message.handle) == ("m-1", "default/orders/m-1", "h")
    assert message.occurred_at == datetime(2025, 11, 28, 3, 0, 0, 123000, tzinfo=UTC)
    assert received("1").occurred_at is None


def test_messages_of_a_group_stay_in_its_order() -> None:
    queue = QueueSubscription(server="default", account=None, name="orders.fifo")
    message = received("1", subscription=queue, Attributes={"MessageGroupId": "g", "SequenceNumber": "7"})
    assert message.partition == "g"
    [(_, payload)] = made(message)
    assert (payload["group"], payload["sequence"]) == ("g", "7")


@given(st.text(), st.dictionaries(st.text(), st.text() | st.binary()), st.sampled_from(["none", "sns", "s3"]))
def test_any_message_is_an_event_that_the_manifest_declares(
    body: str, attributes: dict[str, str | bytes], unwrap: str
) -> None:
    body, clean = body.encode("utf-8", "replace").decode(), {}
    for name, value in attributes.items():
        of = "StringValue" if isinstance(value, str) else "BinaryValue"
        value = value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        clean[name.encode("utf-8", "replace").decode()] = {"DataType": of[:6], of: value}
    [(occurrence, payload)] = made(received(body, MessageAttributes=clean), unwrap)
    assert occurrence == "default/orders/m-1"
    assert payload["attributes"].keys() == clean.keys()


def test_what_came_through_a_topic_is_named_by_it() -> None:
    envelope = enveloped('{"price": 7}')
    [(name, payload)] = made(received(envelope), "sns")
    assert name == "default/orders/sns/sns-1"
    assert payload["body"] == {"price": 7}
    assert payload["sns"] == {
        "id": "sns-1",
        "topic": "arn:aws:sns:eu-central-1:123456789012:t",
        "subject": "s",
        "at": "2026-11-28T13:00:00.000Z",
        "attributes": {"kind": "new"},
    }
    [(name, payload)] = made(received(envelope))
    assert (name, payload["body"]["MessageId"]) == ("default/orders/m-1", "sns-1")
    assert "sns" not in payload


def test_each_object_is_an_event_and_what_is_told_twice_is_one() -> None:
    body = json.dumps({"Records": [record("a+b%2Fc.csv"), record("other", sequencer="02"), record(sequencer=None)]})
    direct, through = made(received(body), "s3"), made(received(enveloped(body)), "s3")
    assert [name for name, _ in direct] == [
        "default/orders/s3/inbox/ObjectCreated:Put/01/a b/c.csv",
        "default/orders/s3/inbox/ObjectCreated:Put/02/other",
        "default/orders/m-1/2",
    ]
    assert [name for name, _ in through[:2]] == [name for name, _ in direct[:2]]
    assert through[2][0] == "default/orders/sns/sns-1/2"
    [_, (_, payload), _] = direct
    assert payload["s3"] == {
        "event": "ObjectCreated:Put",
        "bucket": "inbox",
        "key": "other",
        "size": 5,
        "etag": "e",
        "sequencer": "02",
    }
    assert payload["body"] == record("other", sequencer="02")


def test_the_time_of_an_object_is_that_of_its_record() -> None:
    [part] = parts_of(ORDERS, Parameters(queue="orders", unwrap="s3"), received(json.dumps({"Records": [record()]})))
    assert part.occurred_at == datetime(2026, 11, 28, 13, tzinfo=UTC)


def test_the_test_message_of_s3_is_no_event() -> None:
    assert made(received('{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "inbox"}'), "s3") == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "text",
        "[1]",
        '{"Records": []}',
        '{"Records": 5}',
        '{"Records": [{"s3": {}}]}',
        '{"Records": [{"eventSource": "aws:ses"}]}',
        json.dumps({"Records": [record(), {"s3": {"bucket": {}, "object": {}}, "eventName": "x"}]}),
        '{"Type": "Notification", "MessageId": 5, "Message": "x"}',
        '{"Type": "SubscriptionConfirmation", "MessageId": "m", "Message": "x"}',
    ],
)
def test_what_is_no_notification_is_carried_whole(body: str) -> None:
    assert notification_of(body) is None
    assert records_of(body) is None
    assert [name for name, _ in made(received(body), "s3")] == ["default/orders/m-1"]


def test_what_is_too_large_is_told_by_reference() -> None:
    message = received("x" * 800_000, MessageAttributes={"k": {"DataType": "String", "StringValue": "v"}})
    payload = payload_of("shop/orders", Parameters(queue="orders"), message.content, size=message.size, whole=False)
    PAYLOADS.validate(payload)
    assert (payload["truncated"], payload["bytes"]) == (True, 800_002)
    assert "body" not in payload


def test_requests_run_at_once_only_while_all_are_full() -> None:
    assert next_receivers(1, 10, 10) == 2
    assert next_receivers(8, 80, 10) == 10
    assert next_receivers(10, 100, 10) == 10
    assert next_receivers(10, 35, 10) == 4
    assert next_receivers(4, 0, 10) == next_receivers(1, 3, 10) == 1
    assert next_receivers(1, 10, 1) == 1


# -- configuration ---------------------------------------------------------------------------------------------------------


def test_servers_are_read() -> None:
    config = {
        "servers": {
            "default": {"region": "eu-central-1"},
            "keys": {
                "url": "https://objects.example.com:9000",
                "accessKeyId": "s/id",
                "secretAccessKey": "s/key",
                "ca": "s/ca.crt",
                "visibilitySeconds": 60,
            },
            "role": {"role": "arn:aws:iam::123456789012:role/team/attune", "externalId": "e-1", "receivers": 2},
        }
    }
    found = servers_of(config)
    assert found == {
        "default": Server(name="default", region="eu-central-1"),
        "keys": Server(
            name="keys",
            region="us-east-1",
            url="https://objects.example.com:9000",
            access_key_id="s/id",
            secret_access_key="s/key",
            ca="s/ca.crt",
            visibility=60,
        ),
        "role": Server(name="role", role="arn:aws:iam::123456789012:role/team/attune", external_id="e-1", receivers=2),
    }
    assert [each.where for each in found.values()] == ["AWS in eu-central-1", "objects.example.com:9000", "AWS"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"server": {}}, "unknown field `server`"),
        ({"servers": {"a/b": {}}}, "no name"),
        ({"servers": {"a": {"accessKeyId": "s/id"}}}, "written both, or neither"),
        ({"servers": {"a": {"accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "s/key"}}}, "regex"),
        ({"servers": {"a": {"sessionToken": "s/token"}}}, "never used without accessKeyId"),
        ({"servers": {"a": {"externalId": "e-1"}}}, "never used without role"),
        ({"servers": {"a": {"role": "attune"}}}, "regex"),
        ({"servers": {"a": {"url": "sqs.example.com"}}}, "not like https://"),
        ({"servers": {"a": {"url": "http://host:99999"}}}, "no number from 1 to 65535"),
        ({"servers": {"a": {"url": "https://u:p@host"}}}, "holds credentials"),
        ({"servers": {"a": {"ca": "s/ca"}}}, "never used without url"),
        ({"servers": {"a": {"url": "http://host", "ca": "s/ca"}}}, "write https://"),
        ({"servers": {"a": {"visibilitySeconds": 5}}}, ">= 10"),
        ({"servers": {"a": {"region": "https://evil"}}}, "regex"),
    ],
)
def test_a_configuration_that_cannot_be_used_says_why(config: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        servers_of(config)


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "because"}}, "ReceiveMessage")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (refusal("AccessDenied"), "AWS does not allow it: because (ReceiveMessage)"),
        (refusal("KMS.AccessDeniedException"), "AWS does not allow it: because (ReceiveMessage)"),
        (refusal("InvalidClientTokenId"), "AWS does not accept the credentials: because (ReceiveMessage)"),
        (refusal("OverLimit"), "AWS: OverLimit: because (ReceiveMessage)"),
        (NoCredentialsError(), "AWS: there are no credentials: give the pod's service account a role"),
        (EndpointConnectionError(endpoint_url="http://h"), "AWS does not answer (EndpointConnectionError)"),
        (OSError("broken"), "AWS: broken"),
    ],
)
def test_errors_are_sentences_for_the_rules_authors(error: Exception, said: str) -> None:
    assert str(source_error("AWS", error)).startswith(said)
    assert is_denied(error) == ("allow" in said)
