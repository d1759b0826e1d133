#!/bin/sh
# The first process in the container of a remote step (docs/taskgen.md): runs the step's script, then writes the image that
# it is to have made into a folder, each layer as it is under its digest. Where it has made none, the folder stays empty.
#   container [IMAGE]
(
  # shellcheck disable=SC1091
  . /tekton/scripts/environment && . /tekton/scripts/arguments && exec "$@"
)
code=$?
if [ "$code" -eq 0 ] && [ "$#" -eq 1 ]; then
  (
    # shellcheck disable=SC1091
    . /tekton/scripts/environment && exec buildah push --quiet --disable-compression "$1" dir:/tekton/image
  )
fi
exit "$code"
