# One target for each image (hack/cluster/images.json).
#
#   docker build --target operator -t attune/operator:0.1.0 .
#
# Dependencies come from uv.lock and change rarely, so they are layers of their own; a changed source file costs one COPY.
# What runs is a virtual environment and our packages: no compiler, no pip, no uv, and no user but a number.
ARG PYTHON_IMAGE=python:3.13-slim
ARG GO_IMAGE=golang:1.26.6

FROM ${PYTHON_IMAGE} AS build
ENV UV_COMPILE_BYTECODE=1 \
    UV_FROZEN=1 \
    UV_LINK_MODE=copy \
    UV_NO_DEFAULT_GROUPS=1 \
    UV_NO_INSTALL_WORKSPACE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/attune \
    UV_PYTHON_DOWNLOADS=never
COPY hack/uv.txt /opt/uv.txt
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --quiet --require-hashes -r /opt/uv.txt
WORKDIR /src
COPY pyproject.toml uv.lock ./

FROM build AS operator-dependencies
COPY operator/pyproject.toml operator/
RUN /opt/uv/bin/uv sync --package attune-operator --extra kubernetes

FROM build AS api-dependencies
COPY api/pyproject.toml api/
RUN /opt/uv/bin/uv sync --package attune-api

FROM build AS actions-dependencies
COPY actions/pyproject.toml actions/
RUN /opt/uv/bin/uv sync --package attune-actions

FROM build AS sensor-timer-dependencies
COPY sensor_images/timer/pyproject.toml sensor_images/timer/
RUN /opt/uv/bin/uv sync --package attune-timer

FROM build AS sensor-webhook-dependencies
COPY sensor_images/webhook/pyproject.toml sensor_images/webhook/
RUN /opt/uv/bin/uv sync --package attune-webhook

FROM build AS sensor-kubernetes-dependencies
COPY sensor_images/kubernetes/pyproject.toml sensor_images/kubernetes/
RUN /opt/uv/bin/uv sync --package attune-kubernetes

FROM build AS sensor-nats-dependencies
COPY sensor_images/nats/pyproject.toml sensor_images/nats/
RUN /opt/uv/bin/uv sync --package attune-nats

FROM build AS sensor-patterns-dependencies
COPY sensor_images/patterns/pyproject.toml sensor_images/patterns/
RUN /opt/uv/bin/uv sync --package attune-patterns

FROM build AS sensor-redis-dependencies
COPY sensor_images/redis/pyproject.toml sensor_images/redis/
RUN /opt/uv/bin/uv sync --package attune-redis

FROM build AS sensor-amqp-dependencies
COPY sensor_images/amqp/pyproject.toml sensor_images/amqp/
RUN /opt/uv/bin/uv sync --package attune-amqp

FROM build AS sensor-mqtt-dependencies
COPY sensor_images/mqtt/pyproject.toml sensor_images/mqtt/
RUN /opt/uv/bin/uv sync --package attune-mqtt

FROM build AS sensor-aws-dependencies
COPY sensor_images/aws/pyproject.toml sensor_images/aws/
# The descriptions of some 400 services come with botocore; these are the ones that the sensor uses.
RUN /opt/uv/bin/uv sync --package attune-aws && \
    find /opt/attune/lib/python3*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
      ! -name sqs ! -name s3 ! -name sts -exec rm -r {} +

FROM build AS sensor-kafka-dependencies
COPY sensor_images/kafka/pyproject.toml sensor_images/kafka/
RUN /opt/uv/bin/uv sync --package attune-kafka

FROM build AS sensor-postgres-dependencies
COPY sensor_images/postgres/pyproject.toml sensor_images/postgres/
RUN /opt/uv/bin/uv sync --package attune-postgres

FROM build AS sensor-http-dependencies
COPY sensor_images/http/pyproject.toml sensor_images/http/
RUN /opt/uv/bin/uv sync --package attune-http

FROM build AS sensor-files-dependencies
COPY sensor_images/files/pyproject.toml sensor_images/files/
RUN /opt/uv/bin/uv sync --package attune-files

FROM build AS sensor-stdio-dependencies
COPY sensor_images/stdio/pyproject.toml sensor_images/stdio/
RUN /opt/uv/bin/uv sync --package attune-stdio

FROM sensor-stdio-dependencies AS sensor-stdio-zipapp
COPY contract/attune_contract /src/app/attune_contract
COPY kit/attune_kit /src/app/attune_kit
COPY sensor_images/sdk/attune_sensor /src/app/attune_sensor
COPY sensor_images/stdio/attune_stdio /src/app/attune_stdio
COPY sensor_images/stdio/attune_zipapp /src/app/attune_zipapp
RUN PYTHONPATH=/src/app /opt/attune/bin/python -m attune_zipapp /src/attune-stdio.pyz

# Our packages, compiled: the file system of a running container is read-only, so each start would compile them again. By hash,
# not by time: what is built from the same sources is the same, and a file that somebody exchanges is compiled again.
FROM build AS app
COPY contract/attune_contract /opt/attune/app/attune_contract
COPY kit/attune_kit /opt/attune/app/attune_kit
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app

FROM app AS operator-app
COPY operator/attune_operator /opt/attune/app/attune_operator
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_operator

FROM app AS api-app
COPY api/attune_api /opt/attune/app/attune_api
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_api

FROM app AS actions-app
COPY actions/attune_actions /opt/attune/app/attune_actions
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_actions

FROM app AS sensor-app
COPY sensor_images/sdk/attune_sensor /opt/attune/app/attune_sensor
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_sensor

FROM sensor-app AS sensor-timer-app
COPY sensor_images/timer/attune_timer /opt/attune/app/attune_timer
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_timer

FROM sensor-app AS sensor-webhook-app
COPY sensor_images/webhook/attune_webhook /opt/attune/app/attune_webhook
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_webhook

FROM sensor-app AS sensor-kubernetes-app
COPY sensor_images/kubernetes/attune_kubernetes /opt/attune/app/attune_kubernetes
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_kubernetes

FROM sensor-app AS sensor-nats-app
COPY sensor_images/nats/attune_nats /opt/attune/app/attune_nats
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_nats

FROM sensor-app AS sensor-patterns-app
COPY sensor_images/patterns/attune_patterns /opt/attune/app/attune_patterns
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_patterns

FROM sensor-app AS sensor-redis-app
COPY sensor_images/redis/attune_redis /opt/attune/app/attune_redis
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_redis

FROM sensor-app AS sensor-amqp-app
COPY sensor_images/amqp/attune_amqp /opt/attune/app/attune_amqp
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_amqp

FROM sensor-app AS sensor-mqtt-app
COPY sensor_images/mqtt/attune_mqtt /opt/attune/app/attune_mqtt
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_mqtt

FROM sensor-app AS sensor-aws-app
COPY sensor_images/aws/attune_aws /opt/attune/app/attune_aws
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_aws

FROM sensor-app AS sensor-kafka-app
COPY sensor_images/kafka/attune_kafka /opt/attune/app/attune_kafka
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_kafka

FROM sensor-app AS sensor-postgres-app
COPY sensor_images/postgres/attune_postgres /opt/attune/app/attune_postgres
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_postgres

FROM sensor-app AS sensor-http-app
COPY sensor_images/http/attune_http /opt/attune/app/attune_http
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_http

FROM sensor-app AS sensor-files-app
COPY sensor_images/files/attune_files /opt/attune/app/attune_files
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_files

FROM sensor-app AS sensor-stdio-app
COPY sensor_images/stdio/attune_stdio /opt/attune/app/attune_stdio
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/attune/app/attune_stdio

# The official image leaves the standard library's bytecode out, and who is not root cannot write it.
FROM ${PYTHON_IMAGE} AS python
RUN python3 -c 'import compileall, re, sysconfig; compileall.compile_dir(sysconfig.get_path("stdlib"), quiet=1, \
    rx=re.compile("/(test|tests|idlelib|tkinter|turtledemo|pydoc_data|site-packages|dist-packages)/"))'

FROM python AS runtime
# USER: the number has no entry in /etc/passwd, and programs ask for a name.
ENV PATH=/opt/attune/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/attune/app \
    PYTHONUNBUFFERED=1 \
    USER=attune
# The base image's own pip is not needed to run anything.
RUN rm -rf /usr/local/lib/python3.*/site-packages/pip /usr/local/lib/python3.*/site-packages/pip-*.dist-info \
    /usr/local/lib/python3.*/ensurepip /usr/local/bin/pip*
USER 65532:65532

FROM runtime AS operator
COPY --from=operator-dependencies /opt/attune /opt/attune
COPY --from=operator-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_operator"]

FROM runtime AS api
COPY --from=api-dependencies /opt/attune /opt/attune
COPY --from=api-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_api"]

FROM runtime AS actions
COPY --from=actions-dependencies /opt/attune /opt/attune
COPY --from=actions-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_actions"]

FROM runtime AS sensor-timer
COPY --from=sensor-timer-dependencies /opt/attune /opt/attune
COPY --from=sensor-timer-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_timer"]

FROM runtime AS sensor-webhook
COPY --from=sensor-webhook-dependencies /opt/attune /opt/attune
COPY --from=sensor-webhook-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_webhook"]

FROM runtime AS sensor-kubernetes
COPY --from=sensor-kubernetes-dependencies /opt/attune /opt/attune
COPY --from=sensor-kubernetes-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_kubernetes"]

FROM runtime AS sensor-nats
COPY --from=sensor-nats-dependencies /opt/attune /opt/attune
COPY --from=sensor-nats-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_nats"]

FROM runtime AS sensor-patterns
COPY --from=sensor-patterns-dependencies /opt/attune /opt/attune
COPY --from=sensor-patterns-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_patterns"]

FROM runtime AS sensor-redis
COPY --from=sensor-redis-dependencies /opt/attune /opt/attune
COPY --from=sensor-redis-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_redis"]

FROM runtime AS sensor-amqp
COPY --from=sensor-amqp-dependencies /opt/attune /opt/attune
COPY --from=sensor-amqp-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_amqp"]

FROM runtime AS sensor-mqtt
COPY --from=sensor-mqtt-dependencies /opt/attune /opt/attune
COPY --from=sensor-mqtt-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_mqtt"]

FROM runtime AS sensor-aws
COPY --from=sensor-aws-dependencies /opt/attune /opt/attune
COPY --from=sensor-aws-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_aws"]

FROM runtime AS sensor-kafka
COPY --from=sensor-kafka-dependencies /opt/attune /opt/attune
COPY --from=sensor-kafka-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_kafka"]

FROM runtime AS sensor-postgres
COPY --from=sensor-postgres-dependencies /opt/attune /opt/attune
COPY --from=sensor-postgres-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_postgres"]

FROM runtime AS sensor-http
COPY --from=sensor-http-dependencies /opt/attune /opt/attune
COPY --from=sensor-http-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_http"]

FROM runtime AS sensor-files
COPY --from=sensor-files-dependencies /opt/attune /opt/attune
COPY --from=sensor-files-app /opt/attune/app /opt/attune/app
ENTRYPOINT ["python", "-m", "attune_files"]

# Programs of its users run in this one, and images are built on it. So there is nothing of ours in PATH and PYTHONPATH, and pip stays.
FROM python AS sensor-stdio
ENV HOME=/tmp \
    USER=attune
COPY --from=sensor-stdio-dependencies /opt/attune /opt/attune
COPY --from=sensor-stdio-zipapp /src/attune-stdio.pyz /opt/attune/attune-stdio.pyz
COPY sensor_images/stdio/attune-stdio /usr/local/bin/attune-stdio
COPY --from=sensor-stdio-app /opt/attune/app /opt/attune/app
USER 65532:65532
ENTRYPOINT ["attune-stdio", "--"]

# The same with Node.js, and an example of an image that is built on it (docs/runners.md).
FROM sensor-stdio AS sensor-stdio-node
USER 0:0
RUN apt-get update && apt-get install --yes --no-install-recommends nodejs && rm -rf /var/lib/apt/lists/*
USER 65532:65532

# The NATS server from its own Go module. Go checks each module against go.sum.
FROM ${GO_IMAGE} AS nats-build
ENV CGO_ENABLED=0 GOTOOLCHAIN=local
WORKDIR /src
COPY hack/cluster/nats-server/go.mod hack/cluster/nats-server/go.sum ./
RUN go build -mod=readonly -trimpath -buildvcs=false -ldflags="-s -w" -o /nats-server github.com/nats-io/nats-server/v2

FROM scratch AS nats
COPY --from=nats-build /nats-server /nats-server
USER 65532:65532
ENTRYPOINT ["/nats-server"]
