"""Senders that developers and operators use."""

from typing import Final

from attune_webhook.schemes.common import BEARER, STANDARD_HMAC, hmac_in
from attune_webhook.schemes.model import Preset, TimeUnit, Token, Variant

DEVELOPER_SENDERS: Final = (
    Preset(
        name="github",
        title="GitHub, Gitea and Forgejo",
        variants=hmac_in("x-hub-signature-256", "sha256="),
        ids=(("header:x-github-delivery",),),
        note="10 s; no retries by itself, a redelivery by hand has the same id",
        source="https://docs.github.com/en/webhooks/using-webhooks/handling-failed-webhook-deliveries",
    ),
    Preset(
        name="gitea",
        title="Gitea and Forgejo by their own header",
        variants=hmac_in("x-gitea-signature"),
        ids=(("header:x-gitea-delivery",),),
        note="no retries by itself",
    ),
    Preset(
        name="gitlab",
        title="GitLab",
        variants=(
            Variant(checks=STANDARD_HMAC[:1], secret_prefixes=("whsec_",)),
            Variant(checks=(Token(source="header:x-gitlab-token"),)),
        ),
        ids=(("header:idempotency-key",), ("header:webhook-id",), ("header:x-gitlab-event-uuid",)),
        note="after 4 failures in a row, 4xx and 5xx alike, the hook is off for a while, after 40 for good",
        source="https://gitlab.com/gitlab-org/gitlab/-/merge_requests/166329",
    ),
    Preset(
        name="bitbucket",
        title="Bitbucket Cloud and Data Center",
        variants=hmac_in("x-hub-signature", "sha256="),
        ids=(("header:x-request-id",),),
        note="Cloud tries again twice after 5xx",
    ),
    Preset(
        name="jira",
        title="Jira Cloud",
        variants=hmac_in("x-hub-signature", "sha256="),
        ids=(("header:x-atlassian-webhook-identifier",),),
        note="retries for up to 30 min after 408, 409, 425, 429 and 5xx",
    ),
    Preset(
        name="linear",
        title="Linear",
        variants=hmac_in("linear-signature", timestamp="field:webhookTimestamp", time_unit=TimeUnit.MILLISECONDS),
        ids=(("header:linear-delivery",),),
        answer=200,
        note="5 s; everything but 200 is retried after 1 min, 1 h and 6 h",
    ),
    Preset(
        name="sentry",
        title="Sentry",
        variants=hmac_in("sentry-hook-signature"),
        ids=(("header:request-id",),),
        answer=200,
        note="publishes no schedule",
    ),
    Preset(
        name="circleci",
        title="CircleCI",
        variants=hmac_in("circleci-signature", "v1=", separator=","),
        ids=(("field:id",),),
        only_signed_ids=True,
        note="retries; publishes no schedule",
    ),
    Preset(
        name="pagerduty",
        title="PagerDuty v3",
        variants=hmac_in("x-pagerduty-signature", "v1=", separator=","),
        ids=(("header:x-webhook-id",),),
        note="5 s; up to 4 retries in 20 min; 4xx but 429 is dropped at once, and 3 drops in a row switch it off for 24 h",
        source="https://github.com/PagerDuty/developer-docs/blob/main/docs/webhooks/02-Behavior.md",
    ),
    Preset(
        name="registry",
        title="Docker Registry (distribution)",
        variants=(Variant(checks=(BEARER,)),),
        ids=(("field:events.0.id",),),
        note="retries until it succeeds, and pauses after a threshold of failures",
        source="https://distribution.github.io/distribution/about/notifications",
    ),
    Preset(
        name="flux",
        title="Flux (generic-hmac)",
        variants=hmac_in("x-signature", "sha256="),
        note="15 s; up to 4 retries, 2 to 30 s apart",
        source="https://github.com/fluxcd/notification-controller/blob/main/internal/notifier/client.go",
    ),
    Preset(
        name="grafana",
        title="Grafana",
        variants=hmac_in("x-grafana-alerting-signature"),
        note="each repetition of an alert is an event",
    ),
)
