# The server as an image: one static program, no shell, no root. `docker build -t parley .`
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY db db
COPY gen gen
COPY server server
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/parley ./server/cmd/parley \
    && mkdir /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/parley /parley
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
ENV PARLEY_LISTEN=0.0.0.0:8080 \
    PARLEY_ADMIN_LISTEN=0.0.0.0:8081 \
    PARLEY_DATA_DIR=/data
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
ENTRYPOINT ["/parley"]
CMD ["serve"]
