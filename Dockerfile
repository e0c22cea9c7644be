# One image for every service; the command names the service: `docker run … kwbp serve gateway`.
# Built from the same set-up script and lock file as everything else.
FROM debian:12-slim AS build
WORKDIR /opt/kwbp
COPY . .
RUN scripts/setup --runtime

FROM debian:12-slim
WORKDIR /opt/kwbp
COPY scripts/setup scripts/setup
RUN apt-get update -qq \
    && apt-get install --yes --no-install-recommends -qq python3 python3-venv \
    && scripts/setup --system-only \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/kwbp --shell /usr/sbin/nologin kwbp
COPY --from=build /opt/kwbp/.venv .venv
ENV PATH=/opt/kwbp/.venv/bin:$PATH \
    KWBP_HOME=/var/lib/kwbp/home \
    PYTHONUNBUFFERED=1
USER kwbp
VOLUME /var/lib/kwbp
ENTRYPOINT ["kwbp"]
CMD ["serve"]
