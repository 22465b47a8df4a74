# One image for every worker, the payment gateway and the CLI; the command selects one.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /app
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --quiet uv
COPY pyproject.toml uv.lock README.md LICENSE ./
# Modules are compiled here: the image's user cannot write beside them, so each start would compile them again.
ENV UV_PROJECT_ENVIRONMENT=/app/.venv UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1
RUN /opt/uv/bin/uv sync --frozen --no-dev --no-install-project
COPY api api
COPY bootstrap bootstrap
COPY broker broker
COPY choreography choreography
COPY cli cli
COPY dashboard dashboard
COPY lab lab
COPY observer observer
COPY ops ops
COPY orchestrator orchestrator
COPY payment_gateway payment_gateway
COPY services services
COPY store store
RUN /opt/uv/bin/uv sync --frozen --no-dev --no-editable

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --create-home saga && mkdir /data && chown saga /data
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
# Empty folders for the volume of the secrets: the engine mounts a folder of a volume only if it exists when the container is created.
RUN saga admin secrets --only-folders /secrets
USER saga
ENTRYPOINT ["saga"]
CMD ["--help"]
