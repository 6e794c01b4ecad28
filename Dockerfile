# The daemon in a small image: docs/docker.md. Build: docker build -t mikopbx-adapter .
#
# Python 3.13 is the newest that the package allows and the one with security fixes for the longest time (October 2029).
# The base must hold python3 with venv and the wheels' C library (glibc: "slim", not "alpine"). Who wants the same bytes
# at each build gives it by digest: --build-arg PYTHON_IMAGE=python@sha256:…
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS builder
WORKDIR /build
# Tools stay in an environment of their own, so that the one which is copied holds no pip.
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/adapter
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements requirements
RUN /tools/bin/pip --python /opt/adapter/bin/python3 install --no-compile --only-binary :all: --require-hashes \
        -r requirements/run.txt
# The build tool in the version, and with the hashes, that the project is tried with.
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements/dev.txt > setuptools.txt \
    && /tools/bin/pip install --no-compile --only-binary :all: --require-hashes -r setuptools.txt
COPY pyproject.toml README.md LICENSE ./
COPY adapter adapter
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /tools/bin/pip --python /opt/adapter/bin/python3 install --no-compile --no-deps dist/*.whl
# Compiled here and on all cores, because nothing can be written there; unchecked, because nothing changes there.
RUN /opt/adapter/bin/python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/adapter

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="mikopbx-adapter" \
      org.opencontainers.image.description="Dials the rows of a Supabase call_queue through a MikoPBX" \
      org.opencontainers.image.licenses="MIT"
# Official Python images come without compiled files. 12 MB of them make each look at the daemon's health four times
# cheaper (0.1 s of CPU for 0.4) and the start twice as fast (0.4 s for 0.8).
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash \
    -x '/(tests?|idlelib|tkinter|turtledemo|ensurepip|lib2to3|site-packages|dist-packages)/' \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=builder /opt/adapter /opt/adapter
# A number of its own and fixed: a volume, and secrets that are files, belong to it on every machine.
RUN install -d -m 0700 -o 10001 -g 10001 /var/lib/mikopbx-adapter
ENV PATH=/opt/adapter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STATE_DIR=/var/lib/mikopbx-adapter
USER 10001:10001
WORKDIR /var/lib/mikopbx-adapter
VOLUME /var/lib/mikopbx-adapter
# The daemon drains on SIGTERM; calls in the air go on at the PBX.
STOPSIGNAL SIGTERM
# The daemon writes its sign of life every 5 s, and 20 s without one mean dead. A look costs 0.1 s of CPU: every 30 s is
# nothing. A start takes a second; 30 s leave room for a slow disk. Two in a row, since a machine that was suspended
# shows an old sign for a moment. Only a person or an orchestrator acts on "unhealthy", the restart policy does not:
# a daemon that hangs ends itself.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=2 CMD ["mikopbx-adapter", "health"]
ENTRYPOINT ["mikopbx-adapter"]
# With wrong settings or a busy STATE_DIR it waits a minute before it leaves: no restart policy makes a storm of that.
CMD ["run", "--hold", "60"]
