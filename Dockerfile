# One static binary in an empty image.
#
#   docker build -t tapdirector .
#   docker run --rm --cap-add NET_ADMIN --device /dev/net/tun --network host \
#       -v $PWD/lb.toml:/lb.toml:ro tapdirector -conf /lb.toml
#
# NET_ADMIN and /dev/net/tun are for making the TAP and joining it to a bridge. With a TAP made beforehand for the user the
# container runs as, the device alone is enough; see docs/install.md.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o /tapdirector .

FROM scratch
COPY LICENSE /LICENSE
COPY --from=build /tapdirector /tapdirector
ENTRYPOINT ["/tapdirector"]
CMD ["--help"]
