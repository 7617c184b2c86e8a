# What fetches repositories: git and ssh of the machine that built this, their libraries, and a
# shell. Context: the folder that deploy/build-images fills.
FROM scratch
COPY git-root /
USER 65532:65532
ENV PATH=/usr/bin:/bin
CMD ["git", "--version"]
