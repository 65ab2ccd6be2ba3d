# Saccade with the versions that were tested together. Build it in a clone:
#
#     docker build --tag saccade:0.1.0 .
#     docker run --rm --volume "$PWD:/data" --workdir /data saccade:0.1.0 saccade info slide.svs
#
# One install script serves this file, containers/apptainer.def and a plain Debian.
ARG BASE=debian:12-slim
# hadolint ignore=DL3006
FROM ${BASE} AS build
COPY . /src
RUN /src/containers/install.sh /src /opt/saccade

# hadolint ignore=DL3006
FROM ${BASE}
COPY containers/system.sh /opt/system.sh
RUN /opt/system.sh && rm /opt/system.sh
COPY --from=build /opt/saccade /opt/saccade
ENV PATH=/opt/saccade/bin:$PATH
# Snakemake calls commands of a shell in the container, so there is no entry point.
CMD ["saccade", "--help"]
