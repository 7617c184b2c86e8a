# Conductor and shim, and the shell for images that have none. Needs nothing else.
# Context: the folder that deploy/build-images fills.
FROM scratch
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY passwd group /etc/
# A container without an image of its own is this one: scripts with `#!/bin/sh` and probes of the
# cluster find their programs.
COPY tools/bin /bin
COPY tools/usr /usr
COPY muster-runner /muster-runner
USER 65532:65532
ENTRYPOINT ["/muster-runner"]
