# The control plane. Context: the folder that deploy/build-images fills.
FROM scratch
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY passwd group /etc/
COPY --chown=65532:65532 empty /var/lib/muster
COPY --chown=65532:65532 empty /tmp
COPY muster /muster
USER 65532:65532
ENV MUSTER_DATA_DIR=/var/lib/muster
EXPOSE 8443
ENTRYPOINT ["/muster", "server"]
