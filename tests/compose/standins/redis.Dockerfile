# Stands in for redis:7-bookworm: Debian's Redis 7 with that image's user and folder.
FROM debian:bookworm-slim
RUN groupadd -r -g 999 redis && useradd -r -g redis -u 999 redis \
    && apt-get update -qq && apt-get install -qq -y --no-install-recommends redis-server >/dev/null \
    && rm -rf /var/lib/apt/lists/* && install -d -o redis -g redis /data
WORKDIR /data
VOLUME /data
CMD ["redis-server"]
