# syntax=docker/dockerfile:1
# One image, three entry points:
#   docker run IMAGE            the pull worker (`mlfs run`)
#   docker run IMAGE serve      the push worker
#   docker run IMAGE status     and every other command, for administration
#
# The base is pinned by its tag. A tag can move; whoever builds for production pins the digest of the day as well:
#   docker build --build-arg PYTHON_IMAGE=python:3.11.13-slim-bookworm@sha256:… .
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# Without pip inside: the environment is filled from outside and carries no installer into the last stage.
RUN python -m venv --without-pip /opt/mlfs
COPY requirements.lock /src/
# Wheels only, each checked against its hash; the build backend is locked among them. pip compiles what it installs.
# Without --no-deps pip asks for a hash of google-auth[pyopenssl] too, beside google-auth's; `check` sees that none lacks.
RUN pip --python /opt/mlfs/bin/python install --no-cache-dir --require-hashes --no-deps --only-binary :all: \
        --requirement /src/requirements.lock \
 && pip --python /opt/mlfs/bin/python check
COPY . /src
WORKDIR /src
RUN /opt/mlfs/bin/python -m hatchling build --target wheel --directory /dist \
 && pip --python /opt/mlfs/bin/python install --no-cache-dir --no-index --no-deps /dist/*.whl
RUN mkdir -p /volumes/data

# Nothing is run in this stage, so it needs no shell; the user is a bare number and needs no entry in /etc/passwd.
FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ml-feature-store-worker" \
      org.opencontainers.image.description="Joins four nightly completion events per date, builds, scores and publishes" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/mlfs /opt/mlfs
# An empty volume takes over the owner.
COPY --from=build --chown=65532:65532 /volumes/ /
ENV PATH=/opt/mlfs/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    USER=mlfs \
    MLFS_DATA_DIR=/data
USER 65532:65532
WORKDIR /data
# With these two the root file system may be read-only: docker run --read-only --tmpfs /tmp IMAGE
VOLUME /data
EXPOSE 8080
# The worker handles SIGTERM itself, is gone within eight seconds, and starts no program of its own where Redis is
# outside; so there is nothing for an init to forward or to reap, and `mlfs run` may be process 1.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s --retries=6 CMD ["python", "-m", "ops.healthcheck"]
ENTRYPOINT ["mlfs"]
CMD ["run"]
