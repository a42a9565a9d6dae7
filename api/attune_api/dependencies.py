"""What routes ask for: the services, and who is calling. Nothing else makes these."""

from typing import Annotated, Any, Final, cast

from fastapi import Depends, Request

from attune_api.identity.callers import Caller, SensorCaller
from attune_api.identity.errors import repeated_authorization
from attune_api.services import Services


async def services_of(request: Request) -> Services:
    """The services of the app that a request came to."""
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(services_of)]


def authorization_of(request: Request) -> str | None:
    """The ``Authorization`` header, if there is one.

    Raises:
        ProblemError: 400, there are several.
    """
    found = request.headers.getlist("authorization")
    if len(found) > 1:
        raise repeated_authorization()
    return found[0] if found else None


async def _sensor(request: Request) -> SensorCaller:
    # Not ServicesDep: every dependency that FastAPI resolves costs the busiest calls some 5 %.
    services = await services_of(request)
    return services.access.sensor(authorization_of(request))


async def _caller(request: Request) -> Caller:
    services = await services_of(request)
    return await services.access.caller(authorization_of(request))


#: The sensor that calls; 401 for other callers.
SensorDep = Annotated[SensorCaller, Depends(_sensor)]
#: The caller; 401 without one.
CallerDep = Annotated[Caller, Depends(_caller)]

# The schemes are documented, not run: identity.access reads the header and words the refusals.
SECURITY_SCHEMES: Final[dict[str, Any]] = {
    "sensorToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A sensor's token.",
    },
    "callerToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "A Kubernetes token (`kubectl create token`), or the admin token where there is no cluster.",
    },
}
SENSOR_ONLY: Final[dict[str, Any]] = {"security": [{"sensorToken": []}]}
CALLER_ONLY: Final[dict[str, Any]] = {"security": [{"callerToken": []}]}
ANY_TOKEN: Final[dict[str, Any]] = {"security": [{"sensorToken": []}, {"callerToken": []}]}
