"""A real Prometheus scrapes a real API by HTTPS, as the chart's PodMonitor says."""

import asyncio
import json
from pathlib import Path

import pytest
from support.api_process import ApiProcess
from support.certificates import Authority
from support.eventually import until
from support.helm_chart import template
from support.pod_monitors import scrape_configs, targets
from support.prometheus import prometheus

from attune_local.ports import free_port


@pytest.mark.parametrize("signed_by_ours", [True, False])
async def test_the_api_is_scraped_with_its_certificate_checked(tmp_path: Path, signed_by_ours: bool) -> None:
    manifests = template("monitoring.podMonitor.enabled=true")
    [monitor] = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == ("PodMonitor", "attune-api")]
    [deployment] = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == ("Deployment", "attune-api")]
    authority, secure = Authority(), free_port()
    (tmp_path / "ca.crt").write_text(authority.pem if signed_by_ours else Authority().pem)
    for name, text in zip(("tls.crt", "tls.key"), authority.issue("attune-api.attune-system.svc"), strict=True):
        (tmp_path / name).write_text(text)

    pod = {**deployment["spec"]["template"], "status": {"podIP": "127.0.0.1", "phase": "Running"}}
    pod["metadata"] = {**pod["metadata"], "namespace": "attune-system", "name": "attune-api-1"}
    for port in pod["spec"]["containers"][0]["ports"]:
        if port["name"] == "https":
            port["containerPort"] = secure
    (tmp_path / "pods.json").write_text(json.dumps(targets([pod])))
    configs = scrape_configs([monitor], file=tmp_path / "pods.json", interval="1s", authority=tmp_path / "ca.crt")
    settings = {"tls_certificate_file": str(tmp_path / "tls.crt"), "tls_key_file": str(tmp_path / "tls.key")}
    api = ApiProcess(tmp_path / "api", check_rules="false", tls_port=str(secure), **settings)
    await asyncio.to_thread(api.start)
    try:
        async with prometheus(tmp_path / "prometheus", {}, more=configs) as server:
            wanted = 1 if signed_by_ours else 0

            async def told() -> bool:
                return await server.value("up{job='podMonitor/attune-system/attune-api/0'}") == wanted

            await until(told, within=60, what="Prometheus says how the scrape went")
    finally:
        await asyncio.to_thread(api.stop)
