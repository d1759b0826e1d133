# One image with both processes: `controller.js` and `webhook.js`, and `uninstall.js` for the chart's uninstall hook.
# docs/install.md says how to build it with Docker, Podman and Buildah.
# Both bases are pinned by the digest of their multi-platform index; to move on, change tag and digest together.
ARG BUILD_IMAGE=docker.io/library/node:24.21.0-trixie-slim@sha256:173f125896c3b47ddf056734c7ea789d04595a6a08769a8f78e0df642781fb66
ARG RUN_IMAGE=gcr.io/distroless/nodejs24-debian13:nonroot@sha256:9eeb7f5887d0e239e78264b06f7f11d2e14be534050481803a9e4728fcdd278e

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
# .npmrc silences npm, its errors too.
RUN npm ci --ignore-scripts --loglevel=error
COPY LICENSE ./
COPY shared shared
COPY controller controller
COPY webhook webhook
COPY image image
RUN node image/bundle.ts /app

FROM ${RUN_IMAGE}
LABEL org.opencontainers.image.title=multi-platform-controller \
      org.opencontainers.image.description="Gives Tekton TaskRuns a fresh account on a build host of another platform" \
      org.opencontainers.image.licenses=Apache-2.0
# The pool looks up host names and makes RSA keys: a few hosts whose DNS does not answer must not hold up all others (getaddrinfo(3) blocks).
ENV NODE_ENV=production UV_THREADPOOL_SIZE=32
WORKDIR /app
COPY --from=build /app ./
USER 65532:65532
ENTRYPOINT ["/nodejs/bin/node"]
CMD ["controller.js"]
