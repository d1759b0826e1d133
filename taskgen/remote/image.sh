# How the image comes into the storage on the cluster's side.

# shellcheck disable=SC2034,SC2154 # other parts of the script set what this one uses, and use what it sets
# The layers that the storage here has already are not copied: they have their digests for names.
fetch_image() {
  local image layer id known=()
  say "bringing $built_image into the storage here"
  for image in $(buildah images --quiet); do
    for layer in $(buildah inspect --type image --format '{{range .OCIv1.RootFS.DiffIDs}}{{println .}}{{end}}' "$image"); do
      known+=(--exclude="/${layer#*:}")
    done
  done
  layout=$(mktemp -d -p "$storage" taskgen.XXXXXX)
  insist copy "${known[@]}" "build-host:$folder/image/" "$layout/" || fail "cannot copy the image from $host"
  [ -e "$layout/manifest.json" ] || fail "the step's script made no image $built_image"
  id=$(buildah pull --quiet "dir:$layout") || fail "cannot put the image into the storage here"
  buildah tag "$id" "$built_image"
}
