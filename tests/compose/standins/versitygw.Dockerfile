# Stands in for versity/versitygw: the same release, built from its Go module.
FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends wget >/dev/null && rm -rf /var/lib/apt/lists/*
COPY versitygw /app/versitygw
ENTRYPOINT ["/app/versitygw"]
