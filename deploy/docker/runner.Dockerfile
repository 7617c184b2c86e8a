# Conductor and shim, and the shell for images that have none. Needs nothing else.
# Context: the folder that deploy/build-images fills.
FROM scratch
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY passwd group /etc/
COPY busybox /bin/busybox
COPY muster-runner /muster-runner
USER 65532:65532
ENTRYPOINT ["/muster-runner"]
