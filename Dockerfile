# The image of `parallax serve`: a wheel and its dependencies on a slim Python, run by a user without rights.
#
#   docker build -t parallax .
#   docker run -p 8080:8080 -v ./config.yaml:/etc/parallax/config.yaml:ro -v parallax:/var/lib/parallax parallax
#
# In the configuration, listeners must name 0.0.0.0 to be reached from outside the container.
FROM python:3.12-slim AS build
WORKDIR /src
# the request path is compiled: it needs half of the processor then
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY pyproject.toml setup.py README.md constraints.txt ./
COPY proxy ./proxy
# the constraints pin what was tested; the project itself comes as a wheel, so no source lies in the image; the
# extra is in, because nothing can be installed into the image later
RUN python -m venv /opt/parallax \
 && PARALLAX_COMPILE=always pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && /opt/parallax/bin/pip install --no-cache-dir -c constraints.txt "$(echo /wheels/*.whl)[otel]" \
 && /opt/parallax/bin/pip uninstall --yes pip

FROM python:3.12-slim
COPY --from=build /opt/parallax /opt/parallax
RUN useradd --system --user-group --uid 10001 --home-dir /var/lib/parallax --shell /usr/sbin/nologin parallax \
 && install -d -m 0700 -o parallax -g parallax /var/lib/parallax
ENV PATH=/opt/parallax/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /var/lib/parallax
VOLUME /var/lib/parallax
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
  CMD ["python", "-m", "proxy.supervisor.health", "/var/lib/parallax"]
# The supervisor is PID 1: it drains on SIGTERM, reloads on SIGHUP and buries orphans. `docker exec ... parallax upgrade
# --state /var/lib/parallax` and SIGUSR2 change its program in place, so the container goes on; the health check then
# waits a moment in the queue of the admin socket, which is handed over like the others.
ENTRYPOINT ["parallax"]
CMD ["serve", "/etc/parallax/config.yaml", "--state", "/var/lib/parallax"]
