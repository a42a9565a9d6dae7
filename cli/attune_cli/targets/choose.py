"""Chooses the system that a command asks: by the flags, else an ``attune up`` that runs here, else the kubeconfig's cluster."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from attune_cli.errors import NotFoundError, RefusedError, UnreachableError, UsageError
from attune_cli.targets.api import Api, no_certificates
from attune_cli.targets.kube import Kube
from attune_contract.local import DATA_DIR_NAME, Endpoint, Endpoints, read_endpoints
from attune_kit.kubernetes import access as kubernetes_access

if TYPE_CHECKING:
    from attune_cli.targets.portforward import PodPort

DEFAULT_SYSTEM_NAMESPACE: Final = "attune-system"
#: The ServiceAccount that the chart creates for callers whose kubeconfig has no token.
READER: Final = "attune-cli"
_API_SELECTOR: Final = "app.kubernetes.io/name=attune-api"
#: The API's port for HTTPS, where it has one beside plain HTTP.
TLS_PORT: Final = "https"
_TOKEN_SECONDS: Final = 3600
_SLACK: Final = timedelta(minutes=2)


Forward = tuple["PodPort", bool, Callable[[], str | None], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """The flags that choose a system."""

    kubeconfig: Path | None = None
    context: str | None = None
    data_dir: Path | None = None
    system_namespace: str = DEFAULT_SYSTEM_NAMESPACE
    service_account: str | None = None
    api_url: str | None = None
    api_token_file: Path | None = None
    as_plugin: bool = False


@dataclass(kw_only=True)
class Target:
    """A system that can be asked.

    Attributes:
        kind: a cluster, or an ``attune up`` on this machine.
        name: which one, for people.
        why: why this one, for people.
        namespace: the default namespace; None for all.
        kube: for Sensors and Rules.
        data_dir: of the ``attune up``; None for a cluster.
        pages: of the ``attune up``: where health and metrics of what is no pod are served, by part.
        forward: of a cluster: a pod's port of the API, whether it speaks TLS, the token for it, and what that is, for people.
    """

    kind: Literal["cluster", "local"]
    name: str
    why: str
    namespace: str | None
    kube: Kube
    data_dir: Path | None = None
    pages: Mapping[str, str] = field(default_factory=dict)
    forward: Callable[[], Forward] | None = field(default=None, repr=False)
    _make_api: Callable[[], Api] = field(repr=False)
    _api: Api | None = None

    @property
    def api(self) -> Api:
        """For events, tokens and histories; connected on first use.

        Raises:
            CliError: it cannot be reached.
        """
        if self._api is None:
            self._api = self._make_api()
        return self._api

    def drop_api(self) -> None:
        """Close the connection to the API; the next use finds the API again."""
        if self._api is not None:
            self._api.close()
            self._api = None

    def close(self) -> None:
        """Close the connections."""
        self.drop_api()
        self.kube.close()


def choose(
    options: TargetOptions, *, folder: Path, environment: Mapping[str, str], alive: Callable[[int], bool]
) -> Target:
    """Choose the system.

    Args:
        options: what the flags say.
        folder: where to look for an ``attune up`` from, upwards.
        environment: the process's.
        alive: whether there is a process of that id.

    Raises:
        UsageError: the flags contradict each other, or name something that does not exist.
        UnreachableError: there is nothing to ask.
    """
    flags = options.kubeconfig is not None or options.context is not None
    if options.data_dir is not None:
        if flags:
            raise UsageError(
                "Give --data-dir for an `attune up`, or --kubeconfig and --context for a cluster, not both."
            )
        return _local(options, options.data_dir, why="by --data-dir", alive=alive)
    stopped: Path | None = None
    if not flags and not options.as_plugin:
        found = find_data_dir(folder)
        if found is not None:
            if _running(found, alive) is not None:
                return _local(options, found, why="it runs here", alive=alive)
            stopped = found
    access = _kubernetes(options, environment)
    if access is None:
        raise UnreachableError(_nothing(stopped))
    why = "by the flags" if flags else "no `attune up` runs here" if not options.as_plugin else "as a plugin of kubectl"
    return _cluster(options, access, why=f"{why}; {access.origin}")


def _kubernetes(options: TargetOptions, environment: Mapping[str, str]) -> kubernetes_access.Access | None:
    """The kubeconfig's cluster, else the one that we run in; None when there is none.

    Raises:
        RefusedError: the kubeconfig's credential plugin failed.
        UsageError: the kubeconfig cannot be used.
    """
    try:
        paths = kubernetes_access.files(options.kubeconfig, environment)
        if paths:
            access = kubernetes_access.load(paths, context=options.context)
            return replace(access, bearer=_refusable(access.bearer))
        return kubernetes_access.in_cluster(environment)
    except kubernetes_access.PluginError as error:
        raise RefusedError(str(error)) from None
    except kubernetes_access.AccessError as error:
        raise UsageError(str(error)) from None


def _refusable(bearer: kubernetes_access.Bearer) -> kubernetes_access.Bearer:
    def token() -> str | None:
        try:
            return bearer()
        except kubernetes_access.AccessError as error:
            raise RefusedError(str(error)) from None

    return token


def _nothing(stopped: Path | None) -> str:
    if stopped is not None:
        return (
            f"The `attune up` of {stopped} does not run, or is still starting, and there is no kubeconfig. Start it with "
            "`attune up DIR`, or name a cluster with --kubeconfig."
        )
    return (
        "There is nothing to ask: no `attune up` runs in this folder or above it, and there is no kubeconfig. Start one with "
        "`attune up DIR`, name its --data-dir, or name a cluster with --kubeconfig."
    )


# -- attune up


def find_data_dir(folder: Path) -> Path | None:
    """The data directory of this folder or the next one above it."""
    for candidate in (folder, *folder.parents):
        if (found := candidate / DATA_DIR_NAME).is_dir():
            return found
    return None


def _running(data_dir: Path, alive: Callable[[int], bool]) -> Endpoints | None:
    try:
        endpoints = read_endpoints(data_dir)
    except (OSError, ValueError) as error:
        raise UnreachableError(f"The file that `attune up` left in {data_dir} cannot be read: {error}.") from None
    return endpoints if endpoints is not None and alive(endpoints.pid) else None


def process_is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _local(options: TargetOptions, data_dir: Path, *, why: str, alive: Callable[[int], bool]) -> Target:
    endpoints = _running(data_dir, alive)
    if endpoints is None:
        raise UnreachableError(
            f"No `attune up` runs with the data directory {data_dir}. Start it with `attune up DIR`."
        )
    access = kubernetes_access.Access(
        server=endpoints.kubernetes.url.rstrip("/"),
        verify=no_certificates(),  # it is on loopback, without TLS
        bearer=_token_file(endpoints.kubernetes),
        origin=str(data_dir),
    )

    def api() -> Api:
        return _given_api(options) or Api(
            endpoints.api.url, bearer=_token_file(endpoints.api), signed_in=f"the token file of {data_dir}"
        )

    return Target(
        kind="local",
        name=f"attune up, data in {data_dir}",
        why=why,
        namespace=None,
        kube=Kube(access, who="`attune up`"),
        data_dir=data_dir,
        pages={"api": endpoints.api.url, **endpoints.pages},
        _make_api=api,
    )


def _token_file(endpoint: Endpoint) -> Callable[[], str]:
    return _reader(Path(endpoint.token_file))


def _reader(path: Path) -> Callable[[], str]:
    def read() -> str:
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise UsageError(f"The token file {path} cannot be read: {error}.") from None

    return read


# -- a cluster


def _cluster(options: TargetOptions, access: kubernetes_access.Access, *, why: str) -> Target:
    kube = Kube(access)

    def api() -> Api:
        return _given_api(options) or _forwarded(options, kube)

    return Target(
        kind="cluster",
        name=access.server,
        why=why,
        namespace=access.namespace,
        kube=kube,
        forward=lambda: _forward(options, kube),
        _make_api=api,
    )


def _given_api(options: TargetOptions) -> Api | None:
    if options.api_url is None:
        return None
    if options.api_token_file is None:
        raise UsageError("--api-url needs --api-token-file: a file with the token for that API.")
    return Api(
        options.api_url, bearer=_reader(options.api_token_file), signed_in=f"the token in {options.api_token_file}"
    )


def _forward(options: TargetOptions, kube: Kube) -> Forward:
    """How a pod of the API is reached, and as whom."""
    from attune_cli.targets.portforward import PodPort

    namespace = options.system_namespace
    pod, port, secure = api_pod(kube.core("pods", namespace, labelSelector=_API_SELECTOR).get("items", ()), namespace)
    bearer, signed_in = _caller(options, kube)
    return PodPort(kube.access, namespace=namespace, pod=pod, port=port), secure, bearer, signed_in


def _forwarded(options: TargetOptions, kube: Kube) -> Api:
    """The API of a cluster, through its pod's port."""
    from attune_cli.targets.portforward import pod_transport

    namespace = options.system_namespace
    pod, port, secure = api_pod(kube.core("pods", namespace, labelSelector=_API_SELECTOR).get("items", ()), namespace)
    bearer, signed_in = _caller(options, kube)
    return Api(
        f"{'https' if secure else 'http'}://{pod}.{namespace}",
        bearer=bearer,
        signed_in=signed_in,
        transport=pod_transport(kube.access, namespace=namespace, pod=pod, port=port),
    )


def api_pod(pods: Any, namespace: str) -> tuple[str, int, bool]:
    """Name and port of a pod of the API that is ready, and whether it speaks TLS. With two ports, that with TLS.

    Raises:
        UnreachableError: there is none.
    """
    for pod in pods:
        conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", ())}
        if conditions.get("Ready") != "True" or pod["metadata"].get("deletionTimestamp"):
            continue
        for container in pod["spec"]["containers"]:
            ports = {port.get("name"): int(port["containerPort"]) for port in container.get("ports", ())}
            if found := ports.get(TLS_PORT) or ports.get("http"):
                return pod["metadata"]["name"], found, speaks_tls(container)
    if pods:
        names = ", ".join(pod["metadata"]["name"] for pod in pods)
        raise UnreachableError(f"The API is not ready: see `kubectl describe pod -n {namespace} {names}`.")
    raise UnreachableError(
        f"There is no pod of the API in namespace {namespace}. Name the chart's namespace with --system-namespace, or the API's "
        "address with --api-url."
    )


def speaks_tls(container: Mapping[str, Any]) -> bool:
    """Whether a container of the API speaks TLS: on a port of its own, or on its only one, as its readiness probe then does."""
    probe = (container.get("readinessProbe") or {}).get("httpGet") or {}
    return probe.get("scheme") == "HTTPS" or any(port.get("name") == TLS_PORT for port in container.get("ports") or ())


def _caller(options: TargetOptions, kube: Kube) -> tuple[Callable[[], str | None], str]:
    """The token for the API: the user's own, or a short-lived one of a ServiceAccount."""
    if options.api_token_file is not None:
        return _reader(options.api_token_file), f"the token in {options.api_token_file}"
    own = options.service_account is None and "Impersonate-User" not in kube.access.headers
    if own and kube.access.bearer() is not None:
        return kube.access.bearer, kube.access.origin
    named = options.service_account or READER
    namespace, _, name = named.rpartition("/")
    account = ServiceAccountToken(kube, namespace or options.system_namespace, name, clock=lambda: datetime.now(UTC))
    if options.service_account is None:
        account.hint = (
            f"{kube.access.origin} has a client certificate, which the API does not accept, so a token of the "
            f"ServiceAccount {account.ref} was requested. Name another with --service-account NAMESPACE/NAME, or a file "
            "with a token with --api-token-file."
        )
    return account, f"a token of the ServiceAccount {account.ref}"


class ServiceAccountToken:
    """Requests a ServiceAccount's token (TokenRequest), and again before it expires."""

    def __init__(self, kube: Kube, namespace: str, name: str, *, clock: Callable[[], datetime]) -> None:
        self.ref = f"{namespace}/{name}"
        self.hint = ""
        self._kube = kube
        self._path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        self._clock = clock
        self._token = ""
        self._ends = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> str:
        """A valid token.

        Raises:
            CliError: the cluster gives us none.
        """
        if self._ends - self._clock() < _SLACK:
            body = {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": _TOKEN_SECONDS},
            }
            try:
                status = self._kube.request("POST", self._path, what=f"ServiceAccount {self.ref}", json=body)["status"]
            except (NotFoundError, RefusedError) as error:
                raise type(error)(f"{error} {self.hint}".strip()) from None
            self._token, self._ends = status["token"], datetime.fromisoformat(status["expirationTimestamp"])
        return self._token
